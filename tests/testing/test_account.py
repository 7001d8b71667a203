"""The limits of one account: all or nothing, and those that make no sense."""

from __future__ import annotations

import math
from typing import Any

import pytest

from headway import Cost, InvalidArgument, Limits, Rate, TokenRate
from headway.testing import FakeProvider
from headway.testing.account import ALGORITHMS, Account, check_limits, counted_by

NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"requests": "-1/min"}, "'-1/min' is not a limit: a rate is a finite number above 0"),
    ({"requests": "nan/min"}, "'nan/min' is not a limit"),
    ({"requests": "inf/min"}, "'inf/min' is not a limit"),
    ({"requests": "0/min"}, "'0/min' is not a limit"),
    ({"requests": "600/0s"}, "'600/0s' is not a limit"),
    ({"requests": 600}, "600: a rate is a number and a period"),
    ({"tokens": "-5/min"}, "'-5/min' is not a limit"),
    ({"input_tokens": "nan/s"}, "'nan/s' is not a limit"),
    ({"output_tokens": "0/s"}, "'0/s' is not a limit"),
    ({"concurrency": 0}, "concurrency=0 is not a whole number from 1"),
    ({"concurrency": -3}, "concurrency=-3 is not a whole number from 1"),
    ({"concurrency": math.nan}, "concurrency=nan is not a whole number from 1"),
    (
        {"requests": "600/min", "algorithm": "leaky"},
        "algorithm='leaky' is none by which a fake provider counts. Fix: one of fixed_window, "
        "sliding_log, sliding_counter, token_bucket, gcra.",
    ),
    ({"requests": "600/min", "algorithm": ["gcra"]}, "algorithm=['gcra'] is none by which"),
    (
        {"requests": "0.5/s"},
        "a window of 1 s allows 0.5 of a request, so sliding_log would refuse every one. Fix: "
        'Rate(1, per=2), or algorithm="token_bucket".',
    ),
    (
        {"requests": Rate(30, per=60, window=1), "algorithm": "fixed_window"},
        "a window of 1 s allows 0.5 of a request",
    ),
    (
        {"requests": "600/min", "burst": 5},
        "burst=5 is the size of a bucket, and sliding_log has none. Fix: "
        'algorithm="token_bucket", or leave out burst=.',
    ),
    ({"requests": "9/s", "algorithm": "gcra", "burst": 0}, "burst=0 is not a whole number from 1"),
    ({"requests": "9/s", "algorithm": "gcra", "burst": 1.5}, "burst=1.5 is not a whole number"),
]


@pytest.mark.parametrize(("stated", "expected"), NONSENSE, ids=[str(each) for each, _ in NONSENSE])
def test_limits_that_make_no_sense(stated: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        FakeProvider(**stated)
    assert str(caught.value).startswith(expected)
    assert caught.value.fix


class Limiter:
    max_rate = 1.0
    time_period = 1.0

    async def acquire(self, amount: float = 1) -> None:
        raise AssertionError


def test_a_limiter_that_waits_is_no_limit_of_a_server() -> None:
    with pytest.raises(InvalidArgument, match="an AsyncLimiter waits where a server refuses"):
        check_limits(Limits(Limiter()), "sliding_log", None)


def test_all_or_nothing() -> None:
    account = Account(Limits("3/s", tokens="100/s", concurrency=9), "sliding_log", None, 0.0)
    assert account.enter(0.0, Cost(input=90)) is None
    refusal = account.enter(0.1, Cost(input=20))
    assert refusal is not None
    assert refusal[:4] == ("tokens", 100, 90, 20)
    assert refusal.wait == pytest.approx(0.9)
    assert account.enter(0.2, Cost(input=10)) is None  # nothing was counted of what was refused
    assert account.in_flight == 2
    refused = account.enter(0.3, Cost(input=101))
    assert refused is not None
    assert refused.wait == math.inf  # it never fits


def test_slots_are_given_back() -> None:
    account = Account(Limits(concurrency=1), "sliding_log", None, 0.0)
    assert account.enter(0.0, Cost()) is None
    refused = account.enter(0.0, Cost())
    assert refused is not None
    assert refused.what == "concurrency"
    account.leave()
    assert account.enter(0.0, Cost()) is None


def test_tokens_count_by_class_and_weight() -> None:
    limits = Limits(
        tokens=TokenRate(100, input=1, cached=0.1, output=5), input_tokens="9/s",
        output_tokens="9/s",
    )  # fmt: skip
    cost = Cost(input=10, cached=20, output=3)
    found = {each.what: each.amount(cost) for each in counted_by(limits)}
    assert found == {"tokens": 27.0, "input_tokens": 30.0, "output_tokens": 3.0}


def test_the_words_of_a_limit() -> None:
    limits = Limits([Rate(600, per=60, window=1), "5/s"], output_tokens="180k/min")
    assert list(map(str, counted_by(limits))) == [
        "600/min requests over 1 s", "5/s requests", "180k/min output tokens",
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_each_algorithm_lets_its_limit_pass(name: Any) -> None:
    account = Account(Limits("5/s"), name, None, 100.0)
    assert [account.enter(100.0, Cost()) is None for _ in range(6)] == [True] * 5 + [False]


def test_a_bucket_holds_as_many_requests_as_is_said() -> None:
    account = Account(Limits("5/s", tokens="100/s"), "gcra", 2, 0.0)
    assert [account.enter(0.0, Cost(input=40)) is None for _ in range(3)] == [True, True, False]
    assert account.enter(0.2, Cost(input=20)) is None
