"""The real SDK on a real server, on every event loop: what a user has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sdks
import uvloop
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Fail

from headway import Kind, Latched, Scheduler

pytestmark = pytest.mark.anyio

LOOPS = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"loop_factory": uvloop.new_event_loop}),
    "trio": ("trio", {}),
}


@pytest.fixture(params=sorted(LOOPS))
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return LOOPS[request.param]


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler("6000/min", concurrency=16)


@pytest.fixture
async def together(
    llmock: LLMock, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Any]:
    monkeypatch.setenv("TOGETHER_API_KEY", "key")
    monkeypatch.setenv("TOGETHER_BASE_URL", f"{llmock.url}/together")
    async with sdks.ours.client(scheduler) as sdk:
        yield sdk


async def ask(together: Any, question: str) -> Any:
    return await together.chat.completions.create(
        model="Qwen/Qwen2.5-72B-Instruct-Turbo",
        messages=[{"role": "user", "content": question}],
        max_tokens=16,
    )


async def test_faults_of_every_retried_kind_lose_nothing(
    llmock: LLMock, scheduler: Scheduler, together: Any
) -> None:
    llmock.add(
        Fail(429, retry_after=0.2, times=1),
        Fail(503, retry_after=0.1, times=1),
        Fail(500, times=2),
    )
    questions = [f"question {n}" for n in range(40)]
    replies = await scheduler.map(lambda question: ask(together, question), questions)
    assert len(replies) == 40
    assert all(reply.choices[0].message.content for reply in replies)
    statistics = scheduler.statistics()
    assert statistics.refused == {Kind.RATE: 1, Kind.CAPACITY: 1, Kind.TRANSIENT: 2}
    assert statistics.tokens == sum(reply.usage.total_tokens for reply in replies)
    assert (statistics.queued, statistics.in_flight) == (0, 0)
    assert statistics.sent == 44 == len(llmock.requests)
    llmock.assert_resilient()


async def test_within_the_limits_nothing_is_refused(
    llmock: LLMock, scheduler: Scheduler, together: Any
) -> None:
    llmock.limits(rpm=6000, tpm=1_000_000)
    await scheduler.map(lambda question: ask(together, question), map(str, range(60)))
    assert scheduler.statistics().refused == {}
    assert {request.status for request in llmock.requests} == {200}
    llmock.assert_resilient(strict=True)


async def test_a_bad_request_fails_alone(
    llmock: LLMock, scheduler: Scheduler, together: Any
) -> None:
    llmock.fail(400)
    outcomes = await scheduler.map(
        lambda question: ask(together, question), map(str, range(8)), return_exceptions=True
    )
    assert sum(isinstance(outcome, sdks.together.BadRequestError) for outcome in outcomes) == 1
    assert len(llmock.requests) == 8
    llmock.assert_resilient(strict=True)


async def test_a_wrong_key_is_asked_about_only_once(llmock: LLMock, together: Any) -> None:
    llmock.fail(401, times=None)
    scheduler = Scheduler("600/min", concurrency=1)
    outcomes = await scheduler.map(
        lambda question: ask(together, question), map(str, range(8)), return_exceptions=True
    )
    assert sum(isinstance(outcome, sdks.together.AuthenticationError) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Latched) for outcome in outcomes) == 7
    assert len(llmock.requests) == 1
    assert scheduler.statistics().binds == "closed"
