"""A limit that is told as it is enforced, over real HTTP: what is refused and what is left unused.

A server in a process of its own enforces a limit by one of four algorithms. An httpx client over
``headway.httpx.AsyncTransport``, whose Scheduler was told that limit, makes as many calls as four
and a half windows serve: evenly paced, and ``eager``, where each answer says what remains, in
OpenAI's names or the IETF's. Beside the bucket of a whole window's burst stands one of a quarter.
Exits with 1, and says which, where a target is missed.

Paced evenly, the ideal makespan is ``(jobs - 1) / rate``. Eager clients are compared to a greedy
one that sees through the server, takes at once all that it lets pass and that no window of what
was told forbids, and is no faster than a bare client was here. Windows by the clock are entered at
three phases, which take turns in the mean.

    python benchmarks/told_right.py [--rate 100/2s] [--jobs 450] [--server "token bucket"]
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial
from statistics import fmean

from _table import environment, table, targets
from _told import (
    CONCURRENCY,
    PHASES,
    arguments,
    jobs_of,
    measure,
    runs_of,
    server_of,
    side_by_side,
    soonest,
)

from headway import Rate, Scheduler
from headway.testing.algorithms import SlidingLog

EVENLY = 0.88  # of the ideal
EAGERLY = 0.96  # of the greedy ideal
HEADERS = ("openai", "ietf")


def main(arguments_: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A limit that is told as it is, over HTTP.")
    arguments(parser)
    options = parser.parse_args(arguments_)

    print(environment("headway", "httpx", "aiohttp"))
    print(f"concurrency {CONCURRENCY}\n")
    checks: list[tuple[str, float, float]] = []
    for text in options.rate or ["100/2s"]:
        rate = Rate.parse(text)
        jobs = jobs_of(rate, options.jobs)
        evenly = partial(Scheduler, rate, concurrency=CONCURRENCY)
        paced = runs_of(options.server, "no hint", evenly, jobs)
        measure(rate, paced, side_by_side(rate))
        eager = []
        for says in HEADERS:
            eager += runs_of(options.server, says, partial(evenly, eager=True), jobs)
        # What one sends at once holds up the others.
        reached = measure(rate, eager, max(1, int(CONCURRENCY // rate.limit)))
        ideal = (jobs - 1) * rate.per / rate.limit
        rows = []
        for name in options.server or PHASES:
            servers = [server_of(name, rate, phase, 0.0) for phase in PHASES[name]]
            told = [SlidingLog(rate.limit, rate.per) for _ in servers]
            best = fmean(
                soonest(jobs, 1 / reached, *both) for both in zip(servers, told, strict=True)
            )
            for says in ("no hint", *HEADERS):
                these = [run for run in paced + eager if (run.server, run.says) == (name, says)]
                seconds = fmean(run.seconds for run in these)
                refused, lost = sum(run.refused for run in these), sum(run.lost for run in these)
                how = "evenly" if says == "no hint" else f"eager, {says}"
                rows.append(
                    [f"{name}, {how}", str(refused), str(lost), f"{seconds:.2f}",
                     f"{ideal / seconds:.1%}", f"{best / seconds:.1%}"]
                )  # fmt: skip
                what = f"{text}, {name}, {how}"
                checks.append((f"refused, {what}", refused, 0))
                checks.append((f"jobs lost, {what}", lost, 0))
                if says == "no hint":
                    checks.append((f"makespan to the ideal, {what}", seconds / ideal, 1 / EVENLY))
                else:
                    checks.append(
                        (f"makespan to the greedy ideal, {what}", seconds / best, 1 / EAGERLY)
                    )
        headings = ["server", "refused", "lost", "seconds", "of the ideal", "of the greedy ideal"]
        print(table(f"{text} told, {jobs:,} jobs: ideal {ideal:.2f} s", headings, rows))
        print(f"A bare client made {reached:,.0f} calls a second.\n", flush=True)
    text, met = targets(checks)
    print(text)
    return not met and not options.no_check


if __name__ == "__main__":
    logging.getLogger("headway").setLevel(logging.ERROR)
    sys.exit(main())
