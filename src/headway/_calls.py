"""A call as the user states it: what to call, its options, and what its result says of tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Options",
    "check_awaitable",
    "check_callable",
    "checked_tokens",
    "checked_usage",
    "usage_of",
]

INFINITY = float("inf")


@dataclass(frozen=True, slots=True)
class Options:
    """How a call is made; `Scheduler.with_options` explains each."""

    priority: float = 0
    key: Any = None
    timeout: float | None = None
    attempt_timeout: float | None = None
    tokens: float | Callable[..., float] | None = None
    usage: Callable[[Any], float | None] | None = None


def check_callable(fn: object, name: str) -> None:
    """Raise `TypeError` where `fn` is the result of a call, not what to call."""
    if callable(fn):
        return
    if isinstance(fn, Coroutine):
        fn.close()
        called = getattr(fn, "__qualname__", "fn")
        raise TypeError(
            f"{name}() takes a function and got a coroutine object: {called}(...) was called "
            f"already, so it could never be retried. Fix: scheduler.{name}({called}, ...) with "
            "the arguments after it, or scheduler.gather() for coroutine objects."
        )
    raise TypeError(
        f"{name}() takes an async function and got {type(fn).__name__}: {fn!r:.80}. Fix: pass the "
        "function itself and its arguments after it."
    )


def checked_tokens(tokens: object) -> float:
    """`tokens` as a number; raises `ValueError` or `TypeError` for what is none."""
    if isinstance(tokens, bool) or not isinstance(tokens, int | float):
        raise TypeError(
            f"tokens={tokens!r} is not a number. Fix: the tokens that one attempt uses, or a "
            "function of the call's arguments that returns them."
        )
    if not 0 <= tokens < INFINITY:
        raise ValueError(
            f"tokens={tokens!r} is not a count. Fix: a finite number from 0, the tokens that one "
            "attempt uses."
        )
    return tokens


def check_awaitable(fn: object, call: object) -> None:
    """Raise `TypeError` where calling `fn` gave nothing that can be awaited."""
    if isinstance(call, Awaitable):
        return
    name = getattr(fn, "__qualname__", None) or repr(fn)
    if hasattr(call, "__aiter__"):
        raise TypeError(
            f"{name} is an async generator: it yields results and cannot be awaited. Fix: pass an "
            "async def function that returns its result."
        )
    raise TypeError(
        f"{name} is not async: it returned {type(call).__name__}, which cannot be awaited. Fix: "
        "pass an async def function; run blocking code with anyio.to_thread.run_sync."
    )


def usage_of(result: object) -> float | None:
    """``result.usage.total_tokens``, or the same of a dict, where it is a number."""
    usage = getattr(result, "usage", None)
    if usage is None:
        if not isinstance(result, dict):
            return None
        usage = result.get("usage")
    total = (
        usage.get("total_tokens")
        if isinstance(usage, dict)
        else (getattr(usage, "total_tokens", None))
    )
    return total if isinstance(total, int | float) and 0 <= total < INFINITY else None


def checked_usage(used: object) -> float | None:
    """What ``usage=`` returned, None where it does not know; raises `TypeError` for no count."""
    if used is None:
        return None
    number = isinstance(used, int | float) and not isinstance(used, bool)
    if not (number and 0 <= used < INFINITY):  # type: ignore[operator]
        raise TypeError(
            f"usage= returned {used!r}, which is no count of tokens. Fix: a finite number from 0, "
            "or None where it is not known."
        )
    return used  # type: ignore[return-value]
