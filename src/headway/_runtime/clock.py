"""Which event loop an object belongs to, and the clock of that loop."""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop, BaseEventLoop, Task, get_running_loop
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import anyio
from anyio.lowlevel import current_token

from headway._runtime.waiter import Waiter, asyncio_waiters, trio_waiters

__all__ = ["LoopClock", "is_over", "running_loop"]


class LoopClock:
    """Belongs to the loop that uses it, and moves to another one while it is idle.

    A class that derives from it says when it is not, in `_check_idle`, and carries its times over
    in `_moved`.
    """

    def __init__(self) -> None:
        self.clock: Callable[[], float] = float  # 0.0 until there is a loop
        self._loop: object = None
        self._current: Callable[[], object] = _no_loop
        self._waiter: Callable[[], Waiter] = _no_loop  # makes what a caller parks on
        self._offset = -time.monotonic()  # from the system's monotonic clock to the loop's
        self._left: list[Callable[[], object]] = []  # what no loop was there to call
        self._tasks: set[Task[None]] = set()  # of asyncio, that were spawned
        self._last = 0.0  # the latest time seen, for a clock that jumped may be ahead

    def now(self) -> float:
        """The time on the clock of the running loop, to which the object belongs from now on.

        Raises what `_check_idle` raises, and anyio's `NoEventLoopError` outside a loop.
        """
        try:
            if self._current() is self._loop:
                return self.clock()
        except RuntimeError:
            pass
        self._bind()
        return self.clock()

    def time(self) -> float:
        """The time as far as known, for calls that may come from outside the loop."""
        try:
            if self._current() is self._loop:
                return self.clock()
        except RuntimeError:
            pass
        return max(self._last, time.monotonic() + self._offset)

    def leave_loop(self) -> None:
        """Belong to no loop any more: it is one of the process that this one was forked from."""
        self._loop, self._current = _Parents(), _no_loop
        self._left.clear()
        self._tasks.clear()

    @property
    def loop(self) -> object:
        """The event loop that it belongs to; None before the first."""
        return self._loop

    @property
    def at_work(self) -> bool:
        """Whether its loop runs, as far as loops say."""
        return self._loop is not None and getattr(self._loop, "is_running", lambda: True)()

    def soon(self, callback: Callable[[], object]) -> None:
        """Have the loop call `callback`; from a garbage collector, in whatever thread."""
        if not self.hand(callback):
            self._left.append(callback)  # the loop has ended: the next one's business

    def hand(self, callback: Callable[[], object]) -> bool:
        """Have the loop call `callback`, from any thread; False where it has ended."""
        loop: Any = self._loop
        call = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        try:
            call(callback)
        except RuntimeError:
            return False
        return True

    def next_turn(self, callback: Callable[[], object]) -> bool:
        """Have the loop call `callback` at its next turn, from a task of the loop itself; False
        where it has ended: then the next one does.
        """
        loop: Any = self._loop
        call = getattr(loop, "call_soon", None) or loop.run_sync_soon
        try:
            call(callback)
        except RuntimeError:
            self._left.append(callback)
            return False
        return True

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """Run `work` as a task of the loop's own, which must raise no `Exception`; what is returned
        cancels it.
        """
        loop: Any = self._loop
        if isinstance(loop, AbstractEventLoop):
            task = loop.create_task(work())
            self._tasks.add(task)  # the loop itself forgets those that nobody holds
            task.add_done_callback(self._tasks.discard)
            return task.cancel
        from trio.lowlevel import spawn_system_task

        scope = anyio.CancelScope()

        async def within() -> None:
            with scope:
                await work()

        spawn_system_task(within)
        return scope.cancel

    def _check_idle(self, *, lost: bool) -> None:
        """Raise where work is pending; where the loop is `lost`, a closed one, give that up."""
        raise NotImplementedError

    def _moved(self, seconds: float) -> None:
        """Follow to a clock that shows `seconds` more."""
        raise NotImplementedError

    def _bind(self) -> None:
        old = max(self._last, time.monotonic() + self._offset)
        if self._left:
            self.clock = lambda: old
            for callback in self._left:
                callback()
            self._left.clear()
        # An asyncio loop that is closed ends nothing any more: what it left is nobody's.
        self._check_idle(lost=getattr(self._loop, "is_closed", bool)())
        self._current, self._loop, self.clock, self._waiter = running_loop()
        self._last = now = self.clock()
        self._offset = now - time.monotonic()
        self._moved(now - old)


def is_over(loop: Any) -> bool:
    """Whether `loop`, as `running_loop` names it, has ended."""
    if isinstance(loop, AbstractEventLoop):
        return loop.is_closed()
    try:
        loop.run_sync_soon(bool)
    except RuntimeError:
        return True
    return False


def _no_loop(*_: object) -> NoReturn:
    raise RuntimeError


class _Parents:
    """In place of a loop of the process that this one was forked from: it calls nothing here."""

    call_soon = call_soon_threadsafe = staticmethod(_no_loop)


def running_loop() -> tuple[
    Callable[[], object], object, Callable[[], float], Callable[[], Waiter]
]:
    """How to find out which loop runs, which one it is, its clock, and how its tasks wait."""
    try:
        loop = get_running_loop()
    except RuntimeError:
        pass
    else:
        # Where the loop's clock is the system's, without the method around it.
        ours = type(loop).time is BaseEventLoop.time
        clock = time.monotonic if ours else loop.time
        return get_running_loop, loop, clock, asyncio_waiters(loop)
    current_token()  # raises NoEventLoopError where no loop runs at all
    from trio.lowlevel import current_trio_token

    return current_trio_token, current_trio_token(), anyio.current_time, trio_waiters()
