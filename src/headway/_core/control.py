"""Control: the stated limit is a ceiling; below it the limits in force follow the server.

Both controllers work in congestion epochs: only a refusal of an attempt that was *sent after the
last cut* cuts again, so that a burst of refusals cuts once. Latency moves neither. The rate grows
back along CUBIC's curve (RFC 9438, section 4.2, in time since the cut); the concurrency by
additive increase and multiplicative decrease (Chiu and Jain, 1989).
"""

from __future__ import annotations

__all__ = ["ConcurrencyControl", "RateControl"]

INFINITY = float("inf")

_CUT = 0.85
_PLATEAU = 30.0  # seconds from a cut until the curve is back where the cut was made
_CONCURRENCY_CUT = 0.9
_LEAST = 0.01  # of the stated rate


class RateControl:
    """The share of the stated rate in force: `factor`, above 0 and up to 1."""

    __slots__ = ("_cut_at", "_origin", "factor")

    def __init__(self) -> None:
        self.factor = 1.0
        self._origin = 1.0  # the factor when it was last cut
        self._cut_at = -INFINITY

    def cut(self, sent_at: float, now: float) -> bool:
        """Slow down for a refusal of an attempt sent at `sent_at`; False in the same epoch."""
        if sent_at <= self._cut_at:
            return False
        self._origin = self.factor
        self.factor = max(_LEAST, self.factor * _CUT)
        self._cut_at = now
        return True

    def grow(self, now: float) -> float:
        """Follow the curve to `now`; the factor in force from now on."""
        steepness = ((now - self._cut_at - _PLATEAU) / _PLATEAU) ** 3
        self.factor = min(1.0, max(self.factor, self._origin * (1.0 + (1.0 - _CUT) * steepness)))
        return self.factor

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._cut_at += seconds


class ConcurrencyControl:
    """How many attempts may be in flight: `limit`, up to the stated `ceiling`."""

    __slots__ = ("_cut_at", "_successes", "ceiling", "limit")

    def __init__(self, ceiling: float) -> None:
        self.ceiling = self.limit = ceiling
        self._cut_at = -INFINITY
        self._successes = 0

    def cut(self, in_flight: int, sent_at: float, now: float) -> bool:
        """Lower the limit for a refusal seen with `in_flight` others; False in the same epoch."""
        if sent_at <= self._cut_at:
            return False
        self.limit = max(1.0, float(int(min(self.limit, in_flight + 1) * _CONCURRENCY_CUT)))
        self._cut_at = now
        self._successes = 0
        return True

    def succeeded(self, sent_at: float) -> bool:
        """Count a success below the ceiling; True when a clean round raised the limit by one."""
        if sent_at <= self._cut_at:
            return False  # it ran at the old limit
        self._successes += 1
        if self._successes < self.limit:
            return False
        self._successes = 0
        self.limit = min(self.ceiling, self.limit + 1)
        return True

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._cut_at += seconds
