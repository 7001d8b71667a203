"""Jobs that cannot hope, and those that can: latches and deadlines, on the bare state machine."""

from __future__ import annotations

import re

import pytest
from world import STATUS, World

from headway import DeadlineExceeded, Kind, Latched, Limits, Retry, Unavailable
from headway._core.limits.eager import Eager
from headway._core.queue.job import FAILED, QUEUED, STARTED, Job
from headway._core.refusals.hopeless import too_late
from headway._core.refusals.retry import Delay, GiveUp
from headway.events import Closed
from headway.hints import Refusal

INFINITY = float("inf")

# The latch


@pytest.mark.parametrize(
    ("kind", "fix"),
    [
        (
            Kind.AUTH,
            "set the right key in the variable of its provider (TOGETHER_API_KEY, "
            "OPENAI_API_KEY, …)",
        ),
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
        (
            Limits("1/min", concurrency=1),
            None,
            "the limit of requests lets this job start in 1 min",
        ),
        (Limits(tokens="100/min"), None, "the limit of tokens lets this job start in 1 min"),
        (Limits(concurrency=1), None, None),  # the one in flight may end any moment
        (Limits(), "a", "the limit of requests of key 'a' lets this job start in 1 min"),
        (Limits("2/day"), None, "the quota of 2/day requests lets this job start in 1 d"),
        (Limits(), "b", "the quota of 150/day tokens of key 'b' lets this job start in 1 d"),
    ],
)
@pytest.mark.parametrize("behind", [0, 3])
def test_a_job_fails_at_once_where_its_limits_cannot_let_it_in(
    limits: Limits, key: str | None, held: str | None, behind: int
) -> None:
    keys = {"a": Limits("1/min"), "b": Limits(tokens="150/day")}
    world = World(limits, keys=keys, retry=Retry(patience=1e6))
    for _ in range(2 if limits.quotas else 1):
        (job,) = world.submit(key, cost=100)
        world.state.finish(job, 100.0, world.now)  # nothing is refunded any more
    world.submit(key, cost=100, n=behind)
    if held is None:
        world.submit(key, cost=100, deadline=world.now + 1.0)
        return
    with pytest.raises(DeadlineExceeded) as caught:
        world.submit(key, cost=100, deadline=world.now + 1.0)
    assert str(caught.value).startswith(held)
    assert str(caught.value).endswith(
        " at the earliest, and this job's timeout is over in 1 s. "
        "Fix: a longer timeout=, or submit again later."
    )
    stats = world.state.statistics(world.now)
    assert (stats.timed_out, stats.queued) == (1, behind)


def test_the_next_job_fails_where_its_limits_no_longer_let_it_in() -> None:
    world = World(Limits("60/min"))
    world.submit(n=2)
    (job,) = world.submit(deadline=world.now + 3.0)
    world.state.retune(Limits("1/min"), lambda key: None, {}, world.now)
    for other in world.jobs[:2]:
        world.state.cancel(other, world.now)
    assert job in world.state.poll(world.now)[0]
    assert (job.status, type(job.error)) == (FAILED, DeadlineExceeded)
    assert world.state.statistics(world.now).timed_out == 1
    assert world.state.poll(world.now)[0] == []


def test_no_job_fails_for_tokens_that_may_be_refunded() -> None:
    world = World(Limits(tokens="100/min"))
    (first,) = world.submit(cost=100)
    (job,) = world.submit(cost=50, deadline=world.now + 1.0)
    world.poll()
    world.state.finish(first, 1.0, world.now)
    world.now += 0.5
    assert world.poll() == [job]
    (guessed,) = world.submit(cost=0)
    assert guessed.status == STARTED


def test_no_job_fails_for_a_guess() -> None:
    world = World(Limits(tokens="100/min"))
    world.ok(*world.submit(cost=100))
    job = Job(world.state.flow(None), 0, 100.0, world.now + 1.0, guessed=True)
    world.submit(cost=1)
    assert not world.state.submit(job, world.now)


