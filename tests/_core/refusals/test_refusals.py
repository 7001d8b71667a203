"""The table of refusals, each kind on its own knob: the bare state machine, made-up times."""

from __future__ import annotations

import pytest
from world import STATUS, World

from headway import HeadwayError, Kind, Latched, Limits, Retry, Unavailable
from headway._core.limits.scope import Scope
from headway._core.queue.job import STARTED, Job
from headway._core.refusals.retry import Delay, GiveUp
from headway.events import GaveUp, LimitChanged, Recovered, Refused
from headway.hints import Refusal

INFINITY = float("inf")


def knobs(limits: Scope) -> dict[str, float | bool]:
    return {
        "shut": limits.gate.shut,
        "rate": round(limits.request_rate.factor, 4),
        "tokens": round(limits.budgets[0].control.factor, 4) if limits.budgets else 1.0,
        "concurrency": limits.capacity,
    }


REST = {"shut": False, "rate": 1.0, "tokens": 1.0, "concurrency": 10.0}


@pytest.mark.parametrize(
    ("kind", "moved"),
    [
        (Kind.RATE, {"shut": True, "rate": 0.99}),
        (Kind.TOKENS, {"shut": True, "tokens": 0.99}),
        (Kind.CONCURRENCY, {"shut": True, "concurrency": 3.0}),  # four were in flight
        (Kind.CAPACITY, {"shut": True}),
        (Kind.TRANSIENT, {}),
        (Kind.PERMANENT, {}),
        (Kind.AUTH, {}),
        (Kind.QUOTA, {}),
    ],
)
@pytest.mark.parametrize("how", ["submit", "lease"])
def test_each_kind_moves_its_own_knob_and_only_that(
    kind: Kind, moved: dict[str, float | bool], how: str
) -> None:
    world = World()
    job = world.started(4)[-1]
    if how == "submit":
        world.refuse(job, kind)
    else:
        world.state.learn(job, Refusal(kind, None, STATUS[kind]), world.now, 0.0)
    assert knobs(world.state.whole) == REST | moved
    latched = kind in (Kind.AUTH, Kind.QUOTA)
    assert bool(world.state.refusals.credentials.latched) is latched


@pytest.mark.parametrize(
    ("kind", "wait", "opens"),
    [
        (
            Kind.RATE,
            None,
            0.05,
        ),  # two intervals would be less: a refusal takes as long to be heard of
        (Kind.RATE, 7.0, 7.0),
        (Kind.TOKENS, None, 0.05),
        (Kind.TOKENS, 0.5, 0.5),
        (Kind.CONCURRENCY, 4.0, 4.0),
        (Kind.CAPACITY, None, 0.25),
        (Kind.CAPACITY, 3.0, 3.0),
    ],
)
def test_how_long_the_gate_is_shut(kind: Kind, wait: float | None, opens: float) -> None:
    world = World()
    job = world.started(4)[-1]
    world.refuse(job, kind, wait)
    for other in world.in_flight:
        world.ok(other)  # sent before: the gate stays shut
    world.submit(n=5)
    started = world.run(20.0)
    assert started[0][0] == pytest.approx(opens)


# What a refusal costs a job


@pytest.mark.parametrize("kind", [Kind.RATE, Kind.TOKENS, Kind.CONCURRENCY, Kind.CAPACITY])
def test_refusals_use_no_attempts_and_are_bounded_by_patience(kind: Kind) -> None:
    world = World(retry=Retry(attempts=2, patience=60))
    (job,) = world.started(1)
    began, refused = world.now, 0
    while isinstance(verdict := world.refuse(job, kind), Delay):
        refused += 1
        assert job.failures == 0
        world.run(10.0)
        assert job.status == STARTED
    assert refused > 5
    assert "patience=60 seconds is over" in verdict.reason
    assert 60 < world.now - began < 80


def test_failures_use_attempts() -> None:
    world = World(retry=Retry(attempts=3))
    (job,) = world.started(1)
    for _ in range(2):
        assert isinstance(world.refuse(job, Kind.TRANSIENT, random=0.5), Delay)
        world.run(5.0)
    assert world.refuse(job, Kind.TRANSIENT) == GiveUp("attempts=3 are used up")
    assert job.attempts == 3
    assert [event.reason for event in world.events(GaveUp)] == ["attempts=3 are used up"]


