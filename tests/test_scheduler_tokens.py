"""What attempts reserve, and what they are found to have used."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from inject import answer, counts, run, settle_down

from headway import Scheduler
from headway._core.queue.job import Job
from headway._runtime.calls import Options
from headway._runtime.shell import Shell

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]


async def test_jobs_reserve_what_their_key_uses_on_average() -> None:
    scheduler = Scheduler(tokens="60k/min")

    async def ask(tokens: float) -> Any:
        return SimpleNamespace(usage=SimpleNamespace(total_tokens=tokens))

    async def reserved(key: str | None) -> float:
        async with scheduler.with_options(key=key).lease() as lease:
            return lease.tokens

    assert await reserved("a") == 600  # nothing is known: 1% of the limit
    for _ in range(30):
        await scheduler.with_options(key="a").submit(ask, 50)
        await scheduler.with_options(key="b").submit(ask, 2000)
    assert await reserved("a") == pytest.approx(50)
    assert await reserved("b") == pytest.approx(2000)
    await scheduler.with_options(key="a").submit(ask, 150)
    assert await reserved("a") == pytest.approx(60)
    assert await reserved("c") == 600


async def test_a_job_that_waited_reserves_what_is_known_when_it_starts() -> None:
    scheduler, reserved = Scheduler(tokens="60k/min", concurrency=1), []
    state = scheduler._shell.state

    async def ask() -> Any:
        reserved.append(next(iter(state.whole.budgets)).total - sum(used))
        used.append(10)
        await anyio.sleep(1)
        return {"usage": {"total_tokens": 10}}

    used: list[float] = []
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(scheduler.submit, ask)
    assert reserved == pytest.approx([600, 10, 10, 10, 10])


async def test_tokens_and_usage_are_functions_of_the_call_and_its_result() -> None:
    scheduler = Scheduler(tokens="60k/min")
    budget = scheduler._shell.state.whole.budgets[0]
    view = scheduler.with_options(
        tokens=lambda text, *, more=0: len(text) + more, usage=lambda reply: reply[0]
    )

    async def ask(text: str, *, more: int = 0) -> tuple[int]:
        assert budget.total - before == len(text) + more
        return (3,)

    for more in (0, 100):
        before = budget.total
        await view.submit(ask, "twelve chars", more=more)
        assert budget.total - before == 3
    assert scheduler.statistics().tokens == 6


@pytest.mark.parametrize("usage", [lambda reply: "12", lambda reply: -1, lambda reply: 1 / 0])
async def test_a_usage_that_makes_no_sense_holds_nobody_up(usage: Any) -> None:
    scheduler = Scheduler(tokens="60k/min", concurrency=1)
    waiting = scheduler.with_options(tokens=5)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            with pytest.raises((TypeError, ZeroDivisionError)):  # noqa: PT012
                group.start_soon(scheduler.submit, anyio.sleep, 1)
                await settle_down()
                group.start_soon(waiting.submit, anyio.sleep, 1)
                await scheduler.with_options(usage=usage, tokens=5).submit(answer)
    assert counts(scheduler) == (0, 0, 3)


new_job = Shell.new_job


def guesses_once(self: Shell, options: Options, tokens: float | None) -> Job:
    job = new_job(self, options, tokens)
    job.guessed = False
    return job


def test_a_guess_that_stands_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    test = test_a_job_that_waited_reserves_what_is_known_when_it_starts
    run("asyncio", test)
    monkeypatch.setattr(Shell, "new_job", guesses_once)
    with pytest.raises((Exception, pytest.fail.Exception)):
        run("asyncio", test)
