"""Who goes next: strict priority, then keys by weight, then age.

Keys share by start-time fair queueing (Goyal, Vin and Cheng, 1996), per priority: a key's jobs
are tagged with its virtual start time, the least tag goes first, and a start moves the tag on by
the job's real cost over the key's weight. A cost is a guess until the attempt ends; the difference
is settled with the key's next start. A key that was idle, or was held back by its own limits,
banks no credit. Inside a key the older goes first; a job that comes back takes its old place.

The head blocks: what does not fit is never passed over by something smaller behind it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from heapq import heappop, heappush, heapreplace
from itertools import count

from headway._core.queue.job import QUEUED, Flow, Job, Line

__all__ = ["JobQueue"]


class Level:
    """The keys at one priority, while any job of that priority waits."""

    __slots__ = ("heap", "lines", "new", "priority", "size", "virtual")

    def __init__(self, priority: float) -> None:
        self.priority = priority
        self.heap: list[tuple[float, int, Line]] = []
        self.lines: dict[Flow, Line] = {}
        self.new = 0  # lines since the last sweep
        self.size = 0
        self.virtual = 0.0  # the tag of the last start


class JobQueue:
    """All jobs that wait for a permit (and for no backoff)."""

    __slots__ = ("_levels", "_order", "_ranking", "size")

    def __init__(self) -> None:
        self.size = 0
        self._levels: dict[float, Level] = {}
        self._ranking: list[float] = []  # priorities, negated, so that the highest is first
        self._order = count()

    def push(self, job: Job) -> None:
        """Let `job` wait behind the others of its key and priority."""
        line = self._line(job)
        line.jobs.append(job)
        self._admit(job, line)

    def push_back(self, job: Job) -> None:
        """Let `job`, which has started before, wait at the place that its age gives it."""
        line = self._line(job)
        heappush(line.returned, (job.number, job))
        self._admit(job, line)

    def head(self) -> Job | None:
        """The job that goes next, keys that are held back left out; None when there is none."""
        for rank in self._ranking:
            level = self._levels[-rank]
            heap = level.heap
            while heap:
                tag, _, line = heap[0]
                if line.flow.held_until is None:
                    job = line.head()
                    if job is not None:
                        if line.tag <= tag:
                            return job
                        heapreplace(heap, (line.tag, next(self._order), line))
                        continue
                heappop(heap)
                line.listed = False
        return None

    def peek(self) -> Job | None:
        """What `head` would return, and no change: another thread may ask."""
        for rank in [*self._ranking]:
            level = self._levels.get(-rank)
            entries = [] if level is None else [*level.heap]
            lines = {
                entry[2]: (max(entry[0], entry[2].tag), entry[1])
                for entry in entries
                if entry[2].flow.held_until is None
            }
            for line in sorted(lines, key=lines.__getitem__):
                job = line.peek()
                if job is not None:
                    return job
        return None

    def head_of(self, flow: Flow) -> Job | None:
        """The job of `flow` that goes next once it may take part again; changes nothing."""
        for rank in [*self._ranking]:
            level = self._levels.get(-rank)
            line = None if level is None else level.lines.get(flow)
            job = None if line is None else line.peek()
            if job is not None:
                return job
        return None

    def start(self, job: Job) -> None:
        """Take out `job`, which is the head, and charge its key."""
        line = job.line
        assert line is not None
        level = self._levels[job.priority]
        line.pop(job)
        level.virtual = line.tag
        cost = line.owed + (job.cost if job.cost > 1.0 else 1.0)
        if cost > 0:
            line.owed = 0.0
            line.tag += cost / line.flow.weight
        else:
            line.owed = cost
        self._forget(job, level)

    def remove(self, job: Job) -> None:
        """Take out `job`, wherever it is; its status has already changed."""
        assert job.line is not None
        job.line.bury()
        self._forget(job, self._levels[job.priority])

    def settle(self, job: Job, used: float) -> None:
        """Charge the key of `job` what its attempt really cost, `used` tokens."""
        line = job.line
        if line is not None:
            line.owed += (used if used > 1.0 else 1.0) - (job.cost if job.cost > 1.0 else 1.0)
            job.line = None

    def refund(self, job: Job) -> None:
        """Charge the key of `job` nothing: its attempt was refused or never sent."""
        line = job.line
        if line is not None:
            line.owed -= job.cost if job.cost > 1.0 else 1.0
            job.line = None

    def relist(self, flow: Flow) -> None:
        """`flow` is no longer held back by its own limits: let it take part again."""
        for level in self._levels.values():
            line = level.lines.get(flow)
            if line is not None and not line.listed:
                self._list(line, level)

    def _line(self, job: Job) -> Line:
        level = self._levels.get(job.priority)
        if level is None:
            level = self._levels[job.priority] = Level(job.priority)
            insort(self._ranking, -job.priority)
        line = level.lines.get(job.flow)
        if line is None:
            level.new += 1
            if level.new > 64 and level.new * 4 > len(level.lines):
                self._sweep(level)
            line = level.lines[job.flow] = Line(job.flow, level.virtual)
        return line

    def _admit(self, job: Job, line: Line) -> None:
        level = self._levels[job.priority]
        job.line = line
        level.size += 1
        self.size += 1
        if not line.listed and job.flow.held_until is None:
            self._list(line, level)

    def _list(self, line: Line, level: Level) -> None:
        line.listed = True
        if line.tag < level.virtual:
            line.tag = level.virtual
        heappush(level.heap, (line.tag, next(self._order), line))

    def _forget(self, job: Job, level: Level) -> None:
        self.size -= 1
        level.size -= 1
        if not level.size:
            # The end of a busy period: all keys start again from the same tag.
            del self._levels[job.priority]
            del self._ranking[bisect_left(self._ranking, -job.priority)]

    def sizes(self) -> Counter[Flow]:
        """How many jobs of each key wait. It may be asked in another thread."""
        sizes: Counter[Flow] = Counter()
        for level in [*self._levels.values()]:
            for flow, line in [*level.lines.items()]:
                sizes[flow] += line.size
        return sizes

    def holds(self, flow: Flow) -> bool:
        """Whether any priority keeps a line for `flow`."""
        return any(flow in level.lines for level in self._levels.values())

    def waiting(self) -> list[Job]:
        """All the jobs that wait, those of keys that are held back too; they stay queued."""
        return [
            job
            for level in self._levels.values()
            for line in level.lines.values()
            for job in (*line.jobs, *(job for _, job in line.returned))
            if job.status == QUEUED
        ]

    def _sweep(self, level: Level) -> None:
        """Drop the lines of keys that have nothing waiting and are ahead of nobody."""
        level.new = 0
        level.lines = {
            flow: line
            for flow, line in level.lines.items()
            if line.listed or line.jobs or line.returned or line.tag > level.virtual
        }
