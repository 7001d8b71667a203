"""What `told_right.py` and `told_wrong.py` share: a real HTTP server that counts, and its callers.

The server, in a process of its own, enforces a limit by one of five algorithms; what it says of it
is one of `SAYS`. A client makes calls over ``headway.httpx.AsyncTransport``: 64 workers, of which
32 may be in flight. They hand their requests to the transport themselves, as ``headway run`` does,
for httpx's own client costs as much again as everything else.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import httpx
from httpx_aiohttp import AiohttpTransport

import headway.httpx
from headway import Rate, Scheduler
from headway.testing.account import Counted
from headway.testing.algorithms import (
    Algorithm,
    FixedWindow,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
)
from headway.testing.dialects import DIALECTS, headers_of

_SPAWN = multiprocessing.get_context("spawn")
Server = _SPAWN.Process
CONCURRENCY = 32
WORKERS = 2 * CONCURRENCY  # so that somebody always waits
WINDOWS = 4.5  # how many a run takes, where no number of jobs is given
MOST = 200  # calls a second of all clients together: more would measure what requests cost
BARE = 1_000  # calls that tell how many a second a bare client makes, at most
SAYS = ("hint", "no hint", "openai", "ietf")
"""Of a refusal how many whole seconds to wait, or nothing; or of all answers what remains."""
PHASES = {  # parts of a window that are over when the first call comes
    "fixed window": (0.0, 0.33, 0.67),
    "sliding log": (0.0,),
    "sliding counter": (0.0, 0.33, 0.67),
    "token bucket": (0.0,),
    "quarter bucket": (0.0,),
}


@dataclass
class Run:
    """Calls to one limiter: what is asked of it, and what came of that."""

    server: str
    says: str
    phase: float
    scheduler: Callable[[], Scheduler]
    jobs: int
    seconds: float = 0.0
    lost: int = 0
    refused: int = 0

    @property
    def path(self) -> str:
        """Which limiter answers, and what it says."""
        return "/".join(["", self.server.replace(" ", "-"), self.says.replace(" ", "-"),
                         f"{self.phase}", f"{id(self)}"])  # fmt: skip


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of both."""
    parser.add_argument("--jobs", type=int, help=f"of each run; what {WINDOWS} windows serve")
    parser.add_argument("--rate", action="append", help="enforced (100/2s); may be repeated")
    parser.add_argument("--server", action="append", choices=PHASES, help="of these alone")
    parser.add_argument("--no-check", action="store_true", help="exit with 0 whatever is missed")


