"""SchedulerState under random operations at random times: nothing is lost, nothing leaks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from headway import HeadwayError, Kind, Limits, NeverFits, QueueFull, Rate, Retry
from headway._core.job import DONE, FAILED, NEW, QUEUED, STARTED, Job
from headway._core.limiter import Charge, TokenBudget
from headway._core.limitset import LimitSet
from headway._core.retry import Delay
from headway._core.state import SchedulerState
from headway.events import Finished, Queued, Started
from headway.hints import Refusal

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
        self.entries = [list(slot) for slot in budget._slots]  # what a retune carried over
        self.held: dict[Job, list[float]] = {}

    def check(self, budget: TokenBudget, now: float) -> None:
        oldest = now // budget._width - 1000
        inside = sum(tokens for slot, tokens in self.entries if slot >= oldest)
        budget._expire(now)
        assert budget.total == pytest.approx(inside, abs=1e-6)
        assert budget.total == pytest.approx(sum(t for _, t in budget._slots), abs=1e-6)
        assert budget.total >= -1e-6


class StateMachine(RuleBasedStateMachine):
    """Every job is queued, in flight, or ended exactly once, whatever happens when."""

    @initialize(
        limits=st.sampled_from(CHOICES),
        keyed=st.booleans(),
        max_queue=st.sampled_from([INFINITY, INFINITY, 3]),
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
            tracing=True,
        )
        self.jobs: list[Job] = []  # those that were accepted
        self.told: set[Job] = set()  # those whose failure in the queue a poll has told
        self.ledgers: dict[TokenBudget, Ledger] = {}
        self.floors: dict[LimitSet, float] = {}  # what a refusal asked for
        self.wake_at = self.now
        self.starts = self.unsent = 0

    # What the model keeps

    def having(self, status: int) -> list[Job]:
        return [job for job in self.jobs if job.status == status]

    def scopes(self, job: Job) -> list[LimitSet]:
        own = job.flow.limits
        return [self.state.whole] if own is None else [self.state.whole, own]

    def saw_start(self, job: Job) -> None:
        self.starts += 1
        assert job.status == STARTED
        assert not self.state.paused
        assert self.state.refusals.latch is None
        for limits in self.scopes(job):
            assert limits.in_flight <= limits.capacity
            assert self.now >= self.floors.get(limits, -INFINITY)
        for budget, charge in job.charges or ():
            ledger = self.ledgers.setdefault(budget, Ledger(TokenBudget(budget.rate)))
            ledger.held[job] = [self.now // budget._width, charge.reserved]
            ledger.entries.append(ledger.held[job])
            if charge.reserved:
                assert budget.total <= max(budget.rate.share, charge.reserved) + 1e-6

    def settled(self, charges: list[tuple[TokenBudget, Charge]], job: Job, used: float) -> None:
        for budget, charge in charges:
            held = self.ledgers[budget].held.pop(job)
            held[1] = min(used, charge.reserved)
            if used > charge.reserved:
                self.ledgers[budget].entries.append(
                    [self.now // budget._width, used - charge.reserved]
                )

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
        try:
            started = self.state.submit(job, self.now)
        except HeadwayError as error:
            after = self.state.statistics(self.now)
            assert (before.queued, before.in_flight) == (after.queued, after.in_flight)
            assert job.status == NEW
            fits = all(cost <= b.rate.limit for s in self.scopes(job) for b in s.budgets)
            assert fits is not isinstance(error, NeverFits)
            if isinstance(error, QueueFull):
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
        ran = kind is Kind.TRANSIENT or not answered
        self.settled(charges, job, job.cost if ran else 0.0)
        if wait is not None and kind in (Kind.RATE, Kind.TOKENS, Kind.CONCURRENCY, Kind.CAPACITY):
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
        for scope in self.state._limit_sets():
            for budget in scope.budgets:
                self.ledgers[budget] = Ledger(budget)
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
        own = Counter(job.limits for job in started)
        for flow in state.flows.values():
            if flow.limits is not None:
                assert flow.limits.in_flight == own[flow.limits]
        picture = state.statistics(self.now)
        queued = self.having(QUEUED)
        assert state.waiting.size == len(queued) == picture.queued
        assert set(state.waiting.jobs()) == set(queued)
        assert picture.delayed == sum(job.line is None for job in queued)
        assert picture.in_flight == len(started)
        assert picture.sent == self.starts - self.unsent
        assert picture.seconds >= 0
        ended = len(self.having(DONE)) + len(self.having(FAILED))
        assert picture.succeeded + picture.failed + picture.cancelled == ended

    @invariant()
    def windows_hold_what_was_charged(self) -> None:
        for scope in self.state._limit_sets():
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
        assert all(flow.held_until is None for flow in state.flows.values())
        finished = Counter(event.job for event in state.events if isinstance(event, Finished))
        assert finished == Counter(job.number for job in self.jobs)
        queued = Counter(event.job for event in state.events if isinstance(event, Queued))
        assert queued == finished
        assert self.starts == sum(isinstance(event, Started) for event in state.events)
        for limits in state._limit_sets():
            assert limits.in_flight == 0
            for budget in limits.budgets:
                budget._expire(self.now + 2 * budget.rate.span)
                assert budget.total == 0.0
                assert not budget._slots


TestStateMachine = StateMachine.TestCase
TestStateMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
