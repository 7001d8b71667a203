"""Control on a virtual clock: servers whose limits nobody states, or only their headers do.

Each run is an hour, measured after the first quarter, with lognormal latency (sigma 1.2) and one
backlogged client. A: 10/s; B: 40 in flight; C: 10/s, then 4/s, then 10/s; D: both limits, untyped
refusals, and a median of 1 s and 5 s in turn. Exits with 1, and says which, where a target is
missed.

    python benchmarks/control.py [--hours 1] [--seeds 5]
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
import sys
from statistics import fmean

from _table import environment, table

from headway._core.job import Job
from headway._core.retry import Retry
from headway._core.state import SchedulerState
from headway.events import Kind
from headway.hints import Refusal
from headway.rates import Limits

_BACKLOG = 300
_SLOTS = 40
_SIGMA = 1.2
_REFUSED_AFTER = 0.1

# Server, headers: goodput a second (least), refusals a success (most; None: one for each fall).
TARGETS: dict[tuple[str, bool], tuple[float, float | None]] = {
    ("A", False): (9.7, 0.005),
    ("B", False): (3.55, 0.015),
    ("C", False): (7.0, 0.008),
    ("D", False): (0.0, math.inf),  # 90% of what perfect knowledge reaches: computed
    ("A", True): (9.85, None),
    ("C", True): (7.2, None),
}


class Server:
    """A bucket of ten for requests, slots, or both; accepts an attempt, or says what refuses it."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self._seconds = seconds
        self._next = 0.0
        self.in_flight = 0

    def rate(self, now: float) -> float:
        low = self.name == "C" and self._seconds / 3 <= now < self._seconds * 2 / 3
        return 4.0 if low else 10.0

    def median(self, now: float) -> float:
        return 1.0 if self.name == "D" and int(now // 600) % 2 == 0 else 5.0

    def ideal(self, now: float) -> float:
        slots = _SLOTS / (self.median(now) * math.exp(_SIGMA**2 / 2))
        rate = {"A": 10.0, "B": math.inf}.get(self.name, self.rate(now))
        return min(rate, slots if self.name in "BD" else math.inf)

    def refuses(self, now: float) -> Kind | None:
        if self.name in "BD" and self.in_flight >= _SLOTS:
            return Kind.CONCURRENCY
        if self.name != "B":
            interval = 1 / self.rate(now)
            if now < self._next - 9 * interval - 1e-9:
                return Kind.RATE
            self._next = max(self._next, now) + interval
        self.in_flight += 1
        return None


def run(name: str, headers: bool, seed: int, seconds: float) -> tuple[float, float, float]:
    """Goodput a second, refusals in all, and the ideal goodput."""
    rng = random.Random(seed)
    server = Server(name, seconds)
    state = SchedulerState(Limits(), now=0.0, retry=Retry(patience=1e9))
    state.whole.search()
    flow = state.flow(None)
    ends: list[tuple[float, int, Kind | None, Job]] = []
    numbers = itertools.count()
    now, first = 0.0, seconds / 4
    succeeded = refused = 0

    def start(job: Job) -> None:
        kind = server.refuses(now)
        takes = _REFUSED_AFTER
        if kind is None:
            takes = server.median(now) * math.exp(_SIGMA * rng.gauss(0, 1))
        heapq.heappush(ends, (now + takes, next(numbers), kind, job))

    while now < seconds:
        changed, wake_at = state.poll(now)
        for job in changed:
            start(job)
        while state.waiting.size < _BACKLOG:
            job = Job(flow)
            if state.submit(job, now):
                start(job)
        state.events.clear()
        now = max(now, min(wake_at, ends[0][0] if ends else math.inf))
        while ends and ends[0][0] <= now:
            _, _, kind, job = heapq.heappop(ends)
            if headers:
                state.whole.follow_requests(server.rate(now), now)
            if kind is None:
                server.in_flight -= 1
                state.finish(job, None, now)
                succeeded += now >= first
            else:
                seen = Kind.RATE if name == "D" else kind
                refusal = Refusal(seen, None, 429, "", typed=name != "D")
                state.defer(job, refusal, now, rng.random())
                refused += now >= first
    span = range(int(first), int(seconds))
    return succeeded / (seconds - first), refused, fmean(server.ideal(at) for at in span)


def main() -> int:
    parser = argparse.ArgumentParser(description="Control where the limit is unknown or moves.")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--no-check", action="store_true", help="exit with 0 whatever is missed")
    options = parser.parse_args()
    rows, missed = [], []
    for (name, headers), (least, most) in TARGETS.items():
        runs = [run(name, headers, seed, 3600 * options.hours) for seed in range(options.seeds)]
        goodput = fmean(one[0] for one in runs)
        ideal = runs[0][2]
        successes = goodput * 2700 * options.hours
        refusals = fmean(one[1] for one in runs)
        least = least or 0.9 * ideal
        title = f"{name}{', headers' if headers else ''}"
        rows.append(
            [title, f"{goodput:.2f}", f"{goodput / ideal:.1%}", f"{refusals / successes:.4f}",
             f"{max(one[1] for one in runs)}"]
        )  # fmt: skip
        if goodput < least:
            missed.append(f"{title}: {goodput:.2f}/s, at least {least:.2f}")
        if most is None and max(one[1] for one in runs) > (name == "C"):
            missed.append(f"{title}: {max(one[1] for one in runs)} refusals, one for each fall")
        if most is not None and refusals / successes > most:
            missed.append(f"{title}: {refusals / successes:.4f} refusals a success, at most {most}")
    print(environment(), end="\n\n")
    headings = ["server", "goodput/s", "of the ideal", "429s a success", "most 429s"]
    print(table("headway, nothing stated", headings, rows))
    for miss in missed:
        print(f"- MISSED: {miss}")
    print("all reached" if not missed else f"{len(missed)} missed")
    return bool(missed) and not options.no_check


if __name__ == "__main__":
    sys.exit(main())
