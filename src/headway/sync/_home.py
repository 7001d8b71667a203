"""The event loop of its own thread, on which happens what belongs to no caller.

That is the timer of those who wait, the sinks of events, and the tasks that ask for limits that are
decided elsewhere. It is anyio's blocking portal, in a daemon thread. It ends with the shell that it
is for: closed, collected as garbage, or at the end of the process.
"""

from __future__ import annotations

import atexit
import os
import weakref
from asyncio import (
    AbstractEventLoop,
    SelectorEventLoop,
    TimerHandle,
    get_running_loop,
    run_coroutine_threadsafe,
)
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread, current_thread
from typing import Any, Protocol

from anyio.from_thread import start_blocking_portal

__all__ = ["Home"]


class Tenant(Protocol):
    """Whom a home is for; it holds none for longer than a call."""

    def tick(self) -> None:
        """The moment has come for which the timer was set."""
        ...


class Home:
    """An event loop in a thread of its own, for `tenant`."""

    def __init__(self, tenant: Tenant) -> None:
        for gone in [home for home in _HOMES if not home._thread.is_alive()]:
            gone.end()
        self._tenant = weakref.ref(tenant)
        # A loop that is named keeps the machine's time, as `wake_at` does, whoever patches asyncio.
        self._context = start_blocking_portal(
            name="headway", backend_options={"loop_factory": SelectorEventLoop}
        )
        self._timer: TimerHandle | None = None
        self.ended = False
        # In a thread: anyio waits for ever for a portal whose start was interrupted.
        opened = Future[None]()
        Thread(target=self._open, args=(opened,), daemon=True).start()
        try:
            opened.result()
        except BaseException:
            self._begin_to_end()
            raise
        # Garbage is collected in any thread, with any lock held: so nobody waits there.
        weakref.finalize(tenant, self._begin_to_end).atexit = False

    def _open(self, opened: Future[None]) -> None:
        try:
            self.portal = self._context.__enter__()
            self.loop: AbstractEventLoop = self.portal.call(get_running_loop)
            self._thread: Thread = self.portal.call(current_thread)
        except Exception as error:
            opened.set_exception(error)
        else:
            _HOMES.add(self)
            opened.set_result(None)

    @property
    def here(self) -> bool:
        """Whether the running code is at home: in this thread."""
        return current_thread() is self._thread

    def soon(self, callback: Callable[[], object]) -> bool:
        """Have the loop call `callback`; False where it has ended."""
        try:
            self.loop.call_soon_threadsafe(callback)
        except RuntimeError:
            return False
        return True

    def run(self, work: Coroutine[Any, Any, None]) -> Callable[[], object]:
        """Run `work` as a task of the loop; what is returned cancels it."""
        try:
            return run_coroutine_threadsafe(work, self.loop).cancel
        except RuntimeError:  # it has ended
            work.close()
            return bool

    def wake_at(self, moment: float) -> None:
        """Let the tenant `tick` at that moment of `time.monotonic`, instead of an earlier wish."""
        self.soon(lambda: self._set_timer(moment))

    def end(self) -> None:
        """End the loop, what runs there and its thread, and wait for that."""
        _HOMES.discard(self)
        self.ended = True
        with suppress(RuntimeError):  # it is ending already
            self.portal.call(self.portal.stop, True)
        self._context.__exit__(None, None, None)

    def _set_timer(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(moment, self._tick)

    def _tick(self) -> None:
        tenant = self._tenant()
        if tenant is not None:
            tenant.tick()

    def _begin_to_end(self) -> None:
        if self in _HOMES:
            self.soon(lambda: self.loop.create_task(self.portal.stop()))


_HOMES: set[Home] = set()
_OF_PARENT: list[Home] = []  # kept: a portal that is collected as garbage waits for its thread


def _forked() -> None:
    """The threads are the parent's, and nobody may wait for them here."""
    _OF_PARENT.extend(_HOMES)
    _HOMES.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@atexit.register
def _end_all() -> None:
    for home in [*_HOMES]:
        home.end()
