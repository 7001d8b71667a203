"""A run on a virtual clock: the state machine, driven as the shell drives it for `as_completed`.

The law. Items are taken in order, by one worker for each slot; an item that is taken is submitted
in the same moment. Whatever ends polls for those that wait, and then its worker takes the next
item. So calls start when they would in a real run: the tests hold the one against the other.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from types import MappingProxyType
from typing import NamedTuple

from headway._core.limits.binding import binding
from headway._core.queue.job import STARTED, Job
from headway._core.refusals.retry import Retry
from headway._core.state import SchedulerState
from headway._runtime.workers import _STANDING_BY, _TIME_SLICE, MOST_WORKERS
from headway.errors import InvalidLimit, NeverFits
from headway.rates import Limits

__all__ = ["MOST_AT_ONCE", "Simulation", "Work", "simulate"]

MOST_AT_ONCE = MOST_WORKERS
"""Calls in flight where no concurrency is stated, at most."""

_PATIENT = Retry(patience=1e9)  # a run over more than one day goes on when a quota begins anew

INFINITY = float("inf")
NAN = float("nan")


class Work(NamedTuple):
    """One call: tokens that it reserves and uses, and how many of those the answer has."""

    reserved: float
    used: float
    output: float = 0.0


@dataclass(frozen=True, slots=True)
class Simulation:
    """How a run went. `binds` has the seconds in which each limit held the next call back
    (``""``: nothing waited, the last answers came in). `starts` has the time at which each call
    started, by its index (NaN: it never fits), and is empty without a trace.
    """

    calls: int
    too_large: int  # calls that no limit ever admits: they fail, and the run goes on
    seconds: float
    tokens: float
    busy: float  # seconds of calls, summed
    most_in_flight: int
    binds: Mapping[str, float]
    starts: array[float]


def simulate(
    jobs: Iterable[Work],
    limits: Limits,
    *,
    latency: Callable[[Work], float],
    start: float = 0.0,
    trace: bool = False,
) -> Simulation:
    """Run `jobs` under `limits` as `Scheduler.as_completed` runs its items, on a virtual clock.

    `latency` gives the seconds of a call, and is asked when it starts. `start` is what the clock
    shows at first. A worker takes the next of `jobs` when it is free, so no more of them are held
    than the limits let run. Raises `InvalidLimit` for an AsyncLimiter, which nothing can simulate.
    """
    if limits.shared:
        raise InvalidLimit(
            "an AsyncLimiter cannot be simulated: only awaiting it tells what it does",
            fix='state its rate, as requests="600/min".',
        )
    machine = _Machine(limits, iter(jobs), latency, start, trace)
    machine.run()
    return machine.result()


class _Machine:
    """The state machine, the workers of one run, and the clock that jumps from event to event."""

    def __init__(
        self,
        limits: Limits,
        jobs: Iterator[Work],
        latency: Callable[[Work], float],
        start: float,
        trace: bool,
    ) -> None:
        self._state = SchedulerState(limits, now=start, retry=_PATIENT)
        self._state.set_wall(time.time() - start, start)
        if limits.is_to_be_found:
            self._state.whole.search()
        self._flow = self._state.flow(None)
        self._jobs: Iterator[Work] | None = jobs
        self._latency = latency
        self._now = self._start_at = start
        self._wake_at = INFINITY
        self._polled = False  # whether a poll now would find what the last one found
        self._ends: list[tuple[float, int, Job]] = []
        self._starts: array[float] = array("d")
        self._trace = trace
        self._workers = 1
        self._idle = 1  # workers that have still to take an item
        self._leaving = 0  # admitted by a poll of this moment, and not off the shell's list yet
        self._resize_at = -INFINITY
        self._most = self._slots()
        self._calls = self._too_large = self._peak = 0
        self._tokens = self._busy = 0.0
        self._binds: dict[str, float] = {}

    def run(self) -> None:
        """Run to the end."""
        state, ends, binds = self._state, self._ends, self._binds
        finish, waiting = state.finish, state.waiting
        while True:
            while self._idle and self._jobs is not None:
                self._idle -= 1
                self._take()
            self._leaving = 0
            if state.in_flight > self._peak:
                self._peak = state.in_flight
            ended = ends[0][0] if ends else INFINITY
            now = self._wake_at if waiting.size and self._wake_at < ended else ended
            if now == INFINITY:
                break
            if now > self._now:
                name = self._binding()
                binds[name] = binds.get(name, 0.0) + now - self._now
                self._now = now
                self._polled = False
            if ended > now:
                self._poll()
                continue
            while ends and ends[0][0] <= now:
                job = heappop(ends)[2]
                used = job.waiter.used
                finish(job, used, now)
                self._tokens += used
                self._polled = False
                if waiting.size:
                    self._poll()
                self._look()
                self._take()

    def result(self) -> Simulation:
        """What came of it."""
        return Simulation(
            self._calls,
            self._too_large,
            self._now - self._start_at,
            self._tokens,
            self._busy,
            self._peak,
            MappingProxyType(self._binds),
            self._starts,
        )

    def _slots(self) -> int:
        # As `Workers.slots`: whoever was admitted and has not run since counts twice for a moment.
        state = self._state
        capacity = state.whole.capacity
        slots = MOST_WORKERS if capacity == INFINITY else int(capacity)
        competing = state.in_flight + state.waiting.size + self._leaving > self._workers
        return slots + _STANDING_BY if competing else slots

    def _look(self) -> None:
        if self._now >= self._resize_at:
            self._resize_at = self._now + _TIME_SLICE
            self._most = self._slots()

    def _take(self) -> None:
        """A worker takes the next item, hires another where it may, and submits."""
        state, now = self._state, self._now
        while self._jobs is not None:
            work = next(self._jobs, None)
            if work is None:
                self._jobs = None
                return
            self._calls += 1
            if self._trace:
                self._starts.append(NAN)
            if self._workers < self._most:
                self._workers += 1
                self._idle += 1
            job = Job(self._flow, 0, work.reserved)
            job.waiter = work
            try:
                admitted = state.submit(job, now)
            except NeverFits:
                self._too_large += 1
                self._look()
                continue
            if admitted:
                self._polled = False
                self._started(job)
            elif state.in_flight < state.whole.capacity and (
                not self._polled or state.waiting.size == 1
            ):
                self._poll()  # the shell always does; behind others it would find nothing new
            return

    def _poll(self) -> None:
        changed, self._wake_at = self._state.poll(self._now)
        for job in changed:
            if job.status == STARTED:
                self._leaving += 1
                self._started(job)
        self._polled = True

    def _started(self, job: Job) -> None:
        seconds = self._latency(job.waiter)
        self._busy += seconds
        if self._trace:
            self._starts[job.number - 1] = self._now
        heappush(self._ends, (self._now + seconds, job.number, job))

    def _binding(self) -> str:
        state = self._state
        if not state.waiting.size:
            return "" if self._jobs is None else "concurrency"
        whole = state.whole
        if state.in_flight >= whole.capacity:
            return "concurrency"
        head = state.waiting.queue.head()
        return binding(whole, 0.0 if head is None else head.cost, self._now)[0]
