"""Ways to make a call, and what cannot be called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio

from headway import Scheduler

__all__ = ["CALLS", "WAYS", "Client", "ask", "generator", "not_async", "use"]


async def ask(question: object = None) -> object:
    await anyio.sleep(1)
    return question


def not_async(question: object = None) -> object:
    return question


async def generator(question: object = None) -> AsyncIterator[int]:
    yield 1


class Client:
    async def ask(self, question: object) -> object:
        return question


async def use(scheduler: Scheduler, way: str, fn: Callable[..., Any] = ask) -> object:
    """Use `scheduler` in one of the ways that its public face has."""

    def call() -> Any:
        return fn("why?")

    if way == "submit":
        return await scheduler.submit(fn, "why?")
    if way == "timeout":
        return await scheduler.with_options(timeout=5).submit(fn, "why?")
    if way == "map":
        return await scheduler.map(fn, ["why?"])
    if way == "stream":
        async with scheduler.map(fn, ["why?"]) as results:
            return [result async for result in results]
    if way == "as_completed":
        async with scheduler.as_completed(fn, ["why?"]) as outcomes:
            return [outcome.result async for outcome in outcomes]
    if way == "gather":
        call.__qualname__ = fn.__qualname__
        return await scheduler.gather(call)
    if way == "coroutines":
        return await scheduler.gather(fn("a"), fn("b"))
    if way == "lease":
        async with scheduler.lease():
            return None
    if way == "lease with a timeout":
        async with scheduler.with_options(timeout=5).lease():
            return None
    if way == "aclose":
        return await scheduler.aclose()
    if way == "set_limits":
        return scheduler.set_limits(concurrency=9)
    return getattr(scheduler, way)()


CALLS = ["submit", "timeout", "map", "stream", "as_completed", "gather"]


WAYS = [*CALLS, "coroutines", "lease", "lease with a timeout"]
