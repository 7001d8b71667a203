"""anyio's CapacityLimiter, made of a scheduler's concurrency and its leases."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

import anyio
import pytest
from counted import UNDER_HEADWAY, _reached, reached

from headway import Scheduler

__all__ = ["_reached"]


def current_task() -> Any:
    return anyio.get_current_task().id


class Limiter:
    """The names of anyio's, each made of what a scheduler offers."""

    def __init__(self, total_tokens: float) -> None:
        reached()
        self._leases: dict[Any, Any] = {}
        self._scheduler = Scheduler(concurrency=1)
        self.total_tokens = total_tokens

    @property
    def total_tokens(self) -> float:
        return self._total

    @total_tokens.setter
    def total_tokens(self, value: float) -> None:
        if not isinstance(value, int) and value != math.inf:
            raise TypeError("total_tokens must be an int or math.inf")
        if value < 0:
            raise ValueError("total_tokens must be >= 0")
        self._total = value
        if value == 0:  # a scheduler has no concurrency of 0; it is paused
            self._scheduler.pause()
            return
        self._scheduler.set_limits(concurrency=1_000_000 if value == math.inf else value)
        self._scheduler.resume()

    @property
    def borrowed_tokens(self) -> int:
        return self._scheduler.statistics().in_flight

    @property
    def available_tokens(self) -> float:
        return self._total - self.borrowed_tokens

    def statistics(self) -> anyio.CapacityLimiterStatistics:
        now = self._scheduler.statistics()
        return anyio.CapacityLimiterStatistics(
            now.in_flight, self._total, tuple(self._leases), now.queued
        )

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    async def acquire(self) -> None:
        await self.acquire_on_behalf_of(current_task())

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        self._check_new(borrower)
        lease = self._scheduler.lease()
        await lease.__aenter__()
        self._leases[borrower] = lease

    def acquire_nowait(self) -> None:
        self.acquire_on_behalf_of_nowait(current_task())

    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """A lease that is entered without waiting, or `WouldBlock`."""
        self._check_new(borrower)
        lease = self._scheduler.lease()
        entering = lease.__aenter__()
        try:
            entering.send(None)
        except StopIteration:
            self._leases[borrower] = lease
            return
        entering.close()
        raise anyio.WouldBlock

    def release(self) -> None:
        self.release_on_behalf_of(current_task())

    def release_on_behalf_of(self, borrower: object) -> None:
        lease = self._leases.pop(borrower, None)
        if lease is None:
            raise RuntimeError("this borrower isn't holding any of this CapacityLimiter's tokens")
        leaving = lease.__aexit__(None, None, None)
        try:
            leaving.send(None)
        except StopIteration:
            return
        raise AssertionError("a lease waits at its end")

    def _check_new(self, borrower: object) -> None:
        if borrower in self._leases:
            raise RuntimeError(
                "this borrower is already holding one of this CapacityLimiter's tokens"
            )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The suite has the class by its own name."""
    for item in items if UNDER_HEADWAY else ():
        assert isinstance(item, pytest.Function)
        item.module.CapacityLimiter = Limiter
