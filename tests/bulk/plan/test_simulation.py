"""A run on a virtual clock, by hand: small cases whose times are known."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from headway.bulk.plan.simulation import MOST_AT_ONCE, Simulation, Work, simulate
from headway.rates import Limits

ONE = Work(100.0, 60.0)


def simulated(count: int, limits: Limits, latency: float, start: float = 0.0) -> Simulation:
    works = [ONE] * count
    return simulate(works, limits, latency=lambda work: latency, start=start, trace=True)


@pytest.mark.parametrize(
    ("count", "slots", "seconds"), [(0, 3, 0.0), (1, 3, 2.0), (3, 3, 2.0), (4, 3, 4.0), (7, 3, 6.0)]
)
def test_slots_alone_run_in_rounds(count: int, slots: int, seconds: float) -> None:
    found = simulated(count, Limits(concurrency=slots), 2.0)
    assert found.seconds == seconds
    assert found.most_in_flight == min(count, slots)
    assert list(found.starts) == [2.0 * (n // slots) for n in range(count)]


@pytest.mark.parametrize("start", [0.0, 1e6])
def test_a_pace_spreads_the_starts_evenly_whatever_the_clock_shows(start: float) -> None:
    found = simulated(30, Limits("600/min"), 0.5, start)
    first, *gaps = [b - a for a, b in pairwise(found.starts)]
    assert 0.09 <= first <= gaps[0]  # what a late timer holds up is caught up with once
    assert max(gaps) - min(gaps) < 1e-6
    assert 0.1 <= gaps[0] < 0.103  # ten a second, less 0.5% and the lateness of timers
    assert found.starts[0] == start
    assert found.seconds == pytest.approx(found.starts[-1] + 0.5 - start)


def test_sums_are_those_of_the_calls() -> None:
    found = simulated(10, Limits(concurrency=2), 2.0)
    assert (found.calls, found.too_large) == (10, 0)
    assert found.tokens == 600.0
    assert found.busy == 20.0
    assert sum(found.binds.values()) == pytest.approx(found.seconds)
    assert max(found.binds, key=lambda name: found.binds[name]) == "concurrency"


def test_a_call_that_never_fits_is_passed_over_and_has_no_start() -> None:
    works = [ONE, Work(5000.0, 1.0), ONE]
    limits = Limits(tokens="1000/min", concurrency=4)
    found = simulate(works, limits, latency=lambda work: 1.0, trace=True)
    assert (found.calls, found.too_large, found.tokens) == (3, 1, 120.0)
    assert [math.isnan(at) for at in found.starts] == [False, True, False]


def test_without_a_concurrency_so_many_run_at_once_and_hardly_more() -> None:
    found = simulate([ONE] * 1500, Limits("60M/min"), latency=lambda work: 1.0)
    assert MOST_AT_ONCE <= found.most_in_flight < 1.1 * MOST_AT_ONCE
    assert found.seconds == pytest.approx(2.0, rel=0.01)
    assert not found.starts  # without a trace


def test_the_latency_is_asked_once_for_each_call_with_its_work() -> None:
    works = [Work(1.0, float(n), float(n)) for n in range(5)]
    asked: list[Work] = []

    def latency(work: Work) -> float:
        asked.append(work)
        return work.output

    found = simulate(works, Limits(concurrency=2), latency=latency)
    assert sorted(asked) == works
    assert found.busy == 10.0
