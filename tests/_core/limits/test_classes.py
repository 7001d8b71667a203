"""Tokens by class: what each budget counts, and that no window of any class is exceeded."""

from __future__ import annotations

import heapq
import math
from collections import deque
from random import Random
from typing import Any

import pytest

from headway import Cost, Limits, NeverFits, Rate, Retry, TokenRate
from headway._core.limits.binding import binding
from headway._core.limits.budget import TokenBudget
from headway._core.limits.scope import Scope
from headway._core.queue.job import Job
from headway._core.state import SchedulerState
from headway.events import Ignored
from headway.hints import LimitHint
from headway.rates import Enforcement, TokenClass
from tests.depth import DEEP, depth

ASKED = Cost(input=150, cached=50_000, output=20)


@pytest.mark.parametrize(
    ("kind", "rate", "cached", "counted"),
    [
        ("tokens", Rate(1e6), None, 50_170),
        ("tokens", Rate(1e6), 0.0, 170),  # the provider leaves out what it has in its cache
        ("tokens", TokenRate(1e6, output=5), None, 50_250),
        ("tokens", TokenRate(1e6, output=5), 0.0, 250),
        ("tokens", TokenRate(1e6, cached=0.1), 0.0, 5_170),  # the user knows better
        ("input_tokens", TokenRate(1e6, output=0.0), None, 50_150),
        ("input_tokens", TokenRate(1e6, output=0.0), 0.0, 150),
        ("output_tokens", TokenRate(1e6, input=0.0), None, 20),
        ("output_tokens", TokenRate(1e6, input=0.0), 1.0, 20),
    ],
)
def test_what_a_budget_counts_of_a_cost(
    kind: TokenClass, rate: Rate, cached: float | None, counted: float
) -> None:
    budget = TokenBudget(rate, kind, cached=cached)
    assert budget.weigh(ASKED) == pytest.approx(counted)
    charge = budget.take(ASKED, 0.0)
    assert budget.spent(0.0) == pytest.approx(counted)
    budget.settle(charge, Cost(output=1), 1.0)
    assert budget.spent(1.0) == pytest.approx(budget.weigh(Cost(output=1)))


def test_a_plain_number_counts_as_what_a_budget_counts_most() -> None:
    for kind, rate, counted in (
        ("input_tokens", TokenRate(1e6, output=0.0), 100),
        ("output_tokens", TokenRate(1e6, input=0.0), 100),
        ("tokens", TokenRate(1e6, output=5.0), 500),
    ):
        budget = TokenBudget(rate, kind)  # type: ignore[arg-type]
        assert budget.weigh(100.0) == budget.weigh(Cost(either=100)) == counted


def test_what_uses_none_of_a_class_does_not_wait_for_it() -> None:
    scope = Scope(Limits(input_tokens="1k/min", output_tokens="100/min"))
    big = Job(machine(Limits()).flow(None), 0, Cost(input=10, output=100))
    scope.take(big, 0.0)
    assert scope.ready_at(Cost(input=10, output=10), 1.0) > 30
    assert scope.ready_at(Cost(input=10), 1.0) < 1.0
    assert binding(scope, Cost(input=10, output=10), 1.0)[0] == "output_tokens"


@pytest.mark.parametrize(
    ("limits", "cost", "said"),
    [
        (Limits(input_tokens="1k/min"), Cost(input=1_001), "1,001 input tokens"),
        (Limits(output_tokens="1k/min"), Cost(input=9e9, output=1_001), "1,001 output tokens"),
        (Limits(tokens=TokenRate(1_000, output=5)), Cost(output=201), "1,005 tokens"),
    ],
)
def test_what_is_larger_than_the_limit_of_a_class_never_fits(
    limits: Limits, cost: Cost, said: str
) -> None:
    with pytest.raises(NeverFits, match=f"an attempt of {said} is larger than the whole limit"):
        Scope(limits).check(cost)


