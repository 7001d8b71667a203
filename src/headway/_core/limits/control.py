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
_TRIM = 0.97
_STEADY = 5.0  # seconds without a cut after which a known limit still holds
_DEEPEST = 0.4  # a window that held less of the rate in force is not what the server counts
_DOUBLING = 10.0  # seconds in which a rate doubles that has never been cut


class RateControl:
    """The rate in force, as `factor` times a base, up to `ceiling` times it.

    Of a stated rate it is the share in force: factor and ceiling are 1 at first. Of a rate that is
    to be found it is the rate itself, in attempts a second: it doubles every ten seconds, and after
    its first cut follows the curve. Only time in which the rate was what held jobs back counts.
    """

    __slots__ = ("_at", "_cut_at", "_grown", "_origin", "_searching", "ceiling", "factor", "found",
                 "known")  # fmt: skip

    def __init__(self, factor: float = 1.0, ceiling: float = 1.0) -> None:
        self.factor = factor
        self.ceiling = ceiling
        self.found = False  # whether the last cut was to what a window held
        self.known = False  # whether that is still taken for the limit
        self._origin = factor  # what it was when it was last cut, or when it began
        self._searching = factor < ceiling  # never cut so far
        self._cut_at = -INFINITY
        self._grown = 0.0  # seconds that counted since
        self._at = -INFINITY

    def cut(self, sent_at: float, now: float, filled: float = INFINITY, span: float = 0.0) -> bool:
        """Slow down for a refusal of an attempt sent at `sent_at`; False in the same epoch.

        `filled` is the factor of which one window, of `span` seconds, was full when it was refused.
        Where that is lower than the cut it is taken for the limit, and becomes the plateau of the
        curve. What is refused in the `span` after that met the same full window; later refusals are
        taken for attempts that came late, and trim the plateau, where none was soon before.
        """
        if sent_at <= self._cut_at + (span if self.found else 0.0):
            return False
        self._searching = False
        self._origin = self.factor
        cut = self.factor * _CUT
        self.found = self.factor * _DEEPEST <= filled < cut
        if self.found:
            self._origin = cut = filled
        elif self.known and self._grown >= _STEADY:
            cut = self.factor * _TRIM
        self.known = self.found or (self.known and self._grown >= _STEADY)
        self.factor = max(_LEAST * min(1.0, self.ceiling), cut)
        self._cut_at = self._at = now
        self._grown = 0.0
        return True

    def grow(self, now: float, *, binding: bool) -> float:
        """Follow the curve to `now`; `binding` says whether the rate held jobs back since the last
        time. The factor in force from now on.
        """
        if binding and self._at > -INFINITY:
            self._grown += now - self._at
        self._at = now
        if self._searching:
            factor = self._origin * 2.0 ** min(self._grown / _DOUBLING, 60.0)
        else:
            steepness = ((self._grown - _PLATEAU) / _PLATEAU) ** 3
            factor = max(self.factor, self._origin * (1.0 + (1.0 - _CUT) * steepness))
        self.factor = min(self.ceiling, factor)
        return self.factor

    def limit_to(self, factor: float) -> None:
        """Follow a server that states its limit: run at `factor`, and not above it."""
        self.ceiling = self.factor = self._origin = factor
        self._searching = False

    def release(self) -> bool:
        """Forget what a server stated of a stated rate; False where there was nothing."""
        if self.ceiling >= 1.0:
            return False
        if self.factor >= self.ceiling:
            self.factor = self._origin = 1.0
        self.ceiling = 1.0
        return True

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._cut_at += seconds
        self._at += seconds


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
