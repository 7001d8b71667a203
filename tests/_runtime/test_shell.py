"""The shell: a job's way through it, who leads those that wait, and what it knows by itself."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from clocks import pass_time
from inject import BACKENDS, run, settle_down

from headway import Limits, QueueFull, Rate, Scheduler, SchedulerClosed, WrongLoop
from headway._core.queue.job import QUEUED, STARTED
from headway._runtime.calls import Options
from headway._runtime.shell import Shell

pytestmark = pytest.mark.anyio


def shell_of(*args: Any, **options: Any) -> Shell:
    return Scheduler(*args, **options)._shell


def test_a_job_reserves_what_its_options_say() -> None:
    shell = shell_of(tokens="600/min")
    assert shell.job(Options(tokens=30), (), {}).cost == 30
    asked = shell.job(Options(tokens=lambda text, n: len(text) * n), ("abc",), {"n": 4})
    assert (asked.cost, asked.guessed) == (12, False)
    assert shell.job(Options(), (), {}).guessed
    shell.state.flow("a").learn(90.0)
    assert shell.job(Options(key="a", priority=3), (), {}).cost == 90
    assert shell.job(Options(key="a", priority=3), (), {}).priority == 3


async def test_a_job_enters_at_once_where_the_limits_let_it() -> None:
    shell = shell_of(concurrency=1)
    first, second = (shell.job(Options(), (), {}) for _ in range(2))
    assert shell.enter(first)
    assert not shell.enter(second)
    assert (first.status, second.status) == (STARTED, QUEUED)
    assert shell.busy
    shell.state.cancel(second, shell.now())
    shell.state.finish(first, None, shell.now())
    assert not shell.busy


async def test_one_of_those_that_wait_leads_and_hands_over() -> None:
    scheduler = Scheduler("60/min")
    shell, started = scheduler._shell, []

    async def call(name: int) -> None:
        started.append((name, round(anyio.current_time() - began, 1)))

    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        for name in range(4):
            group.start_soon(scheduler.submit, call, name)
            await settle_down()
        assert len(shell.parked) == 3
        assert shell._leader in shell.parked
    assert started == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    assert (shell._leader, shell.parked) == (None, {})


@pytest.mark.parametrize("limited", ["requests", "tokens", "by key"])
async def test_a_process_that_stands_still_after_a_decision_exceeds_no_window(
    limited: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limited == "tokens":
        scheduler = Scheduler(tokens=Rate(1_000, per=1.0))
    elif limited == "requests":
        scheduler = Scheduler(Rate(10, per=1.0))
    else:
        scheduler = Scheduler("100/s", keys={"a": Limits(Rate(10, per=1.0))})
    shell, sent = scheduler._shell, list[float]()
    poll = shell.poll

    def stand_still() -> None:
        before = shell.state.counters.sent
        poll()
        if shell.state.counters.sent > before and before % 7 == 3:
            pass_time(0.19)

    async def call(_: int) -> None:
        sent.append(anyio.current_time())

    monkeypatch.setattr(shell, "poll", stand_still)
    await scheduler.with_options(tokens=100, key="a").map(call, range(60))
    assert min(b - a for a, b in zip(sent, sent[10:], strict=False)) >= 1.0
    assert sent[-1] - sent[0] < 60 / 10 * 1.25


async def test_a_leader_that_is_cancelled_leaves_nobody_behind() -> None:
    scheduler = Scheduler("60/min")
    shell = scheduler._shell
    await scheduler.submit(anyio.sleep, 0)
    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(_cancel_later, scope)
            group.start_soon(_submit_later, scheduler)
            await scheduler.submit(anyio.sleep, 0)
        assert scope.cancelled_caught
        assert len(shell.parked) == 1
        assert shell._leader in shell.parked
    assert scheduler.statistics().succeeded == 2


async def _cancel_later(scope: anyio.CancelScope) -> None:
    await anyio.sleep(0.5)
    scope.cancel()


async def _submit_later(scheduler: Scheduler) -> None:
    await anyio.sleep(0.25)
    await scheduler.submit(anyio.sleep, 0)


async def test_room_is_made_by_whoever_starts() -> None:
    scheduler = Scheduler("60/min", max_queue=1)
    shell = scheduler._shell
    await scheduler.submit(anyio.sleep, 0)
    await shell.room()
    async with anyio.create_task_group() as group:
        group.start_soon(scheduler.submit, anyio.sleep, 0)
        await settle_down()
        with pytest.raises(QueueFull):
            await scheduler.submit(anyio.sleep, 0)
        began = anyio.current_time()
        await shell.room()
        assert anyio.current_time() - began == pytest.approx(1, abs=0.05)


async def test_it_is_drained_when_all_has_ended() -> None:
    shell = shell_of("60/min")
    began = anyio.current_time()
    await shell.drained()
    assert anyio.current_time() == began
    shell.runs = 1
    async with anyio.create_task_group() as group:
        group.start_soon(shell.drained)
        group.start_soon(shell.drained)
        await settle_down()
        assert shell.idle is not None
        shell.run_ended()
    assert shell.idle is None


@pytest.mark.parametrize(
    ("concurrency", "connections"), [(None, None), (1, 100), (100, 100), (500, 500)]
)
def test_a_client_has_a_connection_for_each_slot(
    concurrency: int | None, connections: int | None
) -> None:
    assert shell_of("1/s", concurrency=concurrency).connections == connections


def test_closed_is_closed() -> None:
    shell = shell_of("1/s")
    shell.check_open()
    shell.closed = True
    with pytest.raises(SchedulerClosed, match=r"Fix: make a new Scheduler, or close it later."):
        shell.check_open()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_in_flight_keeps_it_on_its_loop(backend: str) -> None:
    scheduler = Scheduler("1/s")

    async def elsewhere() -> None:
        scheduler._shell.enter(scheduler._shell.job(Options(), (), {}))
        with pytest.raises(WrongLoop) as caught:
            await anyio.to_thread.run_sync(anyio.run, _now, scheduler)
        assert str(caught.value).startswith(
            "this Scheduler is at work on another event loop (1 in flight, 0 queued)"
        )

    run(backend, elsewhere)


async def _now(scheduler: Scheduler) -> None:
    scheduler._shell.now()
