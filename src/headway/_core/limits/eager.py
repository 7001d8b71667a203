"""What a server says remains, spent at once: for runs that are short beside its window."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from headway._core.limits.pace import Pace
from headway.hints import LimitHint
from headway.rates import LATENESS, Rate

__all__ = ["Eager"]

_OVERTAKES = 0.02  # seconds by which one request may arrive before another that was sent earlier
_KEPT = 8_192  # sends that are remembered


class Eager:
    """When attempts were sent lately: what a server has not counted yet when it says what remains,
    and what the windows of the stated rates still hold.
    """

    __slots__ = ("_sends",)

    def __init__(self) -> None:
        self._sends: list[float] = []

    def started(self, paces: Sequence[Pace], now: float) -> None:
        """An attempt starts, which `paces` have been charged for: they may have been let off that,
        but none lets a window of its rate be exceeded.
        """
        sends = self._sends
        sends.append(now)
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

    def credit(self, hint: LimitHint, rates: Sequence[Rate], sent_at: float, now: float) -> float:
        """How many attempts may start at once, as the answer to one that was sent at `sent_at`
        says; of the user's own `rates` no window holds more.
        """
        if hint.remaining is None:
            return 0.0
        room = hint.remaining - max(0, self._since(sent_at - _OVERTAKES) - 1)
        for rate in rates:
            clears = rate.span + rate.delay_bound + LATENESS
            room = min(room, rate.share - self._since(now - clears))
        return max(0.0, float(int(room)))

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

    def _since(self, moment: float) -> int:
        return len(self._sends) - bisect_right(self._sends, moment)

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._sends = [send + seconds for send in self._sends]
