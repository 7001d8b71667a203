"""The pace of a rate over time: GCRA.

Source. GCRA in its virtual-scheduling form is ITU-T I.371's; the envelope that makes it safe
against windows that the server enforces is in `headway.rates.Rate.pace`.
"""

from __future__ import annotations

from headway.rates import LATENESS, Rate

__all__ = ["Pace"]

INFINITY = float("inf")


class Pace:
    """GCRA: `next` is the theoretical time of the next attempt, `interval` seconds a unit.

    An attempt may start from ``next - tolerance`` on, where the tolerance is that of the burst.
    One that a late timer held up catches up within `slack` seconds and no more.
    """

    __slots__ = ("base", "interval", "next", "rate", "slack", "tolerance")

    def __init__(self, rate: Rate, slack: float = LATENESS) -> None:
        self.rate = rate
        self.slack = slack
        self.next = -INFINITY
        self.base = self.interval = 1.0 / rate.pace
        self.tolerance = (rate.burst - 1) * self.interval

    def ready_at(self) -> float:
        """The moment from which the next attempt may start."""
        return self.next - self.tolerance

    def after(self, others: float, start: float) -> float:
        """`ready_at` of an attempt behind so many `others`, of which the first starts at `start`
        or later.
        """
        return max(start, self.ready_at()) + others * self.interval

    def take(self, now: float, cost: float = 1.0) -> None:
        """Charge an attempt of `cost` units that starts at `now`."""
        earliest = now - self.slack
        self.next = (self.next if self.next > earliest else earliest) + cost * self.interval

    def give_back(self, now: float, cost: float) -> None:
        """Forget `cost` units that were charged and never sent, where time has not yet.

        Safe only where nothing was charged in between, or where a window guards the limit.
        """
        earliest = now - self.slack
        if self.next > earliest:
            self.next = max(earliest, self.next - cost * self.interval)

    def slow_to(self, factor: float, now: float) -> None:
        """Run at `factor` (above 0) times the stated pace; what is owed is kept, in units."""
        interval = self.base / factor
        if self.next > now:
            self.next = now + (self.next - now) * interval / self.interval
        self.interval = interval
        self.tolerance = (self.rate.burst - 1) * interval

    def adopt(self, older: Pace, now: float) -> None:
        """Carry over what an `older` pace is owed, in units, so that a retune starts no burst."""
        owed = max(0.0, older.next - now) / older.interval
        self.next = now + owed * self.interval if older.next > -INFINITY else -INFINITY

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self.next += seconds