def test_what_nobody_splits_is_taken_for_the_answers() -> None:
    state = machine(Limits(input_tokens="10k/min", output_tokens="10k/min"))
    job = Job(state.flow(None), 0, Cost(input=100, output=500))
    assert state.submit(job, 0.0)
    state.finish(job, 150.0, 1.0)
    used = {each.what: each.used for each in state.statistics(1.0).limits}
    assert used == {"input_tokens": 100, "output_tokens": 50}
    figures = state.statistics(1.0)
    assert (figures.tokens, figures.input_tokens, figures.output_tokens) == (150, 100, 50)


def test_the_average_of_a_key_is_kept_by_class() -> None:
    state = machine(Limits(input_tokens="100k/min"))
    flow = state.flow(None)
    for now, used in ((0.0, Cost(input=150, cached=50_000, output=20)), (120.0, 100.0)):
        job = Job(flow, 0, Cost(input=1_000))
        assert state.submit(job, now)
        state.finish(job, used, now)
    mean = state.guess(flow)
    assert isinstance(mean, Cost)
    assert (mean.input, mean.cached, mean.output) == (145.0, 45_000.0, 18.0)


def test_sixty_calls_that_the_cache_answers_take_seconds_and_not_an_hour() -> None:
    state = machine(Limits("600/min", input_tokens="100k/min"))
    state.enforce(Enforcement(cached=0.0), state.flow(None), 0.0)
    seconds = play(state, [ASKED] * 60, lambda cost: cost)
    assert seconds == pytest.approx(6.0, abs=1.5)


def test_each_class_follows_its_own_header() -> None:
    state = machine(Limits(input_tokens="60k/min", output_tokens="60k/min"))
    state.observe(
        [LimitHint("input_tokens", 6_000, None, None, 60)], state.flow(None), 0.0
    )  # and nothing of the other class
    factors = {each.what: each.factor for each in state.statistics(0.0).limits}
    assert factors == {"input_tokens": pytest.approx(0.099, abs=0.001), "output_tokens": 1.0}
    state.observe([LimitHint("output_tokens", 30_000, None, None, 60)], state.flow(None), 1.0)
    factors = {each.what: each.factor for each in state.statistics(1.0).limits}
    assert factors["output_tokens"] == pytest.approx(0.5, abs=0.01)
    state.reset(2.0)
    assert {each.factor for each in state.statistics(2.0).limits} == {1.0}


def test_with_nothing_stated_the_server_states_each_class() -> None:
    state = SchedulerState(Limits(), now=0.0, retry=Retry())
    state.whole.search()
    hints = [LimitHint(kind, 6_000, None, None, 60) for kind in ("input_tokens", "output_tokens")]
    state.observe(hints, state.flow(None), 0.0)  # type: ignore[arg-type]
    assert {each.what for each in state.statistics(0.0).limits} == {
        "input_tokens", "output_tokens",
    }  # fmt: skip


def machine(limits: Limits) -> SchedulerState:
    return SchedulerState(limits, now=0.0, retry=Retry())


