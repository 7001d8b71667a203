"""A limit that is told twice too high: nothing is lost, and few are refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio
import httpx
import pytest
from depth import depth

import headway.httpx
from headway import Scheduler
from headway.testing.algorithms import (
    Algorithm,
    FixedWindow,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
)

pytestmark = pytest.mark.anyio

MOST_REFUSED = 40

SERVERS: dict[str, Callable[[float, float, float], Algorithm]] = {
    "fixed window": FixedWindow,
    "sliding log": lambda limit, window, phase: SlidingLog(limit, window),
    "sliding counter": SlidingCounter,
    "token bucket": lambda limit, window, phase: TokenBucket(limit, limit / window),
}


CASES = [
    (100, 2.0, True, depth(220, 400)),
    (100, 2.0, False, depth(220, 400)),
    (240, 24.0, True, 400),
]
# Each server, and each case: all of them together in the deep run.
BOTH = [
    (name, *CASES[(number + more) % len(CASES)])
    for number, name in enumerate(SERVERS)
    for more in range(depth(1, len(CASES)))
]


@pytest.mark.parametrize(("name", "limit", "window", "hint", "jobs"), BOTH)
async def test_nothing_is_lost_and_few_are_refused(
    name: str, limit: float, window: float, hint: bool, jobs: int
) -> None:
    server = SERVERS[name](limit, window, 0.317 * window)
    served = refused = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal served, refused
        await anyio.sleep(0.005)
        if server.admit(anyio.current_time()):
            served += 1
            await anyio.sleep(0.005)
            return httpx.Response(200)
        refused += 1
        # The end of a window by the clock; others would let one pass sooner, and say as little.
        wait = math.ceil(window - (anyio.current_time() - 0.317 * window) % window)
        return httpx.Response(429, headers={"retry-after": str(wait)} if hint else {})

    scheduler = Scheduler(f"{2 * limit}/{window:g}s", concurrency=32)
    transport = headway.httpx.AsyncTransport(scheduler, httpx.MockTransport(answer))
    statuses: list[int] = []
    async with httpx.AsyncClient(transport=transport) as client:

        async def call() -> None:
            statuses.append((await client.get("http://server/")).status_code)

        async with anyio.create_task_group() as group:
            for _ in range(jobs):
                group.start_soon(call)
    assert statuses == [200] * jobs
    assert served == jobs
    # A bucket of 24 seconds' calls outlasts the run.
    assert bool(refused) is not (name == "token bucket" and window == 24)
    assert refused <= MOST_REFUSED
    statistics = scheduler.statistics()
    assert statistics.sent == jobs + refused
    assert sum(statistics.refused.values()) == refused
    assert (statistics.queued, statistics.in_flight) == (0, 0)
