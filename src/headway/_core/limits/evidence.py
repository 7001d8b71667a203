"""What was sent and accepted lately: what a refusal that does not say so was about, and which limit
a full window shows.
"""

from __future__ import annotations

import math
from collections import deque

__all__ = ["Evidence", "Tally"]

INFINITY = float("inf")

_STARTS = 20  # over which the rate is measured
_PARTS = 32  # slots a window
_FORGET = 1800.0  # seconds in which what was accepted fades to 1/e
_AS_MANY = 0.95
_CROWD = 8.0  # in flight: with fewer, a rate that is lower by a cut shows in nothing
_LOWER = 0.85
_SIGNS = 2  # refusals that say so, one after the other
_NEXT_TO = 6  # attempts above a limit of which none is refused: it is none


class Tally:
    """What started in the window of a stated rate, in its units, in slots of a part of it.

    Who states twice what a server allows is mostly right about its window. Then what one window
    held when it was full is the limit, and it takes one refusal to find it and not five.
    """

    __slots__ = ("_newest", "_share", "_slots", "_span", "_width")

    def __init__(self, share: float, span: float) -> None:
        self._share = share
        self._span = span
        self._width = span / _PARTS
        self._newest = 1.0
        self._slots: deque[list[float]] = deque(maxlen=2 * _PARTS)  # [index, units]

    def started(self, now: float, units: float = 1.0) -> None:
        """An attempt of `units` starts."""
        self._newest = units
        index = now // self._width
        slots = self._slots
        if slots and slots[-1][0] == index:
            slots[-1][1] += units
        else:
            slots.append([index, units])

    def filled(self, sent_at: float, now: float) -> float:
        """The part of the limit that the window up to `sent_at` held, one attempt left out; or
        what two windows held on average: a server that counts by two takes the older one for even.
        """
        last = self._inside(sent_at - self._span, sent_at, now) - self._newest
        two = self._inside(sent_at - 2 * self._span, sent_at, now) - self._newest
        return max(last, two / 2) / self._share

    def seen_for(self, sent_at: float) -> float:
        """Seconds of the window up to `sent_at` in which anything can have started."""
        began = self._slots[0][0] * self._width if self._slots else sent_at
        return min(self._span, sent_at - began)

    def room(self, now: float) -> float:
        """How many units the window still holds, as the user stated it."""
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
        for index, units in self._slots:
            begins = index * self._width
            ends = min(begins + self._width, now)
            inside = min(ends, until) - max(begins, since)
            if inside > 0:
                total += units * inside / (ends - begins)
        return total

    def shift(self, seconds: float) -> None:
        """Move to another clock: what was counted on this one is forgotten."""
        self._slots.clear()


class Evidence:
    """Which limit a refusal was about that does not say so, or whose server says the same of all:
    the rate, or the concurrency.

    A server that limits concurrency refuses at one number of attempts in flight, whatever the
    rate; one that limits the rate refuses at one rate, whatever is in flight. So a refusal at as
    many in flight as were ever accepted, but at a lower rate than the plateau that was held lately,
    was about the concurrency: where a second one says the same, and none with more in flight has
    passed in between. All others are taken for the rate.
    """

    __slots__ = ("_above_at", "_accepted", "_against", "_at", "_most_in_flight", "_sign", "_starts")

    def __init__(self) -> None:
        self._starts: deque[float] = deque(maxlen=_STARTS)
        self._accepted: deque[int] = deque(maxlen=_STARTS)  # with how many in flight
        self._most_in_flight = 0.0
        self._against = 0
        self._sign = 0  # in flight at the last refusal, where that was a sign; else 0
        self._above_at = INFINITY  # when more than so many first were
        self._at = 0.0

    def sent(self, in_flight: int, now: float) -> tuple[int, float]:
        """An attempt starts with `in_flight` under way, itself included: what to remember, which is
        that and the attempts a second of late.
        """
        starts = self._starts
        starts.append(now)
        if 0 < self._sign < in_flight and self._above_at == INFINITY:
            self._above_at = now
        if len(starts) < _STARTS:
            return in_flight, INFINITY  # too few to tell
        return in_flight, (_STARTS - 1) / max(1e-9, now - starts[0])

    def accepted(self, seen: tuple[int, float], now: float) -> None:
        """The attempt that `seen` was remembered of was not refused."""
        self._decay(now)
        self._most_in_flight = max(self._most_in_flight, seen[0])
        self._accepted.append(seen[0])

    def is_usual(self, seen: tuple[int, float]) -> bool:
        """Whether as many in flight as `seen` says are mostly accepted: then a refusal is not about
        them, but chance.
        """
        as_many = sum(in_flight >= seen[0] for in_flight in self._accepted)
        return as_many > _STARTS / 2

    def clears(self, seen: tuple[int, float], slots: float) -> bool:
        """Whether refusals at `slots` in flight, which were thought to be the limit, are chance."""
        against = seen[0] >= slots and self.is_usual(seen)
        self._against = self._against + 1 if against else 0
        return self._against >= _SIGNS

    def is_concurrency(
        self, seen: tuple[int, float], plateau: float, sent_at: float, *, known: bool
    ) -> bool:
        """Whether the refusal of that attempt was about how many were in flight, where `plateau`
        attempts a second were held lately. `known`: the limit of those in flight was met before.
        """
        self._decay(sent_at)
        crowded = seen[0] >= max(_CROWD, _AS_MANY * self._most_in_flight)
        crowded = crowded and not self.is_usual(seen)
        if not (crowded and seen[1] < _LOWER * plateau):
            self._sign = 0
            return False
        # Where more were in flight since, and passed, the last one was at no limit of them.
        passed = seen[0] > self._sign + _NEXT_TO or sent_at - self._above_at > _NEXT_TO / seen[1]
        again = bool(self._sign) and not passed
        self._sign, self._above_at = seen[0], INFINITY
        return again or known

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._at += seconds
        self._above_at += seconds
        self._starts = deque((start + seconds for start in self._starts), maxlen=_STARTS)

    def _decay(self, now: float) -> None:
        self._most_in_flight *= math.exp(min(0.0, self._at - now) / _FORGET)
        self._at = max(self._at, now)