def play(state: SchedulerState, costs: list[Cost], reserved: Any, latency: Any = None) -> float:
    """Run jobs that use `costs` to the end, as they are admitted; when the last one started."""
    flow = state.flow(None)
    ends: list[tuple[float, int, Job]] = []
    now = last = 0.0
    rest = deque(costs)

    def start(job: Job) -> None:
        nonlocal last
        last = now
        seconds = 1.0 if latency is None else latency(job.waiter, now)
        heapq.heappush(ends, (now + seconds, job.number, job))

    while rest or ends:
        while rest and state.waiting.size < 20:
            used = rest.popleft()
            job = Job(flow, 0, reserved(used))
            job.waiter = used
            if state.submit(job, now):
                start(job)
        changed, wake_at = state.poll(now)
        for job in changed:
            start(job)
        now = max(now, min(wake_at, ends[0][0] if ends else math.inf))
        while ends and ends[0][0] <= now:
            job = heapq.heappop(ends)[2]
            state.finish(job, job.waiter, now)
    return last


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("limits", "most"),
    [
        (
            Limits(input_tokens="300k/min", output_tokens="60k/min"),
            {"input": 300_000, "output": 60_000},
        ),
        (Limits(tokens=TokenRate(400_000, output=5.0)), {"weighed": 400_000}),
        (Limits(tokens="200k/min", input_tokens="150k/min"), {"all": 200_000, "input": 150_000}),
        (Limits(input_tokens="50k/min"), {"input": 50_000}),  # a call is 2% of it
    ],
)
def test_no_window_of_any_class_is_exceeded(
    limits: Limits, most: dict[str, float], seed: int
) -> None:
    random = Random(seed)
    costs = [
        Cost(input=random.expovariate(1 / 900) + 20, output=random.expovariate(1 / 200) + 5)
        for _ in range(depth(2_000, 20_000))
    ]
    seen: dict[str, deque[tuple[float, float]]] = {name: deque() for name in most}
    held = dict.fromkeys(most, 0.0)
    worst = dict.fromkeys(most, 0.0)

    def arrives(used: Cost, now: float) -> float:
        parts = {
            "input": used.input,
            "output": used.output,
            "all": used.input + used.output,
            "weighed": used.input + 5 * used.output,
        }
        for name, window in seen.items():
            window.append((now, parts[name]))
            held[name] += parts[name]
            while window[0][0] <= now - 60.0:
                held[name] -= window.popleft()[1]
            worst[name] = max(worst[name], held[name])
        return random.lognormvariate(0.0, 0.7)

    state = machine(limits)
    seconds = play(
        state, costs, lambda used: Cost(input=1.1 * used.input, output=2 * used.output), arrives
    )
    assert all(worst[name] <= most[name] for name in most)
    reached = {
        "input": sum(c.input for c in costs),
        "output": sum(c.output for c in costs),
        "all": sum(costs),
        "weighed": sum(c.input + 5 * c.output for c in costs),
    }
    # The most that reservations leave of the first is 97.3%; a short run ends with its last window.
    least = 0.96 if DEEP else 0.968
    assert max(reached[name] / seconds * 60 / most[name] for name in most) >= least


def test_of_two_providers_the_stricter_holds_and_each_key_has_its_own() -> None:
    state = SchedulerState(
        Limits("600/min", input_tokens="100k/min"), now=0.0, retry=Retry(),
        keys={"a": Limits(input_tokens="100k/min"), "t": Limits("600/min")}.get,
    )  # fmt: skip
    for key, enforcement in (("a", Enforcement(cached=0.0)), ("t", Enforcement(window=1.0))):
        state.enforce(enforcement, state.flow(key), 0.0)
    own = state.flow("a").limits
    assert own is not None
    assert own.budgets[0].weigh(ASKED) == 150
    assert state.whole.budgets[0].weigh(ASKED) == 50_150
    windows = {each.what: each.window for each in state.statistics(0.0).limits}
    assert windows == {"requests": 1.0, "input_tokens": 60.0}


@pytest.mark.parametrize(
    "hint",
    [
        LimitHint("tokens", 5, 99_999, None, 60),  # more remain than there are
        LimitHint("input_tokens", 50, None, None, 60),  # and answers have used more
    ],
)
def test_headers_that_contradict_what_was_answered_stall_nothing(hint: LimitHint) -> None:
    state = machine(Limits(tokens="120k/min", input_tokens="100k/min"))
    flow = state.flow(None)
    job = Job(flow, 0, Cost(input=100, output=5))
    assert state.submit(job, 0.0)
    state.finish(job, Cost(input=100, output=5), 0.5)
    state.observe([hint], flow, 1.0)
    assert {each.factor for each in state.statistics(1.0).limits} == {1.0}
    (event,) = [each for each in state.events if isinstance(each, Ignored)]
    assert "ignored" in event.what
