"""No refusal where the limit is known, and the promised share of it used.

Each property runs the pure core on dense backlogs, with late timers and requests that overtake one
another, and asks simulated servers about every arrival. Below the properties stand the mutants:
schedulers with one thing wrong, each of which the same checks must catch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from depth import depth
from simulate import (
    SENDS,
    Driver,
    FixedWindow,
    Load,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
    faults,
    promised,
    refusals,
    servers,
    simulate,
    survivable_bucket,
)

from headway import Limits, Rate
from headway._core.limits import budget as limiter
from headway._core.limits.budget import Charge, TokenBudget
from headway._core.limits.pace import Pace
from headway._core.limits.scope import Scope
from headway._core.queue.job import Job
from headway._core.state import SchedulerState
from headway.rates import LATENESS
from headway.testing.arrivals import worst_window

SLACK = 0.002  # what a run may fall short of the promised share

RATES = [
    Rate(1, per=1),
    Rate(10, per=1),
    Rate(100, per=1),
    Rate(1000, per=1),
    Rate(10, per=2),
    Rate(60, per=60),
    Rate(600, per=60),
    Rate(600, per=60, window=1),
]


def named(rate: Rate) -> str:
    return str(rate) if rate.window is None else f"{rate} over {rate.window:g}s"


def tokens_up_to(
    most: int, reserve: float = 1.0, used: tuple[float, ...] = (1.0,)
) -> Callable[[Random], tuple[float, float]]:
    """Attempts of up to `most` tokens, of which `reserve` times as many are reserved."""

    def draw(random: Random) -> tuple[float, float]:
        cost = random.randint(1, most)
        return reserve * cost, float(int(cost * random.choice(used)))

    return draw


MIXED = Load(
    keys=("a", "b", "c", "d"),
    priorities=(0, 0, 0, 5, -1),
    tokens=tokens_up_to(100, used=(0.0, 0.5, 1.0)),
    cancel_queued=0.02,
    cancel_started=0.02,
    unsend=0.002,
)


# The properties


@pytest.mark.parametrize(
    ("per", "share"), [(1.0, 0.971), (2.0, 0.985), (60.0, 0.995)], ids=["1s", "2s", "60s"]
)
def test_what_the_pace_promises(per: float, share: float) -> None:
    assert promised(Rate(100, per=per)) == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize("rate", RATES, ids=named)
def test_dense_backlog(rate: Rate) -> None:
    trace = simulate(Limits(rate), Load(jitter=rate.delay_bound), seed=1)
    assert len(trace.sends) >= SENDS
    assert faults(trace, Limits(rate)) == {}
    assert trace.requests_reached(rate) >= promised(rate) - SLACK


@pytest.mark.parametrize("rate", [RATES[i] for i in (1, 3, 4, 6, 7)], ids=named)
def test_priorities_keys_tokens_and_cancellations(rate: Rate) -> None:
    # Requests bind; the tokens, of which half are in use, must not cost them a permit.
    a_second = rate.limit / rate.per
    limits = Limits(rate, tokens=Rate(6_000 * a_second, per=60), concurrency=10_000)
    keys = {
        "a": Limits(Rate(max(1, rate.limit // 5), per=rate.per, window=rate.window)),
        "b": Limits(concurrency=3),
        "c": Limits(tokens=Rate(6_000 * a_second, per=60)),
    }
    load = replace(MIXED, jitter=0.020)
    trace = simulate(limits, load, seed=2, keys=keys, weights={"a": 8})
    assert trace.cancelled > SENDS / 50
    assert trace.unsent >= SENDS / 2_000
    assert faults(trace, limits, keys) == {}
    assert trace.requests_reached(rate) >= promised(rate) - SLACK


@pytest.mark.parametrize("rate", [RATES[1], RATES[3], RATES[6]], ids=named)
@pytest.mark.parametrize("burst", [1, 5])
def test_floods_after_lulls(rate: Rate, burst: int) -> None:
    limits = Limits(replace(rate, burst=burst))
    load = replace(
        MIXED, jitter=rate.delay_bound, backlog=1000, lull=10 / SENDS, lull_seconds=2 * rate.span
    )
    trace = simulate(limits, load, seed=3)
    assert faults(trace, limits) == {}


@pytest.mark.parametrize("burst", [2, 10, 50])
def test_bursts_on_a_dense_backlog(burst: int) -> None:
    rate = Rate(100, per=1, burst=burst)
    trace = simulate(Limits(rate), Load(jitter=rate.delay_bound), seed=4)
    assert faults(trace, Limits(rate)) == {}
    assert trace.requests_reached(rate) >= promised(rate) - SLACK


def test_several_rates_at_once() -> None:
    # Each binds for a while: the backlog comes in floods, and the second rate is the slower.
    limits = Limits([Rate(20, per=1), Rate(600, per=60, burst=100), Rate(33, per=2)])
    trace = simulate(limits, replace(MIXED, lull=0.002, lull_seconds=60.0, backlog=200), seed=5)
    assert faults(trace, limits) == {}
    dense = simulate(limits, Load(), seed=6)
    assert faults(dense, limits) == {}
    assert dense.requests_reached(limits.requests[1]) >= promised(limits.requests[1]) - SLACK


def test_concurrency_binds() -> None:
    limits = Limits("100/s", concurrency=8)
    keys = {"a": Limits(concurrency=2)}
    trace = simulate(limits, replace(MIXED, unsend=0.02, cancel_started=0.1), seed=7, keys=keys)
    assert faults(trace, limits, keys) == {}
    assert len(trace.sends) / trace.seconds() > 0.95 * 8 / 0.26


@pytest.mark.parametrize(
    "rate", [Rate(180_000, per=60), Rate(100_000, per=2), Rate(100_000, per=1)], ids=named
)
def test_tokens_reserved_exactly(rate: Rate) -> None:
    limits = Limits(tokens=rate)
    load = Load(tokens=tokens_up_to(int(rate.limit / 100)), jitter=rate.delay_bound)
    trace = simulate(limits, load, seed=8)
    assert faults(trace, limits) == {}
    assert trace.tokens_reached(rate) >= 0.97


def skewed(random: Random) -> tuple[float, float]:
    """Costs as calls of language models have them: most are small, a few at the bound of 1,800."""
    cost = float(min(1_800, 1 + int(random.expovariate(1 / 300))))
    return cost, cost


BOTH = Limits("600/min", tokens="180k/min")


def test_requests_and_tokens_that_bind_in_turn() -> None:
    # A mean of just under 300 tokens: both limits are used up at about the same pace.
    trace = simulate(BOTH, Load(tokens=skewed), seed=9, sends=depth(4_000, 20_000))
    assert faults(trace, BOTH) == {}
    assert trace.requests_reached(BOTH.requests[0]) >= 0.96
    assert trace.tokens_reached(BOTH.tokens[0]) >= 0.94


def test_twice_the_tokens_reserved() -> None:
    # 60 s of the window and 8 s in which the double is held: 60 / 68 = 88% is the most.
    rate = Rate(180_000, per=60)
    limits = Limits(tokens=rate)
    load = Load(tokens=tokens_up_to(900, reserve=2.0), service=lambda random: 8.0)
    trace = simulate(limits, load, seed=10)
    assert faults(trace, limits) == {}
    assert trace.tokens_reached(rate) >= 0.87


@pytest.mark.parametrize("seconds", [3.0, 70.0], ids=["short", "longer than the window"])
def test_tokens_of_any_use_and_any_end(seconds: float) -> None:
    # The servers count what is used; overruns, which nobody could know, are the ledger's.
    rates = [Rate(6_000, per=1, window=1), Rate(180_000, per=60)]
    limits = Limits("50/s", tokens=rates)
    keys = {"a": Limits(tokens=Rate(30_000, per=60))}
    load = replace(
        MIXED,
        tokens=tokens_up_to(2_000, used=(0.0, 0.3, 1.0)),
        service=lambda random: random.uniform(0.0, 2.0 * seconds),
        cancel_started=0.1,
        unsend=0.02,
        lull=10 / SENDS,
        lull_seconds=100.0,
    )
    trace = simulate(limits, load, seed=11, keys=keys)
    assert faults(trace, limits, keys) == {}
    over = replace(load, tokens=tokens_up_to(2_000, used=(0.0, 0.5, 1.0, 1.0, 2.0)))
    trace = simulate(limits, over, seed=12, keys=keys)
    assert trace.violations == {}


# The simulated servers are what they are called


def test_the_servers_tell_apart_what_they_should() -> None:
    in_two = [(0.9, 1.0)] * 5 + [(1.1, 1.0)] * 5
    assert refusals(FixedWindow(5, 1.0), in_two) == 0
    assert refusals(FixedWindow(5, 1.0, phase=0.5), in_two) == 5
    assert refusals(SlidingLog(5, 1.0), in_two) == 5
    assert refusals(SlidingLog(1, 1.0), [(0.0, 1.0), (1.0, 1.0)]) == 1  # an exact tie
    assert refusals(SlidingLog(1, 1.0), [(0.0, 1.0), (1.000001, 1.0)]) == 0
    assert refusals(SlidingCounter(5, 1.0), in_two) == 4  # 5 * 0.9 is floored to 4
    assert refusals(SlidingCounter(5, 1.0, exact=True), in_two) == 5
    assert refusals(TokenBucket(5, 5.0), in_two) == 4
    assert refusals(SlidingLog(10, 1.0), [(0.0, 6.0), (0.1, 5.0), (0.2, 4.0)]) == 1
    assert worst_window([(0.0, 1.0), (0.5, 1.0), (1.0, 1.0), (1.2, 1.0)], 1.0) == 3


def test_which_buckets_are_survivable() -> None:
    # Lateness and jitter press 30 ms of arrivals together: one more than the steady stream.
    assert survivable_bucket(Rate(30, per=1), 2)
    assert not survivable_bucket(Rate(100, per=1), 2)
    assert "token bucket, C = L" in servers(Rate(100, per=1))
    trace = simulate(Limits("100/s"), seed=13, sends=5_000)
    assert refusals(TokenBucket(2, 100.0), trace.arrivals()) > 0


# The mutants


def pace_for(clearance: Callable[[Rate], float], burst: bool = True) -> property:
    return property(lambda self: (self.share - (burst and self.burst - 1)) / clearance(self))


def catch(
    *names: str,
    limits: Limits,
    load: Load | None = None,
    seed: int = 1,
    sends: int = SENDS,
    keys: dict[Any, Limits] | None = None,
) -> None:
    """Run a mutant, at most for so many `sends`: `faults` has to name all of these. What is found
    in the beginning of a trace is found in all of it, so it may end there.
    """
    driver = Driver(limits, load or Load(), seed=seed, keys=keys)
    for part in (32, 8, 2, 1):
        found = " ".join(faults(driver.run(sends // part), limits, keys))
        if all(name in found for name in names):
            return
    pytest.fail(f"the mutant got away: {found or 'no fault'}")


@pytest.mark.parametrize("rate", [RATES[1], RATES[2], RATES[6]], ids=named)
def test_mutant_no_room_for_jitter(rate: Rate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rate, "pace", pace_for(lambda r: r.span + LATENESS + 1e-6))
    catch("sliding log", limits=Limits(rate), load=Load(jitter=rate.delay_bound))


@pytest.mark.parametrize("rate", [RATES[1], RATES[2], RATES[4]], ids=named)
def test_mutant_no_room_for_lateness(rate: Rate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rate, "pace", pace_for(lambda r: r.span + r.delay_bound + 1e-6))
    catch("sliding log", limits=Limits(rate), load=Load(jitter=rate.delay_bound))


def test_mutant_faster_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits("10/s")
    asked = servers(limits.requests[0])
    monkeypatch.setattr(Rate, "pace", pace_for(lambda r: 0.99 * r.span))
    arrivals = simulate(limits, seed=1).arrivals()
    for name, group in asked.items():
        assert sum(refusals(server, arrivals) for server in group) > 0, name


def test_mutant_burst_that_does_not_slow_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    clearance = pace_for(lambda r: r.span + r.delay_bound + LATENESS, burst=False)
    monkeypatch.setattr(Rate, "pace", clearance)
    limits = Limits(Rate(100, per=1, burst=10))
    load = Load(lull=0.002, backlog=300)
    catch("sliding log", limits=limits, load=load)


def test_mutant_catches_up_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(self: Pace, now: float, cost: float = 1.0) -> None:
        self.next = (self.next if self.next > -math.inf else now) + cost * self.interval

    monkeypatch.setattr(Pace, "take", take)
    limits = Limits("100/s")
    load = Load(lull=0.002, backlog=300)
    catch("sliding log", "token bucket, C = L", limits=limits, load=load, seed=3, sends=5_000)


def test_mutant_never_catches_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(self: Pace, now: float, cost: float = 1.0) -> None:
        self.next = max(self.next, now) + cost * self.interval

    monkeypatch.setattr(Pace, "take", take)
    rate = RATES[2]
    assert simulate(Limits(rate), seed=1).requests_reached(rate) < promised(rate) - SLACK


def test_mutant_floors_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = promised(RATES[1])
    monkeypatch.setattr(Rate, "pace", property(lambda self: math.floor(10 * stated)))
    assert simulate(Limits(RATES[1]), seed=1).requests_reached(RATES[1]) < stated - SLACK


def test_mutant_checks_once_a_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks everything first and takes afterwards, not in one step."""
    ready_at = Scope.ready_at
    seen: dict[Scope, tuple[float, float]] = {}

    def remembered(self: Scope, cost: float, now: float) -> float:
        if seen.get(self, (0.0, 0.0))[0] != now:
            seen[self] = now, ready_at(self, cost, now)
        return seen[self][1]

    monkeypatch.setattr(Scope, "ready_at", remembered)
    limits = Limits("10/s", tokens="1000/s", concurrency=4)
    load = Load(tokens=tokens_up_to(100), backlog=20)
    # Each start leaves a job to be submitted, so the poll that takes too much comes to an end.
    catch("sliding log, 10/s", "concurrency", limits=limits, load=load, sends=2_000)


