"""How servers count requests or tokens: the algorithms of rate limiters, on any clock."""

from __future__ import annotations

import math
from collections import deque

__all__ = [
    "Algorithm",
    "FixedWindow",
    "SlidingCounter",
    "SlidingLog",
    "TokenBucket",
]

_TOUCH = 1e-9  # seconds beyond a moment, so that floats do not round it back


class Algorithm:
    """Counts what arrives, in order of time. What is refused is not counted.

    Times are in seconds on a clock of the caller's, a cost in requests or tokens.
    """

    limit: float
    """The most that it ever takes at once."""

    def admit(self, arrival: float, cost: float = 1) -> bool:
        """Whether what arrives is served; if so, it is counted."""
        if not self.fits(arrival, cost):
            return False
        self.take(arrival, cost)
        return True

    def fits(self, arrival: float, cost: float = 1) -> bool:
        """Whether there is room for `cost`."""
        raise NotImplementedError

    def take(self, arrival: float, cost: float = 1) -> None:
        """Count `cost`, which `fits` has found room for."""
        raise NotImplementedError

    def used(self, now: float) -> float:
        """How much of the limit is used."""
        raise NotImplementedError

    def full_in(self, now: float) -> float:
        """Seconds until nothing of the limit is used, if nothing more arrives."""
        raise NotImplementedError

    def fits_in(self, now: float, cost: float = 1) -> float:
        """Seconds until there is room for `cost`, if nothing more arrives; infinity for never."""
        raise NotImplementedError


class FixedWindow(Algorithm):
    """`limit` a window of so many seconds; the windows begin at `phase`."""

    def __init__(self, limit: float, window: float, phase: float = 0.0) -> None:
        self.limit, self.window, self.phase = limit, window, phase
        self._index, self._used = -math.inf, 0.0

    def _turn(self, now: float) -> None:
        index = (now - self.phase) // self.window
        if index > self._index:
            self._index, self._used = index, 0.0

    # In one function: in long traces each call of another is paid by every arrival.
    def admit(self, arrival: float, cost: float = 1) -> bool:
        """Whether what arrives is served; if so, it is counted."""
        index = (arrival - self.phase) // self.window
        if index > self._index:
            self._index, self._used = index, 0.0
        if self._used + cost > self.limit:
            return False
        self._used += cost
        return True

    def fits(self, arrival: float, cost: float = 1) -> bool:
        """Whether the window has room for `cost`."""
        self._turn(arrival)
        return self._used + cost <= self.limit

    def take(self, arrival: float, cost: float = 1) -> None:
        """Count `cost` in its window."""
        self._turn(arrival)
        self._used += cost

    def used(self, now: float) -> float:
        """How much the window holds."""
        self._turn(now)
        return self._used

    def full_in(self, now: float) -> float:
        """Seconds until the window ends, where it holds anything."""
        if not self.used(now):
            return 0.0
        return self.phase + (self._index + 1) * self.window - now + _TOUCH

    def fits_in(self, now: float, cost: float = 1) -> float:
        """Seconds until the next window, where this one has no room."""
        if cost > self.limit:
            return math.inf
        return 0.0 if self.fits(now, cost) else self.full_in(now)


class SlidingLog(Algorithm):
    """`limit` in the last `window` seconds. What arrived exactly so long ago counts, unless the
    window is `half_open`.
    """

    def __init__(self, limit: float, window: float, *, half_open: bool = False) -> None:
        self.limit, self.window, self.half_open = limit, window, half_open
        self._log: deque[tuple[float, float]] = deque()
        self._used = 0.0

    def _forget(self, now: float) -> None:
        log, gone = self._log, now - self.window
        while log and (log[0][0] < gone or (self.half_open and log[0][0] == gone)):
            self._used -= log.popleft()[1]

    def fits(self, arrival: float, cost: float = 1) -> bool:
        """Whether the last `window` seconds leave room for `cost`."""
        self._forget(arrival)
        return self._used + cost <= self.limit

    def take(self, arrival: float, cost: float = 1) -> None:
        """Write `cost` in the log."""
        self._log.append((arrival, cost))
        self._used += cost

    def used(self, now: float) -> float:
        """How much arrived in the last `window` seconds."""
        self._forget(now)
        return self._used

    def full_in(self, now: float) -> float:
        """Seconds until the youngest entry is forgotten."""
        self._forget(now)
        return self._log[-1][0] + self.window - now + _TOUCH if self._log else 0.0

    def fits_in(self, now: float, cost: float = 1) -> float:
        """Seconds until enough of the oldest entries are forgotten."""
        if cost > self.limit:
            return math.inf
        left, last = self.used(now), -math.inf
        for at, taken in self._log:
            if left + cost <= self.limit:
                break
            left, last = left - taken, at
        return max(0.0, last + self.window - now + _TOUCH)


