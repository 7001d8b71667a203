"""The pace, the budget of tokens, and the moments that they name: as tables, then as properties."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from simulate import Ledger

from headway import Limits, NeverFits, Rate
from headway._core.limits.budget import Charge, TokenBudget
from headway._core.limits.pace import Pace
from headway._core.limits.scope import Scope
from headway.rates import LATENESS

AT_ONCE = -math.inf


# With these a permit is one second, exactly, and a window (with jitter) 99.99 s.
JITTER = 1.0 - LATENESS - 1e-6


SECOND = Rate(100, per=99, jitter=JITTER)


BURST_OF_3 = Rate(102, per=99, jitter=JITTER, burst=3)


# Tables: at `t` an attempt of `cost` may start from `ready_at`, and does start at `t`.


@pytest.mark.parametrize(
    ("rate", "steps"),
    [
        pytest.param(
            SECOND,
            [
                (0.0, 1, AT_ONCE),
                (0.99, 1, 0.99),  # the first second began when a timer could have been late
                (1.99, 1, 1.99),
                (2.99, 2, 2.99),
                (4.99, 1, 4.99),
            ],
            id="on time",
        ),
        pytest.param(
            SECOND,
            [
                (0.0, 1, AT_ONCE),
                (0.995, 1, 0.99),  # 5 ms late: caught up
                (2.0, 1, 1.99),  # 10 ms late: caught up
                (3.04, 1, 2.99),  # 50 ms late: 10 of them are
                (4.03, 1, 4.03),
            ],
            id="late timers",
        ),
        pytest.param(
            SECOND,
            [(0.0, 1, AT_ONCE), (500.0, 1, 0.99), (500.99, 1, 500.99), (501.99, 1, 501.99)],
            id="nothing is saved up",
        ),
        pytest.param(
            BURST_OF_3,
            [
                (0.01, 1, AT_ONCE),
                (0.01, 1, -1.0),
                (0.01, 1, 0.0),
                (1.0, 1, 1.0),
                (2.0, 1, 2.0),
                (9.01, 1, 3.0),
                (9.01, 1, 8.0),
                (9.01, 1, 9.0),
                (10.0, 1, 10.0),
            ],
            id="a burst, and what it saves up",
        ),
    ],
)
def test_pace(rate: Rate, steps: Sequence[tuple[float, float, float]]) -> None:
    assert 1.0 / rate.pace == pytest.approx(1.0)
    pace = Pace(rate)
    for t, cost, ready_at in steps:
        assert pace.ready_at() == pytest.approx(ready_at, abs=1e-9)
        pace.take(t, cost)


@pytest.mark.parametrize(
    ("slow_at", "factor", "ready_at"),
    [(0.0, 0.5, 1.98), (0.49, 0.5, 1.49), (0.99, 0.5, 0.99), (5.0, 0.1, 0.99), (0.0, 1.0, 0.99)],
)
def test_a_slower_pace_keeps_what_is_owed(slow_at: float, factor: float, ready_at: float) -> None:
    pace = Pace(SECOND)
    pace.take(0.0)
    pace.slow_to(factor, slow_at)
    assert pace.ready_at() == pytest.approx(ready_at)
    pace.take(10.0)
    assert pace.ready_at() == pytest.approx(9.99 + 1.0 / factor)
    pace.slow_to(1.0, 10.0)
    assert pace.ready_at() == pytest.approx(11.0 - 0.01 * factor)


def test_a_pace_takes_back_what_was_not_sent() -> None:
    pace = Pace(SECOND)
    pace.take(0.0)
    pace.take(0.99)
    pace.give_back(1.2, 1.0)
    assert pace.ready_at() == pytest.approx(1.19)  # not 0.99: that time has gone by
    pace.give_back(9.0, 1.0)
    assert pace.ready_at() == pytest.approx(1.19)


AHEAD, LATE = 0.04 * 99, 0.02 * 99


SLOT = (99 + JITTER) / 1000


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [
                (0.0, 10, AT_ONCE),
                (10.0, 30, 10.0 - LATE - AHEAD),
                (40.0, 60, 40.0 - LATE - AHEAD),
                (110.0, 10, 1001 * SLOT),  # the window is full until the first 10 have left it
                (140.2, 90, (400 + 1001) * SLOT),  # and then until the next 30 and 60 have
            ],
            id="the pace, and then the window",
        ),
        pytest.param(
            [(0.0, 100, AT_ONCE), (101.0, 100, 1001 * SLOT), (250.0, 1, (1010 + 1001) * SLOT)],
            id="as much as a window holds",
        ),
        pytest.param([(0.0, 0, AT_ONCE), (0.0, 0, -LATE - AHEAD)], id="nothing"),
    ],
)
def test_tokens(steps: Sequence[tuple[float, float, float]]) -> None:
    budget, asked = TokenBudget(SECOND), 0.0
    for t, cost, ready_at in steps:
        assert budget.ready_at(cost, asked) == pytest.approx(ready_at, abs=0.001)
        budget.take(cost, t)
        asked = t


def test_a_refund_makes_room_at_once_and_an_overrun_takes_it() -> None:
    budget = TokenBudget(SECOND)
    first = budget.take(50, 0.0)
    second = budget.take(50, 50.0)
    assert budget.ready_at(40, 60.0) == pytest.approx(100.09, abs=0.01)
    budget.settle(second, 10, 60.0)
    assert budget.total == 60
    assert budget.ready_at(40, 60.0) == pytest.approx(60.0 - LATE - AHEAD)  # the pace, refunded too
    budget.settle(first, 70, 61.0)
    assert budget.total == 80
    # The window was full: the pace catches up with the second that passed.
    assert budget.ready_at(20, 61.0) == pytest.approx(80.0 - LATE - AHEAD)
    assert budget.ready_at(40, 61.0) == pytest.approx(1001 * SLOT, abs=0.001)
    assert budget.ready_at(95, 61.0) == pytest.approx((610 + 1001) * SLOT, abs=0.001)


def test_what_is_settled_after_it_has_left_the_window_changes_nothing() -> None:
    budget = TokenBudget(SECOND)
    late = budget.take(80, 0.0)
    budget.take(15, 90.0)
    assert budget.ready_at(85, 101.0) == pytest.approx(105.0 - LATE - AHEAD, abs=0.01)
    assert budget.total == 15
    budget.settle(late, 0, 101.0)
    assert budget.total == 15
    budget.release(late, 101.0)
    assert budget.total == 15
    assert budget.ready_at(90, 101.0) == pytest.approx((900 + 1001) * SLOT, abs=0.001)


def test_the_pace_follows_what_is_used_and_not_what_is_reserved() -> None:
    budget = TokenBudget(Rate(6000, per=60))
    now = 0.0
    for _ in range(200):
        now = max(now, budget.ready_at(20, now))
        budget.settle(budget.take(20, now), 10, now)
    before = now
    for _ in range(100):
        now = max(now, budget.ready_at(20, now))
        budget.settle(budget.take(20, now), 10, now)
    assert now - before == pytest.approx(1000 / 99.5, rel=0.02)  # 1,000 used, and not 2,000


# Larger than a window's share: Together's minute, enforced by the second.

PER_SECOND = Rate(180, per=60, window=1)


def test_one_larger_than_a_window_starts_alone_and_is_paid_off() -> None:
    budget = TokenBudget(PER_SECOND)
    budget.take(1, 100.0)
    assert budget.ready_at(9, 100.0) == pytest.approx(101.021, abs=0.003)
    budget.settle(budget.take(9, 101.03), 9, 101.5)
    paid = 101.03 + 9 / PER_SECOND.pace
    for cost in (1, 3, 9):
        assert budget.ready_at(cost, 103.0) == pytest.approx(paid - 0.02, abs=1e-6)


def test_one_larger_than_the_limit_never_fits() -> None:
    limits = Scope(Limits(tokens=[PER_SECOND, "1M/h"]), "chat")
    limits.check(180)
    with pytest.raises(NeverFits, match=r"181 tokens .* of key 'chat' of 180/min: .* Fix: "):
        limits.check(181)


# Properties

rates = st.builds(
    Rate,
    limit=st.floats(5, 1e6),
    per=st.sampled_from([1.0, 2.0, 60.0, 3600.0]),
    burst=st.integers(1, 5),
)


steps = st.lists(
    st.tuples(
        st.floats(0, 1),  # how long after it was ready, in windows
        st.floats(0.0001, 1.2),  # the cost, as a share of the window
        st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.5]),  # the share of it that is used
        st.booleans(),  # whether an older one is settled now
    ),
    min_size=1,
    max_size=40,
)


@given(rates, steps)
def test_ready_at_names_the_first_moment(
    rate: Rate, steps: list[tuple[float, float, float, bool]]
) -> None:
    budget, pace = TokenBudget(rate), Pace(rate)
    running: list[tuple[Charge, float]] = []
    now = 5000.0
    for late, share, used, settles in steps:
        cost = share * rate.share
        for asked in (lambda at, cost=cost: budget.ready_at(cost, at), lambda at: pace.ready_at()):
            ready = asked(now)
            early = ready - 3e-6 * rate.span  # a window clears its slots by a third of that
            if early > now:
                assert asked(early) > early, "asked before, it is not admitted"
            if ready > now:
                assert asked(ready) <= ready, "asked then, it is"
        now = max(now, budget.ready_at(cost, now), pace.ready_at()) + max(0, late - 0.5) * rate.span
        pace.take(now)
        running.append((budget.take(cost, now), used * cost))
        if settles:
            budget.settle(*running.pop(0), now)


@given(rates, steps, st.randoms(use_true_random=False))
def test_no_window_holds_more_than_the_share(
    rate: Rate, steps: list[tuple[float, float, float, bool]], random: Random
) -> None:
    budget, ledger = TokenBudget(rate), Ledger(rate)
    running: list[tuple[Charge, list[float], float]] = []
    now = 5000.0
    for late, share, used, settles in steps:
        cost = share * rate.share
        now = max(now, budget.ready_at(cost, now)) + max(0, late - 0.9) * rate.span
        entry, right = ledger.start(cost, now)
        assert right
        running.append((budget.take(cost, now), entry, used * cost))
        if settles:
            charge, entry, tokens = running.pop(random.randrange(len(running)))
            if tokens == 0:
                budget.release(charge, now)
            else:
                budget.settle(charge, tokens, now)
            ledger.settle(entry, tokens, now)


@given(rates, steps, st.floats(-4000, 1e6))
def test_another_clock_changes_nothing(
    rate: Rate, steps: list[tuple[float, float, float, bool]], seconds: float
) -> None:
    budget, pace = TokenBudget(rate), Pace(rate)
    now = 5000.0
    for _, share, used, _ in steps:
        cost = share * rate.share
        now = max(now, budget.ready_at(cost, now), pace.ready_at())
        pace.take(now)
        budget.settle(budget.take(cost, now), used * cost, now)
    paced, ready = pace.ready_at(), budget.ready_at(rate.share / 2, now)
    pace.shift(seconds)
    budget.shift(seconds)
    assert pace.ready_at() == pytest.approx(paced + seconds, abs=1e-6)
    later = budget.ready_at(rate.share / 2, now + seconds) - (ready + seconds)
    assert -1e-6 <= later <= 1.01 * (rate.span + rate.delay_bound) / 1000  # a slot at the most


@given(rates, rates, st.integers(1, 200))
def test_a_retune_keeps_what_is_owed(old: Rate, new: Rate, sent: int) -> None:
    older = Pace(old)
    for _ in range(sent):
        older.take(5000.0)
    owed = older.next - 5000.0
    newer = Pace(new)
    newer.adopt(older, 5000.0)
    assert newer.next - 5000.0 == pytest.approx(max(0.0, owed) * old.pace / new.pace)
    fresh = Pace(new)
    fresh.adopt(Pace(old), 5000.0)
    assert fresh.ready_at() == AT_ONCE


@given(rates, rates, steps)
def test_a_retune_forgets_no_tokens(
    old: Rate, new: Rate, steps: list[tuple[float, float, float, bool]]
) -> None:
    # What is in the window stays in it, and what is in flight is settled in the new one.
    older, now = TokenBudget(old), 5000.0
    running: list[tuple[Charge, float, float]] = []
    for _, share, used, _ in steps:
        running.append((older.take(share * old.share, now), now, used * share * old.share))
        now += old.span / 10 * share
    first, second = TokenBudget(new), TokenBudget(new)
    first.adopt(older, now)
    second.adopt(older, now)
    assert first.total == pytest.approx(second.total)
    kept = {id(slot) for slot in first._slots}
    assert all(
        id(charge.slot) in kept
        for charge, start, _ in running
        if start >= now - min(old.span, new.span)
    )
    total = 0.0
    for charge, _, used in running:
        older.settle(charge, used, now)
        total += used if id(charge.slot) in kept else max(0.0, used - charge.reserved)
    assert first.total == pytest.approx(total, abs=1e-3)


def test_a_refund_across_retunes() -> None:
    # Slots of another width: one that had left before must not be taken for one of the new.
    limits = Scope(Limits(tokens="100/s"))
    gone = limits.budgets[0].take(90, 10.0), limits.budgets[0]
    kept = limits.budgets[0].take(80, 11.9), limits.budgets[0]
    limits.retune(Limits(tokens="1000/min"), 12.0)
    limits.retune(Limits(tokens="2000/h"), 12.5)
    assert limits.budgets[0].total == 80
    gone[1].settle(gone[0], 0.0, 13.0)
    assert limits.budgets[0].total == 80
    kept[1].settle(kept[0], 200.0, 13.0)
    assert limits.budgets[0].total == 200


# Each property above catches the mutant that it is for


@pytest.mark.parametrize(
    ("where", "name", "mutant", "caught_by"),
    [
        pytest.param(
            TokenBudget,
            "_frees_at",
            lambda self, room, spare: self._slots[0][0] * self._width + self.rate.span,
            test_no_window_holds_more_than_the_share,
            id="the first slot is enough",
        ),
        pytest.param(
            TokenBudget,
            "_frees_at",
            lambda self, room, spare: (self._slots[-1][0] + 2000) * self._width,
            test_ready_at_names_the_first_moment,
            id="later than need be",
        ),
        pytest.param(
            TokenBudget,
            "shift",
            lambda self, seconds: self.pace.shift(seconds),
            test_another_clock_changes_nothing,
            id="the window stays on the old clock",
        ),
        pytest.param(
            Pace,
            "adopt",
            lambda self, older, now: None,
            test_a_retune_keeps_what_is_owed,
            id="a retune starts a burst",
        ),
        pytest.param(
            TokenBudget,
            "adopt",
            lambda self, older, now: self._slots.extend(map(list, older._slots)),
            test_a_retune_forgets_no_tokens,
            id="what is in flight is settled nowhere",
        ),
    ],
)
def test_mutants_of_the_parts(
    where: type,
    name: str,
    mutant: object,
    caught_by: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(where, name, mutant)
    until_found = settings(
        max_examples=2000, database=None, phases=[Phase.generate], report_multiple_bugs=False
    )
    # As the decorator does it, which would leave them to the property's own run.
    monkeypatch.setattr(caught_by, "_hypothesis_internal_use_settings", until_found)
    with pytest.raises(AssertionError):
        caught_by()
