"""The threads of one run: each takes one item at a time and makes its call under the limits.

There are as many as calls in flight, and a few that stand in the queue: a thread whose call begins
starts another, up to the concurrency. They are daemons, so that no call keeps a process alive that
wants to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from functools import partial
from itertools import count
from threading import TIMEOUT_MAX, Lock, RLock, Thread, get_ident
from typing import Any

from headway._core.queue.job import Job
from headway._runtime.calls import Options
from headway._runtime.progress import Watcher
from headway._runtime.streams import Outcome, over
from headway._runtime.workers import END, NO_KWARGS, most_workers, window
from headway.sync._driving import drive
from headway.sync._shell import CommonShell
from headway.sync._waiters import Abandoned, CommonFlag, ThreadWaiter

__all__ = ["Crew"]

_STANDING = 4  # threads of a run that wait for a permit, while there may be more


class Crew:
    """Calls `fn` with each of `items`, in threads, and hands the outcomes to one consumer.

    `ordered` hands them over in the order of the items, else they come as calls end. A failure ends
    the run, unless the outcomes are to tell of it (`keeps_errors`). Threads get the context
    variables of the consumer.

    What the threads change of it are single steps of a set or a dict, which need no lock.
    """

    def __init__(
        self,
        shell: CommonShell,
        options: Options,
        fn: Callable[..., Any],
        items: Iterable[Any],
        *,
        ordered: bool,
        keeps_errors: bool,
        name: str,
        watcher: Watcher | None = None,
    ) -> None:
        self._shell = shell
        self._options = options
        self._execute = over(shell, options, self._counted(fn), name)
        self._next = partial(next, iter(items), END)
        self._ordered = ordered
        self._keeps_errors = keeps_errors
        self._watcher = watcher
        self._context: Context | None = None  # the consumer's; None before the start
        self._lock = RLock()  # held while a thread begins or ends
        self._source = Lock()  # held by whose turn it is to take an item
        self._has_turn: set[int] = set()  # the thread
        self._workers = 0
        self._wanting: set[object] = set()  # workers that wait for an item
        self._calling: set[int] = set()  # items whose calls run
        self._waiters: set[ThreadWaiter] = set()  # of the jobs on their way
        self._taken = self._consumed = 0
        self._ends = count()
        self._done: dict[int, Outcome[Any, Any]] = {}  # by the place at which they are handed over
        self._news = ThreadWaiter()  # for the consumer
        self._room = ThreadWaiter()  # for who has the turn, while the queue is full
        self._space = ThreadWaiter()  # for who may take no item before the consumer took a result
        self._over = False  # no more items are taken
        self._stopped = False  # and nobody wants what is on its way
        self._error: BaseException | None = None  # of the source, or what ended the run

    # The consumer

    @property
    def begun(self) -> bool:
        """Whether it was started."""
        return self._context is not None

    @property
    def exit(self) -> BaseException | None:
        """The exit or the interrupt in a thread that ended it, if one did."""
        return None if isinstance(self._error, Exception) else self._error

    def start(self) -> None:
        """Start the first thread. Raises `SchedulerClosed` and `WrongLoop`."""
        self._shell.check_open()
        self._shell.check_may_wait()
        self._shell.now()
        self._shell.run_began()
        self._context = copy_context()
        if self._watcher is not None:
            self._watcher.begin()
        try:
            self._start_worker()
        except RuntimeError:  # the system has no threads
            self._end_run()
            raise

    def next(self) -> Outcome[Any, Any] | None:
        """The next outcome, when there is one; None after the last. Raises what ended the run, when
        no call of it runs any more.
        """
        while True:
            ended = not self._workers
            if self._error is not None:
                self._until_ended()
                raise self._error
            found = self._done.pop(self._consumed, None)
            if found is not None:
                self._consumed += 1
                self._space.set()
                return found
            if ended:
                return None
            self._news.wait()

    def stop(self, error: BaseException | None = None) -> None:
        """Take no more items and take back what is queued; `error` is what ended the run."""
        if self._error is None:
            self._error = error
        self._over = self._stopped = True
        for waiter in [*self._waiters]:
            waiter.abandon()
        self._space.set()
        self._room.set()
        self._news.set()

    def end(self) -> None:
        """Stop, and wait for the calls that run: a thread cannot be interrupted."""
        self.stop()
        self._until_ended()

    @property
    def consumed(self) -> int:
        """How many outcomes the consumer has taken."""
        return self._consumed

    @property
    def waiting(self) -> list[Outcome[Any, Any]]:
        """What the consumer has not taken."""
        return [*self._done.values()]

    def _until_ended(self) -> None:
        # Those that wait for the source may do so for ever; they take nothing more.
        while self._workers > len(self._wanting):
            self._news.wait()

    # The threads

    def _counted(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        async def call(item: Any) -> Any:
            if self._stopped:
                raise Abandoned
            me = get_ident()
            self._calling.add(me)
            try:
                self._pass_on()
                self._start_worker()
                return await fn(item)
            finally:
                self._calling.discard(me)

        return call

    def _start_worker(self) -> None:
        """Start another thread, where too few wait for a permit."""
        if self._over or self._workers - len(self._calling) >= _STANDING:
            return
        with self._lock:
            workers = self._workers
            if workers - len(self._calling) >= _STANDING or workers >= most_workers(
                self._shell, workers
            ):
                return
            self._workers += 1
        assert self._context is not None
        run = self._context.copy().run
        try:
            Thread(target=run, args=(self._work,), name="headway", daemon=True).start()
        except RuntimeError:  # the system has no more
            with self._lock:
                self._workers -= 1
                if not self._workers:
                    raise

    def _work(self) -> None:
        try:
            while (taken := self._take()) is not None:
                self._make(*taken)
        except Exception as error:  # of the source
            self.stop(error)
        except Abandoned:
            pass
        except BaseException as error:  # an exit or an interrupt: for the consumer, as it is
            self.stop(error)
        finally:
            with self._lock:
                self._workers -= 1
                last = not self._workers
            if last:
                self._end_run()
            self._news.set()

    def _end_run(self) -> None:
        self._shell.run_ended()
        if self._watcher is not None:
            self._watcher.close()

    def _take(self) -> tuple[int, Any] | None:
        """The next item with its place, and the turn; None where there is none, or nobody wants it.

        Who has the turn stands in the queue next: the calls do in the order of the items.
        """
        me = object()
        self._wanting.add(me)
        if self._stopped:
            self._news.set()
        self._source.acquire()
        item = END
        try:
            while not self._over and self._taken - self._consumed >= window(
                most_workers(self._shell, self._workers)
            ):
                self._space.wait()
            if not self._over:
                item = self._next()
        finally:
            self._wanting.discard(me)
            if item is END:
                self._over = True
                self._source.release()
        if item is END:
            return None
        index = self._taken
        self._taken = index + 1
        self._has_turn.add(get_ident())
        return index, item

    def _pass_on(self) -> None:
        """End the turn of this thread, if it has it: its job stands in the queue, or was there."""
        me = get_ident()
        if me in self._has_turn:
            self._has_turn.discard(me)
            self._source.release()
            self._start_worker()

    def _make(self, index: int, item: Any) -> None:
        """Make the call of one item, and deliver how it ended."""
        args = (item,)
        job: Job | None = None
        waiter = _Standing(self._pass_on)
        result: Any = None
        failure: Exception | None = None
        self._waiters.add(waiter)
        try:
            if self._stopped:
                raise Abandoned
            self._wait_for_room()
            job = self._shell.job(self._options, args, NO_KWARGS)
            job.waiter, job.accepted = waiter, True
            result = drive(self._execute(job, args))
        except Exception as error:
            failure = error
        finally:
            self._waiters.discard(waiter)
            self._pass_on()
        if failure is not None and not self._keeps_errors:
            self.stop(failure)
        else:
            self._deliver(index, item, job, result, failure)
        if self._watcher is not None:
            self._watcher.ended(failed=failure is not None)

    def _deliver(
        self, index: int, item: Any, job: Job | None, result: Any, failure: Exception | None
    ) -> None:
        attempts, waited = (0, 0.0) if job is None else (job.attempts, job.waited)
        place = index if self._ordered else next(self._ends)
        self._done[place] = Outcome(item, result, failure, attempts, waited, index)
        if place == self._consumed:
            self._news.set()

    def _wait_for_room(self) -> None:
        """Wait until the queue has room for another job."""
        while not self._stopped and (flag := self._shell.no_room()) is not None:
            assert isinstance(flag, CommonFlag)
            flag.add(self._room)
            self._room.wait()


class _Standing(ThreadWaiter):
    """Calls `stands` when its thread waits: its job stands in the queue by then."""

    __slots__ = ("_stands",)

    def __init__(self, stands: Callable[[], None]) -> None:
        super().__init__()
        self._stands = stands

    def wait(self, seconds: float = TIMEOUT_MAX) -> None:
        """Block until it is set, as every `ThreadWaiter`."""
        self._stands()
        super().wait(seconds)
