"""A call as the user states it: what can be called, what was returned, and what that says."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headway import InvalidArgument, Kind, Scheduler
from headway._runtime.calls import (
    check_awaitable,
    check_callable,
    check_items,
    check_plain_function,
    checked_tokens,
    checked_usage,
    kind_of,
)


async def ask(prompt: str = "") -> str:
    return prompt


async def answers() -> AsyncIterator[str]:
    yield ""


class AsyncCallable:
    async def __call__(self) -> None: ...


def test_what_can_be_called() -> None:
    for fn in (ask, AsyncCallable(), functools.partial(ask, "a"), lambda: ask()):
        check_callable(fn, "submit")


def test_a_coroutine_object_is_closed_and_told_from_a_function() -> None:
    call = ask("a")
    with pytest.raises(InvalidArgument, match=r"Fix: scheduler.submit\(ask, ...\) with the arg"):
        check_callable(call, "submit")
    assert call.cr_frame is None  # closed: Python would say that it was never awaited
    with pytest.raises(InvalidArgument, match=r"submit\(\) takes an async function and got str"):
        check_callable("ask", "submit")


def test_items_are_no_coroutine_object() -> None:
    check_items([1, 2], "map")
    call = ask("a")
    with pytest.raises(InvalidArgument, match=r"Fix: `await ask\(...\)` where it returns the"):
        check_items(call, "map")
    assert call.cr_frame is None


@pytest.mark.parametrize("fn", [print, lambda x: x, {}.get, functools.partial(int, base=2)])
def test_a_plain_function(fn: Any) -> None:
    check_plain_function(fn, "usage", "usage=...")


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (3, "usage=3 is not a function. Fix: usage=len."),
        (ask, "usage= takes a plain function and ask is async: it is called where nothing can be "
              "awaited. Fix: usage=len."),
        (answers, "usage= takes a plain function and answers is async: it is called where nothing "
                  "can be awaited. Fix: usage=len."),
        (AsyncCallable(), "usage= takes a plain function and AsyncCallable is async: it is called "
                          "where nothing can be awaited. Fix: usage=len."),
    ],
)  # fmt: skip
def test_what_is_no_plain_function(fn: object, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_plain_function(fn, "usage", "usage=len")
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (None, None),
        (False, None),
        (True, Kind.RATE),
        (Kind.CAPACITY, Kind.CAPACITY),
        ("capacity", Kind.CAPACITY),
        *((kind, kind) for kind in Kind),
    ],
)
def test_what_a_predicate_says(answer: object, kind: Kind | None) -> None:
    assert kind_of(answer) is kind


@pytest.mark.parametrize("answer", [0, 1, "", "too fast", [], object()])
def test_what_is_no_answer_of_a_predicate(answer: object) -> None:
    with pytest.raises(InvalidArgument, match=r"which is no answer\. Fix: True"):
        kind_of(answer)


@pytest.mark.parametrize("check", [checked_tokens, checked_usage])
def test_counts_of_tokens(check: Any) -> None:
    for tokens in (0, 1, 2.5, 1e15):
        assert check(tokens) == tokens
    for wrong in (-1, 1.1e15, float("nan"), float("inf"), True, "3", [1]):
        with pytest.raises(InvalidArgument, match=r"Fix: .*(tokens|from 0)"):
            check(wrong)


def test_an_unknown_usage_is_none_and_unknown_tokens_are_wrong() -> None:
    assert checked_usage(None) is None
    with pytest.raises(InvalidArgument, match="tokens=None is not a number"):
        checked_tokens(None)


class Held:
    """A context manager of an SDK, which holds the coroutine object that it would await."""

    def __init__(self) -> None:
        self.call = ask()


def test_what_cannot_be_awaited() -> None:
    call = ask()
    check_awaitable(ask, call)
    call.close()
    with pytest.raises(InvalidArgument, match="len is not async: it returned int, which cannot"):
        check_awaitable(len, 3)
    with pytest.raises(InvalidArgument, match="answers is an async generator"):
        check_awaitable(answers, answers())
    held = Held()
    with pytest.raises(InvalidArgument, match="not async: it returned Held"):
        check_awaitable(Held, held)
    assert held.call.cr_frame is None


def test_one_that_nobody_awaits_is_told_by_a_name_that_users_know() -> None:
    for scheduler in (Scheduler(), Scheduler().with_options(key="a")):
        with pytest.warns(RuntimeWarning, match=r"coroutine 'Scheduler\.submit' was never awaited"):
            scheduler.submit(ask)  # type: ignore[unused-coroutine]
        with pytest.warns(RuntimeWarning, match=r"coroutine 'Scheduler\.gather' was never awaited"):
            scheduler.gather()  # type: ignore[unused-coroutine]