def test_no_job_fails_for_a_pace_that_an_answer_may_let_it_off() -> None:
    world = World(Limits("6/min"))
    world.state.whole.eager = Eager()
    world.submit()
    (job,) = world.submit(deadline=world.now + 1.0)
    assert job.status == QUEUED


# Whoever has a fallback does not wait


IMPATIENT = Retry(wait_out=False)


def away(world: World, kind: Kind) -> None:
    """The provider is away, as far as can be seen."""
    if kind is Kind.TRANSIENT:
        for job in world.started(5):
            world.refuse(job, kind)
        return
    for _ in range(3):
        (job,) = (
            world.submit() if not world.state.waiting.size else (world.state.waiting.jobs()[0],)
        )
        world.run(10.0)
        assert job.status == STARTED
        world.refuse(job, kind)


@pytest.mark.parametrize("kind", [Kind.TRANSIENT, Kind.CAPACITY])
def test_who_has_a_fallback_waits_for_no_end_of_an_outage(kind: Kind) -> None:
    world = World(retry=IMPATIENT)
    away(world, kind)
    assert world.state.waiting.size == 0
    with pytest.raises(Unavailable) as caught:
        world.submit()
    assert re.fullmatch(
        r"(an outage: no attempt was answered for .* \(no\)|nothing was let through for .*), and "
        r"Retry\(wait_out=False\) waits for no end of it\. Fix: ask the fallback; a job now and "
        r"then is let through, and ends this when answered\.",
        str(caught.value),
    )
    world.now = world.state.whole.gate.opens
    (probe,) = world.submit()
    assert probe.status == STARTED
    with pytest.raises(Unavailable):
        world.submit()
    verdict = world.refuse(probe, kind, random=0.5)
    assert isinstance(verdict, GiveUp)
    assert verdict.away == INFINITY
    assert "waits for no end of it" in verdict.reason
    world.now = world.state.whole.gate.opens
    (probe,) = world.submit()
    world.ok(probe)
    (job,) = world.submit()
    world.run(1.0)
    assert job.status == STARTED


@pytest.mark.parametrize("kind", [Kind.TRANSIENT, Kind.CAPACITY])
def test_those_who_wait_are_told_when_an_outage_begins(kind: Kind) -> None:
    world = World(Limits(concurrency=5), retry=IMPATIENT)
    if kind is Kind.TRANSIENT:
        jobs, waiting = world.submit(n=5), world.submit(n=2)
        for job in jobs:
            world.refuse(job, kind)
    else:
        waiting = world.submit(n=9)
        for _ in range(3):
            for job in world.in_flight:
                world.refuse(job, kind)
            world.now = max(world.now, world.state.whole.gate.opens)
            world.poll()
    assert {type(job.error) for job in waiting if job.status == FAILED} == {Unavailable}
    assert world.state.waiting.size == 0


@pytest.mark.parametrize("kind", [Kind.RATE, Kind.CONCURRENCY])
def test_who_has_a_fallback_waits_for_limits(kind: Kind) -> None:
    world = World(retry=IMPATIENT)
    for _ in range(6):
        jobs = world.submit() if not world.state.waiting.size else world.state.waiting.jobs()
        world.run(20.0)
        assert jobs[0].status == STARTED
        assert isinstance(world.refuse(jobs[0], kind), Delay)


def test_an_error_of_the_callers_own_is_no_outage() -> None:
    world = World(retry=IMPATIENT)
    away(world, Kind.TRANSIENT)
    world.now = world.state.whole.gate.opens
    (probe,) = world.submit()
    verdict = world.state.defer(probe, Refusal(Kind.PERMANENT, message="mine"), world.now, 0.0)
    assert verdict == GiveUp("permanent errors are not retried")


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


def test_a_timeout_that_is_over_is_not_over_in_0_s() -> None:
    assert too_late(5.0, 3.0, 3.0).what == (
        "nothing can be sent for 5 s, and this job's timeout is over"
    )
    assert too_late(5.0, 4.0, 3.0).what.endswith("this job's timeout is over in 1 s")
