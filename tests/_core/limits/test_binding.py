"""What holds back: now, for certain, and as far as can be foreseen."""

from __future__ import annotations

import pytest

from headway import Limits
from headway._core.counters import Counts
from headway._core.limits.binding import binding, foreseen, imposed, spent_until
from headway._core.limits.scope import Scope
from headway._core.queue.job import Flow, Job
from headway.kinds import Binds

INFINITY = float("inf")


def busy(limits: Limits, cost: float) -> Scope:
    """A scope with one attempt in flight, of `cost` tokens."""
    counts = Counts()
    counts.in_flight = 1
    scope = Scope(limits, counts=counts)
    scope.take(Job(Flow(None, 1.0, None), 0, cost), 0.0)
    return scope


@pytest.mark.parametrize(
    ("limits", "cost", "name"),
    [
        (Limits(), 0.0, Binds.NOTHING),
        (Limits("1/min"), 0.0, Binds.REQUESTS),
        (Limits(tokens="600/min"), 600.0, Binds.TOKENS),
        (Limits("1/min", tokens="600/min", concurrency=1), 600.0, Binds.CONCURRENCY),
    ],
)
def test_what_binds(limits: Limits, cost: float, name: Binds) -> None:
    found, until = binding(busy(limits, cost), cost, 0.0)
    assert found is name
    assert (until > 0) == (name is not Binds.NOTHING)
    assert (until == INFINITY) == (name is Binds.CONCURRENCY)


def test_a_shut_gate_binds() -> None:
    scope = Scope(Limits())
    scope.gate.shut_until(12.0)
    assert binding(scope, 0.0, 0.0) == imposed(scope, 0.0, 0.0) == (Binds.GATE, 12.0)
    assert foreseen(scope, 0.0, 5, 0.0, 0.0) == (Binds.GATE, 12.0)


def test_a_slot_and_what_may_be_refunded_are_not_certain() -> None:
    scope = busy(Limits(tokens="600/min", concurrency=1), 600.0)
    assert imposed(scope, 600.0, 0.0) == (Binds.NOTHING, 0.0)
    paced, until = imposed(busy(Limits("1/min"), 0.0), 0.0, 0.0)
    assert paced is Binds.REQUESTS
    assert 60 < until < 62


def test_slots_are_foreseen_by_how_fast_they_come_free() -> None:
    scope = busy(Limits(concurrency=1), 0.0)
    assert foreseen(scope, 0.0, 3, 2.0, 10.0) == (Binds.CONCURRENCY, 12.0)  # the fourth slot
    assert foreseen(scope, 0.0, 3, 0.0, 10.0) == (Binds.CONCURRENCY, INFINITY)


def test_a_spent_quota_holds_back_longest() -> None:
    scope = busy(Limits(["60/min", "1/day"]), 0.0)
    quota, until = spent_until(scope, 0.0, 0.0)
    assert quota is scope.quotas[0]
    assert binding(scope, 0.0, 0.0) == foreseen(scope, 0.0, 0, 0.0, 0.0) == (Binds.QUOTA, until)
    assert until > 3600
