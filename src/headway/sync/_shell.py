"""The shell of a scheduler for all threads and event loops of a process.

Whoever calls decides in its own thread, by the one core, under the lock of the shell: a call that
need not wait changes no thread. Who has to wait is woken by whoever's poll admits it. The leader,
who sleeps until the moment that a poll named, is the event loop at `Home`.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, suppress
from typing import Any

from headway._core.queue.job import FAILED, QUEUED, Job
from headway._core.state import SchedulerState
from headway._runtime.attempt import Attempt
from headway._runtime.calls import Options, Stopped
from headway._runtime.clock import running_loop
from headway._runtime.shell import INFINITY, Shell, of_another_process
from headway.errors import SchedulerClosed, WrongLoop
from headway.hints import Refusal
from headway.providers import Provider
from headway.sync._home import Home
from headway.sync._waiters import CommonFlag, LoopWaiter, ThreadWaiter, TimeOver

__all__ = ["CommonShell"]


class CommonShell(Shell):
    """One state machine for callers in any thread and on any event loop, at the same time."""

    def __init__(self, state: SchedulerState, **options: Any) -> None:
        super().__init__(state, **options)
        self._home: Home | None = None
        self._to_serve = False  # the loop at home will serve the ports
        self._closing = threading.Lock()  # held by who ends what is at home

    # Jobs

    def check_open(self) -> None:
        """Before anything new. Raises `SchedulerClosed`, and `WrongLoop` in a forked process."""
        self.check_process()
        if self.closed:
            raise SchedulerClosed(
                "this Scheduler is closed: close() was called",
                fix="make a new Scheduler, or close it later.",
            )

    def new_job(self, options: Options, tokens: float | None) -> Job:
        """A new job, which a thread waits for where the `options` say so."""
        with self.lock:
            job = super().new_job(options, tokens)
        if options.blocks:
            job.waiter = ThreadWaiter()
        return job

    def enter(self, job: Job) -> bool:
        """Submit `job`; True where it holds its permit. Raises `WrongLoop` in a forked process."""
        with self.lock:
            admitted = super().enter(job)
        if admitted:
            self.goes_on(job)  # for the lock itself may have been waited for
        return admitted

    def enter_at_once(self, job: Job) -> bool:
        """Submit `job`, which may not wait; whether it holds its permit."""
        with self.lock:
            return super().enter_at_once(job)

    def time_limit(self, job: Job, seconds: float) -> AbstractContextManager[object, bool]:
        """Of a thread: it ends the waiting of `job`, until its deadline, and nothing else."""
        if isinstance(job.waiter, ThreadWaiter):
            return suppress(TimeOver)
        return super().time_limit(job, seconds)

    async def _park(self, job: Job) -> None:
        of_thread = job.waiter if isinstance(job.waiter, ThreadWaiter) else None
        try:
            while job.status == QUEUED:
                if of_thread is not None:
                    self.check_may_wait()
                    if not self._is_parked(job, of_thread):
                        break
                    late = INFINITY if job.deadline is None else job.deadline - self.clock()
                    of_thread.wait(late)
                else:
                    waiter = LoopWaiter(lambda: self.soon(Attempt(self, job).never_sent))
                    if not self._is_parked(job, waiter):
                        break
                    await waiter
        except BaseException:
            self._leave_queue(job, of_thread)
            Attempt(self, job).never_sent()
            raise
        self._leave_queue(job, of_thread)

    def _is_parked(self, job: Job, waiter: LoopWaiter | ThreadWaiter) -> bool:
        """Park `job`; False where it was admitted or has ended meanwhile."""
        with self.lock:
            if job.status != QUEUED:
                return False
            job.waiter = waiter
            self.parked[job] = None
            self.poll()  # what ended since it was queued may have seen nobody wait
            return job.status == QUEUED

    def _leave_queue(self, job: Job, of_thread: ThreadWaiter | None) -> None:
        with self.lock:
            self.parked.pop(job, None)
            job.waiter = of_thread

    def give_up(self, job: Job, error: Exception) -> None:
        """End the waiting of `job`, where it waits, with `error`."""
        with self.lock:
            if job.status == QUEUED:
                self.state.cancel(job, self.clock())
                job.status = FAILED
                job.error = error
                if job.waiter is not None:
                    job.waiter.set()

    def refusal(self, error: Exception) -> Refusal:
        """What `error` says, by the user's predicate first."""
        return super().refusal(error.error if isinstance(error, Stopped) else error)

    # What changes the state, under the lock

    def sent_late(self, job: Job) -> None:
        """`job` counts from now on."""
        with self.lock:
            super().sent_late(job)

    def hear(self, result: object, job: Job) -> None:
        """Follow what `result` of `job` says of the limits."""
        with self.lock:
            super().hear(result, job)

    def serve(self) -> None:
        """A transport serves this shell from now on."""
        with self.lock:
            super().serve()

    def introduce(self, provider: Provider | None, key: Any = None) -> None:
        """`provider` is whom the jobs of `key` talk to."""
        with self.lock:
            super().introduce(provider, key)

    def unseen_ended(self, job: Job) -> None:
        """The attempt of `job`, which no transport could see, has ended."""
        with self.lock:
            super().unseen_ended(job)

    def poll(self) -> None:
        """Start what may start, wake those whom that concerns, and tell the events."""
        with self.lock:
            super().poll()

    def run_began(self) -> None:
        """A run of many calls has begun."""
        with self.lock:
            super().run_began()

    def run_ended(self) -> None:
        """A run of many calls has ended."""
        with self.lock:
            super().run_ended()

    # Those who wait for more than a permit

    def flag(self) -> CommonFlag:
        """What callers of all kinds wait for, and a poll sets."""
        return CommonFlag()

    # What happens at home

    @property
    def loop(self) -> object:
        """The event loop that runs, and None in a thread without one: it belongs to none."""
        try:
            return running_loop()[1]
        except RuntimeError:
            return None

    def tick(self) -> None:
        """The leader's turn."""
        with self.lock:
            self._armed = INFINITY
            try:
                self.poll()
            except BaseException as error:  # a sink's exit: for a caller, not for the loop here
                self.sinks.keep(error)

    def soon(self, callback: Callable[[], object]) -> None:
        """Have `callback` called at home, under the lock."""

        def call() -> None:
            with self.lock:
                callback()

        if self._home is not None:
            self._home.soon(call)

    def next_turn(self, callback: Callable[[], object]) -> bool:
        """Have `callback` called at home; False where that has ended."""
        return self._home is not None and self._home.soon(callback)

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """Run `work` as a task at home, each of whose steps is taken under the lock."""

        async def locked() -> None:
            await _Locked(work(), self.lock)

        assert self._home is not None
        return self._home.run(locked())

    def serve_ports(self) -> None:
        """Ask those who decide limits elsewhere, at home: what wakes them is of the loop there."""
        if self._home is None or self._to_serve:
            return
        if self._home.here:
            super().serve_ports()
        else:
            self._to_serve = True
            self.soon(self._serve_at_home)

    def _serve_at_home(self) -> None:
        self._to_serve = False
        super().serve_ports()

    def _bind(self) -> None:
        with self.lock:
            self.check_process()
            if self._home is not None:
                return
            old = self.time()
            self._home = home = Home(self)
            self._loop, self.clock, self._current = home.loop, time.monotonic, lambda: home.loop
            self._last = now = self.clock()
            self._offset = 0.0
            self._moved(now - old)
            self._leader: Any = _Leader(self)

    def check_process(self) -> None:
        """Raise `WrongLoop` in a process that was forked from that of this scheduler."""
        if self.of_parent:
            raise of_another_process(shares=self.leave is not None)

    def forked(self) -> None:
        """This is a process that was forked: the threads are the parent's, and what they hold."""
        super().forked()
        self._closing = threading.Lock()
        self._home = None

    def close(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `close` at home, then end what is there. Who waits for anything after that gets a
        `SchedulerClosed`. In a forked process nothing is there. Raises `WrongLoop` where it would
        wait for itself.
        """
        self._check_away()
        self.closed = True
        if self.of_parent:
            return
        with self._closing:
            try:
                self.at_home(close)
            finally:
                self.end()

    def at_home(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `work` at home, where anything was begun. Raises `WrongLoop` where that would wait
        for itself, and in a forked process.
        """
        self.check_process()
        self._check_away()
        home = self._home
        if home is None or home.ended:
            return
        try:
            home.portal.call(work)
        except (CancelledError, RuntimeError):
            if not home.ended:  # else another thread has closed it, and there is nothing left
                raise

    def check_may_wait(self) -> None:
        """Before a thread waits for a permit. Raises `WrongLoop` at home, which wakes who waits."""
        if self._at_home:
            raise WrongLoop(
                "a sink of events made a call that has to wait, in the thread that wakes those who "
                "wait",
                fix="make the call in a thread of yours.",
            )

    @property
    def _at_home(self) -> bool:
        return self._home is not None and self._home.here

    def _check_away(self) -> None:
        if self._at_home:
            raise WrongLoop(
                "a sink of events asked to wait until all is done, which is told to sinks too",
                fix="wait in a thread of yours.",
            )

    def end(self) -> None:
        """End what is at home now; who still waits gets a `SchedulerClosed`."""
        self.closed = True
        for job in [*self.parked]:
            self.give_up(job, SchedulerClosed("this Scheduler was closed while this job waited"))
        if self._home is not None and not self._home.ended:
            self._home.end()
        self.sinks.finish()


class _Leader:
    """Who sleeps until the moment that a poll named: the loop at home, whose waiter this is too."""

    def __init__(self, shell: CommonShell) -> None:
        self._shell = weakref.ref(shell)
        self.waiter = self

    def set(self) -> None:
        """There is an earlier moment to sleep to."""
        shell = self._shell()
        if shell is not None and shell._home is not None:
            shell._armed = shell._wake_at
            shell._home.wake_at(shell._armed)


class _Locked:
    """Awaits `work`, each step of which is taken under `lock`."""

    def __init__(
        self, work: Coroutine[Any, Any, None], lock: AbstractContextManager[object]
    ) -> None:
        self._work = work
        self._lock = lock

    def __await__(self) -> Generator[Any, Any, None]:
        raised: BaseException | None = None
        while True:
            with self._lock:
                try:
                    awaited = self._work.send(None) if raised is None else self._work.throw(raised)
                except StopIteration:
                    return
            try:
                yield awaited
                raised = None
            except BaseException as error:
                raised = error