def server_of(name: str, rate: Rate, phase: float, now: float) -> Algorithm:
    """The limiter called `name`, of whose window the part `phase` is over now."""
    limit, window = rate.limit, rate.per
    if name == "fixed window":
        return FixedWindow(limit, window, now - phase * window)
    if name == "sliding log":
        return SlidingLog(limit, window)
    if name == "sliding counter":
        return SlidingCounter(limit, window, now - phase * window)
    return TokenBucket(max(1, limit // 4) if name == "quarter bucket" else limit, limit / window)


class _Server(asyncio.Protocol):
    """One connection, on which one request at a time comes, without a body."""

    def __init__(self, answer: Callable[[str], bytes]) -> None:
        self._answer, self._got = answer, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._got.endswith(b"\r\n\r\n"):
            path = self._got.split(b" ", 2)[1].decode()
            self._got = b""
            self._transport.write(self._answer(path))


def serve(pipe: Connection, rate: Rate) -> None:
    """The server: its port goes into `pipe`; when asked, what the limiter of each path refused."""
    limiters: dict[str, Algorithm] = {}
    refused: dict[str, int] = {}

    def answer(path: str) -> bytes:
        now = time.monotonic()
        if path == "/":  # to open a connection, and to see what a bare client reaches
            return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        _, name, says, phase, _ = path.split("/")
        server = limiters.get(path)
        if server is None:
            server = limiters[path] = server_of(name.replace("-", " "), rate, float(phase), now)
            refused[path] = 0
        passed = server.admit(now)
        headers = {}
        if says in DIALECTS:
            counted = [Counted("requests", rate, server)]
            headers = headers_of(DIALECTS[says], counted, now, time.time())
        if not passed:
            refused[path] += 1
            if says == "hint":
                headers["retry-after"] = f"{max(1, math.ceil(server.fits_in(now)))}"
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        status, body = ("200 OK", "ok") if passed else ("429 Too Many Requests", "")
        head = f"HTTP/1.1 {status}\r\n{''.join(lines)}content-length: {len(body)}\r\n\r\n"
        return (head + body).encode()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Server(answer), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)
        server.close()

    asyncio.run(run())
    pipe.send(refused)


@contextmanager
def serving(rate: Rate, runs: Sequence[Run]) -> Iterator[str]:
    """A server that enforces `rate`, and its address; what it refused is in `runs` at the end."""
    here, there = _SPAWN.Pipe()
    process = Server(target=serve, args=(there, rate), daemon=True)
    process.start()
    yield f"http://127.0.0.1:{here.recv()}"
    here.send("stop")
    refused = here.recv()
    process.join()
    for run in runs:
        run.refused = refused.get(run.path, 0)


def soonest(jobs: int, apart: float, *limiters: Algorithm) -> float:
    """Seconds in which `jobs` calls can pass all `limiters`, for a client that sees through them
    and makes one in `apart` seconds at most.
    """
    now = 0.0
    while True:
        if wait := max(limiter.fits_in(now) for limiter in limiters):
            now += wait + 1e-6
            continue
        for limiter in limiters:
            limiter.take(now)
        jobs -= 1
        if not jobs:
            return now
        now += apart


async def call_all(send: httpx.AsyncBaseTransport, url: str, jobs: int) -> int:
    """Make `jobs` calls, and return how many came to nothing."""
    lost, numbers = 0, iter(range(jobs))

    async def work() -> None:
        nonlocal lost
        for _ in numbers:
            try:
                response = await send.handle_async_request(httpx.Request("GET", url))
                await response.aread()
                lost += response.status_code != 200
            except Exception:
                lost += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(min(jobs, WORKERS)):
            group.create_task(work())
    return lost


async def bare(root: str, jobs: int) -> float:
    """Calls a second of the same client without headway."""
    async with AiohttpTransport() as send:
        await call_all(send, f"{root}/", CONCURRENCY)
        began = time.monotonic()
        await call_all(send, f"{root}/", jobs)
        return jobs / (time.monotonic() - began)


async def make(root: str, run: Run) -> None:
    """The calls of `run`, over connections that are open."""
    # aiohttp's connections: httpx's own cost milliseconds a request, four times at once.
    async with headway.httpx.AsyncTransport(run.scheduler(), AiohttpTransport()) as send:
        await send.warm(f"{root}/", min(run.jobs, CONCURRENCY))
        began = time.monotonic()
        run.lost = await call_all(send, root + run.path, run.jobs)
        run.seconds = time.monotonic() - began


def runs_of(
    servers: Sequence[str] | None, says: str, scheduler: Callable[[], Scheduler], jobs: int
) -> list[Run]:
    """One for each phase of each of `servers`, or of all."""
    return [
        Run(name, says, phase, scheduler, jobs)
        for name in servers or PHASES
        for phase in PHASES[name]
    ]


def side_by_side(rate: Rate) -> int:
    """How many clients of `rate` the machine bears at once."""
    return max(1, int(MOST * rate.per / rate.limit))


def measure(rate: Rate, runs: Sequence[Run], clients: int) -> float:
    """Make all `runs`, so many at once; return what a bare client reaches, in calls a second."""

    async def work(left: Iterator[Run], root: str) -> None:
        for run in left:
            await make(root, run)

    async def all_of(root: str) -> None:
        left = iter(runs)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(clients, len(runs))):
                group.create_task(work(left, root))

    with serving(rate, runs) as root:
        reached = asyncio.run(bare(root, min(BARE, sum(run.jobs for run in runs))))
        asyncio.run(all_of(root))
    return reached


def jobs_of(rate: Rate, jobs: int | None) -> int:
    """How many calls each run makes."""
    return jobs or int(WINDOWS * rate.limit)
