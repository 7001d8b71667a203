"""The event loops of the tests: those on virtual time that `headway.testing` gives to users."""

from __future__ import annotations

import asyncio
from functools import partial

import sniffio
import trio

from headway.testing.clock import BACKENDS, VirtualLoop, virtual_backend

__all__ = ["VIRTUAL", "VirtualLoop", "pass_time"]

VIRTUAL = {name: partial(virtual_backend, name) for name in BACKENDS}


def pass_time(seconds: float) -> None:
    """Virtual time passes while nothing pauses."""
    if sniffio.current_async_library() == "trio":
        trio.lowlevel.current_clock().jump(seconds)  # type: ignore[attr-defined]
    else:
        asyncio.get_running_loop().now += seconds  # type: ignore[attr-defined]
