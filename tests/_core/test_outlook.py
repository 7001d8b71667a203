"""How long a job would wait, as far as can be foreseen, on the bare state machine."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
from world import World

from headway import Kind, Limits, NeverFits
from headway._core.outlook import Wait
from headway._core.queue.job import Job
from headway.kinds import Binds

INFINITY = math.inf


def wait(world: World, key: object = None, cost: float = 0.0, priority: float = 0.0) -> Wait:
    return world.state.would_wait(Job(world.state.flow(key), priority, cost), world.now)


def test_a_wait_is_a_number_that_says_what_for() -> None:
    none, some = Wait(0.0), Wait(2.5, Binds.TOKENS)
    assert not none
    assert none == 0.0
    assert none.binds is Binds.NOTHING
    assert some > 2
    assert (some.seconds, type(some.seconds), f"{some:.1f}") == (2.5, float, "2.5")
    assert repr(some) == "Wait(2.5, 'tokens')"
    for other in (copy.copy(some), copy.deepcopy(some), pickle.loads(pickle.dumps(some))):
        assert (other, other.binds) == (some, Binds.TOKENS)


@pytest.mark.parametrize(
    ("limits", "cost", "expected"),
    [
        (Limits("60/min"), 0, (1, "requests")),
        (Limits("60/min", tokens="600/min"), 300, (27.6, "tokens")),
        (Limits("60/min", tokens="600/min"), 0, (1, "requests")),
        (Limits(tokens="600/min"), 0, (0, "")),
        (Limits(input_tokens="600/min"), 300, (27.6, "input_tokens")),
        (Limits("1/day"), 0, (86_400, "quota")),
        (Limits(concurrency=1), 0, (1, "concurrency")),  # one a second was sent lately
        (Limits(), 0, (0, "")),
    ],
)
def test_what_one_attempt_leaves(limits: Limits, cost: float, expected: tuple[float, str]) -> None:
    world = World(limits)
    world.submit(cost=cost)
    found = wait(world, cost=cost)
    assert (found, found.binds) == (pytest.approx(expected[0], rel=0.05, abs=0.05), expected[1])
    at = world.now
    if found.binds not in ("concurrency", "quota"):  # it is what the machine does
        (job,) = world.submit(cost=cost)
        started = [*world.run(100.0)]
        assert at + found == pytest.approx(at + (started[0][0] if started else 0.0), abs=0.01)
        assert job.attempts == 1


@pytest.mark.parametrize(
    ("ahead", "key", "priority", "expected"),
    [
        ([(None, 0)] * 4, None, 0, 4),
        ([(None, 0)] * 4, None, 1, 0),
        ([(None, 0)] * 2 + [(None, 5)] * 2, None, 1, 2),
        ([("a", 0)] * 9, "b", 0, 1),  # keys take turns
        ([("a", 0)] * 9 + [("b", 0)] * 2, "b", 0, 5),
        ([("heavy", 0)] * 9, "b", 0, 8),
        ([("own", 0)] * 9, "b", 0, 0),  # held back by their own limit
        ([("own", 0)] * 4, "own", 0, 40),
    ],
)
def test_what_waits_before_it_counts(
    ahead: list[tuple[Any, float]], key: object, priority: float, expected: float
) -> None:
    world = World(Limits("60/min"), keys={"own": Limits("6/min")})
    world.state.flow("heavy").weight = 8
    world.submit("own")
    world.now += 1.0
    world.state.poll(world.now)
    world.submit()
    for each, at in ahead:
        world.state.submit(Job(world.state.flow(each), at), world.now)
    world.poll()
    expected += 1 if key != "own" else 9
    found = wait(world, key, priority=priority)
    assert found == pytest.approx(expected, abs=0.5)
    assert found.binds is Binds.REQUESTS


def test_what_waits_costs_tokens_too() -> None:
    world = World(Limits(tokens="600/min"))
    world.submit(cost=100, n=4)
    world.poll()
    found = wait(world, cost=100)
    last = world.submit(cost=100)
    when = {job: at for at, job in world.run(100.0)}
    assert found == pytest.approx(when[last[0]], rel=0.1)


def test_slots_come_free_as_often_as_attempts_were_sent() -> None:
    world = World(Limits(concurrency=2))
    for _ in range(20):  # two a second
        (job,) = world.submit()
        world.now += 0.5
        world.ok(job)
    world.submit(n=2)
    assert wait(world) == pytest.approx(0.5, rel=0.2)
    world.submit(n=4)
    found = wait(world)
    assert (found, found.binds) == (pytest.approx(2.5, rel=0.2), Binds.CONCURRENCY)


def test_nobody_can_say() -> None:
    world = World(Limits("60/min"))
    world.state.pause()
    found = wait(world)
    assert (found, found.binds) == (INFINITY, Binds.PAUSED)
    world.state.resume()
    (job,) = world.submit("a")
    world.refuse(job, Kind.AUTH)
    found = wait(world, "a")
    assert (found, found.binds) == (INFINITY, Binds.CLOSED)
    world.state.reset(world.now)
    assert wait(world, "a") < 1.1


def test_a_gate_and_what_follows_it() -> None:
    world = World(Limits("60/min"), keys={"a": Limits()})
    (job,) = world.submit("a")
    world.refuse(job, Kind.RATE, 30.0)
    found = wait(world, "a")
    assert (found, found.binds) == (30.0, Binds.GATE)
    assert wait(world) == pytest.approx(1, abs=0.1)
    world.submit("a", n=3)
    assert wait(world, "a") >= 30.0


def test_what_never_fits() -> None:
    world = World(Limits(tokens="600/min"))
    with pytest.raises(NeverFits):
        wait(world, cost=601)


def test_it_changes_nothing() -> None:
    world = World(Limits("60/min", tokens="600/min", concurrency=1))
    world.submit(cost=10, n=3)
    before = world.state.statistics(world.now)
    wait(world, cost=100)
    assert world.state.statistics(world.now) == before
