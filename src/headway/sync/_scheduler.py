"""Scheduler for plain functions: the face of `headway.Scheduler`, for any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import wraps
from os import PathLike
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, overload

from headway import scheduler as async_face
from headway._core.counters import Statistics
from headway._core.outlook import Wait
from headway._core.refusals.retry import Retry
from headway._runtime.calls import Options, check_wrapped
from headway._runtime.checks import KeyLimits
from headway._runtime.progress import ProgressLike
from headway._runtime.single import Single
from headway._runtime.view import KEEP, Keep
from headway.errors import InvalidArgument
from headway.events import Kind
from headway.hooks.sinks import Sink
from headway.rates import ConcurrencyLike, Limits, RateLike, Shared
from headway.sync._driving import awaitable, check_function, check_not_generator, drive
from headway.sync._lease import Lease
from headway.sync._runs import AsCompleted, Map, check_sync_items, gather
from headway.sync._shell import CommonShell

__all__ = ["Scheduler", "View"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


class View(Single):
    """The calls of a scheduler, with options of their own; made by `Scheduler.with_options`."""

    def __init__(self, shell: CommonShell, options: Options) -> None:
        self._shell = shell
        self._options = replace(options, blocks=True)
        self._view = async_face.View(shell, self._options)

    @property
    def aio(self) -> async_face.View:
        """The same, for async functions, on any event loop and on several at once:
        ``await scheduler.aio.submit(ask, question)``. It shares all limits and the queue.
        """
        return async_face.View(self._shell, replace(self._options, blocks=False))

    def with_options(
        self,
        *,
        priority: float | Keep = KEEP,
        key: Hashable | Keep = KEEP,
        timeout: float | Keep | None = KEEP,
        attempt_timeout: float | Keep | None = KEEP,
        tokens: float | Callable[..., float] | Keep | None = KEEP,
        usage: Callable[[Any], float | None] | Keep | None = KEEP,
    ) -> View:
        """The same scheduler and limits, with other options for the calls made through the view.

        They are those of `headway.Scheduler.with_options`, with two differences, for a thread
        cannot be interrupted. `timeout` ends the waiting of a job in the queue; an attempt that
        runs goes on to its end. `attempt_timeout` is for requests through a `Transport` and for
        `aio`: a plain function has its client's own timeouts.

        Raises `InvalidArgument` for values that cannot be meant.
        """
        view = self._view.with_options(
            priority=priority,
            key=key,
            timeout=timeout,
            attempt_timeout=attempt_timeout,
            tokens=tokens,
            usage=usage,
        )
        return View(self._shell, view._options)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``fn(*args, **kwargs)`` when the limits allow it, in the caller's own thread.

        A refused or failed attempt is tried again as `Retry` says. Raises what `fn` raised, with
        a note where it was tried more than once; `QueueFull`, `NeverFits`, `DeadlineExceeded`,
        `Unavailable`, `Latched`, `SchedulerClosed`, `WrongLoop` in a forked process;
        `InvalidArgument` for what is no plain function.
        """
        check_function(fn, "submit")
        self._check_options("submit")
        return drive(self._view.submit(awaitable(fn), *args, **kwargs))

    def limit(self, fn: Callable[P, R]) -> Callable[P, R]:
        """The plain function `fn`, whose calls all go through `submit`: ``@scheduler.limit``.

        It keeps its signature, types, name and docstring, and may be a method; then `tokens=` of
        the options, where that is a function, is called with the object too. A call raises what
        `submit` raises. `InvalidArgument` for what is no plain function, and for a generator, which
        takes a lease inside.
        """
        check_wrapped(fn, "limit")
        check_function(fn, "limit")
        check_not_generator(fn)
        self._check_options("limit")

        @wraps(fn)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            return self.submit(fn, *args, **kwargs)

        return limited

    def batches(
        self,
        items: Iterable[T],
        size: int | None = None,
        *,
        tokens: float | None = None,
        estimate: Callable[[T], float] | None = None,
    ) -> Iterator[list[T]]:
        """`items` in lists for calls that take many at once, as embeddings do:
        ``scheduler.map(embed, scheduler.batches(texts, 100, tokens=8_000))``.

        A list holds at most `size` items and at most `tokens` tokens, of which one may be left out;
        `headway.Scheduler.batches` says more. Raises `InvalidArgument`.
        """
        check_sync_items(items, "batches")
        return self._view.batches(items, size, tokens=tokens, estimate=estimate)

    def lease(self, *, tokens: float | None = None) -> Lease:
        """The right to run one attempt: ``with scheduler.lease(tokens=1200) as lease:``.

        `tokens` is what to reserve (by default as the options say); ``lease.settle(tokens=...)``
        says what was used. The `timeout` of the options covers the waiting. Raises what `submit`
        raises, when it is entered.
        """
        self._check_options("lease")
        return Lease(self._view.lease(tokens=tokens))

    def try_lease(self, *, tokens: float | None = None) -> Lease | None:
        """A lease that has its permit already, or None where it would have to wait.

        ``if lease := scheduler.try_lease():`` and then ``with lease:``. It takes nothing from
        those that wait and go before it. Dropped and not entered, it gives back its slot, and
        costs nothing. Raises `NeverFits`, `Latched`, `SchedulerClosed` and `WrongLoop`.
        """
        self._check_options("try_lease")
        lease = self._view.try_lease(tokens=tokens)
        return None if lease is None else Lease(lease)

    def would_wait(self, *, tokens: float | None = None, key: Hashable | Keep = KEEP) -> Wait:
        """How many seconds a job would wait that were submitted now, and what for: a number, 0.0
        for none, with what `binds`. It changes nothing; `headway.Scheduler.would_wait` says more.

        Raises `NeverFits`, `InvalidArgument` and `SchedulerClosed`.
        """
        return self._view.would_wait(tokens=tokens, key=key)

    def record(
        self, *, tokens: float = 0.0, requests: int = 1, key: Hashable | Keep = KEEP
    ) -> None:
        """Count what was used elsewhere just now: `tokens` (or a `Cost` by class) in that many
        `requests`, of the view's key where no other is given.

        The limits are charged as if it had been sent from here, so that the server has nothing to
        refuse. It counts in `statistics().tokens`, and in none of the counts of jobs and attempts.
        Raises `InvalidArgument`.
        """
        self._view.record(tokens=tokens, requests=requests, key=key)

    @overload
    def map(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        *,
        return_exceptions: Literal[False] = False,
        progress: ProgressLike = False,
    ) -> Map[R]: ...

    @overload
    def map(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        *,
        return_exceptions: Literal[True],
        progress: ProgressLike = False,
    ) -> Map[R | Exception]: ...

    def map(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        *,
        return_exceptions: bool = False,
        progress: ProgressLike = False,
    ) -> Map[Any]:
        """``fn(item)`` for every item, in threads; the results in order, to loop over.

        It starts when it is first asked for a result. `items` may be endless: they are taken as
        the limits let calls start, and no more than its consumer leaves room for. There are as many
        threads as calls in flight (at most the concurrency, 1,000 where there is none) and a few
        that wait. The first failure takes back what is queued and is raised when no call runs any
        more; with `return_exceptions` it stands in its item's place. An interrupt is raised at
        once: calls that run end by themselves. What ends a run early carries what was done, as
        `results_so_far`: so does the run.

        `progress=True` shows a bar, tqdm's or rich's. A function is called with an `Advance` after
        each call, in the thread of the call, and in one at a time. Raises `InvalidArgument`, and
        `MissingExtra` for a bar that is not installed.
        """
        self._check_options("map")
        return Map(
            self._shell, self._options, fn, items, progress, return_exceptions=return_exceptions
        )

    def as_completed(
        self, fn: Callable[[T], R], items: Iterable[T], *, progress: ProgressLike = False
    ) -> AsCompleted[T, R]:
        """``fn(item)`` for every item, in threads; the outcomes as they end, to loop over.

        An outcome has `.item`, `.result` (raises where the call failed), `.error`, `.attempts`
        and `.waited`; failures do not end the run. Items are taken as `map` takes them,
        and `progress` is the same.
        """
        self._check_options("as_completed")
        return AsCompleted(self._shell, self._options, fn, items, progress)

    def gather(
        self,
        *calls: Callable[[], Any],
        return_exceptions: bool = False,
        progress: ProgressLike = False,
    ) -> list[Any]:
        """Call functions of no arguments under the limits, in threads; results in their order.

        The first failure takes back what is queued and is raised; with `return_exceptions` it
        stands in its place. `progress` is that of `map`.
        """
        self._check_options("gather")
        return gather(
            self._shell, self._options, calls, progress, return_exceptions=return_exceptions
        )

    def _check_options(self, name: str) -> None:
        if self._options.attempt_timeout is not None:
            raise InvalidArgument(
                f"attempt_timeout={self._options.attempt_timeout:g} cannot end what {name}() runs: "
                "a thread cannot be interrupted",
                fix="the timeout of the client that the function calls; or give the view to a "
                "Transport.",
            )


