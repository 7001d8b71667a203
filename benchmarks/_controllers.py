"""How six projects control what they send, as `control.py` runs them beside headway.

Each class is the algorithm of the file that it names, at that project's defaults, in our own words.
It is asked when an attempt may start, and told how each one ended. `wait` is that project's pause
before a refused call is tried again; where `holds`, the call keeps its slot meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

__all__ = ["PEERS", "Attempt", "Controller"]

INFINITY = math.inf


@dataclass(slots=True)
class Attempt:
    """A job's attempt: when it was sent, how many were in flight then (it included), which try."""

    sent: float = 0.0
    in_flight: int = 0
    tries: int = 0


class Controller:
    """A window: as many attempts in flight as `limit`. The limit is what the algorithms move."""

    name: str
    holds = False

    def __init__(self, limit: float, random: Random) -> None:
        self.limit = limit
        self.in_flight = 0
        self._random = random

    def may_start(self, now: float) -> float:
        """The moment from which another attempt may start; infinity: once one has ended."""
        return now if self.in_flight < int(self.limit) else INFINITY

    def started(self, now: float) -> None:
        """An attempt starts; not told of the further tries of a call that holds its slot."""
        self.in_flight += 1

    def answered(self, attempt: Attempt, now: float) -> None:
        """An attempt succeeded."""
        self.in_flight -= 1
        self.sample(attempt, now - attempt.sent, dropped=False)

    def refused(self, attempt: Attempt, now: float) -> None:
        """An attempt was refused."""
        self.in_flight -= 1
        self.sample(attempt, now - attempt.sent, dropped=True)

    def sample(self, attempt: Attempt, took: float, *, dropped: bool) -> None:
        """Move the limit for an attempt that took `took` seconds."""

    def wait(self, tries: int) -> float:
        """Seconds to wait after a job's refusal number `tries`."""
        # The library leaves retries to its caller, who has a slot again for the next call anyway.
        return 0.0


class Gradient2(Controller):
    """Netflix concurrency-limits, limit/Gradient2Limit.java.

    The limit follows the ratio of a slow average of the latency (of 600 samples) to the newest
    latency, held to 0.5 to 1, plus 4 for the queue, smoothed by 0.2; within 20 to 200. It has no
    use for a refusal, so that is reported as one to ignore: reported as dropped, its 0.1 s would be
    one more latency, and a low one raises the limit.
    """

    name = "Netflix Gradient2"

    def __init__(self, random: Random) -> None:
        super().__init__(20, random)
        self._slow = 0.0
        self._samples = 0

    def sample(self, attempt: Attempt, took: float, *, dropped: bool) -> None:
        if dropped:
            return
        self._samples += 1
        weight = 1 / self._samples if self._samples <= 10 else 2 / 601
        self._slow += weight * (took - self._slow)
        ratio = self._slow / took
        if ratio > 2:
            self._slow *= 0.9
        if attempt.in_flight >= self.limit / 2:
            aim = self.limit * max(0.5, min(1.0, ratio)) + 4
            self.limit = max(20.0, min(200.0, 0.8 * self.limit + 0.2 * aim))


class Vegas(Controller):
    """Netflix concurrency-limits, limit/VegasLimit.java: the library's default.

    The queue is the limit times the share of the latency above the least one seen. With a step of
    log10(limit), at least 1: at most one step of queue raises the limit by six, less than three by
    one, more than six (or a refusal) lowers it by one. From 20, within 1 to 1000. The least latency
    is forgotten every 15 to 30 limits' worth of samples.
    """

    name = "Netflix Vegas"

    def __init__(self, random: Random) -> None:
        super().__init__(20, random)
        self._least = INFINITY
        self._samples = 0
        self._spread = random.uniform(0.5, 1.0)

    def sample(self, attempt: Attempt, took: float, *, dropped: bool) -> None:
        self._samples += 1
        if self._samples >= self._spread * 30 * self.limit:
            self._samples, self._spread = 0, self._random.uniform(0.5, 1.0)
            self._least = took
            return
        if took < self._least:
            self._least = took
            return
        step = max(1, int(math.log10(self.limit)))
        queue = math.ceil(self.limit * (1 - self._least / took))
        change = 0
        if dropped:
            change = -step
        elif attempt.in_flight * 2 >= self.limit:
            if queue <= step:
                change = 6 * step
            elif queue < 3 * step:
                change = step
            elif queue > 6 * step:
                change = -step
        self.limit = max(1.0, min(1000.0, self.limit + change))


class Aimd(Controller):
    """Netflix concurrency-limits, limit/AIMDLimit.java.

    Each success raises the limit by one, each refusal cuts it to 0.9; from 20, within 20 to 200.
    Not as by default, a slow answer is no refusal: the default takes all of 5 s and above for one,
    which is every second answer here.
    """

    name = "Netflix AIMD"

    def __init__(self, random: Random) -> None:
        super().__init__(20, random)

    def sample(self, attempt: Attempt, took: float, *, dropped: bool) -> None:
        if dropped:
            self.limit = max(20, int(self.limit * 0.9))
        elif attempt.in_flight * 2 >= self.limit:
            self.limit = min(200, self.limit + 1)


