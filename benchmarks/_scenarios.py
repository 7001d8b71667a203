"""What control has to settle on: more servers for control.py, and a driver with network and rivals.

A server says of each arrival whether it is let in. Requests and answers take `delay` seconds each
way, give or take half; a client always has another job.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from statistics import fmean

from headway._core.queue.job import Job
from headway._core.refusals.retry import Retry
from headway._core.state import SchedulerState
from headway.events import Kind
from headway.hints import Refusal, refusal_from_response
from headway.rates import Limits, Rate
from headway.testing.algorithms import FixedWindow, SlidingCounter, SlidingLog, TokenBucket

HOUR = 3600.0
_BACKLOG = 300
_SIGMA = 1.2
_MISLEADING = b'{"error": {"type": "requests", "message": "Request was rejected due to limits."}}'

Refuses = Callable[[float, int], Kind | None]  # at a moment, with so many in flight


class Bucket:
    """`rate` a second, which may move, and a burst."""

    def __init__(self, rate: float | Callable[[float], float], burst: float) -> None:
        self._rate = rate
        self._burst = self._level = burst
        self._at = 0.0

    def __call__(self, now: float, in_flight: int) -> Kind | None:
        rate = self._rate(now) if callable(self._rate) else self._rate
        self._level = min(self._burst, self._level + (now - self._at) * rate)
        self._at = now
        if self._level < 1 - 1e-9:
            return Kind.RATE
        self._level -= 1
        return None


def slots(most: int, inner: Refuses | None = None) -> Refuses:
    """`most` in flight, and what `inner` refuses."""

    def refuses(now: float, in_flight: int) -> Kind | None:
        if in_flight >= most:
            return Kind.CONCURRENCY
        return inner(now, in_flight) if inner is not None else None

    return refuses


def windows(algorithm: str, limit: float, window: float) -> Refuses:
    """One of the algorithms of `headway.testing`."""
    phase = 0.317 * window
    server = {
        "fixed window": lambda: FixedWindow(limit, window, phase),
        "sliding log": lambda: SlidingLog(limit, window),
        "counter": lambda: SlidingCounter(limit, window, phase),
        "exact counter": lambda: SlidingCounter(limit, window, phase, exact=True),
        "bucket": lambda: TokenBucket(limit, limit / window),
    }[algorithm]()
    return lambda now, in_flight: None if server.admit(now) else Kind.RATE


ALGORITHMS = ("fixed window", "sliding log", "counter", "exact counter", "bucket")


@dataclass(frozen=True)
class Scenario:
    """A server, what a client is told of it, and what has to be reached: `least` successes a
    second (where it is `noise`, of every seed), at `most` refusals a success, after `skip` seconds.
    """

    title: str
    refuses: Callable[[], Refuses]
    told: Limits | None = None
    least: float = 0.0
    most: float = math.inf
    seconds: float = HOUR
    skip: float = HOUR / 4
    median: Callable[[float], float] = lambda now: 5.0  # of the latency, lognormal
    says: str = "kind"  # what a refusal says: its kind, "nothing", or "requests" of everything
    delay: float = 0.0
    refused_after: float = 0.1
    noise: float = 0.0  # the share of what is refused though there is room
    clients: int = 1

    def for_seconds(self, seconds: float) -> Scenario:
        """The same, shorter."""
        share = min(1.0, seconds / HOUR)
        return replace(self, seconds=self.seconds * share, skip=self.skip * share)


@dataclass
class Result:
    """Successes a second of each client, refusals a success, and what came in each second."""

    each: list[float]
    refused: float
    accepted: list[int] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        return sum(self.each)


class Client:
    """The core of headway with a backlog."""

    def __init__(self, scenario: Scenario, random: Random) -> None:
        told = scenario.told
        self.state = SchedulerState(told or Limits(), now=0.0, retry=Retry(patience=1e9))
        if told is None:
            self.state.whole.search()
        self.random = random
        self.wake_at = 0.0
        self._flow = self.state.flow(None)
        self._says = scenario.says

    def start(self, now: float) -> list[Job]:
        jobs, self.wake_at = self.state.poll(now)
        while self.state.waiting.size < _BACKLOG:
            job = Job(self._flow)
            if self.state.submit(job, now):
                jobs.append(job)
        self.state.events.clear()
        return jobs

    def heard(self, job: Job, kind: Kind | None, now: float) -> None:
        if kind is None:
            self.state.finish(job, None, now)
            return
        refusal: Refusal | None = Refusal(kind, None, 429)
        if self._says == "nothing":
            refusal = Refusal(Kind.RATE, None, 429, typed=False)
        elif self._says == "requests":
            refusal = refusal_from_response(429, {}, _MISLEADING, wall_time=now)
        assert refusal is not None
        self.state.defer(job, refusal, now, self.random.random())


_ARRIVES, _LEAVES, _ANSWERED, _REFUSED = range(4)


def drive(scenario: Scenario, seed: int) -> Result:
    """The clients against the server, on a virtual clock."""
    clients = [
        Client(scenario, Random(f"client {seed} {number}")) for number in range(scenario.clients)
    ]
    latency, network, chance = (Random(f"{what} {seed}") for what in ("latency", "net", "noise"))
    refuses = scenario.refuses()
    numbers = itertools.count()
    heap: list[tuple[float, int, int, Client, Job, Kind | None]] = []
    succeeded, refused = dict.fromkeys(clients, 0), 0
    result = Result([], 0.0, [0] * (int(scenario.seconds) + 1))
    now, in_flight = 0.0, 0
    heard = set(clients)

    def after(seconds: float, what: int, client: Client, job: Job, kind: Kind | None) -> None:
        if what != _LEAVES and scenario.delay:
            seconds += scenario.delay * network.uniform(0.5, 1.5)
        heapq.heappush(heap, (now + seconds, next(numbers), what, client, job, kind))

    while now < scenario.seconds:
        for client in clients:
            if client in heard or client.wake_at <= now:
                for job in client.start(now):
                    after(0.0, _ARRIVES, client, job, None)
        heard.clear()
        wakes = min(client.wake_at for client in clients)
        now = max(now, min(wakes, heap[0][0] if heap else math.inf))
        while heap and heap[0][0] <= now:
            _, _, what, client, job, kind = heapq.heappop(heap)
            if what == _ARRIVES:
                kind = refuses(now, in_flight)
                if kind is None and chance.random() < scenario.noise:
                    kind = Kind.RATE
                if kind is None:
                    in_flight += 1
                    result.accepted[min(int(now), len(result.accepted) - 1)] += 1
                    takes = scenario.median(now) * math.exp(_SIGMA * latency.gauss(0, 1))
                    after(takes, _LEAVES, client, job, None)
                else:
                    after(scenario.refused_after, _REFUSED, client, job, kind)
            elif what == _LEAVES:
                in_flight -= 1
                after(0.0, _ANSWERED, client, job, None)
            else:
                heard.add(client)
                client.heard(job, kind, now)
                counts = now >= scenario.skip
                succeeded[client] += counts and kind is None
                refused += counts and kind is not None
    result.each = [n / (scenario.seconds - scenario.skip) for n in succeeded.values()]
    result.refused = refused / max(1, sum(succeeded.values()))
    return result


def thirds(now: float) -> float:
    """10/s, then 4/s, then 10/s."""
    return 4.0 if HOUR / 3 <= now < HOUR * 2 / 3 else 10.0


def in_turn(now: float) -> float:
    """Median latencies of 1 s and 5 s."""
    return 1.0 if int(now // 600) % 2 == 0 else 5.0


def nights(now: float) -> float:
    """10/s, and 2/s in each third quarter of an hour's third."""
    return 2.0 if now % 1200 >= 800 else 10.0


