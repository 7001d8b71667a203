"""Simulated servers, and a driver that runs the pure core against them on virtual time.

The driver records what was sent and when it arrived; a server is then asked about each arrival.
It deals the bad luck that the pacing has to survive: timers that fire late, requests that overtake
one another, cancellations at every stage, a backlog that never ends or comes in floods.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random

from depth import depth

from headway._core.queue.job import QUEUED, STARTED, Job
from headway._core.refusals.retry import Retry
from headway._core.state import SchedulerState
from headway.rates import LATENESS, Limits, Rate
from headway.testing.algorithms import (
    Algorithm,
    FixedWindow,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
)

INFINITY = float("inf")
SENDS = depth(1_500, 20_000)

PHASES = 8


def servers(rate: Rate) -> dict[str, list[Algorithm]]:
    """The servers that state `rate` in requests; several where the phase is unknown.

    A bucket of 2 is among them where it can be survived: ``n <= 1 + pace * (t + J + lateness)``
    arrive in any `t` seconds, and it admits ``2 + t * limit / window``.
    """
    limit, window = rate.share, rate.span
    phases = [window * (i + 0.317) / PHASES for i in range(PHASES)]
    found: dict[str, list[Algorithm]] = {
        "fixed window": [FixedWindow(limit, window, phase) for phase in phases],
        "sliding log": [SlidingLog(limit, window)],
        "sliding counter": [SlidingCounter(limit, window, phase) for phase in phases],
    }
    if survivable_bucket(rate, limit):
        found["token bucket, C = L"] = [TokenBucket(limit, limit / window)]
    if survivable_bucket(rate, 2):
        found["token bucket, C = 2"] = [TokenBucket(2, limit / window)]
    return found


def survivable_bucket(rate: Rate, capacity: float) -> bool:
    """Whether a bucket of `capacity` can take what lateness and jitter press together."""
    return rate.pace * (rate.delay_bound + LATENESS) + rate.burst <= capacity


def token_servers(rate: Rate) -> dict[str, list[Algorithm]]:
    """The servers that state `rate` in tokens."""
    limit, window = rate.share, rate.span
    phases = [window * (i + 0.317) / PHASES for i in range(PHASES)]
    return {
        "fixed window": [FixedWindow(limit, window, phase) for phase in phases],
        "sliding log": [SlidingLog(limit, window)],
    }


def refusals(server: Algorithm, arrivals: Iterable[tuple[float, float]]) -> int:
    """How many of the ``(time, cost)``, in order, `server` refuses."""
    admit = server.admit
    return [admit(arrival, cost) for arrival, cost in arrivals].count(False)


# The driver


@dataclass(frozen=True)
class Send:
    """One attempt that went out. `used` tokens are what the server counts."""

    start: float
    arrival: float
    key: Hashable
    priority: float
    used: float


@dataclass
class Trace:
    """What a run did. Violations are counted as they happen, by what was broken."""

    sends: list[Send] = field(default_factory=list)
    unsent: int = 0  # admitted, and cancelled before they ran
    cancelled: int = 0
    violations: dict[str, int] = field(default_factory=dict)

    def arrivals(self, key: object = ...) -> list[tuple[float, float]]:
        """``(time, 1)`` of every request in the order of arrival, of one key or of all."""
        return sorted((s.arrival, 1.0) for s in self.sends if key is ... or s.key == key)

    def token_arrivals(self, key: object = ...) -> list[tuple[float, float]]:
        """``(time, tokens)`` of every request in the order of arrival."""
        return sorted((s.arrival, s.used) for s in self.sends if key is ... or s.key == key)

    def seconds(self) -> float:
        """From the first start to the last."""
        return self.sends[-1].start - self.sends[0].start

    def requests_reached(self, rate: Rate) -> float:
        """The share of the stated `rate` of requests that was reached."""
        return (len(self.sends) - 1) / self.seconds() / (rate.limit / rate.per)

    def tokens_reached(self, rate: Rate, after: float = 0.0) -> float:
        """The share of the stated `rate` of tokens that was used, from `after` seconds on."""
        since = self.sends[0].start + after
        used = sum(send.used for send in self.sends if send.start >= since)
        return used / (self.sends[-1].start - since) / (rate.limit / rate.per)

    def refused_by(self, rate: Rate, key: object = ...) -> dict[str, int]:
        """What servers that state `rate` in requests refuse of this trace."""
        arrivals = self.arrivals(key)
        return {
            name: sum(refusals(server, arrivals) for server in group)
            for name, group in servers(rate).items()
        }

    def tokens_refused_by(self, rate: Rate, key: object = ...) -> dict[str, int]:
        """What servers that state `rate` in tokens refuse of this trace."""
        arrivals = self.token_arrivals(key)
        return {
            name: sum(refusals(server, arrivals) for server in group)
            for name, group in token_servers(rate).items()
        }


class Ledger:
    """The true window of one token rate: what settled attempts used and running ones reserved.

    Exact, one entry an attempt. `limit` is checked at each admission; an overrun counts from
    the moment at which it becomes known, and nobody could have refused it.
    """

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.entries: deque[list[float]] = deque()  # [time, tokens]
        self.total = 0.0

    def expire(self, now: float) -> None:
        while self.entries and self.entries[0][0] <= now - self.rate.span:
            self.total -= self.entries.popleft()[1]

    def start(self, cost: float, now: float) -> tuple[list[float], bool]:
        """The entry of an attempt that starts now, and whether it was right to start."""
        self.expire(now)
        alone = cost > self.rate.share and self.total < 1e-6
        right = alone or self.total + cost <= self.rate.share + 1e-3
        entry = [now, cost]
        self.entries.append(entry)
        self.total += cost
        return entry, right

    def settle(self, entry: list[float], used: float, now: float) -> None:
        self.expire(now)
        if used > entry[1]:
            self.entries.append([now, used - entry[1]])
            self.total += used - entry[1]
        else:
            if self.entries and self.entries[0][0] <= entry[0]:
                self.total -= entry[1] - used
            entry[1] = used


@dataclass(frozen=True)
class Load:
    """What is asked of the scheduler, and what goes wrong on the way."""

    keys: Sequence[Hashable] = (None,)
    priorities: Sequence[float] = (0,)
    tokens: Callable[[Random], tuple[float, float]] = lambda random: (0.0, 0.0)
    """Draws what an attempt reserves and what it uses."""
    service: Callable[[Random], float] = lambda random: random.uniform(0.0, 0.5)
    backlog: int = 20
    """How many jobs of each key wait, always."""
    cancel_queued: float = 0.0
    cancel_started: float = 0.0
    unsend: float = 0.0
    lull: float = 0.0
    """The chance, per start, that no more comes until all is done and some time after that."""
    lull_seconds: float = 2.0
    jitter: float = 0.020
    lateness: float = LATENESS


# What happens, by the number in the event.
_TIMER, _FINISH, _CANCEL, _UNSEND, _FLOOD = range(5)


class Driver:
    """Runs a `SchedulerState` as the shell does: a timer for the moment that `poll` names."""

    def __init__(
        self,
        limits: Limits,
        load: Load,
        *,
        seed: int,
        keys: Mapping[Hashable, Limits] | None = None,
        weights: Mapping[Hashable, float] | None = None,
    ) -> None:
        own = dict(keys or {})
        self.random = Random(seed)
        self.load = load
        self.now = 1000.0 + self.random.random()
        self.trace = Trace()
        self.state = SchedulerState(
            limits, now=self.now, retry=Retry(), keys=own.get, weights=weights or {}
        )
        self.events: list[tuple[float, int, int, Job | None]] = []
        self.order = count()
        self.queued: list[Job] = []  # some of them have started; dropped when one is drawn
        self.wanted = list(load.keys) * load.backlog  # a job of each is missing in the queue
        self.armed = INFINITY  # the moment that the timer is set to; it fires late
        self.timer = -1  # the number of its event
        self.resting = False
        self.arrivals: dict[Job, float] = {}
        self.uses: dict[Job, float] = {}
        self.scopes: list[tuple[object, int, list[Ledger]]] = [
            (..., limits.concurrency or 10**9, [Ledger(rate) for rate in limits.tokens])
        ]
        for key, inner in own.items():
            self.scopes.append(
                (key, inner.concurrency or 10**9, [Ledger(rate) for rate in inner.tokens])
            )
        self.in_flight: dict[object, int] = dict.fromkeys([..., *own], 0)
        self.entries: dict[Job, list[tuple[Ledger, list[float]]]] = {}
        self._refill()

    def run(self, sends: int) -> Trace:
        """Go on until `sends` attempts went out, in all of its runs together."""
        while len(self.trace.sends) < sends:
            self.now, number, kind, job = heappop(self.events)
            if kind == _TIMER:
                if number != self.timer:
                    continue  # set anew since
                self.armed = INFINITY
            elif kind == _FLOOD:
                self.resting = False
                self._refill()
            else:
                assert job is not None
                self._end(job, kind)
            self._poll()
            if not self.resting:
                self._refill()
            elif not self.state.waiting.size and not self.state.in_flight:
                self._after(self.random.uniform(0.0, self.load.lull_seconds), _FLOOD, None)
                self.resting = False  # and nothing comes: nothing polls until the flood
        return self.trace

    def _refill(self) -> None:
        state, load, random = self.state, self.load, self.random
        if self.resting:
            return
        # What starts at once is wanted again in the next round: a mutant might start all of it.
        wanted, self.wanted = self.wanted, []
        changed = False  # what goes next: nothing is to be asked of one that comes behind others
        for key in wanted:
            reserved, used = load.tokens(random)
            job = Job(state.flow(key), random.choice(load.priorities), reserved)
            self.uses[job] = used
            if state.submit(job, self.now):
                self._started(job)
            else:
                self.queued.append(job)
                changed = changed or state.waiting.queue.head() is job
        if load.cancel_queued and random.random() < load.cancel_queued:
            self._cancel_one_queued()
            changed = True
        if changed:
            self._poll()

    def _poll(self) -> None:
        changed, wake_at = self.state.poll(self.now)
        for job in changed:
            self._started(job)
        if wake_at < self.armed:
            self.armed = wake_at
            self.timer = next(self.order)
            due = wake_at + self._luck(self.load.lateness)
            heappush(self.events, (due, self.timer, _TIMER, None))

    def _luck(self, most: float) -> float:
        """Between 0 and `most`, the extremes included: bounds are broken there first."""
        drawn = self.random.random() * 2.0
        return most * drawn if drawn < 1.0 else (most if drawn < 1.5 else 0.0)

    def _after(self, seconds: float, kind: int, job: Job | None) -> None:
        heappush(self.events, (self.now + seconds, next(self.order), kind, job))

    def _started(self, job: Job) -> None:
        load, random, trace = self.load, self.random, self.trace
        key = job.flow.key
        self.wanted.append(key)
        charged = []
        for scope, most, ledgers in self.scopes:
            if scope is ... or scope == key:
                self.in_flight[scope] += 1
                if self.in_flight[scope] > most:
                    self._violated("concurrency")
                for ledger in ledgers:
                    entry, right = ledger.start(job.cost, self.now)
                    charged.append((ledger, entry))
                    if not right:
                        self._violated("window of tokens")
        self.entries[job] = charged
        if load.unsend and random.random() < load.unsend:
            # At once, or a little later: others may have started in between.
            self._after(random.choice((0.0, 0.0, random.uniform(0.0, 0.05))), _UNSEND, job)
            return
        arrival = self.now + self._luck(load.jitter)
        trace.sends.append(Send(self.now, arrival, key, job.priority, self.uses[job]))
        done = arrival - self.now + load.service(random)
        if load.cancel_started and random.random() < load.cancel_started:
            self._after(done * random.random(), _CANCEL, job)
        else:
            self._after(done, _FINISH, job)
        if load.lull and random.random() < load.lull:
            self.resting = True

    def _end(self, job: Job, kind: int) -> None:
        assert job.status == STARTED
        reserved, used = job.cost, self.uses.pop(job)
        if kind == _FINISH:
            self.state.finish(job, used, self.now)
        elif kind == _CANCEL:
            self.state.cancel(job, self.now)
            # The scheduler cannot know: it keeps what was reserved, and so does the ledger.
            used = max(reserved, 0.0)
            self.trace.cancelled += 1
        else:
            self.state.unsend(job, self.now)
            used = 0.0
            self.trace.unsent += 1
        for scope in self.in_flight:
            if scope is ... or scope == job.flow.key:
                self.in_flight[scope] -= 1
        for ledger, entry in self.entries.pop(job):
            ledger.settle(entry, used, self.now)

    def _cancel_one_queued(self) -> None:
        queued, random = self.queued, self.random
        while queued:
            i = random.randrange(len(queued))
            queued[i], queued[-1] = queued[-1], queued[i]
            job = queued.pop()
            if job.status == QUEUED:
                self.state.cancel(job, self.now)
                self.uses.pop(job)
                self.wanted.append(job.flow.key)
                self.trace.cancelled += 1
                return

    def _violated(self, what: str) -> None:
        self.trace.violations[what] = self.trace.violations.get(what, 0) + 1


def faults(
    trace: Trace, limits: Limits, keys: Mapping[Hashable, Limits] | None = None
) -> dict[str, int]:
    """Everything that a server would have refused in `trace`, and every limit of our own broken.

    Empty for a scheduler that keeps its promise; a mutant must not get past it.
    """
    found = dict(trace.violations)
    for key, inner in [(..., limits), *(keys or {}).items()]:
        whose = "" if key is ... else f" of key {key}"
        for rate in inner.requests:
            for name, refused in trace.refused_by(rate, key).items():
                if refused:
                    found[f"{name}, {rate}{whose}"] = refused
        for rate in inner.tokens:
            for name, refused in trace.tokens_refused_by(rate, key).items():
                if refused:
                    found[f"{name}, {rate} tokens{whose}"] = refused
    return found


def promised(rate: Rate) -> float:
    """The share of the stated `rate` that its pace promises."""
    return rate.pace / (rate.limit / rate.per)


def simulate(
    limits: Limits,
    load: Load | None = None,
    *,
    seed: int,
    sends: int = SENDS,
    keys: Mapping[Hashable, Limits] | None = None,
    weights: Mapping[Hashable, float] | None = None,
) -> Trace:
    """The trace of `sends` attempts under `limits`."""
    driver = Driver(limits, load or Load(), seed=seed, keys=keys, weights=weights)
    return driver.run(sends)
