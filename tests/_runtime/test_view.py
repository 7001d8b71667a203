"""A view: options of its own for the calls made through it."""

from __future__ import annotations

import anyio
import pytest
from inject import settle_down

from headway import Binds, Limits, Scheduler, SchedulerClosed

pytestmark = pytest.mark.anyio


async def test_the_options_of_a_view_hold_for_its_leases_and_records() -> None:
    scheduler = Scheduler(keys={"a": Limits("60/min")})
    view = scheduler.with_options(key="a", tokens=7)
    view.record()
    assert view.try_lease() is None
    other = scheduler.try_lease()
    assert other is not None
    assert other.tokens == 0
    async with view.lease() as lease:
        assert lease.tokens == 7
        assert lease.waited == pytest.approx(1, abs=0.1)
    async with other:
        pass
    assert scheduler.statistics().keys["a"].sent == 1


async def test_a_view_of_a_view_keeps_what_it_does_not_change() -> None:
    view = Scheduler().with_options(tokens=7).with_options(priority=1)
    async with view.lease() as lease:
        assert lease.tokens == 7


async def test_the_options_of_a_view_hold_for_the_wait_it_foresees() -> None:
    scheduler = Scheduler("60/min", keys={"a": Limits("6/min")})
    assert scheduler.would_wait() == 0
    await scheduler.with_options(key="a").submit(anyio.sleep, 0)
    assert scheduler.would_wait() == pytest.approx(1, abs=0.1)
    assert scheduler.would_wait(key="a") == pytest.approx(10, abs=0.2)
    scheduler.pause()
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(scheduler.submit, anyio.sleep, 0)
        await settle_down()
        assert scheduler.would_wait().binds is Binds.PAUSED
        scheduler.resume()
        assert scheduler.would_wait() == pytest.approx(5, abs=0.2)
        assert scheduler.with_options(priority=1).would_wait() == pytest.approx(1, abs=0.1)
        assert scheduler.would_wait(tokens=5).binds is Binds.REQUESTS
    await scheduler.aclose()
    with pytest.raises(SchedulerClosed):
        scheduler.would_wait()


def test_the_wait_is_foreseen_before_there_is_a_loop() -> None:
    assert Scheduler("1/hour").would_wait() == 0.0