def test_mutant_charges_one_of_two_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Scope.take

    def partly(self: Scope, job: Job, now: float) -> None:
        paces, self.paces = self.paces, self.paces[:1]
        take(self, job, now)
        self.paces = paces

    monkeypatch.setattr(Scope, "take", partly)
    limits = Limits(["20/s", "600/min"])
    catch("sliding log, 600/min", limits=limits, sends=5_000)


def test_mutant_charges_the_whole_and_not_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Scope.take

    def only_the_whole(self: Scope, job: Job, now: float) -> None:
        if self.key is None:
            take(self, job, now)

    monkeypatch.setattr(Scope, "take", only_the_whole)
    limits, keys = Limits("100/s"), {"a": Limits("10/s")}
    load = Load(keys=("a", "b"))
    catch("sliding log, 10/s of key a", limits=limits, load=load, sends=5_000, keys=keys)


def test_mutant_takes_back_what_has_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A permit that was not used is given back although others have started since."""
    unsend = SchedulerState.unsend

    def always(self: SchedulerState, job: Job, now: float) -> None:
        self.whole.last = job
        unsend(self, job, now)

    monkeypatch.setattr(SchedulerState, "unsend", always)
    limits = Limits("100/s")
    catch("sliding log", limits=limits, load=replace(MIXED, unsend=0.2))


def test_mutant_gives_a_cancelled_attempt_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SchedulerState, "cancel", SchedulerState.unsend)
    limits = Limits("10/s", tokens="10k/s")
    load = Load(
        tokens=tokens_up_to(100), cancel_started=0.5, service=lambda random: random.random() * 0.1
    )
    monkeypatch.setattr("simulate.QUEUED", -1)  # `unsend` of one that is queued calls `cancel`
    catch("sliding log, 10/s", limits=limits, load=load, sends=5_000)


def test_mutant_one_slot_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    state = Scope._state

    def more(self: Scope, limits: Limits, old: Limits | None) -> None:
        state(self, limits, old)
        self.capacity += 1

    monkeypatch.setattr(Scope, "_state", more)
    limits = Limits(concurrency=8)
    catch("concurrency", limits=limits, sends=1_000)


HALF = Limits(tokens=Rate(180_000, per=60))
HALF_USED = Load(
    keys=("a", "b"),
    tokens=tokens_up_to(1_800, used=(0.0, 1.0)),
    service=lambda random: random.uniform(0.0, 70.0),
    cancel_started=0.05,
    lull=0.001,
    lull_seconds=100.0,
    jitter=0.3,
)


def test_no_mutant_of_tokens() -> None:
    assert faults(simulate(HALF, HALF_USED, seed=1), HALF) == {}


def test_mutant_naive_refund(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GCRA with the burst of a window, credited with what was not used whenever that is."""

    def ready_at(self: TokenBudget, cost: float, now: float) -> float:
        return self.pace.next + cost * self.pace.interval - self.rate.span

    def take(self: TokenBudget, cost: float, now: float) -> Charge:
        self.pace.next = max(self.pace.next, now) + cost * self.pace.interval
        return Charge([0.0, 0.0], cost, cost)

    def settle(self: TokenBudget, charge: Charge, used: float, now: float) -> None:
        self.pace.next += (used - charge.reserved) * self.pace.interval

    monkeypatch.setattr(TokenBudget, "ready_at", ready_at)
    monkeypatch.setattr(TokenBudget, "take", take)
    monkeypatch.setattr(TokenBudget, "settle", settle)
    catch("window of tokens", limits=HALF, load=HALF_USED, sends=5_000)


