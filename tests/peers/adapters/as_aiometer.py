"""The functions of aiometer, made of a scheduler's `map` and `as_completed`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiometer
from counted import UNDER_HEADWAY, _reached, reached

from headway import Rate, Retry, Scheduler

__all__ = ["_reached"]


def scheduler(max_at_once: int | None, max_per_second: float | None) -> Scheduler:
    """One with aiometer's two limits, and no retries."""
    reached()
    return Scheduler(
        None if max_per_second is None else Rate(max_per_second, per=1),
        concurrency=max_at_once if max_at_once is not None else 1000,
        retry=Retry(attempts=1),
    )


async def call(function: Callable[[], Awaitable[Any]]) -> Any:
    return await function()


async def run_on_each(
    async_fn: Callable[[Any], Awaitable[Any]],
    args: Sequence[Any],
    *,
    max_at_once: int | None = None,
    max_per_second: float | None = None,
) -> None:
    await scheduler(max_at_once, max_per_second).map(async_fn, args)


async def run_all(
    async_fns: Sequence[Callable[[], Awaitable[Any]]],
    *,
    max_at_once: int | None = None,
    max_per_second: float | None = None,
) -> list[Any]:
    return await scheduler(max_at_once, max_per_second).map(call, async_fns)


async def run_any(
    async_fns: Sequence[Callable[[], Awaitable[Any]]],
    *,
    max_at_once: int | None = None,
    max_per_second: float | None = None,
) -> Any:
    async with scheduler(max_at_once, max_per_second).as_completed(call, async_fns) as outcomes:
        async for outcome in outcomes:
            return outcome.result
    return None


@asynccontextmanager
async def amap(
    async_fn: Callable[[Any], Awaitable[Any]],
    args: Sequence[Any],
    max_at_once: int | None = None,
    max_per_second: float | None = None,
    _include_index: bool = False,
) -> AsyncIterator[AsyncIterator[Any]]:
    run = scheduler(max_at_once, max_per_second).as_completed(async_fn, args)
    async with run as outcomes:

        async def results() -> AsyncIterator[Any]:
            async for outcome in outcomes:
                yield outcome.result

        yield results()
        async for outcome in outcomes:  # those that nobody read have run too
            assert outcome.error is None


if UNDER_HEADWAY:
    for function in (run_on_each, run_all, run_any, amap):
        setattr(aiometer, function.__name__, function)
