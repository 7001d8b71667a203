"""Streams in the wrong hands: looped over bare, used twice or never."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from streamed import Source, double, each, idle

from headway import Scheduler

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]


def text(error: pytest.ExceptionInfo[BaseException]) -> str:
    return str(error.value)


async def test_a_bare_loop_over_a_stream_shows_the_right_forms() -> None:
    scheduler = Scheduler()
    with pytest.raises(TypeError) as caught:
        async for _ in scheduler.map(double, [1]):  # type: ignore[attr-defined]
            pass
    assert "async with scheduler.map(fn, items) as results:" in text(caught)
    assert "results = await scheduler.map(fn, items)" in text(caught)
    with pytest.raises(TypeError) as caught:
        async for _ in scheduler.as_completed(double, [1]):  # type: ignore[attr-defined]
            pass
    assert "async with scheduler.as_completed(fn, items) as outcomes:" in text(caught)


@pytest.mark.parametrize("name", ["map", "as_completed"])
async def test_a_call_result_is_no_function(name: str) -> None:
    scheduler = Scheduler()
    method: Callable[..., Any] = getattr(scheduler, name)
    with pytest.raises(TypeError) as caught:
        method(double(1), [1])
    assert "got a coroutine object: double(...) was called already" in text(caught)
    assert f"Fix: scheduler.{name}(double, ...)" in text(caught)
    with pytest.raises(TypeError, match="got int: 7"):
        method(7, [1])
    with pytest.raises(TypeError, match="items must be an iterable or an async iterable, not int"):
        method(double, 7)


async def test_functions_that_are_not_async() -> None:
    scheduler = Scheduler()
    with pytest.raises(TypeError, match=r"is not async: it returned int.*Fix: pass an async def"):
        await scheduler.map(abs, [1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is an async generator"):
        await scheduler.map(each, [[1]])  # type: ignore[arg-type]
    assert idle(scheduler)


async def test_a_run_is_used_once() -> None:
    scheduler = Scheduler()
    run = scheduler.map(double, [1])
    assert await run == [2]
    with pytest.raises(RuntimeError, match=r"this map\(\) has been used already. Fix: call map"):
        await run
    with pytest.raises(RuntimeError, match="used already"):
        async with run:
            pass
    outcomes = scheduler.as_completed(double, [1])
    async with outcomes:
        pass
    with pytest.raises(RuntimeError, match=r"this as_completed\(\) has been used already"):
        async with outcomes:
            pass


async def test_a_run_that_is_never_used_is_nothing() -> None:
    source = Source()
    Scheduler().map(double, source)
    Scheduler().as_completed(double, source.asynchronous())
    gc.collect()
    assert source.taken == 0