def test_mutant_refund_to_the_newest_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    def refund(self: TokenBudget, charge: Charge, tokens: float, now: float) -> None:
        self._expire(now)
        self._add(-tokens, now)

    monkeypatch.setattr(TokenBudget, "_refund", refund)
    catch("window of tokens", limits=HALF, load=HALF_USED, sends=5_000)


def test_mutant_refund_of_what_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refund(self: TokenBudget, charge: Charge, tokens: float, now: float) -> None:
        self._expire(now)
        charge.slot[1] -= tokens
        self.total -= tokens

    monkeypatch.setattr(TokenBudget, "_refund", refund)
    catch("window of tokens", limits=HALF, load=HALF_USED, sends=5_000)


def test_mutant_paces_tokens_without_leeway(monkeypatch: pytest.MonkeyPatch) -> None:
    for leeway in ("_AHEAD", "_SLACK", "_CATCHES_UP"):
        monkeypatch.setattr(limiter, leeway, 0.0)
    trace = simulate(BOTH, Load(tokens=skewed), seed=9, sends=5_000)
    assert trace.requests_reached(BOTH.requests[0]) < 0.85


def test_mutant_never_refunds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenBudget, "_refund", lambda *_: None)
    load = Load(tokens=tokens_up_to(900, reserve=2.0), service=lambda random: 8.0)
    assert simulate(HALF, load, seed=10).tokens_reached(HALF.tokens[0]) < 0.6


