"""One shell for all threads and loops: limits hold, forks are told, nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import pytest

from headway import Limits, Rate, SchedulerClosed, WrongLoop
from headway._core.queue.job import Job
from headway.sync import Scheduler
from headway.sync._shell import CommonShell
from headway.testing import FakeProvider, assert_idle


def test_what_goes_on_late_is_told_under_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread gets its permit and stands still, before it waits for it or after."""
    told: list[bool] = []
    with Scheduler("100/s", concurrency=1) as scheduler:
        shell: Any = scheduler._shell
        locked, sent_late, goes_on = shell.lock._is_owned, shell.state.sent_late, shell.goes_on

        def tell(job: Job, now: float) -> None:
            told.append(locked())
            sent_late(job, now)

        def stand_still(job: Job) -> None:
            clock = shell.clock
            with monkeypatch.context() as later:
                later.setattr(shell, "clock", lambda: clock() + 0.002)
                goes_on(job)

        monkeypatch.setattr(shell.state, "sent_late", tell)
        monkeypatch.setattr(shell, "goes_on", stand_still)
        assert [*scheduler.map(lambda each: each, [1, 2, 3])] == [1, 2, 3]
    assert told == [True] * 3


@pytest.mark.parametrize("waits", [False, True])
def test_who_is_interrupted_when_told_late_holds_nothing(
    waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    scheduler = Scheduler("100/s", concurrency=1)
    if waits:  # for the pace
        scheduler.submit(int)
    monkeypatch.setattr(scheduler._shell.state, "sent_late", interrupt)
    monkeypatch.setattr("headway._runtime.shell._AT_ONCE", -1.0)
    with pytest.raises(KeyboardInterrupt):
        scheduler.submit(int)
    assert_idle(scheduler)
    scheduler.close()


@pytest.mark.parametrize("frees", ["an end", "the end of a lease", "resume", "set_limits"])
def test_who_has_not_begun_to_wait_is_not_missed(
    frees: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread stands still after its submission, while what it needs comes free."""
    may_wait, may_end = threading.Event(), threading.Event()
    park = CommonShell._is_parked

    def late(self: CommonShell, job: Job, waiter: Any) -> bool:
        may_wait.wait(20)
        return park(self, job, waiter)

    with Scheduler(concurrency=1) as scheduler, ThreadPoolExecutor() as threads:
        lease = scheduler.lease()
        if frees == "resume":
            scheduler.pause()
        elif frees == "an end":
            threads.submit(scheduler.submit, may_end.wait, 20)
        else:
            lease.__enter__()
        while scheduler.statistics().in_flight != (frees != "resume"):
            pass
        monkeypatch.setattr(CommonShell, "_is_parked", late)
        waits = threads.submit(scheduler.submit, lambda: 1)
        while scheduler.statistics().queued != 1:
            pass
        may_end.set()
        if frees == "resume":
            scheduler.resume()
        elif frees == "set_limits":
            scheduler.set_limits(concurrency=2)
        elif frees == "the end of a lease":
            lease.__exit__(None, None, None)
        while frees == "an end" and scheduler.statistics().in_flight:
            pass
        may_wait.set()
        try:
            assert waits.result(5) == 1
        finally:
            scheduler.clear()
            if frees == "set_limits":
                lease.__exit__(None, None, None)


@pytest.mark.parametrize("algorithm", ["sliding_log", "fixed_window", "token_bucket"])
def test_64_threads_and_two_loops_keep_every_limit(algorithm: Any) -> None:
    limits = Limits(Rate(100, per=0.25), concurrency=12)
    provider = FakeProvider(limits, algorithm=algorithm, latency=(0.0, 0.002))
    http = httpx.Client(transport=provider.transport(), base_url=provider.base_url)

    def ask(n: int) -> int:
        return http.post("/x", json={"n": n}).status_code

    async def many(first: int) -> None:
        async with httpx.AsyncClient(
            transport=provider.transport(), base_url=provider.base_url
        ) as aio:
            for n in range(first, first + 10):
                await scheduler.aio.submit(aio.post, "/x", json={"n": n})

    # A busy machine delays threads by more than a network does.
    rate = Rate(100, per=0.25, jitter=0.1)
    with http, Scheduler(rate, concurrency=12) as scheduler, ThreadPoolExecutor(64) as threads:
        jobs = [threads.submit(scheduler.submit, ask, n) for n in range(180)]
        loops = [threads.submit(asyncio.run, many(first)) for first in (180, 190)]
        for job in [*jobs, *loops]:
            job.result()
    provider.assert_no_refusals()
    provider.assert_within_limits()
    provider.assert_all_answered(200)
    assert_idle(scheduler)


def test_jobs_go_by_priority_and_then_by_age_whatever_thread_they_are_in() -> None:
    order: list[str] = []
    with Scheduler(concurrency=1) as scheduler, ThreadPoolExecutor(4) as threads:
        with scheduler.lease():
            jobs = []
            for name, priority in [("late", 0), ("later", 0), ("first", 5)]:
                view = scheduler.with_options(priority=priority)
                jobs.append(threads.submit(view.submit, order.append, name))
                while scheduler.statistics().queued < len(jobs):
                    pass
        for job in jobs:
            job.result(5)
    assert order == ["first", "late", "later"]


def test_a_scheduler_that_nobody_holds_leaves_nothing() -> None:
    before = threading.active_count()
    scheduler = Scheduler("1000/s", concurrency=1)
    scheduler.submit(len, "a")
    shell = weakref.ref(scheduler._shell)
    home: Any = scheduler._shell._home
    del scheduler
    gc.collect()
    assert shell() is None
    home._thread.join(5)
    assert threading.active_count() == before


def told_in_a_fork(scheduler: Scheduler) -> bool:
    try:
        scheduler.submit(len, "a")
    except WrongLoop as error:
        scheduler.close()
        return "was made in the process that this one was forked from" in error.what
    return False


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_is_told_and_does_not_hang() -> None:
    unused, used = Scheduler(), Scheduler(concurrency=1)
    with used.lease(), used._shell.lock:  # as another thread of ours may hold it
        child = os.fork()
        if not child:
            status = 1
            try:
                status = 0 if told_in_a_fork(unused) and told_in_a_fork(used) else 2
                gc.collect()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert used.submit(len, "a") == 1  # and here it is as it was
    used.close()


def test_what_is_interrupted_leaves_no_slot_and_no_place() -> None:
    with Scheduler(concurrency=1) as scheduler:
        with pytest.raises(KeyboardInterrupt):
            scheduler.submit(_interrupt)
        assert scheduler.statistics().in_flight == 0
        with pytest.raises(SystemExit), scheduler.lease():
            raise SystemExit
        assert scheduler.submit(len, "a") == 1


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_who_leaves_by_an_interrupt_does_not_wait() -> None:
    held, begun = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        held.wait(5)

    scheduler = Scheduler(concurrency=1)
    with ThreadPoolExecutor(3) as threads:
        running = threads.submit(scheduler.submit, hold)
        assert begun.wait(5)
        waiting = threads.submit(scheduler.submit, hold)
        while not scheduler.statistics().queued:
            pass
        with pytest.raises(KeyboardInterrupt), scheduler:
            raise KeyboardInterrupt
        with pytest.raises(SchedulerClosed, match="was closed while this job waited"):
            waiting.result(5)
        held.set()
        running.result(5)  # what runs goes on to its end


def test_a_sink_cannot_wait_for_itself() -> None:
    failed: list[BaseException] = []
    told = threading.Event()

    def sink(event: object) -> None:
        for wait in (scheduler.close, scheduler.idle):
            try:
                wait()
            except WrongLoop as error:
                failed.append(error)
        told.set()

    scheduler = Scheduler(on_event=sink)
    scheduler.submit(len, "a")
    assert told.wait(5)
    assert "told to sinks too. Fix: wait in a thread of yours." in str(failed[0])
    scheduler._shell.end()


@pytest.mark.parametrize("door", ["submit", "lease", "map", "gather"])
def test_a_sink_cannot_wait_for_a_permit(door: str) -> None:
    failed: list[BaseException] = []
    told = threading.Event()
    doors = {
        "submit": lambda: scheduler.submit(len, "a"),
        "lease": lambda: scheduler.lease().__enter__(),
        "map": lambda: list(scheduler.map(len, ["a"])),
        "gather": lambda: scheduler.gather(list),
    }

    def sink(event: object) -> None:
        if not told.is_set():
            try:
                doors[door]()
            except WrongLoop as error:
                failed.append(error)
            told.set()

    scheduler = Scheduler(concurrency=1, on_event=sink)
    with scheduler.lease():
        assert scheduler.try_lease() is None
        assert told.wait(5)
    assert str(failed[0]) == (
        "a sink of events made a call that has to wait, in the thread that wakes those who wait. "
        "Fix: make the call in a thread of yours."
    )
    scheduler.close()
    assert_idle(scheduler)


def test_an_exit_of_a_sink_is_raised_in_a_call() -> None:
    def sink(event: object) -> None:
        raise SystemExit(4)

    scheduler = Scheduler(on_event=sink)
    with pytest.raises(SystemExit):
        deque(scheduler.map(time.sleep, [0.001] * 1000))
    assert scheduler.statistics().in_flight == 0
    scheduler.close()


def test_a_task_whose_loop_was_lost_holds_nobody_up() -> None:
    scheduler = Scheduler(concurrency=1)
    kept = []

    async def call() -> None:
        pass

    async def leave() -> None:
        kept.append(asyncio.ensure_future(scheduler.aio.submit(call)))
        await asyncio.sleep(0.01)

    with scheduler.lease():
        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave())
        kept[0]._log_destroy_pending = False
        loop.close()
        assert scheduler.statistics().queued == 1
    assert scheduler.submit(len, "a") == 1
    scheduler.close()
    kept[0].get_coro().close()


@pytest.mark.anyio
async def test_several_tasks_wait_for_the_end_on_their_own_loops() -> None:
    with Scheduler(concurrency=1) as scheduler:
        with anyio.move_on_after(0.01):
            async with scheduler.aio.lease():
                await scheduler._inner.idle()
        await scheduler._inner.idle()


def test_several_threads_may_close_it_and_wait_for_it() -> None:
    scheduler = Scheduler(concurrency=1)
    held, begun = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        held.wait(5)

    with ThreadPoolExecutor(8) as threads:
        running = threads.submit(scheduler.submit, hold)
        assert begun.wait(5)
        ends = [threads.submit(end) for end in (scheduler.close, scheduler.idle) * 3]
        held.set()
        for job in [running, *ends]:
            job.result(5)
    assert scheduler.statistics().succeeded == 1
