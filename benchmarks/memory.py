"""Memory: a long `map` whose consumer is slow at first, and leases that wait in the queue.

1. `map` over ten million items. Its jobs return a string of 1 KB each; the consumer takes the first
   results 0.1 s apart, for three seconds, and the rest as fast as they come. What the process grew
   by is read from the kernel: the peak of its resident memory (VmHWM), and samples on the way.
   The peers run the same at a smaller size, and so does headway once more, to compare.
2. Ten thousand tasks that wait in `scheduler.lease()`, beside as many that wait for an event, or a
   bare future, of their own: what is between the two is what the queue costs. By tracemalloc and by
   resident memory, on asyncio and on trio.

Every measurement is a process of its own, so that none finds memory that another has freed.

    python benchmarks/memory.py [--items 10000000] [--peer-items 200000] [--leases 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import aiometer
import anyio
import tasklane
import trio
from _resident import KIBI, MEBI, peak, reset_peak, resident
from _table import environment, table, targets
from anyio.lowlevel import checkpoint

from headway import Scheduler

CONCURRENCY = 100
SAMPLE = 1000  # results
MOST_GROWTH = 10.0  # MB
MOST_LEASE = 2.0  # KB

# 1. A stream with a consumer that is slow at first


async def reply(x: int) -> str:
    """A call: the loop turns, and 1 KB comes back."""
    await asyncio.sleep(0)
    return f"{x:01000}"


Stream = AbstractAsyncContextManager[AsyncIterator[Any]]


def headway_stream(items: range) -> Stream:
    return Scheduler(concurrency=CONCURRENCY).map(reply, items)


def headway_as_completed(items: range) -> Stream:
    return Scheduler(concurrency=CONCURRENCY).as_completed(reply, items)


def tasklane_stream(items: range) -> Stream:
    return nullcontext(tasklane.stream(reply, items, limit=CONCURRENCY))


def aiometer_stream(items: range) -> Stream:
    return aiometer.amap(reply, items, max_at_once=CONCURRENCY)


def gather_all(items: range) -> Stream:
    """What has no stream at all: the results come when the last is there."""
    semaphore = asyncio.Semaphore(CONCURRENCY)

    async def one(item: int) -> str:
        async with semaphore:
            return await reply(item)

    async def results() -> AsyncIterator[str]:
        for result in await asyncio.gather(*(one(item) for item in items)):
            yield result

    return nullcontext(results())


STREAMS: dict[str, Callable[[range], Stream]] = {
    "headway map": headway_stream,
    "headway as_completed": headway_as_completed,
    "tasklane.stream": tasklane_stream,
    "aiometer.amap": aiometer_stream,
    "gather + asyncio.Semaphore": gather_all,
}


async def consume(name: str, size: int, slow: int) -> dict[str, float]:
    """Take all results, the first `slow` of them slowly."""
    await consume_fast(STREAMS[name](range(2 * CONCURRENCY)))  # what the first use brings along
    gc.collect()
    reset_peak()
    before, sampled, taken, began = resident(), 0, 0, time.perf_counter()
    async with STREAMS[name](range(size)) as results:
        async for _ in results:
            taken += 1
            if taken <= slow:
                await asyncio.sleep(0.1)
            if taken % SAMPLE == 0 or taken <= slow:
                sampled = max(sampled, resident())
    if taken != size:
        raise AssertionError(f"{name} lost jobs: {taken} of {size} came back")
    return {
        "peak": (peak() - before) / MEBI,
        "sampled": max(0, sampled - before) / MEBI,
        "seconds": time.perf_counter() - began,
    }


async def consume_fast(stream: Stream) -> None:
    async with stream as results:
        async for _ in results:
            pass


# 2. Leases that wait


async def wait_in_lease(scheduler: Scheduler) -> None:
    async with scheduler.lease():
        pass


async def wait_for_event(event: Callable[[], Any]) -> None:
    await event().wait()


async def wait_for_future() -> None:
    await asyncio.get_running_loop().create_future()


def waiters(kind: str, scheduler: Scheduler) -> Callable[[], Awaitable[None]]:
    """What each task of a `kind` runs."""
    return {
        "headway lease": lambda: wait_in_lease(scheduler),
        "asyncio.Event": lambda: wait_for_event(asyncio.Event),
        "trio.Event": lambda: wait_for_event(trio.Event),
        "anyio.Event": lambda: wait_for_event(anyio.Event),
        "a bare future": wait_for_future,
    }[kind]


async def park(kind: str, number: int) -> dict[str, float]:
    """Let `number` tasks wait, and see what each of them takes."""
    scheduler = Scheduler(concurrency=1)
    wait = waiters(kind, scheduler)

    async def parked(_: int) -> None:
        await wait()

    async with scheduler.lease(), anyio.create_task_group() as group:
        for index in range(10):  # what the first use brings along
            group.start_soon(parked, index)
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        traced, before = tracemalloc.get_traced_memory()[0], resident()
        for index in range(number):
            group.start_soon(parked, index)
        # Not wait_all_tasks_blocked, which lists all tasks.
        for _ in range(10):
            await checkpoint()
        gc.collect()
        grown, resident_grown = tracemalloc.get_traced_memory()[0] - traced, resident() - before
        if kind == "headway lease" and scheduler.statistics().queued != number + 10:
            raise AssertionError("not all leases wait")
        group.cancel_scope.cancel()
    return {"traced": grown / number / KIBI, "resident": resident_grown / number / KIBI}


PARKED = {
    "asyncio": ["a bare future", "asyncio.Event", "anyio.Event", "headway lease"],
    "trio": ["trio.Event", "anyio.Event", "headway lease"],
}

# A process for each


def child(task: Sequence[str]) -> None:
    """Do one measurement, and print it as JSON."""
    what, kind, *rest = task
    if what == "consume":
        size, slow = map(int, rest)
        result = asyncio.run(consume(kind, size, slow))
    else:
        backend, number, trace = rest
        if trace == "True":
            tracemalloc.start()
        result = anyio.run(park, kind, int(number), backend=backend)
    print(json.dumps(result))


def apart(*task: object) -> dict[str, float]:
    """The result of `child` in a new process."""
    command = [sys.executable, __file__, "--child", *map(str, task)]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    result: dict[str, float] = json.loads(output)
    return result


def streams(items: int, peer_items: int, slow: int) -> tuple[str, float]:
    """The table of streams, and the worst growth of headway's."""
    plan = [("headway map", items), *((name, peer_items) for name in STREAMS)]
    rows = []
    worst = 0.0
    for name, size in plan:
        result = apart("consume", name, size, slow)
        numbers = [f"{result[column]:.1f}" for column in ("peak", "sampled", "seconds")]
        rows.append([name, f"{size:,}", *numbers])
        if name.startswith("headway"):
            worst = max(worst, result["peak"])
    headers = ["", "items", "peak growth, MB", "in samples, MB", "seconds"]
    return table("A stream whose consumer is slow at first", headers, rows), worst


