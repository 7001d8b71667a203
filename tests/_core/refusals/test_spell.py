"""Patience of the queue, hints that were wrong, hints beyond patience: made-up times."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from world import World

from headway import Kind, Limits, Retry, Unavailable
from headway._core.queue.job import FAILED, QUEUED, STARTED, Job
from headway._core.refusals.retry import Delay, GiveUp
from headway.events import Closed
from headway.hints import Refusal

INFINITY = float("inf")
DAY = 86_400.0


def refused_for_ever(world: World, seconds: float, refuse: Callable[[Job], object]) -> int:
    """Refuse whatever starts, as it starts, for that long: how many were sent."""
    sent, end = 0, world.now + seconds
    while world.now < end:
        world.poll()
        for job in world.in_flight:
            sent += 1
            refuse(job)
        wake_at = world.state.poll(world.now)[1]
        if world.in_flight:
            continue
        if wake_at == INFINITY:
            break
        world.now = max(wake_at, world.now)
    return sent


# The patience of the queue


@pytest.mark.parametrize("kind", [Kind.RATE, Kind.TOKENS, Kind.CONCURRENCY, Kind.CAPACITY])
@pytest.mark.parametrize("key", [None, "a"])
def test_all_that_wait_are_told_within_about_one_patience(kind: Kind, key: str | None) -> None:
    world = World(Limits(concurrency=8), keys={"a": Limits(concurrency=4)})
    began = world.now
    jobs = world.submit(key, n=200)
    sent = refused_for_ever(world, 7200, lambda job: world.refuse(job, kind))
    assert {job.status for job in jobs} <= {FAILED, 3}
    assert world.now - began <= 130
    assert sent <= 60
    waiting = [job for job in jobs if job.status == FAILED]
    assert len(waiting) > 150
    assert {type(job.error) for job in waiting} == {Unavailable}
    text = str(waiting[-1].error)
    assert text.startswith("nothing was let through for 2 min")
    assert text.endswith(
        ", and patience=120 seconds is over. Fix: submit again when the provider is back."
    )


def test_leases_and_attempts_of_one_are_told_within_one_patience_too() -> None:
    for kind in (Kind.RATE, Kind.CAPACITY, Kind.TRANSIENT):
        world = World(Limits(concurrency=4), retry=Retry(attempts=1))
        began = world.now
        jobs = world.submit(n=1000)

        def refuse(job: Job, world: World = world, kind: Kind = kind) -> None:
            world.state.learn(job, Refusal(kind, None, 500, "no"), world.now, 0.5)

        refused_for_ever(world, 86_400, refuse)
        assert world.now - began <= 140
        assert {job.status for job in jobs} <= {FAILED, 3}


def test_one_that_is_let_through_begins_patience_anew() -> None:
    world = World(Limits(concurrency=1))
    jobs = world.submit(n=50)
    for _ in range(2):
        refused_for_ever(world, 100, lambda job: world.refuse(job, Kind.RATE))
        while not world.in_flight:
            world.run(1.0)
        world.ok(world.in_flight[0])
        world.poll()
    assert not [job for job in jobs if job.status == FAILED]
    assert world.state.waiting.size > 40


def test_who_comes_later_waits_for_the_next_probe_and_is_told() -> None:
    world = World(Limits(concurrency=1))
    world.submit(n=20)
    refused_for_ever(world, 7200, lambda job: world.refuse(job, Kind.RATE))
    later = world.submit(n=3)
    world.run(9.0)
    (probe,) = world.in_flight
    assert isinstance(world.refuse(probe, Kind.RATE), GiveUp)
    assert sorted(job.status for job in later) == [3, FAILED, FAILED]
    world.submit(n=3)
    world.run(9.0)
    (probe,) = world.in_flight
    world.ok(probe)
    assert len(world.run(1.0)) == 1


def test_a_refusal_after_a_long_rest_is_no_part_of_the_last() -> None:
    world = World(Limits(concurrency=1))
    (job,) = world.submit()
    world.refuse(job, Kind.RATE)
    world.state.cancel(job, world.now)
    world.now += 3600
    (job,) = world.submit()
    assert isinstance(world.refuse(job, Kind.RATE), Delay)


# Hints that were wrong


@pytest.mark.parametrize("hint", [0.0, 0.001, 0.05, 0.5])
@pytest.mark.parametrize("kind", [Kind.RATE, Kind.TOKENS, Kind.CAPACITY, Kind.CONCURRENCY])
@pytest.mark.parametrize("n", [1, 20])
def test_a_wait_that_is_refused_again_backs_off(n: int, kind: Kind, hint: float) -> None:
    world = World(Limits("6000/min"), retry=Retry(base=1.0))
    world.submit(n=n)
    sent = refused_for_ever(world, 60, lambda job: world.refuse(job, kind, hint, random=0.5))
    assert 8 <= sent <= 12 + n


def test_a_wait_that_was_right_once_is_believed_again() -> None:
    world = World(Limits(concurrency=1))
    (job,) = world.submit()
    for _ in range(3):
        world.refuse(job, Kind.CAPACITY, 0.0)
        world.run(20.0)
    world.ok(job)
    (job,) = world.submit()
    world.run(2.0)
    world.refuse(job, Kind.CAPACITY, 0.25)
    assert world.run(0.2) == []
    assert world.run(0.1) == [(pytest.approx(0.05), job)]


def test_a_burst_is_no_sign_that_a_hint_was_wrong() -> None:
    world = World(Limits(concurrency=20))
    for job in world.submit(n=20):
        world.now += 0.01
        world.refuse(job, Kind.RATE, 0.1)
    assert world.run(0.11)[0][0] == pytest.approx(0.1)


def test_a_longer_hint_than_the_backoff_is_kept_however_often_it_is_wrong() -> None:
    world = World(Limits(concurrency=1))
    (job,) = world.submit()
    for _ in range(3):
        world.refuse(job, Kind.RATE, 30.0)
        assert world.run(31.0) == [(pytest.approx(30.0), job)]


# Hints beyond patience


LONG = (
    "the provider asks to wait {} more, which is beyond patience=120 seconds. "
    "Fix: submit again then, or raise Retry(patience=...)."
)


@pytest.mark.parametrize("kind", [Kind.RATE, Kind.CAPACITY])
def test_a_hint_beyond_patience_is_told_to_one_job_alone(kind: Kind) -> None:
    world = World(Limits(concurrency=4))
    first, *others = world.submit(n=900)
    assert world.refuse(first, kind, 28_800.0) == Delay(120.0)  # once more, when others know better
    assert {job.status for job in others} <= {QUEUED, STARTED}
    for _ in range(300):
        for job in world.in_flight:
            world.ok(job)
        world.run(1.0)
    assert world.state.counters.succeeded == 900
    assert world.events(Closed) == []


def test_whoever_is_told_so_again_gives_up() -> None:
    world = World(Limits(concurrency=4))
    first, *_ = world.submit(n=2)
    world.refuse(first, Kind.RATE, 28_800.0)
    for _ in range(200):
        for job in world.in_flight:
            if job is first:
                verdict = world.refuse(first, Kind.RATE, 28_800.0)
                assert isinstance(verdict, GiveUp)
                assert verdict.reason.endswith("8 h more, which is beyond patience=120 seconds")
                assert world.now - 1000.0 == pytest.approx(120.0, abs=1.5)
                return
            world.ok(job)
        world.submit()
        world.run(1.0)
    raise AssertionError("it was not tried again")


def test_where_nobody_else_waits_a_hint_beyond_patience_is_the_end_at_once() -> None:
    world = World(Limits(concurrency=4))
    (job,) = world.submit()
    verdict = world.refuse(job, Kind.RATE, 28_800.0)
    assert isinstance(verdict, GiveUp)
    assert verdict.reason == (
        "refused (rate), and the server asks to wait 8 h more, which is beyond patience=120 seconds"
    )


def test_two_that_say_the_same_end_all_that_wait() -> None:
    world = World(Limits(concurrency=1))
    jobs = world.submit(n=8)
    world.refuse(jobs[0], Kind.RATE, 28_800.0)
    ((_, probe),) = world.run(8.0)
    verdict = world.refuse(probe, Kind.RATE, 28_800.0)
    assert (type(verdict), verdict.away) == (GiveUp, INFINITY)  # type: ignore[union-attr]
    waiting = [job for job in jobs if job is not probe]
    assert {(job.status, str(job.error)) for job in waiting} == {(FAILED, LONG.format("8 h"))}
    with pytest.raises(Unavailable) as caught:
        world.submit()
    assert str(caught.value) == LONG.format("8 h")
    assert len(world.events(Closed)) == 1


def test_after_that_one_probe_a_patience_goes_on_asking() -> None:
    world = World(Limits(concurrency=4))
    began = world.now
    sent = failed = 0
    while world.now - began < 3600:
        try:
            (job,) = world.submit()
        except Unavailable:
            failed += 1
        else:
            if job.status != STARTED:
                world.run(2.0)
            if job.status == STARTED:
                sent += 1
                world.refuse(job, Kind.RATE, 28_800.0)
        world.now += 1.0
    assert 29 <= sent <= 33
    assert failed > 3000
    world.now += 120
    (job,) = world.submit()
    world.run(1.0)
    world.ok(job)  # the server has changed its mind
    later = world.submit(n=4)
    world.run(5.0)
    assert all(job.status == STARTED for job in later)


def test_what_is_left_of_a_long_wait_and_within_patience_is_waited_for() -> None:
    world = World(Limits(concurrency=1))
    for _ in range(2):
        (job,) = world.submit()
        world.run(8.0)
        world.refuse(job, Kind.RATE, 200.0)
    with pytest.raises(Unavailable):
        world.submit()
    world.now += 90  # 110 s are left; the gate opens for a probe after 120
    (job,) = world.submit()
    assert world.run(40.0) == [(pytest.approx(30.0), job)]


@pytest.mark.parametrize("per", [DAY, 7 * DAY, 30 * DAY])
@pytest.mark.parametrize("hint", [None, 7200.0])
def test_a_quota_of_a_day_ends_all_that_wait_at_once(per: float, hint: float | None) -> None:
    world = World(Limits(concurrency=1))
    jobs = world.submit(n=8)
    verdict = world.refuse(jobs[0], Kind.RATE, hint, per=per)
    assert isinstance(verdict, GiveUp)
    text = (
        "a quota of a day or more is used up, and the provider does not say until when. "
        "Fix: submit again when it is full again, or raise it."
    )
    text = text if hint is None else LONG.format("2 h")
    assert {(job.status, str(job.error)) for job in jobs[1:]} == {(FAILED, text)}
    with pytest.raises(Unavailable):
        world.submit()
    world.now += 121
    (job,) = world.submit()
    assert job.status == STARTED


def test_a_quota_that_is_full_again_soon_is_waited_for() -> None:
    world = World(Limits(concurrency=1))
    job, other = world.submit(n=2)
    assert isinstance(world.refuse(job, Kind.RATE, 20.0, per=DAY), Delay)
    assert other.status == QUEUED


def test_a_long_hint_is_told_once_for_a_burst_and_holds_for_all_of_it() -> None:
    world = World(Limits(concurrency=8))
    jobs = world.submit(n=8)
    for index, job in enumerate(jobs[:6]):
        world.refuse(job, Kind.RATE, 600.0, random=index / 10)
    for job, kind in zip(jobs[6:], (Kind.RATE, Kind.TRANSIENT), strict=True):
        verdict = world.refuse(job, kind)  # no hint of their own, and nothing to hope for
        assert isinstance(verdict, GiveUp)
        assert "the provider asks to wait 10 min" in verdict.reason
    assert len(world.events(Closed)) == 1
    assert world.state.waiting.size == 0


def test_long_hints_of_a_key_fail_that_key_alone() -> None:
    world = World(Limits(concurrency=4), keys={"a": Limits(concurrency=2)})
    first, second, *waiting = world.submit("a", n=5)
    others = world.submit("b", n=6)
    for job in (first, second):
        world.refuse(job, Kind.RATE, 600.0)
    world.poll()
    assert {job.status for job in waiting} == {FAILED}
    assert {job.status for job in others} <= {QUEUED, STARTED}
    with pytest.raises(Unavailable):
        world.submit("a")


def test_a_change_of_clock_moves_a_spell() -> None:
    world = World(Limits(concurrency=1))
    for _ in range(2):
        (job,) = world.submit()
        world.run(8.0)
        world.refuse(job, Kind.RATE, 600.0)
    world.state.shift(-500.0)
    world.now -= 500.0
    with pytest.raises(Unavailable, match="10 min"):
        world.submit()
