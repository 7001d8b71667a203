"""Items for runs, and calls on them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from headway import Scheduler

__all__ = ["KINDS", "Source", "as_source", "double", "each", "idle"]


async def double(n: int) -> int:
    await anyio.sleep(1 / (n + 1))  # the first are the slowest
    return 2 * n


async def each(items: Any) -> AsyncIterator[Any]:
    for item in items:
        await anyio.lowlevel.checkpoint()
        yield item


def idle(scheduler: Scheduler) -> bool:
    stats = scheduler.statistics()
    return not (stats.queued or stats.in_flight or scheduler._shell.parked)


class Source:
    """Counts what was taken, and whether two take at once; closed at its end, or early."""

    def __init__(self, items: Any = None, error: Exception | None = None) -> None:
        self.items = itertools.count() if items is None else items
        self.error = error
        self.taken = 0
        self.consumed = 0
        self.most = 0
        self.finished = False
        self._busy = False

    def _take(self) -> None:
        self.taken += 1
        self.most = max(self.most, self.taken - self.consumed)

    def __iter__(self) -> Iterator[Any]:
        try:
            for item in self.items:
                self._take()
                yield item
            if self.error:
                raise self.error
        finally:
            self.finished = True

    async def asynchronous(self) -> AsyncIterator[Any]:
        try:
            for item in self.items:
                assert not self._busy
                self._busy = True
                await anyio.sleep(0.001)
                self._busy = False
                self._take()
                yield item
            if self.error:
                raise self.error
        finally:
            with anyio.CancelScope(shield=True):  # it may be cancelled while it takes an item
                await anyio.sleep(0.001)  # a connection that is closed
            self.finished = True


def as_source(source: Source, kind: str) -> Any:
    return source if kind == "sync" else source.asynchronous()


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
