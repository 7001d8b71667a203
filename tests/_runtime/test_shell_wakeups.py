"""No wake-up is lost: whatever happens, a job starts as soon as the limits allow it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from inject import Status, settle_down

from headway import DeadlineExceeded, Latched, Limits, Scheduler, View
from headway._core.queue.job import Job
from headway._core.state import SchedulerState

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]


SLACK = 0.011  # what timers may be late, and a little


class Starts:
    """When each job started, in seconds from now on."""

    def __init__(self) -> None:
        self._began = anyio.current_time()
        self.at: dict[str, float] = {}

    async def __call__(self, name: str, seconds: float = 0.0) -> str:
        self.at[name] = anyio.current_time() - self._began
        await anyio.sleep(seconds)
        return name

    def check(self, **due: float) -> None:
        assert self.at == {name: pytest.approx(at, abs=SLACK) for name, at in due.items()}


async def line_up(group: TaskGroup, view: View, *args: Any) -> None:
    """Submit in a task of its own; trio starts tasks in any order, so see it queued first."""
    group.start_soon(view.submit, *args)
    await settle_down()


async def test_a_retune_acts_at_once() -> None:
    scheduler, starts = Scheduler("1/hour"), Starts()
    async with anyio.create_task_group() as group:
        for name in "abc":
            await line_up(group, scheduler, starts, name)
        await anyio.sleep(5)
        scheduler.set_limits("10/s")
    starts.check(a=0, b=5.1, c=5.2)


async def test_a_slower_rate_acts_at_once_too() -> None:
    scheduler, starts = Scheduler("10/s"), Starts()
    async with anyio.create_task_group() as group:
        for name in "abc":
            await line_up(group, scheduler, starts, name)
        await anyio.sleep(0.05)
        scheduler.set_limits("1/s")
    assert 0.4 < starts.at["b"] < 1.1
    assert starts.at["c"] - starts.at["b"] > 1


async def test_more_slots_act_at_once() -> None:
    scheduler, starts = Scheduler(concurrency=1), Starts()
    async with anyio.create_task_group() as group:
        for name in "abc":
            await line_up(group, scheduler, starts, name, 10)
        await anyio.sleep(1)
        scheduler.set_limits(concurrency=2)
    starts.check(a=0, b=1, c=10)


async def test_a_pause_and_its_end_act_at_once() -> None:
    scheduler, starts = Scheduler("1/s"), Starts()
    async with anyio.create_task_group() as group:
        for name in "abc":
            await line_up(group, scheduler, starts, name)
        await anyio.sleep(0.5)
        scheduler.pause()
        await anyio.sleep(10)
        assert starts.at.keys() == {"a"}
        assert scheduler.statistics().binds == "paused"
        scheduler.resume()
    starts.check(a=0, b=10.5, c=11.52)


async def test_a_leader_that_is_cancelled_hands_over() -> None:
    scheduler, starts = Scheduler("1/s"), Starts()
    async with anyio.create_task_group() as group:
        await scheduler.submit(starts, "a")
        with anyio.move_on_after(0.5):
            await line_up(group, scheduler, starts, "c")
            await scheduler.submit(starts, "b")
        assert scheduler.statistics().queued == 1
    starts.check(a=0, c=1.03)


async def test_all_leaders_but_one_are_cancelled_at_the_moment_of_their_permit() -> None:
    scheduler, starts = Scheduler("1/s"), Starts()
    scopes = [anyio.CancelScope() for _ in range(8)]

    async def cancelled(n: int) -> None:
        with scopes[n]:
            await scheduler.submit(starts, f"cancelled {n}")

    async with anyio.create_task_group() as group:
        await scheduler.submit(starts, "a")
        for n in range(8):
            group.start_soon(cancelled, n)
            await settle_down()
        await line_up(group, scheduler, starts, "z")
        await settle_down()
        await anyio.sleep(scheduler.statistics().seconds)  # the same moment as the leader's
        for scope in scopes:
            scope.cancel()
    assert starts.at.keys() <= {"a", "cancelled 0", "z"}
    assert starts.at["z"] < 2.1


async def test_a_leader_whose_timeout_is_over_hands_over() -> None:
    scheduler, starts = Scheduler("1/s"), Starts()

    async def timed() -> None:
        with pytest.raises(DeadlineExceeded, match="was never tried"):
            await scheduler.with_options(timeout=1.5).submit(starts, "never")

    async with anyio.create_task_group() as group:
        await scheduler.submit(starts, "a")
        scheduler.pause()
        group.start_soon(timed)
        await settle_down()
        for name in "bc":
            await line_up(group, scheduler.with_options(priority=1), starts, name)
        scheduler.resume()  # "b" goes next, then "c", and the other leads
    starts.check(a=0, b=1.03, c=2.06)


@pytest.mark.parametrize("how", ["returns", "raises", "is cancelled", "lease"])
async def test_the_end_of_an_attempt_starts_the_next(how: str) -> None:
    scheduler, starts = Scheduler(concurrency=1), Starts()

    async def first() -> None:
        await starts("a", 1)
        if how != "returns":
            raise ValueError

    async def run_first() -> None:
        if how == "is cancelled":
            with anyio.move_on_after(1):
                await scheduler.submit(starts, "a", math.inf)
        elif how == "lease":
            async with scheduler.lease():
                await starts("a", 1)
        else:
            try:
                await scheduler.submit(first)
            except ValueError:
                pass

    async with anyio.create_task_group() as group:
        group.start_soon(run_first)
        await anyio.sleep(0.1)
        await line_up(group, scheduler, starts, "b")
    starts.check(a=0, b=1)


async def test_a_key_that_is_released_goes_on() -> None:
    keys = {"one": Limits(concurrency=1), "slow": Limits("1/s")}
    scheduler, starts = Scheduler(keys=keys), Starts()
    async with anyio.create_task_group() as group:
        for name, key, seconds in (
            ("a", "one", 1.0), ("b", "one", 0.0), ("c", "slow", 0.0), ("d", "slow", 0.0),
            ("e", "slow", 0.0), ("free", None, 0.0),
        ):  # fmt: skip
            await line_up(group, scheduler.with_options(key=key), starts, name, seconds)
    starts.check(a=0, b=1, c=0, d=1.03, e=2.06, free=0)


async def test_a_key_whose_large_head_is_cancelled_goes_on() -> None:
    scheduler = Scheduler(keys={"k": Limits(tokens="1000/min")})
    starts, view = Starts(), scheduler.with_options(key="k")
    async with anyio.create_task_group() as group:
        await view.with_options(tokens=100).submit(starts, "a")
        with anyio.move_on_after(10):
            await line_up(group, view.with_options(tokens=100, priority=-1), starts, "b")
            await view.with_options(tokens=1000).submit(starts, "large")
    starts.check(a=0, b=10)


async def test_an_urgent_job_is_looked_at_in_a_key_that_is_held_back() -> None:
    scheduler = Scheduler(keys={"k": Limits(tokens="1000/min")})
    starts, view = Starts(), scheduler.with_options(key="k")
    async with anyio.create_task_group() as group:
        await view.with_options(tokens=100).submit(starts, "a")
        await line_up(group, view.with_options(tokens=1000), starts, "large")
        await anyio.sleep(10)
        await line_up(group, view.with_options(tokens=1, priority=1), starts, "urgent")
        await anyio.sleep(1)
        starts.check(a=0, urgent=10)
    assert 60 < starts.at["large"] < 72


async def test_a_backoff_ends_on_time() -> None:
    scheduler, starts = Scheduler(), Starts()
    left = [Status(500, 3.0)]

    async def flaky() -> None:
        if left:
            raise left.pop()
        await starts("again")

    await scheduler.submit(flaky)
    assert 3 <= starts.at["again"] < 3.4


async def test_reset_opens_a_gate() -> None:
    scheduler, starts = Scheduler(concurrency=4), Starts()

    async def refused() -> None:
        if "refused" not in starts.at:
            await starts("refused")
            raise Status(429, 100)

    async with anyio.create_task_group() as group:
        await line_up(group, scheduler, refused)
        await anyio.sleep(1)
        await line_up(group, scheduler, starts, "b")
        await anyio.sleep(1)
        scheduler.reset()
    starts.check(refused=0, b=2)
    assert anyio.current_time() - starts._began > 100  # the refused one has its hint to obey


async def test_a_latch_ends_those_that_wait_until_reset() -> None:
    scheduler, starts = Scheduler("1/s"), Starts()
    errors: list[Exception] = []

    async def wrong_key() -> None:
        await anyio.sleep(0.5)
        raise Status(401)

    async def tried(fn: Callable[..., Any], *args: Any) -> None:
        try:
            await scheduler.submit(fn, *args)
        except Exception as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(tried, wrong_key)
        await settle_down()
        for name in "abc":
            group.start_soon(tried, starts, name)
    assert anyio.current_time() - starts._began == pytest.approx(0.5, abs=SLACK)
    assert {type(error) for error in errors} == {Status, Latched}
    assert len(errors) == 4
    with pytest.raises(Latched, match="401"):
        await scheduler.submit(starts, "d")
    scheduler.reset()
    assert await scheduler.submit(starts, "d") == "d"


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)  # trio shuffles what it runs
async def test_who_comes_behind_others_has_the_queue_looked_at_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, decide = 0, SchedulerState.poll

    def looked(self: SchedulerState, now: float) -> tuple[list[Job], float]:
        nonlocal looks
        looks += 1
        return decide(self, now)

    scheduler, starts = Scheduler("1/hour"), Starts()
    async with anyio.create_task_group() as group:
        await line_up(group, scheduler, starts, "first")
        await line_up(group, scheduler, starts, "waits")
        monkeypatch.setattr(SchedulerState, "poll", looked)
        for name in "abc":
            await line_up(group, scheduler, starts, name)
        assert scheduler.statistics().queued == 4
        assert looks == 0
        await line_up(group, scheduler.with_options(priority=1), starts, "urgent")
        assert looks == 1
        group.cancel_scope.cancel()


async def test_those_admitted_together_run_in_that_order() -> None:
    ran: list[str] = []

    async def note(name: str) -> None:
        ran.append(name)

    scheduler = Scheduler("1/s")
    async with anyio.create_task_group() as group:
        await scheduler.submit(note, "a")
        for name, priority in (("c", 0), ("b", 1)):  # "c" parks first, and leads
            group.start_soon(scheduler.with_options(priority=priority).submit, note, name)
            await settle_down()
        await anyio.sleep(0.5)
        scheduler.set_limits(requests="1000/s")
    assert ran == ["a", "b", "c"]
