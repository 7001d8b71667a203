"""A view: the calls of a scheduler, with options of their own."""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Hashable,
    Iterable,
    Iterator,
)
from dataclasses import replace
from enum import Enum
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar, overload

from headway._core.outlook import Wait
from headway._core.queue.job import Job
from headway._runtime import streams
from headway._runtime.batches import batches as batched
from headway._runtime.calls import (
    Options,
    check_async_function,
    check_callable,
    checked_tokens,
)
from headway._runtime.checks import check_count, check_options
from headway._runtime.lease import Lease, TakenLease
from headway._runtime.progress import ProgressLike
from headway._runtime.shell import Shell
from headway._runtime.single import Single

__all__ = ["KEEP", "Keep", "View"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


class Keep(Enum):
    KEEP = "keep"


KEEP = Keep.KEEP


class View(Single):
    """The calls of a scheduler, with options of their own; made by `Scheduler.with_options`."""

    def __init__(self, shell: Shell, options: Options) -> None:
        self._shell = shell
        self._options = options

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

        `priority`: the higher goes first, strictly (0). `key`: the flow that jobs belong to;
        keys share by weight and may have limits of their own (None). `timeout`: seconds for
        queueing and all attempts; `attempt_timeout`: seconds for one attempt (None: no limit).
        `tokens`: what an attempt reserves, a number, a `Cost` by class, or a function of the call's
        arguments that returns either; `usage`: a function of the result that says the same of what
        it used (if left out, what the result says).
        With neither, an attempt reserves the average of what jobs of its key used.

        Raises `InvalidArgument` for values that cannot be meant.
        """
        given = {
            "priority": priority, "key": key, "timeout": timeout,
            "attempt_timeout": attempt_timeout, "tokens": tokens, "usage": usage,
        }  # fmt: skip
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not KEEP}
        check_options(changes)
        return View(self._shell, replace(self._options, **changes))

    async def submit(
        self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call ``fn(*args, **kwargs)`` when the limits allow it, in the caller's own task.

        A refused or failed attempt is tried again as `Retry` says. Raises what `fn` raised, with
        a note where it was tried more than once; `QueueFull`, `NeverFits`, `DeadlineExceeded`,
        `Unavailable`, `Latched`, `SchedulerClosed`, `WrongLoop`; `InvalidArgument` for
        what is not an async function.
        """
        check_callable(fn, "submit")
        if self._shell.closed:
            self._shell.check_open()
        options = self._options
        shell = self._shell
        job = shell.job(options, args, kwargs)
        result: R
        if options.timeout is None:
            result = await shell.run(options, fn, job, args, kwargs)
        else:
            call = shell.run(options, fn, job, args, kwargs)
            result = await shell.within(job, options.timeout, call)
        return result

    def limit(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        """The async function `fn`, whose calls all go through `submit`: ``@scheduler.limit``.

        It keeps its signature, types, name and docstring, and may be a method; then `tokens=` of
        the options, where that is a function, is called with the object too. A call raises what
        `submit` raises. `InvalidArgument` for what is no async function: a plain one is for
        `headway.sync`, and an async generator takes a lease.
        """
        check_async_function(fn, "limit")

        @wraps(fn)
        async def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            return await self.submit(fn, *args, **kwargs)

        return limited

    def lease(self, *, tokens: float | None = None) -> Lease:
        """The right to run one attempt: ``async with scheduler.lease(tokens=1200) as lease:``.

        `tokens` is what to reserve (by default as the options say); ``lease.settle(tokens=...)``
        says what was used. The `timeout` of the options covers the waiting. Raises what `submit`
        raises, when it is entered.
        """
        return Lease(self._shell, self._options, self._job(tokens))

    def try_lease(self, *, tokens: float | None = None) -> Lease | None:
        """A lease that has its permit already, or None where it would have to wait.

        ``if lease := scheduler.try_lease():`` and then ``async with lease:``. It takes nothing from
        those that wait and go before it. Dropped and not entered, it gives back its slot, and
        costs nothing. Raises `NeverFits`, `Latched`, `SchedulerClosed` and `WrongLoop`.
        """
        self._shell.check_open()
        lease = TakenLease(self._shell, self._options, self._job(tokens))
        return lease if lease.held else None

    def would_wait(self, *, tokens: float | None = None, key: Hashable | Keep = KEEP) -> Wait:
        """How many seconds a job would wait that were submitted now, and what for: a number, 0.0
        for none, with what `binds`.

        It has the options of the view, but for `tokens` and `key` where they are given. Jobs that
        wait and go before it count, as far as can be foreseen: they are taken to cost what it
        costs, and slots to come free as often as calls were sent lately. Infinity where nobody can
        say: paused, a key that is refused, an outage. It changes nothing. Raises `NeverFits`,
        `InvalidArgument` and `SchedulerClosed`.
        """
        shell = self._shell
        shell.check_open()
        job = self._keyed(key)._job(tokens)
        with shell.lock:
            return shell.state.would_wait(job, shell.time())

    def record(
        self, *, tokens: float = 0.0, requests: int = 1, key: Hashable | Keep = KEEP
    ) -> None:
        """Count what was used elsewhere just now: `tokens` (or a `Cost` by class) in that many
        `requests`, of the view's key where no other is given.

        The limits are charged as if it had been sent from here, so that the server has nothing to
        refuse. It counts in `statistics().tokens`, and in none of the counts of jobs and attempts.
        Raises `InvalidArgument`, and `WrongLoop`.
        """
        used = checked_tokens(tokens)
        sent = check_count("requests", requests, 0, "were sent elsewhere")
        shell = self._shell
        shell.check_loop()
        state = shell.state
        with shell.lock:
            state.record(sent, used, state.flow(self._keyed(key)._options.key), shell.time())
            shell.repoll()

    def _job(self, tokens: float | None) -> Job:
        """A job of no function, which reserves `tokens` (None: what the options say)."""
        reserved = self._options.tokens if tokens is None else checked_tokens(tokens)
        # It has no arguments to ask a function about.
        return self._shell.new_job(self._options, None if callable(reserved) else reserved)

    def _keyed(self, key: Hashable | Keep) -> View:
        """This view, with `key` where one is given."""
        return self if isinstance(key, Keep) else self.with_options(key=key)

    @overload
    def batches(
        self,
        items: AsyncIterable[T],
        size: int | None = None,
        *,
        tokens: float | None = None,
        estimate: Callable[[T], float] | None = None,
    ) -> AsyncIterator[list[T]]: ...

    @overload
    def batches(
        self,
        items: Iterable[T],
        size: int | None = None,
        *,
        tokens: float | None = None,
        estimate: Callable[[T], float] | None = None,
    ) -> Iterator[list[T]]: ...

    def batches(
        self,
        items: Iterable[T] | AsyncIterable[T],
        size: int | None = None,
        *,
        tokens: float | None = None,
        estimate: Callable[[T], float] | None = None,
    ) -> Iterator[list[T]] | AsyncIterator[list[T]]:
        """`items`, sync or async, in lists for calls that take many at once, as embeddings do:
        ``scheduler.map(embed, scheduler.batches(texts, 100, tokens=8_000))``.

        A list holds at most `size` items and at most `tokens` tokens, of which one may be left out.
        `estimate` says what one item has (by default what `headway.estimate` makes of a text, a
        list of tokens or the body of a request). One that is larger by itself goes alone, for the
        provider to judge. Items are taken as the lists are. Raises `InvalidArgument`.
        """
        return batched(items, size, tokens, estimate)

    @overload
    def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        return_exceptions: Literal[False] = False,
        progress: ProgressLike = False,
    ) -> streams.Map[R]: ...

    @overload
    def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        return_exceptions: Literal[True],
        progress: ProgressLike = False,
    ) -> streams.Map[R | Exception]: ...

    def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        return_exceptions: bool = False,
        progress: ProgressLike = False,
    ) -> streams.Map[Any]:
        """``fn(item)`` for every item, in order: await it for a list, or enter it for a stream.

        `items` may be sync or async, and endless: they are taken as the limits let calls start
        (as many as the concurrency are on their way, 1,000 where there is none), and a stream
        takes no more than its consumer leaves room for. An async source that is left early is
        closed; what it cleans up must be shielded, as cancellation may reach it. The first failure
        cancels the rest and is raised; with `return_exceptions` it stands in its item's place.
        What ends a run early carries what was done, as `results_so_far`: so does the run.

        `progress=True` shows a bar, tqdm's or rich's, in notebooks too. A function is called with
        an `Advance` after each call; where it raises, that is told once, and the run goes on.

        Raises `InvalidArgument`, `MissingExtra` for a bar that is not installed, and, once it is
        awaited or entered, `AlreadyUsed`, `SchedulerClosed` and what a call or the source raises.
        """
        execute = streams.over(self._shell, self._options, fn, "map")
        return streams.Map(
            self._shell, self._options, execute, items, progress,
            return_exceptions=return_exceptions,
        )  # fmt: skip

    def as_completed(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        progress: ProgressLike = False,
    ) -> streams.AsCompleted[T, R]:
        """``fn(item)`` for every item, entered for a stream of outcomes as they end.

        An outcome has `.item`, `.result` (raises where the call failed), `.error`, `.attempts`
        and `.waited`; failures do not end the run. Items are taken as `map` takes them,
        and `progress` is the same.
        """
        execute = streams.over(self._shell, self._options, fn, "as_completed")
        return streams.AsCompleted(self._shell, self._options, execute, items, progress)

    async def gather(
        self,
        *calls: Coroutine[Any, Any, Any] | Callable[[], Awaitable[Any]],
        return_exceptions: bool = False,
        progress: ProgressLike = False,
    ) -> list[Any]:
        """Run coroutine objects, or functions of no arguments, under the limits; results in order.

        A coroutine object runs once: refused, it cannot be tried again. A function can. The first
        failure cancels the rest and is raised; with `return_exceptions` it stands in its place.
        `progress` is that of `map`.
        """
        return await streams.gather(
            self._shell, self._options, calls, progress, return_exceptions=return_exceptions
        )


# Python warns of a coroutine that nobody awaits by the name of its function: one that users know.
for _method in (View.submit, View.gather):
    _method.__qualname__ = f"Scheduler.{_method.__name__}"
