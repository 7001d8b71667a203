"""Scheduler: the public face, and its views."""

from __future__ import annotations

import math
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Coroutine,
    Hashable,
    Iterable,
    Mapping,
)
from dataclasses import replace
from enum import Enum
from os import PathLike
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, overload

from headway._core.counters import Statistics
from headway._core.refusals.retry import Retry
from headway._core.state import SchedulerState
from headway._runtime import streams
from headway._runtime.calls import Options, check_callable, check_plain_function, checked_tokens
from headway._runtime.checks import (
    KeyLimits,
    check_aging,
    check_eager,
    check_max_queue,
    check_options,
    check_shared,
    read_keys,
    read_retry,
    read_sinks,
    read_weights,
)
from headway._runtime.lease import Lease
from headway._runtime.memory import Memory
from headway._runtime.shell import Shell
from headway._runtime.single import Single
from headway.events import Kind
from headway.hooks.sinks import Sink
from headway.rates import ConcurrencyLike, Limits, RateLike, Shared

__all__ = ["Scheduler", "View"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


class _Keep(Enum):
    KEEP = "keep"


_KEEP = _Keep.KEEP


class View(Single):
    """The calls of a scheduler, with options of their own; made by `Scheduler.with_options`."""

    def __init__(self, shell: Shell, options: Options) -> None:
        self._shell = shell
        self._options = options

    def with_options(
        self,
        *,
        priority: float | _Keep = _KEEP,
        key: Hashable | _Keep = _KEEP,
        timeout: float | _Keep | None = _KEEP,
        attempt_timeout: float | _Keep | None = _KEEP,
        tokens: float | Callable[..., float] | _Keep | None = _KEEP,
        usage: Callable[[Any], float | None] | _Keep | None = _KEEP,
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
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not _KEEP}
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

    def lease(self, *, tokens: float | None = None) -> Lease:
        """The right to run one attempt: ``async with scheduler.lease(tokens=1200) as lease:``.

        `tokens` is what to reserve (by default as the options say); ``lease.settle(tokens=...)``
        says what was used. The `timeout` of the options covers the waiting. Raises what `submit`
        raises, when it is entered.
        """
        reserved = self._options.tokens if tokens is None else checked_tokens(tokens)
        # A lease has no arguments to ask a function about.
        job = self._shell.new_job(self._options, None if callable(reserved) else reserved)
        return Lease(self._shell, self._options, job)

    @overload
    def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        return_exceptions: Literal[False] = False,
    ) -> streams.Map[R]: ...

    @overload
    def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        return_exceptions: Literal[True],
    ) -> streams.Map[R | Exception]: ...

    def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        return_exceptions: bool = False,
    ) -> streams.Map[Any]:
        """``fn(item)`` for every item, in order: await it for a list, or enter it for a stream.

        `items` may be sync or async, and endless: they are taken as the limits let calls start
        (as many as the concurrency are on their way, 1,000 where there is none), and a stream
        takes no more than its consumer leaves room for. An async source that is left early is
        closed; what it cleans up must be shielded, as cancellation may reach it. The first failure
        cancels the rest and is raised; with `return_exceptions` it stands in its item's place.
        """
        execute = streams.over(self._shell, self._options, fn, "map")
        return streams.Map(
            self._shell, self._options, execute, items, return_exceptions=return_exceptions
        )

    def as_completed(
        self, fn: Callable[[T], Awaitable[R]], items: Iterable[T] | AsyncIterable[T]
    ) -> streams.AsCompleted[T, R]:
        """``fn(item)`` for every item, entered for a stream of outcomes as they end.

        An outcome has `.item`, `.result` (raises where the call failed), `.error`, `.attempts`
        and `.waited`; failures do not end the run. Items are taken as `map` takes them.
        """
        execute = streams.over(self._shell, self._options, fn, "as_completed")
        return streams.AsCompleted(self._shell, self._options, execute, items)

    async def gather(
        self,
        *calls: Coroutine[Any, Any, Any] | Callable[[], Awaitable[Any]],
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Run coroutine objects, or functions of no arguments, under the limits; results in order.

        A coroutine object runs once: refused, it cannot be tried again. A function can. The first
        failure cancels the rest and is raised; with `return_exceptions` it stands in its place.
        """
        return await streams.gather(
            self._shell, self._options, calls, return_exceptions=return_exceptions
        )


class Scheduler(View):
    """Calls under limits: as fast as they allow and no faster, in the right order, all of them.

    `requests` and `tokens` are rates (``"600/min"``, a `Rate`, or a list of them), `input_tokens`
    and `output_tokens` those of prompts and of answers alone, `concurrency` is how many attempts
    may be in flight: `Limits` says more. `keys` gives keys limits of their own inside the whole
    (a mapping, or a function of the key), `weights` the shares of keys (1 by default). `retry`
    says when a failed attempt is tried again. Beyond `max_queue` waiting jobs `submit` raises
    `QueueFull`. `on_event`, a function or several, is called with every event, soon after it
    happened and in the order in which they did. `is_refused` is asked about every result
    and every exception: True (a rate refusal) or a `Kind` makes it one, which is retried.

    `memory` is a file in which what is used of quotas, and what was learned of limits, is kept for
    the next process: every second while calls are made, and by `aclose`. What cannot be used
    of it is told by an event.

    `shared` is a name under which all processes of this user share these limits, or the address of
    a store (``"valkey://host/name"``, ``"postgresql://…"``) for those of many machines:
    `Shared` says more. Where no limits are stated those that others have stated
    hold.

    `aging` bounds what strict priority starves: a job that has waited for so many seconds goes
    before those of every priority (None: never).

    `eager` lets a short run spend at once what the headers say remains, instead of pacing it
    evenly.

    It belongs to the event loop that uses it, and may move to another while it is idle. Nothing
    runs in the background. With nothing stated at all it finds the limits: it starts slowly, reads
    them from the headers where a transport of `headway.httpx` sees any, and else follows the
    refusals. Raises `InvalidLimit` for values that cannot be meant.
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
        self._limits = Limits(
            requests,
            tokens=tokens,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            concurrency=concurrency,
        )
        self._keys = read_keys(keys)
        self._weights = read_weights(weights)
        sinks = read_sinks(on_event)
        if is_refused is not None:
            check_plain_function(is_refused, "is_refused", _HOW_TO_REFUSE)
        state = SchedulerState(
            self._limits,
            now=0.0,
            retry=read_retry(retry),
            keys=self._keys,
            weights=self._weights,
            max_queue=math.inf if max_queue is None else check_max_queue(max_queue),
            tracing=bool(sinks),
            eager=check_eager(eager),
            aging=math.inf if aging is None else check_aging(aging),
        )
        if self._limits.is_to_be_found and keys is None and shared is None:
            state.whole.search()
        shell = Shell(
            state,
            sinks=sinks,
            is_refused=is_refused,
            shared=self._limits.shared,
            memory=None if memory is None else Memory(memory),
        )
        super().__init__(shell, Options(is_refused=is_refused))
        if shared is not None:
            from headway.shared.sharing import Sharing

            check_shared(eager=eager)
            Sharing(shell, shared, self._limits, self._adopt)

    def _adopt(self, limits: Limits) -> None:
        """Put in force what another worker has stated of the limits that are shared."""
        shell = self._shell
        shell.state.retune(limits, self._keys, self._weights, shell.time())
        self._limits = limits

    @property
    def limits(self) -> Limits:
        """The stated limits of the whole."""
        return self._limits

    def statistics(self) -> Statistics:
        """What is queued, in flight, sent, refused; what binds now, until when, and why."""
        return self._shell.state.statistics(self._shell.time())

    def set_limits(
        self,
        requests: RateLike | _Keep | None = _KEEP,
        *,
        tokens: RateLike | _Keep | None = _KEEP,
        input_tokens: RateLike | _Keep | None = _KEEP,
        output_tokens: RateLike | _Keep | None = _KEEP,
        concurrency: ConcurrencyLike | _Keep = _KEEP,
        keys: KeyLimits | _Keep | None = _KEEP,
        weights: Mapping[Any, float] | _Keep | None = _KEEP,
    ) -> None:
        """Put other limits in force now, for the whole queue; what is left out stays as it is.

        What was sent under limits of the same kind still counts; a job that is larger than a new
        limit fails with `NeverFits`. Raises `InvalidLimit`, `WrongLoop` and what a `keys` function
        raises, and then nothing has changed.
        """
        old = self._limits
        kept: RateLike = [*old.requests, *old.shared]
        limits = Limits(
            kept if isinstance(requests, _Keep) else requests,
            tokens=old.tokens if isinstance(tokens, _Keep) else tokens,
            input_tokens=old.input_tokens if isinstance(input_tokens, _Keep) else input_tokens,
            output_tokens=old.output_tokens if isinstance(output_tokens, _Keep) else output_tokens,
            concurrency=old.concurrency if isinstance(concurrency, _Keep) else concurrency,
        )
        new_keys = self._keys if isinstance(keys, _Keep) else read_keys(keys)
        new_weights = self._weights if isinstance(weights, _Keep) else read_weights(weights)
        shell = self._shell
        shell.check_loop()
        shell.state.retune(limits, new_keys, new_weights, shell.time())
        self._limits, self._keys, self._weights = limits, new_keys, new_weights
        shell.share(limits.shared)
        shell.repoll()

    def pause(self) -> None:
        """Start nothing more until `resume`; what is in flight goes on."""
        self._shell.check_loop()
        self._shell.state.pause()
        self._shell.repoll()

    def resume(self) -> None:
        """Start again after `pause`."""
        self._shell.check_loop()
        self._shell.state.resume()
        self._shell.repoll()

    def reset(self) -> None:
        """Forget a wrong key or an empty account (401, 402), an outage, and every closed gate."""
        self._shell.check_loop()
        self._shell.state.reset(self._shell.time())
        self._shell.repoll()

    async def aclose(self) -> None:
        """Take no new jobs, and wait until those that are queued and in flight have ended.

        A `map`, `as_completed` or `gather` that has begun goes on to its end. A paused scheduler
        starts again, for else they never would. From inside a job it would wait for itself.
        """
        self._shell.now()
        self._shell.closed = True
        self.resume()
        shell = self._shell
        await shell.drained()
        if shell.memory is not None:
            shell.memory.save(shell.state, shell.time())
        if shell.leave is not None:
            await shell.leave()

    async def __aenter__(self) -> Scheduler:
        self._shell.now()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


_HOW_TO_REFUSE = "is_refused=lambda reply: ..., or a def that returns True, False or a Kind"
