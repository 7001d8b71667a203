"""What an admission costs with a long queue and with a short one: an attempt ends, the next starts.

The same machine of states is kept twice, with 1,000 jobs waiting and with 1,000,000, and measured
in turn, in slices: 500 times "one attempt ends, poll starts the next" on the clock, then 500 new
jobs off the clock, so that the length stays what it is. Both see the same mix of jobs. The garbage
collector runs as Python sets it; it is told once, after the queues are built, to collect.

A slice's cost is CPU time. The table shows the median slice of each length, and the median of the
ratios of neighbouring slices, which the other work of a shared machine strikes alike. "Scattered"
is the worst that memory can do: the jobs of the queue lie in it in random order, so that each of
them is a miss of all caches.

The second table has real tasks that wait in `scheduler.lease()`, and for comparison in
`asyncio.Semaphore`: each takes its turn and queues again. That is the whole cost of a turn, the
event loop's share included; fewer tasks, because a million of them take gigabytes.

    python benchmarks/admission.py [--short 1000] [--long 1000000] [--tasks 100000] [--slices 200]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import chain, cycle, islice
from random import Random
from statistics import median

from _table import environment, table, targets

from headway import Limits, Retry, Scheduler
from headway._core.queue.job import Job
from headway._core.state import SchedulerState
from headway._runtime.attempt import Attempt

SLICE = 500
CONCURRENCY = 100
MOST = 1.3  # times the cost with the short queue

_NO_LIMIT = Limits(concurrency=CONCURRENCY)
_RATES = Limits("1M/s", tokens="100M/s", concurrency=CONCURRENCY)


@dataclass(frozen=True, slots=True)
class Mix:
    """The jobs of one comparison: the limits, and the key, priority and tokens of each job."""

    name: str
    limits: Limits
    keys: int = 1
    priorities: int = 1
    tokens: float = 0.0
    scattered: bool = False

    def jobs(self, state: SchedulerState) -> Iterator[Job]:
        """Jobs for ever."""
        flows = [state.flow(f"key-{number}") for number in range(self.keys)]
        kinds = [(flow, p) for p in range(self.priorities) for flow in flows]
        for flow, priority in cycle(kinds):
            yield Job(flow, priority, self.tokens)


MIXES = [
    Mix("one key", _NO_LIMIT),
    Mix("one key, scattered in memory", _NO_LIMIT, scattered=True),
    Mix("1,000 keys", _NO_LIMIT, keys=1000),
    Mix("10 keys, 3 priorities", _NO_LIMIT, keys=10, priorities=3),
    Mix("one key; requests and tokens limited too", _RATES, tokens=10.0),
]


class Queue:
    """A state machine with `length` jobs waiting and all its slots taken."""

    def __init__(self, mix: Mix, length: int) -> None:
        self.now = 0.0
        self.state = SchedulerState(mix.limits, now=0.0, retry=Retry())
        self._new = mix.jobs(self.state)
        self._tokens = mix.tokens or None
        self._running = list(islice(self._new, CONCURRENCY))
        for job in self._running:
            self.now += 1e-5
            assert self.state.submit(job, self.now)
        jobs = list(islice(self._new, length))
        if mix.scattered:
            Random(0).shuffle(jobs)
        self._new = chain(jobs, self._new)
        self.fill(length)

    def fill(self, number: int) -> None:
        """Let `number` new jobs wait."""
        submit, now = self.state.submit, self.now
        for job in islice(self._new, number):
            submit(job, now)

    def admit(self, number: int) -> None:
        """So many times: one attempt ends, and the next job starts."""
        finish, poll, used, now = self.state.finish, self.state.poll, self._tokens, self.now
        running = self._running
        for index in range(number):
            now += 1e-5  # the pace of requests and tokens allows that
            place = index % CONCURRENCY
            finish(running[place], used, now)
            (running[place],) = poll(now)[0]
        self.now = now


class Scheduled:
    """A Scheduler whose queue holds `length` jobs, and whose slots are all taken.

    The jobs wait in the scheduler's shell without the task that would be woken: a million tasks
    cost gigabytes, and time that is not the scheduler's.
    """

    def __init__(self, length: int) -> None:
        scheduler = Scheduler(concurrency=CONCURRENCY)
        self._shell = scheduler._shell
        self._options = scheduler._options
        self._running = [self._job() for _ in range(CONCURRENCY)]
        self._shell.parked = {self._running[0]: None}  # somebody waits: a finish polls
        self.fill(length)

    def _job(self) -> Job:
        job = self._shell.job(self._options, (), {})
        self._shell.enter(job)
        return job

    def fill(self, number: int) -> None:
        """Let `number` new jobs wait."""
        for _ in range(number):
            self._job()

    def admit(self, number: int) -> None:
        """So many times: one attempt ends, and the next job starts."""
        shell, whole = self._shell, self._shell.state.whole
        running = self._running
        for index in range(number):
            place = index % CONCURRENCY
            Attempt.finish(shell, running[place], None)
            assert whole.last is not None
            running[place] = whole.last


class Tasks:
    """A loop of its own with `length` tasks that take turns, `CONCURRENCY` of them at a time."""

    def __init__(self, limiter: Callable[[], AbstractAsyncContextManager[object]], length: int):
        self._limiter = limiter
        self._loop = asyncio.new_event_loop()
        self._left = -1
        self._enough: asyncio.Future[None]
        self._tasks = [self._loop.create_task(self._turns()) for _ in range(length + CONCURRENCY)]
        self.admit(2 * CONCURRENCY)

    async def _turns(self) -> None:
        while True:
            async with self._limiter():
                await asyncio.sleep(0)
            self._left -= 1
            if not self._left:
                self._enough.set_result(None)

    def fill(self, number: int) -> None:
        """Nothing: they queue again by themselves."""

    def admit(self, number: int) -> None:
        """Until so many turns have been taken."""
        self._left = number
        self._enough = self._loop.create_future()
        self._loop.run_until_complete(self._enough)

    def close(self) -> None:
        """End the tasks."""
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.close()


def leases(length: int) -> Tasks:
    return Tasks(Scheduler(concurrency=CONCURRENCY).lease, length)


def semaphore(length: int) -> Tasks:
    one = asyncio.Semaphore(CONCURRENCY)
    return Tasks(lambda: one, length)


def measure(
    make: Callable[[int], Queue | Scheduled | Tasks], lengths: tuple[int, int], slices: int
) -> tuple[float, float, float]:
    """Microseconds an admission with the short queue, with the long one, and the typical ratio."""
    queues = [make(length) for length in lengths]
    gc.collect()
    costs: list[list[float]] = [[], []]
    for number in range(slices + 2):
        # Who goes first alternates, so that neither always finds the caches as the other left them.
        for which in (0, 1) if number % 2 else (1, 0):
            queue = queues[which]
            queue.admit(50)  # its own data back into the caches, as in a run of its own
            began = time.process_time_ns()
            queue.admit(SLICE)
            spent = (time.process_time_ns() - began) / SLICE / 1000
            queue.fill(SLICE + 50)
            if number >= 2:
                costs[which].append(spent)
    for queue in queues:
        if isinstance(queue, Tasks):
            queue.close()
    ratio = median(long / short for short, long in zip(*costs, strict=True))
    return median(costs[0]), median(costs[1]), ratio


async def measure_scheduler(lengths: tuple[int, int], slices: int) -> tuple[float, float, float]:
    return measure(Scheduled, lengths, slices)


def results(
    title: str, lengths: tuple[int, int], measured: Sequence[tuple[str, tuple[float, ...]]]
) -> str:
    headers = ["", *(f"{length:,} queued" for length in lengths), "ratio"]
    return table(title, headers, [[name, *(f"{c:.2f}" for c in costs)] for name, costs in measured])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--short", type=int, default=1_000)
    parser.add_argument("--long", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=100_000, help="the long queue of real tasks")
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--no-check", action="store_true", help="print, and hold to no target")
    options = parser.parse_args(arguments)
    lengths = (max(options.short, SLICE + 50), max(options.long, SLICE + 50))

    print(environment("headway"))
    print(f"{options.slices} slices of {SLICE} admissions, {CONCURRENCY} in flight\n")
    measured: list[tuple[str, tuple[float, float, float]]] = []
    for mix in MIXES:
        costs = measure(lambda length, mix=mix: Queue(mix, length), lengths, options.slices)
        measured.append((f"SchedulerState, {mix.name}", costs))
    costs = asyncio.run(measure_scheduler(lengths, options.slices))
    measured.append(("Scheduler, one key", costs))

    print(results("An attempt ends, the next starts: CPU µs", lengths, measured))

    some = (lengths[0], max(options.tasks, SLICE + 50))
    tasks = [
        ("headway lease", measure(leases, some, options.slices)),
        ("asyncio.Semaphore", measure(semaphore, some, options.slices)),
    ]
    print(results("A task takes its turn and queues again: CPU µs", some, tasks))
    measured.append(("tasks in a lease", tasks[0][1]))
    text, met = targets([(f"ratio, {name}", costs[2], MOST) for name, costs in measured])
    print(text)
    return 0 if met or options.no_check else 1


if __name__ == "__main__":
    sys.exit(main())
