"""Tokens by class, on a virtual clock: what is reached of the class that binds, where calls reserve
more than they use and what they use drifts, and the most that any window of a minute holds.

A server counts what is used when a call comes, or when it has ended. Each row is run twice:
where reservations in flight count as what is expected of them, and where they count in full.

    python benchmarks/classes.py [--sends 20000] [--seeds 1]
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from _table import environment, table, targets

from headway import Cost, Limits, Retry
from headway._core.queue.job import Job
from headway._core.state import SchedulerState
from headway.rates import Enforcement

PERIOD = 300.0  # seconds of a sine

DRIFTS: dict[str, Callable[[float, float], float]] = {  # between -1 and 1, of seconds and the half
    "still": lambda now, half: 0.0,
    "slow": lambda now, half: min(1.0, now / half - 1.0),
    "sine": lambda now, half: math.sin(2 * math.pi * now / PERIOD),
    "step": lambda now, half: -1.0 if now < half else 1.0,
}


@dataclass(frozen=True, slots=True)
class Case:
    """Calls of `seconds` on average, `a_minute` of which a minute's limit holds.

    They reserve all of their prompt, of which the cache holds half, give or take `swing`; or so
    many `times` what their answers take on average, of lengths that are exponential (half to three
    halves of the average, where not `varied`).
    """

    name: str
    drift: str
    seconds: float
    a_minute: int
    swing: float = 0.2
    times: float = 0.0
    varied: bool = True
    least: float = 0.0  # of the limit that has to be reached
    safe: bool = True  # whether no window may be exceeded, as calls come

    def draw(self, random: Random, drift: float) -> tuple[Cost, Cost]:
        """What a call reserves, and what it uses."""
        if not self.times:
            prompt = random.uniform(1_000, 3_000)
            cached = 0.5 - self.swing * drift + random.uniform(-0.05, 0.05)
            used = Cost(input=prompt * (1 - cached), cached=prompt * cached, output=1)
            return Cost(input=prompt, output=1), used
        mean = 1_000 * (1 + self.swing * drift)
        answer = random.expovariate(1 / mean) if self.varied else mean * random.uniform(0.5, 1.5)
        most = 1_000 * self.times
        return Cost(input=1, output=most), Cost(input=1, output=min(most, answer))


PROMPTS, EVEN, VARIED = "cached 30 to 70%", "even answers", "varied answers"
CASES = (
    Case(PROMPTS, "still", 5.0, 400, least=0.97),
    Case(PROMPTS, "slow", 5.0, 400, least=0.97),
    Case(PROMPTS, "sine", 5.0, 400, least=0.97),
    Case(PROMPTS, "step", 5.0, 400, safe=False),
    Case(PROMPTS, "sine", 0.5, 400, least=0.97),
    Case(PROMPTS, "sine", 30.0, 400),
    *(Case(EVEN, "sine", 5.0, 400, times=times, varied=False) for times in (2.0, 4.0, 8.0)),
    Case(VARIED, "still", 5.0, 100, times=4.0),
    Case(VARIED, "still", 5.0, 2_000, times=4.0),
    Case(VARIED, "sine", 5.0, 2_000, times=4.0),
)


@dataclass(slots=True)
class Log:
    """What a server counts: tokens in any minute."""

    worst: float = 0.0
    held: float = 0.0
    window: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, tokens: float, now: float) -> None:
        """So many are used."""
        self.window.append((now, tokens))
        self.held += tokens
        while self.window[0][0] <= now - 60.0:
            self.held -= self.window.popleft()[1]
        self.worst = max(self.worst, self.held)


def run(case: Case, sends: int, seed: int, *, reserves: bool) -> tuple[float, float, float]:
    """The shares of the limit that full minutes used on average, from the third on, and that the
    worst window held, by what came and by what ended.
    """
    random = Random(seed)
    limit = 1_000.0 * case.a_minute
    ample = f"{100 * limit}/min"
    limits = Limits(input_tokens=f"{limit}/min", output_tokens=ample)
    if case.times:
        limits = Limits(input_tokens=ample, output_tokens=f"{limit}/min")
    state = SchedulerState(limits, now=0.0, retry=Retry())
    flow = state.flow(None)
    state.enforce(Enforcement(cached=0.0, reserves=reserves), flow, 0.0)
    came, ended = Log(), Log()
    minutes: defaultdict[float, float] = defaultdict(float)
    half = 30.0 * sends / case.a_minute
    running: list[tuple[float, int, Job, Cost]] = []
    order, now, started = count(), 0.0, 0

    def tokens(used: Cost) -> float:
        return used.output if case.times else used.input

    def start(job: Job) -> None:
        used: Cost = job.waiter
        came.add(tokens(used), now)
        minutes[now // 60] += tokens(used)
        takes = case.seconds * random.lognormvariate(-0.125, 0.5)
        heapq.heappush(running, (now + takes, next(order), job, used))

    while started < sends:
        drift = DRIFTS[case.drift](now, half)
        while state.waiting.size < 2:
            reserved, used = case.draw(random, drift)
            job = Job(flow, 0, reserved)
            job.waiter = used
            started += 1
            if state.submit(job, now):
                start(job)
        changed, wake_at = state.poll(now)
        for job in changed:
            start(job)
        now = max(now, min(wake_at, running[0][0] if running else math.inf))
        while running and running[0][0] <= now:
            _, _, job, used = heapq.heappop(running)
            ended.add(tokens(used), now)
            state.finish(job, used, now)
    full = [used for _, used in sorted(minutes.items())][2:-1] or [0.0]
    return sum(full) / len(full) / limit, came.worst / limit, ended.worst / limit


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sends", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--no-check", action="store_true", help="print, and hold to no target")
    options = parser.parse_args(arguments)

    print(environment("headway"), "\n")
    rows: list[list[str]] = []
    checks: list[tuple[str, float, float]] = []
    for case in CASES:
        cells = []
        for reserves in (True, False):
            runs = [
                run(case, options.sends, seed, reserves=reserves) for seed in range(options.seeds)
            ]
            reached = sum(each[0] for each in runs) / len(runs)
            worst, late = max(each[1] for each in runs), max(each[2] for each in runs)
            cells += [f"{reached:.1%}", f"{worst:.1%}", f"{late:.1%}"]
        what = [case.name, case.drift, f"{case.seconds:g} s", f"{case.a_minute:,}"]
        what.append(f"{case.times:g} times" if case.times else "the prompt")
        rows.append([*what, *cells])
        name = ", ".join(what[:4])
        if case.safe:
            checks.append((f"the worst window, {name}", worst, 1.0))
        if case.least:
            checks.append((f"unused, {name}", 1.0 - reached, 1.0 - case.least))
    head = ("reached", "worst as calls come", "as they end")
    columns = [
        "",
        "drift",
        "calls of",
        "a minute",
        "reserve",
        *(f"in full: {each}" for each in head),
        *head,
    ]
    print(table("The class of tokens that binds", columns, rows))
    text, met = targets(checks)
    print(text)
    return 0 if met or options.no_check else 1


if __name__ == "__main__":
    sys.exit(main())
