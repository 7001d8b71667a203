"""Limits as a user states them: ``Rate``, ``Limits``, and reading ``"600/min"``.

Values only: what a limit does over time lives in `headway._core.limits.budget`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeGuard, runtime_checkable

from headway._words import shown, stated
from headway.errors import InvalidLimit

__all__ = [
    "LATENESS",
    "ConcurrencyLike",
    "Limiter",
    "Limits",
    "Rate",
    "RateLike",
    "is_number",
]

LATENESS = 0.010
"""Seconds by which a timer may fire late and still be caught up with (lambda in the pacing)."""

# A sliding log refuses exact ties, and floats round: this much more than the window is cleared.
_MARGIN = 1e-6

_UNITS = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
}  # fmt: skip
_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9}
_AMBIGUOUS = {"m": "milli, a minute or a million", "b": "bits, bytes or a billion"}

# Between these every interval is a number to count with, and nobody means what is beyond them.
_YEAR = 366 * 86_400.0
_SHORTEST = 0.001  # seconds
_FASTEST = 1e12  # a second
_MOST_AT_ONCE = 2**63 - 1
# NaN and infinity are read, to be refused for what they are.
_NUMBER = r"[-+]?(?:(?i:nan|inf(?:inity)?)|[\d_,]*\.?\d*(?:[eE][-+]?\d+)?)"
_TEXT = re.compile(rf"({_NUMBER})\s*([a-zA-Z]*)\s*/\s*(\d*\.?\d*)\s*([a-zA-Z]+)")


@runtime_checkable
class Limiter(Protocol):
    """An `aiolimiter.AsyncLimiter`, or anything of its shape, that is already in use."""

    max_rate: float
    time_period: float

    async def acquire(self, amount: float = 1) -> None:
        """Wait until there is room for `amount`."""


@dataclass(frozen=True, slots=True)
class Rate:
    """No window of `per` seconds, as the server sees it, holds more than `limit`.

    `window` (seconds, `per` by default) is how long the server's own window is when that
    differs: Together states requests per minute and enforces them per second, which is
    ``Rate(600, per=60, window=1)``. `burst` attempts may start at once; the pace shrinks so that
    the promise still holds. `jitter` (seconds) is how much the network may delay one request
    more than another: by default the larger of 20 ms and 0.5% of the window.

    Raises `InvalidLimit` for values that cannot be meant.
    """

    limit: float
    per: float = 60.0
    window: float | None = None
    burst: int = 1
    jitter: float | None = None

    def __post_init__(self) -> None:
        _check_positive("a rate's limit", self.limit, self.limit)
        _check_positive("a rate's period (per=)", self.per, self.per)
        _check_seconds("per=", self.per, self.per)
        _check_speed(self.limit / self.per, f"Rate({self.limit:g}, per={self.per:g})")
        if self.window is not None:
            _check_positive("a rate's window (window=)", self.window, self.window)
            _check_seconds("window=", self.window, self.window)
            if self.window > self.per:
                raise InvalidLimit(
                    f"window={self.window:g} is longer than per={self.per:g}: a server that "
                    f"enforces over {self.window:g} s states its limit for that time",
                    fix=f"Rate({self.limit * self.window / self.per:g}, per={self.window:g}).",
                )
        if self.jitter is not None and not (is_number(self.jitter) and 0 <= self.jitter <= _YEAR):
            raise InvalidLimit(
                f"jitter={shown(self.jitter)} is not a time: it is the seconds by which the "
                "network may delay one request more than another",
                fix="0.02, or leave it out.",
            )
        if isinstance(self.burst, bool) or not isinstance(self.burst, int) or self.burst < 1:
            raise InvalidLimit(
                f"burst={shown(self.burst)} is not a whole number from 1: it is how many attempts "
                "may start at the same moment",
                fix="leave it out for an even pace.",
            )
        if self.burst > 1 and self.burst > self.share:
            raise InvalidLimit(
                f"burst={shown(self.burst)} is more than the {self.share:g} that one window of "
                f"{self.span:g} s allows",
                fix=f"burst={max(1, math.floor(self.share))} or less.",
            )

    @property
    def span(self) -> float:
        """The server's window in seconds: `window`, or `per` where none was given."""
        return self.per if self.window is None else self.window

    @property
    def share(self) -> float:
        """How much one window of `span` seconds allows."""
        return self.limit * self.span / self.per

    @property
    def delay_bound(self) -> float:
        """The jitter of delivery in force, in seconds."""
        return max(0.020, 0.005 * self.span) if self.jitter is None else self.jitter

    @property
    def pace(self) -> float:
        """Attempts (or tokens) a second that keep the promise.

        The envelope of GCRA: at most ``burst + ceil(pace * t) - 1`` start in any ``t`` seconds;
        with ``t = window + jitter + lateness`` that is at most the window's share.
        """
        clearance = self.span + self.delay_bound + LATENESS + _MARGIN
        return (self.share - self.burst + 1) / clearance

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read ``"600/min"``, ``"10/s"``, ``"180k/min"``, ``"1M/day"`` or ``"500/5min"``.

        Raises `InvalidLimit` with the fix for anything else.
        """
        # Who has no type checker may pass anything.
        stated = text if isinstance(text, str) and text.isascii() else ""
        match = _TEXT.fullmatch(stated.strip())
        if match is None:
            raise _no_rate(text)
        number, prefix, count, unit = match.groups()
        known = prefix in _PREFIXES or prefix in _AMBIGUOUS
        if not known or unit.lower() not in _UNITS:
            raise _no_rate(text, unit if known else prefix)
        try:
            limit = float(number.replace(",", "").replace("_", ""))
            per = float(count or 1) * _UNITS[unit.lower()]
        except ValueError:
            raise _no_rate(text) from None
        if prefix in _AMBIGUOUS:
            raise InvalidLimit(
                f"{shown(text)}: a small {prefix} may be {_AMBIGUOUS[prefix]}",
                fix=f'"{number}{prefix.upper()}/{count}{unit}".',
            )
        limit *= _PREFIXES[prefix]
        _check_positive("a rate", limit, text)
        _check_positive("a rate's period", per, text)
        _check_seconds("its period", per, text)
        _check_speed(limit / per, shown(text))
        return cls(limit, per=per)

    def __str__(self) -> str:
        return stated(self.limit, self.per)


RateLike: TypeAlias = str | Rate | Limiter | Iterable[str | Rate | Limiter]
ConcurrencyLike: TypeAlias = int | None


@dataclass(frozen=True, slots=True, init=False)
class Limits:
    """Limits that hold together: `requests` and `tokens` a period, and attempts in flight.

    `requests` and `tokens` take a rate as text, a `Rate`, or a list of them (all of which hold);
    `requests` takes an `aiolimiter.AsyncLimiter` too, which is asked for each attempt when nothing
    else holds that back. Raises `InvalidLimit`.
    """

    requests: tuple[Rate, ...]
    tokens: tuple[Rate, ...]
    concurrency: int | None
    shared: tuple[Limiter, ...]

    def __init__(
        self,
        requests: RateLike | None = None,
        *,
        tokens: RateLike | None = None,
        concurrency: ConcurrencyLike = None,
    ) -> None:
        rates, shared = _read_rates(requests)
        token_rates, token_shared = _read_rates(tokens)
        if token_shared:
            raise InvalidLimit(
                "tokens= takes rates, not an AsyncLimiter: tokens are reserved and settled "
                "later, which an AsyncLimiter cannot do",
                fix='tokens="180k/min".',
            )
        set_field = object.__setattr__  # the class is frozen
        set_field(self, "requests", rates)
        set_field(self, "tokens", token_rates)
        set_field(self, "concurrency", check_concurrency(concurrency))
        set_field(self, "shared", shared)

    def __bool__(self) -> bool:
        return bool(self.requests or self.tokens or self.concurrency or self.shared)


def _read_rates(value: object) -> tuple[tuple[Rate, ...], tuple[Limiter, ...]]:
    if value is None:
        return (), ()
    items: Iterable[object]
    if isinstance(value, str | bytes | bytearray | Mapping | Rate | Limiter):
        items = (value,)
    elif isinstance(value, Iterable):
        items = value
    else:
        items = (value,)
    rates: list[Rate] = []
    shared: list[Limiter] = []
    for item in items:
        if isinstance(item, str):
            rates.append(Rate.parse(item))
        elif isinstance(item, Rate):
            rates.append(item)
        elif isinstance(item, Limiter):
            shared.append(item)
        else:
            raise _no_rate(item)
    return tuple(rates), tuple(shared)


def check_concurrency(value: object, name: str = "concurrency=") -> int | None:
    """`value` as a number of attempts in flight, None for no limit. Raises `InvalidLimit`, in whose
    text `name` stands before the value.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidLimit(
            f"{name}{shown(value)} is not a whole number from 1: it is how many attempts "
            "may be in flight at once",
            fix="concurrency=32, or leave it out for no limit.",
        )
    if value > _MOST_AT_ONCE:
        raise InvalidLimit(
            f"{name}{shown(value)} is more than any machine can have in flight",
            fix="concurrency=32, or leave it out for no limit.",
        )
    return value


