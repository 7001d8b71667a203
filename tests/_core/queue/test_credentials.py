"""Credentials: whom a refusal of a key stops, and for how long one that has worked is believed."""

from __future__ import annotations

import pytest
from world import World

from headway import Kind, Latched, Limits, Retry
from headway._core.queue.credentials import Credentials
from headway._core.queue.job import FAILED, QUEUED, STARTED, Job
from headway._core.refusals.retry import Delay, GiveUp
from headway.events import Closed, GaveUp
from headway.hints import Refusal


def test_one_stray_refusal_of_a_key_that_works_costs_no_job() -> None:
    world = World(Limits("6000/min", concurrency=8))
    jobs = world.submit(n=300)
    refused = 0
    while any(job.status in (QUEUED, STARTED) for job in jobs):
        for job in world.in_flight:
            if world.state.counters.succeeded == 100 and not refused:
                refused += 1
                assert isinstance(world.refuse(job, Kind.AUTH), Delay)
            else:
                world.ok(job)
        world.run(0.01)
    assert world.state.counters.succeeded == 300
    assert world.events(Closed) == []


@pytest.mark.parametrize("n", [1, 8])
def test_a_key_that_stopped_working_is_asked_about_three_times_more(n: int) -> None:
    world = World(Limits("6000/min", concurrency=n))
    (first,) = world.submit()
    world.ok(first)
    jobs = world.submit(n=50)
    began, sent = world.now, 0
    while not world.state.refusals.credentials.latched:
        for job in world.in_flight:
            sent += 1
            world.refuse(job, Kind.AUTH)
        world.run(0.05)
    assert 3.4 <= world.now - began <= 4.5  # 0.5 + 1 + 2 seconds
    world.poll()
    assert {job.status for job in jobs} <= {FAILED, STARTED, 3}
    assert {type(job.error) for job in jobs if job.status == FAILED} == {Latched}
    assert len(world.events(Closed)) == 1


def test_a_refusal_that_is_about_one_job_ends_that_job_alone() -> None:
    world = World(Limits("6000/min", concurrency=4))
    (odd,) = world.submit()
    tries = 0
    verdict: object = None
    while not isinstance(verdict, GiveUp):
        for job in world.in_flight:
            if job is odd and world.state.counters.succeeded:
                tries += 1
                verdict = world.refuse(job, Kind.AUTH)
            elif job is not odd:
                world.ok(job)
        world.submit()
        world.run(0.1)
    assert tries == 4
    assert verdict.reason == "refused (auth) 4 times, though the same key works elsewhere"
    assert not world.state.refusals.credentials.latched
    assert [event.kind for event in world.events(GaveUp)] == [Kind.AUTH]


def test_an_empty_account_is_believed_at_once() -> None:
    world = World(Limits(concurrency=1))
    first, second, third = world.submit(n=3)
    world.ok(first)
    world.poll()
    assert isinstance(world.refuse(second, Kind.QUOTA), GiveUp)
    assert (third.status, type(third.error)) == (FAILED, Latched)


@pytest.mark.parametrize("kind", [Kind.AUTH, Kind.QUOTA])
def test_a_latch_can_be_switched_off(kind: Kind) -> None:
    world = World(Limits(concurrency=1), retry=Retry(latch=False))
    jobs = world.submit(n=3)
    for job in jobs:
        world.run(0.0)
        assert isinstance(world.refuse(job, kind), GiveUp)
    assert world.events(Closed) == []


def test_one_tenants_key_stops_no_other_tenant() -> None:
    world = World(Limits("6000/min", concurrency=4))
    for tenant in range(200):
        world.submit(tenant, n=2)
    while world.in_flight or world.state.waiting.size:
        for job in world.in_flight:
            if job.flow.key == 7:
                world.refuse(job, Kind.AUTH)
            else:
                world.ok(job)
        world.run(0.05)
    assert world.state.counters.succeeded == 398
    assert world.state.statistics(world.now).binds != "closed"


# Of requests by themselves, whose credential a transport sees


def requests(world: World, name: str, n: int) -> list[Job]:
    jobs = []
    for _ in range(n):
        job = Job(world.state.flow(None))
        job.credential = world.state.refusals.credentials.seen(name)
        world.state.submit(job, world.now)
        jobs.append(job)
    world.jobs += jobs
    return jobs


def test_a_latch_of_a_credential_holds_for_its_requests_alone() -> None:
    world = World(Limits(concurrency=2))
    wrong, right = requests(world, "a", 2), requests(world, "b", 2)
    world.refuse(wrong[0], Kind.AUTH)
    assert [job.status for job in right] == [QUEUED, QUEUED]
    world.refuse(wrong[1], Kind.AUTH)
    world.poll()
    assert [job.status for job in right] == [STARTED, STARTED]
    with pytest.raises(Latched, match="to every other call with the same key"):
        requests(world, "a", 1)
    (plain,) = world.submit()
    assert plain.status == QUEUED


def test_a_latched_key_and_a_credential_do_not_mix() -> None:
    world = World(Limits(concurrency=1))
    (plain,) = world.submit()
    (request,) = requests(world, "a", 1)
    world.refuse(plain, Kind.AUTH)
    assert request.status == QUEUED


def test_the_oldest_credential_is_forgotten() -> None:
    credentials = Credentials()
    first = credentials.seen("first")
    credentials.latch(first, Latched("x", Kind.AUTH))
    for number in range(10_000):
        credentials.seen(str(number))
    assert first.latch is None
    assert not credentials.latched
    assert credentials.seen("first") is not first


def test_no_more_latches_than_that_are_kept() -> None:
    world = World()
    for key in range(10_001):
        job = Job(world.state.flow(key))
        world.state.submit(job, world.now)
        world.poll()
        world.state.learn(job, Refusal(Kind.AUTH, None, 401, "no"), world.now, 0.0)
        world.now += 0.02
        world.state.events.clear()
    assert len(world.state.refusals.credentials.latched) == 10_000


def test_a_change_of_clock_moves_the_pause_of_a_doubt() -> None:
    world = World(Limits(concurrency=1))
    first, second = world.submit(n=2)
    world.ok(first)
    world.poll()
    world.refuse(second, Kind.AUTH)
    credential = second.flow.credential
    assert credential is not None
    assert credential.next_at == world.now + 0.5
    world.state.shift(100.0)
    assert credential.next_at == world.now + 100.5
