"""Plain functions, where headway awaits; and its coroutines, run to their end in a thread.

There is one implementation, which awaits. What it awaits for a thread (a `ThreadWaiter`, a plain
function, a sync transport) blocks that thread and never yields, so one step is the whole of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType
from typing import Any, TypeVar

from headway._runtime.calls import Stopped
from headway.errors import InvalidArgument

__all__ = ["awaitable", "check_function", "check_not_generator", "drive"]

R = TypeVar("R")

_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
# What to give instead, where that is no function with its arguments after it.
_FIXES = {
    "gather": "gather(lambda: ask(a), lambda: ask(b)): each call as a function of no arguments.",
    "limit": "@scheduler.limit on the line above a def.",
    "map": "scheduler.map(fn, items).",
    "as_completed": "scheduler.as_completed(fn, items).",
}
_LATER = (CoroutineType, AsyncGeneratorType, GeneratorType)


def drive(call: Awaitable[R]) -> R:
    """What `call`, a coroutine object, returns, which blocks instead of yielding. Raises what it
    raises, and `InvalidArgument` where it awaits what only an event loop can go on with.
    """
    made: Any = call
    raised: Stopped | None = None
    try:
        made.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    except Stopped as error:
        raised = error
    if raised is not None:
        raise raised.stopped()
    made.close()
    raise InvalidArgument(
        "something that has to be awaited was given to headway.sync, whose callers are plain "
        "functions in threads",
        fix="a plain function, or the async face: scheduler.aio.",
    )


def check_function(fn: object, name: str) -> None:
    """Raise `InvalidArgument` where `fn` is no plain function for the method `name`."""
    if type(fn) is FunctionType:
        is_async = fn.__code__.co_flags & _ASYNC
    elif callable(fn):
        is_async = any(
            inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
            for each in (fn, getattr(type(fn), "__call__", None))  # noqa: B004 - a class's own
        )
    else:
        if isinstance(fn, Coroutine):
            fn.close()
            raise InvalidArgument(
                f"{name}() takes a plain function and got a coroutine object: "
                f"{getattr(fn, '__qualname__', 'fn')}(...), which is async, was called already",
                fix=f"scheduler.aio.{name}(...) in async code, or a headway.Scheduler.",
            )
        raise InvalidArgument(
            f"{name}() takes a function and got {type(fn).__name__}: {fn!r:.80}",
            fix=_FIXES.get(
                name, f"scheduler.{name}(fn, ...) with the arguments after the function."
            ),
        )
    if is_async:
        called = getattr(fn, "__qualname__", type(fn).__qualname__)
        door = f"scheduler.aio.{name}({called}, ...)" if name != "limit" else "@scheduler.aio.limit"
        raise InvalidArgument(
            f"{called} is async, and a headway.sync.Scheduler calls plain functions",
            fix=f"{door} in async code, or a headway.Scheduler.",
        )


def check_not_generator(fn: object) -> None:
    """Raise `InvalidArgument` where `fn`, which is to be wrapped, is a generator function."""
    if inspect.isgeneratorfunction(fn):
        raise InvalidArgument(
            f"@limit takes a function that returns, and {fn.__qualname__} is a generator: it would "
            "run when its slot is given back already",
            fix="`with scheduler.lease():` inside of it.",
        )


def awaitable(fn: Callable[..., R]) -> Callable[..., Coroutine[Any, Any, R]]:
    """`fn`, a plain function, as the core's shell calls it. Raises `InvalidArgument` when what `fn`
    returned would run later, in no attempt: a coroutine object, a generator.
    """

    async def call(*args: Any, **kwargs: Any) -> R:
        try:
            result = fn(*args, **kwargs)
        except StopIteration as error:
            raise Stopped(error) from error
        if isinstance(result, _LATER):
            _refuse(fn, result)
        return result

    return call


def _refuse(fn: Callable[..., Any], result: object) -> None:
    called = getattr(fn, "__qualname__", type(fn).__qualname__)
    if isinstance(result, GeneratorType):
        raise InvalidArgument(
            f"{called} returned a generator, which would run when its slot is given back already",
            fix="return a list, or loop over it inside `with scheduler.lease():`.",
        )
    what = "an async generator"
    if isinstance(result, CoroutineType):
        result.close()
        what = "a coroutine object"
    raise InvalidArgument(
        f"{called} returned {what}, and a headway.sync.Scheduler calls plain functions",
        fix="scheduler.aio.submit(...) in async code, or a headway.Scheduler.",
    )
