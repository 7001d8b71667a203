"""What a user states: read where it can be meant, told with its fix where it cannot."""

from __future__ import annotations

from typing import Any

import pytest
from aiolimiter import AsyncLimiter

from headway import InvalidArgument, InvalidLimit, Limits, Retry
from headway._runtime.checks import (
    check_eager,
    check_max_queue,
    check_options,
    read_keys,
    read_retry,
    read_sinks,
    read_weights,
)

SLOW = Limits("6/min")
WRONG: Any = None  # of the type that a checker would allow


def said(check: Any, *args: Any, error: type[Exception] = InvalidLimit) -> str:
    with pytest.raises(error) as caught:
        check(*args)
    assert ". Fix: " in str(caught.value)
    return str(caught.value).partition(". Fix: ")[0]


def test_a_retry() -> None:
    mine = Retry(attempts=2)
    assert read_retry(mine) is mine
    assert read_retry(None) == Retry()
    assert said(read_retry, 5) == "retry=5 is not a Retry"
    assert said(read_retry, Retry).endswith("is not a Retry")


@pytest.mark.parametrize("keys", [{"a": SLOW}, [("a", SLOW)], (["a", SLOW],), {"a": SLOW}.get])
def test_the_limits_of_keys_in_every_form(keys: Any) -> None:
    of_key = read_keys(keys)
    assert (of_key("a"), of_key("b")) == (SLOW, None)


def test_no_keys() -> None:
    assert read_keys(None)("a") is None


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("ab", "keys='ab' is neither a mapping of keys to limits nor a function of the key"),
        (3, "keys=3 is neither a mapping of keys to limits nor a function of the key"),
        ([("a", SLOW, 3)], "is neither a mapping of keys to limits nor a function of the key"),
        ({"a": "6/min"}, "keys={'a': '6/min'}: the limits of a key are a Limits"),
        ({"a": [SLOW]}, "two limits for key 'a': a key has one Limits, which holds all its rates"),
        ([("a", SLOW), ("a", SLOW)], "two limits for key 'a': a key has one Limits"),
        ([([], SLOW)], "key=[] cannot name a flow of jobs: unhashable type"),
        ({"a": Limits(AsyncLimiter(1))}, "the limits of key 'a' hold an AsyncLimiter"),
    ],
)
def test_keys_that_cannot_be_meant(keys: Any, text: str) -> None:
    assert text in said(read_keys, keys)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ("6/min", "keys= returned '6/min' for key 'a': the limits of a key are a Limits"),
        (Limits(AsyncLimiter(1)), "the limits of key 'a' hold an AsyncLimiter"),
    ],
)
def test_a_function_of_the_key_is_asked_and_checked_each_time(limits: Any, text: str) -> None:
    of_key = read_keys(lambda key: limits)
    assert text in said(of_key, "a")


async def of_key(key: object) -> Limits | None:
    return None


def test_a_function_of_the_key_is_plain() -> None:
    assert "of_key is async" in said(read_keys, of_key, error=InvalidArgument)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), 1e10, 1e-10, "8", True])
def test_weights_that_cannot_be_meant(weight: Any) -> None:
    assert said(read_weights, {"a": weight}).startswith("the weight of key 'a' is ")


def test_weights() -> None:
    given = {"a": 8, "b": 0.5}
    read = read_weights(given)
    given["a"] = 1
    assert read == {"a": 8, "b": 0.5}  # a copy
    assert read_weights(None) == {}
    assert said(read_weights, [("a", 8)]).startswith("weights=[('a', 8)] is not a mapping")


def test_sinks() -> None:
    assert read_sinks(None) == ()
    assert read_sinks(print) == (print,)
    assert read_sinks([print, repr]) == (print, repr)
    assert read_sinks(iter([])) == ()
    for wrong in (3, "print", [print, 3], of_key):
        said(read_sinks, wrong, error=InvalidArgument)


@pytest.mark.parametrize("value", [-1, 1.0, True, "9", None, float("inf")])
def test_a_queue_has_room_for_a_whole_number(value: Any) -> None:
    assert (check_max_queue(0), check_max_queue(1)) == (0, 1)
    assert "is not a whole number from 0" in said(check_max_queue, value)


def test_eager_says_yes_or_no() -> None:
    assert check_eager(True)
    assert not check_eager(False)
    for value in (1, 0, None, "yes"):
        assert "says neither yes nor no" in said(check_eager, value, error=InvalidArgument)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"timeout": 0}, "timeout=0 is not a time in seconds above 0"),
        ({"timeout": float("nan")}, "timeout=nan is not a time in seconds above 0"),
        ({"attempt_timeout": "9"}, "attempt_timeout='9' is not a time in seconds above 0"),
        ({"priority": None}, "priority=None is not a number: the higher goes first"),
        ({"priority": float("nan")}, "priority=nan is not a number: the higher goes first"),
        ({"key": {}}, "key={} cannot name a flow of jobs: unhashable type: 'dict', and keys are"
                      " looked up"),
        ({"tokens": -1}, "tokens=-1 is not a count"),
        ({"tokens": of_key}, "tokens= takes a plain function and of_key is async"),
        ({"usage": 7}, "usage=7 is not a function"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_meant(options: dict[str, Any], text: str) -> None:
    assert said(check_options, options, error=InvalidArgument).startswith(text)


def test_options() -> None:
    check_options({})
    check_options({"timeout": None, "attempt_timeout": 0.5, "priority": float("-inf"), "key": None})
    check_options({"tokens": len, "usage": len, "key": ("a", 1)})
    check_options({"tokens": 0, "usage": None})
