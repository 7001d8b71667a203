"""What is counted, and the picture of it that `statistics()` gives."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from headway.errors import InvalidArgument
from headway.kinds import Binds, Kind, LimitName
from headway.kinds._words import binds, duration, shown
from headway.rates import Cost

__all__ = [
    "Counters",
    "Counts",
    "KeyStatistics",
    "LimitStatistics",
    "Recent",
    "SharedStatistics",
    "Statistics",
]

INFINITY = float("inf")

_BUCKET = 30.0  # seconds
_BUCKETS = 10


@dataclass(frozen=True, slots=True)
class Recent:
    """The last minutes: `seconds` of them, what was sent in them and what was refused."""

    seconds: float
    sent: int
    refused: dict[Kind, int]

    def share(self, kind: Kind | None = None) -> float:
        """The share of what was sent that was refused: by `kind`, or for any reason.

        Raises `InvalidArgument` for what is no kind.
        """
        if kind is not None and kind not in [*Kind]:
            raise InvalidArgument(
                f"kind={shown(kind)} is no kind of refusal",
                fix=f"one of {', '.join(Kind)}, or none for any.",
            )
        count = sum(self.refused.values()) if kind is None else self.refused.get(kind, 0)
        return count / self.sent if self.sent else 0.0


@dataclass(frozen=True, slots=True)
class LimitStatistics:
    """A limit in force: `limit` of `what` in `per` seconds, enforced over `window` seconds.

    `used` is what that window holds now, None where it is paced alone. `factor` is the share of it
    that is in force: below 1 after refusals, or where a server states less. Of a quota
    `frees_in` is the seconds until it has room again, 0 where it has.
    """

    what: LimitName
    limit: float
    per: float
    window: float
    used: float | None
    factor: float
    frees_in: float | None = None


@dataclass(frozen=True, slots=True)
class KeyStatistics:
    """The figures of one key, each as in `Statistics`: counts are since the key was first used.

    `capacity`, `pace` and `limits` are those of the key's own limits: infinity, and no limits,
    where it has none.
    """

    queued: int
    in_flight: int
    sent: int
    succeeded: int
    failed: int
    cancelled: int
    timed_out: int
    retried: int
    refused: dict[Kind, int]
    tokens: float
    input_tokens: float
    cached_tokens: float
    output_tokens: float
    capacity: float
    pace: float
    limits: tuple[LimitStatistics, ...] = ()


@dataclass(frozen=True, slots=True)
class SharedStatistics:
    """How a scheduler shares its limits, as of the last reply of the ledger's.

    `workers` are those that want anything now, this one included; `elsewhere` is how many attempts
    the others have in flight; `calls` how many this one has made. `away` is for how many seconds
    the store has given no reply, None where it did.
    """

    workers: int
    elsewhere: int
    calls: int
    away: float | None


@dataclass(frozen=True, slots=True, repr=False)
class Statistics:
    """A picture of the scheduler at one moment. Counts are since it was made.

    `queued` jobs wait for a permit, `delayed` ones (part of `queued`) for their backoff. `sent`
    counts attempts. `succeeded`, `failed`, `cancelled` and `timed_out` count jobs; `timed_out` are
    those that ended in a `DeadlineExceeded`. `retried` counts
    attempts beyond a job's first. `refused` counts attempts by kind. `tokens` were used, as far as
    known, and of these `input_tokens`, `cached_tokens` (read from the provider's cache, and no part
    of the former) and `output_tokens`, as far as it is known what they were. `limits` are the
    limits in force, each with what its window holds. `binds` is what holds the next job back;
    `seconds` how long from now, infinity where that waits for another attempt to end; `why` the
    last change and its cause. `capacity` is the concurrency in force and `pace` the attempts a
    second in force, infinity for no limit.

    `keys` has the same figures for each key, by its `str`: of more than 1,000 those that sent most.
    A key that was idle while thousands of others were used begins again.
    """

    queued: int
    delayed: int
    in_flight: int
    sent: int
    succeeded: int
    failed: int
    cancelled: int
    timed_out: int
    retried: int
    refused: dict[Kind, int]
    tokens: float
    input_tokens: float
    cached_tokens: float
    output_tokens: float
    recent: Recent
    binds: Binds
    seconds: float
    why: str
    capacity: float
    pace: float
    limits: tuple[LimitStatistics, ...]
    keys: dict[str, KeyStatistics]
    shared: SharedStatistics | None = None

    def __repr__(self) -> str:
        """A line, as for a notebook or a log; `as_dict` has all of it."""
        counts = [("queued", self.queued), ("in flight", self.in_flight), ("sent", self.sent),
                  ("succeeded", self.succeeded), ("failed", self.failed),
                  ("refused", sum(self.refused.values()))]  # fmt: skip
        line = ", ".join(f"{n:,} {what}" for what, n in counts)
        if self.binds:
            line += f"; next held back by {binds(self.binds)}"
            if 0 < self.seconds < INFINITY:
                line += f" for {duration(self.seconds)}"
        return f"<Statistics: {line}>"

    def as_dict(self) -> dict[str, Any]:
        """The same as dicts, numbers and strings, as strict JSON has them: None for infinity."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, str):
        return str(value)
    return None if value in (INFINITY, -INFINITY) else value


