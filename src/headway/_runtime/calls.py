"""A call as the user states it: what to call, its options, and what its result says of tokens."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

from headway.errors import InvalidArgument
from headway.kinds import Kind
from headway.kinds._words import a, shown
from headway.rates import is_number

__all__ = [
    "Options",
    "Stopped",
    "check_async_function",
    "check_awaitable",
    "check_callable",
    "check_items",
    "check_plain_function",
    "check_wrapped",
    "checked_tokens",
    "checked_usage",
    "is_coroutine",
    "kind_of",
]

# Sums of these stay exact, and no provider counts so far.
_MOST_TOKENS = 1e15


@dataclass(frozen=True, slots=True)
class Options:
    """How a call is made; `Scheduler.with_options` explains each."""

    priority: float = 0
    key: Any = None
    timeout: float | None = None
    attempt_timeout: float | None = None
    tokens: float | Callable[..., float] | None = None
    usage: Callable[[Any], float | None] | None = None
    is_refused: Callable[[Any], bool | Kind | None] | None = None  # of results: the scheduler's own
    blocks: bool = False  # it is a thread that waits for its calls, and no task


class Stopped(RuntimeError):
    """A function of the user's raised `error`, a StopIteration: no coroutine can, and what loops
    over results would take it for their end. Whoever hands it to a plain caller raises `error`.
    """

    def __init__(self, error: StopIteration) -> None:
        super().__init__("a call raised StopIteration, which would end the loop over its results")
        self.error = error
        self.__cause__ = error

    def stopped(self) -> StopIteration:
        """The error, with the notes that this one has got."""
        for note in getattr(self, "__notes__", ()):
            self.error.add_note(note)
        return self.error


def check_callable(fn: object, name: str) -> None:
    """Raise `InvalidArgument` where `fn` is the result of a call, not what to call."""
    if callable(fn):
        return
    if is_coroutine(fn):
        fn.close()
        called = getattr(fn, "__qualname__", "fn")
        raise InvalidArgument(
            f"{name}() takes a function and got a coroutine object: {called}(...) was called "
            "already, so it could never be retried",
            fix=f"scheduler.{name}({called}, ...) with "
            "the arguments after it, or scheduler.gather() for coroutine objects.",
        )
    raise InvalidArgument(
        f"{name}() takes an async function and got {type(fn).__name__}: {fn!r:.80}",
        fix="pass the function itself and its arguments after it.",
    )


def is_coroutine(value: object) -> TypeGuard[Coroutine[Any, Any, Any]]:
    """Whether `value` is a coroutine object. A `Map` is one too, but also a run: that it is not."""
    return isinstance(value, Coroutine) and not isinstance(value, AsyncIterable)


def check_wrapped(fn: object, name: str) -> None:
    """Raise `InvalidArgument` where `fn`, which is to be wrapped, binds to nothing by itself."""
    if isinstance(fn, classmethod | staticmethod):
        raise InvalidArgument(
            f"@{name} got {a(type(fn).__name__)}, which is no function by itself",
            fix=f"@{type(fn).__name__} above @{name}, so that the function is wrapped first.",
        )


def check_async_function(fn: object, name: str) -> None:
    """Raise `InvalidArgument` where `fn`, which is to be wrapped, is no async function."""
    check_wrapped(fn, name)
    check_callable(fn, name)
    called = getattr(fn, "__qualname__", type(fn).__qualname__)
    inner: Any = inspect.unwrap(cast("Any", fn))
    each_of: list[Any] = [fn, inner, getattr(type(fn), "__call__", None)]  # noqa: B004 - a class's own
    if any(inspect.isasyncgenfunction(each) for each in each_of):
        raise InvalidArgument(
            f"@{name} takes an async function that returns, and {called} is an async generator: "
            "its results come while it holds a slot",
            fix="`async with scheduler.lease():` inside of it.",
        )
    if isinstance(fn, type) or not any(inspect.iscoroutinefunction(each) for each in each_of):
        raise InvalidArgument(
            f"@{name} takes an async function, and {called} is none",
            fix=f"async def {called.rpartition('.')[2]}, or headway.sync.Scheduler for plain "
            "functions.",
        )


def check_items(items: object, name: str) -> None:
    """Raise `InvalidArgument` where `items` is a coroutine object, and close that."""
    if is_coroutine(items):
        items.close()
        called = getattr(items, "__qualname__", "items")
        raise InvalidArgument(
            f"{name}() takes items and got a coroutine object: {called}(...) was called and not "
            "awaited",
            fix=f"`await {called}(...)` where it returns the items; scheduler.gather() "
            "runs coroutine objects.",
        )


def check_plain_function(fn: object, name: str, fix: str) -> None:
    """Raise `InvalidArgument` where `fn` cannot be called, or would have to be awaited."""
    if not callable(fn):
        raise InvalidArgument(f"{name}={shown(fn)} is not a function", fix=f"{fix}.")
    for each in (fn, getattr(type(fn), "__call__", None)):  # noqa: B004 - a class's own
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            called = getattr(fn, "__qualname__", type(fn).__qualname__)
            raise InvalidArgument(
                f"{name}= takes a plain function and {called} is async: it is called where "
                "nothing can be awaited",
                fix=f"{fix}.",
            )


def kind_of(answer: object) -> Kind | None:
    """What ``is_refused=`` said: None for no refusal. Raises `InvalidArgument` for another."""
    if answer is None or answer is False:
        return None
    if answer is True:
        return Kind.RATE
    if isinstance(answer, str):
        with suppress(ValueError):
            return Kind(answer)
    if isinstance(answer, Coroutine):
        answer.close()
    raise InvalidArgument(
        f"is_refused= returned {shown(answer)}, which is no answer",
        fix="True (a rate refusal), a "
        "Kind such as Kind.CAPACITY, or False or None for no refusal; bool(...) where any value "
        "but an empty one is a refusal.",
    )


def checked_tokens(tokens: object) -> float:
    """`tokens` as a number; raises `InvalidArgument` for what is none."""
    if isinstance(tokens, bool) or not isinstance(tokens, int | float):
        raise InvalidArgument(
            f"tokens={shown(tokens)} is not a number",
            fix="the tokens that one attempt uses, or a "
            "function of the call's arguments that returns them.",
        )
    if not 0 <= tokens <= _MOST_TOKENS:
        raise InvalidArgument(
            f"tokens={shown(tokens)} is not a count",
            fix="a finite number from 0, the tokens that one attempt uses.",
        )
    return tokens


def check_awaitable(fn: object, call: object) -> None:
    """Raise `InvalidArgument` where calling `fn` gave nothing that can be awaited."""
    if isinstance(call, Awaitable):
        return
    _close_inside(call)
    name = getattr(fn, "__qualname__", None) or repr(fn)
    if hasattr(call, "__aiter__"):
        raise InvalidArgument(
            f"{name} is an async generator: it yields results and cannot be awaited",
            fix="pass an async def function that returns its result.",
        )
    raise InvalidArgument(
        f"{name} is not async: it returned {type(call).__name__}, which cannot be awaited",
        fix="pass an async def function, or give plain functions to a headway.sync.Scheduler.",
    )


def _close_inside(call: object) -> None:
    """Close the coroutine objects that `call`, a context manager of an SDK, would have awaited:
    Python would complain that they never were.
    """
    held = getattr(call, "__dict__", None)
    for each in held.values() if isinstance(held, dict) else ():
        if isinstance(each, Coroutine):
            each.close()


def checked_usage(used: object) -> float | None:
    """What ``usage=`` returned, None for not known; raises `InvalidArgument` for no count."""
    if used is None:
        return None
    if not (is_number(used) and 0 <= used <= _MOST_TOKENS):
        raise InvalidArgument(
            f"usage= returned {shown(used)}, which is no count of tokens",
            fix="a finite number from 0, or None where it is not known.",
        )
    return used
