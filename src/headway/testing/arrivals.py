"""What a fake provider saw, and how to look through it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from headway.kinds._words import plural
from headway.rates import Cost
from headway.testing.account import Account, What
from headway.testing.answers import FakeAnswer, FakeRequest
from headway.testing.faults import Fault

__all__ = ["Arrival", "Entrance", "Visit", "Window", "find_worst_window", "listed", "worst_window"]

_SHOWN = 12  # arrivals in one message


@dataclass(slots=True)
class Arrival:
    """One request that arrived.

    `at` and `ended` are moments on the provider's clock, in seconds (`ended` is None while it is
    answered). `status` is the answer's, None where there was none, or not yet. `refused_by` is the
    limit that refused it, and `fault` what went wrong instead. `cost` is what it used.
    """

    at: float
    method: str
    path: str
    key: str = field(repr=False)
    model: str
    cost: Cost
    content: bytes = field(repr=False)
    status: int | None = None
    refused_by: What | Literal["concurrency"] | None = None
    fault: Fault | None = None
    ended: float | None = None

    @property
    def tokens(self) -> float:
        """The tokens of its prompt and its answer."""
        return float(self.cost)

    @property
    def refused(self) -> bool:
        """Whether it was told to come later, by a limit or by a script's 429."""
        return self.refused_by is not None or self.status == 429

    @property
    def answered(self) -> bool:
        """Whether it got a whole answer that is a success."""
        whole = self.fault is None and self.ended is not None
        return whole and self.status is not None and self.status < 400


@dataclass
class Visit:
    """One request at a provider, for whoever carries it there. `takes` is the seconds until its
    answer is whole; of what is `broken` (a `Broken`, or "") there is none, or not all of it.
    """

    arrival: Arrival
    answer: FakeAnswer
    takes: float = 0.0
    broken: str = ""
    account: Account | None = None


class Entrance(Protocol):
    """What takes requests in."""

    def begin(self, asked: FakeRequest) -> Visit:
        """Decide what becomes of a request that arrives now. `end` it in any case."""
        ...

    def end(self, visit: Visit, status: int | None = None) -> None:
        """Note that a request has ended: with a whole answer of that `status`, or without."""
        ...


class Window(NamedTuple):
    """How much a window held, and the places of its first event and its last; -1 for none."""

    held: float
    first: int
    last: int


def find_worst_window(events: Sequence[tuple[float, float]], per: float) -> Window:
    """Where any half-open window of `per` seconds holds the most of the ``(time, cost)``."""
    worst = Window(0.0, -1, -1)
    held, first = 0.0, 0
    for last, (moment, cost) in enumerate(events):
        held += cost
        while events[first][0] <= moment - per:
            held -= events[first][1]
            first += 1
        if held > worst.held:
            worst = Window(held, first, last)
    return worst


def worst_window(events: Sequence[tuple[float, float]], per: float) -> float:
    """The most that any half-open window of `per` seconds holds of the ``(time, cost)``, which are
    in order of time.
    """
    return find_worst_window(events, per).held


def listed(arrivals: Iterable[Arrival], began: float) -> str:
    """`arrivals`, one a line, with the seconds since `began`; of many the first and the last."""
    lines = [
        f"  {each.at - began:10.3f} s  {_how(each)}  {each.method} {each.path}"
        + (f"  {each.tokens:g} {plural(each.tokens, 'token')}" if each.tokens else "")
        for each in arrivals
    ]
    if len(lines) > _SHOWN:
        half = _SHOWN // 2
        lines[half:-half] = [f"  … {len(lines) - 2 * half} more"]
    return "\n".join(lines)


def _how(arrival: Arrival) -> str:
    if arrival.refused_by is not None:
        return f"{arrival.status} ({arrival.refused_by})"
    if arrival.fault is not None:
        return f"{arrival.fault.what} (a fault)"
    return "not answered" if arrival.status is None else str(arrival.status)
