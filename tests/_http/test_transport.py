"""One line under any client: retries, learning and time, for both libraries and both loops."""

from __future__ import annotations

import gzip
import importlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from inject import settle_down
from sites import URL, Site, idle

from headway import DeadlineExceeded, Kind, Limits, Retry, Scheduler, SchedulerClosed

pytestmark = [
    pytest.mark.anyio,
    # trio's, of the generators of httpx itself
    pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning"),
]


def busy(site: Site) -> Callable[[], Awaitable[int]]:
    async def answer() -> int:
        await anyio.sleep(1)
        return 200

    return answer


# Refusals


async def test_a_refusal_is_retried_after_its_hint(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=2)
    site.answers = [(429, {"retry-after": "7"}, b"{}"), (503, {"retry-after": "3"}, b""), 500]
    async with site.client(scheduler) as client:
        response = await client.post(URL, json={"n": 1})
    assert response.text == "ok"
    gaps = [b - a for a, b in zip(site.sent, site.sent[1:], strict=False)]
    assert gaps[0] >= 7
    assert gaps[1] >= 3
    assert [json.loads(request.content) for request in site.requests] == [{"n": 1}] * 4
    assert scheduler.statistics().refused == {
        Kind.RATE: 1, Kind.CAPACITY: 1, Kind.TRANSIENT: 1,
    }  # fmt: skip
    assert idle(scheduler)


async def test_errors_of_the_connection_are_retried(site: Site) -> None:
    scheduler = Scheduler("100/s")
    site.answers = [site.library.ConnectError("refused"), site.library.ReadTimeout("late")]
    async with site.client(scheduler) as client:
        assert (await client.get(URL)).text == "ok"
    assert len(site.sent) == 3


async def test_the_last_error_of_the_connection_is_raised_with_a_note(site: Site) -> None:
    scheduler = Scheduler("100/s", retry=Retry(attempts=2))
    site.answers = [site.library.ConnectError("refused"), site.library.ConnectError("refused")]
    async with site.client(scheduler) as client:
        with pytest.raises(site.library.ConnectError) as caught:
            await client.get(URL)
    assert "tried 2 times" in caught.value.__notes__[0]
    assert idle(scheduler)


BODIES = {
    "empty": (b"", {}),
    "HTML": (b"<html><h1>429</h1></html>", {"content-type": "text/html"}),
    "10 MB": (b"x" * 10_000_000, {}),
    "gzip": (gzip.compress(b'{"message": "slow down"}' * 9000), {"content-encoding": "gzip"}),
    "gzip of 10 MB": (gzip.compress(b"ab" * 5_000_000), {"content-encoding": "gzip"}),
    "not gzip": (b"plain", {"content-encoding": "x-what"}),
}  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("body", BODIES)
async def test_the_final_refusal_is_whole_and_not_to_be_repeated(
    body: str, streamed: bool, site: Site
) -> None:
    scheduler = Scheduler("100/s", concurrency=1, retry=Retry(patience=5))
    content, headers = BODIES[body]

    class Chunks(site.library.AsyncByteStream):  # type: ignore[name-defined, misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for start in range(0, len(content), 50_000):
                yield content[start : start + 50_000]

    refusal = (429, {**headers, "retry-after": "4"}, Chunks() if streamed else content)
    site.answers = [refusal] * 5
    async with site.client(scheduler) as client:
        response = await client.post(URL)
    assert response.status_code == 429
    assert response.headers["x-should-retry"] == "false"
    plain = gzip.decompress(content) if body.startswith("gzip") else content
    assert response.content == plain
    assert len(site.sent) == 2
    assert idle(scheduler)


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_what_is_permanent_is_handed_on(status: int, site: Site) -> None:
    scheduler = Scheduler("100/s")
    site.answers = [(status, {}, b'{"error": "no"}')]
    async with site.client(scheduler) as client:
        response = await client.post(URL)
    assert (response.status_code, response.json()) == (status, {"error": "no"})
    assert response.headers["x-should-retry"] == "false"
    assert len(site.sent) == 1
    assert idle(scheduler)


