"""Limits, keys and weights that change while jobs wait and run."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from inject import Status, answer, counts, settle_down

from headway import InvalidLimit, Limits, NeverFits, Rate, Scheduler, Unavailable

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]

now = anyio.current_time


async def test_set_limits_keeps_what_is_left_out() -> None:
    scheduler = Scheduler("60/min", tokens="90k/min", concurrency=4, weights={"a": 2})
    scheduler.set_limits(concurrency=8)
    assert scheduler.limits == Limits("60/min", tokens="90k/min", concurrency=8)
    scheduler.set_limits(Rate(5, per=1), tokens=None)
    assert scheduler.limits == Limits("5/s", concurrency=8)
    assert scheduler.statistics().capacity == 8
    with pytest.raises(InvalidLimit):
        scheduler.set_limits("7/s", concurrency=0)
    assert scheduler.limits == Limits("5/s", concurrency=8)
    assert scheduler.statistics().pace == pytest.approx(Rate(5, per=1).pace)


async def test_what_was_sent_still_counts_after_set_limits() -> None:
    scheduler = Scheduler("10/s", tokens="1000/min")
    budget = scheduler._shell.state.whole.budgets
    async with scheduler.lease(tokens=400) as lease:
        scheduler.set_limits(tokens="2000/min")
        assert budget is not scheduler._shell.state.whole.budgets
        assert scheduler._shell.state.whole.budgets[0].total == 400
        lease.settle(tokens=150)
    assert scheduler._shell.state.whole.budgets[0].total == pytest.approx(150)


async def test_a_rate_replaces_no_quota_and_a_quota_no_rate() -> None:
    scheduler = Scheduler(["30/s", "3/day"], tokens=["90k/min", "1M/day"])
    await scheduler.map(answer, range(2))
    scheduler.set_limits("300/min", tokens="60k/min")
    assert scheduler.limits == Limits(["300/min", "3/day"], tokens=["60k/min", "1M/day"])
    await scheduler.submit(answer, 3)
    with pytest.raises(Unavailable):  # what was used of it before still counts
        await scheduler.submit(answer, 4)
    scheduler.set_limits("10/day", tokens=None)
    assert scheduler.limits == Limits(["10/day", "300/min"])
    await scheduler.submit(answer, 5)
    scheduler.set_limits(None)
    assert scheduler.limits == Limits()


async def test_limits_of_keys_and_weights_are_live() -> None:
    scheduler, began = Scheduler(concurrency=1000), now()
    scheduler.set_limits(keys={"slow": Limits("1/s")}, weights={"fast": 3})
    slow = scheduler.with_options(key="slow")
    await slow.map(answer, range(4))
    assert 3 < now() - began < 3.2
    scheduler.set_limits(keys=lambda key: Limits("10/s") if key == "slow" else None)
    began = now()
    await slow.map(answer, range(4))
    assert now() - began < 0.5


async def test_a_pause_lets_what_is_in_flight_go_on() -> None:
    scheduler = Scheduler(concurrency=5)
    async with anyio.create_task_group() as group:
        group.start_soon(scheduler.submit, anyio.sleep, 1)
        await settle_down()
        scheduler.pause()
        group.start_soon(scheduler.submit, anyio.sleep, 1)
        await anyio.sleep(3)
        assert counts(scheduler) == (1, 0, 1)
        assert scheduler.statistics().binds == "paused"
        scheduler.resume()
        await settle_down()
        assert counts(scheduler) == (0, 1, 2)


async def test_a_job_that_no_longer_fits_fails_when_the_limit_is_lowered() -> None:
    scheduler = Scheduler(tokens="1000/min", concurrency=1)
    view = scheduler.with_options(tokens=800)
    async with scheduler.lease(tokens=100), anyio.create_task_group() as group:

        async def large() -> None:
            with pytest.raises(NeverFits, match="larger than the whole limit of 100/min"):
                await view.submit(answer)

        group.start_soon(large)
        await anyio.sleep(0.1)
        scheduler.set_limits(tokens="100/min")
    assert scheduler.statistics().queued == 0


async def test_a_keys_function_that_raises_changes_nothing() -> None:
    scheduler = Scheduler("10/s")
    await scheduler.with_options(key="a").submit(answer)

    def keys(key: object) -> Limits:
        raise LookupError(key)

    before = scheduler.statistics().pace
    with pytest.raises(LookupError):
        scheduler.set_limits("999/s", keys=keys)
    assert scheduler.statistics().pace == before
    assert scheduler.limits.requests[0].limit == 10


async def test_limits_that_a_key_gets_count_what_is_in_flight() -> None:
    scheduler = Scheduler(concurrency=100)
    view = scheduler.with_options(key="a")
    running = most = 0

    async def call() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(view.submit, call)
        await anyio.sleep(0.5)
        scheduler.set_limits(keys={"a": Limits(concurrency=2)})
        for _ in range(8):
            group.start_soon(view.submit, call)
    assert most == 4
    assert scheduler.statistics().in_flight == 0


async def test_what_is_stated_as_before_goes_on_as_it_is() -> None:
    scheduler = Scheduler("100/s", concurrency=4)
    stated = scheduler.statistics().pace
    with pytest.raises(Status):
        async with scheduler.lease():
            raise Status(429, 0.1)
    cut = scheduler.statistics().pace
    scheduler.set_limits(concurrency=5)
    assert scheduler.statistics().pace == cut < stated
    scheduler.reset()
    assert scheduler.statistics().pace == stated  # what refusals taught is forgotten


def test_tenants_that_came_once_are_forgotten_with_limits_of_their_own_too() -> None:
    own = Limits("1000/s", concurrency=1)
    scheduler = Scheduler(keys=lambda key: own)

    async def main() -> None:
        for number in range(6_000):
            await scheduler.with_options(key=number).submit(answer)

    anyio.run(main)
    assert len(scheduler._shell.state.flows) < 5_000
