"""The last minutes of a scheduler, once a second, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

__all__ = ["KEPT", "History", "Moment", "levels", "per_second"]

KEPT = 600
"""How many moments are kept: ten minutes at one a second."""


class Moment(NamedTuple):
    """What was counted `seconds` after the beginning. `sent`, `succeeded`, `refused`, `tokens` and
    `cost` (dollars, None where nobody says) are totals; `in_flight` and `queued` are as they were.
    """

    seconds: float
    sent: int
    succeeded: int
    refused: int
    in_flight: int
    queued: int
    tokens: float
    cost: float | None = None


class History:
    """The latest moments, the oldest first."""

    def __init__(self, moments: Iterable[Moment] = ()) -> None:
        self._moments = deque(moments, maxlen=KEPT)

    def add(self, moment: Moment) -> None:
        """Keep `moment`, the latest; the oldest goes where there are too many."""
        self._moments.append(moment)

    def since(self, seconds: float) -> list[Moment]:
        """The moments after that many seconds."""
        return [moment for moment in self._moments if moment.seconds > seconds]

    @property
    def last(self) -> float:
        """The seconds of the latest moment; -1 before the first."""
        return self._moments[-1].seconds if self._moments else -1.0


def per_second(
    moments: Sequence[Moment], count: Callable[[Moment], float], columns: int, each: float
) -> list[float]:
    """How much `count` grew a second, over the last `columns` spans of `each` seconds, the latest
    last; fewer where the moments do not go back so far.
    """
    if len(moments) < 2:
        return []
    grown = [0.0] * columns
    covered = [0.0] * columns
    end = moments[-1].seconds
    for one, other in pairwise(moments):
        at = columns - 1 - int((end - other.seconds) / each)
        if at >= 0:
            grown[at] += max(0.0, count(other) - count(one))
            covered[at] += other.seconds - one.seconds
    return _known(grown, covered)


def levels(
    moments: Sequence[Moment], level: Callable[[Moment], float], columns: int, each: float
) -> list[float]:
    """The mean of `level` over the last `columns` spans of `each` seconds, as `per_second`."""
    if not moments:
        return []
    summed = [0.0] * columns
    number = [0.0] * columns
    end = moments[-1].seconds
    for moment in moments:
        at = columns - 1 - int((end - moment.seconds) / each)
        if at >= 0:
            summed[at] += level(moment)
            number[at] += 1
    return _known(summed, number)


def _known(sums: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The means, from the first that is known; one that is missing is as the one before it."""
    found: list[float] = []
    for total, weight in zip(sums, weights, strict=True):
        if weight > 0:
            found.append(total / weight)
        elif found:
            found.append(found[-1])
    return found
