"""The stated rate on a real clock: how much of the pace is reached, and the worst window.

Every start of a call that does nothing is recorded; the worst window is the most starts that any
window of the rate holds, exactly. The peers run beside it for less time, at the same stated rate.
Exits with 1, and says which, where headway misses a target.

    python benchmarks/pacing.py [--seconds 65] [--peers 5] [--rate 60000/min ...]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiometer
import anyio
from aiolimiter import AsyncLimiter

from headway import Rate, Scheduler
from headway.testing.arrivals import worst_window

TARGET = 0.98  # of the pace
RATES = ["60000/min", "300000/min", "1000/s", "5000/s"]
WINDOWS = 10  # how many windows of a second to look at
CONCURRENCY = 1000

Run = Callable[[Rate, float], Awaitable[list[float]]]


async def headway(rate: Rate, seconds: float) -> list[float]:
    """`map` over items that end with the time."""
    starts: list[float] = []

    async def call(_: int) -> None:
        starts.append(time.perf_counter())

    ends = time.perf_counter() + seconds

    def items() -> Iterator[int]:
        while time.perf_counter() < ends:
            yield 0

    async with Scheduler(rate) as scheduler, scheduler.map(call, items()) as results:
        async for _ in results:
            pass
    return starts


async def aiolimiter(rate: Rate, seconds: float) -> list[float]:
    """The peer aiolimiter 1.3, with a semaphore, in a pool of workers."""
    starts: list[float] = []
    limiter = AsyncLimiter(rate.limit, rate.per)
    semaphore = asyncio.Semaphore(CONCURRENCY)
    ends = time.perf_counter() + seconds

    async def work() -> None:
        while time.perf_counter() < ends:
            async with semaphore, limiter:
                starts.append(time.perf_counter())
            await asyncio.sleep(0)

    with anyio.move_on_after(seconds):
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(work())
    return starts


async def aiometer_(rate: Rate, seconds: float) -> list[float]:
    """The peer aiometer 1.0, which needs to know how many items there are."""
    starts: list[float] = []

    async def call(_: int) -> None:
        starts.append(time.perf_counter())

    a_second = rate.limit / rate.per
    items = range(int(a_second * seconds))
    with anyio.move_on_after(seconds):
        await aiometer.run_on_each(call, items, max_at_once=CONCURRENCY, max_per_second=a_second)
    return starts


def loops() -> dict[str, Callable[[], Any]]:
    """The loop of asyncio itself, and uvloop where it is installed."""
    found: dict[str, Callable[[], Any]] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        return found
    return {**found, "uvloop": uvloop.new_event_loop}


def measure(run: Run, rate: Rate, seconds: float, loop: Callable[[], Any]) -> tuple[float, float]:
    """Starts a second, and the most in any window of `rate`."""
    with asyncio.Runner(loop_factory=loop) as runner:
        starts = runner.run(run(rate, seconds))
    starts.sort()
    reached = (len(starts) - 1) / (starts[-1] - starts[0])
    return reached, worst_window([(start, 1.0) for start in starts], rate.span)


def main() -> int:
    parser = argparse.ArgumentParser(description="The stated rate on a real clock.")
    parser.add_argument("--seconds", type=float, help="of each run: the window and 5 s, or 10 s")
    parser.add_argument("--peers", type=float, default=5.0, help="seconds of each run of a peer")
    parser.add_argument("--rate", action="append", help=f"one or more of your own: {RATES}")
    options = parser.parse_args()

    missed = []
    print(
        "| stated | who | loop | seconds | starts/s | of the pace | worst window | of the limit |"
    )
    print("|---|---|---|--:|--:|--:|--:|--:|")
    for text in options.rate or RATES:
        rate = Rate.parse(text)
        runs: list[tuple[str, Run, str, float]] = []
        for loop in loops():
            least = rate.span + 5 if rate.span > 1 else WINDOWS * rate.span
            runs.append(("headway", headway, loop, options.seconds or least))
        runs.append(("aiolimiter + semaphore", aiolimiter, "asyncio", options.peers))
        runs.append(("aiometer", aiometer_, "asyncio", options.peers))
        for who, run, loop, seconds in runs:
            reached, worst = measure(run, rate, seconds, loops()[loop])
            print(
                f"| {text} | {who} | {loop} | {seconds:g} | {reached:,.1f} "
                f"| {reached / rate.pace:.2%} | {worst:,.0f} | {worst / rate.share:.2%} |",
                flush=True,
            )
            if who == "headway" and reached < TARGET * rate.pace:
                missed.append(f"{text} on {loop}: {reached / rate.pace:.2%} of the pace")
            if who == "headway" and worst > rate.share:
                missed.append(f"{text} on {loop}: {worst:,.0f} in a window of {rate.share:,.0f}")
    print(f"\nTargets: at least {TARGET:.0%} of the pace (`Rate.pace`), no window above the limit.")
    for miss in missed:
        print(f"MISSED  {miss}")
    print("all reached" if not missed else f"{len(missed)} missed")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
