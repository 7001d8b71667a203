"""Everything that waits, and for what: a permit, the end of a backoff, limits of the own key.

Over the queue of jobs that wait for a permit alone it keeps three heaps by time: jobs in their
backoff, keys that their own limits hold back, and the deadlines of jobs that have one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from itertools import count

from headway._core.queue.job import QUEUED, Flow, Job
from headway._core.queue.lines import JobQueue

__all__ = ["Waiting"]

INFINITY = float("inf")


class Waiting:
    """Jobs that wait. Their `status` is `QUEUED` for as long as they do."""

    __slots__ = (
        "_deadlines", "_delayed", "_delayed_dead", "_held", "_most_held", "_order", "queue", "size",
    )  # fmt: skip

    def __init__(self) -> None:
        self.queue = JobQueue()
        self.size = 0  # how many jobs wait in all
        self._delayed: list[tuple[float, int, Job]] = []
        self._delayed_dead = 0
        self._held: list[tuple[float, int, Flow]] = []
        self._most_held = 64  # beyond it the entries of keys that were released are swept
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
        if job.line is not None:
            self.queue.remove(job)
            job.line = None
            if job.flow.held_until is not None:
                self.release(job.flow)
            return
        self._delayed_dead += 1
        if self._delayed_dead > 32 and self._delayed_dead * 2 > len(self._delayed):
            self._delayed = [entry for entry in self._delayed if entry[2].status == QUEUED]
            heapify(self._delayed)
            self._delayed_dead = 0

    def hold(self, flow: Flow, priority: float, until: float) -> None:
        """Leave `flow` out until then, for its head, a job of `priority`, does not fit."""
        flow.held_until = until
        flow.held_priority = priority
        if until < INFINITY:
            heappush(self._held, (until, next(self._order), flow))
            if len(self._held) > self._most_held:
                held = {entry[2]: entry for entry in self._held if entry[2].held_until == entry[0]}
                self._held = list(held.values())
                heapify(self._held)
                self._most_held = max(64, 2 * len(self._held))

    def release(self, flow: Flow) -> None:
        """Let `flow` take part again."""
        flow.held_until = None
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
        held = self._held
        while held and (held[0][0] <= now or held[0][2].held_until != held[0][0]):
            until, _, flow = heappop(held)
            if flow.held_until == until:
                self.release(flow)
        return delayed[0][0] if delayed else INFINITY

    def held_until(self) -> float:
        """When the next key that is held back may take part again."""
        return self._held[0][0] if self._held else INFINITY

    def held_flow(self, flows: Iterable[Flow]) -> Flow | None:
        """The one of `flows` that is held back for the shortest time."""
        held = ((flow.held_until, n, flow) for n, flow in enumerate(flows)
                if flow.held_until is not None)  # fmt: skip
        return min(held, default=(0.0, 0, None))[2]

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

    def _joined(self, job: Job) -> None:
        self._reconsider(job)
        if job.deadline is not None:
            self._watch(job)

    def _reconsider(self, job: Job) -> None:
        # A job of a higher priority than the one that does not fit has to be looked at.
        flow = job.flow
        if flow.held_until is not None and job.priority > flow.held_priority:
            self.release(flow)

    def _watch(self, job: Job) -> None:
        if job.deadline is None:
            return
        heappush(self._deadlines, (job.deadline, next(self._order), job))
        if len(self._deadlines) > 64 and len(self._deadlines) > 4 * self.size:
            self._deadlines = [entry for entry in self._deadlines if entry[2].status == QUEUED]
            heapify(self._deadlines)
