"""Who goes next: strict priority, then keys by weight, then age.

Keys share by start-time fair queueing (Goyal, Vin and Cheng, 1996), per priority: a key's jobs
are tagged with its virtual start time, the least tag goes first, and a start moves the tag on by
the job's real cost over the key's weight. A cost is a guess until the attempt ends; the difference
is settled with the key's next start. A key that was idle, or was held back by its own limits,
banks no credit; one whose starts are granted elsewhere, and pass, may go ahead of its share by some
of them (`KeyQueue.ahead`). Inside a key the older goes first; a job that comes back takes its old
place.

The head blocks: what does not fit is never passed over by something smaller behind it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from heapq import heappop, heappush, heapreplace
from itertools import count

from headway._core.queue.job import QUEUED, Flow, Job, KeyQueue

__all__ = ["JobQueue"]


class Level:
    """The keys at one priority, while any job of that priority waits."""

    __slots__ = ("heap", "key_queues", "new", "priority", "ranked", "size", "virtual")

    def __init__(self, priority: float) -> None:
        self.priority = priority
        self.heap: list[tuple[float, int, KeyQueue]] = []
        self.key_queues: dict[Flow, KeyQueue] = {}
        self.ranked = False  # whether any of them is listed
        self.new = 0  # key_queues since the last sweep
        self.size = 0
        self.virtual = 0.0  # the tag of the last start


def _rank(entry: tuple[float, KeyQueue]) -> float:
    return entry[0]


class JobQueue:
    """All jobs that wait for a permit (and for no backoff)."""

    __slots__ = ("_levels", "_order", "_ranking", "size")

    def __init__(self) -> None:
        self.size = 0
        self._levels: dict[float, Level] = {}
        # The priorities of levels in whose heap something is: negated, the highest comes first.
        self._ranking: list[float] = []
        self._order = count()

    def push(self, job: Job) -> None:
        """Let `job` wait behind the others of its key and priority."""
        key_queue = self._key_queue(job)
        key_queue.jobs.append(job)
        self._admit(job, key_queue)

    def push_back(self, job: Job) -> None:
        """Let `job`, which has started before, wait at the place that its age gives it."""
        key_queue = self._key_queue(job)
        heappush(key_queue.returned, (job.number, job))
        self._admit(job, key_queue)

    def head(self) -> Job | None:
        """The job that goes next, keys that are held back left out; None when there is none."""
        ranking = self._ranking
        while ranking:
            level = self._levels[-ranking[0]]
            heap = level.heap
            while heap:
                tag, _, key_queue = heap[0]
                if key_queue.flow.blocked_until is None:
                    job = key_queue.head()
                    if job is not None:
                        rank = key_queue.tag - key_queue.ahead
                        if rank <= tag:
                            return job
                        heapreplace(heap, (rank, next(self._order), key_queue))
                        continue
                heappop(heap)
                key_queue.listed = False
            level.ranked = False
            del ranking[0]
        return None

    def peek(self) -> Job | None:
        """What `head` would return, and no change: another thread may ask."""
        for rank in [*self._ranking]:
            level = self._levels.get(-rank)
            entries = [] if level is None else [*level.heap]
            # Of those with one tag the ones that `head` would list anew go last.
            key_queues = {
                key_queue: (max(tag, rank), rank > tag, tag, order)
                for tag, order, key_queue in entries
                if key_queue.flow.blocked_until is None
                for rank in [key_queue.tag - key_queue.ahead]
            }
            for key_queue in sorted(key_queues, key=key_queues.__getitem__):
                job = key_queue.peek()
                if job is not None:
                    return job
        return None

    def head_of(self, flow: Flow) -> Job | None:
        """The job of `flow` that goes next once it may take part again; changes nothing."""
        for _, key_queue in [*flow.queues]:
            job = key_queue.peek()
            if job is not None:
                return job
        return None

    def start(self, job: Job) -> None:
        """Take out `job`, which is the head, and charge its key."""
        key_queue = job.key_queue
        assert key_queue is not None
        level = self._levels[job.priority]
        key_queue.pop(job)
        virtual = key_queue.tag
        cost = key_queue.owed + (job.cost if job.cost > 1.0 else 1.0)
        limits = key_queue.flow.limits
        if limits is not None and limits.ports:
            virtual = max(level.virtual, virtual - key_queue.ahead)
            key_queue.ahead = cost * limits.ports[0].passing / key_queue.flow.weight
        level.virtual = virtual
        if cost > 0:
            key_queue.owed = 0.0
            key_queue.tag += cost / key_queue.flow.weight
        else:
            key_queue.owed = cost
        self._forget(job, key_queue, level)

    def remove(self, job: Job) -> None:
        """Take out `job`, wherever it is; its status has already changed."""
        key_queue = job.key_queue
        assert key_queue is not None
        key_queue.bury()
        self._forget(job, key_queue, self._levels[job.priority])

    def move(self, job: Job, priority: float) -> None:
        """Let `job`, which waits, do so at another priority."""
        key_queue = job.key_queue
        assert key_queue is not None
        key_queue.leave(job)
        self._forget(job, key_queue, self._levels[job.priority])
        job.priority = priority
        self.push_back(job)

    def settle(self, job: Job, used: float) -> None:
        """Charge the key of `job` what its attempt really cost, `used` tokens."""
        key_queue = job.key_queue
        if key_queue is not None:
            key_queue.owed += (used if used > 1.0 else 1.0) - (job.cost if job.cost > 1.0 else 1.0)
            job.key_queue = None

    def refund(self, job: Job) -> None:
        """Charge the key of `job` nothing: its attempt was refused or never sent."""
        key_queue = job.key_queue
        if key_queue is not None:
            key_queue.owed -= job.cost if job.cost > 1.0 else 1.0
            job.key_queue = None

    def relist(self, flow: Flow) -> None:
        """`flow` is no longer held back by its own limits: let it take part again, with the jobs
        of its highest priority. Those of the next follow when these are gone.
        """
        if flow.queues:
            rank, key_queue = flow.queues[0]
            if not key_queue.listed:
                self._list(key_queue, self._levels[-rank])

    def _key_queue(self, job: Job) -> KeyQueue:
        level = self._levels.get(job.priority)
        if level is None:
            level = self._levels[job.priority] = Level(job.priority)
        key_queue = level.key_queues.get(job.flow)
        if key_queue is None:
            level.new += 1
            if level.new > 64 and level.new * 4 > len(level.key_queues):
                self._sweep(level)
            key_queue = level.key_queues[job.flow] = KeyQueue(job.flow, level.virtual)
        return key_queue

    def _admit(self, job: Job, key_queue: KeyQueue) -> None:
        level = self._levels[job.priority]
        job.key_queue = key_queue
        level.size += 1
        self.size += 1
        if key_queue.size == 1:
            insort(job.flow.queues, (-job.priority, key_queue), key=_rank)
        if not key_queue.listed and job.flow.blocked_until is None:
            self._list(key_queue, level)

    def _list(self, key_queue: KeyQueue, level: Level) -> None:
        key_queue.listed = True
        if key_queue.tag < level.virtual:
            key_queue.tag = level.virtual
        heappush(level.heap, (key_queue.tag - key_queue.ahead, next(self._order), key_queue))
        if not level.ranked:
            level.ranked = True
            insort(self._ranking, -level.priority)

    def _forget(self, job: Job, key_queue: KeyQueue, level: Level) -> None:
        self.size -= 1
        level.size -= 1
        if len(key_queue.jobs) + len(key_queue.returned) == key_queue.dead:
            flow = job.flow
            if len(flow.queues) == 1:
                flow.queues.clear()
            else:
                del flow.queues[bisect_left(flow.queues, -job.priority, key=_rank)]
                if flow.blocked_until is None:
                    self.relist(flow)
        if not level.size:
            # The end of a busy period: all keys start again from the same tag.
            del self._levels[job.priority]
            if level.ranked:
                del self._ranking[bisect_left(self._ranking, -job.priority)]

    def ahead(self, flow: Flow, priority: float) -> float:
        """How many jobs would start before a new one of `flow` at `priority`, as keys share: an
        estimate. Those of other keys that their own limits hold back are passed over.
        """
        level = self._levels.get(priority)
        own = None if level is None else level.key_queues.get(flow)
        turns = (1 if own is None else own.size + 1) / flow.weight
        ahead = 0.0
        for each in [*self._levels.values()]:
            if each.priority < priority:
                continue
            for other, key_queue in [*each.key_queues.items()]:
                if other is flow or each.priority > priority:
                    before = float(key_queue.size)
                else:
                    before = min(key_queue.size, turns * other.weight)
                if other is flow or other.blocked_until is None:
                    ahead += before
        return ahead

    def ahead_of(self, flow: Flow, priority: float) -> int:
        """How many jobs of `flow` wait at `priority` and above."""
        return sum(key_queue.size for rank, key_queue in [*flow.queues] if -rank >= priority)

    def sizes(self) -> Counter[Flow]:
        """How many jobs of each key wait. It may be asked in another thread."""
        sizes: Counter[Flow] = Counter()
        for level in [*self._levels.values()]:
            for flow, key_queue in [*level.key_queues.items()]:
                sizes[flow] += key_queue.size
        return sizes

    def holds(self, flow: Flow) -> bool:
        """Whether any priority keeps a key_queue for `flow`."""
        return any(flow in level.key_queues for level in self._levels.values())

    def waiting(self) -> list[Job]:
        """All the jobs that wait, those of keys that are held back too; they stay queued."""
        return [
            job
            for level in self._levels.values()
            for key_queue in level.key_queues.values()
            for job in (*key_queue.jobs, *(job for _, job in key_queue.returned))
            if job.status == QUEUED
        ]

    def _sweep(self, level: Level) -> None:
        """Drop the key_queues of keys that have nothing waiting and are ahead of nobody."""
        level.new = 0
        level.key_queues = {
            flow: key_queue
            for flow, key_queue in level.key_queues.items()
            if key_queue.listed
            or key_queue.jobs
            or key_queue.returned
            or key_queue.tag > level.virtual
        }