class SlidingCounter(Algorithm):
    """Two fixed windows, the older one by the share of it that is still in sight.

    The estimate is floored, as servers that count in integers do, unless `exact`.
    """

    def __init__(
        self, limit: float, window: float, phase: float = 0.0, *, exact: bool = False
    ) -> None:
        self.limit, self.window, self.phase, self.exact = limit, window, phase, exact
        self._index, self._before, self._used = -math.inf, 0.0, 0.0

    def _turn(self, now: float) -> float:
        """The share of the present window that is over."""
        index, inside = divmod(now - self.phase, self.window)
        if index > self._index:
            self._before = self._used if index == self._index + 1 else 0.0
            self._index, self._used = index, 0.0
        return inside / self.window

    # In one function: in long traces each call of another is paid by every arrival.
    def admit(self, arrival: float, cost: float = 1) -> bool:
        """Whether what arrives is served; if so, it is counted."""
        index, inside = divmod(arrival - self.phase, self.window)
        if index > self._index:
            self._before = self._used if index == self._index + 1 else 0.0
            self._index, self._used = index, 0.0
        estimate = self._before * (1 - inside / self.window) + self._used
        if (estimate if self.exact else math.floor(estimate)) + cost > self.limit:
            return False
        self._used += cost
        return True

    def fits(self, arrival: float, cost: float = 1) -> bool:
        """Whether the estimate leaves room for `cost`."""
        return self.used(arrival) + cost <= self.limit

    def take(self, arrival: float, cost: float = 1) -> None:
        """Count `cost` in the present window."""
        self._turn(arrival)
        self._used += cost

    def used(self, now: float) -> float:
        """The estimate of what the last `window` seconds hold."""
        over = self._turn(now)
        estimate = self._before * (1 - over) + self._used
        return estimate if self.exact else math.floor(estimate)

    def full_in(self, now: float) -> float:
        """Seconds until both windows are out of sight."""
        over = self._turn(now)
        windows = 2.0 if self._used else 1.0 if self._before else over
        return (windows - over) * self.window

    def fits_in(self, now: float, cost: float = 1) -> float:
        """Seconds until the older window is far enough out of sight, or the present one is."""
        if cost > self.limit:
            return math.inf
        if self.fits(now, cost):
            return 0.0
        over = self._turn(now)
        spare = self.limit - cost  # what the estimate may be
        if self._used <= spare:  # within this window
            share = 1 - (spare - self._used) / self._before
            return (share - over) * self.window + _TOUCH
        return (1 - over + max(0.0, 1 - spare / self._used)) * self.window + _TOUCH


class TokenBucket(Algorithm):
    """`limit` at most, refilled at `rate` a second, full at first. GCRA counts the same: its
    tolerance is ``(limit - 1) / rate``.
    """

    def __init__(self, limit: float, rate: float) -> None:
        self.limit, self.rate = limit, rate
        self._level, self._at = limit, -math.inf

    def _refill(self, now: float) -> None:
        self._level = min(self.limit, self._level + (now - self._at) * self.rate)
        self._at = now

    def fits(self, arrival: float, cost: float = 1) -> bool:
        """Whether the bucket holds `cost`."""
        self._refill(arrival)
        return self._level >= cost

    def take(self, arrival: float, cost: float = 1) -> None:
        """Take `cost` out of the bucket."""
        self._refill(arrival)
        self._level -= cost

    def used(self, now: float) -> float:
        """How much the bucket lacks."""
        self._refill(now)
        return self.limit - self._level

    def full_in(self, now: float) -> float:
        """Seconds until the bucket is full."""
        return self.used(now) / self.rate

    def fits_in(self, now: float, cost: float = 1) -> float:
        """Seconds until the bucket holds `cost`."""
        if cost > self.limit:
            return math.inf
        lacking = cost - self.limit + self.used(now)
        return lacking / self.rate + _TOUCH if lacking > 0 else 0.0
