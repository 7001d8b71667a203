"""A lease for a thread: it waits, holds its slot, and teaches."""

from __future__ import annotations

import threading

import pytest

from headway import AlreadyUsed, DeadlineExceeded, InvalidArgument
from headway.sync import Lease, Scheduler


def test_it_holds_a_slot_and_is_settled() -> None:
    with Scheduler(tokens="600/min", concurrency=1) as scheduler:
        with scheduler.lease(tokens=5) as lease:
            assert isinstance(lease, Lease)
            assert lease.tokens == 5
            assert scheduler.statistics().in_flight == 1
            lease.settle(tokens=3)
            lease.hear(None)
        assert scheduler.statistics().in_flight == 0
        assert scheduler.statistics().tokens == 3
        assert lease.waited == 0


def test_it_waits_for_another_thread() -> None:
    with Scheduler(concurrency=1) as scheduler:
        first, got = scheduler.lease(), threading.Event()
        first.__enter__()

        def second() -> None:
            with scheduler.lease():
                got.set()

        thread = threading.Thread(target=second)
        thread.start()
        assert not got.wait(0.02)
        first.__exit__(None, None, None)
        assert got.wait(5)
        thread.join()


def test_its_timeout_is_for_the_waiting() -> None:
    with Scheduler(concurrency=1) as scheduler, scheduler.lease():
        with pytest.raises(DeadlineExceeded, match=r"timeout=0\.01 seconds are over"):
            scheduler.with_options(timeout=0.01).lease().__enter__()
        assert scheduler.statistics().queued == 0


def test_a_failure_goes_on_and_teaches() -> None:
    with Scheduler() as scheduler:
        with pytest.raises(ConnectionError), scheduler.lease():
            raise ConnectionError
        assert scheduler.statistics().failed == 1
        lease = scheduler.lease()
        with lease:
            pass
        with pytest.raises(AlreadyUsed, match=r"Fix: call lease\(\) again, once for each attempt"):
            lease.__enter__()


def test_one_that_is_taken_at_once_or_not_at_all() -> None:
    with Scheduler(concurrency=1) as scheduler:
        lease = scheduler.try_lease(tokens=2)
        assert lease is not None
        assert scheduler.try_lease() is None
        with lease:
            assert scheduler.statistics().in_flight == 1
        dropped = scheduler.try_lease()
        assert dropped is not None
        del dropped
        assert scheduler.submit(lambda: 1) == 1  # the slot was given back


def test_what_cannot_end_a_body_is_told() -> None:
    view = Scheduler().with_options(attempt_timeout=3)
    with pytest.raises(InvalidArgument, match="attempt_timeout=3 cannot end what lease"):
        view.lease()
    with pytest.raises(InvalidArgument, match="attempt_timeout=3 cannot end what try_lease"):
        view.try_lease()
