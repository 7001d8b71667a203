"""Numbers and durations as servers write them; what cannot be read is None, and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.hints._values import (
    LONGEST_WAIT,
    bounded,
    read_duration_at,
    read_number,
    shown,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0.0), ("12", 12.0), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("+3", 3.0),
        ("1e3", 1000.0), ("2E-1", 0.2), ("-0", 0.0),
        ("-1", None), ("", None), (" 1", None), ("1e999", None), ("nan", None), ("inf", None),
        ("1_000", None), ("0x10", None), ("٣", None), ("9" * 21, None), (None, None),
    ],
)  # fmt: skip
def test_numbers(text: str | None, number: float | None) -> None:
    assert read_number(text) == number


@given(st.text(max_size=30))
def test_a_number_is_none_or_finite_and_not_negative(text: str) -> None:
    number = read_number(text)
    assert number is None or 0 <= number < float("inf")


@pytest.mark.parametrize(
    ("text", "start", "seconds", "rest"),
    [
        ("6m0s", 0, 360.0, ""),
        ("2m59.56s", 0, 179.56, ""),
        ("12ms", 0, 0.012, ""),
        ("7us", 0, 7e-6, ""),
        ("20 seconds", 0, 20.0, ""),
        ("1 minute and 5 s", 0, 65.0, ""),
        ("1 hour, 2 minutes", 0, 3720.0, ""),
        ("2 days", 0, 172_800.0, ""),
        ("try again in 7.66s. Visit", 13, 7.66, ". Visit"),
        ("5", 0, None, "5"),  # a number without its unit
        ("", 0, None, ""),
        ("5 slots", 0, None, "5 slots"),
    ],
)
def test_durations(text: str, start: int, seconds: float | None, rest: str) -> None:
    found, end = read_duration_at(text, start)
    assert found == (None if seconds is None else pytest.approx(seconds))
    assert text[end:] == rest


def test_a_wait_is_bounded_and_that_is_said() -> None:
    odd: list[str] = []
    assert bounded("retry-after", LONGEST_WAIT, odd) == LONGEST_WAIT
    assert odd == []
    assert bounded("retry-after", 1e6, odd) == LONGEST_WAIT == 604_800
    assert odd == ["retry-after: 1000000 s bounded to 7 days"]


def test_what_is_shown_is_short_and_ascii() -> None:
    assert shown("banana") == "'banana'"
    assert shown("ü\n") == r"'\xfc\n'"
    assert shown("x" * 40) == repr("x" * 40)
    assert shown("x" * 41) == repr("x" * 37 + "...")