async def test_a_refusal_whose_body_breaks_off_is_still_one(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    error = site.library.ReadError("gone")

    async def refused() -> Any:
        _, _, body = await site.body(1, every=0, error=error)()
        return 429, {"retry-after": "9"}, body

    site.answers = [refused]
    async with site.client(scheduler) as client:
        assert (await client.get(URL)).text == "ok"
    assert site.sent[1] - site.sent[0] >= 9
    assert site.open == 0
    assert scheduler.statistics().refused == {Kind.RATE: 1}


@pytest.mark.parametrize("answer", ["refused", "broken"])
async def test_a_streamed_upload_is_not_retried(
    answer: str, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = Scheduler("100/s", concurrency=1)

    async def upload() -> AsyncIterator[bytes]:
        yield b"part"

    async with site.client(scheduler) as client:
        if answer == "broken":
            site.answers = [site.library.WriteError("gone")]
            with pytest.raises(site.library.WriteError) as caught:
                await client.post(URL, content=upload())
            (said,) = caught.value.__notes__
        else:
            site.answers = [429]
            response = await client.post(URL, content=upload())
            assert response.status_code == 429
            assert response.headers["x-should-retry"] == "false"
            said = caplog.text
    assert "cannot be sent again, so it was not retried. Fix: send it as bytes" in said
    assert len(site.sent) == 1
    assert idle(scheduler)


async def test_an_sdk_that_repeats_by_itself_is_told_once(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = Scheduler("100/s")
    async with site.client(scheduler) as client:
        with caplog.at_level(logging.WARNING, "headway"):
            await client.get(URL, headers={"x-stainless-retry-count": "0"})
            assert not caplog.records
            for n in (1, 2):
                await client.get(URL, headers={"x-stainless-retry-count": str(n)})
    (record,) = caplog.records
    assert "max_retries=0" in record.message


# Bad input


async def test_what_is_no_transport_of_the_library(site: Site) -> None:
    other = httpx2 if site.library is httpx else httpx
    name, hint = site.library.__name__, site.face.AsyncTransport._other
    for wrong in (other.AsyncHTTPTransport(), site.library.AsyncClient(), object()):
        with pytest.raises(TypeError, match=rf"not an async transport of {name}. Fix: .*{hint}"):
            site.face.AsyncTransport(Scheduler(), wrong)


async def test_a_client_of_the_other_library(site: Site) -> None:
    other = httpx2 if site.library is httpx else httpx
    scheduler = Scheduler()
    inner = site.library.MockTransport(site.handle)
    client = other.AsyncClient(transport=site.face.AsyncTransport(scheduler, inner))
    with pytest.raises(
        TypeError, match=rf"Fix: give this client {site.face.AsyncTransport._other}"
    ):
        await client.get(URL)
    assert not site.sent
    assert idle(scheduler)


async def test_after_the_scheduler_closed(site: Site) -> None:
    scheduler = Scheduler()
    async with site.client(scheduler) as client:
        await client.get(URL)
        await scheduler.aclose()
        with pytest.raises(SchedulerClosed, match="make a new Scheduler"):
            await client.get(URL)
    assert len(site.sent) == 1


# Learning


def sse(*events: object) -> bytes:
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join(lines).encode() + b"data: [DONE]\n\n"


USAGES = {
    "JSON": (json.dumps({"choices": [], "usage": {"total_tokens": 130}}).encode(), {}),
    "gzip": (
        gzip.compress(b'{"usage": {"completion_tokens": 100, "total_tokens": 130}}'),
        {"content-encoding": "gzip"},
    ),
    "OpenAI": (
        sse({"choices": [{"delta": {"content": "a"}}], "usage": None},
            {"choices": [], "usage": {"completion_tokens": 100, "total_tokens": 130}}),
        {"content-type": "text/event-stream"},
    ),
    "Anthropic": (
        sse({"message": {"usage": {"input_tokens": 30, "output_tokens": 1}}},
            {"type": "content_block_delta", "delta": {"text": "a"}},
            {"type": "message_delta", "usage": {"output_tokens": 100}}),
        {"content-type": "text/event-stream"},
    ),
    "a long stream": (
        sse({"message": {"usage": {"input_tokens": 30, "output_tokens": 1}}},
            *[{"text": "x" * 1000}] * 500,
            {"type": "message_delta", "usage": {"output_tokens": 100}}),
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", USAGES)
async def test_usage_is_settled(name: str, site: Site) -> None:
    scheduler = Scheduler(tokens="60k/min", concurrency=1)
    content, headers = USAGES[name]
    site.answers = [(200, headers, content)]
    async with site.client(scheduler) as client:
        await client.post(URL, json={"model": "m", "messages": [], "max_tokens": 900})
        assert scheduler.statistics().tokens == 130
        (budget,) = scheduler._shell.state.whole.budgets
        assert budget.total == pytest.approx(130)
        (_, _, body) = await site.body(1, data=content)()
        site.answers = [(200, headers, body)]
        async with client.stream("POST", URL) as response:
            async for _ in response.aiter_raw():
                pass
    assert scheduler.statistics().tokens == 260


async def test_the_estimate_may_be_replaced(site: Site) -> None:
    scheduler = Scheduler(tokens="60k/min")
    asked: list[Any] = []

    def tokens(body: Any) -> float:
        asked.append(body)
        return 77

    async with site.client(scheduler, tokens=tokens) as client:
        await client.post(URL, json={"model": "m"})
        with pytest.raises(ValueError, match="tokens"):
            await site.client(scheduler, tokens=lambda body: -1).post(URL, json={"model": "m"})
    assert asked == [{"model": "m"}]
    (budget,) = scheduler._shell.state.whole.budgets
    assert budget.total == pytest.approx(77)
    assert idle(scheduler)


async def test_the_limits_of_a_key_count_tokens_too(site: Site) -> None:
    scheduler = Scheduler(keys={"k": Limits(tokens="60k/min")})
    async with site.client(scheduler.with_options(key="k")) as client:
        await client.post(URL, json={"model": "m", "messages": [], "max_tokens": 900})
    own = scheduler._shell.state.flow("k").limits
    assert own is not None
    assert own.budgets[0].total > 900


async def test_stated_limits_are_followed(site: Site) -> None:
    scheduler = Scheduler()
    headers = {
        "x-ratelimit-limit-requests": "1200",
        "x-ratelimit-remaining-requests": "1199",
        "x-ratelimit-reset-requests": "50ms",
    }
    site.answers = [(200, headers, b"ok")] * 200
    async with site.client(scheduler) as client:
        await client.get(URL)
        assert scheduler.statistics().pace == pytest.approx(20, rel=0.02)
        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(client.get, URL)
    assert anyio.current_time() - began == pytest.approx(100 / 20, rel=0.05)


# Time


async def test_waiting_does_not_count_against_the_timeouts(site: Site) -> None:
    scheduler = Scheduler("1/s")
    given: list[Any] = []

    class Inner(site.library.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        async def handle_async_request(self, request: Any) -> Any:
            given.append(request.extensions["timeout"])
            with anyio.fail_after(request.extensions["timeout"]["read"]):
                await anyio.sleep(0.05)
            return site.library.Response(200)

    transport = site.face.AsyncTransport(scheduler, Inner())
    client = site.library.AsyncClient(transport=transport, timeout=0.1)
    async with client, anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(client.get, URL)
    assert len(given) == 20
    assert scheduler.statistics().succeeded == 20


async def test_the_timeouts_of_a_view_hold(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    view = scheduler.with_options(timeout=3, attempt_timeout=0.5)
    site.answers = [busy(site)]
    async with site.client(view) as client:
        assert (await client.get(URL)).text == "ok"  # the first attempt was too slow
        assert len(site.sent) == 2

        async def holder() -> None:
            async with scheduler.lease():
                await anyio.sleep(9)

        async with anyio.create_task_group() as group:
            group.start_soon(holder)
            await settle_down()
            began = anyio.current_time()
            with pytest.raises(DeadlineExceeded):
                await client.get(URL)
            assert anyio.current_time() - began == pytest.approx(3)
    assert idle(scheduler)


@pytest.mark.parametrize("at", [0.5, 1.5, 2.5, 3.5, 9.5])
async def test_cancellation_leaves_nothing(at: float, site: Site) -> None:
    """At 0.5 it waits for the slot, then it is sent, reads, is refused and waits for the gate."""
    scheduler = Scheduler(concurrency=1)

    async def holder() -> None:
        async with scheduler.lease():
            await anyio.sleep(1)

    async def refused() -> Any:
        await anyio.sleep(1)
        _, _, body = await site.body(1, every=1)()
        return 429, {"retry-after": "5"}, body

    site.answers = [refused, site.body(9)]
    async with site.client(scheduler) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(holder)
            await settle_down()
            with anyio.move_on_after(at) as scope:
                async with client.stream("POST", URL) as response:
                    async for _ in response.aiter_raw():
                        pass
            assert scope.cancelled_caught
        assert idle(scheduler)
        assert site.open == 0
        site.answers = []
        with anyio.fail_after(20):
            assert (await client.get(URL)).text == "ok"


async def test_the_rest_follow_when_the_headers_of_a_slow_success_arrive(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=9)
    site.answers = [(429, {"retry-after": "2"}, b""), site.body(9), 200, 200]
    async with site.client(scheduler) as client, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(client.get, URL)
            await settle_down()
    assert site.sent[2] - site.sent[1] < 0.1


async def test_connections_are_warmed_by_requests_that_no_limit_counts(site: Site) -> None:
    scheduler = Scheduler("1/s")
    async with site.client(scheduler) as client:
        await client._transport.warm(URL, 3)
        assert [request.method for request in site.requests] == ["HEAD"] * 3
    assert scheduler.statistics().sent == 0


def test_the_pool_is_as_large_as_the_concurrency(site: Site) -> None:
    for concurrency, most in ((500, 500), (8, 100)):
        transport = site.face.AsyncTransport(Scheduler(concurrency=concurrency))
        assert transport._transport._pool._max_connections == most


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_warming_opens_connections_that_no_limit_counts(library: str) -> None:
    http = importlib.import_module(library)
    asked: list[str] = []

    def answer(request: Any) -> Any:
        asked.append(f"{request.method} {request.url}")
        return http.Response(404)

    scheduler = Scheduler("1/h")
    face = importlib.import_module(f"headway.{library}")
    transport = face.AsyncTransport(scheduler, http.MockTransport(answer))
    await transport.warm("https://api.example/v1", connections=3)
    assert asked == ["HEAD https://api.example/v1"] * 3
    assert scheduler.statistics().sent == 0
