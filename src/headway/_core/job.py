"""A job as the core sees it, and the key that it belongs to."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headway._core.limiter import Charge, TokenBudget
    from headway._core.limitset import LimitSet
    from headway._core.queue import Line

__all__ = ["DONE", "FAILED", "NEW", "QUEUED", "STARTED", "Flow", "Job"]

# A job is in one of these. Plain integers: they are compared once or twice an attempt.
NEW = 0
QUEUED = 1  # in its line, or waiting for its backoff
STARTED = 2  # holds a slot
DONE = 3
FAILED = 4  # ended by the scheduler while it was queued: `error` says why


class Flow:
    """A key: the weight with which its jobs share, limits of its own, what its jobs use."""

    __slots__ = ("held_priority", "held_until", "in_flight", "key", "limits", "mean", "weight")

    def __init__(self, key: Hashable, weight: float, limits: LimitSet | None) -> None:
        self.key = key
        self.weight = weight
        self.limits = limits
        self.in_flight = 0
        self.mean: float | None = None  # tokens that an attempt of this key uses
        self.held_until: float | None = None  # its own limits hold it back
        self.held_priority = 0.0

    def learn(self, used: float) -> None:
        """Follow what attempts really use, in tokens."""
        self.mean = used if self.mean is None else self.mean + 0.1 * (used - self.mean)


class Job:
    """One call to make; it goes through one or more attempts.

    `cost` is the tokens that the next attempt reserves; one that is `guessed` is guessed again
    when the attempt starts, for more is known by then. `owner` and `permit` are the shell's: how to
    wake the caller, and what transports see of the attempt. `slots` is 0 for a further send of an
    attempt that holds its slot already.
    """

    __slots__ = (
        "attempts", "blame", "charges", "cost", "deadline", "error", "failures", "flow", "guessed",
        "last_error", "limits", "line", "number", "owner", "permit", "priority", "queued_at",
        "refused_since", "seen", "slots", "started_at", "status", "submitted_at", "waited",
    )  # fmt: skip

    def __init__(
        self,
        flow: Flow,
        priority: float = 0,
        cost: float = 0.0,
        deadline: float | None = None,
        guessed: bool = False,
    ) -> None:
        self.flow = flow
        self.priority = priority
        self.cost = cost
        self.guessed = guessed
        self.deadline = deadline
        self.status = NEW
        self.number = 0
        self.attempts = 0
        self.failures = 0
        self.blame = 0  # probes that it was, and that were refused
        self.waited = 0.0
        self.line: Line | None = None
        self.charges: list[tuple[TokenBudget, Charge]] | None = None
        self.refused_since: float | None = None
        self.owner: Any = None
        self.permit: Any = None
        self.slots = 1
        self.seen: tuple[int, float] | None = None  # what `Evidence` remembers of the attempt
        self.last_error: Exception | None = None  # what its last attempt raised
        # Set before they are read; `limits` are the key's own that the attempt was charged to.
        self.error: Exception
        self.limits: LimitSet | None
        self.queued_at: float
        self.started_at: float
        self.submitted_at: float