def leases(number: int) -> tuple[str, list[tuple[str, float, float]]]:
    """The table of waiting tasks, and what a lease costs beside the least of the others."""
    rows, checks = [], []
    for backend, kinds in PARKED.items():
        costs: dict[str, tuple[float, float]] = {}
        for kind in kinds:
            traced = apart("park", kind, backend, number, True)["traced"]
            costs[kind] = traced, apart("park", kind, backend, number, False)["resident"]
        base, headway = costs[kinds[0]], costs["headway lease"]
        for kind, cost in costs.items():
            beside = [f"{cost[i] - base[i]:+.2f}" for i in (0, 1)]
            rows.append([f"{backend}: {kind}", *(f"{one:.2f}" for one in cost), *beside])
        for i, way in enumerate(("tracemalloc", "resident memory")):
            what = f"KB a waiting lease beside its task, {backend}, {way}"
            checks.append((what, headway[i] - base[i], MOST_LEASE))
    headers = ["KB a waiting task", "tracemalloc", "resident", "beside", "beside, resident"]
    return table(f"{number:,} tasks that wait", headers, rows), checks


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--peer-items", type=int, default=200_000)
    parser.add_argument("--slow", type=int, default=30, help="results taken 0.1 s apart")
    parser.add_argument("--leases", type=int, default=10_000)
    parser.add_argument("--no-check", action="store_true", help="print, and hold to no target")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(options.child)
        return 0

    print(environment("headway", "anyio", "trio", "aiometer", "tasklane"))
    print(f"concurrency {CONCURRENCY}, every measurement in a process of its own\n", flush=True)
    text, growth = streams(options.items, options.peer_items, options.slow)
    print(text, flush=True)
    parked, checks = leases(options.leases)
    print(parked)
    text, met = targets([("MB that a stream of headway grew by", growth, MOST_GROWTH), *checks])
    print(text)
    return 0 if met or options.no_check else 1


if __name__ == "__main__":
    sys.exit(main())
