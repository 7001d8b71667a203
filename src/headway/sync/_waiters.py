"""What callers in any thread, and on any event loop, wait for: set from whatever thread polls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any

from headway._runtime.clock import running_loop
from headway._runtime.waiter import Waiter

__all__ = ["Abandoned", "CommonFlag", "LoopWaiter", "ThreadWaiter", "TimeOver"]


class TimeOver(Exception):
    """A thread has waited for as long as it may."""


class Abandoned(BaseException):
    """Nobody wants any more what a thread waits to do."""


class ThreadWaiter:
    """Waited for by one thread, which it blocks; after that it may be waited for again."""

    __slots__ = ("_abandoned", "_lock")

    def __init__(self) -> None:
        self._abandoned = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Let the thread go on."""
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:  # somebody else was faster
                pass

    def abandon(self) -> None:
        """Have this wait, and every other, end in `Abandoned`."""
        self._abandoned = True
        self.set()

    def wait(self, seconds: float = threading.TIMEOUT_MAX) -> None:
        """Block until it is set. Raises `TimeOver` after so many seconds, and `Abandoned`."""
        if not self._abandoned and (
            seconds <= 0 or not self._lock.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
        ):
            raise TimeOver
        if self._abandoned:
            raise Abandoned


class LoopWaiter:
    """Waited for by one task of the event loop in which it is made.

    `lost` is called where that loop has ended, and nobody waits any more.
    """

    __slots__ = ("_call", "_inner", "_lost")

    def __init__(self, lost: Callable[[], object]) -> None:
        _, loop, _, waiters = running_loop()
        either: Any = loop
        self._call: Callable[[Callable[[], object]], object] = (
            getattr(either, "call_soon_threadsafe", None) or either.run_sync_soon
        )
        self._inner: Waiter = waiters()
        self._lost = lost

    def set(self) -> None:
        """Let the task go on."""
        try:
            self._call(self._inner.set)
        except RuntimeError:
            self._lost()

    def __await__(self) -> Generator[Any, Any, object]:
        return self._inner.__await__()


class CommonFlag:
    """An `anyio.Event` that tasks of several loops, and threads, may wait for."""

    def __init__(self) -> None:
        self._set = False
        self._waiters: list[LoopWaiter | ThreadWaiter] = []

    def set(self) -> None:
        """Let all go on."""
        self._set = True
        for waiter in self._waiters:
            waiter.set()

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._set

    async def wait(self) -> None:
        """Wait until it is set, in a task."""
        waiter = LoopWaiter(lambda: None)
        self.add(waiter)
        await waiter

    def add(self, waiter: LoopWaiter | ThreadWaiter) -> None:
        """Set `waiter` with it."""
        self._waiters.append(waiter)
        if self._set:  # meanwhile: appended first, so that none is forgotten
            waiter.set()
