"""A lease: the slot and the reservation of one attempt, given back however its body ends."""

from __future__ import annotations

import anyio
import pytest
from inject import Boom, Status

from headway import (
    AlreadyUsed,
    DeadlineExceeded,
    InvalidArgument,
    Kind,
    Retry,
    Scheduler,
    SchedulerClosed,
)

pytestmark = pytest.mark.anyio


def figures(scheduler: Scheduler) -> dict[str, float]:
    stats = scheduler.statistics()
    names = ("in_flight", "queued", "sent", "succeeded", "failed", "cancelled", "tokens")
    return {name: getattr(stats, name) for name in names if getattr(stats, name)}


async def test_the_body_holds_a_slot_and_knows_what_it_reserved() -> None:
    scheduler = Scheduler("60/min", tokens="6M/min", concurrency=1)
    async with scheduler.lease(tokens=1200) as first:
        assert (first.tokens, first.waited) == (1200, 0)
        assert figures(scheduler) == {"in_flight": 1, "sent": 1}
    assert figures(scheduler) == {"sent": 1, "succeeded": 1}  # nobody said what was used
    async with scheduler.lease(tokens=1) as second:
        assert second.waited == pytest.approx(1, abs=0.05)  # for the pace


async def test_it_waits_for_a_slot() -> None:
    scheduler = Scheduler(concurrency=1)

    async def hold() -> None:
        async with scheduler.lease():
            await anyio.sleep(7)

    async with anyio.create_task_group() as group:
        group.start_soon(hold)
        await anyio.sleep(2)
        async with scheduler.lease() as lease:
            assert lease.waited == pytest.approx(5, abs=0.01)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Boom("mine"), None),  # the caller's own
        (Status(400), Kind.PERMANENT),
        (Status(429), Kind.RATE),
        (Status(503), Kind.CAPACITY),
    ],
)
async def test_what_leaves_the_body_is_classified_and_goes_on(
    error: Exception, kind: Kind | None
) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    with pytest.raises(type(error)) as caught:
        async with scheduler.lease():
            raise error
    assert caught.value is error
    assert scheduler.statistics().refused == ({} if kind is None else {kind: 1})
    assert figures(scheduler) == {"sent": 1, "failed": 1}


async def test_a_cancelled_body_is_no_failure() -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    with anyio.move_on_after(1):
        async with scheduler.lease():
            await anyio.sleep(9)
    assert figures(scheduler) == {"sent": 1, "cancelled": 1}


async def test_it_says_what_was_used() -> None:
    scheduler = Scheduler(tokens="6M/min")
    async with scheduler.lease(tokens=1200) as lease:
        lease.settle(tokens=30)
        with pytest.raises(InvalidArgument, match="tokens=-1 is not a count"):
            lease.settle(tokens=-1)
    assert scheduler.statistics().tokens == 30


async def test_it_is_one_attempt() -> None:
    scheduler = Scheduler("100/s")
    lease = scheduler.lease()
    async with lease:
        with pytest.raises(AlreadyUsed, match=r"Fix: `async with scheduler.lease"):
            await lease.__aenter__()
    with pytest.raises(AlreadyUsed):
        async with lease:
            raise AssertionError
    assert figures(scheduler) == {"sent": 1, "succeeded": 1}


async def test_the_timeout_is_for_the_waiting_and_another_for_the_body() -> None:
    scheduler = Scheduler(concurrency=1, retry=Retry(attempts=1))
    async with scheduler.with_options(timeout=1).lease():
        await anyio.sleep(5)  # longer than the timeout, which does not reach in here
        with pytest.raises(DeadlineExceeded, match="was never tried"):
            async with scheduler.with_options(timeout=1).lease():
                raise AssertionError
    with pytest.raises(TimeoutError) as caught:
        async with scheduler.with_options(attempt_timeout=2).lease():
            await anyio.sleep(9)
    assert not isinstance(caught.value, DeadlineExceeded)
    assert scheduler.statistics().refused == {Kind.TRANSIENT: 1}
    assert scheduler.statistics().in_flight == 0


async def test_none_begins_after_the_end() -> None:
    scheduler = Scheduler("100/s")
    lease = scheduler.lease()
    await scheduler.aclose()
    with pytest.raises(SchedulerClosed):
        async with lease:
            raise AssertionError
    assert figures(scheduler) == {}
