"""Control on a virtual clock: servers whose limits nobody states, or only their headers do.

Each run is an hour, measured after the first quarter, with lognormal latency (sigma 1.2) and one
backlogged client: headway, or a peer of `_controllers.py`. A: 10/s; B: 40 in flight; C: 10/s, then
4/s, then 10/s; D: both limits, untyped refusals, and a median of 1 s and 5 s in turn. Then headway
alone on the servers of `_scenarios.py`: limits that are told wrongly, networks that delay, windows
that nobody states, falls and rises, noise, a rival. Exits with 1, and says which, where a target is
missed.

    python benchmarks/control.py [--hours 1] [--seeds 5] [--plot docs]
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from _controllers import PEERS, Attempt, Controller
from _scenarios import FALL, HOUR, Result, drive, fall_and_rise, scenarios
from _table import environment, table

from headway._core.queue.job import Job
from headway._core.refusals.retry import Retry
from headway._core.state import SchedulerState
from headway.events import Kind
from headway.hints import Refusal, limits_from, refusal_from_response
from headway.rates import Limits

_BACKLOG = 300
_SLOTS = 40
_SIGMA = 1.2
_REFUSED_AFTER = 0.1
_OBSERVE_EVERY = 0.25  # as headway's transports do
_BIN = 10  # seconds

SERVERS = {
    "A": "10 requests a second",
    "B": "40 requests in flight",
    "C": "10 requests a second, 4 in the middle third",
    "D": "10 a second and 40 in flight; latency's median 1 s and 5 s in turn",
}
# Server, headers: goodput a second (least), refusals a success (most; None: one for each fall).
TARGETS: dict[tuple[str, bool], tuple[float, float | None]] = {
    ("A", False): (9.85, 0.0015),
    ("B", False): (3.75, 0.004),
    ("C", False): (7.15, 0.004),
    ("D", False): (6.4, 0.004),
    ("A", True): (9.85, None),
    ("C", True): (7.2, None),
}
Headers = dict[str, str]


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

    def headers(self, now: float, decided_at: float | None = None) -> Headers:
        """What an answer says, as OpenAI says it (requests a minute), with the limit as it was at
        `decided_at`, by default now.
        """
        rate = self.rate(now if decided_at is None else decided_at)
        used = math.ceil(max(0.0, self._next - now) * rate - 1e-9)
        reset = used / rate
        return {
            "x-ratelimit-limit-requests": f"{rate * 60:.0f}",
            "x-ratelimit-remaining-requests": f"{rate * 60 - used:.0f}",
            "x-ratelimit-reset-requests": f"{reset:.2f}s" if reset >= 1 else f"{reset * 1e3:.0f}ms",
        }


class Headway:
    """The core of headway with nothing stated, and what its transports do with headers."""

    name = "headway"

    def __init__(
        self, random: Random, *, headers: bool = False, early: bool = False, typed: bool = True
    ) -> None:
        self._state = SchedulerState(Limits(), now=0.0, retry=Retry(patience=1e9))
        self._state.whole.search()
        self._flow = self._state.flow(None)
        self._random = random
        self._headers, self._typed = headers, typed
        self._early = early  # headers are written when the attempt is let in, not at its end
        self._observe_at = 0.0

    def start(self, now: float) -> tuple[list[Job], float]:
        """The jobs of which an attempt starts now, and the next moment worth asking."""
        jobs, wake_at = self._state.poll(now)
        while self._state.waiting.size < _BACKLOG:
            job = Job(self._flow)
            if self._state.submit(job, now):
                jobs.append(job)
        self._state.events.clear()
        return jobs, wake_at

    def answered(self, job: Job, server: Server, now: float) -> None:
        if self._headers and now >= self._observe_at:
            decided_at = job.started_at if self._early else now
            self._observe(server.headers(now, decided_at), job, now)
        self._state.finish(job, None, now)

    def refused(self, job: Job, kind: Kind, server: Server, now: float) -> None:
        seen = kind if self._typed else Kind.RATE
        refusal: Refusal | None = Refusal(seen, None, 429, "", typed=self._typed)
        if self._headers:
            said = server.headers(now)
            self._observe(said, job, now)
            refusal = refusal_from_response(429, said, b"", wall_time=now)
            assert refusal is not None
        self._state.defer(job, refusal, now, self._random.random())

    def _observe(self, headers: Headers, job: Job, now: float) -> None:
        self._observe_at = now + _OBSERVE_EVERY
        hints = limits_from(headers, wall_time=now)
        self._state.observe(hints, self._flow, now, job.started_at)


class Peer:
    """A controller that always has another job; a refused one is tried again until it succeeds."""

    def __init__(self, controller: Controller) -> None:
        self.name = controller.name
        self.begun = 0
        self.under_way = 0  # jobs in flight, or between two attempts
        self.waiting: list[tuple[float, int, Attempt]] = []
        self._controller = controller
        self._numbers = itertools.count()

    def start(self, now: float) -> tuple[list[Attempt], float]:
        controller, waiting = self._controller, self.waiting
        attempts: list[Attempt] = []
        while True:
            due = bool(waiting) and waiting[0][0] <= now
            if not (due or self.under_way < _BACKLOG):
                break
            if not (due and controller.holds):
                if (ready := controller.may_start(now)) > now:
                    return attempts, ready if due or not waiting else min(ready, waiting[0][0])
                controller.started(now)
            if due:
                attempt = heapq.heappop(waiting)[2]
            else:
                attempt = Attempt()
                self.begun += 1
                self.under_way += 1
            attempt.sent = now
            attempt.tries += 1
            attempt.in_flight = controller.in_flight
            attempts.append(attempt)
        return attempts, waiting[0][0] if waiting else math.inf

    def answered(self, attempt: Attempt, server: Server, now: float) -> None:
        self.under_way -= 1
        self._controller.answered(attempt, now)

    def refused(self, attempt: Attempt, kind: Kind, server: Server, now: float) -> None:
        self._controller.refused(attempt, now)
        again = now + self._controller.wait(attempt.tries)
        heapq.heappush(self.waiting, (again, next(self._numbers), attempt))


@dataclass
class Run:
    """What a client reached: successes and refusals in each ten seconds of the run."""

    seconds: float
    ideal: float
    succeeded: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    measured: Counter[str] = field(default_factory=Counter)  # after the first quarter

    @property
    def goodput(self) -> float:
        return self.measured["succeeded"] / (self.seconds * 0.75)


def run(client: Headway | Peer, server: Server, seed: int, seconds: float) -> Run:
    """The client against the server; attempt number k that is accepted takes as long for all."""
    latencies = Random(seed)
    span = range(int(seconds / 4), int(seconds))
    result = Run(seconds, fmean(server.ideal(at) for at in span))
    ends: list[tuple[float, int, Kind | None, Any]] = []
    numbers = itertools.count()
    now = 0.0
    while now < seconds:
        started, wake_at = client.start(now)
        for job in started:
            kind = server.refuses(now)
            takes = _REFUSED_AFTER
            if kind is None:
                takes = server.median(now) * math.exp(_SIGMA * latencies.gauss(0, 1))
            heapq.heappush(ends, (now + takes, next(numbers), kind, job))
        now = max(now, min(wake_at, ends[0][0] if ends else math.inf))
        while ends and ends[0][0] <= now:
            _, _, kind, job = heapq.heappop(ends)
            if kind is None:
                server.in_flight -= 1
                client.answered(job, server, now)
                result.succeeded[int(now // _BIN)] += 1
            else:
                client.refused(job, kind, server, now)
                result.refused[int(now // _BIN)] += 1
            if now >= seconds / 4:
                result.measured["refused" if kind else "succeeded"] += 1
    return result


Results = dict[tuple[str, str], list[Run]]  # of a server and a client: a run for each seed


def measure(seeds: int, seconds: float) -> Results:
    results: Results = {}
    for name, seed in itertools.product(SERVERS, range(seeds)):
        clients: list[tuple[str, Headway | Peer]] = [
            ("headway", Headway(Random(f"headway {seed}"), typed=name != "D"))
        ]
        if (name, True) in TARGETS:
            told = Headway(Random(f"headway {seed}"), headers=True)
            clients.append(("headway, headers", told))
            told = Headway(Random(f"headway {seed}"), headers=True, early=True)
            clients.append(("headway, old headers", told))
        clients += [(peer.name, Peer(peer(Random(f"{peer.name} {seed}")))) for peer in PEERS]
        for title, client in clients:
            one = run(client, Server(name, seconds), seed, seconds)
            results.setdefault((name, title), []).append(one)
    return results


def rows(results: Results, server: str) -> list[list[str]]:
    ours = fmean(one.goodput for one in results[server, "headway"])
    lines = []
    for (name, title), runs in results.items():
        if name != server:
            continue
        goodput = fmean(one.goodput for one in runs)
        refused = [one.measured["refused"] for one in runs]
        succeeded = max(1.0, fmean(one.measured["succeeded"] for one in runs))
        lines.append(
            [title, f"{goodput:.2f}", f"{goodput / runs[0].ideal:.1%}",
             f"{fmean(refused) / succeeded:.4f}", f"{max(refused):,}", f"{goodput / ours:.2f}"]
        )  # fmt: skip
    return lines


def check(results: Results) -> tuple[list[str], bool]:
    """A line for each target, and whether all were met."""
    checks: list[tuple[str, float, str, float]] = []
    for (name, headers), (least, most) in TARGETS.items():
        runs = results[name, "headway, headers" if headers else "headway"]
        title = f"{name}{', headers' if headers else ''}"
        goodput = fmean(one.goodput for one in runs)
        refused = [one.measured["refused"] for one in runs]
        checks.append((f"{title}: goodput/s", goodput, "at least", least))
        if most is None:
            checks.append((f"{title}: most 429s", max(refused), "at most", float(name == "C")))
        elif most < math.inf:
            share = fmean(refused) / max(1.0, fmean(one.measured["succeeded"] for one in runs))
            checks.append((f"{title}: 429s a success", share, "at most", most))
    return verdicts(checks)


def verdicts(checks: list[tuple[str, float, str, float]]) -> tuple[list[str], bool]:
    """A line for each, and whether all were met."""
    lines, all_met = [], True
    for what, value, side, bound in checks:
        met = value >= bound if side == "at least" else value <= bound
        all_met = all_met and met
        lines.append(f"- {'met' if met else 'MISSED'}: {what}: {value:.4g}, {side} {bound:.4g}")
    return lines, all_met


def settle(seeds: int, seconds: float) -> tuple[str, list[str], bool]:
    """The servers of `_scenarios`: a table, a line for each target, whether all were met."""
    lines: list[list[str]] = []
    checks: list[tuple[str, float, str, float]] = []
    for scenario in scenarios(seconds):
        runs = [drive(scenario, seed) for seed in range(seeds)]
        goodput, refused = fmean(r.goodput for r in runs), fmean(r.refused for r in runs)
        worst = max(r.refused for r in runs)
        lines.append([scenario.title, f"{goodput:.3f}", f"{min(r.goodput for r in runs):.3f}",
                      f"{refused:.5f}", f"{worst:.5f}"])  # fmt: skip
        if scenario.least:
            reached = min(r.goodput for r in runs) if scenario.noise else goodput
            checks.append((f"{scenario.title}: goodput/s", reached, "at least", scenario.least))
        if scenario.most < math.inf:
            checks.append((f"{scenario.title}: 429s", refused, "at most", scenario.most))
        if scenario.clients > 1:
            half = goodput / scenario.clients
            least = min(min(r.each) / half for r in runs)
            checks.append((f"{scenario.title}: the smaller, of its half", least, "at least", 0.65))
    if seconds >= HOUR:  # its thirds are those of the hour
        found: list[Result] = [drive(FALL, seed) for seed in range(seeds)]
        falls, rises = zip(*map(fall_and_rise, found), strict=True)
        checks.append(("a fall to 40%: seconds until it is followed", max(falls), "at most", 5.0))
        checks.append(("a rise from 40%: seconds until it is found", max(rises), "at most", 100.0))
    headings = ["server", "goodput/s", "least", "429s a success", "most"]
    return table("Told wrongly, far away, in windows, with others", headings, lines), *verdicts(
        checks
    )


def plot(results: Results, directory: Path) -> None:
    """For each server a picture of the first seed: what each client reached, and was refused."""
    import matplotlib
    from PIL import Image

    matplotlib.use("agg")
    from matplotlib import pyplot

    for server, what in SERVERS.items():
        shown = {
            title: runs[0]
            for (name, title), runs in results.items()
            if name == server and not title.endswith("headers")
        }
        seconds = next(iter(shown.values())).seconds
        bins = range(int(seconds) // _BIN)
        minutes = [at * _BIN / 60 for at in bins]
        ideal = [Server(server, seconds).ideal(at * _BIN) for at in bins]
        figure = pyplot.figure(figsize=(9, 11.5), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.06, h_pad=0.03, hspace=0.0)
        cells = figure.add_gridspec(4, 2)
        for place, (title, one) in enumerate(shown.items()):
            ours = title == "headway"
            color = "#c2410c" if ours else "#64748b"
            cell = cells[place // 2, place % 2].subgridspec(2, 1, height_ratios=[3, 1.2])
            upper = figure.add_subplot(cell[0])
            lower = figure.add_subplot(cell[1], sharex=upper)
            upper.plot(minutes, ideal, "--", color="#111827", linewidth=0.9)
            upper.plot(minutes, [one.succeeded[at] / _BIN for at in bins], color, linewidth=0.8)
            lower.bar(minutes, [one.refused[at] / _BIN for at in bins], _BIN / 60, color=color)
            upper.set_title(
                title, loc="left", fontsize=10, color=color, weight="bold" if ours else None
            )
            upper.set_ylim(0, math.ceil(max(ideal) * 1.4) + 1)
            upper.set_ylabel("successes/s", fontsize=8)
            upper.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(3, integer=True))
            upper.tick_params(labelbottom=False)
            lower.set_ylim(0, 2)
            lower.set_yticks([0, 1, 2])
            lower.set_ylabel("429s/s", fontsize=8)
            lower.set_xlim(0, seconds / 60)
            if place >= len(shown) - 2:
                lower.set_xlabel("minutes", fontsize=8)
            for axes in (upper, lower):
                axes.axvspan(0, seconds / 240, color="#f1f5f9", zorder=0)
                axes.spines[["top", "right"]].set_visible(False)
                axes.tick_params(labelsize=8)
        note = figure.add_subplot(cells[3, 1])
        note.axis("off")
        lines = (
            "Dashed: what perfect knowledge of the limits reaches.",
            "Each point is the mean of 10 s, of the first seed.",
            "429s above 2/s are cut off.",
            "Shaded: the first quarter, which the tables leave out.",
        )
        note.text(
            0.08, 0.5, "\n".join(lines), fontsize=9, color="#334155", va="center", linespacing=1.8
        )
        figure.suptitle(f"{server}: {what}", fontsize=12, weight="bold")
        figure.canvas.draw()
        # A palette makes the file a third as large.
        size = figure.canvas.get_width_height()
        image = Image.frombuffer("RGBA", size, figure.canvas.buffer_rgba())
        image.convert("RGB").quantize(48).save(directory / f"control-{server}.png", optimize=True)
        pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Control where the limit is unknown or moves.")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--plot", type=Path, metavar="DIR", help="write control-A.png and so on")
    parser.add_argument("--no-check", action="store_true", help="exit with 0 whatever is missed")
    options = parser.parse_args(arguments)
    results = measure(options.seeds, 3600 * options.hours)
    print(environment(), end="\n\n")
    headings = ["", "goodput/s", "of the ideal", "429s a success", "most 429s", "to headway"]
    for server, what in SERVERS.items():
        print(table(f"{server}: {what}", headings, rows(results, server)))
    lines, met = check(results)
    print("\n".join(lines), end="\n\n")
    text, lines, settled = settle(options.seeds, 3600 * options.hours)
    print(text)
    print("\n".join(lines))
    met = met and settled
    if options.plot:
        plot(results, options.plot)
    return not met and not options.no_check


if __name__ == "__main__":
    sys.exit(main())
