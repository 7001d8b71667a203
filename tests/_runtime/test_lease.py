"""A lease: the slot and the reservation of one attempt, given back however its body ends."""

from __future__ import annotations

import gc

import anyio
import pytest
from inject import Boom, Status, settle_down

from headway import (
    AlreadyUsed,
    DeadlineExceeded,
    InvalidArgument,
    Kind,
    Latched,
    Limits,
    NeverFits,
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
        with pytest.raises(AlreadyUsed, match=r"Fix: call lease\(\) again"):
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


# Now, or not at all


async def test_a_lease_is_there_at_once_or_not_at_all() -> None:
    scheduler = Scheduler("60/min", tokens="6000/min", concurrency=1)
    if lease := scheduler.try_lease(tokens=30):
        assert figures(scheduler) == {"in_flight": 1, "sent": 1}
        assert scheduler.try_lease() is None
        async with lease as entered:
            assert entered is lease
            assert (entered.tokens, entered.waited) == (30, 0)
            await anyio.sleep(2)
            assert scheduler.try_lease() is None  # the slot
            entered.settle(tokens=20)
    assert figures(scheduler) == {"sent": 1, "succeeded": 1, "tokens": 20}
    with pytest.raises(AlreadyUsed):
        await lease.__aenter__()  # type: ignore[union-attr]


@pytest.mark.parametrize("dropped", ["at once", "in a cycle", "when its loop is at work"])
async def test_a_lease_that_is_dropped_gives_back_its_slot(dropped: str) -> None:
    scheduler = Scheduler("60/min", tokens="6000/min", concurrency=1)
    lease = scheduler.try_lease(tokens=100)
    assert lease is not None
    if dropped == "in a cycle":
        ring: list[object] = [lease]
        ring.append(ring)
        del lease, ring
        gc.collect()
    elif dropped == "at once":
        del lease
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(scheduler.with_options(tokens=0).submit, anyio.sleep, 0)
            await settle_down()
            assert scheduler.statistics().queued == 1
            del lease
    await settle_down()
    stats = scheduler.statistics()
    assert (stats.in_flight, stats.queued, stats.tokens) == (0, 0, 0)
    assert stats.limits[1].used == 0
    await scheduler.idle()
    async with scheduler.lease() as other:
        assert other.waited <= 1


async def test_a_lease_passes_none_that_goes_before_it() -> None:
    scheduler = Scheduler("60/min", concurrency=2, keys={"slow": Limits("1/hour")})
    slow, urgent = scheduler.with_options(key="slow"), scheduler.with_options(priority=1)
    async with anyio.create_task_group() as group:
        await slow.submit(anyio.sleep, 0)
        group.start_soon(slow.submit, anyio.sleep, 0)
        await anyio.sleep(1.1)
        one = scheduler.try_lease()
        assert one is not None  # what waits could not start
        async with one:
            group.start_soon(scheduler.submit, anyio.sleep, 0)
            await settle_down()
            await anyio.sleep(0.5)
            assert scheduler.try_lease() is None
            assert urgent.try_lease() is None  # the pace
        await anyio.sleep(1.6)
        scheduler.pause()
        assert urgent.try_lease() is None
        group.start_soon(scheduler.submit, anyio.sleep, 0)
        await settle_down()
        scheduler.resume()
        group.cancel_scope.cancel()
    assert figures(scheduler)["sent"] == 4


async def test_a_lease_of_a_higher_priority_goes_before_those_that_wait() -> None:
    scheduler = Scheduler(concurrency=1, tokens="600/min")
    async with anyio.create_task_group() as group:
        async with scheduler.with_options(tokens=600).lease():
            group.start_soon(scheduler.with_options(tokens=500).submit, anyio.sleep, 0)
            await settle_down()
        await settle_down()
        assert scheduler.statistics().queued == 1
        assert scheduler.try_lease(tokens=0) is None
        assert scheduler.with_options(priority=1).try_lease(tokens=0) is not None


async def test_a_lease_that_can_never_be_had_says_so() -> None:
    scheduler = Scheduler("60/min", tokens="100/min")
    with pytest.raises(NeverFits):
        scheduler.try_lease(tokens=101)
    with pytest.raises(InvalidArgument):
        scheduler.try_lease(tokens=-1)
    with pytest.raises(Status):
        async with scheduler.lease():
            raise Status(401)
    with pytest.raises(Latched):
        scheduler.try_lease()
    scheduler.reset()
    spent = Scheduler("1/day")
    assert spent.try_lease() is not None  # and dropped
    await settle_down()
    await spent.submit(anyio.sleep, 0)
    assert spent.try_lease() is None
    await scheduler.aclose()
    with pytest.raises(SchedulerClosed):
        scheduler.try_lease()


async def test_a_lease_of_a_shared_limiter_is_asked_for() -> None:
    class Limiter:
        max_rate, time_period = 1.0, 1.0

        async def acquire(self, amount: float = 1) -> None:
            await anyio.sleep(1)

    scheduler = Scheduler([Limiter()])
    assert scheduler.try_lease() is None
    await anyio.sleep(1.1)
    lease = scheduler.try_lease()
    assert lease is not None
    async with lease:
        assert scheduler.try_lease() is None


async def test_a_lease_that_a_transport_was_made_after() -> None:
    scheduler = Scheduler(concurrency=4)
    held, dropped = scheduler.try_lease(), scheduler.try_lease()
    assert held is not None
    scheduler._shell.serve()
    assert scheduler._shell.unseen == 2
    del dropped
    async with held:
        await settle_down()
        assert scheduler._shell.unseen == 1
    assert scheduler._shell.unseen == 0
    async with scheduler.try_lease() or scheduler.lease():
        assert scheduler._shell.attempt() is not None
