"""Limits as a user states them: ``Rate``, ``Limits``, and reading ``"600/min"``.

Values only: what a limit does over time lives in `headway._core.limits.budget`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from headway.errors import InvalidLimit
from headway.kinds._words import plural, shown, stated
from headway.rates._cost import Cost, is_number
from headway.rates._shared import Away, Shared

__all__ = [
    "LATENESS",
    "LONGEST_PACED",
    "TOKEN_CLASSES",
    "UNKNOWN_ENFORCEMENT",
    "Away",
    "ConcurrencyLike",
    "Cost",
    "Enforcement",
    "Limiter",
    "Limits",
    "Rate",
    "RateLike",
    "Shared",
    "TokenClass",
    "TokenRate",
    "is_number",
    "rate_of_class",
]

LATENESS = 0.010
"""Seconds by which a timer may fire late and still be caught up with (lambda in the pacing)."""

LONGEST_PACED = 3_600.0
"""Seconds: a limit over a longer time is a quota. Paced, it would make a short run last as long."""

_DAY = 86_400.0
_TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?:\s+(\S+))?")

# A sliding log refuses exact ties, and floats round: this much more than the window is cleared.
_MARGIN = 1e-6

_UNITS = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
    "w": 604800.0, "week": 604800.0, "weeks": 604800.0,
}  # fmt: skip
_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9}
_AMBIGUOUS = {"m": "milli, a minute or a million", "b": "bits, bytes or a billion"}

# Between these every interval is a number to count with, and nobody means what is beyond them.
_YEAR = 366 * 86_400.0
_SHORTEST = 0.001  # seconds
_FASTEST = 1e12  # a second
_MOST_AT_ONCE = 2**63 - 1
_HEAVIEST = 1_000.0  # that one token counts for
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

    Over more than an hour it is a quota: counted, and not paced. It rolls; `resets` names the time
    of day at which that of a day begins anew instead, such as ``"00:00"`` (UTC) or
    ``"00:00 America/Los_Angeles"``.

    Raises `InvalidLimit` for values that cannot be meant.
    """

    limit: float
    per: float = 60.0
    window: float | None = None
    burst: int = 1
    jitter: float | None = None
    resets: str | None = None

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
        if self.resets is not None:
            self._check_resets(self.resets)
        if self.burst > 1 and self.burst > self.share:
            raise InvalidLimit(
                f"burst={shown(self.burst)} is more than the {self.share:g} that one window of "
                f"{self.span:g} s allows",
                fix=f"burst={max(1, math.floor(self.share))} or less.",
            )

    def _check_resets(self, resets: object) -> None:
        if self.per != _DAY or not self.is_quota:
            raise InvalidLimit(
                f"resets={shown(resets)} is for a quota of a day, and this rate is over "
                f"{self.span:g} {plural(self.span, 'second')}",
                fix='Rate(1000, per=86_400, resets="00:00"), or leave it out.',
            )
        if not isinstance(resets, str) or _time_of_day(resets) is None:
            raise InvalidLimit(
                f"resets={shown(resets)} is no time of day",
                fix='"00:00" for midnight UTC, or with a zone, "00:00 America/Los_Angeles".',
            )

    @property
    def is_quota(self) -> bool:
        """Whether it is counted and not paced: its window is longer than an hour."""
        return self.span > LONGEST_PACED

    def renews_after(self, wall_time: float) -> float:
        """When it begins anew after `wall_time`, in seconds since the epoch; infinity where it
        rolls.
        """
        found = None if self.resets is None else _time_of_day(self.resets)
        if found is None:
            return math.inf
        hour, minute, zone = found
        now = datetime.fromtimestamp(wall_time, zone)
        # Of a time that comes twice a night the first; one that is skipped comes an hour later.
        then = now.replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)
        while then.timestamp() <= wall_time:
            then += timedelta(days=1)  # by the clock on the wall: a day of 23 or 25 hours is one
        return then.timestamp()

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
        if self.jitter is not None:
            return self.jitter
        return max(0.020, 0.005 * min(self.span, LONGEST_PACED))

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
        """Read ``"600/min"``, ``"10/s"``, ``"180k/min"``, ``"1M/day"`` or ``"500/5min"``; what
        begins anew at a time of day as ``"1000/day from 00:00 America/Los_Angeles"``.

        Raises `InvalidLimit` with the fix for anything else.
        """
        # Who has no type checker may pass anything.
        stated = text if isinstance(text, str) and text.isascii() else ""
        stated, _, resets = stated.partition(" from ")
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
        return cls(limit, per=per, resets=resets or None)

    def __str__(self) -> str:
        return stated(self.limit, self.per)


