"""Eagerness: what a server says remains is spent at once, and no window is ever exceeded."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from random import Random

import httpx
import pytest
from anyio import current_time, sleep

import headway.httpx
from headway import Rate, Scheduler
from headway._core.limits.eager import Eager
from headway._core.limits.pace import Pace
from headway.hints import LimitHint
from headway.rates import LATENESS

LIMIT, WINDOW = 100, 2.0
JOBS = 250
Decide = Callable[[float], tuple[bool, float, float]]  # accepted, remaining, reset


def fixed() -> Decide:
    window, held = -1, 0

    def decide(now: float) -> tuple[bool, float, float]:
        nonlocal window, held
        if int(now // WINDOW) != window:
            window, held = int(now // WINDOW), 0
        held += held < LIMIT + 1
        return held <= LIMIT, LIMIT - held, WINDOW - now % WINDOW

    return decide


def log() -> Decide:
    kept: deque[float] = deque()

    def decide(now: float) -> tuple[bool, float, float]:
        while kept and kept[0] <= now - WINDOW:
            kept.popleft()
        if len(kept) >= LIMIT:
            return False, 0, kept[0] + WINDOW - now
        kept.append(now)
        return True, LIMIT - len(kept), kept[0] + WINDOW - now

    return decide


def counter() -> Decide:
    window = before = held = 0

    def decide(now: float) -> tuple[bool, float, float]:
        nonlocal window, before, held
        if (at := int(now // WINDOW)) != window:
            window, before, held = at, held if at == window + 1 else 0, 0
        estimate = int(before * (1 - now % WINDOW / WINDOW)) + held
        if estimate >= LIMIT:
            return False, 0, WINDOW - now % WINDOW
        held += 1
        return True, LIMIT - estimate - 1, WINDOW - now % WINDOW

    return decide


def bucket() -> Decide:
    size, interval, full_at = LIMIT // 4, WINDOW / LIMIT, 0.0

    def decide(now: float) -> tuple[bool, float, float]:
        nonlocal full_at
        if now < full_at - (size - 1) * interval - 1e-9:
            return False, 0, full_at - (size - 1) * interval - now
        full_at = max(full_at, now) + interval
        return True, math.floor(size - (full_at - now) / interval), full_at - now

    return decide


class Server(httpx.AsyncBaseTransport):
    """5 ms away, give or take a half; answers in 20 ms, and says what remains. One that is near
    answers in 3 ms, less than what overtakes is thought to need.
    """

    def __init__(self, decide: Decide, form: str, near: bool) -> None:
        self.decide, self.form, self.near = decide, form, near
        self.refused = 0
        self.random = Random(1)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await sleep(self.random.uniform(0.5, 1.5) * (0.0015 if self.near else 0.005))
        accepted, remaining, reset = self.decide(current_time())
        if self.form == "ietf":
            headers = {
                "ratelimit-policy": f'"default";q={LIMIT};w={WINDOW:g}',
                "ratelimit": f'"default";r={max(0, remaining):g};t={math.ceil(reset)}',
            }
        else:
            headers = {
                "x-ratelimit-limit-requests": str(LIMIT),
                "x-ratelimit-remaining-requests": f"{max(0, remaining):g}",
                "x-ratelimit-reset-requests": f"{reset * 1e3:.0f}ms",
            }
        self.refused += not accepted
        await sleep(0.0015 if self.near else 0.02)
        return httpx.Response(200 if accepted else 429, headers=headers)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("form", "near"),
    [("ietf", False), ("openai", False), ("openai", True)],
    ids=["ietf", "openai", "openai, near"],
)
@pytest.mark.parametrize(
    ("algorithm", "ideal"),
    [
        (fixed, 4.0),
        (log, 4.0),
        (counter, 5.0),  # after the first hundred it lets 50 a second through
        (bucket, (JOBS - LIMIT / 4) * WINDOW / LIMIT),
    ],
    ids=["fixed window", "sliding log", "sliding counter", "bucket of a quarter"],
)
async def test_a_short_run_takes_what_the_server_says_remains(
    algorithm: Callable[[], Decide], ideal: float, form: str, near: bool
) -> None:
    await sleep(WINDOW - current_time() % WINDOW)  # the beginning of a window
    server = Server(algorithm(), form, near)
    slots = 32 if near else None
    scheduler = Scheduler(Rate(LIMIT, per=WINDOW), concurrency=slots, eager=True)
    transport = headway.httpx.AsyncTransport(scheduler, server)

    async def ask(_: int) -> None:  # without the client, which takes longer than all else
        response = await transport.handle_async_request(httpx.Request("GET", "https://x.example/"))
        await response.aread()
        await response.aclose()

    began = current_time()
    await scheduler.map(ask, range(JOBS))
    assert server.refused == 0
    assert current_time() - began < ideal / 0.95 + 0.05  # and a round trip


def hint(remaining: float, reset: float | None = None) -> LimitHint:
    return LimitHint("requests", 100, remaining, reset, 2.0)


def test_what_was_sent_since_is_not_there_any_more() -> None:
    eager = Eager()
    for send in (0.0, 1.0, 1.1, 1.2):
        eager.started([], send)
    assert eager.left(hint(50), 1.0, 1.3) == 48  # two were sent later
    assert eager.left(hint(50), 1.2, 1.3) == 50
    assert eager.credit(eager.left(hint(1), 0.0, 1.3), [], 1.3) == 0
    assert not eager.is_newest(1.1)
    assert eager.is_newest(1.2)


def test_what_was_answered_has_been_counted() -> None:
    """However little time lies between, only those in flight may still come to it."""
    eager = Eager()
    for send in (0.0, 0.001, 0.002):
        eager.started([], send)
    for sent_at, remaining, left in ((0.0, 99, 97), (0.001, 98, 97), (0.002, 97, 97)):
        assert eager.left(hint(remaining), sent_at, 0.003) == left
        eager.ended()
    for send in (0.004, 0.005):
        eager.started([], send)
    eager.heard(hint(95), 0.006)  # of the first, which the second overtook: it is not followed
    eager.ended()
    eager.shift(100.0)
    assert eager.left(hint(96), 100.005, 100.007) == 95


def test_no_window_of_the_stated_rates_holds_more() -> None:
    eager = Eager()
    for _ in range(6):
        eager.started([], 0.0)
    rates = [Rate(100, per=60), Rate(10, per=1)]
    assert eager.credit(90, rates, 0.5) == 4
    assert eager.credit(90, rates, 1.1) == 10  # all of it again
    for _ in range(4):
        eager.started([], 0.5)
    assert eager.clears_at(rates[1], 0.6) == pytest.approx(1.03)
    assert eager.clears_at(rates[1], 1.1) is None
    eager.shift(100.0)
    assert eager.clears_at(rates[1], 100.6) == pytest.approx(101.03)


def test_memory_is_bounded() -> None:
    eager = Eager()
    for n in range(100_000):
        eager.started([], n / 100)
    assert len(eager._sends) < 20_000


def test_what_is_sent_late_is_in_the_window_from_then_on() -> None:
    eager, pace = Eager(), Pace(Rate(2, per=1.0, jitter=0.0))
    eager.started([pace], 0.0)
    eager.started([pace], 0.1)
    assert eager.clears_at(pace.rate, 0.2) == pytest.approx(1.0 + LATENESS)
    eager.sent_late(0.0, 0.4)
    assert eager.clears_at(pace.rate, 0.4) == pytest.approx(1.1 + LATENESS)
    assert not eager.is_newest(0.3)
