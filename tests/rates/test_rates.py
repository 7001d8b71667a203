"""Limits as a user states them: what is read, what is refused and in which words, the pace."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from aiolimiter import AsyncLimiter
from cases import each
from hypothesis import given
from hypothesis import strategies as st

from headway import InvalidLimit, Limits, Rate, TokenRate
from headway.kinds._words import shown
from headway.rates import LATENESS, is_number

TEXTS = {
    "600/min": (600, 60),
    "10/s": (10, 1),
    "180k/min": (180_000, 60),
    "180K/min": (180_000, 60),
    "1M/day": (1_000_000, 86_400),
    "2B/d": (2e9, 86_400),
    "1/366d": (1, 366 * 86_400),
    "1000B/s": (1e12, 1),
    "2/.001s": (2, 0.001),
    "500/5min": (500, 300),
    "2/0.5s": (2, 0.5),
    "1.5k/min": (1500, 60),
    ".5/s": (0.5, 1),
    "+5/sec": (5, 1),
    "1_000,000/hour": (1_000_000, 3600),
    "2e3/h": (2000, 3600),
    "2E3/hr": (2000, 3600),
    "7/second": (7, 1),
    "7 / minutes": (7, 60),
    "  14400/DAYS ": (14_400, 86_400),
    "3/m": (3, 60),
    "9/week": (9, 7 * 86_400),
}

HOW = (
    ": a rate is a number and a period. "
    'Fix: "600/min", "10/s", "180k/min", "1M/day", a Rate(600, per=60), or a list of them.'
)
POSITIVE = ' is a finite number above 0. Fix: "600/min", or leave it out for no limit.'
SERVER = (
    " seconds, and a server counts over a millisecond at the least and a year at the most. "
    'Fix: "600/min".'
)
SPEED = (
    " a second, and a rate is between one a year and 1e12 a second. "
    'Fix: "600/min", or leave it out for no limit.'
)
BAD_TEXTS = {
    "1e-300/day": "'1e-300/day' is not a limit: it is 1.15741e-305" + SPEED,
    "1/367d": "'1/367d' is not a limit: its period is 3.17088e+07" + SERVER,
    "1/.0001s": "'1/.0001s' is not a limit: its period is 0.0001" + SERVER,
    "1001B/s": "'1001B/s' is not a limit: it is 1.001e+12" + SPEED,
    "10m/min": "'10m/min': a small m may be milli, a minute or a million. Fix: \"10M/min\".",
    "1.5 m/5s": "'1.5 m/5s': a small m may be milli, a minute or a million. Fix: \"1.5M/5s\".",
    "2b/d": "'2b/d': a small b may be bits, bytes or a billion. Fix: \"2B/d\".",
    "m/min": "'m/min'" + HOW,
    "9m/fortnight": "unknown unit 'fortnight' in '9m/fortnight'" + HOW,
    "6" * 100: "'" + "6" * 76 + "..." + HOW,
    "0/min": "'0/min' is not a limit: a rate" + POSITIVE,
    "0.0/min": "'0.0/min' is not a limit: a rate" + POSITIVE,
    "-5/min": "'-5/min' is not a limit: a rate" + POSITIVE,
    "nan/min": "'nan/min' is not a limit: a rate" + POSITIVE,
    "NaN/min": "'NaN/min' is not a limit: a rate" + POSITIVE,
    "inf/min": "'inf/min' is not a limit: a rate" + POSITIVE,
    "-infinity/s": "'-infinity/s' is not a limit: a rate" + POSITIVE,
    "1e400/min": "'1e400/min' is not a limit: a rate" + POSITIVE,
    "600/0min": "'600/0min' is not a limit: a rate's period" + POSITIVE,
    "600/fortnight": "unknown unit 'fortnight' in '600/fortnight'" + HOW,
    "600q/min": "unknown unit 'q' in '600q/min'" + HOW,
    "600 requests/min": "unknown unit 'requests' in '600 requests/min'" + HOW,
    "": "''" + HOW,
    "  ": "'  '" + HOW,
    "600": "'600'" + HOW,
    "600/": "'600/'" + HOW,
    "/min": "'/min'" + HOW,
    "k/min": "'k/min'" + HOW,
    "600/.min": "'600/.min'" + HOW,
    "600/-5min": "'600/-5min'" + HOW,
    "6.0.0/min": "'6.0.0/min'" + HOW,
    "600/min/s": "'600/min/s'" + HOW,
    "\u0666/min": "'\u0666/min'" + HOW,  # a digit, though not one that anybody means
}

JITTER = (
    " is not a time: it is the seconds by which the network may delay one request more than "
    "another. Fix: 0.02, or leave it out."
)
BURST = (
    " is not a whole number from 1: it is how many attempts may start at the same moment. "
    "Fix: leave it out for an even pace."
)
BAD_RATES: list[tuple[dict[str, object], str]] = [
    ({"limit": 0}, "0 is not a limit: a rate's limit" + POSITIVE),
    ({"limit": -1}, "-1 is not a limit: a rate's limit" + POSITIVE),
    ({"limit": math.nan}, "nan is not a limit: a rate's limit" + POSITIVE),
    ({"limit": math.inf}, "inf is not a limit: a rate's limit" + POSITIVE),
    ({"limit": True}, "True is not a limit: a rate's limit" + POSITIVE),
    ({"limit": "600"}, "'600' is not a limit: a rate's limit" + POSITIVE),
    ({"per": 0}, "0 is not a limit: a rate's period (per=)" + POSITIVE),
    ({"per": True}, "True is not a limit: a rate's period (per=)" + POSITIVE),
    ({"window": 0}, "0 is not a limit: a rate's window (window=)" + POSITIVE),
    ({"window": True}, "True is not a limit: a rate's window (window=)" + POSITIVE),
    (
        {"window": 120},
        "window=120 is longer than per=60: a server that enforces over 120 s states its limit for "
        "that time. Fix: Rate(1200, per=120).",
    ),
    (
        {"limit": 10**400},
        "1" + "0" * 76 + "... is not a limit: a rate's limit" + POSITIVE,
    ),
    ({"limit": 10**5000}, "<int> is not a limit: a rate's limit" + POSITIVE),
    (
        {"limit": 5e-324},
        "Rate(4.94066e-324, per=60) is not a limit: it is 0" + SPEED,
    ),
    ({"limit": 10**300}, "Rate(1e+300, per=60) is not a limit: it is 1.66667e+298" + SPEED),
    ({"per": 1e-300}, "1e-300 is not a limit: per= is 1e-300" + SERVER),
    ({"per": 1e300}, "1e+300 is not a limit: per= is 1e+300" + SERVER),
    ({"window": 1e-9}, "1e-09 is not a limit: window= is 1e-09" + SERVER),
    ({"jitter": 10**400}, "jitter=1" + "0" * 76 + "..." + JITTER),
    ({"jitter": 1e300}, "jitter=1e+300" + JITTER),
    (
        {"burst": 10**5000},
        "burst=<int> is more than the 600 that one window of 60 s allows. Fix: burst=600 or less.",
    ),
    ({"jitter": -1}, "jitter=-1" + JITTER),
    ({"jitter": math.nan}, "jitter=nan" + JITTER),
    ({"jitter": math.inf}, "jitter=inf" + JITTER),
    ({"jitter": True}, "jitter=True" + JITTER),
    ({"jitter": "0.1"}, "jitter='0.1'" + JITTER),
    ({"burst": 0}, "burst=0" + BURST),
    ({"burst": True}, "burst=True" + BURST),
    ({"burst": 1.5}, "burst=1.5" + BURST),
    (
        {"burst": 601},
        "burst=601 is more than the 600 that one window of 60 s allows. Fix: burst=600 or less.",
    ),
    (
        {"window": 1, "burst": 11},
        "burst=11 is more than the 10 that one window of 1 s allows. Fix: burst=10 or less.",
    ),
]
CONCURRENCY = (
    " is not a whole number from 1: it is how many attempts may be in flight at once. "
    "Fix: concurrency=32, or leave it out for no limit."
)


@each("text, expected", TEXTS.items())
def test_reads(text: str, expected: tuple[float, float]) -> None:
    assert Rate.parse(text) == Rate(*expected)


@each("text, message", BAD_TEXTS.items())
def test_refuses_a_text(text: str, message: str) -> None:
    with pytest.raises(InvalidLimit) as caught:
        Rate.parse(text)
    assert str(caught.value) == message


@each("values, message", BAD_RATES)
def test_refuses_values(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidLimit) as caught:
        Rate(**{"limit": 600, **values})  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_a_time_of_day_is_read_with_its_quota() -> None:
    wanted = Rate(1000, per=86_400, resets="00:00 America/Los_Angeles")
    assert Rate.parse("1000/day from 00:00 America/Los_Angeles") == wanted
    with pytest.raises(InvalidLimit, match="resets='noon' is no time of day"):
        Rate.parse("1000/day from noon")
    with pytest.raises(InvalidLimit, match="is for a quota of a day"):
        Rate.parse("600/min from 00:00")


@pytest.mark.parametrize("text", ["600/min", "10/s", "1M/day", "500/300s", "7/h"])
def test_says_what_it_reads(text: str) -> None:
    assert str(Rate.parse(text)) == text


@pytest.mark.parametrize("given", [5, None, b"600/min", Rate(5), ["600/min"]])
def test_parses_text_alone(given: object) -> None:
    with pytest.raises(InvalidLimit) as caught:
        Rate.parse(given)  # type: ignore[arg-type]
    assert str(caught.value) == f"{given!r}" + HOW


@given(st.floats(1e-9, 1e13), st.floats(1e-4, 4e7), st.floats(1e-4, 4e7), st.floats(0, 4e7))
def test_every_rate_has_a_pace_to_count_with(
    limit: float, per: float, window: float, jitter: float
) -> None:
    try:
        rate = Rate(limit, per=per, window=window, jitter=jitter)
    except InvalidLimit:
        return
    assert 1e-18 < 1 / rate.pace < 1e18


@each(
    "value, expected",
    [(5, True), (0.5, True), (math.nan, True), (math.inf, True), (10**300, True),
     (10**400, False), (True, False), ("5", False), (None, False), (5j, False)],
)  # fmt: skip
def test_what_is_a_number(value: object, expected: bool) -> None:
    assert is_number(value) is expected


def test_shows_anything() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise OSError

    assert shown("600/min") == "'600/min'"
    assert shown("x" * 78) == repr("x" * 78)
    assert shown("x" * 79) == "'" + "x" * 76 + "..."
    assert (shown(Broken()), shown(10**5000)) == ("<Broken>", "<int>")


@given(st.text("0123456789.,_ -+/kmdhsinaefMKB", max_size=12))
def test_reads_or_refuses_and_nothing_else(text: str) -> None:
    try:
        rate = Rate.parse(text)
    except InvalidLimit:
        return
    assert math.isfinite(rate.pace)
    assert rate.pace > 0


@pytest.mark.parametrize(
    ("rate", "share"),
    [
        (Rate(1000, per=1), 0.971),  # the design's three
        (Rate(2000, per=2), 0.985),
        (Rate(60_000, per=60), 0.995),
        (Rate(600, per=60, window=1), 0.971),  # Together: states a minute, enforces a second
        (Rate(1000, per=1, jitter=0), 0.990),
        (Rate(1000, per=1, jitter=0.15), 0.862),
    ],
)
def test_pace_as_a_share_of_the_limit(rate: Rate, share: float) -> None:
    assert rate.pace / (rate.limit / rate.per) == pytest.approx(share, abs=5e-4)


def test_the_paces_that_the_design_names() -> None:
    assert Rate.parse("60000/min").pace == pytest.approx(994.9, abs=0.05)
    assert Rate.parse("1000/s").pace == pytest.approx(970.9, abs=0.05)


@given(
    limit=st.integers(1, 100_000),
    per=st.sampled_from([1.0, 2.0, 60.0, 3600.0]),
    cut=st.sampled_from([1, 2, 60]),
    burst=st.integers(1, 1000),
    jitter=st.none() | st.floats(0, 1),
)
def test_the_envelope_holds(
    limit: int, per: float, cut: int, burst: int, jitter: float | None
) -> None:
    window = per / cut
    share = limit * window / per
    burst = max(1, min(burst, math.floor(share)))
    rate = Rate(limit, per=per, window=window, burst=burst, jitter=jitter)
    slack = max(0.020, 0.005 * window) if jitter is None else jitter
    most = burst + math.ceil(rate.pace * (window + slack + LATENESS)) - 1
    assert most <= max(1, math.floor(share + 1e-9) + (share % 1 > 0))
    if share == math.floor(share):
        assert most <= share


def test_a_burst_slows_the_pace() -> None:
    paces = [Rate(60, per=60, burst=burst).pace for burst in (1, 2, 30, 60)]
    assert paces == sorted(paces, reverse=True)
    assert paces[3] == pytest.approx(paces[0] / 60)


def test_limits_take_one_or_many() -> None:
    shared = AsyncLimiter(5, 1)
    per_second, per_day = Rate(10, per=1), Rate(14_400, per=86_400)
    assert Limits().requests == ()
    assert Limits("10/s").requests == (per_second,)
    assert Limits(per_second).requests == (per_second,)
    assert Limits(["10/s", per_day]).requests == (per_second, per_day)
    assert Limits(text for text in ("10/s", "14400/day")).requests == (per_second, per_day)
    mixed = Limits(["10/s", shared], tokens=["180k/min", "1M/day"], concurrency=3)
    assert (mixed.requests, mixed.shared, mixed.concurrency) == ((per_second,), (shared,), 3)
    assert mixed.tokens == (Rate(180_000), Rate(1_000_000, per=86_400))
    assert Limits(shared).shared == (shared,)


@each(
    "values, message",
    [
        ({"requests": 600}, "600" + HOW),
        ({"requests": True}, "True" + HOW),
        ({"requests": ["10/s", 5]}, "5" + HOW),
        ({"requests": b"10/s"}, "b'10/s'" + HOW),
        ({"requests": bytearray(b"10/s")}, "bytearray(b'10/s')" + HOW),
        (
            {"concurrency": 10**400},
            "concurrency=1" + "0" * 76 + "... is more than any machine can have in flight. "
            "Fix: concurrency=32, or leave it out for no limit.",
        ),
        ({"tokens": 5.5}, "5.5" + HOW),
        ({"concurrency": 0}, "concurrency=0" + CONCURRENCY),
        ({"concurrency": -3}, "concurrency=-3" + CONCURRENCY),
        ({"concurrency": True}, "concurrency=True" + CONCURRENCY),
        ({"concurrency": "3"}, "concurrency='3'" + CONCURRENCY),
        ({"concurrency": 2.0}, "concurrency=2.0" + CONCURRENCY),
        (
            {"tokens": AsyncLimiter(5, 1)},
            "tokens= takes rates, not an AsyncLimiter: tokens are reserved and settled later, "
            'which an AsyncLimiter cannot do. Fix: tokens="180k/min".',
        ),
    ],
)
def test_refuses_limits(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidLimit, match=re.escape(message)):
        Limits(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weights", "other"),
    [
        ({"output": 0}, {"input_tokens": "100k/min"}),
        ({"input": 0, "output": 5}, {"output_tokens": "100k/min"}),
        ({"output": 0}, {"input_tokens": ["1M/h", "100k/min"]}),
    ],
)
def test_weights_that_leave_one_class_limit_it_twice(
    weights: dict[str, float], other: dict[str, Any]
) -> None:
    with pytest.raises(InvalidLimit, match=r"limit the same tokens twice .* Fix: "):
        Limits(tokens=TokenRate(200_000, **weights), **other)
    (kind,) = other
    apart = "output_tokens" if kind == "input_tokens" else "input_tokens"
    assert Limits(tokens=TokenRate(200_000, **weights), **{apart: "100k/min"})
    assert Limits(tokens=TokenRate(200_000, **weights), **{kind: "1M/day"})
