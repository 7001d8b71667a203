"""The limits in force below the stated ones: epochs, the curve, the ceiling; AIMD."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway._core.limits.control import ConcurrencyControl, RateControl
from headway._core.limits.evidence import Evidence
from headway._core.refusals.retry import Retry
from headway._core.state import SchedulerState
from headway.hints import LimitHint
from headway.rates import Limits


def test_a_burst_of_refusals_cuts_once() -> None:
    rate = RateControl()
    assert rate.cut(sent_at=9.0, now=10.0)
    assert not any(rate.cut(sent_at=9.0 + k / 100, now=10.0 + k / 100) for k in range(100))
    assert rate.factor == pytest.approx(0.85)
    assert rate.cut(sent_at=10.5, now=11.0)  # sent after the cut: a new epoch
    assert rate.factor == pytest.approx(0.85**2)


@pytest.mark.parametrize(
    ("seconds", "factor"),
    [
        (0, 0.85),
        (15, 1 - 0.15 / 8),  # K = 30 s: w (1 + .15 ((t - K) / K)^3)
        (30, 1.0),
        (300, 1.0),  # never above what is stated
    ],
)
def test_the_curve_back(seconds: float, factor: float) -> None:
    rate = RateControl()
    rate.cut(99.0, 100.0)
    assert rate.grow(100.0 + seconds, binding=True) == pytest.approx(factor)


def test_the_curve_goes_on_beyond_a_second_cut() -> None:
    rate = RateControl()
    rate.cut(0.0, 1.0)
    rate.cut(2.0, 3.0)
    assert rate.factor == pytest.approx(0.7225)
    assert rate.grow(33.0, binding=True) == pytest.approx(
        0.85
    )  # the plateau is where the cut was made
    assert rate.grow(63.0, binding=True) == pytest.approx(0.85 * 1.15)  # beyond it, ever faster
    assert rate.grow(93.0, binding=True) == 1.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=60))
def test_the_rate_stays_above_zero_and_up_to_what_is_stated(
    happened: list[tuple[bool, float]],
) -> None:
    rate, now = RateControl(), 0.0
    for refused, elapsed in happened:
        now += elapsed
        before = rate.factor
        if refused:
            rate.cut(now, now)
            assert rate.factor <= before
        else:
            assert rate.grow(now, binding=True) >= before
        assert 0.01 <= rate.factor <= 1.0


def test_a_clock_that_moves_does_not_start_a_new_epoch() -> None:
    rate = RateControl()
    rate.cut(9.0, 10.0)
    rate.shift(1000.0)
    assert not rate.cut(1010.0, 1010.0)
    assert rate.grow(1025.0, binding=True) == pytest.approx(1 - 0.15 / 8)


@pytest.mark.parametrize(
    ("ceiling", "in_flight", "limit"),
    [
        (10, 9, 9),  # full: 9 others and the one that was refused
        (10, 4, 4),  # refused at 5: 10 was never reached
        (100, 99, 90),
        (1, 0, 1),  # never below one
        (2, 1, 1),
        (math.inf, 19, 18),  # an unknown limit becomes known
    ],
)
def test_a_concurrency_cut(ceiling: float, in_flight: int, limit: float) -> None:
    control = ConcurrencyControl(ceiling)
    assert control.cut(in_flight, 1.0, 2.0)
    assert control.limit == limit
    assert not control.cut(in_flight, 2.0, 3.0)  # the same epoch
    assert control.limit == limit


def test_concurrency_grows_by_one_a_clean_round_up_to_the_ceiling() -> None:
    control = ConcurrencyControl(4)
    control.cut(1, 0.0, 1.0)
    assert not any(control.succeeded(sent_at=0.5) for _ in range(9))  # they ran at the old limit
    grown = [control.succeeded(2.0) for _ in range(8)]
    assert control.limit == 4
    # one success at a limit of 1, two at 2, three at 3; at the ceiling a round raises nothing
    assert [index + 1 for index, one in enumerate(grown) if one][:3] == [1, 3, 6]
    for _ in range(20):
        control.succeeded(2.0)
    assert control.limit == 4


def test_a_cut_starts_a_new_round() -> None:
    control = ConcurrencyControl(10)
    control.cut(9, 0.0, 1.0)
    for _ in range(8):
        control.succeeded(1.5)
    control.cut(8, 2.0, 3.0)
    assert control.limit == 8
    assert not any(control.succeeded(4.0) for _ in range(7))
    assert control.succeeded(4.0)
    assert control.limit == 9


# Where the limit has to be found


def test_a_search_doubles_in_ten_seconds_until_its_first_cut() -> None:
    rate = RateControl(5.0, math.inf)
    rate.grow(100.0, binding=True)
    assert rate.grow(110.0, binding=True) == pytest.approx(10)
    assert rate.grow(120.0, binding=False) == pytest.approx(10)  # nothing was held back
    assert rate.grow(130.0, binding=True) == pytest.approx(20)
    assert rate.cut(130.0, 131.0)
    assert rate.factor == pytest.approx(17)
    assert rate.grow(161.0, binding=True) == pytest.approx(20)  # the curve from now on


def test_what_a_server_states_ends_the_search() -> None:
    rate = RateControl(5.0, math.inf)
    rate.limit_to(3.0)
    assert rate.grow(1000.0, binding=True) == 3.0
    rate.cut(1000.0, 1001.0)
    assert rate.grow(2000.0, binding=True) == 3.0
    rate.limit_to(8.0)
    assert rate.factor == 8.0


@pytest.mark.parametrize(
    ("in_flight", "starts", "concurrency"),
    [
        (40, 10, True),  # as many as ever, at a lower rate
        (20, 30, False),  # fewer in flight than have been accepted
        (40, 30, False),  # both at their highest: taken for the rate
    ],
)
def test_the_pattern_tells_what_an_untyped_refusal_is_about(
    in_flight: int, starts: int, concurrency: bool
) -> None:
    evidence = Evidence()
    for n in range(30):
        seen = evidence.sent(40, n / 10)
        evidence.accepted(seen, n / 10)
    for n in range(starts):
        seen = evidence.sent(in_flight, 100 + n * 2.9 / starts)
    assert evidence.is_concurrency(seen, 103.0) is concurrency


@pytest.mark.parametrize(
    ("heard", "rate"),
    [
        ([(0, 600), (1, 240)], 240),
        ([(1, 240), (0, 600)], 240),  # the answer took long: what it states is older
        ([(1, 240), (0, 600), (2, 600)], 600),
        ([(1, 240), (1, 300)], 300),
    ],
)
def test_an_answer_to_an_older_attempt_states_an_older_limit(
    heard: list[tuple[float, float]], rate: float
) -> None:
    state = SchedulerState(Limits(), now=0.0, retry=Retry())
    state.whole.search()
    flow = state.flow(None)
    for at, (sent_at, limit) in enumerate(heard, 5):
        hint = LimitHint("requests", limit, None, None, 60.0)
        state.observe([hint], flow, float(at), float(sent_at))
    assert state.statistics(10.0).pace == pytest.approx(rate / 60, rel=0.02)
