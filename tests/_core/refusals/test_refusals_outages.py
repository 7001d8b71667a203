"""Failures one after another, and what ends an outage."""

from __future__ import annotations

from typing import Any

import pytest
from world import World

from headway import Kind, Limits, Retry, Unavailable
from headway._core.queue.job import FAILED, STARTED, Job
from headway._core.refusals.retry import Delay, GiveUp
from headway.events import Closed, GaveUp
from headway.hints import Refusal


def outage(world: World, n: int = 8) -> list[Job]:
    """`n` jobs in flight fail, the fifth of which begins an outage; random is 0: no backoff."""
    jobs = world.submit(n=n)
    world.run(1.0)
    for job in jobs:
        assert isinstance(world.refuse(job, Kind.TRANSIENT), Delay)
    assert world.state.whole.gate.cautious
    return jobs


def test_an_outage_begins_after_five_failures_of_several_jobs() -> None:
    world = World()
    jobs = world.started(5)
    for job in jobs[:4]:
        world.refuse(job, Kind.TRANSIENT, random=0.9)
    assert not world.state.whole.gate.shut
    world.refuse(jobs[4], Kind.TRANSIENT, random=0.9)
    assert world.state.whole.gate.shut
    (event,) = world.events(Closed)
    assert event.kind is Kind.TRANSIENT
    assert event.reason == (
        "an outage: attempts fail one after another and none is answered; the last: no"
    )


def test_one_poisonous_job_is_no_outage() -> None:
    world = World(retry=Retry(attempts=50))
    (job,) = world.started(1)
    for _ in range(9):
        world.refuse(job, Kind.TRANSIENT)
        world.run(1.0)
    assert not world.state.whole.gate.shut


def test_an_outage_uses_nobodys_attempts_and_sends_one_probe_at_a_time() -> None:
    world = World(retry=Retry(attempts=5, patience=600))
    jobs = outage(world)
    world.submit(n=20)
    failures = {job: job.failures for job in jobs}
    assert sum(failures.values()) == 4  # those before it was known
    for _ in range(30):
        (one,) = world.run(8.0)  # the rest wait for its answer, however long
        assert isinstance(world.refuse(one[1], Kind.TRANSIENT, random=0.5), Delay)
    assert {job: job.failures for job in jobs} == failures
    assert len(world.events(Closed)) == 1
    assert world.events(GaveUp) == []


def test_probes_of_an_outage_back_off_to_eight_seconds() -> None:
    world = World(retry=Retry(patience=600))
    outage(world)
    gaps = []
    for _ in range(8):
        before = world.now
        (started,) = world.run(20.0)
        gaps.append(started[0])
        world.now = before + started[0]
        world.refuse(started[1], Kind.TRANSIENT)
    assert gaps == [0.25, 0.5, 1, 2, 4, 4, 4, 4]  # half of what is drawn up to, at random = 0


@pytest.mark.parametrize("answer", [None, Kind.PERMANENT, Kind.RATE])
def test_any_answer_ends_an_outage(answer: Kind | None) -> None:
    world = World(retry=Retry(patience=600))
    outage(world)
    ((_, probe),) = world.run(8.0)
    if answer is None:
        world.ok(probe)
    else:
        world.refuse(probe, answer, 1.0)
    assert len(world.run(8.0)) >= 7
    assert not world.state.whole.gate.cautious
    (job,) = world.submit()
    world.run(1.0)
    assert isinstance(world.refuse(job, Kind.TRANSIENT), Delay)  # one failure: a backoff, no more
    assert not world.state.whole.gate.shut


def test_an_answer_that_refuses_a_key_ends_an_outage_of_the_whole() -> None:
    world = World(keys={"a": Limits("6000/min")}, retry=Retry(patience=600))
    jobs = world.submit("a", n=1) + world.submit("b", n=7)
    world.run(1.0)
    for job in jobs:
        world.refuse(job, Kind.TRANSIENT)
    ((_, probe),) = world.run(8.0)
    assert probe.flow.key == "a"
    world.now = probe.started_at + 0.1
    world.refuse(probe, Kind.RATE, 5.0)
    assert len(world.run(0.5)) == 7
    assert world.run(4.4) == []
    assert world.run(1.0)[0][1] is probe


def test_an_older_answer_ends_an_outage_and_its_probe_is_waited_for_no_longer() -> None:
    world = World(retry=Retry(patience=600))
    (slow,) = world.started(1)
    outage(world)
    world.run(2.0)
    world.refuse(slow, Kind.PERMANENT)  # sent before the outage, and an answer
    assert len(world.run(2.0)) == 7


@pytest.mark.parametrize("how", [Kind.RATE, None])
def test_an_older_answer_for_a_key_does_so_too(how: Kind | None) -> None:
    world = World(keys={"a": Limits()}, retry=Retry(patience=600))
    (slow,) = world.started(1, "a")
    outage(world)
    world.run(2.0)
    if how is None:
        world.ok(slow)
    else:
        world.refuse(slow, how, 50.0)
    assert len(world.run(2.0)) == 7


@pytest.mark.parametrize("keys", [{}, {None: Limits("6000/min")}])
def test_an_error_of_the_callers_own_is_no_answer(keys: dict[Any, Limits]) -> None:
    world = World(keys=keys, retry=Retry(patience=600))
    outage(world)
    ((_, probe),) = world.run(8.0)
    bug = Refusal(Kind.PERMANENT, None, None, "KeyError")
    assert isinstance(world.state.defer(probe, bug, world.now, 0.0), GiveUp)
    assert len(world.run(8.0)) == 1  # another probe, not the herd


def test_after_patience_an_outage_fails_all_that_wait() -> None:
    world = World(retry=Retry(patience=30))
    outage(world)
    waiting = world.submit(n=20)
    verdict: Delay | GiveUp = Delay(0)
    while isinstance(verdict, Delay):
        ((_, probe),) = world.run(9.0)
        verdict = world.refuse(probe, Kind.TRANSIENT, random=0.5)
    assert verdict.reason.startswith("an outage: no attempt was answered for ")
    assert verdict.reason.endswith(" s (no), and patience=30 seconds is over")
    world.poll()
    assert {job.status for job in waiting} == {FAILED}
    assert {type(job.error) for job in waiting} == {Unavailable}
    assert "Fix: submit again when the provider is back." in str(waiting[0].error)
    (job,) = world.submit()  # a later one is a probe
    world.run(10.0)
    world.ok(job)
    assert world.submit(n=3)[-1].status == STARTED or world.run(1.0)


def test_with_attempts_of_one_an_outage_is_not_sat_out() -> None:
    world = World(retry=Retry(attempts=1))
    jobs = world.started(6)
    assert all(isinstance(world.refuse(job, Kind.TRANSIENT), GiveUp) for job in jobs)


def test_reset_forgets_an_outage_and_every_gate() -> None:
    world = World(keys={"a": Limits(concurrency=1)}, retry=Retry(patience=600))
    (own,) = world.started(1, "a")
    world.refuse(own, Kind.RATE, 100.0)
    outage(world)
    world.state.reset(world.now)
    assert len(world.run(1.0)) == 8  # all but the one that was told to wait itself
    assert world.run(200.0) == [(pytest.approx(99.0, abs=2.0), own)]
