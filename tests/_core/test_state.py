"""SchedulerState under random operations at random times: nothing is lost, nothing leaks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from depth import depth
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from headway import DeadlineExceeded, HeadwayError, Kind, Limits, NeverFits, QueueFull, Rate, Retry
from headway._core.limits.budget import Charge, TokenBudget
from headway._core.limits.scope import Scope
from headway._core.queue.job import DONE, FAILED, NEW, QUEUED, STARTED, Job
from headway._core.refusals.retry import Delay
from headway._core.state import SchedulerState
from headway.events import Finished, Ignored, Queued, Started
from headway.hints import Refusal
from headway.kinds._words import count

INFINITY = math.inf
RETRY = Retry(attempts=3, patience=60, cap=10)
KEYS: dict[Any, Limits] = {
    "own": Limits("60/min", tokens=Rate(600, window=10), concurrency=2),
    "slots": Limits(concurrency=1),
}
CHOICES = [
    Limits(),
    Limits(concurrency=2),
    Limits("120/min", concurrency=3),
    Limits(["10/s", "60/min"], tokens="3k/min"),
    Limits(Rate(60, burst=3), tokens=[Rate(1000, window=1), "5k/h"], concurrency=4),
]


class Ledger:
    """What was charged to a token budget, in a plain list: the model of its window."""

    def __init__(self, budget: TokenBudget) -> None:
        self.entries = [slot[:2] for slot in budget._slots]  # what a retune carried over
        self.held: dict[Job, float] = {}  # the slot that an attempt in flight was charged to

    def check(self, budget: TokenBudget, now: float) -> None:
        oldest = now // budget._width - 1000
        inside = sum(tokens for slot, tokens in self.entries if slot >= oldest)
        budget._expire(now)
        assert budget.total == pytest.approx(inside, abs=1e-6)
        assert budget.total == pytest.approx(sum(t for _, t, _ in budget._slots), abs=1e-6)
        assert budget.total >= -1e-6
        held = sum(held for _, _, held in budget._slots)
        assert budget.expected.held == pytest.approx(held, abs=1e-6)


class StateMachine(RuleBasedStateMachine):
    """Every job is queued, in flight, or ended exactly once, whatever happens when."""

    @initialize(
        limits=st.sampled_from(CHOICES),
        keyed=st.booleans(),
        max_queue=st.sampled_from([INFINITY, INFINITY, 3, 0]),
    )
    def begin(self, limits: Limits, keyed: bool, max_queue: float) -> None:
        self.now = 1000.0
        self.keys: Callable[[Any], Limits | None] = KEYS.get if keyed else lambda key: None
        self.state = SchedulerState(
            limits,
            now=self.now,
            retry=RETRY,
            keys=self.keys,
            weights={"b": 3},
            max_queue=max_queue,
        )
        self.state.trace(starts=True, ends=True)
        self.jobs: list[Job] = []  # those that were accepted
        self.told: set[Job] = set()  # those whose failure in the queue a poll has told
        self.ledgers: dict[TokenBudget, Ledger] = {}
        self.floors: dict[Scope, float] = {}  # what a refusal asked for
        self.wake_at = self.now
        self.starts = self.unsent = self.late = 0

    # What the model keeps

    def having(self, status: int) -> list[Job]:
        return [job for job in self.jobs if job.status == status]

    def scopes(self, job: Job) -> list[Scope]:
        own = job.flow.limits
        return [self.state.whole] if own is None else [self.state.whole, own]

    def saw_start(self, job: Job) -> None:
        self.starts += 1
        assert job.status == STARTED
        assert not self.state.paused
        credential = job.credential or job.flow.credential
        assert credential is None or credential.latch is None
        for limits in self.scopes(job):
            assert limits.in_flight <= limits.capacity
            assert self.now >= self.floors.get(limits, -INFINITY)
        for budget, charge in job.charges or ():
            ledger = self.ledgers.setdefault(budget, Ledger(TokenBudget(budget.rate)))
            ledger.held[job] = self.now // budget._width
            ledger.entries.append([ledger.held[job], charge.reserved])
            if charge.reserved:
                assert budget.total <= max(budget.rate.share, charge.reserved) + 1e-6

    def settled(self, charges: list[tuple[TokenBudget, Charge]], job: Job, used: float) -> None:
        for budget, charge in charges:
            slot = self.ledgers[budget].held.pop(job)
            if budget.heir is not None:  # a retune came in between
                slot = charge.slot[0]
                while budget.heir is not None:
                    budget = budget.heir
            if used > charge.reserved:
                slot = self.now // budget._width
            self.ledgers[budget].entries.append([slot, used - charge.reserved])

    # What may happen

    @rule(
        key=st.sampled_from([None, "b", "own", "slots"]),
        priority=st.sampled_from([0, 0, 1, -2.5]),
        cost=st.sampled_from([0.0, 0.0, 5.0, 150.0, 590.0, 4000.0]),
        timeout=st.none() | st.floats(0.1, 100),
    )
    def submit(self, key: str | None, priority: float, cost: float, timeout: float | None) -> None:
        deadline = None if timeout is None else self.now + timeout
        job = Job(self.state.flow(key), priority, cost, deadline)
        before = self.state.statistics(self.now)
        refused: HeadwayError | None = None
        try:
            started = self.state.submit(job, self.now)
        except HeadwayError as error:
            refused = error
        if refused is not None:
            after = self.state.statistics(self.now)
            assert (before.queued, before.in_flight) == (after.queued, after.in_flight)
            assert job.status == NEW
            fits = all(cost <= b.rate.limit for s in self.scopes(job) for b in s.budgets)
            assert fits is not isinstance(refused, NeverFits)
            self.late += isinstance(refused, DeadlineExceeded)
            if isinstance(refused, QueueFull):
                assert before.queued >= self.state.max_queue
            return
        self.jobs.append(job)
        assert job.status == (STARTED if started else QUEUED)
        if started:
            self.saw_start(job)

    def do_poll(self) -> bool:
        """Poll now; whether anything came of it."""
        in_flight = set(self.having(STARTED))
        changed, self.wake_at = self.state.poll(self.now)
        assert self.wake_at > self.now
        assert len(changed) == len(set(changed))
        for job in changed:
            if job.status == FAILED:
                assert job not in self.told
                self.told.add(job)
            else:
                assert job not in in_flight
                self.saw_start(job)
        return bool(changed)

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.3, 1.0, 2.0, 15.0, 100.0]))
    def poll(self, seconds: float) -> None:
        self.now += seconds
        self.do_poll()

    @rule()
    def poll_when_it_says(self) -> None:
        if self.now < self.wake_at < INFINITY:
            self.now = self.wake_at
        self.do_poll()

    @precondition(lambda self: self.having(STARTED))
    @rule(data=st.data(), used=st.none() | st.sampled_from([0.0, 3.0, 200.0]))
    def finish(self, data: st.DataObject, used: float | None) -> None:
        job = data.draw(st.sampled_from(self.having(STARTED)))
        charges = job.charges or []
        self.state.finish(job, used, self.now)
        self.settled(charges, job, job.cost if used is None else used)
        assert job.status == DONE

    @precondition(lambda self: self.having(STARTED))
    @rule(
        data=st.data(),
        kind=st.sampled_from([*Kind, Kind.TRANSIENT, Kind.TRANSIENT, Kind.RATE]),
        wait=st.sampled_from([None, None, 0.0, 0.7, 5.0, 59.0, 400.0]),
        answered=st.booleans(),
        random=st.floats(0, 1, exclude_max=True),
        lease=st.booleans(),
    )
    def refuse(
        self,
        data: st.DataObject,
        kind: Kind,
        wait: float | None,
        answered: bool,
        random: float,
        lease: bool,
    ) -> None:
        job = data.draw(st.sampled_from(self.having(STARTED)))
        scope = job.limits or self.state.whole
        charges = job.charges or []
        refusal = Refusal(kind, wait, 500 if answered else None)
        if lease:
            self.state.learn(job, refusal, self.now, random)
            assert job.status == DONE
        else:
            verdict = self.state.defer(job, refusal, self.now, random)
            assert job.status == (QUEUED if isinstance(verdict, Delay) else DONE)
        ran = kind is Kind.TRANSIENT or (kind is Kind.PERMANENT and not answered)
        self.settled(charges, job, job.cost if ran else 0.0)
        held = kind in (Kind.RATE, Kind.TOKENS, Kind.CONCURRENCY, Kind.CAPACITY)
        if held and wait is not None and wait <= RETRY.patience:  # a longer one is asked about
            self.floors[scope] = max(self.floors.get(scope, -INFINITY), self.now + wait)

    @precondition(lambda self: self.having(STARTED) + self.having(QUEUED))
    @rule(data=st.data(), sent=st.booleans())
    def cancel(self, data: st.DataObject, sent: bool) -> None:
        job = data.draw(st.sampled_from(self.having(STARTED) + self.having(QUEUED)))
        charges, ran = job.charges or [], job.status == STARTED
        (self.state.cancel if sent else self.state.unsend)(job, self.now)
        if ran:
            self.settled(charges, job, job.cost if sent else 0.0)
            self.unsent += not sent
        assert job.status == DONE

    @rule()
    def end_again(self) -> None:
        for job in self.jobs:
            if job.status in (DONE, FAILED):
                self.state.cancel(job, self.now)
                self.state.unsend(job, self.now)

    @rule(pause=st.booleans())
    def pause_or_resume(self, pause: bool) -> None:
        (self.state.pause if pause else self.state.resume)()

    @rule(limits=st.sampled_from(CHOICES), keyed=st.booleans())
    def retune(self, limits: Limits, keyed: bool) -> None:
        self.keys = KEYS.get if keyed else lambda key: None
        before = {flow: flow.limits for flow in self.state.flows.values()}
        self.state.retune(limits, self.keys, {"b": 2}, self.now)
        for scope in self.state._scopes():
            for budget in scope.budgets:  # one whose rate is stated as before goes on
                self.ledgers.setdefault(budget, Ledger(budget))
        for flow, own in before.items():
            if own is not None and flow.limits is not own:
                self.floors.pop(own, None)

    @rule()
    def reset(self) -> None:
        self.state.reset(self.now)
        self.floors.clear()

    # What always holds

    @invariant()
    def counts_match(self) -> None:
        state, started = self.state, self.having(STARTED)
        assert state.in_flight == state.whole.in_flight == len(started)
        self.keys_add_up()
        own = Counter(job.flow for job in started)
        for flow in state.flows.values():
            assert flow.counts.in_flight == own[flow]
            if flow.limits is not None:  # those that started before it was stated count too
                assert flow.limits.in_flight == own[flow]
        picture = state.statistics(self.now)
        queued = self.having(QUEUED)
        assert state.waiting.size == len(queued) == picture.queued
        assert set(state.waiting.jobs()) == set(queued)
        assert picture.delayed == sum(job.key_queue is None for job in queued)
        assert picture.in_flight == len(started)
        assert picture.sent == self.starts - self.unsent
        assert picture.seconds >= 0
        ended = len(self.having(DONE)) + len(self.having(FAILED)) + self.late
        assert picture.succeeded + picture.failed + picture.cancelled + picture.timed_out == ended

    def keys_add_up(self) -> None:
        picture = self.state.statistics(self.now)
        for name in ("queued", "in_flight", "sent", "succeeded", "failed", "cancelled",
                     "timed_out", "retried"):  # fmt: skip
            total = sum(getattr(key, name) for key in picture.keys.values())
            assert getattr(picture, name) == total, name
        kinds = Counter[Kind]()
        for key in picture.keys.values():
            kinds.update(key.refused)
        assert picture.refused == kinds

    @invariant()
    def windows_hold_what_was_charged(self) -> None:
        for scope in self.state._scopes():
            for budget in scope.budgets:
                ledger = self.ledgers.setdefault(budget, Ledger(TokenBudget(budget.rate)))
                ledger.check(budget, self.now)

    @precondition(lambda self: not self.having(STARTED) and not self.state.paused)
    @invariant()
    def whoever_waits_gets_on(self) -> None:
        """With nothing in flight time alone is enough: polls at the moments named start a job."""
        if not self.having(QUEUED):
            return
        for _ in range(60):
            if self.do_poll():
                return
            assert self.wake_at < INFINITY
            self.now = self.wake_at
        raise AssertionError("polled 60 times for nothing")

    def teardown(self) -> None:
        if not hasattr(self, "state"):
            return
        self.state.resume()
        for index in range(10_000):
            for job in self.having(STARTED):
                self.state.finish(job, None, self.now)
            if not self.having(QUEUED):
                break
            if index % 7 == 6:
                self.state.unsend(self.having(QUEUED)[0], self.now)
            if not self.do_poll() and self.wake_at < INFINITY:
                self.now = self.wake_at
        self.do_poll()
        state = self.state
        picture = state.statistics(self.now)
        assert (picture.queued, picture.delayed, picture.in_flight) == (0, 0, 0)
        assert not state.waiting.queue._levels
        assert not state.waiting.queue._ranking
        assert state.waiting.jobs() == []
        assert self.told == set(self.having(FAILED))
        assert all(flow.blocked_until is None for flow in state.flows.values())
        finished = Counter(event.job for event in state.events if isinstance(event, Finished))
        assert finished == Counter(job.number for job in self.jobs)
        queued = Counter(event.job for event in state.events if isinstance(event, Queued))
        assert queued == finished
        assert self.starts == sum(isinstance(event, Started) for event in state.events)
        for limits in state._scopes():
            assert limits.in_flight == 0
            for budget in limits.budgets:
                budget._expire(self.now + 2 * budget.rate.span)
                assert budget.total == 0.0
                assert not budget._slots


# What random operations would seldom meet


def state(limits: Limits | None = None, **options: Any) -> SchedulerState:
    return SchedulerState(limits or Limits(), now=0.0, retry=Retry(), **options)


def submitted(state: SchedulerState, key: object = None, now: float = 0.0, **values: Any) -> Job:
    job = Job(state.flow(key), **values)
    state.submit(job, now)
    return job


def test_flows_of_keys_that_come_once_are_forgotten() -> None:
    machine = state()
    for number in range(20_000):
        machine.finish(submitted(machine, number), None, 0.0)
    assert len(machine.flows) <= 4096


def test_looking_for_idle_flows_costs_little_while_all_are_busy() -> None:
    machine = state(Limits(concurrency=1))
    looks = 0

    class Watched(dict[Any, Any]):
        def items(self) -> Any:
            nonlocal looks
            looks += len(self)
            return super().items()

    machine.flows = machine._registry.table = Watched()
    for number in range(20_000):
        submitted(machine, number)
    assert len(machine.flows) == 20_000
    assert looks <= 2 * 20_000


@pytest.mark.parametrize("idle", [0.0, 1000.0])
def test_the_recent_share_counts_the_first_attempt_after_a_long_rest(idle: float) -> None:
    machine = state()
    job = submitted(machine, now=idle)
    machine.learn(job, Refusal(Kind.RATE, None, 429), idle, 0.0)
    recent = machine.statistics(idle + 1).recent
    assert (recent.sent, recent.share(), recent.share(Kind.RATE)) == (1, 1.0, 1.0)


def test_a_retry_of_failures_is_still_within_budget_on_another_clock() -> None:
    machine = state()
    machine.shift(1000.0)
    machine.shift(-900.0)
    now, kept = 100.0, 0
    for _ in range(20):
        failed = submitted(machine, now=now)
        kept += isinstance(machine.defer(failed, Refusal(Kind.TRANSIENT), now, 0.9), Delay)
        machine.cancel(failed, now)
        machine.finish(submitted(machine, now=now), None, now)
    assert 10 <= kept < 20
    now += 5.0
    failed = submitted(machine, now=now)
    assert isinstance(machine.defer(failed, Refusal(Kind.TRANSIENT), now, 0.9), Delay)


def test_a_guess_follows_what_jobs_of_the_key_use_and_is_never_too_large_to_start() -> None:
    machine = state(Limits(tokens="60k/min"), keys={"small": Limits(tokens="100/s")}.get)
    assert machine.guess(machine.flow(None)) == 600  # 1% of the limit, before the first
    assert machine.guess(machine.flow("small")) == 1
    for _ in range(50):
        machine.finish(submitted(machine), 300.0, 0.0)
    assert machine.guess(machine.flow(None)) == pytest.approx(300)
    machine.finish(submitted(machine, "small"), 900.0, 0.0)
    assert machine.guess(machine.flow("small")) == 900
    job = Job(machine.flow("small"), 0, 900.0, None, guessed=True)
    machine.submit(job, 1.0)
    for now in (1.0, 40.0):
        machine.poll(now)
    assert job.status == STARTED


@pytest.mark.parametrize("used", [1_001.0, 1e5, 1e11, 1e300])
@pytest.mark.parametrize("key", [None, "a"])
def test_an_absurd_usage_counts_as_what_was_reserved_and_is_told(
    used: float, key: str | None
) -> None:
    limit = Limits(tokens=Rate(100, per=60))
    machine = state(limit, keys={"a": limit}.get)
    machine.finish(submitted(machine, key, cost=50.0), used, 0.0)
    submitted(machine, key, cost=50.0)
    _, wake_at = machine.poll(0.0)
    assert wake_at <= 61.0
    assert machine.counters.tokens == 0.0  # nothing is known
    (event,) = [event for event in machine.events if isinstance(event, Ignored)]
    assert (event.key, event.what) == (
        key, f"an answer says that it used {count(used)} tokens",
    )  # fmt: skip


def test_an_absurd_usage_is_no_usage_where_nothing_is_limited_either() -> None:
    machine = state(Limits())
    machine.finish(submitted(machine), 1e11, 0.0)
    machine.finish(submitted(machine), 2e7, 0.0)
    assert machine.counters.tokens == 2e7


def test_what_was_used_beyond_a_limit_and_can_be_is_counted() -> None:
    machine = state(Limits(tokens=Rate(100, per=60)))
    machine.finish(submitted(machine, cost=50.0), 1_000.0, 0.0)
    assert machine.counters.tokens == 1_000.0
    assert not [event for event in machine.events if isinstance(event, Ignored)]


def test_a_head_that_is_cancelled_holds_its_key_no_longer() -> None:
    machine = state(keys={"a": Limits(tokens=Rate(600, window=10))}.get)
    submitted(machine, "a", cost=60.0)
    large, small = submitted(machine, "a", cost=100.0), submitted(machine, "a", cost=20.0)
    started, wake_at = machine.poll(7.0)
    assert (started, wake_at > 9.0) == ([], True)
    machine.cancel(large, 7.0)
    assert machine.poll(7.0)[0] == [small]


def test_what_binds() -> None:
    machine = state(Limits("60/min", tokens="6k/min", concurrency=2))
    seen = [machine.statistics(0.0).binds]
    first = submitted(machine, cost=10.0)
    seen.append(machine.statistics(0.0).binds)
    machine.poll(1.1)
    second = submitted(machine, now=1.1, cost=10.0)
    seen.append(machine.statistics(1.1).binds)
    machine.finish(first, 5000.0, 1.2)
    submitted(machine, now=1.2, cost=2000.0)
    seen.append(machine.statistics(3.0).binds)
    machine.learn(second, Refusal(Kind.RATE, 100.0, 429), 3.0, 0.0)
    seen.append(machine.statistics(3.0).binds)
    machine.pause()
    seen.append(machine.statistics(3.0).binds)
    machine.resume()
    machine.reset(3.0)
    seen.append(machine.statistics(4.0).binds)
    assert seen == ["", "requests", "concurrency", "tokens", "gate", "paused", "tokens"]


TestStateMachine = StateMachine.TestCase
TestStateMachine.settings = settings(
    max_examples=depth(20, 1000), stateful_step_count=40, deadline=None
)
