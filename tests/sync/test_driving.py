"""Plain functions where headway awaits, and what is no plain function."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from headway import InvalidArgument
from headway.sync._driving import awaitable, check_function, drive


async def ask(n: int = 1) -> int:
    return n


async def events() -> AsyncIterator[int]:
    yield 1


def lines() -> Iterator[int]:
    yield 1


class Asked:
    async def __call__(self) -> int:
        return 1


def test_a_coroutine_that_never_yields_is_run_to_its_end() -> None:
    assert drive(ask(3)) == 3
    assert drive(awaitable(divmod)(7, 2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        drive(awaitable(divmod)(1, 0))


def test_what_only_an_event_loop_can_go_on_with_is_told() -> None:
    with pytest.raises(InvalidArgument, match=r"has to be awaited.*Fix: .*scheduler\.aio\."):
        drive(asyncio.sleep(0))


@pytest.mark.parametrize("fn", [ask, events, functools.partial(ask, 1), Asked(), Asked().__call__])
def test_an_async_function_is_told_its_door(fn: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_function(fn, "submit")
    assert "is async, and a headway.sync.Scheduler calls plain functions. Fix: scheduler.aio." in (
        str(caught.value)
    )


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("submit", "scheduler.submit(fn, ...) with the arguments after the function."),
        ("map", "scheduler.map(fn, items)."),
        ("gather", "gather(lambda: ask(a), lambda: ask(b)): each call as a function of no "
         "arguments."),
        ("limit", "@scheduler.limit on the line above a def."),
    ],
)  # fmt: skip
def test_what_is_no_function_is_told_what_to_give(name: str, fix: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_function(3, name)
    assert str(caught.value) == f"{name}() takes a function and got int: 3. Fix: {fix}"


def test_an_async_function_is_told_its_decorator() -> None:
    with pytest.raises(InvalidArgument, match=r"Fix: @scheduler\.aio\.limit in async code"):
        check_function(ask, "limit")


def test_what_was_called_already_is_told() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_function(ask(), "submit")
    assert str(caught.value) == (
        "submit() takes a plain function and got a coroutine object: ask(...), which is async, was "
        "called already. Fix: scheduler.aio.submit(...) in async code, or a headway.Scheduler."
    )
    with pytest.raises(InvalidArgument, match="takes a function and got int: 3"):
        check_function(3, "map")


@pytest.mark.parametrize("fn", [len, lines, Asked, lambda: ask(), functools.partial(len, "a")])
def test_plain_functions_pass(fn: Any) -> None:
    check_function(fn, "submit")


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (lambda: ask(), "returned a coroutine object, and a headway.sync.Scheduler calls plain"),
        (lambda: events(), "returned an async generator, and a headway.sync.Scheduler calls plain"),
        (lines, "lines returned a generator, which would run when its slot is given back already"),
    ],
)
def test_what_would_run_later_is_told(fn: Any, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        drive(awaitable(fn)())
