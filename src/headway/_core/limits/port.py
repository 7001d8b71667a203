"""A limit that is decided elsewhere: another library's limiter, or other processes.

The core asks a port as it asks any limit: may an attempt start now, and if not, when. A port starts
what it was *granted*. Where that is not enough it says how many starts are `wanted`; whoever serves
it asks the limit's owner and tells the answer, in its own time, by `grant` or `refuse`. So nothing
in the core waits, and the limit takes part in the one step in which all limits are taken.
"""

from __future__ import annotations

__all__ = ["Port"]

INFINITY = float("inf")


class Port:
    """What one owner has granted: `allowance` attempts may start; `wanted` more are to be asked
    for, and not before `ask_at`.
    """

    __slots__ = ("allowance", "ask_at", "wanted")

    def __init__(self) -> None:
        self.allowance = 0
        self.wanted = 0
        self.ask_at = -INFINITY

    def ready_at(self) -> float:
        """The moment from which the next attempt may start: infinity until more is granted."""
        return -INFINITY if self.allowance > 0 else INFINITY

    def ask(self, now: float) -> float:
        """An attempt that every other limit lets through waits for this one: ask for its start, or
        the moment from which to ask.
        """
        if self.allowance > 0:
            return INFINITY
        if self.ask_at > now:
            return self.ask_at
        self.wanted = 1
        return INFINITY

    def take(self) -> None:
        """An attempt starts."""
        self.allowance -= 1

    def give_back(self) -> None:
        """An attempt that took its start was never sent."""
        self.allowance += 1

    def grant(self, starts: int = 1) -> None:
        """The owner allows so many starts."""
        self.allowance += starts
        self.wanted = 0

    def refuse(self, until: float) -> None:
        """The owner allows nothing now, and is not to be asked before then."""
        self.ask_at = until
        self.wanted = 0

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self.ask_at += seconds
