"""Known limits on simulated servers: what they refuse, and how much of the limit is used.

The pure core on virtual time: a dense backlog, timers late by up to 10 ms, requests that overtake
one another by up to the jitter of the rate. Exits with 1, and says which, where a target is missed.

    python benchmarks/no_refusals.py [--sends 20000] [--seed 1]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from simulate import Load, faults, promised, simulate

from headway import Limits, Rate

SLACK = 0.002  # what a run may fall short of the promised share
SERVERS = (
    "fixed window", "sliding log", "sliding counter", "token bucket, C = L", "token bucket, C = 2",
)  # fmt: skip


def tokens(most: int, reserve: float = 1.0) -> Callable[[Random], tuple[float, float]]:
    """Attempts that use up to `most` tokens and reserve `reserve` times as many."""

    def draw(random: Random) -> tuple[float, float]:
        cost = random.randint(1, most)
        return reserve * cost, cost

    return draw


@dataclass
class Case:
    """One run: the rate that is looked at, and the share of it that has to be reached."""

    what: str
    rate: Rate
    limits: Limits
    load: Load
    target: float
    of_tokens: bool = False
    keys: Mapping[Hashable, Limits] | None = None


def cases() -> list[Case]:
    """Requests alone, requests with everything else mixed in, tokens."""
    found = []
    for text in ("1/s", "10/s", "30/s", "100/s", "1000/s", "10/2s", "60/min", "600/min"):
        rate = Rate.parse(text)
        load = Load(jitter=rate.delay_bound)
        target = promised(rate) - SLACK
        found.append(Case(f"{text}, alone", rate, Limits(rate), load, target))
    for text in ("10/s", "1000/s", "10/2s", "600/min"):
        rate = Rate.parse(text)
        a_second = rate.limit / rate.per
        load = Load(
            keys=("a", "b", "c", "d"),
            priorities=(0, 0, 0, 5, -1),
            tokens=tokens(100),
            cancel_queued=0.02,
            cancel_started=0.02,
            unsend=0.002,
            jitter=rate.delay_bound,
        )
        keys = {"a": Limits(Rate(rate.limit // 5, per=rate.per)), "b": Limits(concurrency=3)}
        limits = Limits(rate, tokens=Rate(6_000 * a_second, per=60), concurrency=10_000)
        target = promised(rate) - SLACK
        found.append(Case(f"{text}, all mixed in", rate, limits, load, target, keys=keys))
    for text in ("100k/s", "100k/2s", "180k/min"):
        rate = Rate.parse(text)
        load = Load(tokens=tokens(int(rate.limit / 100)), jitter=rate.delay_bound)
        found.append(Case(f"{text} tokens, exact", rate, Limits(tokens=rate), load, 0.97, True))
    double = Load(tokens=tokens(900, reserve=2.0), service=lambda random: 8.0)
    name = "180k/min tokens, double reserved, 8 s calls"
    found.append(Case(name, rate, Limits(tokens=rate), double, 0.87, True))
    half_a_minute = replace(double, service=lambda random: 30.0)
    name = "180k/min tokens, double reserved, 30 s calls"
    found.append(Case(name, rate, Limits(tokens=rate), half_a_minute, 0.0, True))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Known limits on simulated servers.")
    parser.add_argument("--sends", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    missed = []
    print(f"| limit | sends | reached | target | {' | '.join(SERVERS)} |")
    print(f"|---|--:|--:|--:|{'--:|' * len(SERVERS)}")
    for case in cases():
        trace = simulate(
            case.limits, case.load, seed=options.seed, sends=options.sends, keys=case.keys
        )
        rate = case.rate
        reached = trace.tokens_reached(rate) if case.of_tokens else trace.requests_reached(rate)
        refused = (trace.tokens_refused_by if case.of_tokens else trace.refused_by)(rate)
        shown = " | ".join(str(refused.get(server, "–")) for server in SERVERS)  # noqa: RUF001
        target = f"{case.target:.2%}" if case.target else ""
        print(
            f"| {case.what} | {len(trace.sends):,} | {reached:.2%} | {target} | {shown} |",
            flush=True,
        )
        if reached < case.target:
            missed.append(f"{case.what}: {reached:.2%} reached, not {case.target:.2%}")
        for fault, count in faults(trace, case.limits, case.keys).items():
            missed.append(f"{case.what}: {count} refused or broken ({fault})")
    print(
        "\nRefused, of all sends, for servers with 8 phases of the window in turn; a dash where "
        "the server\ncannot keep its word: a bucket that is smaller than what jitter and lateness "
        "press together."
    )
    for miss in missed:
        print(f"MISSED  {miss}")
    print("all reached" if not missed else f"{len(missed)} missed")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