@dataclass(frozen=True, slots=True)
class TokenRate(Rate):
    """A rate of tokens that counts some of them for more, or for less, than one.

    A token of the prompt counts `input`, one of the answer `output`, and one of the prompt that
    the provider reads from its cache `cached` (None: as the provider counts it, where that is
    known, else as `input`). So ``TokenRate(100_000, output=5)`` is a limit of 100,000 a minute in
    which each token of an answer counts for five. Raises `InvalidLimit` for a weight that is no
    finite number from 0, and where all are 0.
    """

    input: float = 1.0
    cached: float | None = None
    output: float = 1.0

    def __post_init__(self) -> None:
        Rate.__post_init__(self)  # a class with slots is made anew, which `super()` does not know
        for name in ("input", "cached", "output"):
            weight = getattr(self, name)
            if weight is None and name == "cached":
                continue
            if not (is_number(weight) and 0 <= weight <= _HEAVIEST):
                raise InvalidLimit(
                    f"{name}={shown(weight)} is not a weight: it is how much one of these tokens "
                    f"counts, a number from 0 to {_HEAVIEST:g}",
                    fix="1, or leave it out.",
                )
        if not (self.input or self.output):
            raise InvalidLimit(
                "input=0 and output=0: a limit that counts no token limits nothing",
                fix="leave one of them out, or leave out the limit.",
            )


RateLike: TypeAlias = str | Rate | Limiter | Iterable[str | Rate | Limiter]
ConcurrencyLike: TypeAlias = int | None
TokenClass = Literal["tokens", "input_tokens", "output_tokens"]
TOKEN_CLASSES: tuple[TokenClass, ...] = ("tokens", "input_tokens", "output_tokens")
"""What limits of tokens count: all of them (or by weights), those of prompts, those of answers."""


class Enforcement(NamedTuple):
    """How a provider enforces what is stated for a period, where the user says nothing else.

    `window` is the seconds over which it counts requests (None: the whole period), `cached` what a
    token counts that it reads from its cache, of one of the prompt's (None: not known). `reserves`
    says that it counts what a request may use at the most, its ``max_tokens``, from its start on;
    False where it counts what is used, or nobody knows.
    """

    window: float | None = None
    cached: float | None = None
    reserves: bool = False

    def and_stricter(self, other: Enforcement) -> Enforcement:
        """What holds where both providers are asked: the shorter window, the most that either
        counts, and what is reserved where either counts that.
        """
        windows = [each for each in (self.window, other.window) if each is not None]
        weights = (self.cached, other.cached)
        cached = None if None in weights else max(w for w in weights if w is not None)
        return Enforcement(min(windows, default=None), cached, self.reserves or other.reserves)


UNKNOWN_ENFORCEMENT = Enforcement()


@dataclass(frozen=True, slots=True, init=False)
class Limits:
    """Limits that hold together: `requests` and tokens a period, and attempts in flight.

    `requests` and `tokens` take a rate as text, a `Rate`, or a list of them (all of which hold);
    `requests` takes an `aiolimiter.AsyncLimiter` too, which is asked for each attempt when nothing
    else holds that back. `tokens` counts those of prompts and answers together, `input_tokens` and
    `output_tokens` each alone; a `TokenRate` for `tokens` counts them by weights. A rate over more
    than an hour is a quota: counted, and not paced. Raises `InvalidLimit`.
    """

    requests: tuple[Rate, ...]
    tokens: tuple[Rate, ...]
    input_tokens: tuple[Rate, ...]
    output_tokens: tuple[Rate, ...]
    concurrency: int | None
    shared: tuple[Limiter, ...]

    def __init__(
        self,
        requests: RateLike | None = None,
        *,
        tokens: RateLike | None = None,
        input_tokens: RateLike | None = None,
        output_tokens: RateLike | None = None,
        concurrency: ConcurrencyLike = None,
    ) -> None:
        rates, shared = _read_rates(requests)
        set_field = object.__setattr__  # the class is frozen
        set_field(self, "requests", rates)
        set_field(self, "tokens", _read_token_rates("tokens", tokens))
        set_field(self, "input_tokens", _read_token_rates("input_tokens", input_tokens))
        set_field(self, "output_tokens", _read_token_rates("output_tokens", output_tokens))
        set_field(self, "concurrency", check_concurrency(concurrency))
        set_field(self, "shared", shared)
        self._check_classes()

    def _check_classes(self) -> None:
        """Raise `InvalidLimit` where weights make a limit of all tokens one of a class that is
        limited over the same time already.
        """
        for rate in self.tokens:
            if isinstance(rate, TokenRate) and 0 in (rate.input, rate.output):
                kind: TokenClass = "output_tokens" if rate.output else "input_tokens"
                for other in self.of_tokens(kind):
                    if _time_of(rate) == _time_of(other):
                        weights = f"input={rate.input:g}, output={rate.output:g}"
                        raise InvalidLimit(
                            f"tokens=TokenRate({rate.limit:g}, {weights}) and {kind}= limit the "
                            f"same tokens twice over {rate.span:g} {plural(rate.span, 'second')}",
                            fix="state the one that holds, the smaller.",
                        )

    def of_tokens(self, kind: TokenClass) -> tuple[Rate, ...]:
        """The limits of tokens of that class."""
        rates: tuple[Rate, ...] = getattr(self, kind)
        return rates

    def enforced(self, enforcement: Enforcement) -> Limits:
        """These limits, the requests over the window that the provider means where none is said."""
        window = enforcement.window
        if window is None:
            return self
        rates = [
            replace(rate, window=window)
            if rate.window is None
            and window < rate.per
            and not rate.is_quota
            and rate.burst <= max(1.0, rate.limit * window / rate.per)
            else rate
            for rate in self.requests
        ]
        return Limits(
            [*rates, *self.shared],
            tokens=self.tokens,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            concurrency=self.concurrency,
        )

    @property
    def token_rates(self) -> tuple[tuple[TokenClass, Rate], ...]:
        """All limits of tokens, each with what it counts."""
        return tuple((kind, rate) for kind in TOKEN_CLASSES for rate in self.of_tokens(kind))

    @property
    def quotas(self) -> tuple[Rate, ...]:
        """The rates over more than an hour, of requests and of tokens."""
        rates = (*self.requests, *(rate for _, rate in self.token_rates))
        return tuple(rate for rate in rates if rate.is_quota)

    @property
    def is_to_be_found(self) -> bool:
        """Whether nothing is stated but quotas, if any: the rate, say, is to be found."""
        stated = len(self.requests) + len(self.token_rates)
        return stated == len(self.quotas) and not (self.concurrency or self.shared)

    def __bool__(self) -> bool:
        return bool(self.requests or self.token_rates or self.concurrency or self.shared)


