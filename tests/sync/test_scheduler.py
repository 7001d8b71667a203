"""The sync face: what it has of the async one, and plain functions in many threads under it."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

import headway
from headway import (
    Cleared,
    DeadlineExceeded,
    InvalidArgument,
    Kind,
    Limits,
    QueueFull,
    Refused,
    Retry,
    SchedulerClosed,
)
from headway.events import Event, Finished, Started
from headway.sync import Scheduler, View

SYNC_ONLY = {"close", "aio"}
ASYNC_ONLY = {"aclose"}


def public(face: type) -> dict[str, Any]:
    return {name: getattr(face, name) for name in dir(face) if not name.startswith("_")}


def test_it_has_the_face_of_the_async_scheduler() -> None:
    ours, theirs = public(Scheduler), public(headway.Scheduler)
    assert ours.keys() - SYNC_ONLY == theirs.keys() - ASYNC_ONLY
    for name in [*(ours.keys() & theirs.keys()), "__init__"]:
        one, other = getattr(Scheduler, name), getattr(headway.Scheduler, name)
        if callable(one):
            assert [
                (each.name, each.kind, each.default)
                for each in inspect.signature(one).parameters.values()
            ] == [
                (each.name, each.kind, each.default)
                for each in inspect.signature(other).parameters.values()
            ], name


def test_a_function_runs_in_the_thread_of_its_caller_with_its_arguments() -> None:
    def call(a: int, *, b: int) -> tuple[int, int, int]:
        return a, b, threading.get_ident()

    with Scheduler() as scheduler:
        assert scheduler.submit(call, 1, b=2) == (1, 2, threading.get_ident())


def test_a_refused_call_is_tried_again_and_a_failure_is_its_own() -> None:
    tries = []

    def call() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("gone")
        return "here"

    def never() -> None:
        raise KeyError("mine")

    with Scheduler(retry=Retry(base=0.001)) as scheduler:
        assert scheduler.submit(call) == "here"
        assert len(tries) == 3
        with pytest.raises(KeyError, match="mine"):
            scheduler.submit(never)
        assert scheduler.statistics().failed == 1


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_the_end_of_an_iterator_that_a_function_raises_is_its_callers(kind: type) -> None:
    error: Exception = kind("mine")
    asked: list[object] = []

    def call(*_: object) -> Any:
        raise error

    def refused(result: object) -> bool:
        asked.append(result)
        return result is error and len(asked) == 1  # the first is tried again

    def inside(scheduler: Scheduler) -> None:
        with scheduler.lease():
            raise error

    with Scheduler(retry=Retry(base=0.001), is_refused=refused) as scheduler:
        for attempt in (
            lambda: scheduler.submit(call),
            lambda: scheduler.limit(call)(),
            lambda: scheduler.gather(call),
            lambda: scheduler.with_options(timeout=10).submit(call),
            lambda: scheduler.with_options(tokens=call).submit(len, "a"),
            lambda: scheduler.with_options(usage=call).submit(len, "a"),
            lambda: inside(scheduler),
        ):
            with pytest.raises(kind, match="mine") as raised:
                attempt()
            assert raised.value is error
        assert asked[:2] == [error, error]
        assert "headway: tried 2 times" in error.__notes__[0]
        assert scheduler.gather(call, return_exceptions=True) == [error]
        assert [o.error for o in scheduler.as_completed(call, [1])] == [error]
        assert scheduler.statistics().in_flight == 0


def test_a_map_does_not_end_in_silence_where_a_call_raises_the_end_of_an_iterator() -> None:
    with Scheduler(concurrency=1) as scheduler:
        run = scheduler.map(lambda items: next(iter(items)), [[1], [2], [], [4]])
        with pytest.raises(RuntimeError, match="a call raised StopIteration, which would end") as e:
            list(run)
        assert isinstance(e.value.__cause__, StopIteration)
        assert run.results_so_far == {0: 1, 1: 2}


def test_options_and_predicates_of_the_user_hold() -> None:
    def refused(result: object) -> Kind | None:
        return Kind.PERMANENT if result == "no" else None

    with Scheduler(is_refused=refused, tokens="1M/min") as scheduler:
        view = scheduler.with_options(key="chat", tokens=lambda n: n, usage=lambda result: 7)
        assert isinstance(view, View)
        assert view.submit(lambda n: n, 100) == 100
        assert scheduler.statistics().keys["chat"].tokens == 7
        with pytest.raises(Refused, match="calls this result a refusal"):
            scheduler.submit(lambda: "no")


def test_a_timeout_ends_the_waiting_and_not_what_runs() -> None:
    held, begun = threading.Event(), threading.Event()

    def hold() -> str:
        begun.set()
        held.wait(5)
        return "late"

    with Scheduler(concurrency=1) as scheduler, ThreadPoolExecutor() as threads:
        view = scheduler.with_options(timeout=0.02)
        running = threads.submit(view.submit, hold)
        assert begun.wait(5)
        with pytest.raises(DeadlineExceeded, match="and was never tried"):
            view.submit(hold)
        held.set()
        assert running.result() == "late"


def test_a_thread_cannot_be_interrupted_which_is_told() -> None:
    view = Scheduler().with_options(attempt_timeout=2)
    for use in (view.submit, lambda fn: view.map(fn, []), lambda fn: view.gather(fn)):
        with pytest.raises(InvalidArgument, match=r"attempt_timeout=2 cannot end what .* runs"):
            use(len)


def test_async_functions_run_on_any_loop_and_several_at_once() -> None:
    async def call(n: int) -> int:
        await anyio.sleep(0.001)
        return n

    async def many() -> list[int]:
        found = await scheduler.aio.map(call, range(20))
        async with scheduler.aio.lease():
            pass
        return [*found, await scheduler.with_options(key="a").aio.submit(call, 20)]

    with Scheduler(concurrency=4) as scheduler, ThreadPoolExecutor() as threads:
        runs = [
            threads.submit(asyncio.run, many()),
            threads.submit(trio.run, many),
            threads.submit(asyncio.run, many()),
            threads.submit(lambda: list(scheduler.map(lambda n: n, range(21)))),
        ]
        assert [run.result(20) for run in runs] == [list(range(21))] * 4
        assert scheduler.statistics().succeeded == 87


@pytest.mark.anyio
async def test_cancelled_tasks_leave_nothing() -> None:
    with Scheduler(concurrency=1) as scheduler:
        with scheduler.lease():
            with anyio.move_on_after(0.01):
                await scheduler.aio.submit(anyio.sleep, 0)
            assert scheduler.statistics().queued == 0
        await scheduler.aio.submit(anyio.sleep, 0)
        assert scheduler.statistics().in_flight == 0


def test_what_is_changed_holds_at_once() -> None:
    with Scheduler(concurrency=1) as scheduler, ThreadPoolExecutor() as threads:
        assert scheduler.limits == Limits(concurrency=1)
        assert scheduler.would_wait() == 0
        scheduler.pause()
        waiting = [threads.submit(scheduler.submit, lambda: 1) for _ in range(3)]
        while scheduler.statistics().queued < 3:
            pass
        assert scheduler.statistics().in_flight == 0
        scheduler.resume()
        assert [each.result(5) for each in waiting] == [1, 1, 1]
        scheduler.set_limits("9/s", concurrency=2)
        assert scheduler.limits.concurrency == 2
        scheduler.reset()
        scheduler.record(tokens=5, key="elsewhere")
        assert scheduler.statistics().keys["elsewhere"].tokens == 5
        scheduler.idle()


def test_what_is_queued_can_be_dropped() -> None:
    scheduler = Scheduler(concurrency=1)
    with ThreadPoolExecutor() as threads, scheduler.lease():
        waiting = threads.submit(scheduler.submit, len, "abc")
        while not scheduler.statistics().queued:
            pass
        assert scheduler.clear() == 1
        with pytest.raises(Cleared):
            waiting.result(5)
    scheduler.close()


def test_a_full_queue_turns_callers_away() -> None:
    scheduler = Scheduler(concurrency=1, max_queue=0)
    with scheduler.lease(), pytest.raises(QueueFull):
        scheduler.submit(len, "abc")
    scheduler.close()


def test_events_come_in_order_and_what_a_sink_raises_is_a_callers() -> None:
    seen: list[Event] = []
    told = threading.Event()

    def sink(event: Event) -> None:
        seen.append(event)
        if len(seen) == 6:
            told.set()

    with Scheduler(on_event=sink) as scheduler:
        scheduler.submit(len, "abc")
        scheduler.submit(len, "abc")
        assert told.wait(5)
    assert [type(event) for event in seen][1:3] == [Started, Finished]


def test_close_waits_for_all_and_ends_the_thread() -> None:
    before = threading.active_count()
    scheduler = Scheduler("50/s")
    with ThreadPoolExecutor() as threads:
        jobs = [threads.submit(scheduler.submit, len, "abc") for _ in range(5)]
        jobs[0].result()
        while scheduler.statistics().succeeded + scheduler.statistics().queued < 5:
            pass
        scheduler.close()
        assert [each.result(0) for each in jobs] == [3] * 5
    assert threading.active_count() == before
    scheduler.close()  # again, for nothing
    scheduler.idle()
    with pytest.raises(SchedulerClosed, match=r"close\(\) was called\. Fix: make a new Scheduler"):
        scheduler.submit(len, "abc")
    Scheduler().close()  # never used


def test_what_is_remembered_outlasts_the_process(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    with Scheduler("1000/day", memory=kept) as scheduler:
        scheduler.submit(len, "abc")
    assert kept.exists()


def test_limits_are_shared_with_an_async_scheduler(tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/limits.db"
    other = headway.Scheduler("600/min", shared=where)

    async def use() -> None:
        async def call() -> int:
            return 1

        async with other:
            await other.submit(call)

    with Scheduler("600/min", shared=where) as scheduler:
        assert list(scheduler.map(lambda n: n, range(3))) == [0, 1, 2]
        asyncio.run(use())
        shared = scheduler.statistics().shared
        assert shared is not None
        assert shared.calls > 0


# Smaller doors


class Client:
    scheduler = Scheduler()

    @scheduler.limit
    def ask(self, question: str) -> str:
        """Ask."""
        return question


def lines() -> Iterator[int]:
    yield 1


def test_a_limited_function_is_submitted() -> None:
    assert Client().ask("why") == "why"
    assert Client.scheduler.statistics().sent == 1
    assert (Client.ask.__name__, Client.ask.__doc__) == ("ask", "Ask.")
    Client.scheduler.close()


async def ask_later() -> None: ...


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (ask_later, "ask_later is async, and a headway.sync.Scheduler calls plain functions"),
        (staticmethod(abs), "@limit got a staticmethod"),
        (5, "limit() takes a function and got int"),
        (lines, "@limit takes a function that returns, and lines is a generator"),
    ],
)
def test_what_cannot_be_limited(fn: Any, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Scheduler().limit(fn)
    assert str(caught.value).startswith(text)


def test_batches_are_those_of_the_async_face() -> None:
    with Scheduler() as scheduler:
        assert list(scheduler.map(sum, scheduler.batches(range(5), 2))) == [1, 5, 4]
        assert list(scheduler.batches(["a" * 40] * 3, 9, tokens=25)) == [["a" * 40] * 2, ["a" * 40]]

        async def later() -> Any:
            yield 1

        with pytest.raises(InvalidArgument, match="which is async"):
            scheduler.batches(later(), 2)  # type: ignore[arg-type]