@pytest.mark.parametrize("slots", [5, 20])
def test_mutant_one_slot_too_few(slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "_SLOTS", slots)
    assert faults(simulate(HALF, HALF_USED, seed=1), HALF) == {}  # G + 1 slots, however few

    def expire(self: TokenBudget, now: float) -> None:
        oldest = now // self._width - slots + 1
        while self._slots and self._slots[0][0] < oldest:
            slot = self._slots.popleft()
            self.total -= slot[1]
            slot[0] = -math.inf

    monkeypatch.setattr(TokenBudget, "_expire", expire)
    catch("window of tokens", limits=HALF, load=HALF_USED)


def test_mutant_forgets_overruns(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = TokenBudget.settle

    def capped(self: TokenBudget, charge: Charge, used: float, now: float) -> None:
        settle(self, charge, min(used, charge.reserved), now)

    monkeypatch.setattr(TokenBudget, "settle", capped)
    load = replace(HALF_USED, tokens=tokens_up_to(1_800, used=(0.0, 1.0, 2.0)))
    catch("window of tokens", limits=HALF, load=load, sends=5_000)


def test_mutant_tokens_of_a_cancelled_attempt_are_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settle = SchedulerState._settle

    def nothing(self: SchedulerState, job: Job, used: float | None, now: float) -> None:
        settle(self, job, used or 0.0, now)

    monkeypatch.setattr(SchedulerState, "_settle", nothing)
    load = replace(HALF_USED, cancel_started=0.5)
    catch("window of tokens", limits=HALF, load=load, sends=5_000)
