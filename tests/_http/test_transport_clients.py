"""Every client that people use, over the transports, on a real server with faults and limits."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import sdks
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Fail, StreamFault
from llmock.testing import LLMockServer
from real_clients import CASES, CLIENTS, Ask, Client, asking, broken, read

from headway import Kind, Retry, Scheduler

pytestmark = [
    pytest.mark.anyio,
    # trio's, of the generators of httpx itself, where a stream is abandoned
    pytest.mark.filterwarnings("ignore:Async generator 'http:ResourceWarning"),
]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def anyio_backend(case: tuple[str, str]) -> str:
    return case[1]


@pytest.fixture
def kind(case: tuple[str, str]) -> type[Client]:
    return CLIENTS[case[0]]


@pytest.fixture(autouse=True)
def little_to_collect() -> None:
    """An SDK imports when it is first used, and every collection would go through its heap."""
    gc.collect()
    gc.freeze()


async def all_of(ask: Ask, count: int) -> int:
    """How many of `count` calls at once came back without an error: all of them, or it raises."""
    done = 0

    async def one(n: int) -> None:
        nonlocal done
        await ask(n)
        done += 1

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for n in range(count):
                group.start_soon(one, n)
    return done


def counts(scheduler: Scheduler) -> tuple[int, int, int, int]:
    """In flight, succeeded, failed, cancelled."""
    statistics = scheduler.statistics()
    return (
        statistics.in_flight, statistics.succeeded, statistics.failed, statistics.cancelled,
    )  # fmt: skip


def mixed(client: Client) -> Ask:
    """Whole calls and streams in turn."""
    whole, streamed = asking(client, stream=False), asking(client, stream=True)
    return lambda n: (streamed if n % 2 else whole)(n)


# Faults


async def test_faults_lose_nothing(kind: type[Client], llmock: LLMock) -> None:
    scheduler = Scheduler("6000/min", tokens="1M/min", concurrency=8, retry=Retry(base=0.05))
    llmock.add(
        Fail(429, retry_after=0.1, times=1), Fail(503, retry_after=0.1, times=1), Fail(500, times=1)
    )
    async with kind(scheduler, llmock.url, broken(kind.library, resets=1)) as client:
        assert await all_of(mixed(client), 12) == 12
    statistics = scheduler.statistics()
    assert (statistics.queued, *counts(scheduler)) == (0, 0, 12, 0, 0)
    assert statistics.refused == {Kind.RATE: 1, Kind.CAPACITY: 1, Kind.TRANSIENT: 2}
    assert statistics.sent == 16 == len(llmock.requests) + 1
    assert statistics.tokens > 0
    llmock.assert_resilient(strict=True)


# Limits


@pytest.fixture
def limited(
    kind: type[Client], llmock: LLMock, llmock_server: LLMockServer
) -> Callable[[int, int], tuple[int, int]]:
    """Limits for so many calls a second, of requests and of tokens, with buckets that are empty
    but for the calls in `left`, instead of full. The limits a minute that it set.
    """

    def limit(calls: int, left: int) -> tuple[int, int]:
        rpm, tpm = 60 * calls, 60 * calls * kind.tokens
        llmock.limits(rpm=rpm, tpm=tpm)
        limiter = llmock_server.state.limiter
        for _ in range(rpm - left - 1):
            limiter.admit(kind.provider, kind.key, 0)
        assert limiter.admit(kind.provider, kind.key, tpm - left * kind.tokens).allowed
        return rpm, tpm

    return limit


async def test_told_the_limits_it_is_never_refused(
    kind: type[Client], llmock: LLMock, limited: Callable[[int, int], tuple[int, int]]
) -> None:
    """With few calls to spare a pace twice as high would be refused before half of this."""
    scheduler = Scheduler("2400/min", concurrency=16)
    async with kind(scheduler, llmock.url, broken(kind.library, silent=True)) as client:
        await client.ask(-1)  # the connection is open, and what is imported late is
        limited(40, 6)
        assert await all_of(asking(client, stream=False), 20) == 20
    assert {request.status for request in llmock.requests} == {200}
    assert scheduler.statistics().refused == {}
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("told", [0, 10], ids=["told nothing", "told too much"])
async def test_limits_lose_nothing(
    told: int, kind: type[Client], llmock: LLMock, limited: Callable[[int, int], tuple[int, int]]
) -> None:
    calls = 6
    scheduler, inner = Scheduler(concurrency=16), None
    if told:
        rpm, tpm = told * 60 * calls, told * 60 * calls * kind.tokens
        scheduler = Scheduler(f"{rpm}/min", tokens=f"{tpm}/min", concurrency=16)
        inner = broken(kind.library, silent=True)  # or it would soon know better
    async with kind(scheduler, llmock.url, inner) as client:
        await client.ask(-1)
        limited(calls, 0)
        assert await all_of(asking(client, stream=False), 5) == 5
    refused = [request for request in llmock.requests if request.status == 429]
    assert refused or not told
    statistics = scheduler.statistics()
    assert sum(statistics.refused.values()) == len(refused)
    assert (statistics.queued, *counts(scheduler)) == (0, 0, 6, 0, 0)
    llmock.assert_resilient(strict=True)


# Streams: each end gives back its one slot, once

Open = Callable[[], Awaitable[Any]]
OVERLOADED = {
    "anthropic": b"event: error\ndata: "
    b'{"type": "error", "error": {"type": "overloaded_error", "message": "overloaded"}}\n\n'
}
OVERLOADED_ELSEWHERE = b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'


async def read_to_the_end(client: Client, open_one: Open) -> None:
    assert await read(await open_one()) > 1


async def truncated(client: Client, open_one: Open) -> None:
    await read(await open_one())  # a clean end, only too early: no library knows better


async def disconnected(client: Client, open_one: Open) -> None:
    stream = await open_one()
    # The SDK's own, or the library's.
    with pytest.raises(Exception, match=r"peer closed connection|Connection error"):
        await read(stream)


async def stalled(client: Client, open_one: Open) -> None:
    stream = await open_one()
    with pytest.raises((client.library.ReadTimeout, sdks.openai.APITimeoutError)):
        await read(stream)


async def closed_unread(client: Client, open_one: Open) -> Any:
    stream = await open_one()
    await stream.close()
    return stream  # it is closed, not collected


async def closed_half_read(client: Client, open_one: Open) -> Any:
    stream = await open_one()
    events = aiter(stream)
    await anext(events)
    await stream.close()
    return stream, events


async def cancelled(client: Client, open_one: Open) -> None:
    stream = await open_one()
    with anyio.CancelScope() as scope:
        async for _ in stream:
            scope.cancel()
    assert scope.cancelled_caught


async def abandoned_unread(client: Client, open_one: Open) -> None:
    await open_one()


async def abandoned_half_read(client: Client, open_one: Open) -> None:
    await anext(aiter(await open_one()))


async def malformed(client: Client, open_one: Open) -> None:
    stream = await open_one()
    with pytest.raises(ValueError, match="Unterminated"):
        await read(stream)
    await stream.close()


async def error_event(client: Client, open_one: Open) -> None:
    stream = await open_one()
    with pytest.raises(Exception, match="overloaded"):
        await read(stream)
    await stream.close()


async def collected() -> None:
    """What was abandoned ends by and by."""
    for _ in range(2):
        gc.collect()
        await anyio.wait_all_tasks_blocked()


STALL = StreamFault("stall", after_chunks=3, stall_seconds=3.0)
PAUSE = StreamFault("stall", after_chunks=3, stall_seconds=0.1)
# What the server does to the stream, and what the attempt counts for: succeeded, failed, cancelled.
ENDS: dict[Any, tuple[StreamFault | None, tuple[int, int, int]]] = {
    read_to_the_end: (None, (1, 0, 0)),
    truncated: (StreamFault("truncate", after_chunks=3), (1, 0, 0)),
    disconnected: (StreamFault("disconnect", after_chunks=3), (0, 1, 0)),
    stalled: (STALL, (0, 1, 0)),
    closed_unread: (PAUSE, (1, 0, 0)),
    closed_half_read: (PAUSE, (1, 0, 0)),
    cancelled: (PAUSE, (0, 0, 1)),
    abandoned_unread: (PAUSE, (1, 0, 0)),
    abandoned_half_read: (PAUSE, (1, 0, 0)),
    malformed: (StreamFault("malformed", after_chunks=3), (1, 0, 0)),
    error_event: (None, (0, 1, 0)),
}


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_stream_gives_its_slot_back_once(
    end: Any, case: tuple[str, str], kind: type[Client], llmock: LLMock
) -> None:
    scheduler = Scheduler("6000/min", concurrency=1)
    fault, counted = ENDS[end]
    if fault is not None:
        llmock.add(fault)
    inner = None
    if end is error_event:
        inner = broken(kind.library, event=OVERLOADED.get(case[0], OVERLOADED_ELSEWHERE))

    read_timeout = 0.2 if end is stalled else 10
    async with kind(scheduler, llmock.url, inner, read_timeout=read_timeout) as client:

        async def open_one() -> Any:
            stream = await client.open(0)
            assert counts(scheduler) == (1, 0, 0, 0)
            return stream

        with anyio.fail_after(10):
            kept = await end(client, open_one)
            await collected()
            assert counts(scheduler) == (0, *counted)
            del kept
            assert len(llmock.requests) == 1  # the server too knows that it ended
            await asking(client, stream=True)(0)  # whoever got half of an answer asks again
            assert counts(scheduler) == (0, counted[0] + 1, *counted[1:])
    await collected()
    assert counts(scheduler) == (0, counted[0] + 1, *counted[1:])
    assert scheduler.statistics().sent == 2 == len(llmock.requests)
    # llmock may have sent all of a malformed stream before it sees that nobody reads it.
    llmock.assert_resilient(strict=end is not malformed)


async def test_streams_that_break_off_lose_nothing(kind: type[Client], llmock: LLMock) -> None:
    """Whoever got half of an answer asks again, the others go on meanwhile."""
    scheduler = Scheduler("6000/min", concurrency=4)
    for fault in ("truncate", "disconnect"):
        llmock.add(StreamFault(fault, after_chunks=2, times=2))

    async def ask(n: int) -> None:
        while True:
            stream = await client.open(n)
            try:
                if await read(stream) > 3:  # an answer has four events and more
                    return
            except Exception as error:
                assert "onnection" in str(error)  # noqa: PT017
            finally:
                await stream.close()

    async with kind(scheduler, llmock.url) as client:
        assert await all_of(ask, 9) == 9
    assert counts(scheduler) == (0, 11, 2, 0)
    assert scheduler.statistics().sent == 13 == len(llmock.requests)
    llmock.assert_resilient(strict=True)