_ONLY = {"input_tokens": (1.0, 0.0), "output_tokens": (0.0, 1.0)}  # weights: input, output


def _read_token_rates(kind: TokenClass, value: object) -> tuple[Rate, ...]:
    rates, limiters = _read_rates(value)
    if limiters:
        raise InvalidLimit(
            f"{kind}= takes rates, not an AsyncLimiter: tokens are reserved and settled "
            "later, which an AsyncLimiter cannot do",
            fix=f'{kind}="180k/min".',
        )
    rates = tuple(rate_of_class(kind, rate) for rate in rates)
    for number, rate in enumerate(rates):
        for other in rates[:number]:
            if _counts(rate) == _counts(other):
                raise InvalidLimit(
                    f"{kind}= is limited twice over {rate.span:g} "
                    f"{plural(rate.span, 'second')}: {other} and {rate}",
                    fix="state the one that holds, the smaller.",
                )
    return rates


def rate_of_class(kind: TokenClass, rate: Rate) -> Rate:
    """`rate` as a limit of that class of tokens. Raises `InvalidLimit` for weights of its own."""
    if kind == "tokens":
        return rate
    of_prompts, of_answers = _ONLY[kind]
    if isinstance(rate, TokenRate):
        if (rate.input, rate.output) == (of_prompts, of_answers):
            return rate
        raise InvalidLimit(
            f"{kind}= counts these tokens alone and takes no weights",
            fix=f'{kind}="180k/min", or tokens=TokenRate(180_000, output=5) for a limit of all.',
        )
    return TokenRate(
        rate.limit, rate.per, rate.window, rate.burst, rate.jitter, rate.resets,
        of_prompts, None, of_answers,
    )  # fmt: skip


def _counts(rate: Rate) -> tuple[object, ...]:
    """What a rate of tokens counts, and over which time."""
    weights: tuple[float, float | None, float] = 1.0, None, 1.0
    if isinstance(rate, TokenRate):
        weights = rate.input, rate.cached, rate.output
    return *_time_of(rate), *weights


def _time_of(rate: Rate) -> tuple[object, ...]:
    """Over which time a rate counts."""
    return rate.per, rate.span, rate.resets


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


def _time_of_day(text: str) -> tuple[int, int, tzinfo] | None:
    match = _TIME_OF_DAY.fullmatch(text.strip())
    if match is None:
        return None
    hour, minute, name = match.groups()
    if name is None or name.upper() in ("UTC", "Z"):
        return int(hour), int(minute), UTC
    try:
        return int(hour), int(minute), ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):  # no zone, or a folder of zones
        return None


def _no_rate(given: object, unknown: str = "") -> InvalidLimit:
    """The error for `given`, which is no rate; `unknown` is the unit in it that nobody knows."""
    what = f"unknown unit {unknown!r} in " if unknown else ""
    return InvalidLimit(
        f"{what}{shown(given)}: a rate is a number and a period",
        fix='"600/min", "10/s", "180k/min", "1M/day", a Rate(600, per=60), or a list of them.',
    )