def test_a_failure_waits_for_its_backoff_and_holds_nobody() -> None:
    world = World()
    first, _ = world.started(2)
    world.refuse(first, Kind.TRANSIENT, random=0.8)
    assert world.state.statistics(world.now).delayed == 1
    (other,) = world.submit()
    started = world.run(2.0)
    assert started == [(0.0, other), (pytest.approx(0.4), first)]


def test_refusals_give_their_slot_back_at_once_and_keep_their_place() -> None:
    world = World(Limits(concurrency=2))
    first, second, *rest = world.submit(n=5)
    world.refuse(second, Kind.CAPACITY, 0.0)
    world.refuse(first, Kind.CAPACITY, 0.0)
    assert world.state.in_flight == 0
    assert [job for _, job in world.run(0.0)] == [first]  # the probe
    world.ok(first)
    assert world.poll() == [second, rest[0]]


@pytest.mark.parametrize(
    ("kind", "left"),
    [(Kind.RATE, 0.0), (Kind.CAPACITY, 0.0), (Kind.PERMANENT, 0.0), (Kind.TRANSIENT, 500.0)],
)
def test_tokens_of_a_refused_attempt_come_back_unless_it_may_have_run(
    kind: Kind, left: float
) -> None:
    world = World(Limits(tokens="6000/min"))
    (job,) = world.submit(cost=500)
    world.refuse(job, kind)
    assert world.state.whole.budgets[0].total == left


def test_the_retry_budget() -> None:
    world = World(Limits(), retry=Retry(budget=0.2))
    jobs = world.submit(n=50)
    for job in jobs:
        world.state.finish(job, None, world.now)
    verdicts = []
    for _ in range(100):  # one at a time, a success in between: no outage
        (job,) = world.submit()
        verdicts.append(world.refuse(job, Kind.TRANSIENT, random=0.9))
        world.state.cancel(job, world.now)
        (job,) = world.submit()
        world.ok(job)
    kept = [verdict for verdict in verdicts if isinstance(verdict, Delay)]
    assert len(kept) == pytest.approx(10 + 0.2 * world.state.counters.sent, abs=1)
    assert verdicts[-2] == GiveUp(
        "the retry budget is used up: retries of failures are held to 20% of what was sent in "
        "the last 10 s, and 10 more"
    )


# Epochs


@pytest.mark.parametrize(
    ("kind", "knob", "once"),
    [
        (Kind.RATE, "rate", 0.99),
        (Kind.TOKENS, "tokens", 0.99),
        (Kind.CONCURRENCY, "concurrency", 9.0),
    ],
)
def test_a_burst_of_refusals_cuts_once(kind: Kind, knob: str, once: float) -> None:
    world = World()
    jobs = world.started(10)
    for job in jobs:
        world.refuse(job, kind, 2.0)
        world.now += 0.01
    assert knobs(world.state.whole)[knob] == once
    assert len(world.events(LimitChanged)) == 1
    started = world.run(4.0)  # the probe alone, and after a second the rest
    assert [when for when, _ in started[:2]] == pytest.approx([1.99, 2.99])
    before = knobs(world.state.whole)[knob]
    world.refuse(started[-1][1], kind, 1.0)  # sent after the cut: a new cycle
    assert knobs(world.state.whole)[knob] < before


def test_the_rate_is_held_below_a_refusal_and_the_pace_follows() -> None:
    world = World(Limits("600/min"))
    job = world.started(5)[-1]
    world.refuse(job, Kind.RATE)
    held = pytest.approx(0.99 * 9.95, rel=1e-3)
    assert world.state.statistics(world.now).pace == held
    for seconds in (5.0, 40.0, 30.0):  # it is held at first, and then tried again
        assert world.state.statistics(world.now).pace == held
        world.submit(n=700)
        for _, job in world.run(seconds):
            world.ok(job)
    assert world.state.statistics(world.now).pace == pytest.approx(9.95, rel=1e-3)


