"""Which request meets which fault."""

from __future__ import annotations

import math
from collections import Counter
from itertools import cycle
from random import Random
from typing import Any

import pytest

from headway import InvalidArgument
from headway.testing import FakeProvider, Fault
from headway.testing.faults import Faults


def drawn(stated: Any, n: int) -> list[Any]:
    faults = Faults(stated, Random(1))
    return [fault and fault.what for fault in (faults.draw() for _ in range(n))]


def test_a_script_is_one_for_each_request() -> None:
    assert drawn([503, None, "cut", Fault(429, 2.0)], 6) == [503, None, "cut", 429, None, None]


def test_a_script_may_be_endless_and_what_is_wrong_in_a_list_is_told_at_once() -> None:
    assert drawn(cycle([503, None]), 5) == [503, None, 503, None, 503]
    with pytest.raises(InvalidArgument, match="'explode' is no fault"):
        FakeProvider(faults=[None, "explode"])  # type: ignore[list-item]


def test_shares_of_all_requests() -> None:
    found = Counter(drawn({503: 0.1, "disconnect": 0.05}, 10_000))
    assert 900 < found[503] < 1100
    assert 420 < found["disconnect"] < 580
    assert set(drawn(0.5, 50)) == {None, 500}
    assert set(drawn(None, 50)) == set(drawn(0, 50)) == {None}
    assert set(drawn(1, 50)) == {500}


def test_what_is_set_comes_before_chance() -> None:
    faults = Faults(0.0, Random(1))
    faults.set_next(Fault("timeout"), 2)
    assert [fault and fault.what for fault in (faults.draw() for _ in range(3))] == [
        "timeout", "timeout", None,
    ]  # fmt: skip


@pytest.mark.parametrize("what", [200, 399, 600, True, "explode", None, 4.5, ["cut"]])
def test_what_is_no_fault(what: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Fault(what)
    assert str(caught.value) == (
        f"{what!r} is no fault of a provider. Fix: a status from 400 to 599, "
        '"connect", "disconnect", "timeout", "malformed", "cut", or a Fault(429, retry_after=2).'
    )


@pytest.mark.parametrize("wait", [-1, math.nan, math.inf, "soon", True])
def test_what_is_no_time_to_wait(wait: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"is no time to wait in seconds. Fix: retry_after=2"):
        FakeProvider().fail_next(429, retry_after=wait)


@pytest.mark.parametrize("times", [0, -1, 1.5, True, "3"])
def test_how_many_requests_fail(times: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"is not a whole number from 1: it is how many"):
        FakeProvider().fail_next(503, times=times)


@pytest.mark.parametrize(
    "faults", [-0.1, 1.5, math.nan, {503: 0.7, 500: 0.7}, {503: "half"}, {503: -1}, {503: math.nan}]
)
def test_shares_that_are_none(faults: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"are from 0 to 1, and so is their sum. Fix: 0"):
        FakeProvider(faults=faults)


@pytest.mark.parametrize("faults", ["often", b"x", object(), True])
def test_what_says_nothing_of_faults(faults: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"says nothing of faults"):
        FakeProvider(faults=faults)
