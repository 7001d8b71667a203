"""A limit that is told twice too high, over real HTTP: what is lost, refused and wasted.

A server in a process of its own enforces a limit by one of four algorithms, and refuses with 429
and a `Retry-After` in whole seconds (rounded up), or without one. An httpx client over
``headway.httpx.AsyncTransport``, whose Scheduler was told twice that limit, makes as many calls as
four and a half windows serve. Beside the bucket of a whole window's burst stands one of a quarter.
Exits with 1, and says which, where a target is missed.

The ideal makespan is ``(jobs - 1) / rate``: that of a client that knows the rate and spends it
evenly. Shown beside it is the soonest that any client could be done: one that sees through the
server and takes at once all that its algorithm lets pass at once. Windows by the clock are entered
at three phases, which take turns in the mean.

    python benchmarks/told_wrong.py [--rate 100/2s] [--jobs 450] [--server "token bucket"]
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

MOST_REFUSED = 15  # of 1,000 jobs, in the mean of the phases
LEAST_SHARE = 0.92  # of the ideal, in the mean of each algorithm
CHECKED_FROM = 2.0  # seconds: to wait for a whole second is to lose a whole window of one second
TOLD = 2.0  # times the limit that is enforced
HINTS = ("hint", "no hint")


def main(arguments_: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A limit that is told twice too high, over HTTP.")
    arguments(parser)
    options = parser.parse_args(arguments_)

    print(environment("headway", "httpx", "aiohttp"))
    print(f"concurrency {CONCURRENCY}, told {TOLD:g} times the limit\n")
    checks: list[tuple[str, float, float]] = []
    for text in options.rate or ["100/2s"]:
        rate = Rate.parse(text)
        jobs = jobs_of(rate, options.jobs)
        told = Rate(rate.limit * TOLD, per=rate.per)
        scheduler = partial(Scheduler, told, concurrency=CONCURRENCY)
        runs = [run for says in HINTS for run in runs_of(options.server, says, scheduler, jobs)]
        reached = measure(rate, runs, side_by_side(rate))
        ideal = (jobs - 1) * rate.per / rate.limit
        rows = []
        for name in options.server or PHASES:
            best = fmean(
                soonest(jobs, 1 / reached, server_of(name, rate, phase, 0.0))
                for phase in PHASES[name]
            )
            makespans = []
            for hint in HINTS:
                these = [run for run in runs if (run.server, run.says) == (name, hint)]
                seconds = [run.seconds for run in these]
                refused = fmean(run.refused for run in these) * 1000 / jobs
                lost = sum(run.lost for run in these)
                rows.append(
                    [f"{name}, {hint}", f"{refused:.0f}", str(lost), f"{fmean(seconds):.2f}",
                     f"{ideal / fmean(seconds):.1%}", f"{ideal / max(seconds):.1%}",
                     f"{best / fmean(seconds):.1%}"]
                )  # fmt: skip
                what = f"{text}, {name}, {hint}"
                checks.append((f"jobs lost, {what}", lost, 0))
                checks.append((f"429s in 1,000 jobs, {what}", refused, MOST_REFUSED))
                makespans.append(fmean(seconds) / ideal)
            if rate.per >= CHECKED_FROM:
                what = f"makespan to the ideal, {text}, {name}"
                checks.append((what, fmean(makespans), 1 / LEAST_SHARE))
        headings = ["server", "429s in 1,000", "lost", "seconds", "of the ideal", "at the worst",
                    "of the soonest"]  # fmt: skip
        title = f"{text} enforced, {TOLD:g} times that told, {jobs:,} jobs: ideal {ideal:.2f} s"
        print(table(title, headings, rows))
        print(f"A bare client made {reached:,.0f} calls a second.\n", flush=True)
    text, met = targets(checks)
    print(text)
    return not met and not options.no_check


if __name__ == "__main__":
    logging.getLogger("headway").setLevel(logging.ERROR)  # refusals are what is asked for here
    sys.exit(main())
