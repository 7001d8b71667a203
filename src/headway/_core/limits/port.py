"""A limit that is decided elsewhere: another library's limiter, or other processes.

The core asks a port as it asks any limit: may an attempt start now, and if not, when. A port starts
what it was *granted*. Where that is not enough it says how many starts are `wanted`; whoever serves
it asks the limit's owner and tells the answer, in its own time, by `grant` or `refuse`. So nothing
in the core waits, and the limit takes part in the one step in which all limits are taken.
"""

from __future__ import annotations

from typing import Any, Protocol

from headway._core.counters import SharedStatistics
from headway.kinds import Binds
from headway.rates import Limits

__all__ = ["Asker", "Port"]

INFINITY = float("inf")


class Asker(Protocol):
    """The attempt that waits for a port alone, or starts."""

    cost: float
    priority: float
    charges: list[Any] | None


class Port:
    """What one owner has granted: `allowance` attempts may start; `wanted` more are to be asked
    for, and not before `ask_at`.
    """

    def __init__(self) -> None:
        self.allowance = 0
        self.wanted = 0
        self.ask_at = -INFINITY

    @property
    def passing(self) -> float:
        """How many starts may be granted to a key at once, which pass if others go before it."""
        return 0.0

    def ready_at(self, cost: float, now: float, *, slots: bool = True) -> float:
        """The moment from which an attempt of `cost` tokens may start: infinity until more is
        granted. With `slots` it needs one.
        """
        return -INFINITY if self.allowance > 0 else INFINITY

    def held_by(self, now: float) -> tuple[Binds, float]:
        """What holds the next attempt back, and until when, as far as is known."""
        return (Binds.NOTHING, now) if self.allowance > 0 else (Binds.ELSEWHERE, INFINITY)

    def ask(self, job: Asker, now: float) -> float:
        """`job`, which every other limit lets through, waits for this one: ask for its start, or
        the moment from which to ask.
        """
        if self.allowance > 0:
            return INFINITY
        if self.ask_at > now:
            return self.ask_at
        self.wanted = 1
        return INFINITY

    def ask_nothing(self) -> None:
        """Nobody waits for it, as far as is known."""
        self.wanted = 0

    def take(self, job: Asker, now: float) -> None:
        """An attempt of `job` starts."""
        self.allowance -= 1

    def record(self, requests: int, tokens: float, now: float) -> bool:
        """So many requests were sent elsewhere, and used that: they take the next starts. Whether
        those are all that holds back what is sent here: a rate that is shared.
        """
        self.allowance -= requests
        return False

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

    def limits_changed(self, limits: Limits, configured: Limits) -> None:
        """The limits of the scope are others from now on: as stated, and as enforced."""

    def opened(self) -> None:
        """Every gate is opened, and what was learned is forgotten."""

    def statistics(self, now: float) -> SharedStatistics | None:
        """With whom the limits are shared; None where they are not."""
        return None

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self.ask_at += seconds
