"""What a worker was granted: taken in order, given back where it was charged, dropped when late."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from headway._core.limits.budget import TokenBudget
from headway.rates import LATENESS, TokenRate
from headway.shared.granted import Granted, SharedBudget


def granted() -> Granted:
    """Three starts, a second apart from 10 on, and tokens of two sub-slots."""
    found = Granted()
    local = TokenBudget(TokenRate(1000, per=60), "tokens")
    found.budgets = [SharedBudget(found, 0, local, 0.5)]
    found.version = 1
    reply = {
        "runs": [[10.0, 3]], "spacing": 1.0, "slack": 0.2, "good": 12.2,
        "slots_of": [24], "amounts": [300.0],
    }  # fmt: skip
    found.add(reply)
    found.add({**reply, "runs": [[20.0, 3]], "good": 22.2, "slots_of": [44]})
    return found


def a_job(cost: float) -> Any:
    return SimpleNamespace(cost=cost, priority=0.0, charges=None)


def test_starts_and_tokens_are_taken_in_order_and_go_back_where_they_were_charged() -> None:
    found, job = granted(), a_job(400.0)
    assert found.starts[0].due() == 10
    found.take(job, 10.0)
    assert (found.outstanding(), found.starts[0].due()) == (5, 11)
    [(budget, charge)] = job.charges
    assert charge.parts == [(24, 300), (44, 100)]
    assert budget.held() == 200
    budget.settle(charge, 250.0, 11.0)
    assert (found.refunds, found.overs) == ({(0, 44): 100, (0, 24): 50}, {})
    budget.settle(charge, 450.0, 11.0)
    assert found.overs == {0: 50}
    found.version = 2  # the sub-slots are others
    budget.release(charge, 11.0)
    assert sum(found.refunds.values()) == 150


def test_what_is_late_is_not_used_and_its_tokens_go_back() -> None:
    found = granted()
    found.drop_late(11.0 + 0.2 + LATENESS)
    assert (found.outstanding(), found.refunds) == (5, {})
    found.drop_late(12.5)
    assert (found.outstanding(), found.refunds) == (3, {(0, 24): 300})


def test_what_was_sent_elsewhere_takes_starts_that_come_later_too() -> None:
    found = granted()
    found.owed = 8
    found.pay()
    assert (found.outstanding(), found.owed) == (0, 2)
    found.add({
        "runs": [[30.0, 3]], "spacing": 1.0, "slack": 0.2, "good": 32.2,
        "slots_of": [64], "amounts": [300.0],
    })  # fmt: skip
    assert (found.outstanding(), found.owed) == (1, 0)


def test_another_worker_has_nothing_of_it() -> None:
    found = granted()
    found.take(job := a_job(400.0), 10.0)
    job.charges[0][0].settle(job.charges[0][1], 450.0, 10.0)
    found.forget()
    assert (found.outstanding(), found.budgets[0].held(), found.version) == (0, 0, 0)
    assert (found.refunds, found.overs) == ({}, {})
