"""What a parked caller waits for: as light as a task of its event loop allows.

An `anyio.Event` on asyncio is two objects, a deque and two coroutines, 1.3 KB beside the future
that they end in. One task waits for a waiter, and once: the future itself will do.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Protocol

__all__ = ["Flag", "Waiter", "asyncio_waiters", "trio_waiters"]


class Waiter(Protocol):
    """Set once, awaited by one task."""

    def set(self) -> None:
        """Let its task go on."""
        ...

    def is_set(self) -> bool:
        """Whether it was set, or its wait was cancelled: it cannot be awaited again."""
        ...

    def __await__(self) -> Generator[Any, Any, object]: ...

    async def until(self, moment: float) -> bool:
        """Wait for it until the clock of the loop shows `moment`; whether it was set before."""
        ...


class Flag(Protocol):
    """Set once, waited for by several tasks: an `anyio.Event` is one."""

    def set(self) -> Any:
        """Let all of them go on."""
        ...

    def is_set(self) -> bool:
        """Whether it was set."""
        ...

    async def wait(self) -> None:
        """Wait until it is set."""
        ...


class _FutureWaiter(Future[bool]):  # whether it was set, and not out of time
    __slots__ = ()

    def set(self) -> None:
        if not self.done():
            self.set_result(True)

    is_set = Future.done

    async def until(self, moment: float) -> bool:
        """Wait for it until then: a timer alone, where a scope would cancel the task."""
        timer = self.get_loop().call_at(moment, self._ring)
        try:
            return await self
        finally:
            timer.cancel()

    def _ring(self) -> None:
        if not self.done():
            self.set_result(False)


def asyncio_waiters(loop: AbstractEventLoop) -> Callable[[], Waiter]:
    """How to make one for a task of `loop`."""
    return partial(_FutureWaiter, loop=loop)


def trio_waiters() -> Callable[[], Waiter]:
    """How to make one for a task of trio's."""
    from trio import CancelScope
    from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

    class TaskWaiter:
        __slots__ = ("_set", "_task")

        def __init__(self) -> None:
            self._set = False
            self._task: Task | None = None

        def set(self) -> None:
            self._set = True
            if self._task is not None:
                reschedule(self._task)
                self._task = None

        def is_set(self) -> bool:
            return self._set

        def __await__(self) -> Generator[Any, Any, None]:
            if not self._set:
                self._task = current_task()
                yield from wait_task_rescheduled(self._abort).__await__()  # noqa: ASYNC105 - awaited, by yield from

        async def until(self, moment: float) -> bool:
            with CancelScope(deadline=moment) as scope:
                await self
            return not scope.cancelled_caught

        def _abort(self, _: object) -> Abort:
            self._task = None
            return Abort.SUCCEEDED

    return TaskWaiter
