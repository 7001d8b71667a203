"""map, as_completed and gather for threads: what their consumer loops over."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, TypeVar

from headway._runtime.calls import Options, Stopped, check_items
from headway._runtime.checks import check_flag
from headway._runtime.progress import watch
from headway._runtime.single import Single
from headway._runtime.streams import Outcome, carry, length
from headway.errors import AlreadyUsed, InvalidArgument
from headway.kinds._words import a, with_fix
from headway.sync._crew import Crew
from headway.sync._driving import awaitable, check_function
from headway.sync._shell import CommonShell

__all__ = ["AsCompleted", "Map", "check_sync_items", "gather"]

T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger("headway")


class _Run(Single, Iterator[R], Generic[R]):
    """A run that starts when it is looped over, or entered, and ends with that."""

    _name: str

    def __init__(
        self,
        shell: CommonShell,
        options: Options,
        fn: Callable[..., Any],
        items: Iterable[Any],
        progress: object,
        *,
        ordered: bool,
        keeps_errors: bool,
    ) -> None:
        check_function(fn, self._name)
        check_sync_items(items, self._name)
        self._total = length(items)
        self._over = False
        self._crew = Crew(
            shell,
            options,
            awaitable(fn),
            items,
            ordered=ordered,
            keeps_errors=keeps_errors,
            name=self._name,
            watcher=watch(progress, self._total),
        )

    def _ended(self, error: BaseException) -> None:
        """`error` ends the run, for its consumer."""

    def _shown(self, outcome: Outcome[Any, Any]) -> R:
        """`outcome` as the consumer gets it."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        if self._over:
            raise StopIteration
        try:
            if not self._crew.begun:
                self._crew.start()
            outcome = self._crew.next()
        except BaseException as error:
            self._over = True
            self._crew.stop()
            if isinstance(error, StopIteration):
                error = Stopped(error)
            self._ended(error)
            raise error
        if outcome is None:
            self._over = True
            raise StopIteration
        return self._shown(outcome)

    def __enter__(self) -> Iterator[R]:
        if self._over or self._crew.begun:
            raise AlreadyUsed(
                f"this {self._name}() has been used already", fix=f"call {self._name}() again."
            )
        self._crew.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over = True
        if error is not None and not isinstance(error, Exception):
            self._crew.stop()  # who interrupts does not wait for the calls that run
            return
        self._crew.end()
        if error is None and self._crew.exit is not None:
            raise self._crew.exit

    def __del__(self) -> None:
        crew = getattr(self, "_crew", None)
        if crew is None or self._over:
            return
        if crew.begun:
            crew.stop()
        else:
            logger.warning(
                with_fix(
                    "a %s() was never looped over, and nothing was called",
                    "list(scheduler.%s(...)), or a for loop over it.",
                ), self._name, self._name,
            )  # fmt: skip


class Map(_Run[R]):
    """The results of one function over many items, in the order of the items.

    Loop over it, take a `list` of it, or enter it (``with``), which ends the run with the block. A
    failure takes back what is queued, and is raised when no call runs any more.
    """

    _name = "map"

    def __init__(
        self,
        shell: CommonShell,
        options: Options,
        fn: Callable[..., Any],
        items: Iterable[Any],
        progress: object,
        *,
        return_exceptions: bool,
    ) -> None:
        check_flag("return_exceptions", return_exceptions, "have a failure in its item's place")
        super().__init__(
            shell, options, fn, items, progress, ordered=True, keeps_errors=return_exceptions
        )
        self._taken: dict[int, R] = {}  # by its consumer, where the items have a length

    @property
    def results_so_far(self) -> dict[int, R]:
        """What calls have returned, by the place of their item in the input, from 0.

        Where the items have no length it is what the consumer has not taken. What ends a run early
        (a failure, an interrupt) carries the same as an attribute of this name.
        """
        waiting = {each.index: _result(each) for each in self._crew.waiting}
        return dict(sorted({**self._taken, **waiting}.items()))

    def _ended(self, error: BaseException) -> None:
        lost = self._crew.consumed if self._total is None else 0
        carry(error, self.results_so_far, self._total, taken=lost)

    def _shown(self, outcome: Outcome[Any, Any]) -> R:
        result: R = _result(outcome)
        if self._total is not None:
            self._taken[outcome.index] = result
        return result


def _result(outcome: Outcome[Any, Any]) -> Any:
    """What a call returned, or what it failed with where that stands in its place."""
    return outcome.value if outcome.error is None else outcome.error


class AsCompleted(_Run[Outcome[T, R]]):
    """The outcomes of one function over many items, as they end; failures are outcomes too."""

    _name = "as_completed"

    def __init__(
        self,
        shell: CommonShell,
        options: Options,
        fn: Callable[[T], R],
        items: Iterable[T],
        progress: object,
    ) -> None:
        super().__init__(shell, options, fn, items, progress, ordered=False, keeps_errors=True)

    def _shown(self, outcome: Outcome[T, R]) -> Outcome[T, R]:
        return outcome


def gather(
    shell: CommonShell,
    options: Options,
    calls: tuple[Any, ...],
    progress: object,
    *,
    return_exceptions: bool,
) -> list[Any]:
    """The results of `calls`, functions of no arguments, in their order."""
    try:
        for call in calls:
            _check_call(call)
    finally:
        for call in calls:
            if isinstance(call, Coroutine):
                call.close()
    if callable(options.tokens):
        options = replace(options, tokens=None)  # there are no arguments to ask it about
    run = Map[Any](shell, options, _made, calls, progress, return_exceptions=return_exceptions)
    try:
        return [*run]
    except Stopped as error:
        raised = error
    raise raised.stopped()


def _made(call: Callable[[], Any]) -> Any:
    return call()


def _check_call(call: object) -> None:
    if isinstance(call, _Run):
        raise InvalidArgument(
            f"gather() takes calls and got a {call._name}(), which runs its calls under the limits "
            "itself",
            fix=f"a loop over the {call._name}().",
        )
    if isinstance(call, Iterable) and not callable(call):
        raise InvalidArgument(
            f"gather() takes each call as an argument of its own and got {a(type(call).__name__)}",
            fix="gather(*calls).",
        )
    check_function(call, "gather")


def check_sync_items(items: object, name: str) -> None:
    """Raise `InvalidArgument` where `items` cannot be looped over in a thread."""
    check_items(items, name)
    if isinstance(items, AsyncIterable):
        raise InvalidArgument(
            f"{name}() takes items and got {type(items).__name__}, which is async",
            fix=f"scheduler.aio.{name}(...) in async code.",
        )
    if not isinstance(items, Iterable):
        raise InvalidArgument(
            f"items must be an iterable, not {type(items).__name__}",
            fix="a list, a generator or a range.",
        )