def test_concurrency_is_held_and_grows_back_by_clean_rounds() -> None:
    world = World(Limits(concurrency=4))
    jobs = world.submit(n=4)
    world.refuse(jobs.pop(), Kind.CONCURRENCY)
    for job in jobs:
        world.ok(job)  # sent before the cut: no clean round
    assert world.state.whole.capacity == 3
    for seconds, expected in ((5.0, 3), (5.1, 4)):
        world.now += seconds
        for _ in range(4):
            world.submit(n=4)
            world.run(1.0)
            for job in [*world.in_flight]:
                world.ok(job)
        assert world.state.whole.capacity == expected


# The gate and its probe


def test_one_probe_goes_first_and_the_rest_on_its_success() -> None:
    world = World(Limits("60000/min", concurrency=4))
    jobs = world.started(4)
    world.now += 0.5  # refusals take so long: a probe has as long, and twice as long again
    for job in jobs:
        world.refuse(job, Kind.RATE, 2.0)
    world.submit(n=500)
    assert world.run(1.999) == []
    world.now += 0.001
    (probe,) = world.poll()
    assert probe is jobs[0]  # the oldest
    world.now += 0.3
    assert world.poll() == []
    world.ok(probe)
    assert len(world.poll()) == 4


def test_the_rest_follow_a_silent_probe_after_a_second() -> None:
    world = World(Limits("60000/min", concurrency=4))
    jobs = world.started(4)
    world.now += 0.5
    for job in jobs:
        world.refuse(job, Kind.RATE, 2.0)
    assert [when for when, _ in world.run(10.0)] == [2.0, 3.0, 3.0, 3.0]


def test_a_refused_probe_shuts_the_gate_for_longer_each_time() -> None:
    world = World()
    (job,) = world.started(1)
    gaps = []
    for _ in range(7):
        before = world.now
        world.refuse(job, Kind.RATE)
        world.run(60.0)
        gaps.append(round(job.started_at - before, 3))
        world.now = job.started_at
    assert gaps == [0.05, 0.15, 8, 8, 8, 8, 8]  # the third: when the window has room again


def test_a_refused_probe_cuts_nothing() -> None:
    world = World()
    (job,) = world.started(1)
    for kind in (Kind.RATE, Kind.TOKENS, Kind.CONCURRENCY):
        world.refuse(job, Kind.CAPACITY, 1.0)
        world.run(8.0)
        assert world.state.whole.gate.probe is job
        world.refuse(job, kind, 1.0)  # the gate opened too soon, and that is all
        world.run(8.0)
    assert knobs(world.state.whole) == REST | {"shut": True}


@pytest.mark.parametrize("how", ["cancel", "unsend"])
def test_a_probe_that_is_cancelled_lets_the_next_one_probe(how: str) -> None:
    world = World(Limits("60000/min", concurrency=4))
    jobs = world.started(4)
    world.now += 0.5
    for job in jobs:
        world.refuse(job, Kind.RATE, 2.0)
    world.run(2.0)
    probe = world.state.whole.gate.probe
    assert isinstance(probe, Job)
    getattr(world.state, how)(probe, world.now)
    assert len(world.poll()) == 1
    assert world.state.whole.gate.probe is not probe


def test_hints_only_extend() -> None:
    world = World()
    first, second, third = world.started(3)
    world.refuse(first, Kind.RATE, 5.0)
    world.refuse(second, Kind.CAPACITY, 0.1)
    world.now += 1.0
    world.refuse(third, Kind.RATE, None)
    assert world.run(30.0)[0][0] == pytest.approx(4.0)


def test_a_concurrency_refusal_waits_until_a_slot_ends() -> None:
    world = World(Limits(concurrency=4))
    jobs = world.submit(n=6)
    world.refuse(jobs[3], Kind.CONCURRENCY)
    assert world.run(100.0) == []
    assert world.state.poll(world.now)[1] == INFINITY
    world.ok(jobs[0])
    assert world.poll() == [jobs[3]]  # one, and it is the oldest
    world.ok(jobs[3])
    assert world.poll() == [jobs[4]]  # the concurrency is 3 now
    (event,) = world.events(Refused)
    assert (event.closed_until, event.binds) == (None, "concurrency")


