"""What was made before a scheduler is closed reaches every sink before the close returns."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from hook import Recorder

from headway import Scheduler, SchedulerClosed, sync
from headway.events import Ended, Event, Finished, LimitChanged, Queued, Started
from headway.hints import LimitHint


async def ask(n: int) -> int:
    return n


def of_jobs(seen: list[Event]) -> dict[int, list[type[Event]]]:
    """The events of each job, by its number."""
    found: dict[int, list[type[Event]]] = {}
    for event in seen:
        if isinstance(event, Queued | Started | Finished):
            found.setdefault(event.job, []).append(type(event))
    return found


@pytest.mark.anyio
async def test_aclose_returns_when_every_sink_has_every_event() -> None:
    one: list[Event] = []
    other: list[Event] = []
    async with Scheduler(concurrency=1, on_event=[one.append, other.append]) as scheduler:
        await scheduler.submit(ask, 1)
    assert of_jobs(one) == {1: [Queued, Started, Finished]}
    assert other == one


@pytest.mark.anyio
async def test_aclose_tells_what_nobody_has_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Event] = []
    hook = Recorder()
    told: list[type[Event]] = []
    monkeypatch.setattr(Recorder, "__call__", lambda self, event: told.append(type(event)))
    async with Scheduler("10/s", on_event=[seen.append, hook]) as scheduler:
        await scheduler.submit(ask, 1)
        shell = scheduler._shell
        hints = [LimitHint("requests", limit=5, remaining=None, reset=None, per=1)]
        shell.state.observe(hints, shell.state.flow(None), shell.now())
    assert isinstance(seen[-1], LimitChanged)
    assert told == [type(event) for event in seen]


@pytest.mark.anyio
async def test_aclose_waits_for_no_sink_where_there_is_nothing_to_tell() -> None:
    async with Scheduler(on_event=print):
        pass
    scheduler = Scheduler()
    await scheduler.submit(ask, 1)
    await scheduler.aclose()
    await scheduler.aclose()


@pytest.mark.anyio
async def test_several_close_at_once_and_a_sink_that_raises_keeps_none_of_them() -> None:
    seen: list[Event] = []

    def leave(event: Event) -> None:
        seen.append(event)
        raise SystemExit

    scheduler = Scheduler(concurrency=1, on_event=leave)
    await scheduler.submit(ask, 1)
    async with anyio.create_task_group() as group:
        group.start_soon(scheduler.aclose)
        group.start_soon(scheduler.aclose)
    assert of_jobs(seen) == {1: [Queued, Started, Finished]}


def test_events_of_many_threads_come_once_in_order_and_before_the_close_returns() -> None:
    seen: list[Event] = []
    with (
        sync.Scheduler(concurrency=3, on_event=seen.append) as scheduler,
        ThreadPoolExecutor(4) as threads,
    ):
        calls = [threads.submit(scheduler.submit, abs, n) for n in range(200)]
        assert [each.result() for each in calls] == [*range(200)]
    assert of_jobs(seen) == {n: [Queued, Started, Finished] for n in range(1, 201)}


def test_who_is_interrupted_has_told_of_the_jobs_that_it_ended() -> None:
    seen: list[Event] = []
    scheduler = sync.Scheduler(concurrency=1, on_event=seen.append)

    def wait() -> None:
        with pytest.raises(SchedulerClosed):
            scheduler.submit(abs, 1)

    with scheduler.lease():  # which goes on: who interrupts does not wait
        thread = threading.Thread(target=wait)
        thread.start()
        while not scheduler._shell.parked:
            time.sleep(0)
        scheduler.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        ends = [event for event in seen if isinstance(event, Finished)]
        assert [(event.job, event.outcome) for event in ends] == [(2, Ended.CANCELLED)]
        thread.join()
    scheduler.close()
    assert of_jobs(seen) == {1: [Queued, Started, Finished], 2: [Queued, Finished]}


def test_a_forked_process_tells_of_its_own_events_and_needs_no_lock_of_its_parents() -> None:
    seen: list[Event] = []
    shell = sync.Scheduler(on_event=seen.append)._shell
    parents = shell.lock
    holder = threading.Thread(target=parents.acquire)  # and never released
    shell.state.events.append(Event(1))
    shell.sinks.hand()
    shell.state.events.append(Event(2))
    holder.start()
    holder.join()
    shell.forked()
    assert shell.sinks._lock is shell.lock is not parents
    shell.state.events.append(Event(3))
    shell.sinks.finish()
    assert seen == [Event(3)]
