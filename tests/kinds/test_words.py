"""Numbers and limits in words: one form for each, whatever number comes."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from cases import each
from hypothesis import example, given
from hypothesis import strategies as st

import headway
from headway import Binds, Rate
from headway.kinds._words import (
    a,
    agreed,
    binds,
    count,
    counted,
    duration,
    hidden,
    money,
    number,
    percent,
    plural,
    rate,
    short,
    size,
    stated,
    times,
)


@each(
    "seconds, text",
    [
        (0, "0 s"), (5e-10, "0 s"), (0.00012, "0.12 ms"), (0.0351, "35.1 ms"), (0.35, "350 ms"),
        (0.9999, "1 s"), (1.2, "1.2 s"), (4.25, "4.25 s"), (40, "40 s"), (59.94, "59.9 s"),
        (59.97, "1 min"), (61, "1 min 1 s"), (125, "2 min 5 s"), (1234, "20 min 34 s"),
        (3599.4, "59 min 59 s"), (3599.9, "1 h"), (3600, "1 h"), (3629, "1 h"), (3631, "1 h 1 min"),
        (11_520, "3 h 12 min"), (25_920, "7 h 12 min"), (23_571, "6 h 33 min"),
        (86_369, "23 h 59 min"), (86_399, "1 d"), (90_000, "1 d 1 h"), (3 * 86_400 + 50, "3 d"),
        (1e9, "11,574 d 2 h"), (1e12, "?"), (-1, "?"), (math.nan, "?"), (math.inf, "?"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@each(
    "said, expected",
    [
        (percent(0), "0%"), (percent(0.0001), "<0.1%"), (percent(0.034), "3.4%"),
        (percent(0.62), "62%"), (percent(0.9996), "99.9%"), (percent(1), "100%"),
        (short(0.5), "0.5"), (short(999.9), "1k"), (short(1.25e7), "12.5M"), (short(45_000), "45k"),
        (short(3e9), "3G"),
        (money(0), "$0.00"), (money(0.0123), "$0.012"), (money(0.00015), "$0.00015"),
        (money(1.2e-7), "$0.00000012"), (money(0.0999), "$0.10"), (money(0.01), "$0.01"),
        (money(4.2), "$4.20"), (money(999.99), "$999.99"), (money(999.999), "$1,000"),
        (money(12_345), "$12,345"),
        (number(0), "0"), (number(8.527), "8.53"), (number(99.96), "100"),
        (number(1234.5), "1,234"),
        (rate(8.527), "8.53/s"), (rate(10, 60), "600/min"), (rate(102.87, 60), "6,172/min"),
        (rate(0.01, 3600), "36/h"), (rate(1, 300), "300/300s"),
        (count(0), "0"), (count(12_345.4), "12,345"),
        (size(0), "0 bytes"), (size(1), "1 byte"), (size(900), "900 bytes"),
        (size(1536), "1.5 KiB"),
        (size(16 * 2**20), "16 MiB"), (size(200_000_000), "190.7 MiB"), (size(3 * 2**40), "3 TiB"),
        (binds("requests"), "the limit on requests"), (binds("gate"), "a wait after refusals"),
        (binds(""), "nothing"), (binds("my own"), "my own"),
        (sum(not each.words for each in Binds), 0),
    ],
)  # fmt: skip
def test_numbers(said: str, expected: str) -> None:
    assert said == expected


@each("write", [count, duration, money, number, percent, short, size])
@each("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_a_question_mark(write: object, value: float) -> None:
    assert callable(write)
    assert write(value) == "?"


@each(
    "limit, per, text",
    [(600, 60, "600/min"), (1200, 60, "1200/min"), (6000, 60, "6000/min"),
     (180_000, 60, "180k/min"),
     (12_345, 1, "12.345k/s"), (1e6, 86_400, "1M/day"), (1_500_000, 3600, "1.5M/h"),
     (12_345.5, 1, "12345.5/s"), (500, 300, "500/300s"), (0.5, 1, "0.5/s"),
     (2, 2_592_000, "2/30d"), (5, 7_200, "5/2h"), (9, 5_400, "9/5400s"),
     (1, 1_234_567, "1/1234567s")],
)  # fmt: skip
def test_limits_as_they_are_stated(limit: float, per: float, text: str) -> None:
    assert stated(limit, per) == text == str(Rate(limit, per=per))


@given(limit=st.one_of(st.integers(1, 10**10), st.floats(0.1, 1e9)),
       per=st.sampled_from([1.0, 60.0, 300.0, 3600.0, 86_400.0]))  # fmt: skip
def test_a_limit_that_was_written_is_read_as_it_was(limit: float, per: float) -> None:
    read = Rate.parse(stated(limit, per))
    assert read.limit == pytest.approx(limit, rel=1e-14)
    assert read.per == per


@given(value=st.one_of(st.floats(), st.integers()))
@example(1.7976931348623157e308)  # times 100 or 60, it is infinite
@example(-1.7976931348623157e308)
@example(5e-324)
@example(10**400)  # no float holds it
@example(-(10**400))
def test_any_number_is_written(value: float) -> None:
    for write in (count, duration, money, number, percent, rate, short, size):
        assert len(write(value)) < 420
    assert len(rate(value, 60)) < 420


@pytest.mark.parametrize(
    ("n", "said", "verbs"),
    [
        (0, "0 rows", "are were have wait"),
        (1, "1 row", "is was has waits"),
        (1.5, "2 rows", "are were have wait"),
        (12_345, "12,345 rows", "are were have wait"),
    ],
)
def test_what_is_counted_stands_in_the_right_form(n: float, said: str, verbs: str) -> None:
    assert counted(n, "row") == said
    assert plural(n, "row") == said.partition(" ")[2]
    forms = " ".join(agreed(n, verb) for verb in ("are", "were", "have", "wait"))
    assert forms == verbs
    assert counted(n, "row", "were") == f"{said} {agreed(n, 'were')}"


def test_times_and_articles() -> None:
    assert [times(n) for n in (1, 2, 1000)] == ["once", "2 times", "1,000 times"]
    named = ["int", "str", "Iterable", "Retry", "object", "UUID"]
    assert [a(name) for name in named] == [
        "an int", "a str", "an Iterable", "a Retry", "an object", "a UUID",
    ]  # fmt: skip


# A number that is written by hand before a plural noun reads "1 requests" one day.
_NOUNS = (
    "requests|tokens|rows|jobs|calls|files|lines|workers|attempts|times|shards|answers|models"
    "|bytes|seconds|events"
)
_BY_HAND = re.compile(rf"(?:\}}|%d)(?: (?!of|has)[a-z]+)? (?:{_NOUNS})\b")
_ARTICLE = re.compile(r"\b(?:a|an) \{[^}]*__name__")
_RIGHT = {  # those that are never one, and what is no message
    "{len(hooks)} hooks", "{_TOKENS_PER_SECOND} tokens", "{self._alike} requests",
    "{damaged + whole:,} rows", "{limit} lines", "{text} ", "{what} is {seconds:g} seconds",
    "{self._library.__name__}", "_MOMENT_FOLLOWS", "{count(n)} times",
}  # fmt: skip


@each(
    "url, shown",
    [
        ("valkey://u:sesame@host:6379/acme?db=1#x", "valkey://host:6379/acme"),
        ("valkey://u:p@sesame@host/acme", "valkey://host/acme"),
        ("valkey://u:ses/ame@host/acme", "valkey://…"),
        ("valkey://u:ses?ame@host/acme", "valkey://…"),
        ("valkey://u:ses#ame@host/acme", "valkey://…"),
        ("postgresql:///db/acme?host=/tmp&password=sesame", "postgresql:///db/acme"),
        ("postgresql://h/db/acme?options=a@b&password=sesame", "postgresql://…"),
        ("valkey://[::1]:7000/acme", "valkey://[::1]:7000/acme"),
        ("valkey://", "valkey://…"),
    ],
)
def test_an_address_is_shown_without_credentials(url: str, shown: str) -> None:
    assert hidden(url) == shown


def test_no_message_writes_a_count_or_an_article_by_hand() -> None:
    root = Path(headway.__file__).parent
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in sorted(root.rglob("*.py"))
        for line in path.read_text("utf-8").splitlines()
        if (_BY_HAND.search(line) or _ARTICLE.search(line)) and not any(r in line for r in _RIGHT)
    ]
    assert found == []
