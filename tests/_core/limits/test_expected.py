"""What is expected of estimates in flight: what budgets make of it, and what no window exceeds."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from random import Random

import pytest

from headway import Cost, Limits, Rate
from headway._core.limits.budget import Charge, TokenBudget
from headway._core.limits.expected import Expected
from headway._core.limits.scope import Scope
from headway.providers import AZURE, BEDROCK, PROVIDERS
from headway.rates import Enforcement
from tests._core.limits.test_classes import machine, play
from tests.depth import depth

MINUTE = Rate(1_000)


def taught(budget: TokenBudget, uses: list[float], now: float = 0.0) -> float:
    """Let `budget` see so many rounds of four calls of 100 tokens, which use such shares, each of
    them after two minutes; when that was.
    """
    for share in uses:
        charges = [budget.take(Cost(output=100), now) for _ in range(4)]
        now += 120.0
        for charge in charges:
            budget.settle(charge, Cost(output=100 * share), now)
    return now


def fill(budget: TokenBudget, now: float, number: int = 9) -> list[Charge]:
    return [budget.take(Cost(output=100), now) for _ in range(number)]


def has_room(budget: TokenBudget, cost: float, now: float) -> bool:
    return budget._room_at(cost, type(cost) is Cost) <= now


def test_estimates_in_flight_count_as_what_is_expected_and_promises_in_full() -> None:
    budget = TokenBudget(MINUTE)
    now = taught(budget, [0.5] * 8)
    fill(budget, now)
    # 450 of 900 and 1.25% of the window: 537.5 are free, of which a promise takes all that it says.
    assert budget.spent(now) == pytest.approx(462.5)
    assert has_room(budget, 537.4, now)
    assert not has_room(budget, 537.6, now)
    assert has_room(budget, Cost(output=900), now)  # 450 are expected of it
    budget.take(500.0, now)
    assert budget.spent(now) == pytest.approx(962.5)
    assert not has_room(budget, Cost(output=100), now)
    assert budget.ready_at(Cost(output=100), now) == pytest.approx(now + 60.36, abs=0.07)


def test_seven_rounds_are_not_enough() -> None:
    budget = TokenBudget(MINUTE)
    now = taught(budget, [0.5] * 7)
    fill(budget, now)
    assert budget.spent(now) == 900
    assert not has_room(budget, Cost(output=101), now)


@pytest.mark.parametrize(
    ("uses", "spent"),
    [
        pytest.param([0.5, 0.7] * 20, (850, 900), id="what varies"),
        pytest.param([0.5 + 0.004 * n for n in range(40)], (590, 650), id="what rises"),
        pytest.param([0.9 - 0.01 * n for n in range(40)], (460, 520), id="what falls"),
        pytest.param([0.5] * 39 + [0.9], (800, 900), id="what has jumped"),
        pytest.param([1.0] * 40, (900, 900), id="what uses all of it"),
        pytest.param([1.4] * 40, (900, 900), id="what uses more than it said"),
    ],
)
def test_the_margin_is_by_what_was_seen(uses: list[float], spent: tuple[float, float]) -> None:
    budget = TokenBudget(MINUTE)
    now = taught(budget, uses) + 120.0
    fill(budget, now)
    assert spent[0] <= budget.spent(now) <= spent[1]


def test_an_attempt_counts_by_the_time_that_it_took() -> None:
    # Long calls, which use all, are twice as many of those in flight as of those that end.
    budget, now = TokenBudget(Rate(100_000)), 0.0
    for _ in range(60):
        short, long = (budget.take(Cost(output=100), now) for _ in range(2))
        budget.settle(short, Cost(output=0), now + 10.0)
        budget.settle(long, Cost(output=100), now + 20.0)
        now += 120.0
    assert budget.expected.spare(60_000.0) == pytest.approx(20_000 - 1_250, rel=0.005)


def test_a_rise_counts_at_once_and_a_fall_when_its_round_is_over() -> None:
    spare = []
    for share in (0.5, 0.9, 0.1):
        expected = Expected(1_000.0)
        for _ in range(8):
            expected.ended(100.0, 50.0, 1.0)
        expected.held = 300.0
        expected.ended(100.0, 100 * share, 1.0)  # of a round of four
        spare.append(expected.spare(900.0))
    assert spare[0] == spare[2] == pytest.approx(437.5)
    assert spare[1] < 430


def test_the_margin_is_wider_where_few_rounds_were_heard() -> None:
    expected = Expected(1_000.0)
    spare = []
    for _ in range(2):
        for _ in range(8):
            expected.ended(100.0, 48.0, 1.0)
            expected.ended(100.0, 52.0, 1.0)
        spare.append(expected.spare(900.0))
    assert spare[0] < spare[1] - 5


def test_a_refusal_takes_back_what_was_expected_for_twice_as_long() -> None:
    scope = Scope(Limits(tokens=MINUTE))
    (budget,) = scope.budgets
    now = taught(budget, [0.5] * 8)
    fill(budget, now)
    for _ in range(3):  # the others of a burst are no news
        scope.cut_tokens(now, now, probe=False)
        assert budget.spent(now) == 900
    now = taught(budget, [0.5] * 15, now + 300.0)
    assert budget.expected.spare(900.0) == 0
    taught(budget, [0.5], now)
    assert budget.expected.spare(900.0) == pytest.approx(437.5)
    scope.cut_tokens(now, now, probe=False)
    scope.forget_learned(now)  # `reset()`
    taught(budget, [0.5] * 8, now + 300.0)
    assert budget.expected.spare(900.0) == pytest.approx(437.5)


def test_where_the_provider_reserves_reservations_count() -> None:
    assert all(each.enforcement.reserves for each in (PROVIDERS["openai"], PROVIDERS["groq"]))
    assert all(each.enforcement.reserves for each in (AZURE, BEDROCK))
    scope = Scope(Limits(tokens=MINUTE))
    (budget,) = scope.budgets
    now = taught(budget, [0.5] * 8)
    fill(budget, now)
    scope.enforce(Enforcement(reserves=True), now)
    assert budget.spent(now) == 900
    assert not has_room(budget, Cost(output=101), now)
    scope.enforce(PROVIDERS["anthropic"].enforcement, now)  # both are asked: the stricter holds
    assert budget.exact
    scope.retune(Limits(tokens=Rate(2_000)), now)
    assert scope.budgets[0].exact


def test_a_new_limit_knows_what_is_in_flight_and_what_it_will_use() -> None:
    scope = Scope(Limits(tokens=MINUTE))
    now = taught(scope.budgets[0], [0.5] * 8)
    charges = fill(old := scope.budgets[0], now)
    scope.retune(Limits(tokens=Rate(2_000)), now)
    (budget,) = scope.budgets
    assert budget.spent(now) == pytest.approx(475)
    for charge in charges:
        old.settle(charge, Cost(output=50), now + 5.0)
    assert budget.expected.held == 0
    assert budget.spent(now + 5.0) == pytest.approx(450)


def test_what_is_in_flight_for_longer_than_the_window_is_not_held() -> None:
    budget = TokenBudget(MINUTE)
    now = taught(budget, [0.5] * 8)
    long = fill(budget, now, 3)
    short = fill(budget, now + 50.0, 2)
    assert not budget._room_at(900.0, False) <= now + 50.0
    assert budget.holds(now + 70.0)  # the three have left it
    assert budget.expected.held == 200
    budget.release(long.pop(), now + 70.0)
    for charge in (*long, *short):
        budget.settle(charge, Cost(output=50), now + 80.0)
    assert budget.expected.held == 0


@pytest.mark.parametrize("seed", range(depth(1, 5)))
def test_no_window_is_exceeded_where_cached_shares_drift_and_97_percent_are_used(seed: int) -> None:
    # Calls of 5 s reserve all of their prompt, of which the cache holds 30% to 70%, a sine of five
    # minutes, and four times the answer. With reservations that count in full 91% are used.
    random = Random(seed)
    costs = []
    for number in range(depth(900, 20_000)):
        prompt, chance = random.uniform(1_000, 3_000), random.uniform(-0.05, 0.05)
        cached = 0.5 + 0.2 * math.sin(number / 160) + chance
        costs.append(Cost(input=prompt * (1 - cached), cached=prompt * cached, output=100))
    limit, held, worst = 200_000.0, 0.0, 0.0
    window: deque[tuple[float, float]] = deque()
    minutes: defaultdict[float, float] = defaultdict(float)

    def arrives(used: Cost, now: float) -> float:
        nonlocal held, worst
        window.append((now, used.input))
        held += used.input
        while window[0][0] <= now - 60.0:
            held -= window.popleft()[1]
        worst = max(worst, held)
        minutes[now // 60] += used.input
        return 5.0 * random.lognormvariate(-0.125, 0.5)

    state = machine(Limits(input_tokens=f"{limit:.0f}/min", output_tokens="100k/min"))
    state.enforce(Enforcement(cached=0.0), state.flow(None), 0.0)
    play(state, costs, lambda used: Cost(input=used.input + used.cached, output=400), arrives)
    assert worst <= limit
    full = [used for _, used in sorted(minutes.items())][2:-1]  # begun, and ended
    assert sum(full) / len(full) >= 0.97 * limit


@pytest.mark.parametrize("late", [0.5, 90.0], ids=["in the window", "when that is over"])
def test_what_is_sent_late_is_held_until_it_ends(late: float) -> None:
    budget = TokenBudget(MINUTE)
    now = taught(budget, [0.5] * 8) + 10.0
    charge = fill(budget, now, 1)[0]
    budget.sent_late(charge, now + late)
    assert budget.expected.held == budget.total == 100
    budget.settle(charge, Cost(output=40), now + late + 1)
    assert (budget.expected.held, budget.total) == (0, 40)
    budget.take(0.0, now + 300)
    assert (budget.expected.held, budget.total) == (0, 0)
