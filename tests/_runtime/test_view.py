"""A view: options of its own for the calls made through it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from functools import partial, wraps
from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from inject import settle_down

from headway import Binds, InvalidArgument, Limits, Scheduler, SchedulerClosed

pytestmark = pytest.mark.anyio


async def test_the_options_of_a_view_hold_for_its_leases_and_records() -> None:
    scheduler = Scheduler(keys={"a": Limits("60/min")})
    view = scheduler.with_options(key="a", tokens=7)
    view.record()
    assert view.try_lease() is None
    other = scheduler.try_lease()
    assert other is not None
    assert other.tokens == 0
    async with view.lease() as lease:
        assert lease.tokens == 7
        assert lease.waited == pytest.approx(1, abs=0.1)
    async with other:
        pass
    assert scheduler.statistics().keys["a"].sent == 1


async def test_a_view_of_a_view_keeps_what_it_does_not_change() -> None:
    view = Scheduler().with_options(tokens=7).with_options(priority=1)
    async with view.lease() as lease:
        assert lease.tokens == 7


async def test_the_options_of_a_view_hold_for_the_wait_it_foresees() -> None:
    scheduler = Scheduler("60/min", keys={"a": Limits("6/min")})
    assert scheduler.would_wait() == 0
    await scheduler.with_options(key="a").submit(anyio.sleep, 0)
    assert scheduler.would_wait() == pytest.approx(1, abs=0.1)
    assert scheduler.would_wait(key="a") == pytest.approx(10, abs=0.2)
    scheduler.pause()
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(scheduler.submit, anyio.sleep, 0)
        await settle_down()
        assert scheduler.would_wait().binds is Binds.PAUSED
        scheduler.resume()
        assert scheduler.would_wait() == pytest.approx(5, abs=0.2)
        assert scheduler.with_options(priority=1).would_wait() == pytest.approx(1, abs=0.1)
        assert scheduler.would_wait(tokens=5).binds is Binds.REQUESTS
    await scheduler.aclose()
    with pytest.raises(SchedulerClosed):
        scheduler.would_wait()


def test_the_wait_is_foreseen_before_there_is_a_loop() -> None:
    assert Scheduler("1/hour").would_wait() == 0.0


# @scheduler.limit


async def ask(question: str, *, words: int = 5) -> str:
    """Ask."""
    return f"{question}: {words}"


class Client:
    """Whose methods are limited."""

    scheduler = Scheduler("60/min")

    def __init__(self, name: str) -> None:
        self.name = name

    @scheduler.limit
    async def ask(self, question: str) -> str:
        return f"{self.name}: {question}"

    @staticmethod
    @scheduler.limit
    async def plain(question: str) -> str:
        return question

    async def __call__(self, question: str) -> str:
        return question


async def test_a_limited_function_is_submitted() -> None:
    scheduler = Scheduler("60/min")
    limited = scheduler.with_options(key="a", tokens=lambda question, words: words).limit(ask)
    assert await limited("why", words=3) == "why: 3"
    assert scheduler.statistics().keys["a"].sent == 1
    began = anyio.current_time()
    assert await limited("why", words=4) == "why: 4"
    assert anyio.current_time() - began == pytest.approx(1, abs=0.1)
    assert inspect.signature(limited) == inspect.signature(ask)
    assert (limited.__name__, limited.__doc__, inspect.unwrap(limited)) == ("ask", "Ask.", ask)
    assert inspect.iscoroutinefunction(limited)


async def test_a_limited_method() -> None:
    client, sent = Client("c"), Client.scheduler.statistics().sent
    assert await client.ask("why") == "c: why"
    assert await Client.plain("why") == "why"
    assert Client.scheduler.statistics().sent == sent + 2


@pytest.mark.parametrize(
    "fn",
    [partial(ask, words=1), Client("c"), AsyncMock(return_value=1), wraps(ask)(lambda q: ask(q))],
)
async def test_whatever_is_async_is_limited(fn: Any) -> None:
    assert await Scheduler().limit(fn)("why")


def plain(question: str) -> str:
    return question


async def several() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (plain, "@limit takes an async function, and plain is none. Fix: async def plain, or "
                "headway.sync.Scheduler for plain functions."),
        (Client, "@limit takes an async function, and Client is none"),
        (several, "@limit takes an async function that returns, and several is an async generator"),
        (classmethod(plain), "@limit got a classmethod, which is no function by itself"),
        (staticmethod(ask), "@limit got a staticmethod, which is no function by itself. Fix: "
                            "@staticmethod above @limit"),
        (5, "limit() takes an async function and got int: 5"),
    ],
)  # fmt: skip
def test_what_cannot_be_limited(fn: Any, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Scheduler().limit(fn)
    assert str(caught.value).startswith(text)
