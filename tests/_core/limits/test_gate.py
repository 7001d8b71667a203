"""The gate: later and never earlier; one probe first; strikes of a burst count once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway._core.limits.gate import PROBE_PATIENCE, Gate

INFINITY = float("inf")


def gate_with_probe(opens: float = 10.0, cautious: bool = False) -> Gate:
    """A gate whose probe, "probe", went through when it opened."""
    gate = Gate()
    gate.shut_until(opens)
    gate.cautious = cautious
    gate.passed("probe", opens)
    return gate


def test_open_at_first() -> None:
    assert Gate().ready_at() == -INFINITY


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_moves_only_later(moments: list[float]) -> None:
    gate = Gate()
    for moment in moments:
        gate.shut_until(moment)
    assert gate.ready_at() == max(moments)


def test_a_slot_that_ends_opens_no_earlier_than_the_time() -> None:
    gate = Gate()
    gate.shut_until(5.0)
    gate.shut_until_slot_ends()
    assert gate.ready_at() == INFINITY
    gate.slot_ended()
    assert gate.ready_at() == 5.0


def test_one_probe_then_the_rest_after_a_second() -> None:
    gate = gate_with_probe(10.0)
    assert gate.ready_at() == 10.0 + PROBE_PATIENCE
    gate.passed("second", 11.0)
    assert not gate.shut


@pytest.mark.parametrize(
    ("how", "who", "ready"),
    [
        ("answered", "probe", -INFINITY),  # the rest follow
        ("answered", "another", 11.0),  # says nothing about the probe
        ("lost", "probe", 10.0),  # the next one is the probe
        ("lost", "another", 11.0),
    ],
)
def test_the_end_of_an_attempt(how: str, who: str, ready: float) -> None:
    gate = gate_with_probe(10.0)
    getattr(gate, how)(who)
    assert gate.ready_at() == ready


def test_in_an_outage_the_rest_wait_for_the_answer_however_long() -> None:
    gate = gate_with_probe(10.0, cautious=True)
    assert gate.ready_at() == INFINITY
    gate.lost("probe")
    assert gate.ready_at() == 10.0
    gate.passed("next", 10.0)
    gate.answered("next")
    assert gate.ready_at() == -INFINITY
    assert not gate.cautious


def test_a_refusal_meanwhile_makes_the_probe_count_for_nothing() -> None:
    gate = gate_with_probe(10.0)
    gate.shut_until(30.0)
    gate.answered("probe")
    assert gate.ready_at() == 30.0


def test_a_gate_that_pauses_has_no_probe_unless_it_was_shut_already() -> None:
    gate = Gate()
    gate.shut_until(10.0, pausing=True)
    assert gate.ready_at() == 10.0
    gate.shut_until(12.0, pausing=True)
    gate.passed("first", 12.0)
    assert (gate.shut, gate.ready_at()) == (False, -INFINITY)
    gate.shut_until(20.0)
    gate.shut_until(20.0, pausing=True)
    gate.passed("probe", 20.0)
    assert (gate.probe, gate.ready_at()) == ("probe", 21.0)


def test_strikes_of_a_burst_count_once_and_those_of_probes_each() -> None:
    gate = Gate()
    strikes = []
    for attempt in ("a", "b", "c"):  # a burst: all were sent before the gate shut
        strikes.append(gate.strike(attempt))
        gate.shut_until(10.0)
    for moment in (10.0, 20.0, 30.0):
        gate.passed("probe", moment)
        strikes.append(gate.strike("probe"))
        gate.shut_until(moment + 10)
    assert strikes == [0, 0, 0, 1, 2, 3]
    gate.passed("probe", 40.0)
    gate.answered("probe")
    assert gate.strike("later") == 0


def test_another_clock() -> None:
    gate = gate_with_probe(10.0)
    gate.shift(100.0)
    assert gate.ready_at() == 111.0
    gate.lost("probe")
    assert gate.ready_at() == 110.0
