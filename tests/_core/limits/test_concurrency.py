"""How many may be in flight below the stated concurrency."""

from __future__ import annotations

import math

import pytest

from headway._core.limits.concurrency import ConcurrencyControl


def test_a_concurrency_that_was_learned_goes_on_where_it_was() -> None:
    control = ConcurrencyControl(math.inf)
    assert control.snapshot() == {}
    control.cut(19, 0.0, 1.0)
    other = ConcurrencyControl(math.inf)
    assert other.restore(control.snapshot())
    assert other.limit == other.plateau == 19
    for bad in ({}, {"capacity": 0, "hold": 10}, {"capacity": 2.5, "hold": 10},
                {"capacity": 5, "hold": 1e6}, {"capacity": math.inf, "hold": 10}):  # fmt: skip
        assert not other.restore(bad)
    assert not ConcurrencyControl(19).restore(control.snapshot())  # no more than what is stated
    assert other.limit == 19


@pytest.mark.parametrize(
    ("ceiling", "in_flight", "limit"),
    [
        (10, 9, 9),  # full: 9 others and the one that was refused
        (10, 4, 4),  # refused at 5: 10 was never reached
        (100, 99, 99),
        (1, 0, 1),  # never below one
        (2, 1, 1),
        (math.inf, 19, 19),  # an unknown limit becomes known
    ],
)
def test_a_concurrency_cut(ceiling: float, in_flight: int, limit: float) -> None:
    control = ConcurrencyControl(ceiling)
    assert control.cut(in_flight, 1.0, 2.0)
    assert control.limit == limit
    assert not control.cut(in_flight, 2.0, 3.0)  # the same cycle
    assert control.limit == limit


def test_concurrency_is_held_and_grows_by_clean_rounds_up_to_the_ceiling() -> None:
    control = ConcurrencyControl(20)
    control.cut(4, 0.0, 1.0)
    assert not any(control.succeeded(0.5, 2.0, full=True) for _ in range(9))  # of the old limit
    assert not any(control.succeeded(2.0, 10.0, full=True) for _ in range(9))  # it is held
    limits, now = [], 11.0
    for _ in range(7):
        for _ in range(20):
            now += 1.0
            if control.succeeded(now, now, full=True):
                break
        limits.append(control.limit)
    assert limits == [5, 7, 10, 15, 20, 20, 20]


def test_what_ends_with_room_to_spare_is_no_clean_round() -> None:
    control = ConcurrencyControl(20)
    control.cut(4, 0.0, 1.0)
    assert not any(control.succeeded(2.0, 100.0, full=False) for _ in range(50))


def test_a_refused_probe_of_the_concurrency_goes_back_and_waits_twice_as_long() -> None:
    control = ConcurrencyControl(math.inf)
    control.cut(40, 0.0, 1.0)
    now, waits = 1.0, []
    for _ in range(6):
        began = now
        while not control.succeeded(now, now, full=True):
            now += 0.25
        waits.append(now - began)
        assert control.limit == 41
        assert control.cut(40, now, now + 0.1)
        assert control.limit == 40
        now += 0.1
    assert waits[1] > 19
    assert waits == sorted(waits)
    assert 99 < waits[-1] < 101


def test_a_concurrency_that_was_not_the_limit_is_twice_as_high() -> None:
    control = ConcurrencyControl(30)
    control.cut(10, 0.0, 1.0)
    control.acquit()
    assert (control.limit, control.plateau) == (20, 20)
    control.acquit()
    assert control.limit == 30  # what is stated
