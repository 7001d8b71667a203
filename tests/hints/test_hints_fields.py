"""What has a grammar is read as that says, or ignored: never misread.

Structured fields (RFC 9651) against a second parser, http-sf; Go's durations, RFC 3339 and HTTP
dates against the values that they were written from.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from email.utils import format_datetime
from fractions import Fraction
from typing import Any

import pytest
from depth import depth
from hypothesis import given, settings
from hypothesis import strategies as st
from packages import of_dev

from headway.hints import limits_from, wait_from
from headway.hints._fields import Date, Item, Token, parse_dictionary, parse_list
from headway.hints._values import Clock, read_seconds

http_sf: Any = of_dev("http_sf")

NOW = 1_790_000_000.0
UTC = datetime.UTC

keys = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,8}", fullmatch=True)
bare_items: Any = st.one_of(
    st.integers(-(10**15) + 1, 10**15 - 1),
    st.decimals(-(10**11), 10**11, places=3),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
    st.from_regex(r"[A-Za-z*][!#$%&'*+.^_`|~:/0-9A-Za-z-]{0,9}", fullmatch=True).map(http_sf.Token),
    st.binary(max_size=9),
    st.booleans(),
    st.integers(0, 4 * 10**9).map(lambda at: datetime.datetime.fromtimestamp(at, UTC)),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(http_sf.DisplayString),
)
parameters = st.dictionaries(keys, bare_items, max_size=4)
members = st.one_of(
    st.tuples(bare_items, parameters),
    st.tuples(st.lists(st.tuples(bare_items, parameters), max_size=3), parameters),
)


def plain(value: Any) -> Any:
    """A value of either parser as one of Python's, with its type where that matters."""
    if isinstance(value, datetime.datetime):
        return "date", int(value.timestamp())
    if isinstance(value, Date):
        return "date", value.seconds
    if isinstance(value, Token | http_sf.Token):
        return "token", str(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, http_sf.DisplayString):
        return str(value)
    return "boolean" if isinstance(value, bool) else type(value).__name__, value


def ours(item: Item) -> Any:
    value = item.value
    return None if value is None else plain(value), {
        k: plain(v) for k, v in item.parameters.items()
    }


def theirs(member: Any) -> Any:
    value, said = member
    return None if isinstance(value, list) else plain(value), {k: plain(v) for k, v in said.items()}


def same(one: Any, other: Any) -> bool:
    """Equal, but for the type's name that `plain` gives text and numbers of either parser."""
    return repr(_untyped(one)) == repr(_untyped(other))


def _untyped(value: Any) -> Any:
    if isinstance(value, tuple) and len(value) == 2 and value[0] in ("str", "float", "int"):
        return _untyped(value[1])
    if isinstance(value, tuple):
        return tuple(map(_untyped, value))
    if isinstance(value, list):
        return list(map(_untyped, value))
    if isinstance(value, dict):
        return {key: _untyped(each) for key, each in value.items()}
    return value


@settings(deadline=None, max_examples=depth(20, 500))
@given(st.lists(members, min_size=1, max_size=4))
def test_a_valid_list_is_read_as_the_second_parser_reads_it(written: Any) -> None:
    text = http_sf.ser(written)
    expected = http_sf.parse(text.encode(), tltype="list")
    assert same([ours(item) for item in parse_list(text)], [theirs(each) for each in expected])


@settings(deadline=None, max_examples=depth(15, 200))
@given(st.dictionaries(keys, members, min_size=1, max_size=4))
def test_a_valid_dictionary_too(written: Any) -> None:
    text = http_sf.ser(written)
    expected = http_sf.parse(text.encode(), tltype="dictionary")
    found = {key: ours(item) for key, item in parse_dictionary(text).items()}
    assert same(found, {key: theirs(each) for key, each in expected.items()})


PIECES = [
    *('"a"', "a", "*", "1", "-1", "1.5", "1.", ".5", "?1", "?2", ":aGk=:", ":a:", "@5", "@x"),
    *('%"a"', '%"%c3%bc"', '%"%zz"', ";", "; ", ";q=1", ";r=0", ";t=30", "=", ",", ", ", " ", "\t"),
    *("(", ")", "\\", '"', "A=1", ";A=1", "é", "\x00"),
]
pieces = st.sampled_from(PIECES)


@settings(deadline=None, max_examples=depth(20, 1000))
@given(st.lists(pieces, max_size=7).map("".join))
def test_a_malformed_list_is_ignored_and_no_other(text: str) -> None:
    try:
        expected = http_sf.parse(text.encode("utf-8"), tltype="list")
    except Exception:  # of any kind: it is a test's second opinion
        found = parse_list(text)
        # A string in the place of a parameter is Hugging Face's, and in no RFC; the RFC lets a
        # parser take or leave base64 that is not padded. Long fractions are read here.
        lenient = any(item.names for item in found) or ":" in text or re.search(r"\.\d{4}", text)
        assert not found or lenient
    else:
        assert same([ours(i) for i in parse_list(text)], [theirs(each) for each in expected])


@settings(deadline=None, max_examples=depth(15, 200))
@given(st.dictionaries(keys.filter(lambda key: key not in "qrtw" and key != "qu"), bare_items))
def test_parameters_that_nobody_knows_lose_nothing(unknown: Any) -> None:
    policy = http_sf.ser([(http_sf.Token("default"), {"q": 100, **unknown, "w": 60})])
    state = http_sf.ser([(http_sf.Token("default"), {**unknown, "r": 0, "t": 30})])
    headers = {"RateLimit": state, "RateLimit-Policy": policy}
    (hint,) = limits_from(headers, wall_time=NOW)
    assert (hint.limit, hint.remaining, hint.reset, hint.per) == (100, 0, 30, 60)
    assert wait_from(headers, None, wall_time=NOW) == (30, "")


