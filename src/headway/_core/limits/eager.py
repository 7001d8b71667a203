"""What a server says remains, spent at once: for runs that are short beside its window."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from headway._core.limits.pace import INFINITY, Pace
from headway.hints import LimitHint
from headway.rates import LATENESS, Rate

__all__ = ["Eager"]

_OVERTAKES = 0.02  # seconds by which one request may arrive before another that was sent earlier
_KEPT = 8_192  # sends and answers that are remembered


class Eager:
    """When attempts were sent lately: what a server has not counted yet when it says what remains,
    and what the windows of the stated rates still hold.
    """

    __slots__ = ("_flying", "_heard", "_sends")

    def __init__(self) -> None:
        self._sends: list[float] = []
        self._flying = 0
        # When an answer was heard, and what it said remains: those that no later one was below.
        self._heard: list[tuple[float, float]] = []

    def started(self, paces: Sequence[Pace], now: float) -> None:
        """An attempt starts, which `paces` have been charged for: they may have been let off that,
        but none lets a window of its rate be exceeded.
        """
        sends = self._sends
        sends.append(now)
        self._flying += 1
        if len(sends) >= 2 * _KEPT:
            del sends[:_KEPT]
        for pace in paces:
            clears = self.clears_at(pace.rate, now)
            if clears is not None and clears > pace.next:
                pace.next = clears

    def sent_late(self, charged_at: float, now: float) -> None:
        """An attempt that was charged at `charged_at` is sent only `now`."""
        charged = bisect_right(self._sends, charged_at)
        if charged:
            del self._sends[charged - 1]
        self._sends.append(now)

    def ended(self) -> None:
        """An attempt is in flight no more."""
        self._flying -= 1

    def heard(self, hint: LimitHint, now: float) -> None:
        """An answer says what remains."""
        if hint.remaining is None:
            return
        heard = self._heard
        while heard and heard[-1][1] >= hint.remaining:
            heard.pop()
        heard.append((now, hint.remaining))
        if len(heard) >= 2 * _KEPT:
            del heard[:_KEPT]

    def left(self, hint: LimitHint, sent_at: float, now: float) -> float:
        """How many more the server lets through at once, by its answer to what was sent then."""
        if hint.remaining is None:
            return 0.0
        self.heard(hint, now)
        # Of all that was heard since it was sent the server counted none after the least remained:
        # those that it may have counted later are in flight.
        least = self._heard[bisect_left(self._heard, (sent_at, -INFINITY))][1] - (self._flying - 1)
        return max(least, hint.remaining - max(0, self._since(sent_at - _OVERTAKES) - 1))

    def credit(self, left: float, rates: Sequence[Rate], now: float) -> float:
        """How many attempts may start at once where a server has so many `left`; of the user's own
        `rates` no window holds more.
        """
        for rate in rates:
            clears = rate.span + rate.delay_bound + LATENESS
            left = min(left, rate.share - self._since(now - clears))
        return max(0.0, float(int(left)))

    def is_newest(self, sent_at: float) -> bool:
        """Whether no other attempt was sent later: none is on its way to what it says."""
        return self._since(sent_at) == 0

    def clears_at(self, rate: Rate, now: float) -> float | None:
        """When a window of `rate` that is full has room again; None for one that is not."""
        clears = rate.span + rate.delay_bound + LATENESS
        first = len(self._sends) - int(rate.share)
        if first < 0 or self._sends[first] <= now - clears:
            return None
        return self._sends[first] + clears

    def fills(self, rate: Rate, now: float) -> bool:
        """Whether what was sent fills a window of `rate` that ends now."""
        return self._since(now - rate.span) >= int(rate.share)

    def _since(self, moment: float) -> int:
        return len(self._sends) - bisect_right(self._sends, moment)

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._sends = [send + seconds for send in self._sends]
        self._heard = [(at + seconds, remaining) for at, remaining in self._heard]
