"""The whole machine: asked at the moment that it named, it makes progress."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from headway import Limits, Rate
from headway._core.queue.fair import JobQueue
from headway._core.queue.job import QUEUED, STARTED, Job
from headway._core.queue.waiting import Waiting
from headway._core.refusals.retry import Retry
from headway._core.state import SchedulerState
from headway.events import Kind
from headway.hints import Refusal

NEVER = math.inf


ops = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.sampled_from("abc"),
            st.sampled_from([0, 0, 5]),
            st.sampled_from([0.0, 10.0, 90.0, 400.0]),
        ),
        st.tuples(
            st.sampled_from(["finish", "refuse", "fail", "cancel", "unsend"]),
            st.integers(0, 10**6),
            st.sampled_from([0.0, 1.0, 20.0]),
        ),
        st.tuples(st.just("wait"), st.floats(0, 3)),
        st.tuples(st.just("poll"), st.integers(1, 5)),
        st.tuples(st.just("retune"), st.integers(0, 2)),
        st.tuples(st.sampled_from(["pause", "resume", "reset"])),
    ),
    max_size=60,
)


SETTINGS = [
    Limits("10/s", tokens=Rate(6000, per=60, window=1), concurrency=4),
    Limits(["20/s", "300/min"], tokens="5k/min"),
    Limits(concurrency=2),
]


OWN = {
    "a": Limits("2/s", concurrency=1),
    "b": Limits(tokens=["500/s", Rate(6000, per=60, window=2)]),
}


def drive(limits: Limits, ops: list[tuple[object, ...]]) -> None:
    """Do all of `ops`, then let it end. Raises `AssertionError` where it gets stuck."""
    now = 1000.0
    state = SchedulerState(limits, now=now, retry=Retry(), keys=OWN.get, weights={"a": 4})
    queued: list[Job] = []
    started: list[Job] = []

    def poll() -> float:
        changed, wake_at = state.poll(now)
        started.extend(job for job in changed if job.status == STARTED)
        assert wake_at > now, "asked again at once, it would say the same"
        return wake_at

    for op, *rest in ops:
        queued = [job for job in queued if job.status == QUEUED]
        if op == "submit":
            key, priority, cost = rest
            job = Job(state.flow(key), priority, cost)
            (started if state.submit(job, now) else queued).append(job)
        elif op == "wait":
            now += rest[0]
        elif op == "poll":
            for _ in range(rest[0]):
                now = min(poll(), now + 100.0)
        elif op == "retune":
            state.retune(SETTINGS[rest[0]], OWN.get, {}, now)
        elif op in ("pause", "resume"):
            getattr(state, op)()
        elif op == "reset":
            state.reset(now)
        elif op == "cancel" and queued:
            state.cancel(queued.pop(rest[0] % len(queued)), now)
        elif started and rest:
            job = started.pop(rest[0] % len(started))
            if op == "finish":
                state.finish(job, rest[1], now)
            elif op in ("refuse", "fail"):
                kind = Kind.RATE if op == "refuse" else Kind.TRANSIENT
                wait = rest[1] or None
                state.defer(job, Refusal(kind, wait, 429), now, 0.5)
                queued.append(job)
            else:
                state.unsend(job, now)
        poll()

    # Now let it all end: each poll at the named moment, and a finish where it waits for that.
    state.resume()
    for job in started:
        state.finish(job, 1.0, now)
    started.clear()
    polls = 0
    wake_at = poll()
    while state.waiting.size:
        assert wake_at < NEVER or started, "it waits for nothing"
        polls += 1
        assert polls < 2000, "polls that start nothing"
        if started:
            state.finish(started.pop(), 1.0, now)
        else:
            now = wake_at
        wake_at = poll()
    for job in started:
        state.finish(job, 1.0, now)
    assert state.in_flight == state.whole.in_flight == 0
    assert all(f.limits is None or f.limits.in_flight == 0 for f in state.flows.values())


@settings(deadline=None)
@given(st.sampled_from(SETTINGS), ops)
def test_a_poll_at_the_named_moment_makes_progress(
    limits: Limits, ops: list[tuple[object, ...]]
) -> None:
    drive(limits, ops)


def stuck(ops: list[tuple[object, ...]]) -> bool:
    try:
        drive(SETTINGS[0], ops)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize(
    ("where", "name", "mutant"),
    [
        pytest.param(Waiting, "blocked_until", lambda self: NEVER, id="no wake-up for a key"),
        pytest.param(Waiting, "unblock", lambda self, flow: None, id="a key stays out"),
        pytest.param(Waiting, "blocked_until", lambda self: 0.0, id="asked again at once"),
        pytest.param(Waiting, "remove", lambda self, job: None, id="a cancelled job waits"),
        pytest.param(JobQueue, "push_back", lambda self, job: None, id="who came back is lost"),
    ],
)
def test_mutants_that_make_no_progress(
    where: type, name: str, mutant: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, mutant)
    quietly = settings(max_examples=2000, database=None, phases=[Phase.generate])
    find(ops, stuck, settings=quietly, random=Random(1))  # raises where there is none
