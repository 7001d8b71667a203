"""Numbers, durations and dates as servers write them -> seconds.

Every pattern is bounded, so that a hostile header costs no more than its length.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

__all__ = [
    "LONGEST_WAIT",
    "Clock",
    "bounded",
    "counted_in_seconds",
    "read_duration_at",
    "read_moment_at",
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
    r"(\d{1,3}(?:,\d{3}){1,4}(?![\d,])(?:\.\d{1,20})?|\d{1,40}(?:\.\d{0,60})?|\.\d{1,60})\s?"
    r"(ns|us|µs|μs|ms|s|m|h|d"  # Go's and a day; in lower case, for "M" may be a month
    r"|(?i:milliseconds?|msecs?|secs?|seconds?|mins?|minutes?|hrs?|hours?|days?|weeks?))"
    r"(?:\(s\))?(?![A-Za-z])(?:,? and |, | )?",
    re.ASCII,
)
_PARTS = 32
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "mil": 1e-3, "mse": 1e-3}
_UNITS_BY_LETTER = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}

_ISO_DURATION = re.compile(  # Java's Duration: PT1M30S
    r"P(?:(\d{1,6})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,15}(?:\.\d{1,20})?)S)?)?", re.ASCII
)
_RFC_3339 = (
    re.compile(  # and its kin: no seconds (Jira), no zone, "UTC" (LiteLLM), Go's "+0000 UTC"
        r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(?::(\d\d)([.,]\d{1,40})?)?"
        r"(?: ?(?:([Zz]|UTC|GMT)|([+-]\d\d(?::?\d\d)?))(?: UTC)?)?(?![\d:])",
        re.ASCII,
    )
)
_HTTP_DATE = re.compile(  # RFC 9110: IMF-fixdate and the obsolete RFC 850 form
    r"(?:[A-Z][a-z]{2,8}, ?)?(?P<day>\d{1,2})[ -](?P<month>[A-Z][a-z]{2})[ -]"
    r"(?P<year>\d{4}|\d\d) (?P<time>\d\d:\d\d:\d\d) ?(?:GMT|UTC|(?P<zone>[+-]\d{4}))",
    re.ASCII,
)
_ASCTIME = re.compile(  # RFC 9110: the obsolete form of C's asctime()
    r"[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) {1,2}(?P<day>\d{1,2}) "
    r"(?P<time>\d\d:\d\d:\d\d) (?P<year>\d{4})(?P<zone>)",
    re.ASCII,
)
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


class Clock:
    """The time that a response's moments are read against: the server's own.

    Its ``Date`` header, where that can be read, else `ours` (seconds since the epoch). Only who
    meets a moment asks, so that a response without one costs nothing.
    """

    __slots__ = ("_date", "_now", "ours")

    def __init__(self, ours: float, date: str | None) -> None:
        self.ours = ours
        self._date = date
        self._now: float | None = None

    @property
    def now(self) -> float:
        """Seconds since the epoch, by the server's clock where it says."""
        if self._now is None:
            stated = None if self._date is None else _read_date(self._date.strip(), self.ours)
            self._now = self.ours if stated is None else stated
        return self._now


def read_number(text: str | None) -> float | None:
    """A finite number at or above 0, else None: servers use negatives for "unknown"."""
    if text is None or not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) and number >= 0 else None


def read_duration_at(text: str, start: int) -> tuple[float | None, int]:
    """The seconds of the duration at `start`, and where it ends; None where there is none.

    Go's form and prose: ``6m0s``, ``2m59.56s``, ``.5s``, ``20 seconds``, ``1 minute and 5 s``.
    """
    seconds, at, parts = 0.0, start, 0
    while parts < _PARTS and (part := _PART.match(text, at)):
        unit = part[2].lower()
        number = float(part[1].replace(",", ""))
        seconds += number * (_UNITS.get(unit[:3]) or _UNITS_BY_LETTER[unit[0]])
        at, parts = part.end(), parts + 1
    return (seconds if parts else None), at


