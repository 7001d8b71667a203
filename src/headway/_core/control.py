"""Control: the stated limit is a ceiling; below it the limits in force follow the server.

Both controllers work in congestion epochs: only a refusal of an attempt that was *sent after the
last cut* cuts again, so that a burst of refusals cuts once. Latency moves neither. The rate grows
back along CUBIC's curve (RFC 9438, section 4.2, in time since the cut); the concurrency by
additive increase and multiplicative decrease (Chiu and Jain, 1989).
"""

from __future__ import annotations

import math
from collections import deque

__all__ = ["ConcurrencyControl", "Evidence", "RateControl", "Tally"]

INFINITY = float("inf")

_CUT = 0.85
_PLATEAU = 30.0  # seconds from a cut until the curve is back where the cut was made
_CONCURRENCY_CUT = 0.9
_LEAST = 0.01  # of the stated rate
_TRIM = 0.97
_STEADY = 5.0  # seconds without a cut after which a known limit still holds
_DEEPEST = 0.4  # a window that held less of the rate in force is not what the server counts
_DOUBLING = 10.0  # seconds in which a rate doubles that has never been cut

# Of the evidence for the kind of an untyped refusal:
_SPAN = 3.0  # seconds over which the rate is measured
_MOST_STARTS = 4096
_PARTS = 32  # slots a window
_FORGET = 600.0  # seconds in which what was accepted fades to 1/e
_AS_MANY = 0.95
_CROWD = 8.0  # in flight: with fewer, a rate that is lower by a cut shows in nothing
_LOWER = 0.9


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

    def cut(self, sent_at: float, now: float, held: float = INFINITY, span: float = 0.0) -> bool:
        """Slow down for a refusal of an attempt sent at `sent_at`; False in the same epoch.

        `held` is the factor of which one window, of `span` seconds, was full when it was refused.
        Where that is lower than the cut it is taken for the limit, and becomes the plateau of the
        curve. What is refused in the `span` after that met the same full window; later refusals are
        taken for attempts that came late, and trim the plateau, where none was soon before.
        """
        if sent_at <= self._cut_at + (span if self.found else 0.0):
            return False
        self._searching = False
        self._origin = self.factor
        cut = self.factor * _CUT
        self.found = self.factor * _DEEPEST <= held < cut
        if self.found:
            self._origin = cut = held
        elif self.known and self._grown >= _STEADY:
            cut = self.factor * _TRIM
        self.known = self.found or (self.known and self._grown >= _STEADY)
        self.factor = max(_LEAST * min(1.0, self.ceiling), cut)
        self._cut_at = self._at = now
        self._grown = 0.0
        return True

    def grow(self, now: float, *, held: bool) -> float:
        """Follow the curve to `now`; `held` says whether the rate held jobs back since the last
        time. The factor in force from now on.
        """
        if held and self._at > -INFINITY:
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


class Tally:
    """How many attempts started in the window of a stated rate, in slots of a part of it.

    Who states twice what a server allows is mostly right about its window. Then what one window
    held when it was full is the limit, and it takes one refusal to find it and not five.
    """

    __slots__ = ("_share", "_slots", "_span", "_width")

    def __init__(self, share: float, span: float) -> None:
        self._share = share
        self._span = span
        self._width = span / _PARTS
        self._slots: deque[list[float]] = deque(maxlen=2 * _PARTS)  # [index, attempts]

    def started(self, now: float) -> None:
        """An attempt starts."""
        index = now // self._width
        slots = self._slots
        if slots and slots[-1][0] == index:
            slots[-1][1] += 1
        else:
            slots.append([index, 1])

    def held(self, sent_at: float, now: float) -> float:
        """The part of the limit that the window up to `sent_at` held, that attempt left out; or
        what two windows held on average: a server that counts by two takes the older one for even.
        """
        last = self._inside(sent_at - self._span, sent_at, now) - 1.0
        two = self._inside(sent_at - 2 * self._span, sent_at, now) - 1.0
        return max(last, two / 2) / self._share

    def room(self, now: float) -> float:
        """How many attempts the window still holds, as the user stated it."""
        since = now - self._span - self._width
        return self._share - sum(n for index, n in self._slots if index * self._width >= since)

    def clears_in(self, now: float) -> float:
        """Seconds until the oldest attempts have left the window that is full now."""
        since = now - self._span
        for index, _ in self._slots:
            ends = (index + 1) * self._width
            if ends > since:
                return max(0.0, ends - since)
        return 0.0

    def _inside(self, since: float, until: float, now: float) -> float:
        total = 0.0
        for index, attempts in self._slots:
            begins = index * self._width
            ends = min(begins + self._width, now)
            inside = min(ends, until) - max(begins, since)
            if inside > 0:
                total += attempts * inside / (ends - begins)
        return total

    def shift(self, seconds: float) -> None:
        """Move to another clock: what was counted on this one is forgotten."""
        self._slots.clear()


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


class Evidence:
    """Which limit a refusal was about that does not say so: the rate, or the concurrency.

    A server that limits concurrency refuses at one number of attempts in flight, whatever the
    rate; one that limits the rate refuses at one rate, whatever is in flight. So a refusal at fewer
    in flight than have been accepted lately was about the rate; one at as many, but at a lower
    rate than has been accepted lately, was about the concurrency. Where both are at their highest
    it is taken for the rate: the next refusal, at a lower one, will tell.
    """

    __slots__ = ("_at", "_most_in_flight", "_starts", "_top_rate")

    def __init__(self) -> None:
        self._starts: deque[float] = deque()  # of the last few seconds
        self._most_in_flight = 0.0
        self._top_rate = 0.0
        self._at = 0.0

    def sent(self, in_flight: int, now: float) -> tuple[int, float]:
        """An attempt starts with `in_flight` under way, itself included: what to remember."""
        starts = self._starts
        starts.append(now)
        while starts[0] < now - _SPAN or len(starts) > _MOST_STARTS:
            starts.popleft()
        return in_flight, len(starts) / max(_SPAN, now - starts[0])

    def accepted(self, seen: tuple[int, float], now: float) -> None:
        """The attempt that `seen` was remembered of was not refused."""
        self._decay(now)
        self._most_in_flight = max(self._most_in_flight, seen[0])
        self._top_rate = max(self._top_rate, seen[1])

    def is_concurrency(self, seen: tuple[int, float], now: float) -> bool:
        """Whether the refusal of that attempt was about how many were in flight."""
        self._decay(now)
        crowded = seen[0] >= max(_CROWD, _AS_MANY * self._most_in_flight)
        return crowded and seen[1] < _LOWER * self._top_rate

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._at += seconds
        self._starts = deque(start + seconds for start in self._starts)

    def _decay(self, now: float) -> None:
        fade = math.exp(min(0.0, self._at - now) / _FORGET)
        self._most_in_flight *= fade
        self._top_rate *= fade
        self._at = now
