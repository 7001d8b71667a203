"""Everything that waits, and for what: a permit, the end of a backoff, limits of the own key.

Over the queue of jobs that wait for a permit alone it keeps three heaps by time: jobs in their
backoff, keys that their own limits hold back, and the deadlines of jobs that have one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from itertools import count

from headway._core.queue.fair import JobQueue
from headway._core.queue.job import QUEUED, Flow, Job

__all__ = ["Waiting"]

INFINITY = float("inf")
_AGED = 1e9  # the priority of those that have waited for long: above all that users state


class Waiting:
    """Jobs that wait. Their `status` is `QUEUED` for as long as they do."""

    __slots__ = (
        "_aged", "_aging", "_blocked", "_deadlines", "_delayed", "_delayed_dead", "_most_blocked",
        "_order", "queue", "size",
    )  # fmt: skip

    def __init__(self, aging: float = INFINITY) -> None:
        self._aging = aging  # seconds after which a job goes before those of every priority
        self._aged: list[tuple[float, int, Job]] = []  # when that is
        self.queue = JobQueue()
        self.size = 0  # how many jobs wait in all
        self._delayed: list[tuple[float, int, Job]] = []
        self._delayed_dead = 0
        self._blocked: list[tuple[float, int, Flow]] = []
        self._most_blocked = 64  # beyond it the entries of keys that were unblocked are swept
        self._deadlines: list[tuple[float, int, Job]] = []
        self._order = count()

    @property
    def delayed(self) -> int:
        """How many jobs wait for their backoff."""
        return len(self._delayed) - self._delayed_dead

    def push(self, job: Job) -> None:
        """A new job waits for its permit."""
        self.size += 1
        self.queue.push(job)
        self._joined(job)

    def push_back(self, job: Job) -> None:
        """A job that has started before waits for its permit, at its old place."""
        self.size += 1
        self.queue.push_back(job)
        self._joined(job)

    def delay(self, job: Job, until: float) -> None:
        """A job that has started before waits for its backoff first."""
        self.size += 1
        heappush(self._delayed, (until, job.number, job))
        self._watch(job)

    def start(self, job: Job) -> None:
        """Take out `job`, which is the head of the queue, to start it."""
        self.size -= 1
        self.queue.start(job)

    def remove(self, job: Job) -> None:
        """Take out `job`, wherever it is; its status has already changed."""
        self.size -= 1
        if job.key_queue is not None:
            self.queue.remove(job)
            job.key_queue = None
            if job.flow.blocked_until is not None:
                self.unblock(job.flow)
            return
        self._delayed_dead += 1
        if self._delayed_dead > 32 and self._delayed_dead * 2 > len(self._delayed):
            self._delayed = [entry for entry in self._delayed if entry[2].status == QUEUED]
            heapify(self._delayed)
            self._delayed_dead = 0

    def block(self, flow: Flow, priority: float, until: float) -> None:
        """Leave `flow` out until then, for its head, a job of `priority`, does not fit."""
        flow.blocked_until = until
        flow.blocked_priority = priority
        if until < INFINITY:
            heappush(self._blocked, (until, next(self._order), flow))
            if len(self._blocked) > self._most_blocked:
                blocked = {
                    entry[2]: entry for entry in self._blocked if entry[2].blocked_until == entry[0]
                }
                self._blocked = list(blocked.values())
                heapify(self._blocked)
                self._most_blocked = max(64, 2 * len(self._blocked))

    def unblock(self, flow: Flow) -> None:
        """Let `flow` take part again."""
        flow.blocked_until = None
        self.queue.relist(flow)

    def advance(self, now: float) -> float:
        """Let in whoever's time has come by `now`; when the next one's comes."""
        delayed = self._delayed
        while delayed and (delayed[0][0] <= now or delayed[0][2].status != QUEUED):
            job = heappop(delayed)[2]
            if job.status == QUEUED:
                self.queue.push_back(job)
                self._reconsider(job)
            else:
                self._delayed_dead -= 1
        if self._aged:
            self._age(now)
        blocked = self._blocked
        while blocked and (blocked[0][0] <= now or blocked[0][2].blocked_until != blocked[0][0]):
            until, _, flow = heappop(blocked)
            if flow.blocked_until == until:
                self.unblock(flow)
        return delayed[0][0] if delayed else INFINITY

    def blocked_until(self) -> float:
        """When the next key that is held back may take part again."""
        return self._blocked[0][0] if self._blocked else INFINITY

    def blocked_flow(self, flows: Iterable[Flow]) -> Flow | None:
        """The one of `flows` that is held back for the shortest time."""
        blocked = ((flow.blocked_until, n, flow) for n, flow in enumerate(flows)
                if flow.blocked_until is not None)  # fmt: skip
        return min(blocked, default=(0.0, 0, None))[2]

    def late(self, moment: float) -> Iterable[Job]:
        """The jobs that must have ended by `moment` (taken off the watch)."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] <= moment:
            job = heappop(deadlines)[2]
            if job.status == QUEUED:
                yield job

    def watch(self, job: Job) -> None:
        """Put `job`, which `late` named, on the watch again."""
        self._watch(job)

    def sizes(self) -> Counter[Flow]:
        """How many jobs of each key wait, for a permit or for their backoff."""
        sizes = self.queue.sizes()
        sizes.update(job.flow for _, _, job in [*self._delayed] if job.status == QUEUED)
        return sizes

    def flows(self) -> set[Flow]:
        """The keys of all the jobs that wait."""
        return {job.flow for job in self.jobs()}

    def jobs(self) -> list[Job]:
        """All the jobs that wait, as a list of its own."""
        backing_off = [job for _, _, job in self._delayed if job.status == QUEUED]
        return self.queue.waiting() + backing_off

    def _age(self, now: float) -> None:
        """Let those that have waited for long go before all others, the oldest of them first."""
        aged = self._aged
        while aged and (aged[0][0] <= now or aged[0][2].status != QUEUED):
            job = heappop(aged)[2]
            if job.status != QUEUED or job.priority >= _AGED:
                continue
            if job.key_queue is None:  # it waits for its backoff
                job.priority = _AGED
                continue
            self.queue.move(job, _AGED)
            self._reconsider(job)

    def _joined(self, job: Job) -> None:
        if self._aging < INFINITY and job.priority < _AGED:
            heappush(self._aged, (job.submitted_at + self._aging, job.number, job))
            if len(self._aged) > 64 and len(self._aged) > 4 * self.size:
                self._aged = [entry for entry in self._aged if entry[2].status == QUEUED]
                heapify(self._aged)
        self._reconsider(job)
        if job.deadline is not None:
            self._watch(job)

    def _reconsider(self, job: Job) -> None:
        # A job of a higher priority than the one that does not fit has to be looked at.
        flow = job.flow
        if flow.blocked_until is not None and job.priority > flow.blocked_priority:
            self.unblock(flow)

    def _watch(self, job: Job) -> None:
        if job.deadline is None:
            return
        heappush(self._deadlines, (job.deadline, next(self._order), job))
        if len(self._deadlines) > 64 and len(self._deadlines) > 4 * self.size:
            self._deadlines = [entry for entry in self._deadlines if entry[2].status == QUEUED]
            heapify(self._deadlines)
