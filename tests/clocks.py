"""Virtual time: an asyncio loop whose clock jumps to the next timer, and trio's own."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import trio.testing


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    """Never waits: where nothing is ready the time of the loop jumps instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:  # no timer at all: only a thread or a file can wake the loop
            return super().select(None)
        ready = super().select(0)
        if not ready and timeout > 0:
            self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which hours take milliseconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


VIRTUAL = {
    "asyncio": lambda: ("asyncio", {"loop_factory": VirtualLoop}),
    "trio": lambda: ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}),
}
