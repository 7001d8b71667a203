"""How long something may take: in a task, which can be cancelled, and in a thread, which cannot.

The transports are one implementation for both. In a thread a limit is a deadline, which
each blocking call of the transport inside gets as its own timeouts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, Self

import anyio
from anyio.lowlevel import checkpoint

__all__ = ["LoopTimes", "ThreadTimes", "TimeLimits", "bounded"]

_TIMEOUTS = ("connect", "read", "write", "pool")


class Moved(Protocol):
    """A limit of `TimeLimits.move_on_after`."""

    @property
    def cancelled_caught(self) -> bool:
        """Whether it has ended what took longer."""
        ...


class TimeLimits(Protocol):
    """What bounds what is awaited, by the names of anyio."""

    def fail_after(self, seconds: float | None) -> AbstractContextManager[Any, bool | None]:
        """Ends what takes longer in a `TimeoutError`."""
        ...

    def move_on_after(self, seconds: float) -> AbstractContextManager[Moved, bool | None]:
        """Ends what takes longer; it was, where `cancelled_caught`."""
        ...

    def shielded(self) -> AbstractContextManager[Any, bool | None]:
        """Cancels nothing that is awaited inside it."""
        ...

    async def checkpoint(self) -> None:
        """Let others go on, and a limit pass."""
        ...


class LoopTimes:
    """Those of a task of an event loop."""

    def fail_after(self, seconds: float | None) -> AbstractContextManager[Any, bool | None]:
        """Ends what takes longer in a `TimeoutError`."""
        return anyio.fail_after(seconds)

    def move_on_after(self, seconds: float) -> AbstractContextManager[Moved, bool | None]:
        """Ends what takes longer; it was, where `cancelled_caught`."""
        return anyio.move_on_after(seconds)

    def shielded(self) -> AbstractContextManager[Any, bool | None]:
        """Cancels nothing that is awaited inside it."""
        return anyio.CancelScope(shield=True)

    async def checkpoint(self) -> None:
        """Let others go on, and a limit pass."""
        await checkpoint()


class ThreadTimes:
    """Those of a thread."""

    def fail_after(self, seconds: float | None) -> AbstractContextManager[Any, bool | None]:
        """Ends what takes longer in a `TimeoutError`."""
        return nullcontext() if seconds is None else _Deadline(seconds, fails=True)

    def move_on_after(self, seconds: float) -> AbstractContextManager[Moved, bool | None]:
        """Ends what takes longer; it was, where `cancelled_caught`."""
        return _Deadline(seconds, fails=False)

    def shielded(self) -> AbstractContextManager[Any, bool | None]:
        """Nothing is cancelled in a thread."""
        return nullcontext()

    async def checkpoint(self) -> None:
        """Others go on by themselves."""


class _Over(BaseException):
    """A deadline has passed; not for the code between, which would take it for a failure."""


class _Here(threading.local):
    deadline = float("inf")  # of what this thread does, on `time.monotonic`


_here = _Here()


class _Deadline:
    cancelled_caught = False

    def __init__(self, seconds: float, *, fails: bool) -> None:
        self._at = time.monotonic() + seconds
        self._fails = fails
        self._outer = float("inf")

    def __enter__(self) -> Self:
        self._outer = _here.deadline
        _here.deadline = min(self._outer, self._at)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        _here.deadline = self._outer
        if not isinstance(error, _Over) or time.monotonic() < self._at:
            return False
        if self._fails:
            raise TimeoutError from error.__cause__
        self.cancelled_caught = True
        return True


@contextmanager
def bounded(request: Any) -> Iterator[None]:
    """Bound a blocking call for `request`, of either library, by the deadline of this thread."""
    left = _here.deadline - time.monotonic()
    if left == float("inf"):
        yield
        return
    if left <= 0:
        raise _Over
    stated = request.extensions.get("timeout", {})
    least = {name: min(left, _seconds(stated.get(name))) for name in _TIMEOUTS}
    request.extensions["timeout"] = {**stated, **least}
    try:
        yield
    except Exception as error:
        if time.monotonic() >= _here.deadline:
            raise _Over from error
        raise
    finally:
        request.extensions["timeout"] = stated


def _seconds(timeout: float | None) -> float:
    return float("inf") if timeout is None else timeout
