"""map, as_completed and gather: order, bounds, failures, and every way to leave early."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from inject import Boom, Status, run
from mutants import Mutant, nothing, nothing_awaited, table
from streamed import KINDS, Source, as_source, double, each, idle

from headway import DeadlineExceeded, HeadwayError, Outcome, Scheduler
from headway._runtime.shell import Shell
from headway._runtime.streams import Map, _ManyCalls
from headway._runtime.workers import END, Workers

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]


# What comes out


@KINDS
async def test_results_come_in_the_order_of_the_items(kind: str) -> None:
    scheduler, items = Scheduler(concurrency=4), range(20)
    expected = [2 * n for n in items]
    assert await scheduler.map(double, items if kind == "sync" else each(items)) == expected
    async with scheduler.map(double, items if kind == "sync" else each(items)) as results:
        assert [result async for result in results] == expected
    assert idle(scheduler)


@KINDS
async def test_outcomes_come_as_calls_end(kind: str) -> None:
    scheduler, items = Scheduler(concurrency=4), range(4)
    source = items if kind == "sync" else each(items)
    async with scheduler.as_completed(double, source) as outcomes:
        assert [outcome.result async for outcome in outcomes] == [6, 4, 2, 0]
    assert idle(scheduler)


@pytest.mark.parametrize("items", [[], (), iter(()), range(0), "async"])
async def test_nothing_in_nothing_out(items: Any) -> None:
    scheduler = Scheduler("1/s")
    source = partial(each, ()) if items == "async" else lambda: items
    assert await scheduler.map(double, source()) == []
    async with scheduler.map(double, source()) as results:
        assert [result async for result in results] == []
    async with scheduler.as_completed(double, source()) as outcomes:
        assert [outcome async for outcome in outcomes] == []
    assert await scheduler.gather() == []


async def test_an_outcome_says_how_its_call_went() -> None:
    scheduler = Scheduler("1/s", concurrency=1)
    failures = {1: [Status(500, 0.1)], 2: [Status(404)]}

    async def call(n: int) -> int:
        await anyio.lowlevel.checkpoint()
        if failures.get(n):
            raise failures[n].pop()
        return 10 * n

    async with scheduler.as_completed(call, range(3)) as outcomes:
        by_item = {outcome.item: outcome async for outcome in outcomes}
    zero, one, two = by_item[0], by_item[1], by_item[2]
    assert zero == Outcome(item=0, value=0, error=None, attempts=1, waited=0.0, index=0)
    assert (one.result, one.error, one.attempts) == (10, None, 2)
    assert one.waited > 1
    assert (two.value, two.attempts) == (None, 1)
    assert isinstance(two.error, Status)
    with pytest.raises(Status) as caught:
        assert two.result
    assert caught.value is two.error


async def test_a_call_that_never_started_is_an_outcome_too() -> None:
    scheduler = Scheduler(tokens="1000/min")

    def tokens(n: int) -> int:
        return 10 // n

    view = scheduler.with_options(tokens=tokens)
    async with view.as_completed(double, [0, 1]) as outcomes:
        failed, ok = sorted([outcome async for outcome in outcomes], key=lambda o: o.item)
    assert isinstance(failed.error, ZeroDivisionError)
    assert (failed.attempts, failed.waited, ok.result) == (0, 0.0, 2)


async def test_options_hold_for_each_call() -> None:
    scheduler = Scheduler(concurrency=2)
    timed = scheduler.with_options(timeout=1.5)
    results = await timed.map(anyio.sleep, [1.0, 2.0, 0.1, 3.0], return_exceptions=True)
    assert [type(result) for result in results] == [
        type(None), DeadlineExceeded, type(None), DeadlineExceeded,
    ]  # fmt: skip
    attempts = scheduler.with_options(attempt_timeout=0.5)
    with pytest.raises(TimeoutError):
        await attempts.map(anyio.sleep, [1.0])


# Bounds


@KINDS
@pytest.mark.parametrize("name", ["map", "as_completed"])
async def test_a_slow_consumer_slows_an_endless_source(kind: str, name: str) -> None:
    scheduler, source = Scheduler(concurrency=4), Source()
    run = getattr(scheduler, name)(double, as_source(source, kind))
    async with run as stream:
        async for _ in stream:
            source.consumed += 1
            await anyio.sleep(1)
            if source.consumed == 40:
                break
    assert source.most <= 25
    assert len(run._done) <= 24
    assert idle(scheduler)


async def test_a_slow_source_does_not_slow_what_has_been_taken() -> None:
    scheduler, began = Scheduler(concurrency=4), anyio.current_time()
    ended = []

    async def slow() -> AsyncIterator[int]:
        for n in range(3):
            yield n
            await anyio.sleep(10)

    async with scheduler.map(double, slow()) as results:
        async for _ in results:
            ended.append(anyio.current_time() - began)  # noqa: PERF401
    assert ended == pytest.approx([1, 10.5, 20.33], abs=0.01)


@KINDS
async def test_an_awaited_map_takes_items_as_calls_start(kind: str) -> None:
    scheduler, source = Scheduler("10/s", concurrency=4), Source(range(200))
    taken_ahead = []

    async def call(n: int) -> None:
        source.consumed += 1
        taken_ahead.append(source.taken - source.consumed)
        await anyio.sleep(0.01)

    await scheduler.map(call, as_source(source, kind))
    assert source.taken == 200
    assert max(taken_ahead) <= 4


@pytest.mark.parametrize("name", ["map", "as_completed"])
async def test_a_stream_uses_all_slots_and_those_that_are_added(name: str) -> None:
    scheduler, now, most = Scheduler(concurrency=3), 0, 0

    async def call(n: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await anyio.sleep(20 if n == 18 else 1)
        now -= 1

    run = getattr(scheduler, name)(call, itertools.count())
    async with run as stream:
        await anyio.sleep(15)
        # The window is full, so two workers have stalled; the third is still busy.
        assert (most, now, len(run._run._stalled)) == (3, 1, 2)
        scheduler.set_limits(concurrency=100)
        n = 0
        async for _ in stream:
            n += 1
            if n == 2000:
                break
    assert most == 100


@pytest.mark.parametrize("max_queue", [1, 5])
@KINDS
async def test_map_waits_for_room_in_the_queue(kind: str, max_queue: int) -> None:
    scheduler = Scheduler("10/s", concurrency=8, max_queue=max_queue)
    longest = 0

    async def call(n: int) -> int:
        nonlocal longest
        longest = max(longest, scheduler.statistics().queued)
        return n

    items = range(30)
    with anyio.fail_after(1000):
        results = await scheduler.map(call, items if kind == "sync" else each(items))
        assert results == list(items)
        async with scheduler.as_completed(call, items if kind == "sync" else each(items)) as ends:
            assert {end.item for end in [end async for end in ends] if not end.error} == set(items)
        assert await scheduler.gather(*[partial(call, n) for n in items]) == list(items)
    assert longest <= max_queue


async def test_two_maps_wait_for_room_together() -> None:
    scheduler = Scheduler("10/s", max_queue=2)

    async def both() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(scheduler.map(double, range(20))._collect)
                group.start_soon(scheduler.map(double, each(range(20)))._collect)

    with anyio.fail_after(100):
        await both()
    assert scheduler.statistics().succeeded == 80


# Failures


@KINDS
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_ends_the_rest_and_is_raised_as_it_is(kind: str, stream: bool) -> None:
    scheduler, source = Scheduler(concurrency=4), Source()
    error, cancelled = Boom("original"), []

    async def call(n: int) -> None:
        try:
            await anyio.sleep(1 if n == 6 else 2 + n)
        except anyio.get_cancelled_exc_class():
            cancelled.append(n)
            raise
        if n == 6:
            raise error

    run = scheduler.map(call, as_source(source, kind))
    with pytest.raises(Boom) as caught:  # noqa: PT012
        if stream:
            async with run as results:
                async for _ in results:
                    pass
        else:
            await run
    assert caught.value is error
    assert caught.value.__cause__ is None
    assert {4, 5} <= set(cancelled)
    assert 7 <= source.taken <= 12
    assert source.finished or source._busy or kind == "sync"  # trio: cancelled in its own await
    assert idle(scheduler)


async def test_the_first_of_two_failures_is_raised() -> None:
    scheduler = Scheduler(concurrency=4)

    async def call(n: int) -> None:
        try:
            await anyio.sleep(n)
        except BaseException:
            raise ValueError("while it was cancelled") from None
        raise Boom(n)

    with pytest.raises(Boom, match="1"):
        await scheduler.map(call, [3, 2, 1])


async def test_return_exceptions_keeps_going() -> None:
    scheduler = Scheduler(concurrency=4)

    async def call(n: int) -> int:
        await anyio.sleep(0.01)
        if n % 2:
            raise Boom(n)
        return n

    results = await scheduler.map(call, range(6), return_exceptions=True)
    assert [r if isinstance(r, int) else r.args for r in results] == [0, (1,), 2, (3,), 4, (5,)]
    async with scheduler.map(call, range(6), return_exceptions=True) as stream:
        assert [type(result) async for result in stream] == [int, Boom] * 3


@KINDS
@pytest.mark.parametrize("how", ["map", "stream", "as_completed"])
async def test_a_source_that_raises_ends_the_run_with_that(kind: str, how: str) -> None:
    scheduler, source = Scheduler(concurrency=4), Source(range(3), Boom("source"))
    items = as_source(source, kind)
    with pytest.raises(Boom, match="source"):  # noqa: PT012
        if how == "map":
            await scheduler.map(double, items)
        else:
            run = scheduler.map if how == "stream" else scheduler.as_completed
            async with run(double, items) as results:
                async for _ in results:
                    pass
    assert source.finished
    assert idle(scheduler)


@KINDS
@pytest.mark.parametrize("name", ["map", "as_completed"])
@pytest.mark.parametrize("how", ["break", "raise", "timeout", "cancel", "nothing"])
async def test_leaving_early_ends_the_children(kind: str, name: str, how: str) -> None:
    scheduler, source = Scheduler(concurrency=4), Source()
    running = 0

    async def call(n: int) -> int:
        nonlocal running
        running += 1
        try:
            await anyio.sleep(0.1 if n < 5 else 100)
        finally:
            running -= 1
        return n

    async def consume() -> None:
        async with getattr(scheduler, name)(call, as_source(source, kind)) as results:
            if how == "nothing":
                await anyio.sleep(1)
                return
            async for _ in results:
                if how == "break":
                    break
                if how == "raise":
                    raise Boom
                if how == "cancel":
                    scope.cancel()

    with anyio.CancelScope() as scope:
        if how == "raise":
            with pytest.raises(Boom):
                await consume()
        elif how == "timeout":
            with pytest.raises(TimeoutError), anyio.fail_after(5):
                await consume()
        else:
            await consume()
    assert running == 0
    assert idle(scheduler)
    if kind == "async" and how in ("break", "raise", "nothing"):
        assert source.finished  # closed by then, whatever a garbage collector does
    assert await scheduler.map(double, range(3)) == [0, 2, 4]


async def test_what_closing_the_source_raises_is_raised() -> None:
    scheduler = Scheduler(concurrency=2)

    async def source() -> AsyncIterator[int]:
        try:
            for n in itertools.count():
                yield n
        finally:
            await anyio.lowlevel.checkpoint()
            raise Boom("closing")

    with pytest.raises(Boom, match="closing"):  # noqa: PT012
        async with scheduler.map(double, source()) as results:
            async for _ in results:
                break
    with pytest.raises(ValueError, match="mine"):  # noqa: PT012
        async with scheduler.map(double, source()) as results:
            async for _ in results:
                raise ValueError("mine")
    assert idle(scheduler)


async def test_a_source_that_was_closed_before_gives_nothing() -> None:
    items = each(range(5))
    assert await anext(items) == 0
    await items.aclose()  # type: ignore[attr-defined]
    assert await Scheduler().map(double, items) == []


async def test_the_body_may_catch_the_failure_and_still_leave() -> None:
    scheduler = Scheduler(concurrency=2)

    async def call(n: int) -> None:
        await anyio.sleep(n)
        raise Boom

    async with scheduler.map(call, range(10)) as results:
        for _ in range(2):
            with pytest.raises(Boom):
                await anext(results)
    assert idle(scheduler)


async def test_a_stream_ends_and_stays_at_its_end() -> None:
    async with Scheduler().map(double, [1]) as results:
        assert await anext(results) == 2
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(results)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)  # trio has no such cancel
async def test_a_call_cancelled_by_somebody_else_is_not_lost() -> None:
    scheduler, never = Scheduler(concurrency=2), asyncio.get_running_loop().create_future()
    never.cancel()

    async def call(n: int) -> int:
        return await never if n == 1 else n

    with pytest.raises(RuntimeError, match="cancelled") as caught:
        await scheduler.map(call, range(4))
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    async with scheduler.as_completed(call, range(4)) as outcomes:
        ended = {outcome.item: outcome.error async for outcome in outcomes}
    assert [type(ended[n]) for n in range(4)] == [type(None), RuntimeError] + 2 * [type(None)]
    results = await scheduler.gather(*map(call, range(4)), return_exceptions=True)
    assert [type(result) for result in results] == [int, RuntimeError, int, int]
    with pytest.raises(asyncio.CancelledError):  # in the caller's own task it is the caller's
        await scheduler.submit(call, 1)
    assert idle(scheduler)


# The tests above must catch these

stop, supervise = Workers.stop, Workers._supervise


def stops_and_cancels_nothing(self: Workers, error: BaseException | None = None) -> None:
    crew, self._crew = self._crew, None
    stop(self, error)
    self._crew = crew


async def leaves_the_source_open(self: Workers) -> None:
    self._close = None
    await supervise(self)


def takes_them_as_they_end(self: Map[Any]) -> Any:
    return self._done.pop(next(iter(self._done), 0), END)


def opens_a_wide_window(self: Workers) -> None:
    self.window = 100


async def leaves_and_waits_for_all(self: _ManyCalls[Any], *raised: object) -> None:
    await self._end()


@pytest.mark.parametrize(
    ("where", "name", "mutant", "test", "args"),
    table(
        ("a failure that cancels nothing", Workers, "stop", stops_and_cancels_nothing,
         test_a_failure_ends_the_rest_and_is_raised_as_it_is, ("sync", False)),
        ("a source that stays open", Workers, "_supervise", leaves_the_source_open,
         test_leaving_early_ends_the_children, ("async", "map", "break")),
        ("a wide window", Workers, "open_window", opens_a_wide_window,
         test_a_slow_consumer_slows_an_endless_source, ("async", "map")),
        ("a window that does not follow", Workers, "_resize", nothing,
         test_a_stream_uses_all_slots_and_those_that_are_added, ("map",)),
        ("no waiting for room", Shell, "room", nothing_awaited,
         test_map_waits_for_room_in_the_queue, ("sync", 1)),
        ("results as they end", Map, "_take", takes_them_as_they_end,
         test_results_come_in_the_order_of_the_items, ("sync",)),
        ("leaving without a stop", _ManyCalls, "__aexit__", leaves_and_waits_for_all,
         test_leaving_early_ends_the_children, ("sync", "as_completed", "raise")),
    ),
)  # fmt: skip
def test_mutants_are_caught(
    where: type, name: str, mutant: Mutant, test: Callable[..., Awaitable[None]],
    args: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async def bounded() -> None:
        with anyio.fail_after(1e4):
            await test(*args)

    run("asyncio", bounded)
    monkeypatch.setattr(where, name, mutant)
    with pytest.raises((AssertionError, ExceptionGroup, HeadwayError, TimeoutError)):
        run("asyncio", bounded)