def _check_positive(what: str, value: object, given: object) -> None:
    if not (is_number(value) and 0 < value < math.inf):
        raise InvalidLimit(
            f"{shown(given)} is not a limit: {what} is a finite number above 0",
            fix='"600/min", or leave it out for no limit.',
        )


def _check_seconds(what: str, seconds: float, given: object) -> None:
    if not _SHORTEST <= seconds <= _YEAR:
        raise InvalidLimit(
            f"{shown(given)} is not a limit: {what} is {seconds:g} seconds, and a server counts "
            "over a millisecond at the least and a year at the most",
            fix='"600/min".',
        )


def _check_speed(speed: float, given: str) -> None:
    if not 1 / _YEAR <= speed <= _FASTEST:
        raise InvalidLimit(
            f"{given} is not a limit: it is {speed:g} a second, and a rate is between one a year "
            "and 1e12 a second",
            fix='"600/min", or leave it out for no limit.',
        )


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a number, not a bool, that a float can hold (as NaN and infinity are)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _no_rate(given: object, unknown: str = "") -> InvalidLimit:
    """The error for `given`, which is no rate; `unknown` is the unit in it that nobody knows."""
    what = f"unknown unit {unknown!r} in " if unknown else ""
    return InvalidLimit(
        f"{what}{shown(given)}: a rate is a number and a period",
        fix='"600/min", "10/s", "180k/min", "1M/day", a Rate(600, per=60), or a list of them.',
    )
