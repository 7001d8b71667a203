"""What is counted, and the immutable picture of it that `statistics()` gives."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from headway.events import Kind

__all__ = ["Counters", "Recent", "Statistics"]

_BUCKET = 30.0  # seconds
_BUCKETS = 10


@dataclass(frozen=True, slots=True)
class Recent:
    """The last minutes: `seconds` of them, what was sent in them and what was refused."""

    seconds: float
    sent: int
    refused: Mapping[Kind, int]

    def share(self, kind: Kind | None = None) -> float:
        """The share of what was sent that was refused: by `kind`, or for any reason."""
        count = sum(self.refused.values()) if kind is None else self.refused.get(kind, 0)
        return count / self.sent if self.sent else 0.0


@dataclass(frozen=True, slots=True)
class Statistics:
    """A picture of the scheduler at one moment. Counts are since it was made.

    `queued` jobs wait for a permit, `delayed` ones (part of `queued`) for their backoff. `sent`
    counts attempts, `succeeded`, `failed` and `cancelled` count jobs, `retried` counts attempts
    beyond a job's first. `refused` counts attempts by kind. `tokens` were used, as far as known.
    `binds` is what holds the next job back: ``"requests"``, ``"tokens"``, ``"concurrency"``,
    ``"gate"``, ``"paused"``, ``"closed"`` (a latch) or ``""``; `seconds` how long from now,
    infinity where that waits for another attempt to end; `why` the last change and its cause.
    `capacity` is the concurrency in force and `pace` the attempts a second in force, infinity
    for no limit.
    """

    queued: int
    delayed: int
    in_flight: int
    sent: int
    succeeded: int
    failed: int
    cancelled: int
    retried: int
    refused: Mapping[Kind, int]
    tokens: float
    recent: Recent
    binds: str
    seconds: float
    why: str
    capacity: float
    pace: float


class Counters:
    """Running totals, with a mark every half minute for the recent share of refusals."""

    __slots__ = ("_marks", "cancelled", "failed", "next_mark", "refused", "retried", "sent",
                 "succeeded", "tokens")  # fmt: skip

    def __init__(self, now: float) -> None:
        self.sent = self.succeeded = self.failed = self.cancelled = self.retried = 0
        self.tokens = 0.0
        self.refused: dict[Kind, int] = {}
        self._marks: deque[tuple[float, int, dict[Kind, int]]] = deque(maxlen=_BUCKETS)
        self.next_mark = now
        self.mark(now)

    def mark(self, now: float) -> None:
        """Remember the totals at `now`; wanted from `next_mark` on."""
        self._marks.append((now, self.sent, dict(self.refused)))
        self.next_mark = now + _BUCKET

    def refuse(self, kind: Kind) -> None:
        """Count an attempt that was refused or failed."""
        self.refused[kind] = self.refused.get(kind, 0) + 1

    def pace(self, now: float) -> float:
        """Attempts sent a second since the newest mark that is at least five seconds old."""
        at, sent, _ = next((mark for mark in reversed(self._marks) if mark[0] <= now - 5.0),
                           self._marks[0])  # fmt: skip
        return (self.sent - sent) / max(1.0, now - at)

    def recent(self, now: float) -> Recent:
        """What came since the oldest mark that is not older than the window; changes nothing."""
        marks = [*self._marks]
        if now >= self.next_mark:  # as if the mark that is wanted were made
            marks.append((now, self.sent, dict(self.refused)))
        horizon = now - _BUCKET * _BUCKETS
        at, sent, refused = next((mark for mark in marks if mark[0] >= horizon), marks[-1])
        differences = {kind: n - refused.get(kind, 0) for kind, n in [*self.refused.items()]}
        return Recent(
            seconds=now - at,
            sent=self.sent - sent,
            refused=MappingProxyType({kind: n for kind, n in differences.items() if n}),
        )

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        moved = [(at + seconds, sent, refused) for at, sent, refused in self._marks]
        self._marks.clear()
        self._marks.extend(moved)
        self.next_mark += seconds
