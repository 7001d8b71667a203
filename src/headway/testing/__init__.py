"""Tests of code that calls limited APIs: a fake provider, a virtual clock, and assertions.

A pytest plugin, which registers itself, has the fixtures ``fake_provider`` and ``headway_clock``.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from headway.testing.answers import FakeRequest, Reply
    from headway.testing.arrivals import Arrival
    from headway.testing.clock import (
        NoRealSockets,
        NothingWakes,
        VirtualClock,
        VirtualLoop,
        virtual_backend,
        virtual_clock,
    )
    from headway.testing.faults import Fault
    from headway.testing.idle import assert_idle
    from headway.testing.provider import FakeProvider

__all__ = [
    "Arrival",
    "FakeProvider",
    "FakeRequest",
    "Fault",
    "NoRealSockets",
    "NothingWakes",
    "Reply",
    "VirtualClock",
    "VirtualLoop",
    "assert_idle",
    "virtual_backend",
    "virtual_clock",
]

# The plugin lies here too, and every run of pytest's imports it.
_HOMES = ("answers", "arrivals", "clock", "faults", "idle", "provider")


def __getattr__(name: str) -> object:
    """What is exported, imported once it is asked for."""
    if name in __all__:
        for home in _HOMES:
            module = _import_module(f"{__name__}.{home}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
