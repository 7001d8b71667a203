"""Every client that people use, over the transports, on a real server with faults and limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import anyio
import httpx
import httpx2
import openai
import pytest
import together
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Fail

import headway.httpx
import headway.httpx2
from headway import Scheduler

pytestmark = pytest.mark.anyio

Ask = Callable[[int, bool], Awaitable[object]]


def messages(n: int) -> Any:
    """Each call asks something else: the server takes equal requests for retries."""
    return [{"role": "user", "content": f"question {n}: why is the sky blue?"}]


async def read(response: Any, stream: bool) -> None:
    if not stream:
        assert response is not None
        return
    chunks = 0
    async for _ in response:
        chunks += 1
    assert chunks > 1


def openai_sdk(scheduler: Scheduler, url: str) -> tuple[Any, Ask]:
    http = httpx2.AsyncClient(transport=headway.httpx2.AsyncTransport(scheduler))
    sdk = openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", http_client=http, max_retries=0)

    async def ask(n: int, stream: bool) -> None:
        answer: Any = await sdk.chat.completions.create(
            model="gpt-4o", messages=messages(n), stream=stream
        )
        await read(answer, stream)

    return http, ask


def together_sdk(scheduler: Scheduler, url: str) -> tuple[Any, Ask]:
    http = httpx.AsyncClient(transport=headway.httpx.AsyncTransport(scheduler))
    sdk = together.AsyncTogether(
        api_key="k", base_url=f"{url}/together", http_client=http, max_retries=0
    )

    async def ask(n: int, stream: bool) -> None:
        answer: Any = await sdk.chat.completions.create(
            model="Qwen/Qwen2.5-72B-Instruct-Turbo", messages=messages(n), stream=stream
        )
        await read(answer, stream)

    return http, ask


def anthropic_sdk(scheduler: Scheduler, url: str) -> tuple[Any, Ask]:
    two = issubclass(anthropic.DefaultAsyncHttpxClient, httpx2.AsyncClient)
    library: Any = httpx2 if two else httpx
    face: Any = headway.httpx2 if two else headway.httpx
    http = library.AsyncClient(transport=face.AsyncTransport(scheduler))
    sdk = anthropic.AsyncAnthropic(
        api_key="k", base_url=f"{url}/anthropic", http_client=http, max_retries=0
    )

    async def ask(n: int, stream: bool) -> None:
        answer: Any = await sdk.messages.create(
            model="claude-model", max_tokens=64, messages=messages(n), stream=stream
        )
        await read(answer, stream)

    return http, ask


def plain(library: Any, face: Any) -> Callable[[Scheduler, str], tuple[Any, Ask]]:
    def make(scheduler: Scheduler, url: str) -> tuple[Any, Ask]:
        http = library.AsyncClient(transport=face.AsyncTransport(scheduler))

        async def ask(n: int, stream: bool) -> None:
            body = {"model": "gpt-4o", "messages": messages(n), "stream": stream}
            async with http.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
                assert answer.status_code == 200
                await read(answer.aiter_lines(), True) if stream else await answer.aread()

        return http, ask

    return make


CLIENTS = {
    "together": together_sdk,
    "openai": openai_sdk,
    "anthropic": anthropic_sdk,
    "httpx": plain(httpx, headway.httpx),
    "httpx2": plain(httpx2, headway.httpx2),
}
CASES = [(name, "asyncio") for name in CLIENTS] + [("httpx", "trio")]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def anyio_backend(case: tuple[str, str]) -> str:
    return case[1]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_nothing_is_lost(case: tuple[str, str], stream: bool, llmock: LLMock) -> None:
    scheduler = Scheduler("6000/min", tokens="1M/min", concurrency=8)
    llmock.limits(rpm=6000, tpm=1_000_000)
    llmock.add(Fail(429, retry_after=0.2, times=1), Fail(503, retry_after=0.1, times=1))
    http, ask = CLIENTS[case[0]](scheduler, llmock.url)
    done = 0

    async def one(n: int) -> None:
        nonlocal done
        await ask(n, stream)
        done += 1

    with anyio.fail_after(30):
        async with http, anyio.create_task_group() as group:
            for n in range(24):
                group.start_soon(one, n)
    stats = scheduler.statistics()
    assert done == 24
    assert (stats.queued, stats.in_flight) == (0, 0)
    assert stats.sent == len(llmock.requests) == 26
    assert stats.tokens > 0 or stream
    llmock.assert_resilient()
