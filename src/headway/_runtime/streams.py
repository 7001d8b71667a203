"""map, as_completed and gather: many calls in child tasks, each of them a `Shell.run`.

A stream needs child tasks, and child tasks need a scope: so these are awaited, or entered.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Iterable,
    Sized,
)
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar, cast

import anyio
from anyio.abc import TaskGroup

from headway._core.queue.job import Job
from headway._runtime.calls import Options, check_callable, check_items, is_coroutine
from headway._runtime.checks import check_flag
from headway._runtime.progress import watch
from headway._runtime.shell import Shell
from headway._runtime.single import Single
from headway._runtime.workers import END, Execute, Workers
from headway.errors import AlreadyUsed, InvalidArgument
from headway.kinds._words import a, with_fix

__all__ = ["AsCompleted", "Map", "Outcome", "carry", "gather", "length", "over"]

logger = logging.getLogger("headway")

T = TypeVar("T")
R = TypeVar("R")

_ONCE = with_fix(
    "a coroutine object cannot be run again, so this was its only attempt",
    "pass the function (functools.partial(ask, question)), which headway retries.",
)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T, R]):
    """How one call ended: its `item`, and its `result` or its `error` (an exception).

    `index` is the item's place in the input, from 0.
    `attempts` were made; it `waited` that many seconds for permits and backoff in all.
    """

    item: T
    value: R | None
    error: Exception | None
    attempts: int
    waited: float
    index: int

    @property
    def result(self) -> R:
        """What the call returned. Raises `error` where it failed."""
        if self.error is not None:
            raise self.error
        return cast("R", self.value)


class _ManyCalls(Single, Generic[R]):
    """What `map` and `as_completed` share: a run that is entered, or refuses to be looped over."""

    _name: str
    _fix: str

    def __init__(
        self, shell: Shell, options: Options, execute: Execute, items: object, progress: object
    ) -> None:
        check_items(items, self._name)
        self._total = length(items)
        self._watcher = watch(progress, self._total)
        deliver = self._deliver if self._watcher is None else self._watched
        self._run = Workers(shell, options, execute, items, deliver)
        self._group: TaskGroup | None = None
        self._tried = False  # to use it: else it was forgotten

    def _watched(
        self, index: int, item: Any, job: Job | None, result: Any, error: Exception | None
    ) -> None:
        """Deliver, and show it."""
        self._deliver(index, item, job, result, error)
        assert self._watcher is not None
        try:
            self._watcher.ended(failed=error is not None)
        except BaseException as exit_or_interrupt:  # of a function of the user's
            self._run.stop(exit_or_interrupt)

    def _deliver(
        self, index: int, item: Any, job: Job | None, result: Any, error: Exception | None
    ) -> None:
        raise NotImplementedError

    def _take(self) -> R:
        """The next for the consumer, `END` where there is none yet."""
        raise NotImplementedError

    async def __aenter__(self) -> AsyncIterator[R]:
        await self._start()
        self._run.open_window()
        return _Stream(self._run, self._take)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._run.stop()
        await self._end()
        if error is not None:
            return
        if self._run.unclosed is not None:
            raise self._run.unclosed
        if self._run.error is not None and not isinstance(self._run.error, Exception):
            raise self._run.error  # an exit or an interrupt that the body has not seen

    async def _start(self) -> None:
        self._tried = True
        if self._group is not None:
            raise AlreadyUsed(
                f"this {self._name}() has been used already", fix=f"call {self._name}() again."
            )
        shell = self._run.shell
        shell.check_open()
        shell.now()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        shell.run_began()
        if self._watcher is not None:
            self._watcher.begin()
        self._run.start(self._group)

    async def _end(self) -> None:
        assert self._group is not None
        try:
            # What the body raised goes on by itself, not wrapped in a group of exceptions.
            await self._group.__aexit__(None, None, None)
        finally:
            self._run.shell.run_ended()
            if self._watcher is not None:
                self._watcher.close()

    def __aiter__(self) -> NoReturn:
        self._tried = True
        raise InvalidArgument(
            f"{self._name}() starts tasks that must end somewhere, so it cannot be looped over "
            "as it is",
            fix=f"{self._fix}.",
        )

    def __del__(self) -> None:
        if not getattr(self, "_tried", True):  # absent where an argument was wrong
            logger.warning(
                with_fix("a %s() was never awaited nor entered, and nothing was called", "%s."),
                self._name,
                self._fix,
            )


class _Stream(AsyncIterator[R]):
    """What the consumer loops over."""

    def __init__(self, run: Workers, take: Callable[[], R]) -> None:
        self._run = run
        self._take = take

    async def __anext__(self) -> R:
        run = self._run
        while True:
            result = self._take()
            if result is not END:
                run.consume()
                return result
            if run.done:
                raise StopAsyncIteration
            await run.changed()


class Map(_ManyCalls[R], Coroutine[Any, Any, list[R]]):
    """The results of one function over many items, in the order of the items.

    Await it for a list, or enter it for a stream. A failure cancels the rest and is raised. It is a
    coroutine object, which `asyncio.run` and `asyncio.create_task` take.
    """

    _name = "map"
    _fix = (
        "`async with scheduler.map(fn, items) as results:` and then `async for result in "
        "results:`, or `results = await scheduler.map(fn, items)`"
    )

    def __init__(
        self,
        shell: Shell,
        options: Options,
        execute: Execute,
        items: object,
        progress: object,
        *,
        return_exceptions: bool,
    ) -> None:
        super().__init__(shell, options, execute, items, progress)
        self._keep_errors = _checked(return_exceptions)
        self._done: dict[int, Any] = {}
        self._collecting: Coroutine[Any, Any, list[R]] | None = None
        self._carries: BaseException | None = None  # what was told the results so far

    @property
    def results_so_far(self) -> dict[int, R]:
        """What calls have returned, by the place of their item in the input, from 0.

        Of a stream it is what its consumer has not taken. What ends a run early (a failure, a
        cancellation, an exit) carries the same as an attribute of this name.
        """
        return dict(sorted(self._done.items()))

    def __await__(self) -> Generator[Any, None, list[R]]:
        return self._collect().__await__()

    # What an event loop does with a coroutine object

    def send(self, value: None, /) -> Any:
        """Go on until it waits again."""
        return self._begun().send(value)

    def throw(self, *error: Any) -> Any:
        """Go on with an exception."""
        return self._begun().throw(*error)

    def close(self) -> None:
        """End it, where it has begun."""
        self._tried = True
        if self._collecting is not None:
            self._collecting.close()

    def _begun(self) -> Coroutine[Any, Any, list[R]]:
        if self._collecting is None:
            self._collecting = self._collect()
        return self._collecting

    async def _collect(self) -> list[R]:
        run, done = self._run, self._done
        # No window: the list is as long as the input, whatever we do.
        await self._start()
        try:
            await self._end()
            failure = run.error or run.unclosed
            if failure is not None:
                raise failure
        except BaseException as error:
            self._carry(error)
            raise
        return [done[index] for index in range(run.taken)]

    def _carry(self, error: BaseException) -> None:
        if self._carries is not error:
            self._carries = error
            carry(error, self.results_so_far, self._total, taken=self._run.consumed)

    def _take(self) -> R:
        if self._run.error is not None:
            self._carry(self._run.error)
            raise self._run.error
        result: R = self._done.pop(self._run.consumed, END)
        return result

    def _deliver(
        self, index: int, item: Any, job: Job | None, result: Any, error: Exception | None
    ) -> None:
        if error is not None:
            if not self._keep_errors:
                self._run.stop(error)
                return
            result = error
        self._done[index] = result
        if index == self._run.consumed:
            self._run.wake()


class AsCompleted(_ManyCalls[Outcome[T, R]]):
    """The outcomes of one function over many items, as they end; failures are outcomes too."""

    _name = "as_completed"
    _fix = (
        "`async with scheduler.as_completed(fn, items) as outcomes:` and then `async for outcome "
        "in outcomes:`"
    )

    def __init__(
        self, shell: Shell, options: Options, execute: Execute, items: object, progress: object
    ) -> None:
        super().__init__(shell, options, execute, items, progress)
        self._done: deque[Outcome[T, R]] = deque()

    def _take(self) -> Outcome[T, R]:
        if self._done:
            return self._done.popleft()
        if self._run.error is not None:
            raise self._run.error
        nothing: Outcome[T, R] = END
        return nothing

    def _deliver(
        self, index: int, item: Any, job: Job | None, result: Any, error: Exception | None
    ) -> None:
        attempts, waited = (0, 0.0) if job is None else (job.attempts, job.waited)
        self._done.append(Outcome(item, result, error, attempts, waited, index))
        self._run.wake()


def length(items: object) -> int | None:
    """How many `items` there are, None where they do not say."""
    return len(items) if isinstance(items, Sized) else None


def carry(error: BaseException, done: dict[int, Any], total: int | None, *, taken: int = 0) -> None:
    """Let `error`, which ends a run of `total` calls, carry the results of what was `done`, by the
    index of the item, and say so; its consumer has `taken` so many more, of the first items.
    """
    with suppress(AttributeError):  # one that takes no attributes
        cast("Any", error).results_so_far = done
        count = taken + len(done)
        if not count:
            return
        items = f"{count}" if total is None else f"{count} of {total}"
        were = "item was" if items == "1" else "items were"
        has = "has their results by the index of the item"
        if taken:
            has = (
                "has the results that were not taken yet (the first "
                f"{taken} were), by the index of the item"
            )
        error.add_note(
            f"headway: {items} {were} done. `results_so_far` of this error, and of the run, "
            f"{has}: to go on, run the others."
        )


def over(shell: Shell, options: Options, fn: Callable[..., Awaitable[Any]], name: str) -> Execute:
    """How a run calls `fn` with one item. Raises `InvalidArgument` for what cannot be called."""
    check_callable(fn, name)
    timeout = options.timeout
    if timeout is None:
        return partial(shell.run, options, fn)
    return lambda job, args: shell.within(job, timeout, shell.run(options, fn, job, args))


def _checked(return_exceptions: object) -> bool:
    return check_flag("return_exceptions", return_exceptions, "have a failure in its item's place")


async def gather(
    shell: Shell,
    options: Options,
    calls: tuple[Any, ...],
    progress: object,
    *,
    return_exceptions: bool,
) -> list[Any]:
    """The results of `calls` (coroutine objects, or functions of no arguments), in their order."""
    _checked(return_exceptions)

    def execute(job: Job, args: Any) -> Awaitable[Any]:
        (call,) = args
        if isinstance(call, Coroutine):
            made = shell.run(options, lambda: call, job, (), once=_ONCE)
        else:
            made = shell.run(options, call, job, ())
        return made if options.timeout is None else shell.within(job, options.timeout, made)

    if callable(options.tokens):
        options = replace(options, tokens=None)  # there are no arguments to ask it about
    try:
        for call in calls:
            if not is_coroutine(call):
                _check_call(call)
        return await Map[Any](
            shell, options, execute, calls, progress, return_exceptions=return_exceptions
        )
    finally:
        for call in calls:
            _close(call)  # those that never started; the others have ended


def _check_call(call: object) -> None:
    """Raise `InvalidArgument` for what `gather` does not take."""
    if isinstance(call, _ManyCalls):
        fix = "`await scheduler.map(...)` by itself" if isinstance(call, Map) else call._fix
        raise InvalidArgument(
            f"gather() takes calls and got a {call._name}(), which runs its calls under the limits "
            "itself",
            fix=f"{fix}.",
        )
    # A future can be iterated over, too.
    many = isinstance(call, Iterable) and not isinstance(call, str | bytes | Awaitable)
    if many and not callable(call):
        raise InvalidArgument(
            f"gather() takes each call as an argument of its own and got {a(type(call).__name__)}",
            fix="gather(*calls).",
        )
    check_callable(call, "gather")


def _close(call: object) -> None:
    """Close a coroutine object, and those that a list (or the like) in its place holds."""
    inside = call if isinstance(call, Collection) and not callable(call) else (call,)
    for each in inside:
        if isinstance(each, Coroutine):
            each.close()
