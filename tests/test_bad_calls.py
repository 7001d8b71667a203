"""Calls that cannot be made: what is not async, no items, nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from misuse import CALLS, Client, ask, generator, not_async, use

from headway import Scheduler

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (
            not_async,
            "not_async is not async: it returned str, which cannot be awaited. Fix: pass an async "
            "def function, or give plain functions to a headway.sync.Scheduler.",
        ),
        (
            generator,
            "generator is an async generator: it yields results and cannot be awaited. Fix: pass "
            "an async def function that returns its result.",
        ),
    ],
)
@pytest.mark.parametrize("way", CALLS)
async def test_what_is_not_async(fn: Callable[..., Any], message: str, way: str) -> None:
    scheduler = Scheduler(concurrency=2)
    with pytest.raises(TypeError) as caught:
        await use(scheduler, way, fn)
    assert str(caught.value) == message
    statistics = scheduler.statistics()
    assert (statistics.in_flight, statistics.queued, statistics.sent) == (0, 0, 1)


@pytest.mark.parametrize("way", ["submit", "map", "as_completed"])
@pytest.mark.parametrize("method", [False, True])
async def test_a_coroutine_object(way: str, method: bool) -> None:
    scheduler = Scheduler()
    name = "Client.ask" if method else "ask"
    call: Any = Client().ask("why?") if method else ask("why?")
    with pytest.raises(TypeError) as caught:
        await use(scheduler, way, call)
    assert str(caught.value) == (
        f"{way}() takes a function and got a coroutine object: {name}(...) was called already, so "
        f"it could never be retried. Fix: scheduler.{way}({name}, ...) with the arguments after "
        "it, or scheduler.gather() for coroutine objects."
    )


@pytest.mark.parametrize("way", ["submit", "map", "as_completed", "gather"])
async def test_the_result_of_a_call(way: str) -> None:
    answer: Any = "an answer"
    call = Scheduler().gather(answer) if way == "gather" else use(Scheduler(), way, answer)
    with pytest.raises(TypeError) as caught:
        await call
    assert str(caught.value) == (
        f"{way}() takes an async function and got str: 'an answer'. Fix: pass the function itself "
        "and its arguments after it."
    )


async def test_gather_closes_the_coroutines_of_a_call_that_it_refuses() -> None:
    with pytest.raises(TypeError):
        await Scheduler().gather(ask("a"), "an answer", ask("b"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pack", "name"),
    [(list, "list"), (tuple, "tuple"), (set, "set"), (iter, "tuple_iterator")],
)
async def test_gather_of_a_list(pack: Callable[[Any], Any], name: str) -> None:
    calls = (ask(1), ask(2))
    with pytest.raises(TypeError) as caught:
        await Scheduler().gather(pack(calls))
    assert str(caught.value) == (
        f"gather() takes each call as an argument of its own and got a {name}. Fix: gather(*calls)."
    )
    if name == "tuple_iterator":  # which is not ours to use up
        for call in calls:
            call.close()


async def test_gather_closes_what_any_of_its_arguments_holds() -> None:
    with pytest.raises(TypeError, match=r"got int: 5\."):
        await Scheduler().gather(ask(0), 5, [ask(1), "no call"], (ask(2),))  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["map", "as_completed"])
async def test_gather_of_a_run(way: str) -> None:
    scheduler = Scheduler()
    with pytest.raises(TypeError) as caught:
        await scheduler.gather(getattr(scheduler, way)(ask, [1]))
    fix = {
        "map": "`await scheduler.map(...)` by itself",
        "as_completed": "`async with scheduler.as_completed(fn, items) as outcomes:` and then "
        "`async for outcome in outcomes:`",
    }
    assert str(caught.value) == (
        f"gather() takes calls and got a {way}(), which runs its calls under the limits itself. "
        f"Fix: {fix[way]}."
    )


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_gather_of_a_future() -> None:
    future: Any = asyncio.get_running_loop().create_future()  # can be iterated over, and is no list
    with pytest.raises(TypeError, match=r"gather\(\) takes an async function and got Future: "):
        await Scheduler().gather(future)


@pytest.mark.parametrize("way", ["map", "as_completed"])
async def test_items_that_are_a_coroutine_object(way: str) -> None:
    with pytest.raises(TypeError) as caught:
        getattr(Scheduler(), way)(ask, ask(1))
    assert str(caught.value) == (
        f"{way}() takes items and got a coroutine object: ask(...) was called and not awaited. "
        "Fix: `await ask(...)` where it returns the items; scheduler.gather() runs coroutine "
        "objects."
    )


@pytest.mark.parametrize("way", ["map", "as_completed"])
async def test_items_that_are_no_items(way: str) -> None:
    with pytest.raises(TypeError) as caught:
        getattr(Scheduler(), way)(ask, 5)
    assert str(caught.value) == (
        "items must be an iterable or an async iterable, not int. Fix: a list, a generator, a "
        "range, or an async generator."
    )


@pytest.mark.parametrize(
    ("way", "fix"),
    [
        (
            "map",
            "`async with scheduler.map(fn, items) as results:` and then `async for result in "
            "results:`, or `results = await scheduler.map(fn, items)`",
        ),
        (
            "as_completed",
            "`async with scheduler.as_completed(fn, items) as outcomes:` and then `async for "
            "outcome in outcomes:`",
        ),
    ],
)
async def test_a_bare_loop(way: str, fix: str) -> None:
    with pytest.raises(TypeError) as caught:
        async for _ in getattr(Scheduler(), way)(ask, "abc"):
            pass
    assert str(caught.value) == (
        f"{way}() starts tasks that must end somewhere, so it cannot be looped over as it is. "
        f"Fix: {fix}."
    )


async def test_what_is_used_twice() -> None:
    scheduler = Scheduler()
    run = scheduler.map(ask, "ab")
    await run
    with pytest.raises(RuntimeError) as caught:
        await run
    assert str(caught.value) == "this map() has been used already. Fix: call map() again."
    lease = scheduler.lease()
    async with lease:
        pass
    with pytest.raises(RuntimeError) as caught:
        async with lease:
            pass
    assert str(caught.value) == (
        "this lease has been entered already, and a lease is one attempt. Fix: call "
        "lease() again, once for each attempt."
    )
