"""Events are handed on to any number of sinks, none of which runs in the task that polls."""

from __future__ import annotations

import asyncio
import logging
import queue
from threading import RLock
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from headway import InvalidArgument, Scheduler
from headway.events import Event, Finished, Queued, Started
from headway.hooks import sinks
from headway.hooks.log import Log

pytestmark = pytest.mark.anyio


async def ask(n: int) -> int:
    return n


async def turn() -> None:
    for _ in range(3):
        await anyio.lowlevel.checkpoint()


async def test_every_sink_gets_every_event_in_order() -> None:
    one: list[Event] = []
    other: list[Event] = []
    scheduler = Scheduler("100/s", on_event=[one.append, other.append])
    await scheduler.map(ask, range(5))
    await turn()
    assert one == other
    for number in range(1, 6):
        assert [type(event) for event in one if getattr(event, "job", 0) == number] == [
            Queued, Started, Finished,
        ]  # fmt: skip
    assert sorted(one, key=lambda event: event.at) == one


@pytest.mark.parametrize("door", ["submit", "map", "lease", "try_lease"])
@pytest.mark.parametrize("limits", [{}, {"concurrency": 1}, {"requests": "100/s"}])
async def test_a_call_that_starts_at_once_is_told_of_before_it_ends(limits: Any, door: str) -> None:
    told: list[type[Event]] = []
    meanwhile: list[list[type[Event]]] = []

    async def call(n: int) -> None:
        await turn()
        meanwhile.append(told.copy())

    scheduler = Scheduler(**limits, on_event=lambda event: told.append(type(event)))
    if door == "submit":
        await scheduler.submit(call, 1)
    elif door == "map":
        await scheduler.map(call, [1])
    else:
        lease = scheduler.lease() if door == "lease" else scheduler.try_lease()
        assert lease is not None
        async with lease:
            await call(1)
    assert meanwhile == [[Queued, Started]]


async def test_a_sink_gets_what_it_wants_and_nothing_else_is_made() -> None:
    class Ends:
        def __init__(self, *wants: type[Event]) -> None:
            self.wants = {*wants}
            self.told: list[Event] = []

        def __call__(self, event: Event) -> None:
            self.told.append(event)

    ends, starts, every = Ends(Finished), Ends(Started), Ends(Event)
    for given in ([ends], [starts, ends]):
        async with Scheduler(on_event=given) as scheduler:
            await scheduler.submit(ask, 1)
        assert scheduler._shell.state._traces_starts is (starts in given)
    assert [*map(type, ends.told)] == [Finished, Finished]
    assert [*map(type, starts.told)] == [Started]
    async with Scheduler(on_event=every) as scheduler:
        await scheduler.submit(ask, 1)
    assert [*map(type, every.told)] == [Queued, Started, Finished]
    with pytest.raises(InvalidArgument, match=r"has 3 in its wants, which is no event\. Fix: want"):
        Scheduler(on_event=Ends(3))  # type: ignore[arg-type]


