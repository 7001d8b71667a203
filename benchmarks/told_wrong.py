"""A limit that is told twice too high, over real HTTP: what is lost, refused and wasted.

A server in a process of its own enforces a limit by one of four algorithms, and refuses with 429
and a `Retry-After` in whole seconds (rounded up), or without one. An httpx client over
``headway.httpx.AsyncTransport``, whose Scheduler was told twice that limit, makes 450 calls. Beside
the bucket of a whole window's burst stands one of a quarter.
Exits with 1, and says which, where a target is missed.

The ideal makespan is ``(jobs - 1) / rate``: that of a client that knows the rate and spends it
evenly. Shown beside it is the soonest that any client could be done: one that sees through the
server and takes at once all that its algorithm lets pass at once. Windows by the clock are entered
at three phases, which take turns in the mean.

    python benchmarks/told_wrong.py [--jobs 450] [--rate 100/2s]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import fmean

import httpx
from _table import environment, table, targets
from httpx_aiohttp import AiohttpTransport

import headway.httpx
from headway import Rate, Scheduler
from headway.testing.algorithms import (
    Algorithm,
    FixedWindow,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
)

MOST_REFUSED = 15  # of 1,000 jobs, in the mean of the phases
LEAST_SHARE = 0.92  # of the ideal, in the mean of each algorithm
CHECKED_FROM = 2.0  # seconds: to wait for a whole second is to lose a whole window of one second
CONCURRENCY = 32
APART = 0.5  # seconds: to begin so many calls holds the loop, and what the others have begun
TOLD = 2.0  # times the limit that is enforced
HINTS = ("hint", "no hint")
PHASES = {  # parts of a window that are over when the first call comes
    "fixed window": (0.0, 0.33, 0.67),
    "sliding log": (0.0,),
    "sliding counter": (0.0, 0.33, 0.67),
    "token bucket": (0.0,),
    "quarter bucket": (0.0,),
}


def server_of(name: str, rate: Rate, phase: float, now: float) -> Algorithm:
    """The limiter called `name`, of whose window the part `phase` is over now."""
    limit, window = rate.limit, rate.per
    if name == "fixed window":
        return FixedWindow(limit, window, now - phase * window)
    if name == "sliding log":
        return SlidingLog(limit, window)
    if name == "sliding counter":
        return SlidingCounter(limit, window, now - phase * window)
    return TokenBucket(limit / 4 if name == "quarter bucket" else limit, limit / window)


def serve(pipe: Connection, rate: Rate) -> None:
    """The server: its port goes into `pipe`; when asked, what the limiter of each path refused."""
    limiters: dict[str, Algorithm] = {}
    refused: dict[str, int] = {}

    def answer(path: str) -> bytes:
        now = time.monotonic()
        if path == "/":  # to open a connection
            return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        _, name, hint, phase = path.split("/")
        server = limiters.get(path)
        if server is None:
            server = limiters[path] = server_of(name.replace("-", " "), rate, float(phase), now)
            refused[path] = 0
        if server.admit(now):
            return b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        refused[path] += 1
        seconds = max(1, math.ceil(server.fits_in(now)))
        told = b"retry-after: %d\r\n" % seconds if hint == "hint" else b""
        return b"HTTP/1.1 429 Too Many Requests\r\n%scontent-length: 0\r\n\r\n" % told

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(answer(head.split(b" ", 2)[1].decode()))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)
        server.close()

    asyncio.run(run())
    pipe.send(refused)


def soonest(server: Algorithm, jobs: int, began: float) -> float:
    """Seconds in which `jobs` calls can pass `server`, for a client that sees through it."""
    now = began
    while jobs:
        if server.admit(now):
            jobs -= 1
        else:
            now += server.fits_in(now) + 1e-6
    return now - began


@dataclass
class Run:
    """What came of the calls to one path."""

    path: str
    seconds: float = 0.0
    lost: int = 0
    refused: int = 0


async def call_all(root: str, run: Run, told: Rate, jobs: int) -> None:
    """`jobs` calls under a limit that is not what the server enforces."""
    scheduler = Scheduler(told, concurrency=CONCURRENCY)
    # aiohttp's connections: httpx's own cost milliseconds a request, four times at once.
    transport = headway.httpx.AsyncTransport(scheduler, AiohttpTransport())
    async with httpx.AsyncClient(transport=transport) as client:

        async def call() -> None:
            try:
                run.lost += (await client.get(root + run.path)).status_code != 200
            except Exception:
                run.lost += 1

        await transport.warm(f"{root}/", CONCURRENCY)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(jobs):
                group.create_task(call())
        run.seconds = time.monotonic() - began


def measure(rate: Rate, jobs: int) -> dict[tuple[str, str], list[Run]]:
    """The runs for each algorithm, with hints and without: one a phase."""
    told = Rate(rate.limit * TOLD, per=rate.per)
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=serve, args=(there, rate), daemon=True)
    process.start()
    root = f"http://127.0.0.1:{here.recv()}"
    found = {
        (name, hint): [
            Run(f"/{name.replace(' ', '-')}/{hint.replace(' ', '-')}/{phase}") for phase in phases
        ]
        for name, phases in PHASES.items()
        for hint in HINTS
    }

    async def side_by_side(runs: list[Run]) -> None:
        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(call_all(root, run, told, jobs))
                await asyncio.sleep(APART)

    for hint in HINTS:
        for turn in range(max(map(len, PHASES.values()))):
            # Four at most: more would measure what requests cost on a small machine.
            asyncio.run(
                side_by_side([found[name, hint][turn] for name in PHASES if PHASES[name][turn:]])
            )
    here.send("stop")
    refused = here.recv()
    process.join()
    for runs in found.values():
        for run in runs:
            run.refused = refused[run.path]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A limit that is told twice too high, over HTTP.")
    parser.add_argument("--jobs", type=int, default=450)
    parser.add_argument(
        "--rate", action="append", help="what is enforced (100/2s); may be repeated"
    )
    parser.add_argument("--no-check", action="store_true", help="exit with 0 whatever is missed")
    options = parser.parse_args(arguments)

    print(environment("headway", "httpx"))
    print(f"{options.jobs:,} jobs each, concurrency {CONCURRENCY}, told {TOLD:g} times the limit\n")
    checks: list[tuple[str, float, float]] = []
    for text in options.rate or ["100/2s"]:
        rate = Rate.parse(text)
        ideal = (options.jobs - 1) * rate.per / rate.limit
        rows = []
        shares: dict[str, list[float]] = {}
        for (name, hint), runs in measure(rate, options.jobs).items():
            seconds = [run.seconds for run in runs]
            refused = fmean(run.refused for run in runs) * 1000 / options.jobs
            lost = sum(run.lost for run in runs)
            best = fmean(
                soonest(server_of(name, rate, phase, 0.0), options.jobs, 0.0)
                for phase in PHASES[name]
            )
            rows.append(
                [f"{name}, {hint}", f"{refused:.0f}", str(lost), f"{fmean(seconds):.2f}",
                 f"{ideal / fmean(seconds):.1%}", f"{ideal / max(seconds):.1%}",
                 f"{best / fmean(seconds):.1%}"]
            )  # fmt: skip
            what = f"{text}, {name}, {hint}"
            checks.append((f"jobs lost, {what}", lost, 0))
            checks.append((f"429s in 1,000 jobs, {what}", refused, MOST_REFUSED))
            shares.setdefault(name, []).append(fmean(seconds) / ideal)
        if rate.per >= CHECKED_FROM:
            checks += [
                (f"makespan to the ideal, {text}, {name}", fmean(share), 1 / LEAST_SHARE)
                for name, share in shares.items()
            ]
        headings = ["server", "429s in 1,000", "lost", "seconds", "of the ideal", "at the worst",
                    "of the soonest"]  # fmt: skip
        title = f"{text} enforced, {TOLD:g} times that told: ideal {ideal:.2f} s"
        print(table(title, headings, rows), flush=True)
    text, met = targets(checks)
    print(text)
    return not met and not options.no_check


if __name__ == "__main__":
    logging.getLogger("headway").setLevel(logging.ERROR)  # refusals are what is asked for here
    sys.exit(main())
