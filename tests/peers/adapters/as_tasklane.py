"""The functions of tasklane, made of a scheduler's `map`, `as_completed` and `gather`."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import tasklane
import tasklane._core
from counted import UNDER_HEADWAY, _reached, reached
from tasklane import Backoff, Progress

from headway import Kind, Rate, Retry, Scheduler

__all__ = ["_reached"]


def view(
    limit: int,
    retries: int,
    backoff: Backoff | None,
    retry_on: Any,
    timeout: float | None,
    rate_limit: float | None,
) -> Any:
    """A scheduler's view with the options of tasklane, which retries whatever is raised."""
    reached()
    tasklane._core._validate(limit, retries, timeout, rate_limit)
    backoff = backoff or Backoff()

    def again(result: Any) -> Kind | None:
        if not isinstance(result, BaseException):
            return None
        if isinstance(retry_on, (tuple, type)):
            return Kind.TRANSIENT if isinstance(result, retry_on) else Kind.PERMANENT
        return Kind.TRANSIENT if retry_on(result) else Kind.PERMANENT

    scheduler = Scheduler(
        None if rate_limit is None else Rate(rate_limit, per=1),
        concurrency=limit,
        retry=Retry(attempts=retries + 1, base=backoff.base, cap=backoff.max_delay),
        is_refused=again,
    )
    return scheduler.with_options(attempt_timeout=timeout)


class Told:
    """Tells `on_progress` of each call that ended."""

    def __init__(self, items: Any, on_progress: Callable[[Progress], None] | None) -> None:
        self.on_progress = on_progress
        self.total = len(items) if hasattr(items, "__len__") else None
        self.running = self.succeeded = self.failed = 0
        self.began = time.monotonic()

    def over(self, fn: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        async def counted(item: Any) -> Any:
            self.running += 1
            try:
                return await fn(item)
            finally:
                self.running -= 1

        return counted

    def ended(self, error: BaseException | None) -> None:
        self.succeeded += error is None
        self.failed += error is not None
        if self.on_progress is not None:
            self.on_progress(
                Progress(
                    completed=self.succeeded + self.failed,
                    total=self.total,
                    succeeded=self.succeeded,
                    failed=self.failed,
                    in_flight=self.running,
                    elapsed=time.monotonic() - self.began,
                )
            )


async def stream(
    func: Callable[[Any], Awaitable[Any]],
    items: Any,
    *,
    limit: int = 16,
    retries: int = 0,
    backoff: Backoff | None = None,
    retry_on: Any = Exception,
    timeout: float | None = None,
    return_exceptions: bool = False,
    rate_limit: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> AsyncIterator[Any]:
    under = view(limit, retries, backoff, retry_on, timeout, rate_limit)
    told = Told(items, on_progress)
    async with under.as_completed(told.over(func), items) as outcomes:
        async for outcome in outcomes:
            told.ended(outcome.error)
            yield outcome.error if return_exceptions and outcome.error else outcome.result


async def amap(
    func: Callable[[Any], Awaitable[Any]],
    items: Any,
    *,
    limit: int = 16,
    retries: int = 0,
    backoff: Backoff | None = None,
    retry_on: Any = Exception,
    timeout: float | None = None,
    return_exceptions: bool = False,
    rate_limit: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Any]:
    under = view(limit, retries, backoff, retry_on, timeout, rate_limit)
    if on_progress is None:
        found: list[Any] = await under.map(func, items, return_exceptions=return_exceptions)
        return found
    told = Told(items, on_progress)
    results = {}

    async def numbered() -> AsyncIterator[tuple[int, Any]]:
        number = 0
        if hasattr(items, "__aiter__"):
            async for item in items:
                yield number, item
                number += 1
        else:
            for pair in enumerate(items):
                yield pair

    async with under.as_completed(told.over(lambda pair: func(pair[1])), numbered()) as outcomes:
        async for outcome in outcomes:
            told.ended(outcome.error)
            number = outcome.item[0]
            results[number] = (
                outcome.error if return_exceptions and outcome.error else outcome.result
            )
    return [results[number] for number in sorted(results)]


async def gather(
    *coros: Awaitable[Any],
    limit: int = 16,
    timeout: float | None = None,
    rate_limit: float | None = None,
    return_exceptions: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Any]:
    under = view(limit, 0, None, Exception, timeout, rate_limit)
    if on_progress is None:
        found: list[Any] = await under.gather(*coros, return_exceptions=return_exceptions)
        return found

    async def one(coro: Awaitable[Any]) -> Any:
        return await coro

    try:
        return await amap(
            one,
            coros,
            limit=limit,
            timeout=timeout,
            rate_limit=rate_limit,
            return_exceptions=return_exceptions,
            on_progress=on_progress,
        )
    finally:
        for coro in coros:
            if inspect.iscoroutine(coro):
                coro.close()


if UNDER_HEADWAY:
    for function in (amap, stream, gather):
        setattr(tasklane, function.__name__, function)
        setattr(tasklane._core, function.__name__, function)
