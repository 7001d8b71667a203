"""The threads of a run: how many, which items they take, and what ends them."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from headway.sync import Scheduler
from headway.sync._crew import Crew
from headway.sync._driving import awaitable


def crew_of(
    scheduler: Scheduler, fn: Callable[[Any], Any], items: Any, *, ordered: bool = True
) -> Crew:
    return Crew(
        scheduler._shell, scheduler._options, awaitable(fn), items, ordered=ordered,
        keeps_errors=False, name="map",
    )  # fmt: skip


def results(crew: Crew) -> list[Any]:
    crew.start()
    found = []
    while (outcome := crew.next()) is not None:
        found.append(outcome.value)
    return found


def threads() -> int:
    return sum(thread.name == "headway" for thread in threading.enumerate())


def test_there_are_as_many_threads_as_slots_and_no_more() -> None:
    most = [0, 0]
    lock, at_work = threading.Lock(), [0]

    def call(item: int) -> int:
        with lock:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
            most[1] = max(most[1], threads() - 1)
        time.sleep(0.002)
        with lock:
            at_work[0] -= 1
        return item

    with Scheduler(concurrency=6) as scheduler:
        assert results(crew_of(scheduler, call, range(60))) == list(range(60))
        assert most[0] == 6
        # and a few that stand by, where a call of the run itself seems to compete
        assert 6 <= most[1] <= 6 + 16


def test_what_is_slow_gets_a_thread_each_where_there_is_no_limit() -> None:
    together = threading.Barrier(40)
    with Scheduler("100k/s") as scheduler:
        assert len(results(crew_of(scheduler, lambda _: together.wait(10), range(40)))) == 40


def test_no_more_is_taken_than_the_consumer_leaves_room_for() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for n in count():
            taken.append(n)
            yield n

    with Scheduler(concurrency=2) as scheduler:
        crew = crew_of(scheduler, lambda n: n, items())
        crew.start()
        for n in range(100):
            outcome = crew.next()
            assert outcome is not None
            assert outcome.value == n
        crew.end()
        assert len(taken) <= 100 + 2 * (2 + 16) + 16 + 1


def test_items_of_a_generator_are_taken_one_at_a_time() -> None:
    def items() -> Iterator[int]:  # which raises where two threads are in it at once
        yield from range(300)

    with Scheduler(concurrency=16) as scheduler:
        assert results(crew_of(scheduler, lambda n: n, items())) == list(range(300))
        unordered = crew_of(scheduler, lambda n: n, items(), ordered=False)
        assert sorted(results(unordered)) == list(range(300))


def test_a_source_that_raises_ends_the_run() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("of the source")

    with Scheduler() as scheduler, pytest.raises(OSError, match="of the source"):
        results(crew_of(scheduler, lambda n: n, items()))


def test_a_failure_takes_back_what_is_queued_and_waits_for_what_runs() -> None:
    ended, begun = [], threading.Event()

    def call(item: int) -> None:
        if item == 1:
            assert begun.wait(5)
            raise ValueError("one")
        begun.set()
        time.sleep(0.02)
        ended.append(item)

    with Scheduler(concurrency=2) as scheduler:
        with pytest.raises(ValueError, match="one"):
            results(crew_of(scheduler, call, range(1000)))
        assert ended == [0]
        shown = scheduler.statistics()
        assert (shown.queued, shown.in_flight) == (0, 0)


def test_an_exit_in_a_thread_is_the_consumers() -> None:
    def call(item: int) -> None:
        raise SystemExit(7)

    with Scheduler() as scheduler:
        crew = crew_of(scheduler, call, [1])
        with pytest.raises(SystemExit):
            results(crew)
        assert isinstance(crew.exit, SystemExit)


def test_a_source_that_never_goes_on_holds_nobody_back() -> None:
    for_ever = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        for_ever.wait(10)

    with Scheduler(concurrency=4) as scheduler:
        crew = crew_of(scheduler, lambda n: n, items())
        crew.start()
        assert crew.next() is not None
        crew.end()  # does not wait for it
        for_ever.set()


def test_a_full_queue_is_waited_for() -> None:
    with Scheduler("200/s", max_queue=1) as scheduler:
        assert results(crew_of(scheduler, lambda n: n, range(8))) == list(range(8))


def test_context_variables_are_the_consumers() -> None:
    user = contextvars.ContextVar("user", default="nobody")
    user.set("me")
    with Scheduler() as scheduler:
        assert results(crew_of(scheduler, lambda n: user.get(), [1])) == ["me"]


def test_a_system_without_threads_goes_on_with_those_that_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, begun = threading.Thread.start, []

    def scarce(thread: threading.Thread) -> None:
        begun.append(thread)
        if len(begun) > most:  # that at home, which another opens, and one
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    most = 3
    with Scheduler(concurrency=8) as scheduler:
        assert results(crew_of(scheduler, lambda n: n, range(20))) == list(range(20))
        most = 0
        with pytest.raises(RuntimeError, match="can't start new thread"):
            results(crew_of(scheduler, lambda n: n, range(20)))


def test_calls_stand_in_the_queue_in_the_order_of_the_items() -> None:
    order: list[int] = []
    with Scheduler(concurrency=1) as scheduler:
        assert results(crew_of(scheduler, order.append, range(300))) == [None] * 300
    assert order == list(range(300))