async def test_no_sink_runs_in_the_task_that_polls(anyio_backend_name: str) -> None:
    def task() -> object:
        if anyio_backend_name == "trio":
            return trio.lowlevel.current_task()
        return asyncio.current_task()

    tasks: list[object] = []
    scheduler = Scheduler("100/s", on_event=lambda event: tasks.append(task()))
    assert await scheduler.submit(ask, 1) == 1
    assert tasks == []  # nothing was waited for
    await turn()
    assert len(tasks) == 3
    assert task() not in tasks


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a bug of the sink's"),
        asyncio.CancelledError(),  # of a future that it looked at
    ],
)
async def test_a_sink_that_raises_is_told_of_once(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise error

    scheduler = Scheduler(concurrency=1, on_event=(broken, seen.append))
    with caplog.at_level(logging.ERROR, "headway"):
        assert await scheduler.map(ask, range(10)) == list(range(10))
        await turn()
    assert len(seen) == 30
    (record,) = caplog.records
    assert record.getMessage().startswith("on_event= raised for Queued(")
    assert record.getMessage().endswith("; the job goes on, and this is told once")


async def test_events_from_outside_a_job_are_told_too() -> None:
    seen: list[Event] = []
    scheduler = Scheduler("1/s", on_event=seen.append)
    with anyio.move_on_after(1.5):
        await scheduler.map(ask, range(10))
    await turn()
    assert {event.outcome for event in seen if isinstance(event, Finished)} == {"ok", "cancelled"}


@pytest.mark.parametrize("given", ["x", 3, [print, "x"], [None]])
async def test_what_is_no_sink(given: object) -> None:
    with pytest.raises(TypeError, match=r"is not a function. Fix: on_event=print"):
        Scheduler(on_event=given)  # type: ignore[arg-type]


async def test_an_exit_that_a_sink_raises_reaches_the_next_who_polls() -> None:
    class Quit(BaseException):
        pass

    def leave(event: Event) -> None:
        if isinstance(event, Finished):
            raise Quit

    scheduler = Scheduler("100/s", concurrency=1, on_event=leave)
    assert await scheduler.submit(ask, 1) == 1
    await turn()
    with pytest.raises(Quit):
        await scheduler.submit(ask, 2)
    assert scheduler.statistics().in_flight == 0


class Watch:
    """A clock, and sinks that take so many seconds of it for an event."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(sinks.time, "perf_counter", lambda: self.now)
        self.seen: list[Event] = []

    def takes(self, *seconds: float) -> sinks.Sink:
        left = [*seconds]

        def sink(event: Event) -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]
            self.seen.append(event)

        return sink


@pytest.mark.parametrize(
    ("seconds", "tells"),
    [
        ([3.0, 0.0], True),  # blocks, once
        ([0.02], True),  # is slow, every time
        ([0.2, 0.0], False),  # was held up by the machine
        ([0.0009], False),
    ],
)
async def test_a_sink_that_blocks_or_is_slow_is_told_of_once_and_the_rest_goes_on(
    seconds: list[float],
    tells: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = Watch(monkeypatch)
    scheduler = Scheduler("100/s", on_event=[watch.takes(*seconds), watch.seen.append])
    with caplog.at_level(logging.WARNING, "headway"):
        assert await scheduler.map(ask, range(30)) == list(range(30))
        await turn()
    assert len(watch.seen) == 2 * 90
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == tells
    if tells:
        assert "sink at 0x" in told[0]
        assert " is slow: it took " in told[0]
        assert told[0].endswith(
            "and the event loop stood still meanwhile. This is told once. Fix: on_event=queue.put "
            "of a queue.SimpleQueue, and a thread that does the work"
        )


async def test_what_the_fix_for_a_slow_sink_says_works() -> None:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    assert await Scheduler("100/s", on_event=events.put).submit(ask, 1) == 1
    await turn()
    assert [type(events.get_nowait()) for _ in range(3)] == [Queued, Started, Finished]


async def test_events_are_told_once_though_a_sink_raised_an_exit() -> None:
    class Quit(BaseException):
        pass

    def leave(event: Event) -> None:
        if isinstance(event, Finished) and event.job == 1:
            raise Quit

    seen: list[Event] = []
    scheduler = Scheduler("100/s", concurrency=1, on_event=[leave, seen.append])
    assert await scheduler.submit(ask, 1) == 1
    await turn()
    with pytest.raises(Quit):
        await scheduler.submit(ask, 2)
    assert await scheduler.submit(ask, 3) == 3
    await turn()
    told = [(type(event), getattr(event, "job", 0)) for event in seen]
    assert len(told) == len(set(told))
    assert [job for kind, job in told if kind is Finished] == [1, 2, 3]


class Bench:
    """Sinks, and what they asked the event loop to call."""

    def __init__(self, *given: sinks.Sink) -> None:
        self.events: list[Event] = []
        self.calls: list[Any] = []
        self.sinks = sinks.Sinks(given, None, self.events, RLock(), self._call)

    def _call(self, call: Any) -> bool:
        self.calls.append(call)
        return True

    def turn(self) -> None:
        calls, self.calls[:] = [*self.calls], []
        for call in calls:
            call()


async def test_what_comes_while_the_sinks_are_to_be_called_goes_with_it() -> None:
    told: list[Event] = []

    def sink(event: Event) -> None:
        told.append(event)
        if event.at == 2:
            bench.events.append(Event(3))  # of a call that it made

    bench = Bench(sink)
    for _ in range(2):
        assert not bench.sinks.underway
        bench.events.append(Event(1))
        bench.sinks.hand()
        assert bench.sinks.underway
        bench.events.append(Event(2))
        assert len(bench.calls) == 1
        bench.turn()
    assert told == [Event(1), Event(2), Event(3)] * 2
    assert not bench.calls


async def test_events_come_after_an_interrupt_between_two_sinks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted() -> float:
        monkeypatch.undo()
        raise KeyboardInterrupt

    told: list[Event] = []
    bench = Bench(told.append)
    monkeypatch.setattr(sinks.time, "perf_counter", interrupted)
    bench.events.append(Event(1))
    bench.sinks.hand()
    with pytest.raises(KeyboardInterrupt):
        bench.turn()
    bench.events.append(Event(2))
    assert not bench.sinks.underway
    bench.sinks.hand()
    bench.turn()
    assert told[-1] == Event(2)


async def test_the_log_is_not_told_of_each_job() -> None:
    class Counting(Log):
        def __call__(self, event: Event) -> None:
            logged.append(type(event))
            super().__call__(event)

    logged: list[type[Event]] = []
    seen: list[Event] = []
    scheduler = Scheduler(on_event=[Counting(), seen.append])
    await scheduler.map(ask, range(5))
    await turn()
    assert len(seen) >= 15
    assert not {Queued, Started, Finished} & {*logged}


def test_events_of_a_loop_that_ended_come_in_the_next() -> None:
    seen: list[Event] = []
    scheduler = Scheduler(concurrency=1, on_event=seen.append)  # no pace to wait for
    for number in (1, 2):
        loop = asyncio.new_event_loop()
        task = loop.create_task(scheduler.submit(ask, number))
        loop.call_soon(loop.stop)
        loop.run_forever()  # one turn, and none for the sinks
        assert task.result() == number
        loop.close()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(scheduler.submit(ask, 3))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert [(type(event), getattr(event, "job", 0)) for event in seen] == [
        (kind, number) for number in (1, 2, 3) for kind in (Queued, Started, Finished)
    ]