class _Inner(async_face.Scheduler):
    """The scheduler inside, whose shell is used by all threads and event loops."""

    _shell_type = CommonShell
    _shell: CommonShell

    def statistics(self) -> Statistics:
        """The picture at one moment, whatever other threads do."""
        with self._shell.lock:
            return super().statistics()


class Scheduler(View):
    """`headway.Scheduler` for plain functions, from any number of threads and event loops at once.

    All arguments are those of `headway.Scheduler`, and so are its limits, queue, retries and
    statistics: the decisions are made by the same core. A function runs in the thread of whoever
    calls it. `aio` has the same calls for async functions, on any event loop; the transports of
    `headway.httpx` and `headway.httpx2`, sync and async, take it too. So all the clients of a
    process are under one set of limits.

    A thread of its own, with an event loop, wakes those who wait and tells `on_event` of events. It
    starts with the first call, and ends with `close`, at the end of the process, or when nobody
    holds the scheduler any more. Each process makes its own: a fork of one raises `WrongLoop`.
    Raises `InvalidLimit` for values that cannot be meant.
    """

    def __init__(
        self,
        requests: RateLike | None = None,
        *,
        tokens: RateLike | None = None,
        input_tokens: RateLike | None = None,
        output_tokens: RateLike | None = None,
        concurrency: ConcurrencyLike = None,
        keys: KeyLimits | None = None,
        weights: Mapping[Any, float] | None = None,
        retry: Retry | None = None,
        max_queue: int | None = None,
        on_event: Sink | Iterable[Sink] | None = None,
        is_refused: Callable[[Any], bool | Kind | None] | None = None,
        eager: bool = False,
        memory: str | PathLike[str] | None = None,
        shared: str | Shared | None = None,
        aging: float | None = None,
    ) -> None:
        self._inner = _Inner(
            requests,
            tokens=tokens,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            concurrency=concurrency,
            keys=keys,
            weights=weights,
            retry=retry,
            max_queue=max_queue,
            on_event=on_event,
            is_refused=is_refused,
            eager=eager,
            memory=memory,
            shared=shared,
            aging=aging,
        )
        super().__init__(self._inner._shell, self._inner._options)

    @property
    def limits(self) -> Limits:
        """The stated limits of the whole."""
        return self._inner.limits

    def statistics(self) -> Statistics:
        """What is queued, in flight, sent, refused; what binds now, until when, and why."""
        return self._inner.statistics()

    def set_limits(
        self,
        requests: RateLike | Keep | None = KEEP,
        *,
        tokens: RateLike | Keep | None = KEEP,
        input_tokens: RateLike | Keep | None = KEEP,
        output_tokens: RateLike | Keep | None = KEEP,
        concurrency: ConcurrencyLike | Keep = KEEP,
        keys: KeyLimits | Keep | None = KEEP,
        weights: Mapping[Any, float] | Keep | None = KEEP,
    ) -> None:
        """Put other limits in force now, for the whole queue; what is left out stays as it is.

        What was sent under limits of the same kind still counts; a job that is larger than a new
        limit fails with `NeverFits`. Raises `InvalidLimit` and what a `keys` function raises, and
        then nothing has changed.
        """
        with self._shell.lock:
            self._inner.set_limits(
                requests,
                tokens=tokens,
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                concurrency=concurrency,
                keys=keys,
                weights=weights,
            )

    def pause(self) -> None:
        """Start nothing more until `resume`; what is in flight goes on."""
        with self._shell.lock:
            self._inner.pause()

    def resume(self) -> None:
        """Start again after `pause`."""
        with self._shell.lock:
            self._inner.resume()

    def reset(self) -> None:
        """Forget a wrong key or an empty account (401, 402), an outage, and every closed gate."""
        with self._shell.lock:
            self._inner.reset()

    def clear(self, *, key: Hashable | Keep = KEEP) -> int:
        """Drop the jobs that are queued, all or those of `key` (None is one); how many those were.

        Each ends with `Cleared`, in a run too, where it counts as any failure. Jobs that wait to be
        tried again are queued as well. What is in flight goes on. Raises `InvalidArgument` for a
        key that is none.
        """
        with self._shell.lock:
            return self._inner.clear(key=key)

    def idle(self) -> None:
        """Wait until nothing is queued and nothing is in flight.

        A `map`, `as_completed` or `gather` that has begun is waited for to its end, and new jobs
        may be submitted meanwhile. From inside a job it would wait for itself; and while the
        scheduler is paused, for `resume`. Raises `WrongLoop` where a sink of events calls it.
        """
        self._shell.at_home(self._inner.idle)

    def close(self) -> None:
        """Take no new jobs, and wait until those that are queued and in flight have ended, and what
        `on_event` names has had every event.

        A run that has begun goes on to its end; a paused scheduler starts again. From inside a job
        it would wait for itself. Interrupted, it takes back what is queued. Raises `WrongLoop`
        where a sink of events calls it.
        """
        self._shell.close(self._inner.aclose)

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, Exception):
            self.close()
        else:  # who interrupts does not wait
            self._shell.end()
