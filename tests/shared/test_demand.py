"""How much a worker asks for: what waits, what will come, and no more than its slots take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from headway._core.counters import Counts
from headway._core.limits.scope import Scope
from headway.rates import Limits
from headway.shared.demand import Demand
from headway.shared.granted import Granted, SharedBudget
from headway.shared.terms import terms_of

NOTHING = {"need": 0, "want": 0, "costs": [], "costs_beside": [], "priority": 0.0}


def a_demand(limits: Limits, queued: int, in_flight: int = 0) -> tuple[Demand, Granted]:
    counts = Counts()
    counts.in_flight = in_flight
    scope, granted = Scope(limits, None, counts), Granted()
    granted.terms = terms_of(limits)
    granted.budgets = [
        SharedBudget(granted, index, budget, 0.5) for index, budget in enumerate(scope.budgets)
    ]
    granted.held = granted.target = limits.concurrency or -1
    return Demand(scope, granted, lambda: queued), granted


def asks(demand: Demand, cost: float = 0.0, priority: float = 0.0) -> bool:
    job: Any = SimpleNamespace(cost=cost, priority=priority, charges=None)
    return demand.ask(job)


def said(demand: Demand, gone: float = 1.0, **beside: bool) -> dict[str, Any]:
    return demand.said(gone, **{"for_keys": False, "alone": False, **beside})


def test_what_waits_is_wanted_once_a_job_asks_and_no_longer_when_none_does() -> None:
    demand, _ = a_demand(Limits("60/min", tokens="1000/min"), queued=7)
    assert said(demand) == {**NOTHING, "costs": [[0.0, 0.0]]}
    assert not asks(demand, 30.0)
    assert said(demand) == {
        **NOTHING, "need": 7, "want": 7, "costs": [[30.0, 30.0]]
    }  # fmt: skip
    assert asks(demand, 30.0, priority=2.0)
    assert said(demand)["priority"] == 2.0
    alone, _ = a_demand(Limits("60/min"), queued=0)
    asks(alone)
    assert said(alone)["need"] == 1
    alone.begin_call(1.0)
    assert said(alone)["need"] == 0


def test_no_more_starts_are_wanted_than_slots_are_free_or_will_be() -> None:
    demand, granted = a_demand(Limits("60/s", concurrency=4), queued=9, in_flight=3)
    asks(demand)
    assert demand.slots_free() == 1
    assert said(demand)["need"] == 1
    for _ in range(20):
        demand.started()
    assert said(demand)["need"] == 1 + demand.ends == 5  # in a fifth of a second four will end
    granted.target = 3
    assert demand.slots_free() == 0


def test_one_that_is_alone_asks_for_some_more_where_jobs_come_often() -> None:
    demand, _ = a_demand(Limits("60/s"), queued=1)
    asks(demand)
    assert said(demand, alone=True)["need"] == 1
    for _ in range(30):
        demand.started()
    demand.begin_call(1.0)
    assert said(demand)["need"] == 1
    assert said(demand, alone=True)["need"] == 5
