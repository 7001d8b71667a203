"""headway's pytest plugin, which registers itself: the fixtures of `headway.testing`.

A project that does not use it pays nothing: what every run of pytest's imports is this module, and
headway's names are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from headway.testing.clock import VirtualClock
    from headway.testing.provider import FakeProvider

__all__ = ["fake_provider", "headway_clock"]

_CLOCK = pytest.StashKey["VirtualClock"]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Let the event loop of a test that asks for `headway_clock` begin on virtual time, whichever
    plugin makes it, and before any fixture does.
    """
    if "headway_clock" not in getattr(item, "fixturenames", ()):
        return (yield)
    from headway.testing.clock import virtual_clock

    with virtual_clock() as clock:
        item.stash[_CLOCK] = clock
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Let a test on virtual time that opens a socket end with what says so."""
    if pyfuncitem.stash.get(_CLOCK, None) is None:
        return (yield)
    from headway.testing.clock import sockets_told

    with sockets_told():
        return (yield)


@pytest.fixture
def headway_clock(request: pytest.FixtureRequest) -> Generator[VirtualClock]:
    """Virtual time for this test: an hour of waiting takes milliseconds, on asyncio and on trio.

    Its `elapsed` is the virtual seconds that passed. What waits for a real socket fails.
    """
    clock = request.node.stash[_CLOCK]
    yield clock
    if iscoroutinefunction(getattr(request.node, "obj", None)) and not clock.loops:
        from headway.kinds._words import with_fix

        pytest.fail(
            with_fix(
                "headway_clock has no hold on this test: its event loop began before the test did "
                "(a fixture or a loop of a wider scope), or by a factory of its own",
                "give the test a loop of its own, or headway.testing.VirtualLoop as the factory.",
            )
        )


@pytest.fixture
def fake_provider() -> Callable[..., FakeProvider]:
    """Makes fake providers: ``fake_provider("600/min", concurrency=8)``, as `FakeProvider`."""
    from headway.testing.provider import FakeProvider

    return FakeProvider
