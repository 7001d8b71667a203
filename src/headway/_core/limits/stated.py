"""What a server states of its limits: which of it is believed, and what of that binds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from headway.hints import LimitHint
from headway.kinds._words import duration, number
from headway.rates import LONGEST_PACED, TokenClass

__all__ = ["StatedLimits", "believed"]

# A limit below one, or above this, is no count.
_MOST = 1e12
_SHORTEST = 1.0  # seconds; longer periods than `LONGEST_PACED` are the server's to say when spent
_MOST_REMAINS = 2.0  # of a limit: a bucket may hold more than a period's share, but not so much


@dataclass(slots=True)
class StatedLimits:
    """What one answer states: the least rate of requests (a second) and of each class of tokens
    (limit, and its period in seconds), the limit of requests of which the fewest remain, and what
    cannot be meant.
    """

    requests: float | None = None
    tokens: dict[TokenClass, tuple[float, float]] = field(default_factory=dict)
    least: LimitHint | None = None
    odd: list[str] = field(default_factory=list)

    @property
    def remaining(self) -> float | None:
        """The requests that remain of the limit of which the fewest do."""
        if self.least is None or self.least.remaining is None:
            return None
        return max(0.0, self.least.remaining)


def believed(hints: Iterable[LimitHint]) -> StatedLimits:
    """What is believed of `hints`; of several limits on the same thing the one that is tighter."""
    found = StatedLimits()
    for hint in hints:
        if hint.odd:
            found.odd.append(hint.odd)
        if hint.what == "requests" and hint.remaining is not None:
            least = found.remaining
            if least is None or hint.remaining < least:
                found.least = hint
        if hint.limit is None or hint.per is None:
            continue  # a limit without its period says nothing that can be kept
        contradicts = hint.remaining is not None and hint.remaining > _MOST_REMAINS * hint.limit
        if contradicts or not (1.0 <= hint.limit <= _MOST and hint.per >= _SHORTEST):
            found.odd.append(
                f"{hint.what} limit of {number(hint.limit)} in {duration(hint.per)} ignored"
            )
        elif hint.per > LONGEST_PACED:
            continue
        elif hint.what == "requests":
            rate = hint.limit / hint.per
            found.requests = rate if found.requests is None else min(found.requests, rate)
        else:
            older = found.tokens.get(hint.what)
            if older is None or hint.limit / hint.per < older[0] / older[1]:
                found.tokens[hint.what] = hint.limit, hint.per
    return found
