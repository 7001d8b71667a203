"""A transport of somebody else's inside headway's: httpx-aiohttp's, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import anyio
import httpx
import httpx2
import httpx_aiohttp
import httpx_aiohttp.httpx2
import pytest
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Fail

import headway.httpx
import headway.httpx2
from headway import Scheduler

pytestmark = pytest.mark.anyio

LIBRARIES: dict[str, tuple[Any, Any, Any]] = {
    "httpx": (httpx, headway.httpx, httpx_aiohttp),
    "httpx2": (httpx2, headway.httpx2, httpx_aiohttp.httpx2),
}


class Case(NamedTuple):
    scheduler: Scheduler
    client: Any
    url: str

    def stream(self, n: int, *, stream: bool) -> Any:
        body = {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": f"question {n}: why is the sky blue?"}],
            "stream": stream,
        }
        return self.client.stream("POST", self.url, json=body)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # aiohttp knows no other


@pytest.fixture(params=LIBRARIES)
async def case(request: pytest.FixtureRequest, llmock: LLMock) -> AsyncIterator[Case]:
    library, face, on_aiohttp = LIBRARIES[request.param]
    scheduler = Scheduler("6000/min", tokens="1M/min", concurrency=4)
    transport = face.AsyncTransport(scheduler, on_aiohttp.AiohttpTransport())
    async with library.AsyncClient(transport=transport) as client:
        yield Case(scheduler, client, f"{llmock.url}/v1/chat/completions")


def check_nothing_is_held(case: Case, sent: int) -> None:
    statistics = case.scheduler.statistics()
    assert (statistics.queued, statistics.in_flight) == (0, 0)
    assert statistics.sent == sent


async def all_of(case: Case, count: int, *, stream: bool) -> list[bytes]:
    answers: list[bytes] = []

    async def one(n: int) -> None:
        async with case.stream(n, stream=stream) as response:
            assert response.status_code == 200
            answers.append(b"".join([chunk async for chunk in response.aiter_bytes()]))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for n in range(count):
                group.start_soon(one, n)
    return answers


async def test_whole_answers(case: Case, llmock: LLMock) -> None:
    answers = await all_of(case, 12, stream=False)
    assert all(b'"usage"' in answer for answer in answers)
    assert len(llmock.requests) == 12
    assert case.scheduler.statistics().tokens > 0
    check_nothing_is_held(case, sent=12)


async def test_streams(case: Case, llmock: LLMock) -> None:
    answers = await all_of(case, 12, stream=True)
    assert all(answer.count(b"data: ") > 1 for answer in answers)
    assert all(answer.rstrip().endswith(b"data: [DONE]") for answer in answers)
    assert len(llmock.requests) == 12
    check_nothing_is_held(case, sent=12)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_refused_one_is_sent_again(case: Case, stream: bool, llmock: LLMock) -> None:
    llmock.add(Fail(429, retry_after=0.3, times=1))
    began = anyio.current_time()
    (answer,) = await all_of(case, 1, stream=stream)
    assert anyio.current_time() - began >= 0.3
    assert answer
    assert len(llmock.requests) == 2
    assert sum(case.scheduler.statistics().refused.values()) == 1
    check_nothing_is_held(case, sent=2)
    llmock.assert_resilient()


async def test_a_stream_that_is_left_gives_its_slot_back(case: Case) -> None:
    async with case.stream(0, stream=True) as response:
        async for _ in response.aiter_bytes():
            break
        assert case.scheduler.statistics().in_flight <= 1
    check_nothing_is_held(case, sent=1)


async def test_a_caller_that_is_cancelled_gives_its_slot_back(case: Case, llmock: LLMock) -> None:
    llmock.delay(1.0)
    with anyio.move_on_after(0.2) as limit:
        await all_of(case, 1, stream=False)
    assert limit.cancelled_caught
    check_nothing_is_held(case, sent=1)
