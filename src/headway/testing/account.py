"""What one account may do: its limits, each counted by an algorithm, and what is in flight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from headway.errors import InvalidLimit
from headway.kinds._words import shown, stated
from headway.rates import Cost, Limits, Rate, TokenClass, TokenRate
from headway.testing.algorithms import (
    Algorithm,
    FixedWindow,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
)

__all__ = [
    "ALGORITHMS",
    "Account",
    "Counted",
    "Name",
    "OverLimit",
    "What",
    "check_limits",
    "counted_by",
]

What: TypeAlias = Literal["requests"] | TokenClass
Name: TypeAlias = Literal["fixed_window", "sliding_log", "sliding_counter", "token_bucket", "gcra"]

_BUCKETS = ("token_bucket", "gcra")


def _bucket(rate: Rate, began: float, burst: int | None) -> Algorithm:
    return TokenBucket(float(burst or max(1.0, rate.share)), rate.limit / rate.per)


ALGORITHMS: Mapping[str, Callable[[Rate, float, int | None], Algorithm]] = MappingProxyType(
    {
        "fixed_window": lambda rate, began, _: FixedWindow(rate.share, rate.span, began),
        # On a virtual clock exact ties are no rare chance.
        "sliding_log": lambda rate, began, _: SlidingLog(rate.share, rate.span, half_open=True),
        "sliding_counter": lambda rate, began, _: SlidingCounter(rate.share, rate.span, began),
        **dict.fromkeys(_BUCKETS, _bucket),
    }
)
"""By their names in the field: a rate, when its first window begins, and the size of a bucket."""


def check_limits(limits: Limits, algorithm: object, burst: object) -> None:
    """Raise `InvalidLimit` for limits under which no server would ever let anything through, or an
    algorithm that nobody knows.
    """
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise InvalidLimit(
            f"algorithm={shown(algorithm)} is none by which a fake provider counts",
            fix=f"one of {', '.join(ALGORITHMS)}.",
        )
    if limits.shared:
        raise InvalidLimit(
            "an AsyncLimiter waits where a server refuses, so it cannot be a fake provider's limit",
            fix='state its rate: "600/min".',
        )
    if burst is not None:
        if isinstance(burst, bool) or not isinstance(burst, int) or burst < 1:
            raise InvalidLimit(
                f"burst={shown(burst)} is not a whole number from 1: it is how many requests a "
                "full bucket holds",
                fix="burst=10, or leave it out for what one window allows.",
            )
        if algorithm not in _BUCKETS:
            raise InvalidLimit(
                f"burst={burst} is the size of a bucket, and {algorithm} has none",
                fix='algorithm="token_bucket", or leave out burst=.',
            )
    for rate in limits.requests:
        if rate.share < 1 and algorithm not in _BUCKETS:
            raise InvalidLimit(
                f"a window of {rate.span:g} s allows {rate.share:g} of a request, so {algorithm} "
                "would refuse every one",
                fix=f'Rate(1, per={rate.per / rate.limit:g}), or algorithm="token_bucket".',
            )


@dataclass(frozen=True, slots=True)
class Counted:
    """A rate, what it is of, and how it is counted."""

    what: What
    rate: Rate
    algorithm: Algorithm

    def amount(self, cost: Cost) -> float:
        """How much of it one request takes that uses `cost` tokens."""
        if self.what == "requests":
            return 1.0
        if not isinstance(self.rate, TokenRate):
            return float(cost)
        cached = self.rate.input if self.rate.cached is None else self.rate.cached
        read = (cost.input + cost.either) * self.rate.input + cost.cached * cached
        return read + cost.output * self.rate.output

    def __str__(self) -> str:
        unit = self.what.replace("_", " ")
        over = f" over {self.rate.span:g} s" if self.rate.span != self.rate.per else ""
        return f"{stated(self.rate.limit, self.rate.per)} {unit}{over}"


class OverLimit(NamedTuple):
    """Why a request was refused: by which limit, of which `used` are used and `asked` were asked
    for, and the seconds after which it would have fitted (infinity: never).
    """

    what: What | Literal["concurrency"]
    limit: float
    used: float
    asked: float
    wait: float
    per: float


def counted_by(
    limits: Limits, algorithm: Name = "sliding_log", burst: int | None = None, began: float = 0.0
) -> list[Counted]:
    """The rates of `limits`, of which nothing is used, counted by `algorithm` from `began` on."""
    make = ALGORITHMS[algorithm]
    counted = [Counted("requests", rate, make(rate, began, burst)) for rate in limits.requests]
    # A bucket of tokens holds what its window allows: a burst is of requests.
    counted += [Counted(what, rate, make(rate, began, None)) for what, rate in limits.token_rates]
    return counted


class Account:
    """Its limits and what is used of them. Times are in seconds on the clock of the provider."""

    def __init__(self, limits: Limits, algorithm: Name, burst: int | None, began: float) -> None:
        self.limits = limits
        self.in_flight = 0
        self.counted = counted_by(limits, algorithm, burst, began)

    def enter(self, now: float, cost: Cost) -> OverLimit | None:
        """Count a request and hold its slot; or say why it is refused, and count nothing."""
        most = self.limits.concurrency
        if most is not None and self.in_flight >= most:
            return OverLimit("concurrency", most, self.in_flight, 1, 0.0, 0.0)
        refused = None
        for each in self.counted:
            amount = each.amount(cost)
            if each.algorithm.fits(now, amount):
                continue
            wait = each.algorithm.fits_in(now, amount)
            if refused is None or wait > refused.wait:
                used = each.algorithm.used(now)
                limit = each.algorithm.limit
                refused = OverLimit(each.what, limit, used, amount, wait, each.rate.span)
        if refused is None:
            for each in self.counted:
                each.algorithm.take(now, each.amount(cost))
            self.in_flight += 1
        return refused

    def leave(self) -> None:
        """Give a slot back."""
        self.in_flight -= 1
