"""The limits in force below the stated ones: what is held, probed, tried and given back."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway._core.limits.control import RateControl
from headway._core.refusals.retry import Retry
from headway._core.state import SchedulerState
from headway.hints import LimitHint
from headway.rates import Limits


class Sender:
    """Sends at the rate in force, from `now` on; what is refused, the tests say."""

    def __init__(self, rate: RateControl, base: float = 1.0, now: float = 100.0) -> None:
        self.rate, self.base, self.now = rate, base, now

    def run(self, seconds: float) -> float:
        until = self.now + seconds
        while self.now < until:
            self.rate.sent(self.base, self.now, binding=True)
            self.now += self.base / self.rate.factor
        return self.rate.factor

    def refuse(
        self, *, probe: bool = False, window: tuple[float, float, float] | None = None
    ) -> float:
        """The newest attempt is refused, at once."""
        self.rate.sent(self.base, self.now, binding=True)
        self.rate.cut(self.now, self.now, probe=probe, window=window)
        self.now += 2 * self.base / self.rate.factor  # the gate
        return self.rate.factor


def searched(at: float = 10.0) -> Sender:
    """One who looks for a rate, and holds a plateau of `at` attempts a second."""
    rate = RateControl(5.0, math.inf)
    rate.plateau = rate.factor = at
    rate.cut(0.0, 0.0)  # ends the search, at 70%
    rate.plateau = rate.factor = at
    sender = Sender(rate, now=0.1)
    sender.run(1.0)
    return sender


def test_a_burst_of_refusals_cuts_once() -> None:
    rate = RateControl()
    assert rate.cut(sent_at=9.0, now=10.0)
    assert not any(rate.cut(sent_at=9.0 + k / 100, now=10.0 + k / 100) for k in range(100))
    assert rate.factor == pytest.approx(0.99)  # near what is stated, one step
    assert rate.cut(sent_at=10.5, now=11.0)  # sent after the cut: a new cycle
    assert rate.factor < 0.99


def test_of_a_stated_rate_that_was_never_cut_nothing_is_followed() -> None:
    rate = RateControl()
    assert not rate.follows
    rate.cut(0.0, 1.0)
    assert rate.follows
    Sender(rate, base=0.1).run(400.0)
    assert rate.factor == rate.plateau == 1.0
    assert not rate.follows  # what is stated was held


def test_a_search_doubles_in_ten_seconds_until_its_first_cut() -> None:
    rate = RateControl(5.0, math.inf)
    rate.sent(1.0, 100.0, binding=True)
    assert rate.sent(1.0, 110.0, binding=True) == pytest.approx(10)
    assert rate.sent(1.0, 120.0, binding=False) == pytest.approx(10)  # nothing was held back
    assert rate.sent(1.0, 130.0, binding=True) == pytest.approx(20)
    assert rate.cut(130.0, 131.0)
    assert rate.factor == pytest.approx(14)  # a bucket's burst is spent far above its refill


def test_a_plateau_is_held_and_then_probed_ever_faster() -> None:
    sender = searched()
    assert sender.run(8.0) == 10.0
    heights = [sender.run(3.0) for _ in range(5)]
    assert all(low < high for low, high in pairwise(heights))
    assert heights[-1] > 10.0 * 1.1


def test_a_refused_probe_goes_back_and_the_next_comes_later() -> None:
    sender = searched()
    waits = []
    for _ in range(6):
        began = sender.now
        while sender.run(0.1) < 10.6:
            pass
        waits.append(sender.now - began)
        assert 9.8 < sender.refuse() < 10.3
    assert waits == sorted(waits)
    assert 100 < waits[-1] < 120  # and no later
    assert 9.8 < sender.rate.plateau < 10.5


def test_what_a_bucket_accepted_is_its_refill() -> None:
    sender = searched(14.0)
    level = 0.0
    for _ in range(3000):  # a bucket of 10 a second, empty at first
        sender.run(1e-9)
        before, after = sender.now - sender.base / sender.rate.factor, sender.now
        level = min(10.0, level + 10.0 * (after - before))
        if level < 1.0:
            sender.refuse()
            level = min(10.0, level + 10.0 * (sender.now - after))
        else:
            level -= 1.0
    assert sender.rate.plateau == pytest.approx(10.0, rel=0.03)


def test_a_probe_far_above_is_tried_and_given_up_when_refused() -> None:
    sender = searched(4.0)
    while sender.run(0.5) < 10.0:
        pass
    tried = sender.refuse()
    assert 8.0 < tried < 10.0
    sender.run(0.5)
    assert sender.refuse() < 7.0  # at once
    assert sender.rate.plateau >= 4.0


def test_what_was_tried_and_held_is_the_plateau() -> None:
    sender = searched(4.0)
    while sender.run(0.5) < 10.0:
        pass
    tried = sender.refuse()
    sender.run(15.0)
    assert sender.rate.plateau == tried
    assert tried * 0.95 < sender.refuse() < tried * 1.11


def test_a_fall_is_followed_in_a_few_refusals_and_tried_again_once() -> None:
    sender = searched()
    sender.run(10.5)
    sender.refuse()
    sender.run(10.0)
    factors = []
    for _ in range(4):
        factors.append(sender.refuse())
        sender.run(0.2)
    assert factors[-1] < 0.65 * 10
    sender.run(12.0)
    assert sender.rate.plateau > 9  # chance may refuse so too


def test_a_wall_is_followed_down_while_it_lasts() -> None:
    sender = searched(20.0)
    sender.run(9.0)  # 200 in ten seconds
    sender.refuse()
    factors = []
    for gate in (0.3, 1.0, 3.0, 8.0):
        sender.now += gate
        factors.append(sender.refuse(probe=True))
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(200 / 22, rel=0.1)  # of all the time that has passed
    assert sender.rate.walled


def test_an_ill_server_does_not_bring_the_rate_to_nothing() -> None:
    sender = searched(20.0)
    sender.run(2.0)
    sender.refuse()
    for _ in range(100):
        sender.now += 8.0
        sender.refuse(probe=True)
    assert sender.rate.factor == pytest.approx(2.0, rel=0.3)


def test_refusals_that_come_late_are_of_the_older_cycle() -> None:
    sender = searched()
    sender.run(5.0)
    sent_at = sender.now - 0.5
    sender.rate.cut(sent_at, sender.now)
    factor = sender.rate.factor
    for late in range(4):
        assert not sender.rate.cut(sent_at + late / 10, sender.now)
    sender.run(5.0)
    sender.refuse()
    assert sender.rate.factor > 0.9 * factor


@given(st.lists(st.tuples(st.sampled_from("srp"), st.floats(0, 100)), max_size=60), st.booleans())
def test_the_rate_stays_above_zero_and_up_to_what_is_stated(
    happened: list[tuple[str, float]], searching: bool
) -> None:
    rate = RateControl(5.0, math.inf) if searching else RateControl()
    now = 0.0
    for what, elapsed in happened:
        now += elapsed
        before = rate.factor
        if what == "s":
            rate.sent(0.1, now, binding=elapsed < 50)
        else:
            rate.cut(now, now, probe=what == "p")
            assert rate.factor <= before
        assert 0.01 <= rate.factor <= rate.ceiling


@given(st.lists(st.tuples(st.sampled_from("srp"), st.floats(0.01, 30)), max_size=40))
def test_a_clock_that_moves_changes_nothing(happened: list[tuple[str, float]]) -> None:
    here, there = RateControl(5.0, math.inf), RateControl(5.0, math.inf)
    now, offset = 0.0, 0.0
    for at, (what, elapsed) in enumerate(happened):
        now += elapsed
        if at % 7 == 3:
            there.shift(1024.0)
            offset += 1024.0
        for rate, moment in ((here, now), (there, now + offset)):
            if what == "s":
                rate.sent(1.0, moment, binding=True)
            else:
                rate.cut(moment - 0.005, moment, probe=what == "p")
        assert there.factor == pytest.approx(here.factor, rel=1e-6)


def test_what_a_server_states_ends_the_search_and_what_was_learned() -> None:
    rate = RateControl(5.0, math.inf)
    rate.limit_to(3.0)
    assert not rate.follows
    assert rate.factor == 3.0
    rate.cut(1000.0, 1001.0)
    assert rate.factor < 3.0
    assert Sender(rate, now=1001.0).run(500.0) == 3.0  # and not above
    rate.limit_to(8.0)
    assert rate.factor == rate.plateau == 8.0


def test_what_fell_is_given_back_where_it_was_about_another_limit() -> None:
    sender = searched()
    sender.run(15.0)
    assert sender.rate.best >= 10.0
    for _ in range(4):
        sender.run(0.1)
        sender.refuse()
    assert sender.rate.factor < 7
    assert sender.rate.best >= 9.5
    sender.rate.acquit()
    assert sender.rate.factor >= 9.5


# What is kept for another run


def test_a_rate_that_was_learned_goes_on_where_it_was() -> None:
    sender = searched()
    sender.run(12.0)
    sender.refuse()
    learned = sender.rate.snapshot()
    other = RateControl(5.0, math.inf)
    assert other.restore(learned)
    assert other.factor == sender.rate.plateau
    assert other.follows
    assert other.snapshot() == learned
    assert Sender(other).run(15.0) == other.plateau  # held as long


@pytest.mark.parametrize(
    "learned",
    [
        {},
        {"plateau": 0.9, "hold": 10.0},
        {"plateau": 1.1, "hold": 10.0, "walled": 0.0},  # above what is stated
        {"plateau": 0.001, "hold": 10.0, "walled": 0.0},
        {"plateau": math.nan, "hold": 10.0, "walled": 0.0},
        {"plateau": "0.9", "hold": 10.0, "walled": 0.0},
        {"plateau": 0.9, "hold": 1e9, "walled": 0.0},
        {"plateau": 0.9, "hold": 10.0, "walled": 2.0},
    ],
)
def test_what_is_no_snapshot_of_a_rate_changes_nothing(learned: dict[str, object]) -> None:
    rate = RateControl()
    assert not rate.restore(learned)
    assert (rate.factor, rate.plateau, rate.follows) == (1.0, 1.0, False)


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


def test_what_is_refused_within_the_window_that_showed_the_limit_met_the_same_one() -> None:
    control = RateControl()
    assert control.cut(1.0, 1.0, window=(0.5, 1.0, 2.0))
    assert (control.found, control.plateau) == (True, 0.5)
    control.shift(100.0)
    for at in (101.5, 102.0, 102.9):  # the gate opened a hair too soon
        assert not control.cut(at, at + 0.01)
    assert control.plateau == 0.5
    assert control.cut(103.1, 103.11)
    assert control.plateau < 0.5


def test_a_stated_rate_that_is_refused_before_its_first_window_is_over_is_halved() -> None:
    sender = Sender(RateControl(), base=0.01, now=1.0)
    sender.rate.cut(1.0, 1.0, window=(0.25, 0.5, 2.0))  # a burst that is spent, or a window
    assert (sender.rate.plateau, sender.rate.found) == (0.5, False)
    sender.now += 1.0
    assert sender.run(8.0) == 0.5
    assert sender.run(4.0) == 1.0  # it is tried again once: it may have been chance


@pytest.mark.parametrize(
    ("window", "share"),
    [
        ((0.05, 0.1, 2.0), 0.99),  # too few to tell
        ((0.25, 2.0, 2.0), 0.99),  # long after the beginning
        ((1.2, 2.0, 2.0), 0.99),
        ((0.9, 1.9, 2.0), 0.5),  # more than a window's share passed in less
    ],
)
def test_which_first_refusals_halve_a_stated_rate(
    window: tuple[float, float, float], share: float
) -> None:
    control = RateControl()
    control.cut(1.0, 1.0, window=window)
    assert control.plateau == share


@pytest.mark.parametrize(("sent", "found"), [(66, True), (40, False), (120, False)])
def test_as_many_again_at_half_the_rate_are_a_count(sent: int, found: bool) -> None:
    sender = Sender(RateControl(), base=0.01, now=1.0)
    sender.rate.cut(1.0, 1.0, window=(0.333, 0.667, 2.0))  # 66 of 200
    sender.now += 1.0
    sender.run(sent * 0.02 - 0.01)
    sender.refuse(window=(0.33, 2.0, 2.0))
    assert sender.rate.found is found
    if found:
        assert sender.rate.plateau == pytest.approx(0.97 * 0.333, rel=0.03)


def test_a_wall_that_was_chance_is_forgotten() -> None:
    sender = searched()
    sender.rate.walled = True
    for _ in range(3):
        sender.run(0.5)
        sender.refuse()
    assert sender.rate.walled
    sender.run(0.5)
    sender.refuse()  # of the plateau, and the gate's probe passed each time
    assert not sender.rate.walled


def test_a_gate_of_other_limits_shows_nothing_of_new_ones() -> None:
    """The limits have changed while it was shut, and its probes are refused: nothing was sent."""
    control = RateControl()
    control.cut(10.9, 10.9, probe=True, window=(0.0, 1.5, 60.0))
    control.sent(0.1, 13.0, binding=True)
    control.cut(13.0, 13.0, probe=True, window=(0.0017, 3.6, 60.0))
    assert control.factor > 0.5


def noisy(sender: Sender, refusals: int, apart: float) -> list[float]:
    """The rate after each of so many refusals, that come whatever the rate is."""
    found = []
    for _ in range(refusals):
        sender.run(apart / sender.rate.factor)
        found.append(sender.refuse())
    return found


def test_a_stated_rate_that_is_refused_by_chance_is_given_back_and_held() -> None:
    sender = Sender(RateControl())
    sender.refuse()
    first = noisy(sender, 14, 50.0)
    assert min(first) == pytest.approx(0.895, abs=0.01)
    assert max(first[8:]) > 0.98
    assert min(noisy(sender, 100, 50.0)) > 0.96


def test_chance_that_is_known_is_held_wherever_the_rate_is() -> None:
    sender = Sender(RateControl(), base=0.01)
    sender.refuse()
    assert sender.rate.best == 0.0
    noisy(sender, 14, 0.5)
    assert sender.rate.best > 0.98  # what is given back was held
    sender.rate.plateau = sender.rate.factor = 0.6
    assert noisy(sender, 3, 0.5) == [0.6] * 3


def test_a_few_attempts_beside_their_gate_show_no_fall() -> None:
    rate = RateControl()
    rate.cut(10.0, 10.0)
    now = 10.05  # a gate of five intervals
    for _ in range(6):
        rate.sent(0.01, now, binding=True)
        now += 0.01 / rate.factor
    rate.cut(now, now)
    assert rate.plateau == pytest.approx(0.98, abs=0.001)


def test_a_window_that_began_under_way_is_found_at_the_next_refusal() -> None:
    sender = Sender(RateControl(), base=0.01)
    sender.rate.cut(sender.now, sender.now, window=(0.65, 1.7, 2.0))
    assert sender.rate.plateau == 0.65  # of two windows
    sender.now += 2.1
    sender.run(1.5)
    assert sender.refuse(window=(0.5, 2.0, 2.0)) == 0.5
    sender.run(10.0)
    assert sender.refuse(window=(0.45, 2.0, 2.0)) > 0.48  # long after: that window was not full
    assert not sender.rate.found


def test_over_how_long_three_refused_attempts_were_sent() -> None:
    rate = RateControl()
    for sent_at, apart in ((3.0, math.inf), (5.0, math.inf), (4.0, 2.0), (4.5, 1.0)):
        rate.cut(sent_at, 6.0)
        assert rate.apart == apart


def test_a_limit_below_a_rate_that_is_refused_by_chance_is_followed() -> None:
    sender = Sender(RateControl())
    sender.refuse()
    noisy(sender, 14, 50.0)
    assert min(noisy(sender, 3, 8.0)) > 0.98  # that may be chance
    assert noisy(sender, 20, 8.0)[-1] < 0.9


def test_walls_are_not_taken_for_chance() -> None:
    sender = Sender(RateControl())
    sender.refuse()
    noisy(sender, 14, 50.0)
    for _ in range(3):
        sender.refuse(probe=True)
    assert noisy(sender, 1, 50.0)[0] < 0.99 * sender.rate.ceiling
    assert not sender.rate._chance.share


def test_a_window_that_was_filled_at_lower_rates_shows_no_limit() -> None:
    """Back at what is stated after a minute of half of it: the last minute held but half."""
    sender = Sender(RateControl())
    sender.rate.restore({"plateau": 0.9, "hold": 10.0, "walled": 0.0})
    sender.run(120.0)
    assert not sender.rate.follows
    assert sender.rate.factor == 1.0
    sender.now += 20.0
    sender.rate.cut(sender.now, sender.now, window=(0.55, 60.0, 60.0))
    assert sender.rate.factor == pytest.approx(0.99)
    later = Sender(RateControl())
    later.rate.restore({"plateau": 0.9, "hold": 10.0, "walled": 0.0})
    later.run(120.0)
    later.now += 70.0
    later.rate.cut(later.now, later.now, window=(0.55, 60.0, 60.0))
    assert later.rate.factor == pytest.approx(0.55)
