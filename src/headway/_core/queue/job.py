"""A job as the core sees it, the key that it belongs to, and the queue of that key."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from heapq import heappop
from typing import Any

from headway._core.counters import Counts
from headway._core.limits.budget import Charge, TokenBudget
from headway._core.limits.scope import Scope
from headway._core.queue.credentials import Credential
from headway.rates import Cost, Limits

__all__ = ["DONE", "FAILED", "NEW", "QUEUED", "STARTED", "Flow", "Job", "KeyQueue"]

# A job is in one of these. Plain integers: they are compared once or twice an attempt.
NEW = 0
QUEUED = 1  # in the queue of its key, or waiting for its backoff
STARTED = 2  # holds a slot
DONE = 3
FAILED = 4  # ended by the scheduler while it was queued: `error` says why


class Flow:
    """A key: the weight with which its jobs share, limits of its own, what its jobs use."""

    __slots__ = (
        "blocked_priority", "blocked_until", "counts", "credential", "key", "limits", "mean",
        "queues", "weight",
    )  # fmt: skip

    def __init__(self, key: Hashable, weight: float, limits: Limits | None) -> None:
        self.key = key
        self.weight = weight
        self.counts = Counts()
        self.limits: Scope | None = None
        if limits is not None:
            self.limit(limits)
        self.mean: float | None = None  # tokens that an attempt of this key uses
        self.credential: Credential | None = None  # once one of its jobs was refused for it
        self.blocked_until: float | None = None  # its own limits hold it back
        self.blocked_priority = 0.0
        self.queues: list[tuple[float, KeyQueue]] = []  # that hold jobs, by negated priority

    def limit(self, limits: Limits) -> None:
        """Give it limits of its own, which count what it has in flight."""
        self.limits = Scope(limits, self.key, self.counts)

    def learn(self, used: float) -> None:
        """Follow what attempts really use, in tokens."""
        mean = self.mean
        if mean is None:
            self.mean = used
        elif type(used) is Cost or type(mean) is Cost:
            self.mean = Cost.of(mean).towards(used, 0.1)
        else:
            self.mean = mean + 0.1 * (used - mean)


class Job:
    """One call to make; it goes through one or more attempts.

    `cost` is the tokens that the next attempt reserves; one that is `guessed` is guessed again
    when the attempt starts, for more is known by then. `waiter` and `attempt` are the shell's: how
    to wake the caller, and the attempt where transports see it. `slots` is 0 for a send of an
    attempt that holds its slot already. One that is `accepted` finds room in a full queue: its run
    has waited for that, or it belongs to an attempt.
    """

    __slots__ = (
        "accepted", "attempt", "attempts", "charges", "cost", "credential", "deadline", "error",
        "estimate", "failures", "flow", "guessed", "key_queue", "last_error", "limits", "number",
        "priority", "probes_refused", "queued_at", "refused_since", "seen", "slots", "started_at",
        "status", "submitted_at", "waited", "waiter",
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
        self.probes_refused = 0  # probes that it was, and that were refused
        self.waited = 0.0
        self.key_queue: KeyQueue | None = None
        self.charges: list[tuple[TokenBudget, Charge]] | None = None
        self.refused_since: float | None = None
        self.waiter: Any = None
        self.attempt: Any = None
        self.slots = 1
        self.accepted = False
        self.estimate: Callable[[], float] | None = None  # the cost anew, as is known by then
        self.credential: Credential | None = None  # where it is one request, and a transport's
        self.seen: tuple[int, float] | None = None  # what `Evidence` remembers of the attempt
        self.last_error: Exception | None = None  # what its last attempt raised
        # Set before they are read; `limits` are the key's own that the attempt was charged to.
        self.error: Exception
        self.limits: Scope | None
        self.queued_at: float
        self.started_at: float
        self.submitted_at: float

    def needs_no_slot(self) -> None:
        """It is a send of an attempt that holds its slot already: nobody else may be waited for."""
        self.slots = 0
        self.accepted = True
        self.priority = float("inf")


class KeyQueue:
    """The jobs of one key at one priority, oldest first."""

    __slots__ = ("ahead", "dead", "flow", "jobs", "listed", "owed", "returned", "tag")

    def __init__(self, flow: Flow, tag: float) -> None:
        self.flow = flow
        self.jobs: deque[Job] = deque()
        self.returned: list[tuple[int, Job]] = []  # came back for another try: a heap by age
        self.dead = 0  # cancelled, and still in `jobs` or `returned`
        self.listed = False
        self.tag = tag
        self.ahead = 0.0  # by how much of the tag it may have gone before others
        self.owed = 0.0  # what attempts cost beyond what their start charged

    @property
    def size(self) -> int:
        """How many jobs wait."""
        return len(self.jobs) + len(self.returned) - self.dead

    def head(self) -> Job | None:
        """The oldest job that still waits."""
        returned = self.returned
        while returned and returned[0][1].status != QUEUED:
            heappop(returned)
            self.dead -= 1
        jobs = self.jobs
        while jobs and jobs[0].status != QUEUED:
            jobs.popleft()
            self.dead -= 1
        if returned and not (jobs and jobs[0].number < returned[0][0]):
            return returned[0][1]
        return jobs[0] if jobs else None

    def peek(self) -> Job | None:
        """What `head` would return, and no change: another thread may ask."""
        returned = [*self.returned]
        try:
            first = self.jobs[0]
        except IndexError:
            waiting = []
        else:
            alive = first.status == QUEUED
            waiting = [first] if alive else [j for j in [*self.jobs] if j.status == QUEUED][:1]
        waiting += [job for _, job in returned if job.status == QUEUED]
        return min(waiting, key=lambda job: job.number, default=None)

    def pop(self, job: Job) -> None:
        """Take out `job`, which is the head."""
        if self.returned and self.returned[0][1] is job:
            heappop(self.returned)
        else:
            self.jobs.popleft()

    def leave(self, job: Job) -> None:
        """`job` goes to wait in another queue."""
        try:
            self.jobs.remove(job)
        except ValueError:
            self.returned = sorted(item for item in self.returned if item[1] is not job)

    def bury(self) -> None:
        """One of the jobs was cancelled; sweep when most of them are."""
        self.dead += 1
        if self.dead > 32 and self.dead * 2 > len(self.jobs) + len(self.returned):
            self.jobs = deque(job for job in self.jobs if job.status == QUEUED)
            self.returned = sorted(item for item in self.returned if item[1].status == QUEUED)
            self.dead = 0
