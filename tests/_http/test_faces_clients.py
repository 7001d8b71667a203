"""The sync SDKs that people use, over the sync transports, on a real server with limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
import sdks
from llmock.pytest_plugin import LLMock
from real_clients import messages

import headway.httpx
import headway.httpx2
from headway import InvalidArgument, Kind, sync


def openai(http: Any, url: str) -> Callable[..., Any]:
    client = sdks.openai.OpenAI(api_key="k", base_url=f"{url}/v1", http_client=http, max_retries=0)
    return lambda n, **more: client.chat.completions.create(
        model="gpt-4o", messages=messages(n), **more
    )


def together(http: Any, url: str) -> Callable[..., Any]:
    client = sdks.together.Together(
        api_key="k", base_url=f"{url}/together", http_client=http, max_retries=0
    )
    return lambda n, **more: client.chat.completions.create(
        model="Qwen/Qwen2.5-72B-Instruct-Turbo", messages=messages(n), **more
    )


def anthropic(http: Any, url: str) -> Callable[..., Any]:
    client = sdks.anthropic.Anthropic(
        api_key="k", base_url=f"{url}/anthropic", http_client=http, max_retries=0
    )
    return lambda n, **more: client.messages.create(
        model="claude-model", max_tokens=64, messages=messages(n), **more
    )


SDKS = [(openai, headway.httpx2), (together, headway.httpx), (anthropic, headway.httpx2)]


@pytest.mark.parametrize(("make", "face"), SDKS)
def test_a_sync_sdk_is_under_the_limits(make: Any, face: Any, llmock: LLMock) -> None:
    llmock.limits(rpm=6000, tpm=1_000_000)
    scheduler = sync.Scheduler("6000/min", tokens="900k/min", concurrency=4)
    with scheduler, face.sync_client(scheduler) as http:
        ask = make(http, llmock.url)
        llmock.rate_limit(times=1, retry_after=0.05)
        assert ask(0) is not None  # refused once, and retried here
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(ask, range(1, 9)))
        assert scheduler.submit(ask, 9) is not None
        with ask(10, stream=True) as events:
            assert scheduler.statistics().in_flight == 1
            assert len([*events]) > 1
        statistics = scheduler.statistics()
    assert (statistics.succeeded, statistics.in_flight) == (11, 0)
    assert statistics.refused == {Kind.RATE: 1}
    assert statistics.tokens > 0
    assert {request.sdk_retry_count for request in llmock.requests} == {0}


def test_a_sync_sdk_over_the_async_transport_says_which_one_to_use(llmock: LLMock) -> None:
    transport: Any = headway.httpx2.AsyncTransport(sync.Scheduler())
    ask = openai(httpx2.Client(transport=transport), llmock.url)
    with pytest.raises(InvalidArgument, match=r"Fix: headway\.httpx2\.Transport\(headway\.sync\."):
        ask(0)


def test_sync_and_async_sdks_and_two_loops_share_the_limits(llmock: LLMock) -> None:
    async def use(first: int) -> None:
        transport = headway.httpx2.AsyncTransport(scheduler)
        async with httpx2.AsyncClient(transport=transport) as http:
            client = sdks.openai.AsyncOpenAI(
                api_key="k", base_url=f"{llmock.url}/v1", http_client=http, max_retries=0
            )
            for n in range(first, first + 5):
                await client.chat.completions.create(model="gpt-4o", messages=messages(n))

    llmock.limits(rpm=6000)
    scheduler = sync.Scheduler("6000/min", concurrency=8)
    with (
        scheduler,
        headway.httpx2.sync_client(scheduler) as http,
        ThreadPoolExecutor(8) as threads,
    ):
        ask = openai(http, llmock.url)
        jobs = [threads.submit(asyncio.run, use(first)) for first in (0, 5)]
        jobs += [threads.submit(ask, n) for n in range(10, 20)]
        for job in jobs:
            job.result(20)
        assert (scheduler.statistics().sent, scheduler.statistics().refused) == (20, {})
