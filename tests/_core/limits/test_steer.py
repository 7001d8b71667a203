"""What a refusal does to the paces that a control steers, and to the gate."""

from __future__ import annotations

from random import Random

import pytest

from headway import Limits, Rate
from headway._core.counters import Counts
from headway._core.limits.budget import TokenBudget
from headway._core.limits.scope import Scope
from headway._core.limits.steer import meet, steer
from headway._core.queue.job import Flow, Job
from headway.testing.algorithms import SlidingLog

INFINITY = float("inf")


def test_what_a_window_of_tokens_held_is_their_limit() -> None:
    scope = Scope(Limits(tokens="60k/min"))
    for second in range(30):
        scope.take(Job(Flow(None, 1.0, None), 0, 1000.0), float(second))  # half of what is stated
    assert scope.cut_tokens(30.0, 30.0, probe=False)
    control = scope.budgets[0].control
    assert (control.found, round(control.plateau, 1)) == (True, 0.5)
    opens = scope.reopens_in("tokens", 1000.0, 0, 30.0)
    assert opens == pytest.approx(32.0, abs=2.0)  # when the first have left the window
    assert scope.reopens_in("requests", 1000.0, 0, 30.0) == INFINITY  # none are stated
    assert not scope.goes_back_safely("tokens", 1000.0)


def test_a_window_of_tokens_that_was_found_is_kept() -> None:
    """Told double of a sliding log: one refusal shows the limit, and no other comes."""
    budget, server = TokenBudget(Rate(2_000, per=2)), SlidingLog(1_000, 2)
    random, now, refused = Random(1), 0.0, 0
    for _ in range(400):
        now = max(now, budget.ready_at(10, now))
        if random.random() < 0.02:
            now += 0.05  # late
        if budget.control.follows:
            steer(budget.control, [budget.pace], 10, now, binding=True)
        charge = budget.take(10, now)
        if server.admit(now, 10):
            budget.settle(charge, 10, now)
        else:
            refused += 1
            budget.release(charge, now)
            meet(budget.control, [budget.pace], budget.tally, now, now, probe=False)
            now += 1.0  # a hint in whole seconds
    assert (refused, budget.control.known) == (1, True)
    assert 4_000 / now > 0.97 * 500


def test_a_window_that_was_found_is_never_above_what_is_stated() -> None:
    budget = TokenBudget(Rate(1_000, per=2))
    budget.control.known = True  # and the rate is at its ceiling again
    for now in range(0, 1_000, 10):
        budget.settle(budget.take(10, now / 1_000), 10, now / 1_000)
    assert budget.total == 1_000
    assert budget.ready_at(4, 1.0) > 2.0


@pytest.mark.parametrize(
    ("refused", "in_flight", "alone", "opens"),
    [
        ((1.0, 2.0), 50, True, 0.05),  # nobody knows yet
        ((1.0, 2.0, 3.0), 50, True, 0.02),
        ((1.0, 2.0, 3.0), 5, False, 0.02),  # few others are under way, whose answers would tell
        ((1.0, 2.96, 2.98, 3.0), 50, False, 0.05),  # three of five
    ],
    ids=["the first", "alone", "few", "together"],
)
def test_a_refusal_that_comes_alone_pauses_a_fast_rate_for_a_moment(
    refused: tuple[float, ...], in_flight: int, alone: bool, opens: float
) -> None:
    counts = Counts()
    counts.in_flight = in_flight
    scope = Scope(Limits("100/s"), counts=counts)
    for sent_at in refused:
        scope.cut_rate(sent_at, sent_at + 0.01, 100.0, probe=False)
    assert scope.refused_alone("requests", 0.0) is alone
    assert scope.reopens_in("requests", 0.0, 0, 3.1) == pytest.approx(opens, rel=0.1)
    assert scope.reopens_in("requests", 0.0, 1, 3.1) == pytest.approx(0.15, rel=0.01)
