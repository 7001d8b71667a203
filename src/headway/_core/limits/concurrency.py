"""Control of how many attempts are in flight: the same idea as that of a rate, in whole slots."""

from __future__ import annotations

from collections.abc import Mapping

from headway._core.limits.control import HOLD, LONGEST_HOLD, number_in

__all__ = ["ConcurrencyControl"]

INFINITY = float("inf")

_RAISES = (1, 2, 3, 5)  # attempts in flight more, of one clean round after another


class ConcurrencyControl:
    """How many attempts may be in flight: `limit`, up to the stated `ceiling`."""

    __slots__ = ("_cut_at", "_hold", "_raised_at", "_step", "_successes", "ceiling", "limit",
                 "plateau")  # fmt: skip

    def __init__(self, ceiling: float) -> None:
        self.ceiling = self.limit = self.plateau = ceiling
        self._cut_at = -INFINITY
        self._raised_at = -INFINITY
        self._hold = HOLD
        self._successes = 0
        self._step = 0

    def cut(self, in_flight: int, sent_at: float, now: float) -> bool:
        """Lower the limit for a refusal seen with `in_flight` others; False in the same cycle."""
        if sent_at <= self._cut_at:
            return False
        if self.limit > self.plateau:
            self.limit = self.plateau
            self._hold = min(2 * self._hold, LONGEST_HOLD)
        else:
            self.limit = self.plateau = max(1.0, float(min(self.limit - 1, in_flight)))
            self._hold = max(HOLD, self._hold / 2)
        self._cut_at = self._raised_at = now
        self._successes = self._step = 0
        return True

    def acquit(self) -> None:
        """The last refusals were not about the concurrency: twice as many may be in flight."""
        self.limit = self.plateau = min(self.ceiling, 2 * self.plateau)
        self._hold = HOLD
        self._successes = self._step = 0

    def succeeded(self, sent_at: float, now: float, *, full: bool) -> bool:
        """Count a success below the ceiling, that ended with the limit `full`; True when a clean
        round raised the limit.
        """
        if sent_at < self._raised_at or not full:
            return False  # it ran at the old limit, or shows nothing of this one
        self._successes += 1
        if self._successes < self.limit or now < self._cut_at + self._hold:
            return False
        self.plateau = self.limit
        self.limit = min(self.ceiling, self.limit + _RAISES[min(self._step, len(_RAISES) - 1)])
        self._raised_at = now
        self._successes = 0
        self._step += 1
        return True

    def snapshot(self) -> dict[str, float]:
        """What was learned, for another run: how many in flight are safe, and the seconds for which
        that is held. Empty where no limit was met.
        """
        if self.plateau >= self.ceiling:
            return {}
        return {"capacity": self.plateau, "hold": self._hold}

    def restore(self, learned: Mapping[str, object]) -> bool:
        """Go on from the `snapshot` of an earlier run; False, and no change, where it is none, or
        what it says is beyond the ceiling.
        """
        capacity, hold = number_in(learned, "capacity"), number_in(learned, "hold")
        if capacity is None or hold is None or capacity != int(capacity):
            return False
        if not (1 <= capacity < self.ceiling and HOLD <= hold <= LONGEST_HOLD):
            return False
        self.limit = self.plateau = capacity
        self._hold = hold
        self._successes = self._step = 0
        return True

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._cut_at += seconds
        self._raised_at += seconds