def _both() -> Refuses:
    return slots(40, Bucket(10, 10))


_TOLD = Limits(Rate(10, per=1))
_MOST_STATIC = 0.001  # of what is sent


def best_static(algorithm: str, delay: float, sends: int) -> float:
    """Successes a second of the fastest even pace of which 10 a second refuse at most a thousandth,
    where requests take `delay` seconds, give or take half.
    """
    network = Random("static")
    delays = [delay * network.uniform(0.5, 1.5) for _ in range(sends)]

    @cache
    def accepted(pace: float) -> float:
        refuses = windows(algorithm, 10, 1)
        arrivals = sorted(n / pace + each for n, each in enumerate(delays))
        return sum(refuses(arrival, 0) is None for arrival in arrivals) / sends

    slow, fast = 7.0, 10.0
    for _ in range(9):
        pace = (slow + fast) / 2
        if accepted(pace) >= 1 - _MOST_STATIC:
            slow = pace
        else:
            fast = pace
    return slow * accepted(slow)


def scenarios(seconds: float) -> list[Scenario]:
    """Those of the table, for so many seconds, of an hour at most. The static paces of some are
    searched for, in as much time as these have: for half an hour it takes seconds.
    """
    sends = round(18_000 * min(1.0, seconds / HOUR))  # 10 a second
    those = [
        Scenario("D, all of it called requests", _both, median=in_turn, says="requests",
                 least=6.4, most=0.004),
        Scenario("D, told 10/s", _both, told=_TOLD, median=in_turn, says="requests"),
        Scenario("told double: 20/s of a bucket of 10/s", lambda: Bucket(10, 10),
                 told=Limits(Rate(20, per=1)), least=9.8, most=0.0015),
        *(
            Scenario(f"told right, {algorithm}, {ms} ms", lambda a=algorithm: windows(a, 10, 1),
                     told=_TOLD, seconds=1800, skip=300, median=lambda now: 1.0, refused_after=0.0,
                     delay=ms / 1000, most=0.001 if ms > 10 else 0.0,
                     least=0.98 * best_static(algorithm, ms / 1000, sends) if ms > 10 else 9.7)
            for algorithm in ALGORITHMS[:4] for ms in (10, 25, 50, 100)
            if (algorithm, ms) != ("exact counter", 10)  # the pace of a stated limit is a floor's
        ),
        *(
            Scenario(f"nothing stated, {algorithm}, {limit} per 60 s",
                     lambda a=algorithm, n=limit: windows(a, n, 60),
                     least=(0.96 if limit == 600 else 0.93) * limit / 60,
                     most=0.003 if limit == 600 else math.inf)
            for limit in (600, 60) for algorithm in ALGORITHMS
        ),
        Scenario("2% of random refusals", lambda: Bucket(10, 10), noise=0.02, least=7.5),
        Scenario("two clients of one limit", lambda: Bucket(10, 10), clients=2, least=9.7),
        # Of our own choice.
        *(
            Scenario(f"2% of random refusals, told {rate}", lambda: Bucket(10, 10), noise=0.02,
                     told=Limits(rate))
            for rate in (Rate(10, per=1), Rate(600, per=60))
        ),
        Scenario("2% of random refusals, told 100/s", lambda: Bucket(100, 100), noise=0.02,
                 told=Limits(Rate(100, per=1)), seconds=600, skip=150),
        Scenario("a slow rise, 4 to 10/s in the hour",
                 lambda: Bucket(lambda t: 4 + 6 * t / HOUR, 10)),
        Scenario("1/s, no burst", lambda: Bucket(1, 1)),
        Scenario("100/s, a burst of 5", lambda: Bucket(100, 5), median=lambda now: 1.0,
                 seconds=900, skip=225),
        Scenario("3 in flight", lambda: slots(3)),
        Scenario("a limit that falls each night, 10 and 2/s", lambda: Bucket(nights, 10)),
    ]  # fmt: skip
    return [each.for_seconds(seconds) for each in those]


FALL = Scenario("10, 4, 10/s by thirds", lambda: Bucket(thirds, 10))


def fall_and_rise(result: Result) -> tuple[int, int]:
    """Seconds until a fall to 4/s was followed, and until a rise to 10/s was found."""
    sent, fell, rose = result.accepted, int(HOUR / 3), int(HOUR * 2 / 3)

    def lately(at: int) -> float:
        return fmean(sent[at : at + 5])

    falls = next((t for t in range(fell, rose) if lately(t) <= 4.5 and lately(t + 5) <= 4.5), rose)
    rises = next((t for t in range(rose, int(HOUR)) if lately(t) >= 9), int(HOUR))
    return falls - fell, rises - rose