@pytest.mark.parametrize(
    "state",
    ["a;r=?0;t=30", 'a;r="0";t=30', "a;r=0;t=soon", "a;r=-1;t=-30", "a;r=:MA==:", "(a b)"],
)
def test_a_parameter_of_another_type_says_nothing(state: str) -> None:
    hints = limits_from({"ratelimit": state}, wall_time=NOW)
    assert all(hint.remaining in (0, None) and hint.reset in (30, None) for hint in hints)
    assert not any(hint.remaining == 0 and hint.reset == 30 for hint in hints)


# Durations and dates ----------------------------------------------------------------------------

NANOSECONDS = {
    "h": 3_600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "µs": 10**3,
    "μs": 10**3, "ns": 1,
}  # fmt: skip
digits = st.text("0123456789", min_size=1, max_size=12)
numbers = st.one_of(
    digits,
    st.builds("{}.{}".format, digits, st.text("0123456789", max_size=20)),
    digits.map(".{}".format),
)
parts = st.lists(st.tuples(numbers, st.sampled_from(sorted(NANOSECONDS))), min_size=1, max_size=6)


@settings(deadline=None)
@given(parts, st.sampled_from(["", "+"]))
def test_durations_of_go(written: list[tuple[str, str]], sign: str) -> None:
    text = sign + "".join(number + unit for number, unit in written)
    exact = sum(Fraction(number) * NANOSECONDS[unit] for number, unit in written)
    assert read_seconds(text, Clock(NOW, None)) == pytest.approx(float(exact / 10**9), rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        ".s",
        "1",
        "-1s",
        "--1s",
        "1s2",
        "1h-2m",
        "5M",
        "1e3s",
        "1x",
        "1 s x",
        "0x1s",
        "+",
        "\u0661s",
    ],
)
def test_what_go_does_not_read_is_no_duration(text: str) -> None:
    seconds = read_seconds(text, Clock(NOW, None))
    assert seconds == (1 if text == "1" else None)  # a bare number is one of seconds


moments = st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2060, 1, 1))
offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59)


@settings(deadline=None)
@given(moments, st.none() | offsets, st.sampled_from("Tt "), st.sampled_from("Zz"), st.booleans())
def test_timestamps_of_rfc_3339(
    moment: datetime.datetime, offset: int | None, between: str, zulu: str, seconds: bool
) -> None:
    if not seconds:
        moment = moment.replace(second=0, microsecond=0)
    zone = UTC if offset is None else datetime.timezone(datetime.timedelta(minutes=offset))
    aware = moment.replace(tzinfo=zone)
    text = moment.isoformat(between, "auto" if seconds else "minutes")
    text += zulu if offset is None else f"{aware:%z}"[:3] + ":" + f"{aware:%z}"[3:5]
    expected = max(0.0, aware.timestamp() - NOW)
    assert read_seconds(text, Clock(NOW, None)) == pytest.approx(expected, abs=1e-5)


@settings(deadline=None)
@given(moments)
def test_http_dates(moment: datetime.datetime) -> None:
    aware = moment.replace(tzinfo=UTC, microsecond=0)
    expected = max(0.0, aware.timestamp() - NOW)
    forms = [
        format_datetime(aware, usegmt=True),  # IMF-fixdate
        f"{aware:%A, %d-%b-%y %H:%M:%S GMT}",  # RFC 850
        f"{aware:%a %b} {aware.day:2d} {aware:%H:%M:%S %Y}",  # asctime
    ]
    assert [read_seconds(form, Clock(NOW, None)) for form in forms] == [expected] * 3


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1990-12-31T23:59:60Z", "1990-12-31T23:59:59+00:00"),  # RFC 3339: a leap second
        ("2026-12-31t15:59:60-08:00", "2026-12-31T15:59:59-08:00"),
        ("2026-09-21T14:14:00.1234567891234Z", "2026-09-21T14:14:00.123456+00:00"),
        ("Thursday, 31-Dec-76 23:59:59 GMT", "2076-12-31T23:59:59+00:00"),
        ("Friday, 31-Dec-77 23:59:59 GMT", "1977-12-31T23:59:59+00:00"),  # fifty years is the most
    ],
)
def test_dates_at_their_edges(text: str, moment: str) -> None:
    expected = datetime.datetime.fromisoformat(moment).timestamp() - NOW
    assert read_seconds(text, Clock(NOW, None)) == pytest.approx(max(0.0, expected), abs=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "2026-13-01T00:00:00Z", "2026-02-30T00:00Z", "2026-09-21T25:00:00Z", "2026-09-21T14:60Z",
        "2026-09-21T14:14:61Z", "2026-09-21", "14:14:00", "2026-09-21T14",
        "2026-09-21T14:14:00+25:00",
        "Mon, 31 Feb 2026 00:00:00 GMT", "Mon, 21 Sep 2026 14:13:30 PST", "21 Sep 2026",
        "2026-09-21T14:14:00Z tomorrow",
    ],
)  # fmt: skip
def test_what_is_no_date_is_ignored(text: str) -> None:
    assert read_seconds(text, Clock(NOW, None)) is None
    assert wait_from({"retry-after": text}, None, wall_time=NOW)[0] is None
