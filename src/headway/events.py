"""What happened, as frozen values: one stream of them, one callable that takes them.

`Queued`, `Started` and `Finished` come once a job or attempt and are made only when somebody
listens (``on_event=``). The others are rare and are always made: the default listener
(`headway.hooks.log`) turns them into a few lines of the standard logger ``headway``.
Times are seconds on the clock of the event loop.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from headway.kinds import Binds, Kind, LimitName

__all__ = [
    "STATED",
    "Binds",
    "Closed",
    "Ended",
    "Event",
    "Finished",
    "Forgotten",
    "GaveUp",
    "Ignored",
    "Kind",
    "LimitChanged",
    "LimitName",
    "Outdated",
    "Queued",
    "Recovered",
    "Refused",
    "Retrying",
    "SharedChanged",
    "Started",
]


STATED = "stated by the server"
"""The reason of a `LimitChanged` that follows a server's word."""


class Ended(StrEnum):
    """How a job ended that its own last attempt did not fail."""

    OK = "ok"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    """Its timeout was over, or it was certain to miss it in the queue: `DeadlineExceeded`."""
    UNAVAILABLE = "unavailable"
    """It was queued, and the provider is down or asks to wait beyond patience: `Unavailable`."""
    LATCHED = "latched"
    """It was queued, and a wrong key or an empty account ended all: `Latched`."""
    NEVER_FITS = "never_fits"
    """It was queued, and a new limit is below what it reserves: `NeverFits`."""
    CLEARED = "cleared"
    """It was queued, and ``clear()`` dropped it: `Cleared`."""


@dataclass(frozen=True, slots=True)
class Event:
    """The root of the events."""

    at: float


@dataclass(frozen=True, slots=True)
class Queued(Event):
    """A job waits for its first permit."""

    job: int
    key: Hashable
    priority: float


@dataclass(frozen=True, slots=True)
class Started(Event):
    """An attempt was admitted, after `waited` seconds in the queue since it entered it."""

    job: int
    key: Hashable
    attempt: int
    waited: float
    tokens: float


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """A job ended: `outcome` is the kind of its failure, or one of `Ended`."""

    job: int
    key: Hashable
    attempts: int
    outcome: Ended | Kind
    tokens: float


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """An attempt was refused. `episode` is its number in the present episode, from 1.

    `wait` is the server's hint in seconds, None where it gave none; `closed_until` the moment
    before which nothing more is sent (where the gate is closed); `binds` what held jobs back;
    `odd` what of its hints was ignored or bounded, normally "".
    """

    job: int
    key: Hashable
    kind: Kind
    status: int | None
    wait: float | None
    closed_until: float | None
    episode: int
    binds: Binds
    odd: str = ""


@dataclass(frozen=True, slots=True)
class Retrying(Event):
    """A job went back to its place in the queue and will not start before `not_before`."""

    job: int
    key: Hashable
    attempt: int
    kind: Kind
    not_before: float


@dataclass(frozen=True, slots=True)
class GaveUp(Event):
    """A job will not be tried again, for `reason`, though its kind of failure is retried."""

    job: int
    key: Hashable
    attempts: int
    kind: Kind
    reason: str


@dataclass(frozen=True, slots=True)
class Recovered(Event):
    """An episode of refusals is over: an attempt sent five seconds after the last, or later,
    succeeded.
    """

    began: float
    refused: Mapping[Kind, int]


@dataclass(frozen=True, slots=True)
class LimitChanged(Event):
    """A limit in force moved, to `value`: a second, or attempts in flight; None for no limit."""

    key: Hashable
    limit: LimitName
    value: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Forgotten(Event):
    """What an earlier run kept (`memory=`) is not used: `what` says why."""

    what: str


@dataclass(frozen=True, slots=True)
class Outdated(Event):
    """A limit that an earlier run had learned, and `memory=` kept, turned out to be another: it was
    `value`, a share of the stated rate (attempts a second where none is), or attempts in flight.
    """

    key: Hashable
    limit: LimitName
    value: float


@dataclass(frozen=True, slots=True)
class SharedChanged(Event):
    """Something happened to the limits that are shared at `where` (of `key`, None for the whole):
    they are ``"lost"`` (the store gives no reply) or ``"back"``, their ledger was ``"emptied"``,
    another worker has ``"restated"`` them, or calls itself the same (``"twin"``). `why` says more.
    """

    key: Hashable
    where: str
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Ignored(Event):
    """A server stated what cannot be meant, a limit or usage: `what` says it. Each is told once."""

    key: Hashable
    what: str


@dataclass(frozen=True, slots=True)
class Closed(Event):
    """Every job fails until `until` (None: until ``reset()``): a latch, an outage, a long wait."""

    kind: Kind
    until: float | None
    reason: str
