"""What a worker starts without its store: half of an equal part, nothing at all, or everything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from headway._core.counters import Counts
from headway._core.limits.scope import Scope
from headway.rates import Away, Limits
from headway.shared.conversation import Conversation
from headway.shared.fallback import Fallback
from headway.shared.granted import Granted, SharedBudget
from headway.shared.terms import terms_of

INFINITY = float("inf")


def a_fallback(limits: Limits, away: Away = "share", in_flight: int = 0) -> Fallback:
    """One of four workers, which heard its last reply a second ago: at 10."""
    counts = Counts()
    counts.in_flight = in_flight
    scope, granted, talk = Scope(limits, None, counts), Granted(), Conversation()
    granted.terms = terms_of(limits)
    granted.budgets = [
        SharedBudget(granted, index, budget, granted.terms[1][index]["width"])
        for index, budget in enumerate(scope.budgets)
    ]
    granted.held = granted.target = limits.concurrency or -1
    talk.begin({}, 9.0)
    talk.heard({"epoch": "e", "now": 9.0, "expires": 14.0, "slack": 0.0}, 9.0, 9.0)
    talk.away_since = 10.0
    made = Fallback(scope, granted, talk, away)
    made.live = 4
    made.begin(10.0)
    return made


def a_job(cost: float = 0.0) -> Any:
    return SimpleNamespace(cost=cost, priority=0.0, charges=None)


def test_it_starts_at_half_of_an_equal_part_and_for_a_minute() -> None:
    made = a_fallback(Limits("10/s"))
    first = made.ready_at(0.0, 10.0, slots=True)
    assert 10.0 <= first < 10.85  # anywhere in its turn
    made.take(a_job(), 11.0)
    turn = made.ready_at(0.0, 11.0, slots=True) - 11.0
    assert 0.8 <= turn < 0.9  # of ten a second four share five
    assert made.strays == 1
    assert made.silent(12.0) == 2.0
    made.strays = 0  # they were told
    made.take(a_job(), 12.5)
    assert made.silent(13.0) == 3.0  # of the same silence
    assert made.ready_at(0.0, 69.9, slots=True) < INFINITY
    assert made.ready_at(0.0, 70.1, slots=True) == INFINITY


@pytest.mark.parametrize(("away", "at"), [("closed", INFINITY), ("open", -INFINITY)])
def test_what_the_user_wants_holds(away: Away, at: float) -> None:
    assert a_fallback(Limits("10/s"), away).ready_at(0.0, 11.0, slots=True) == at


def test_tokens_are_those_of_its_part_and_told_later() -> None:
    made = a_fallback(Limits(tokens="800/10s"))
    assert made.ready_at(101.0, 12.0, slots=True) == INFINITY
    assert made.ready_at(100.0, 12.0, slots=True) < INFINITY
    made.take(job := a_job(60.0), 12.0)
    assert [charge.parts for _, charge in job.charges] == [[]]
    assert 20 < made.ready_at(60.0, 12.1, slots=True) < 23  # when a window has passed
    assert made.ready_at(30.0, 12.1, slots=True) < 12.1


def test_slots_are_those_it_held_until_others_may_have_them() -> None:
    made = a_fallback(Limits(concurrency=16), in_flight=2)
    assert made.ready_at(0.0, 13.4, slots=True) < INFINITY
    assert made.ready_at(0.0, 13.6, slots=True) == INFINITY  # an eighth of them is in use
    assert made.ready_at(0.0, 13.6, slots=False) < INFINITY