class Counts:
    """What is counted of the whole, and of each key: `Statistics` says what."""

    __slots__ = (
        "cached_tokens", "cancelled", "failed", "in_flight", "input_tokens", "output_tokens",
        "refused", "retried", "sent", "succeeded", "timed_out", "tokens",
    )  # fmt: skip

    def __init__(self) -> None:
        self.in_flight = self.sent = self.retried = 0
        self.succeeded = self.failed = self.cancelled = self.timed_out = 0
        self.tokens = self.input_tokens = self.cached_tokens = self.output_tokens = 0.0
        self.refused: dict[Kind, int] = {}

    def refuse(self, kind: Kind) -> None:
        """Count an attempt that was refused or failed."""
        self.refused[kind] = self.refused.get(kind, 0) + 1

    def use(self, tokens: float) -> None:
        """Count tokens that were used, by class where it is known what they were."""
        self.tokens += tokens
        if type(tokens) is Cost:
            self.input_tokens += tokens.input
            self.cached_tokens += tokens.cached
            self.output_tokens += tokens.output

    def figures(self) -> dict[str, Any]:
        """The counts by name, as a copy."""
        found = {name: getattr(self, name) for name in Counts.__slots__}
        return {**found, "refused": dict(self.refused)}


class Counters(Counts):
    """The totals of the whole, with snapshots of them for the recent share of refusals."""

    __slots__ = ("_snapshots", "next_snapshot")

    def __init__(self, now: float) -> None:
        super().__init__()
        self._snapshots: deque[tuple[float, int, dict[Kind, int]]] = deque(maxlen=_BUCKETS)
        self.next_snapshot = now
        self.take_snapshot(now)

    def take_snapshot(self, now: float) -> None:
        """Remember the totals at `now`; wanted from `next_snapshot` on."""
        self._snapshots.append((now, self.sent, dict(self.refused)))
        self.next_snapshot = now + _BUCKET

    def recent_rate(self, now: float) -> float:
        """Attempts sent a second since the newest snapshot that is at least five seconds old."""
        at, sent, _ = next((one for one in reversed(self._snapshots) if one[0] <= now - 5.0),
                           self._snapshots[0])  # fmt: skip
        return (self.sent - sent) / max(1.0, now - at)

    def recent(self, now: float) -> Recent:
        """What came since the oldest snapshot inside the window; changes nothing."""
        snapshots = [*self._snapshots]
        if now >= self.next_snapshot:  # as if the one that is wanted were taken
            snapshots.append((now, self.sent, dict(self.refused)))
        horizon = now - _BUCKET * _BUCKETS
        at, sent, refused = next((one for one in snapshots if one[0] >= horizon), snapshots[-1])
        differences = {kind: n - refused.get(kind, 0) for kind, n in [*self.refused.items()]}
        return Recent(
            seconds=now - at,
            sent=self.sent - sent,
            refused={kind: n for kind, n in differences.items() if n},
        )

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        moved = [(at + seconds, sent, refused) for at, sent, refused in self._snapshots]
        self._snapshots.clear()
        self._snapshots.extend(moved)
        self.next_snapshot += seconds
