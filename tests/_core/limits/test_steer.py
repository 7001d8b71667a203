"""What a refusal does to the paces that a control steers, and to the gate."""

from __future__ import annotations

import pytest

from headway import Limits
from headway._core.limits.scope import Scope
from headway._core.queue.job import Flow, Job

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
