"""Numbers, durations and dates as servers write them -> seconds.

Every pattern is bounded, so that a hostile header costs no more than its length.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

__all__ = [
    "LONGEST_WAIT",
    "bounded",
    "read_duration_at",
    "read_number",
    "read_seconds",
    "read_wait",
    "shown",
]

LONGEST_WAIT = 7 * 86_400.0
"""Seconds. A longer wait is bounded to this: nobody's patience reaches so far."""

_NUMBER = re.compile(
    r"[+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:e[+-]?\d{1,3})?", re.ASCII | re.I
)
_PART = re.compile(
    r"(\d{1,15}(?:\.\d{1,20})?)\s?"
    r"(ns|us|µs|μs|ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)"
    r"(?![a-z])(?:,? and |, | )?",
    re.ASCII | re.I,
)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "mil": 1e-3}
_UNITS_BY_LETTER = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[0-9.:+Zz-]{0,24}", re.ASCII)
_HTTP_DATE = re.compile(  # RFC 9110: IMF-fixdate and the obsolete RFC 850 form
    r"(?:[A-Z][a-z]{2,8}, ?)?(?P<day>\d{1,2})[ -](?P<month>[A-Z][a-z]{2})[ -]"
    r"(?P<year>\d{4}|\d\d) (?P<time>\d\d:\d\d:\d\d) ?(?:GMT|UTC|[+-]0000)",
    re.ASCII,
)
_ASCTIME = re.compile(  # RFC 9110: the obsolete form of C's asctime()
    r"[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) {1,2}(?P<day>\d{1,2}) "
    r"(?P<time>\d\d:\d\d:\d\d) (?P<year>\d{4})",
    re.ASCII,
)
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


def read_number(text: str | None) -> float | None:
    """A finite number at or above 0, else None: servers use negatives for "unknown"."""
    if text is None or not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) and number >= 0 else None


def read_duration_at(text: str, start: int) -> tuple[float | None, int]:
    """The seconds of the duration at `start`, and where it ends; None where there is none.

    Go's form and prose: ``6m0s``, ``2m59.56s``, ``12ms``, ``20 seconds``, ``1 minute and 5 s``.
    """
    seconds, at, parts = 0.0, start, 0
    while parts < 8 and (part := _PART.match(text, at)):
        unit = part[2].lower()
        seconds += float(part[1]) * (_UNITS.get(unit[:3]) or _UNITS_BY_LETTER[unit[0]])
        at, parts = part.end(), parts + 1
    return (seconds if parts else None), at


def read_seconds(text: str, wall_time: float) -> float | None:
    """Seconds from now of a wait or of a moment; None when `text` cannot be read.

    A bare number below 1e9 is seconds to wait, from 1e9 a moment in seconds since the epoch, from
    1e12 one in milliseconds. A moment that is past gives 0. A negative number is unreadable.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        seconds = read_number(text)
        if seconds is not None and seconds >= 1e9:
            seconds = max(0.0, (seconds if seconds < 1e12 else seconds / 1e3) - wall_time)
    elif (duration := read_duration_at(text, 0))[1] == len(text) and text:
        seconds = duration[0]
    elif (moment := _read_date(text)) is not None:
        seconds = max(0.0, moment - wall_time)
    else:
        return None
    return seconds if seconds is not None and math.isfinite(seconds) else None


def read_wait(name: str, text: str, wall_time: float, odd: list[str]) -> float | None:
    """The wait that field `name` asks for, in ``[0, LONGEST_WAIT]``; a remark goes to `odd`.

    A field sent twice arrives joined with commas: the longer of the readable values holds.
    """
    seconds = read_seconds(text, wall_time)
    if seconds is None and "," in text:
        several = [read_seconds(part, wall_time) for part in text.split(",", 8)]
        seconds = max((each for each in several if each is not None), default=None)
    if seconds is None:
        odd.append(f"{name}: {shown(text)} ignored")
        return None
    return bounded(name, seconds, odd)


def bounded(name: str, seconds: float, odd: list[str]) -> float:
    """`seconds`, or LONGEST_WAIT where they are more, with a remark."""
    if seconds > LONGEST_WAIT:
        odd.append(f"{name}: {seconds:.15g} s bounded to 7 days")
        return LONGEST_WAIT
    return seconds


def shown(text: str) -> str:
    """`text` quoted and short, for a remark."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")


def _read_date(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 timestamp or an HTTP date."""
    try:
        if _RFC_3339.fullmatch(text):
            moment = datetime.fromisoformat(text.upper())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if date := _HTTP_DATE.fullmatch(text) or _ASCTIME.fullmatch(text):
            month = _MONTHS.find(date["month"]) // 3 + 1  # 0 where there is no such month
            hour, minute, second = map(int, date["time"].split(":"))
            year = int(date["year"])
            if year < 100:  # RFC 850 wrote two digits; nobody means 1970 to 1999 now
                year += 2000 if year < 70 else 1900
            second = min(second, 59)  # a leap second
            return datetime(
                year, month, int(date["day"]), hour, minute, second, tzinfo=UTC
            ).timestamp()
    except (ValueError, OverflowError):
        pass
    return None
