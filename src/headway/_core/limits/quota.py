"""A quota: a rate over more than an hour, counted and not paced."""

from __future__ import annotations

from datetime import UTC, datetime

from headway._core.limits.budget import TokenBudget
from headway._core.limits.pace import Pace
from headway.kinds import LimitName
from headway.rates import Rate, TokenClass

__all__ = ["Quota"]

INFINITY = float("inf")


class _Unpaced(Pace):
    """A pace that holds nothing back."""

    __slots__ = ()

    def take(self, now: float, cost: float = 1.0) -> None:
        """Charge nothing."""

    def slow_to(self, factor: float, now: float) -> None:
        """Slow nothing down: what a minute refuses says nothing of a day."""


class Quota(TokenBudget):
    """What may be used in a day, say: of tokens of one class, or of requests.

    It rolls, as the window of a budget does, or begins anew at a time of day: then `wall` is what
    the clock of the world shows beyond the caller's, and until it is known nothing begins anew.
    """

    __slots__ = ("_requests", "_wall", "renews_at", "told_until")

    def __init__(
        self, rate: Rate, kind: TokenClass | None = None, *, cached: float | None = None
    ) -> None:
        self._requests = kind is None
        super().__init__(rate, kind or "tokens", cached=cached)
        self.pace = _Unpaced(rate)
        self.told_until = -INFINITY  # that it is spent
        self._wall: float | None = None
        self.renews_at = INFINITY

    @property
    def what(self) -> LimitName:
        """What it limits."""
        return "requests" if self._requests else self.kind

    def count_cached(self, weight: float | None) -> None:
        """As every budget; one of requests counts no tokens."""
        super().count_cached(weight)
        if self._requests:
            self.plain = False

    def weigh(self, cost: float) -> float:
        """What of `cost` it counts: of requests, the attempt itself."""
        return 1.0 if self._requests else super().weigh(cost)

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

    def used_by(self, slots: list[tuple[float, float]], now: float) -> None:
        """Count what was used before, each as a moment and an amount."""
        for at, amount in sorted(slots):
            if amount > 0 and at <= now:
                self._add(amount, at)
        self._expire(now)

    def slots(self) -> list[tuple[float, float]]:
        """What it counts, as moments (the ends of its slots) and amounts."""
        return [((index + 1) * self._width, amount) for index, amount in self._slots if amount > 0]

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
            for slot in self._slots:
                slot[0] = -INFINITY  # what is refunded to it from now on is refunded to none
            self._slots.clear()
            self.total = 0.0
            self._renew(now)

    def _room_at(self, cost: float) -> float:
        at = super()._room_at(cost)
        return at if self.rate.resets is None or at == -INFINITY else min(at, self.renews_at)
