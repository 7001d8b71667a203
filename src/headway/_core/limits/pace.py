"""The pace of a rate over time: GCRA.

Source. GCRA in its virtual-scheduling form is ITU-T I.371's; the envelope that makes it safe
against windows that the server enforces is in `headway.rates.Rate.pace`.
"""

from __future__ import annotations

from heapq import heappop, heappush

from headway.rates import LATENESS, Rate

__all__ = ["Pace"]

INFINITY = float("inf")


class Pace:
    """GCRA: `next` is the theoretical time of the next attempt, `interval` seconds a unit.

    An attempt may start from ``next - tolerance`` on, where the tolerance is that of the burst.
    One that a late timer held up catches up within `slack` seconds and no more. The server counts
    from when an attempt is sent, and one may be sent later than it was charged: the window that
    begins with it is kept by a log of such attempts.
    """

    __slots__ = ("_late", "_units", "base", "interval", "next", "rate", "slack", "tolerance")

    def __init__(self, rate: Rate, slack: float = LATENESS) -> None:
        self.rate = rate
        self.slack = slack
        self.next = -INFINITY
        self.base = self.interval = 1.0 / rate.pace
        self.tolerance = (rate.burst - 1) * self.interval
        # Of each that was sent late: what `_units` is when its window is full, until when it lasts.
        self._late: list[tuple[float, float]] = []
        self._units = 0.0  # charged while any such window lasts

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
        if self._late:
            self._units += cost
            self._keep_windows(now)

    def sent_late(self, charged_at: float, now: float) -> None:
        """An attempt that was charged at `charged_at` is sent only `now`."""
        interval = min(self.interval, self.base)
        # At most so many have been charged since.
        since = self.rate.burst - 1 + (now - charged_at + self.slack) // interval
        full = self._units + self.rate.share // 1.0 - 1.0 - since
        heappush(self._late, (full, now + self.rate.span + self.rate.delay_bound))
        self._keep_windows(now)

    def _keep_windows(self, now: float) -> None:
        """Let the next attempt wait for each window that is full."""
        late = self._late
        while late and (late[0][0] <= self._units or late[0][1] <= now):
            _, until = heappop(late)
            if until > now:
                self.next = max(self.next, until + self.tolerance)

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
        more = self.rate.share // 1.0 - older.rate.share // 1.0 - older._units
        longer = self.rate.span + self.rate.delay_bound - older.rate.span - older.rate.delay_bound
        self._late = [(full + more, until + longer) for full, until in older._late]

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self.next += seconds
        self._late = [(units, until + seconds) for units, until in self._late]
