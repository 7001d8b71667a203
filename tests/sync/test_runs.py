"""What a consumer loops over: in order, as they end, and every way to leave it."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from headway import Advance, AlreadyUsed, InvalidArgument, Outcome, SchedulerClosed
from headway.sync import AsCompleted, Map, Scheduler


def double(n: int) -> int:
    return 2 * n


def fail(n: int) -> int:
    if n == 2:
        raise ValueError("two")
    return n


async def items() -> AsyncIterator[int]:
    yield 1


async def ask() -> int:
    return 1


def test_a_list_a_loop_and_a_block_give_the_results_in_order() -> None:
    with Scheduler(concurrency=4) as scheduler:
        run = scheduler.map(double, range(20))
        assert isinstance(run, Map)
        assert list(run) == [2 * n for n in range(20)]
        assert list(run) == []  # it has been
        assert [n for n in scheduler.map(double, (n for n in range(3)))] == [0, 2, 4]  # noqa: C416
        with scheduler.map(double, range(3)) as results:
            assert next(results) == 0
            assert list(results) == [2, 4]
        assert list(scheduler.map(double, [])) == []


def test_outcomes_come_as_calls_end() -> None:
    first = threading.Event()

    def call(n: int) -> int:
        if n == 0:
            assert first.wait(5)
        return fail(n)

    with Scheduler(concurrency=4) as scheduler:
        run = scheduler.as_completed(call, range(4))
        assert isinstance(run, AsCompleted)
        ended = []
        for outcome in run:
            assert isinstance(outcome, Outcome)
            ended.append(outcome.index)
            if len(ended) == 3:
                first.set()
            if outcome.index == 2:
                assert isinstance(outcome.error, ValueError)
            else:
                assert outcome.result == outcome.item
                assert outcome.attempts == 1
        assert ended[-1] == 0
        assert sorted(ended) == [0, 1, 2, 3]


def test_a_failure_is_raised_or_stands_in_its_items_place() -> None:
    with Scheduler(concurrency=4) as scheduler:
        with pytest.raises(ValueError, match="two"):
            list(scheduler.map(fail, range(9)))
        found = list(scheduler.map(fail, range(4), return_exceptions=True))
        assert [found[0], found[1], str(found[2]), found[3]] == [0, 1, "two", 3]


def test_gather_takes_functions_of_no_arguments() -> None:
    with Scheduler(concurrency=4) as scheduler:
        assert scheduler.gather(lambda: 1, lambda: "b") == [1, "b"]
        view = scheduler.with_options(tokens=lambda n: n)  # asked about no call of gather's
        found = view.gather(lambda: 1, lambda: fail(2), return_exceptions=True)
        assert found[0] == 1
        assert isinstance(found[1], ValueError)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda s: s.gather(ask()),
            "gather() takes a plain function and got a coroutine",
        ),
        (lambda s: s.gather(ask), "ask is async"),
        (lambda s: s.gather([len]), "takes each call as an argument of its own and got a list"),
        (lambda s: s.gather(3), "gather() takes a function and got int"),
        (lambda s: s.map(ask, [1]), "ask is async"),
        (lambda s: s.map(double, items()), "map() takes items and got async_generator, which is"),
        (lambda s: s.as_completed(double, 3), "items must be an iterable, not int"),
        (lambda s: s.map(double, [1], return_exceptions=1), "return_exceptions=1 says neither"),
    ],
)
def test_what_cannot_be_meant(call: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        call(Scheduler())
    assert said in str(caught.value)
    assert caught.value.fix


def test_gather_of_a_run(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler()
    with pytest.raises(InvalidArgument, match=r"got a map\(\), which runs its calls under"):
        scheduler.gather(scheduler.map(double, [1]))  # type: ignore[arg-type]


def test_leaving_a_block_early_waits_for_what_runs_and_takes_back_the_rest() -> None:
    with Scheduler(concurrency=2) as scheduler:
        with scheduler.map(double, range(10_000)) as results:
            assert next(results) == 0
        shown = scheduler.statistics()
        assert (shown.queued, shown.in_flight) == (0, 0)
        assert shown.succeeded < 200
        assert list(results) == []


def test_an_interrupt_waits_for_nothing() -> None:
    held = threading.Event()
    with Scheduler(concurrency=2) as scheduler:
        run = scheduler.map(lambda n: held.wait(10), range(10))
        with pytest.raises(KeyboardInterrupt), run:
            raise KeyboardInterrupt
        assert scheduler.statistics().queued == 0
        held.set()


def test_a_run_that_is_dropped_is_stopped() -> None:
    with Scheduler(concurrency=2) as scheduler:
        run = scheduler.map(double, range(10**9))
        assert next(run) == 0
        del run
        gc.collect()  # else close() would wait for ever


def test_a_run_that_nobody_looped_over_is_told(caplog: pytest.LogCaptureFixture) -> None:
    Scheduler().map(double, [1])
    gc.collect()
    assert caplog.messages == [
        "a map() was never looped over, and nothing was called. Fix: list(scheduler.map(...)), or "
        "a for loop over it."
    ]


def test_a_run_is_used_once_and_not_after_close() -> None:
    with Scheduler() as scheduler:
        run = scheduler.map(double, [1])
        with run, pytest.raises(AlreadyUsed, match=r"Fix: call map\(\) again"):
            run.__enter__()
    late = scheduler.map(double, [1])
    with pytest.raises(SchedulerClosed):
        list(late)


def test_an_exit_in_a_thread_that_the_body_has_not_seen_is_raised() -> None:
    seen = threading.Event()

    def call(n: int) -> None:
        if n == 3:
            seen.set()
            raise SystemExit(3)

    scheduler = Scheduler(concurrency=1)
    with pytest.raises(SystemExit), scheduler.map(call, range(9)):
        assert seen.wait(5)
    scheduler.close()


# What was done before it ended, and how far it is


@pytest.mark.parametrize("length", [True, False])
def test_a_run_that_fails_keeps_the_results_so_far(length: bool) -> None:
    with Scheduler(concurrency=1) as scheduler:
        made = scheduler.map(fail, range(5) if length else iter(range(5)))
        taken: list[int] = []
        with pytest.raises(ValueError, match="two") as caught:
            taken.extend(made)
        # Of items that have no length, what was taken is its consumer's.
        done: dict[int, int] = caught.value.results_so_far  # type: ignore[attr-defined]
        assert done == made.results_so_far
        assert (
            done == {0: 0, 1: 1} if length else {**done, **dict(enumerate(taken))} == {0: 0, 1: 1}
        )
        note = caught.value.__notes__[0]
        if length:
            assert note.startswith("headway: 2 of 5 items were done. ")
        else:
            assert note.startswith("headway: 2 items were done. ")
            assert (f"not taken yet (the first {len(taken)} were)" in note) == bool(taken)


def test_a_run_shows_how_far_it_is() -> None:
    told: list[Advance] = []
    with Scheduler(concurrency=4) as scheduler:
        assert list(scheduler.map(abs, range(5), progress=told.append)) == [*range(5)]
        assert told == [Advance(n + 1, 5, 0) for n in range(5)]
        told.clear()
        outcomes = list(scheduler.as_completed(fail, range(5), progress=told.append))
        assert len(outcomes) == 5
        assert told[-1] == Advance(5, 5, 1)
        scheduler.gather(list, dict, progress=told.append)
        assert told[-1] == Advance(2, 2, 0)


def leave(advance: Advance) -> None:
    raise KeyboardInterrupt


def test_an_exit_in_what_shows_it_ends_the_run() -> None:
    with Scheduler() as scheduler, pytest.raises(KeyboardInterrupt):
        list(scheduler.map(abs, range(5), progress=leave))