def read_seconds(text: str, clock: Clock) -> float | None:
    """Seconds from now of a wait or of a moment; None when `text` cannot be read.

    A bare number below 1e9 is seconds to wait, from 1e9 a moment in seconds since the epoch, from
    1e12 one in milliseconds. A moment that is past gives 0. A negative number is unreadable.
    """
    text = text.strip()
    seconds: float | None
    if _NUMBER.fullmatch(text):
        seconds = read_number(text)
        if seconds is not None and seconds >= 1e9:
            seconds = max(0.0, (seconds if seconds < 1e12 else seconds / 1e3) - clock.now)
    elif (moment := _read_date(text, clock.ours)) is not None:
        seconds = max(0.0, moment - clock.now)
    else:
        seconds = _read_duration(text)
    return seconds if seconds is not None and math.isfinite(seconds) else None


def counted_in_seconds(text: str, counts: str) -> str:
    """A bare number that `counts` as a `Dialect` says, as `read_seconds` takes it: by its size. One
    that it would take for something else is made unreadable; other texts stay as they are.
    """
    number = read_number(text.strip())
    if number is None:
        return text
    if counts.endswith("milliseconds"):
        number /= 1e3
        text = repr(number)
    low, high = (1e9, 1e12) if counts.startswith("epoch") else (0.0, 1e9)
    return text if low <= number < high else f"{text} as {counts}"


def read_wait(name: str, text: str, clock: Clock, odd: list[str]) -> float | None:
    """The wait that field `name` asks for, in ``[0, LONGEST_WAIT]``; a remark goes to `odd`.

    A field sent twice arrives joined with commas: the longer of the readable values holds.
    """
    seconds = read_seconds(text, clock)
    if seconds is None and "," in text:
        several = [read_seconds(part, clock) for part in text.split(",", 8)]
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


def read_moment_at(text: str, start: int, now: float) -> float | None:
    """Seconds since the epoch of the date that begins at `start`; None where there is none.

    RFC 3339 and HTTP dates. `now`, in seconds since the epoch, tells the century of a year of two
    digits: none is more than fifty years ahead (RFC 9110).
    """
    try:
        if found := _RFC_3339.match(text, start):
            return _iso_moment(found)
        if found := _HTTP_DATE.match(text, start) or _ASCTIME.match(text, start):
            return _http_moment(found, now)
    except (ValueError, OverflowError):
        pass
    return None


def _read_date(text: str, now: float) -> float | None:
    """Seconds since the epoch of a text that is a date and nothing else."""
    for pattern in _RFC_3339, _HTTP_DATE, _ASCTIME:
        if pattern.fullmatch(text):
            return read_moment_at(text, 0, now)
    return None


def _iso_moment(found: re.Match[str]) -> float:
    day, minute, second, fraction, _, offset = found.groups()
    second = "59" if second == "60" else second or "00"  # a leap second
    fraction = "" if fraction is None else fraction[:7]
    zone = offset or "+00:00"  # where none is stated it is UTC
    return datetime.fromisoformat(f"{day}T{minute}:{second}{fraction}{zone}").timestamp()


def _http_moment(found: re.Match[str], now: float) -> float:
    month = _MONTHS.find(found["month"]) // 3 + 1  # 0 where there is no such month
    hour, minute, second = map(int, found["time"].split(":"))
    year = int(found["year"])
    if len(found["year"]) == 2:
        this_year = datetime.fromtimestamp(now, UTC).year
        year += this_year // 100 * 100
        year -= 100 if year > this_year + 50 else 0
    if second == 60:  # a leap second
        second = 59
    moment = datetime(year, month, int(found["day"]), hour, minute, second, tzinfo=UTC)
    if zone := found["zone"]:
        ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
        moment -= ahead if zone[0] == "+" else -ahead
    return moment.timestamp()


def _read_duration(text: str) -> float | None:
    if not text:
        return None
    seconds, end = read_duration_at(text, 1 if text[0] == "+" else 0)
    if end == len(text):
        return seconds
    iso = _ISO_DURATION.fullmatch(text)
    if iso is None or not any(iso.groups()):
        return None
    days, hours, minutes, rest = (float(part or 0) for part in iso.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