class Arc(Controller):
    """Vector, src/sinks/util/adaptive_concurrency/controller.rs.

    Once per average latency the limit, which is from 1 to 200, is looked at: one more where it was
    reached, nothing was refused, and the mean latency since is no higher than the average (EWMA,
    0.4); 0.9 of it where something was refused or that mean is 2.5 deviations above. Retries are
    inside a slot, after waits along the Fibonacci numbers up to 30 s, with full jitter.
    """

    name = "Vector ARC"
    holds = True

    def __init__(self, random: Random) -> None:
        super().__init__(1, random)
        self._mean: float | None = None
        self._variance = 0.0
        self._look_at = 0.0
        self._latencies: list[float] = []
        self._pushed_back = self._reached = False

    def started(self, now: float) -> None:
        super().started(now)
        self._reached = self._reached or self.in_flight >= self.limit

    def refused(self, attempt: Attempt, now: float) -> None:
        self._pushed_back = True

    def answered(self, attempt: Attempt, now: float) -> None:
        self.in_flight -= 1
        self._latencies.append(now - attempt.sent)
        latency = sum(self._latencies) / len(self._latencies)
        if self._mean is None:
            self._mean = latency
            self._look_at = now + latency
        elif now >= self._look_at:
            above = self._mean + 2.5 * math.sqrt(self._variance)
            if self._reached and not self._pushed_back and latency <= self._mean:
                self.limit = min(200, self.limit + 1)
            elif self._pushed_back or latency >= above:
                self.limit = max(1, int(self.limit * 0.9))
            off = latency - self._mean
            self._mean += 0.4 * off
            self._variance = 0.6 * (self._variance + 0.4 * off * off)
            self._look_at = now + self._mean
            self._latencies = []
            self._pushed_back = self._reached = False

    def wait(self, tries: int) -> float:
        before, wait = 1.0, 1.0
        for _ in range(min(tries, 8) - 1):
            before, wait = wait, before + wait
        return self._random.random() * min(30.0, wait)


class InspectAi(Controller):
    """inspect_ai, src/inspect_ai/util/_concurrency.py.

    From 20 connections, within 1 to 200: a round of as many successes as the limit (at least 4)
    doubles it until the first 429, and then adds 5%, rounded up to a five. A 429 starts the round
    again and cuts to 0.8, rounded down to a five, at most once in 15 s, in which successes do not
    count. Nor does one that was tried more than once. A retry keeps its connection, and waits 3 s,
    doubled each time, and up to 3 s more.
    """

    name = "inspect_ai"
    holds = True

    def __init__(self, random: Random) -> None:
        super().__init__(20, random)
        self._successes = 0
        self._searching = True
        self._cool = 0.0

    def answered(self, attempt: Attempt, now: float) -> None:
        self.in_flight -= 1
        if attempt.tries > 1 or now < self._cool:
            return
        self._successes += 1
        if self._successes < max(self.limit, 4):
            return
        self._successes = 0
        if self._searching:
            limit = self.limit * 2
        else:
            limit = self.limit + max(1, round(self.limit * 0.05))
            limit = limit if limit < 10 else math.ceil(limit / 5) * 5
        self.limit = min(200, limit)

    def refused(self, attempt: Attempt, now: float) -> None:
        self._successes = 0
        self._searching = False
        if now >= self._cool:
            self._cool = now + 15.0
            limit = int(self.limit * 0.8)
            self.limit = max(1, limit if limit < 10 else limit // 5 * 5)

    def wait(self, tries: int) -> float:
        return min(1800.0, 3.0 * 2.0 ** (tries - 1) + self._random.uniform(0.0, 3.0))


class Botocore(Controller):
    """botocore, retries/adaptive.py, throttling.py and bucket.py: the adaptive retry mode.

    From the first 429 on, each send takes a token. Tokens come at a rate along CUBIC's curve (beta
    0.7, scale 0.4), at least 0.5/s and at most twice the measured rate of responses (counted per
    half second, smoothed by 0.8); the bucket holds a second of them. Every 429 cuts. A retry takes
    a token too, and waits up to 1 s, doubled each time up to 20 s; no slot is limited.
    """

    name = "botocore adaptive"

    def __init__(self, random: Random) -> None:
        super().__init__(INFINITY, random)
        self._enabled = False
        self._rate, self._tokens, self._filled_at = 1.0, 0.0, 0.0
        self._top, self._plateau, self._cut_at = 0.0, 0.0, 0.0
        self._measured, self._count, self._half = 0.0, 0, 0

    def may_start(self, now: float) -> float:
        if not self._enabled:
            return now
        self._fill(now)
        return now if self._tokens >= 1 - 1e-9 else now + (1 - self._tokens) / self._rate

    def started(self, now: float) -> None:
        if self._enabled:
            self._tokens -= 1

    def answered(self, attempt: Attempt, now: float) -> None:
        self._measure(now)
        self._set(0.4 * (now - self._cut_at - self._plateau) ** 3 + self._top, now)

    def refused(self, attempt: Attempt, now: float) -> None:
        self._measure(now)
        self._top = min(self._measured, self._rate) if self._enabled else self._measured
        self._plateau = (self._top * 0.3 / 0.4) ** (1 / 3)
        self._cut_at = now
        self._enabled = True
        self._set(self._top * 0.7, now)

    def wait(self, tries: int) -> float:
        return min(20.0, self._random.random() * 2.0 ** (tries - 1))

    def _measure(self, now: float) -> None:
        self._count += 1
        half = int(now * 2)
        if half > self._half:
            rate = self._count * 2 / (half - self._half)
            self._measured = 0.8 * rate + 0.2 * self._measured
            self._count, self._half = 0, half

    def _set(self, rate: float, now: float) -> None:
        self._fill(now)
        rate = min(rate, 2 * self._measured)
        self._rate = max(0.5, rate)
        self._tokens = min(self._tokens, max(1.0, rate))

    def _fill(self, now: float) -> None:
        grown = self._tokens + (now - self._filled_at) * self._rate
        self._tokens = min(max(1.0, self._rate), grown)
        self._filled_at = now


PEERS: Sequence[type[Gradient2 | Vegas | Aimd | Arc | InspectAi | Botocore]] = (
    Gradient2,
    Vegas,
    Aimd,
    Arc,
    InspectAi,
    Botocore,
)