def test_a_concurrency_refusal_with_nothing_in_flight_waits_a_second() -> None:
    world = World(Limits(concurrency=4))
    (job,) = world.submit()
    world.refuse(job, Kind.CONCURRENCY)
    assert world.run(5.0) == [(pytest.approx(1.0), job)]


# Keys with limits of their own


def test_a_refusal_of_a_key_shuts_its_own_gate_and_no_other() -> None:
    world = World(keys={"a": Limits("6000/min", tokens="6M/min", concurrency=10)})
    job = world.started(4, "a")[-1]
    own = job.flow.limits
    assert own is not None
    world.refuse(job, Kind.RATE, 5.0)
    assert knobs(own) == REST | {"shut": True, "rate": 0.99}
    assert knobs(world.state.whole) == REST
    world.submit("b", n=3)
    world.submit("a", n=3)
    started = world.run(4.9)
    assert {job.flow.key for _, job in started} == {"b"}
    assert [(when, job.flow.key) for when, job in world.run(2.0)[:1]] == [(0.1, "a")]


def test_a_refusal_of_any_other_key_shuts_the_whole() -> None:
    world = World(keys={"a": Limits("6000/min")})
    (job,) = world.started(1, "b")
    world.refuse(job, Kind.RATE, 5.0)
    world.submit("a")
    assert world.run(4.9) == []


def test_a_key_that_recovers_late_is_looked_after_though_others_succeed() -> None:
    world = World(Limits(), keys={"a": Limits(concurrency=4)})
    jobs = world.submit("a", n=4)
    own = jobs[0].flow.limits
    assert own is not None
    world.refuse(jobs.pop(), Kind.CONCURRENCY)
    world.submit("b")
    ((_, other),) = world.run(0.0)
    world.ok(other)  # quiet, as far as b can tell
    for job in jobs:
        world.ok(job)
    world.now += 0.1
    (probe,) = world.poll()
    world.submit("a", n=20)
    world.ok(probe)
    assert not own.gate.shut  # no need to wait for a second
    for _ in range(4):
        world.now += 5.0
        for _, job in world.run(0.0):
            world.ok(job)
    assert own.capacity == 4


# Episodes


def test_an_episode_ends_with_a_success_sent_well_after_the_last_refusal() -> None:
    world = World()
    jobs = world.started(6)
    before = world.now
    world.refuse(jobs[0], Kind.RATE, 1.0)
    world.refuse(jobs[1], Kind.CAPACITY, 1.0)
    world.ok(jobs[2])  # it was sent before: it says nothing
    assert [event.episode for event in world.events(Refused)] == [1, 2]
    assert world.events(Recovered) == []
    for _, job in world.run(3.0):
        world.ok(job)  # too soon: a limit that refuses now and then is one episode
    assert world.events(Recovered) == []
    world.now += 5.0
    (job,) = world.submit()
    world.run(1.0)
    world.ok(job)
    (event,) = world.events(Recovered)
    assert (event.began, dict(event.refused)) == (before, {Kind.RATE: 1, Kind.CAPACITY: 1})
    world.refuse(jobs[3], Kind.RATE)
    assert world.events(Refused)[-1].episode == 1


def test_an_episode_outlives_a_change_of_clock() -> None:
    world = World()
    (job,) = world.started(1)
    world.refuse(job, Kind.RATE, 1.0)
    world.state.cancel(job, world.now)
    world.state.shift(-900.0)
    world.now += 5.0 - 900.0
    (job,) = world.submit()
    world.run(3.0)
    world.ok(job)
    (event,) = world.events(Recovered)
    assert event.at - event.began == pytest.approx(8.0)


def test_what_a_refusal_event_says() -> None:
    world = World()
    (job,) = world.started(1, "chat")
    world.refuse(job, Kind.RATE, 2.0, random=0.5)
    (event,) = world.events(Refused)
    assert (event.at, event.job, event.key, event.kind) == (world.now, 1, "chat", Kind.RATE)
    assert (event.status, event.wait) == (429, 2.0)
    assert event.closed_until == pytest.approx(world.now + 2.125)
    assert world.state.statistics(world.now).why == "refused (rate): no"


def test_errors_are_headways_own() -> None:
    assert issubclass(Latched, HeadwayError)
    assert issubclass(Unavailable, HeadwayError)
