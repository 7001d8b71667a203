"""GCRA: the interval, the burst, what a late timer may catch up with, and what a cut keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway import Rate
from headway._core.limits.pace import Pace
from headway.rates import LATENESS

INFINITY = float("inf")


def pace_of(limit: float, per: float = 1.0, burst: int = 1) -> Pace:
    return Pace(Rate(limit, per=per, burst=burst, jitter=0.0))


def starts(pace: Pace, number: int, now: float = 0.0) -> list[float]:
    """When `number` attempts start that wait for nothing else, from `now` on."""
    found = []
    for _ in range(number):
        now = max(now, pace.ready_at())
        pace.take(now)
        found.append(now)
    return found


def test_attempts_are_an_interval_apart() -> None:
    pace = pace_of(10)
    assert pace.ready_at() == -INFINITY
    first, second, third = starts(pace, 3)
    assert first == 0.0
    # The first may have been late by what a timer is late.
    assert second == pytest.approx(pace.interval - LATENESS)
    assert third - second == pytest.approx(pace.interval)
    assert pace.interval == pytest.approx(0.1, rel=0.12)
    assert pace.interval > 0.1


def test_a_burst_starts_at_once_and_no_more() -> None:
    found = starts(pace_of(10, burst=4), 5)
    assert found[:4] == [0.0] * 4
    assert found[4] > 0.1


@given(
    limit=st.integers(1, 200),
    window=st.sampled_from([0.5, 1.0, 60.0]),
    burst=st.integers(1, 10),
    idle=st.lists(st.floats(0.0, 3.0), max_size=60),
)
def test_no_window_holds_more_than_the_limit(
    limit: int, window: float, burst: int, idle: list[float]
) -> None:
    pace = Pace(Rate(limit, per=window, burst=min(burst, limit), jitter=0.0))
    now, found = 0.0, []
    for pause in [*idle, *[0.0] * 60]:
        now = max(now + pause * pace.interval, pace.ready_at())
        pace.take(now)
        found.append(now)
    for first, last in zip(found, found[limit:], strict=False):
        assert last - first > window


def test_a_cost_of_many_units_is_many_intervals() -> None:
    pace = pace_of(100)
    pace.take(0.0, 25.0)
    assert pace.ready_at() == pytest.approx(25 * pace.interval - LATENESS)


@pytest.mark.parametrize(
    ("now", "cost", "ready"),
    [
        (0.0, 10.0, 15.0),  # in units: what is still owed
        (0.0, 99.0, 0.0),  # never below what a fresh one would owe
        (1e6, 10.0, 25.0),  # time has forgotten it already
    ],
)
def test_what_was_never_sent_is_given_back(now: float, cost: float, ready: float) -> None:
    pace = pace_of(100)
    pace.take(0.0, 25.0)
    pace.give_back(now, cost)
    assert pace.ready_at() == pytest.approx(ready * pace.interval - LATENESS)


def test_a_cut_keeps_what_is_owed_in_units() -> None:
    pace = pace_of(10)
    pace.take(0.0, 5.0)
    owed = pace.next / pace.interval
    pace.slow_to(0.25, 0.0)
    assert pace.interval == pytest.approx(4 * pace.base)
    assert pace.next / pace.interval == pytest.approx(owed)
    pace.slow_to(1.0, 0.0)
    assert pace.interval == pytest.approx(pace.base)
    assert pace.next / pace.interval == pytest.approx(owed)


def test_a_cut_widens_the_tolerance_of_a_burst_with_the_interval() -> None:
    pace = pace_of(10, burst=3)
    pace.slow_to(0.5, 0.0)
    assert pace.tolerance == pytest.approx(2 * pace.interval)


def test_a_retuned_pace_owes_what_the_older_one_did() -> None:
    older, newer = pace_of(10), pace_of(2)
    older.take(0.0, 4.0)
    newer.adopt(older, 0.0)
    assert newer.next / newer.interval == pytest.approx(older.next / older.interval)
    fresh = pace_of(2)
    fresh.adopt(pace_of(10), 0.0)
    assert fresh.ready_at() == -INFINITY


def test_another_clock() -> None:
    pace = pace_of(10)
    pace.take(0.0)
    ready = pace.ready_at()
    pace.shift(-500.0)
    assert pace.ready_at() == pytest.approx(ready - 500.0)


@given(
    limit=st.integers(1, 40),
    window=st.sampled_from([0.5, 1.0, 60.0]),
    burst=st.integers(1, 10),
    waits=st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 0.9)), min_size=1, max_size=80),
)
def test_what_is_sent_late_counts_from_then_on(
    limit: int, window: float, burst: int, waits: list[tuple[float, float]]
) -> None:
    pace = Pace(Rate(limit, per=window, burst=min(burst, limit), jitter=0.0))
    now, sent, late = 0.0, [], []
    for pause, wait in [*waits, *[(0.0, 0.0)] * 2 * limit]:
        at = max(now + pause * pace.interval, pace.ready_at())
        for charged, due in [each for each in late if each[1] <= at]:
            pace.sent_late(charged, due)
            late.remove((charged, due))
        now = max(at, pace.ready_at())
        for charged, due in [each for each in late if each[1] <= now]:
            pace.sent_late(charged, due)
            late.remove((charged, due))
        pace.take(now)
        lateness = wait * window
        sent.append(now + lateness)
        if lateness:
            late.append((now, now + lateness))
    sent.sort()
    for first, last in zip(sent, sent[limit:], strict=False):
        assert last - first >= window - 1e-9


def test_another_limit_and_another_clock_keep_what_was_sent_late() -> None:
    pace = pace_of(4)
    pace.take(0.85)
    pace.sent_late(0.85, 1.05)
    pace.take(1.1)
    wider = pace_of(6)
    wider.adopt(pace, 1.1)
    wider.shift(100.0)
    # Of the six in the window that begins with it two are charged, and four go at the pace.
    *at_the_pace, first_after = starts(wider, 5, 101.1)
    assert at_the_pace[-1] < 101.9
    assert first_after == pytest.approx(102.05)
