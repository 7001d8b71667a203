"""Limits as text and as numbers: what one worker states, another reads as it was meant."""

from __future__ import annotations

import pytest

from headway import Limits, Rate, TokenRate
from headway.errors import InvalidLimit
from headway.shared.terms import in_words, limits_of, stated, terms_of

ALL = Limits(
    ["600/min", Rate(100, per=10, window=2, burst=2, jitter=0.1), "1000/day"],
    tokens=["200k/min", Rate(1e6, per=86400, resets="00:00 Europe/Paris")],
    input_tokens="100k/min",
    output_tokens=TokenRate(50_000, input=0.0, output=1.0),
    concurrency=7,
)


@pytest.mark.parametrize(
    "limits", [ALL, Limits("1/s"), Limits(concurrency=1), Limits(tokens=TokenRate(1000, output=5))]
)
def test_what_is_stated_is_read_as_it_was_meant(limits: Limits) -> None:
    assert limits_of(stated(limits)) == limits
    assert stated(limits_of(stated(limits))) == stated(limits)


def test_what_differs_is_in_the_words() -> None:
    assert in_words(ALL) == (
        "600/min, 100/10s (window=2, burst=2, jitter=0.1), 1000/day, tokens 200k/min, "
        "tokens 1M/day (resets=00:00 Europe/Paris), input tokens 100k/min, "
        "output tokens 50k/min, 7 at once"
    )
    assert in_words(Limits(tokens=TokenRate(9, output=5))) == "tokens 9/min (output=5)"
    assert in_words(Limits(Rate(600, per=60, window=1))) == "600/min (window=1)"


def test_nothing_stated() -> None:
    assert stated(Limits()) == ""
    assert limits_of("") == Limits()


@pytest.mark.parametrize("text", ["{", "[]", '{"requests": 3}', '{"requests": [["x"]]}', "null"])
def test_a_text_that_is_none(text: str) -> None:
    with pytest.raises(InvalidLimit, match=r"cannot be read.*headway limits NAME --reset"):
        limits_of(text)


def test_quotas_are_budgets_without_a_pace() -> None:
    rates, budgets, slots = terms_of(ALL)
    assert [rate["span"] for rate in rates] == [60.0, 2.0]
    assert [rate["burst"] for rate in rates] == [0, 1]
    assert [(each["kind"], each["each"], each["interval"] > 0) for each in budgets] == [
        ("tokens", 0, True), ("input_tokens", 0, True), ("output_tokens", 0, True),
        ("quota", 1, False), ("quota", 0, False),
    ]  # fmt: skip
    assert slots == 7
