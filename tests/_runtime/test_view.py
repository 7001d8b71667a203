"""A view: options of its own for the calls made through it."""

from __future__ import annotations

import pytest

from headway import Limits, Scheduler

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
