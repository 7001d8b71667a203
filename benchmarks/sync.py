"""What a call from a thread costs, and one scheduler under threads, loops and an SDK at once.

The first table: no-op calls from threads, through a pool with a semaphore, and through
`headway.sync`. The median over the rounds of the process's CPU time (user and system) a call.

The second: eight threads with an httpx client, two event loops with an async one each, and OpenAI's
sync SDK, all under one scheduler at 600/min, against a server in another process that counts 600
in any minute, for `--seconds`.

    python benchmarks/sync.py [--calls 6400] [--rounds 7] [--seconds 60] [--no-check]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median

import httpx
import httpx2
import openai
from _sync_server import LIMIT, PER, serve
from _table import environment, table, targets

import headway.httpx
import headway.httpx2
from headway.sync import Scheduler
from headway.testing.arrivals import worst_window

MOST = 60.0  # microseconds a call beyond the pool
LEAST = 0.97  # of the limit

SHAPES = [(1, 64), (64, 64), (64, 8)]  # threads, concurrency

Call = Callable[[int], int]


def noop(n: int) -> int:
    """Return at once."""
    return n


# What a call costs


def in_threads(call: Call, threads: int, calls: int) -> float:
    """Microseconds of CPU for each of `calls` from so many threads."""
    share = range(calls // threads)
    with ThreadPoolExecutor(threads) as pool:
        began = time.process_time()
        for job in [pool.submit(lambda: [call(n) for n in share]) for _ in range(threads)]:
            job.result()
        return (time.process_time() - began) * 1e6 / (len(share) * threads)


def over_items(run: Callable[[Call, range], Iterator[int]], call: Call, calls: int) -> float:
    """Microseconds of CPU for each item of a map."""
    began = time.process_time()
    deque(run(call, range(calls)), maxlen=0)
    return (time.process_time() - began) * 1e6 / calls


def costs(calls: int, rounds: int) -> tuple[list[list[str]], list[tuple[str, float, float]]]:
    """The rows of the first table, and what must hold of it."""
    rows, checks = [], []
    for threads, concurrency in SHAPES:
        slots = threading.Semaphore(concurrency)

        def held(n: int, slots: threading.Semaphore = slots) -> int:
            with slots:
                return noop(n)

        with Scheduler(concurrency=concurrency) as scheduler:
            plain: dict[str, list[float]] = {"submit": [], "map": []}
            ours: dict[str, list[float]] = {"submit": [], "map": []}

            def scheduled(n: int, scheduler: Scheduler = scheduler) -> int:
                return scheduler.submit(noop, n)

            for _ in range(rounds):
                plain["submit"].append(in_threads(held, threads, calls))
                ours["submit"].append(in_threads(scheduled, threads, calls))
                with ThreadPoolExecutor(concurrency) as pool:
                    plain["map"].append(over_items(pool.map, held, calls))
                ours["map"].append(over_items(scheduler.map, noop, calls))
        for name in ("submit", "map"):
            added = median(a - b for a, b in zip(ours[name], plain[name], strict=True))
            who = f"{name}, {threads} threads" if name == "submit" else name
            what = f"{who}, concurrency {concurrency}"
            one, other = median(plain[name]), median(ours[name])
            rows.append([what, f"{one:.1f}", f"{other:.1f}", f"{added:.1f}", f"{other / one:.1f}"])
            checks.append((f"{what}, µs beyond the pool", added, MOST))
    return rows, checks


# All at once


def together(seconds: float) -> tuple[list[list[str]], list[tuple[str, float, float]]]:
    """The rows of the second table, and what must hold of it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    scheduler = Scheduler(f"{LIMIT}/min", concurrency=32)
    end = time.monotonic() + seconds
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "why is the sky blue?"}]}
    counts: dict[str, int] = dict.fromkeys(("threads", "loops", "OpenAI's SDK"), 0)

    def in_thread(client: httpx.Client) -> None:
        while time.monotonic() < end:
            client.post(f"{url}/chat/completions", json=body)
            counts["threads"] += 1

    async def on_loop() -> None:
        async def ask(client: httpx.AsyncClient) -> None:
            while time.monotonic() < end:
                await client.post(f"{url}/chat/completions", json=body)
                counts["loops"] += 1

        async with headway.httpx.client(scheduler) as client:
            await asyncio.gather(*(ask(client) for _ in range(4)))

    def in_sdk(client: httpx2.Client) -> None:
        sdk = openai.OpenAI(api_key="k", base_url=url, http_client=client, max_retries=0)
        while time.monotonic() < end:
            sdk.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "why is the sky blue?"}]
            )
            counts["OpenAI's SDK"] += 1

    with (
        scheduler,
        headway.httpx.sync_client(scheduler) as client,
        headway.httpx2.sync_client(scheduler) as client2,
        ThreadPoolExecutor(16) as pool,
    ):
        jobs = [pool.submit(in_thread, client) for _ in range(8)]
        jobs += [pool.submit(lambda: asyncio.run(on_loop())) for _ in range(2)]
        jobs.append(pool.submit(in_sdk, client2))
        for job in jobs:
            job.result()
    ours.send(None)
    times, refused = ours.recv()
    server.join()
    most_in = partial(worst_window, [(moment, 1.0) for moment in times])
    reached = (len(times) - 1) / (times[-1] - times[0]) * PER / LIMIT
    rows = [
        ["accepted, refused", f"{len(times)}, {refused}"],
        ["of the limit", f"{reached:.2%}"],
        ["most in a second, in a minute", f"{most_in(1):g}, {most_in(PER):g}"],
        *([f"by {who}", str(count)] for who, count in counts.items()),
    ]
    return rows, [("refused", refused, 0), ("of the limit that is left", 1 - reached, 1 - LEAST)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=6_400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--no-check", action="store_true")
    options = parser.parse_args(argv)
    print(environment("headway", "httpx", "httpx2", "openai"), end="\n\n")
    rows, checks = costs(options.calls, options.rounds)
    headers = ["µs of CPU a call", "pool and semaphore", "headway.sync", "added", "times"]
    print(table("A call from a thread", headers, rows))
    rows, more = together(options.seconds)
    print(table(f"Eight threads, two loops and an SDK at {LIMIT}/min", ["", ""], rows))
    lines, met = targets([*checks, *more])
    print(lines)
    return not (met or options.no_check)


if __name__ == "__main__":
    sys.exit(main())
