"""Jobs that cannot hope, and those that can: latches and deadlines, on the bare state machine."""

from __future__ import annotations

import pytest
from world import STATUS, World

from headway import DeadlineExceeded, Kind, Latched, Limits
from headway._core.queue.job import FAILED, QUEUED, STARTED
from headway._core.refusals.retry import Delay, GiveUp
from headway.events import Closed

# The latch


@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        (Kind.AUTH, "set the right key (TOGETHER_API_KEY for Together AI)"),
        (Kind.QUOTA, "raise the account's spending limit or add credit"),
    ],
)
@pytest.mark.parametrize("key", [None, "a"])
def test_a_latch_fails_all_of_that_key_until_reset(key: str | None, kind: Kind, fix: str) -> None:
    world = World(Limits(concurrency=2), keys={"a": Limits(concurrency=1)})
    other = "b" if key is None else None
    jobs, others = world.submit(key, n=4), world.submit(other, n=3)
    world.run(1.0)
    world.refuse(jobs[0], kind)
    changed, _ = world.state.poll(world.now)
    assert {job for job in changed if job.status == FAILED} == {*jobs[1:]} - {*world.in_flight}
    assert {job.status for job in others} <= {QUEUED, STARTED}
    whose = "" if key is None else " of key 'a'"
    text = (
        f"{kind}: the provider answered {STATUS[kind]} (no), and would answer the same to every "
        f"other call{whose}. Fix: {fix}, then call scheduler.reset()."
    )
    failed = [job for job in jobs if job.status == FAILED]
    assert {(type(job.error), str(job.error)) for job in failed} == {(Latched, text)}
    assert len({id(job.error) for job in failed}) == len(failed)  # tracebacks do not mix
    with pytest.raises(Latched) as caught:
        world.submit(key)
    assert str(caught.value) == text
    assert world.state.statistics(world.now).binds == "closed"
    assert [event.kind for event in world.events(Closed)] == [kind]
    (newer,) = world.submit(other)
    for job in (*others, newer):
        world.run(1.0)
        world.ok(job)  # goes on as if nothing had been
    assert world.state.statistics(world.now).binds != "closed"
    world.state.reset(world.now)
    (job,) = world.submit(key)
    world.run(1.0)
    assert job.status == STARTED


def test_a_job_in_its_backoff_fails_with_the_latch_too() -> None:
    world = World()
    first, second = world.started(2)
    world.refuse(first, Kind.TRANSIENT, random=0.9)
    world.refuse(second, Kind.AUTH)
    assert (first.status, type(first.error)) == (FAILED, Latched)


def test_a_latch_is_told_once_however_many_are_refused() -> None:
    world = World()
    for job in world.started(8):
        world.refuse(job, Kind.AUTH)
    assert len(world.events(Closed)) == 1


@pytest.mark.parametrize("kind", [Kind.RATE, Kind.CAPACITY, Kind.TRANSIENT])
def test_what_was_in_flight_at_a_latch_is_not_sent_again(kind: Kind) -> None:
    world = World()
    first, second = world.started(2)
    world.refuse(first, Kind.AUTH)
    verdict = world.refuse(second, kind)
    assert isinstance(verdict, GiveUp)
    assert verdict.reason.startswith("auth: the provider answered 401")
    assert world.state.waiting.size == 0


# Deadlines


@pytest.mark.parametrize(
    ("timeout", "fails"),
    [(1.0, True), (4.9, True), (5.1, False), (100.0, False), (None, False)],
)
@pytest.mark.parametrize("when", ["queued", "submitted later", "refused itself"])
def test_a_job_fails_early_only_when_it_is_certain(
    timeout: float | None, fails: bool, when: str
) -> None:
    world = World(Limits(concurrency=1))
    deadline = None if timeout is None else world.now + timeout
    text = "Fix: a longer timeout=, or submit again later."
    if when == "queued":
        first, waiting = *world.submit(), *world.submit(deadline=deadline)
        world.refuse(first, Kind.RATE, 5.0)
        assert waiting.status == (FAILED if fails else QUEUED)
        if fails:
            assert isinstance(waiting.error, DeadlineExceeded)
            assert str(waiting.error) == (
                f"nothing can be sent for 5 s, and this job's timeout is over in {timeout:.3g} s. "
                + text
            )
    elif when == "submitted later":
        (first,) = world.submit()
        world.refuse(first, Kind.RATE, 5.0)
        if fails:
            with pytest.raises(DeadlineExceeded):
                world.submit(deadline=deadline)
        else:
            world.submit(deadline=deadline)
    else:
        (first,) = world.submit(deadline=deadline)
        verdict = world.refuse(first, Kind.RATE, 5.0)
        assert isinstance(verdict, GiveUp if fails else Delay)
        if isinstance(verdict, GiveUp):
            assert "this job's timeout is over in" in verdict.reason


def test_a_backoff_beyond_the_deadline_gives_up() -> None:
    world = World()
    (job,) = world.submit(deadline=world.now + 0.3)
    assert isinstance(world.refuse(job, Kind.TRANSIENT, random=0.9), GiveUp)


@pytest.mark.parametrize(
    ("limits", "key", "held"),
    [
        (Limits("1/min"), None, "the limit of requests lets this job start in 1 min"),
        (Limits("120/min"), None, None),
        (Limits(tokens="100/min"), None, "the limit of tokens lets this job start in 1 min"),
        (Limits(concurrency=1), None, None),  # the one in flight may end any moment
        (Limits(), "a", "the limit of requests of key 'a' lets this job start in 1 min"),
    ],
)
def test_the_next_job_fails_at_once_where_its_limits_cannot_let_it_in(
    limits: Limits, key: str | None, held: str | None
) -> None:
    world = World(limits, keys={"a": Limits("1/min")})
    world.submit(key, cost=100)
    (job,) = world.submit(key, cost=100, deadline=world.now + 1.0)
    changed, _ = world.state.poll(world.now)
    if held is None:
        assert job.status in (QUEUED, STARTED)
        return
    assert changed == [job]
    assert (job.status, type(job.error)) == (FAILED, DeadlineExceeded)
    assert str(job.error).startswith(held)
    assert str(job.error).endswith(
        "and this job's timeout is over in 1 s. Fix: a longer timeout=, or submit again later."
    )
    assert world.state.statistics(world.now).timed_out == 1
    assert world.state.poll(world.now)[0] == []


def test_whoever_waits_behind_another_is_told_nothing_early() -> None:
    world = World(Limits("60/min"))
    world.submit(n=9)
    (job,) = world.submit(deadline=world.now + 3.0)
    world.poll()
    assert job.status == QUEUED  # those before it may be cancelled


def test_the_gate_of_a_key_ends_no_deadline_of_another() -> None:
    world = World(Limits(concurrency=2), keys={"a": Limits(concurrency=1)})
    first, own = world.submit("a", n=1) + world.submit("a", deadline=world.now + 2.0)
    world.submit("b", n=2)
    (other,) = world.submit("b", deadline=world.now + 2.0)
    world.refuse(first, Kind.RATE, 5.0)
    assert (own.status, other.status) == (FAILED, QUEUED)
    _, (_, last) = world.run(0.0)
    world.refuse(last, Kind.RATE, 5.0)  # of the whole: the other is still on the watch
    assert other.status == FAILED
