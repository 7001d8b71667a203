"""A quota: a rate over more than an hour, counted and not paced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from headway._core.limits.budget import TokenBudget
from headway._core.limits.pace import Pace
from headway.kinds import LimitName
from headway.rates import Rate, TokenClass, is_number

__all__ = ["Quota", "RequestQuota"]

INFINITY = float("inf")

_DUST = 1e-6
_MOST_PERIODS = 100.0  # so many times a quota nobody can have used
_MOST = 1e15  # no moment, and no sum of tokens, is above this


class _Unpaced(Pace):
    """A pace that holds nothing back."""

    __slots__ = ()

    def take(self, now: float, cost: float = 1.0) -> None:
        """Charge nothing."""


def _is_slot(slot: object) -> bool:
    return (
        isinstance(slot, list)
        and len(slot) == 2
        and all(is_number(each) and 0 <= each <= _MOST for each in slot)
    )


class Quota(TokenBudget):
    """What may be used in a day, say, of tokens of one class.

    It rolls, as the window of a budget does, or begins anew at a time of day: then `wall` is what
    the clock of the world shows beyond the caller's, and until it is known nothing begins anew.
    """

    __slots__ = ("_wall", "renews_at", "told_until", "what")

    def __init__(
        self, rate: Rate, kind: TokenClass = "tokens", *, cached: float | None = None
    ) -> None:
        super().__init__(rate, kind, cached=cached, exact=True)
        self.what: LimitName = kind
        self.pace = _Unpaced(rate)
        self.told_until = -INFINITY  # that it is spent
        self._wall: float | None = None
        self.renews_at = INFINITY

    def set_wall(self, wall: float, now: float) -> None:
        """`wall` is what the clock of the world shows beyond this one."""
        self._wall = wall
        if self.renews_at == INFINITY:
            self._renew(now)

    def date_of(self, at: float) -> str:
        """The moment `at` as a date to add to a sentence; "" where the time of the world is not
        known.
        """
        if self._wall is None:
            return ""
        return f", at {datetime.fromtimestamp(at + self._wall, UTC):%Y-%m-%d %H:%M} UTC"

    def frees_at(self, cost: float, now: float) -> float:
        """`ready_at`, and no change."""
        if now >= self.renews_at:
            return -INFINITY
        return self.seen_ready_at(cost)

    def spent(self, now: float) -> float:
        """What of it is used; it changes nothing."""
        if self._wall is None or self.rate.resets is None:
            return super().spent(now)
        return 0.0 if now >= self.renews_at else self.total

    def clear(self) -> None:
        """Forget what is used of it."""
        for slot in self._slots:
            slot[0] = -INFINITY  # what is refunded to it from now on is refunded to none
        self._slots.clear()
        self.total = 0.0

    def follow(self, used: Sequence[tuple[float, float]], now: float) -> None:
        """Count what all that share it have `used`: until when each sub-slot lasted, and how much
        it holds.
        """
        self.clear()
        for at, amount in used:
            self._add(amount, min(now, at - self._width / 2))

    def snapshot(self, wall: float) -> dict[str, Any]:
        """What is used of it, by the clock of the world: `wall` beyond this one."""
        rate = self.rate
        slots = [
            [round((index + 1) * self._width + wall, 3), round(amount, 3)]
            for index, amount, _ in self._slots
            if amount > _DUST
        ]
        return {
            "what": self.what, "limit": rate.limit, "per": rate.per, "resets": rate.resets,
            "used": slots,
        }  # fmt: skip

    def restore(self, kept: Mapping[str, Any], wall: float, now: float) -> bool:
        """Count what `snapshot` of a quota of the same kind kept; False where it is of another, or
        cannot be meant.
        """
        rate = self.rate
        if (kept.get("what"), kept.get("per"), kept.get("resets")) != (
            self.what, rate.per, rate.resets,
        ):  # fmt: skip
            return False
        used = kept.get("used")
        if not isinstance(used, list) or not all(_is_slot(slot) for slot in used):
            return False
        if sum(amount for _, amount in used) > _MOST_PERIODS * rate.limit:
            return False
        for at, amount in sorted(used):
            moment = min(now, at - wall)  # the clock of the world may have been moved
            if rate.resets is None:
                counts = moment > now - rate.span
            else:
                counts = rate.renews_after(at - 2 * self._width) > now + wall
            if counts:
                self._add(amount, moment)
        self._expire(now)
        return True

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        super().shift(seconds)
        self.renews_at += seconds
        self.told_until += seconds

    def _renew(self, now: float) -> None:
        if self._wall is not None:
            self.renews_at = self.rate.renews_after(now + self._wall) - self._wall

    def _expire(self, now: float) -> None:
        if self._wall is None or self.rate.resets is None:
            super()._expire(now)
        elif now >= self.renews_at:
            self.clear()
            self._renew(now)

    def _room_at(self, cost: float, estimated: bool) -> float:
        at = super()._room_at(cost, estimated)
        return at if self.rate.resets is None or at == -INFINITY else min(at, self.renews_at)


class RequestQuota(Quota):
    """What may be sent in a day, say: it counts one an attempt, whatever its tokens are."""

    __slots__ = ()

    def __init__(self, rate: Rate) -> None:
        super().__init__(rate)
        self.what = "requests"

    def count_cached(self, weight: float | None) -> None:
        """It counts no tokens, and never takes a cost as the number that it is."""
        self.plain = False

    def record(self, requests: int, tokens: float, now: float) -> None:
        """Charge what was sent elsewhere."""
        self._add(requests, now)

    def weigh(self, cost: float) -> float:
        """The attempt itself."""
        return 1.0
