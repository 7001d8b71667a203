"""What a job costs in CPU time beside the call itself: no-op jobs, with the peers in the same run.

Two kinds of no-op: one that returns at once, and one that yields to the event loop once, as a call
over the network does. All contenders run in this process, in turn, round after round, with the
garbage collector as Python sets it, so that whatever else the machine does strikes all of them.
What is printed is the median over the rounds of the process's CPU time (user and system) a job.

    python benchmarks/overhead.py [--jobs 20000] [--rounds 7] [--concurrency 100]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import TypeAlias

import aiolimiter
import aiometer
import tasklane
from _table import environment, table, targets

from headway import Scheduler

Job: TypeAlias = Callable[[int], Awaitable[int]]
Contender: TypeAlias = Callable[[Job, range, int], Awaitable[int]]

HUGE = "1000M/s"  # a rate that is computed and never waits

# What must hold, in microseconds a job or as a ratio: design.md, issue 2.
MAP_MOST = 10.0
SUBMIT_MOST = 6.0
LESS_THAN_AIOMETER = 6.0


async def noop(x: int) -> int:
    """Return at once."""
    return x


async def yielding(x: int) -> int:
    """Let the event loop turn once."""
    await asyncio.sleep(0)
    return x


# The contenders. Each calls `job` with every item and returns how many results it got.


async def pool(call: Job, items: range, concurrency: int) -> int:
    """Workers that pull from one iterator: the least that anything could cost."""
    source = iter(items)
    done = 0

    async def work() -> None:
        nonlocal done
        for item in source:
            await call(item)
            done += 1

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return done


async def bare_pool(job: Job, items: range, concurrency: int) -> int:
    return await pool(job, items, concurrency)


async def gather_semaphore(job: Job, items: range, concurrency: int) -> int:
    semaphore = asyncio.Semaphore(concurrency)

    async def one(item: int) -> int:
        async with semaphore:
            return await job(item)

    return len(await asyncio.gather(*(one(item) for item in items)))


async def aiolimiter_semaphore(job: Job, items: range, concurrency: int) -> int:
    limiter = aiolimiter.AsyncLimiter(1e9, 1)
    semaphore = asyncio.Semaphore(concurrency)

    async def one(item: int) -> int:
        async with semaphore, limiter:
            return await job(item)

    return len(await asyncio.gather(*(one(item) for item in items)))


async def tasklane_amap(job: Job, items: range, concurrency: int) -> int:
    return len(await tasklane.amap(job, items, limit=concurrency))


async def aiometer_amap(job: Job, items: range, concurrency: int) -> int:
    done = 0
    async with aiometer.amap(job, items, max_at_once=concurrency) as results:
        async for _ in results:
            done += 1
    return done


async def headway_map(job: Job, items: range, concurrency: int) -> int:
    return len(await Scheduler(concurrency=concurrency).map(job, items))


async def headway_stream(job: Job, items: range, concurrency: int) -> int:
    done = 0
    async with Scheduler(concurrency=concurrency).map(job, items) as results:
        async for _ in results:
            done += 1
    return done


async def headway_as_completed(job: Job, items: range, concurrency: int) -> int:
    done = 0
    async with Scheduler(concurrency=concurrency).as_completed(job, items) as outcomes:
        async for outcome in outcomes:
            done += outcome.error is None
    return done


async def headway_all_limits(job: Job, items: range, concurrency: int) -> int:
    scheduler = Scheduler(HUGE, tokens=HUGE, concurrency=concurrency)
    return len(await scheduler.with_options(tokens=1).map(job, items))


async def headway_submit(job: Job, items: range, concurrency: int) -> int:
    scheduler = Scheduler(concurrency=concurrency)
    return await pool(lambda item: scheduler.submit(job, item), items, concurrency)


async def headway_lease(job: Job, items: range, concurrency: int) -> int:
    scheduler = Scheduler(concurrency=concurrency)

    async def one(item: int) -> int:
        async with scheduler.lease():
            return await job(item)

    return await pool(one, items, concurrency)


async def headway_gather_submit(job: Job, items: range, concurrency: int) -> int:
    scheduler = Scheduler(concurrency=concurrency)
    return len(await asyncio.gather(*(scheduler.submit(job, item) for item in items)))


CONTENDERS: dict[str, Contender] = {
    "a bare pool of workers": bare_pool,
    "gather + asyncio.Semaphore": gather_semaphore,
    "aiolimiter + asyncio.Semaphore": aiolimiter_semaphore,
    "tasklane.amap": tasklane_amap,
    "aiometer.amap": aiometer_amap,
    "headway map, awaited": headway_map,
    "headway map, a stream": headway_stream,
    "headway as_completed": headway_as_completed,
    "headway map, awaited; requests and tokens limited too": headway_all_limits,
    "headway submit, without waiting": headway_submit,
    "headway lease, without waiting": headway_lease,
    "headway submit, a task each, waiting for a slot": headway_gather_submit,
}
KINDS: dict[str, Job] = {"returns at once": noop, "yields once": yielding}


def measure(run: Contender, job: Job, jobs: int, concurrency: int) -> float:
    """Microseconds of CPU a job, in an event loop of its own."""

    async def main() -> float:
        gc.collect()
        began = time.process_time()
        done = await run(job, range(jobs), concurrency)
        spent = time.process_time() - began
        if done != jobs:
            raise AssertionError(f"{run.__name__} lost jobs: {done} of {jobs} came back")
        return spent / jobs * 1e6

    return asyncio.run(main())


def compare(job: Job, jobs: int, rounds: int, concurrency: int) -> dict[str, list[float]]:
    """What every contender cost in each of `rounds`, after one that does not count."""
    spent: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(rounds + 1):
        for name, run in CONTENDERS.items():
            cost = measure(run, job, max(1, jobs if number else jobs // 10), concurrency)
            if number:
                spent[name].append(cost)
    return spent


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--no-check", action="store_true", help="print, and hold to no target")
    options = parser.parse_args(arguments)

    print(environment("headway", "anyio", "aiometer", "aiolimiter", "tasklane"))
    print(f"{options.jobs:,} jobs, {options.rounds} rounds, concurrency {options.concurrency}\n")
    checks: list[tuple[str, float, float]] = []
    for kind, job in KINDS.items():
        spent = compare(job, options.jobs, options.rounds, options.concurrency)
        typical = {name: median(costs) for name, costs in spent.items()}
        headway = typical["headway map, awaited"]
        rows = [
            [name, f"{cost:.2f}", f"{min(spent[name]):.2f}", f"{cost / headway:.2f}"]
            for name, cost in typical.items()
        ]
        headers = ["CPU of a no-op job", "median µs", "least µs", "to headway map"]
        print(table(f"A job that {kind}", headers, rows))
        submit = typical["headway submit, without waiting"]
        ratio = LESS_THAN_AIOMETER * headway / typical["aiometer.amap"]
        checks += [
            (f"µs a job of map, {kind}", headway, MAP_MOST),
            (f"µs a job of a stream of map, {kind}", typical["headway map, a stream"], MAP_MOST),
            (f"{LESS_THAN_AIOMETER:g} times map to aiometer, {kind}", ratio, 1.0),
            (f"µs a job of submit without waiting, {kind}", submit, SUBMIT_MOST),
        ]
    text, met = targets(checks)
    print(text)
    return 0 if met or options.no_check else 1


if __name__ == "__main__":
    sys.exit(main())
