"""Whatever happens in whatever order, no wake-up is lost: histories, and mutants they catch."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest
from depth import depth
from hypothesis import given, settings
from hypothesis import strategies as st
from inject import BACKENDS, Status, Steps, run, settle_down
from mutants import Mutant, nothing, without

from headway import HeadwayError, Limits, Scheduler
from headway._core.queue.job import Job
from headway._core.queue.waiting import Waiting
from headway._core.state import SchedulerState
from headway._runtime.attempt import Attempt
from headway._runtime.shell import Shell

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]


KEYS = (None, "slow", "one", "tokens")


LIMITS: list[dict[str, Any]] = [
    {"requests": "1/hour"},
    {"requests": "10/s"},
    {"requests": ["20/s", "300/min"], "concurrency": 4},
    {"requests": None, "concurrency": 1},
    {"tokens": "1000/min"},
    {"tokens": None},
    {"keys": {"slow": Limits("2/s")}},
    {"keys": None},
]


FINAL = Limits("600/min", concurrency=2)


jobs = st.tuples(
    st.just("submit"),
    st.sampled_from(KEYS),
    st.integers(0, 2),  # priority
    st.sampled_from([0.0, 0.05, 0.3]),  # how long it runs
    st.sampled_from([0, 10, 400, 900]),  # tokens
    st.sampled_from([None, None, 0.2, 3.0]),  # timeout
    st.sampled_from([0, 0, 0, 429, 503, 500]),  # how its first attempt ends
)


others = st.tuples(
    st.sampled_from(["cancel", "cancel", "retune", "pause", "resume", "reset"]), st.integers(0, 99)
)


operations = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.1, 0.7]), st.one_of(jobs, jobs, others)),
    max_size=40,
)


async def anything(steps: Steps, ops: list[tuple[float, Any]]) -> None:
    keys = {"slow": Limits("5/s"), "one": Limits(concurrency=1), "tokens": Limits(tokens="1k/min")}
    scheduler = Scheduler("10/s", tokens="100k/min", concurrency=3, keys=keys)
    steps.scheduler = scheduler
    scopes: list[anyio.CancelScope] = []

    async def submit(
        key: Any, priority: int, seconds: float, tokens: int, timeout: float, status: int
    ) -> None:
        failures = [Status(status, 0.2)] if status else []

        async def call() -> None:
            await anyio.sleep(seconds)
            if failures:
                raise failures.pop()

        view = scheduler.with_options(key=key, priority=priority, tokens=tokens, timeout=timeout)
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            try:
                await view.submit(call)
            except (HeadwayError, Status):
                pass  # its timeout, or a limit that it can never fit into

    with anyio.move_on_after(2000) as patience:
        async with anyio.create_task_group() as group:
            for delay, (op, *args) in ops:
                if delay:
                    await anyio.sleep(delay)
                if op == "submit":
                    group.start_soon(submit, *args)
                elif op == "cancel" and scopes:
                    scopes[args[0] % len(scopes)].cancel()
                elif op == "retune":
                    scheduler.set_limits(**LIMITS[args[0] % len(LIMITS)])
                elif op in ("pause", "resume", "reset"):
                    getattr(scheduler, op)()
            await settle_down()
            scheduler.resume()
            scheduler.set_limits(FINAL.requests, tokens=None, concurrency=2, keys=None)
            promised = anyio.current_time() + len(scopes) * (0.101 + 0.3) + 12
        # No key and no token holds anything back: what is left is the pace, slots, hints, backoff.
        late = anyio.current_time() - promised
        assert late <= 0, f"the queue was empty {late:.3f} s later than promised"
    assert not patience.cancelled_caught, "jobs wait for ever"
    stats = scheduler.statistics()
    assert (stats.queued, stats.delayed, stats.in_flight) == (0, 0, 0)
    assert not scheduler._shell.parked


def wakes(backend: str, ops: list[tuple[float, Any]]) -> None:
    steps = Steps()
    run(backend, anything, steps, ops, steps=steps)


def job(
    key: str | None = None, seconds: float = 0.0, *, timeout: float | None = None, status: int = 0
) -> tuple[float, Any]:
    return 0.0, ("submit", key, 0, seconds, 0, timeout, status)


def then(op: str, n: int = 0, *, after: float = 0.01) -> tuple[float, Any]:
    return after, (op, n)


LATER = (0.7, job()[1])


# One history for each way to lose a wake-up, which the mutants below stand for.
HISTORIES: dict[str, list[tuple[float, Any]]] = {
    "who was admitted": [job("one", 0.3), job("one"), LATER],
    "an earlier moment": [job("slow"), job("slow"), job(), job()],
    "the leader's timer": [job(), job()],
    "the heir": [job(), job(), job()],
    "the heir's wake-up": [job(), job(seconds=0.3), job()],
    "changes from outside": [job(), job()],
    "an end": [job(seconds=0.3), job(), job()],
    "a cancellation": [job(seconds=0.3), job(seconds=0.3, timeout=0.2), job()],
    "a failure": [job(), job(status=429)],
    "resume": [then("pause"), job(), then("resume"), LATER],
    "reset": [job(status=503), job(), then("reset", after=0.15), LATER],
    "set_limits": [then("retune", 0), job(), job(), then("retune", 1), LATER],
    "the head": [job(), job()],
    "a key": [job("slow"), job("slow"), LATER],
    "a key after set_limits": [job("slow"), job("slow"), then("retune", 7), LATER],
    "a key after an end": [job("one", 0.3), job("one"), LATER],
    "a backoff": [job(status=500)],
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lost", HISTORIES)
def test_in_no_known_way_is_a_wake_up_lost(lost: str, backend: str) -> None:
    wakes(backend, HISTORIES[lost])


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=depth(30, 500), deadline=None)
@given(ops=operations)
def test_whatever_happens_jobs_start_when_they_may(
    backend: str, ops: list[tuple[float, Any]]
) -> None:
    wakes(backend, ops)


# The histories above must catch these

poll, leave = Shell.poll, Shell._leave


decide, advance = SchedulerState.poll, Waiting.advance


def tells_nobody(self: SchedulerState, now: float) -> tuple[list[Job], float]:
    _, wake_at = decide(self, now)
    return [], wake_at


def lets_the_leader_sleep(self: Shell) -> None:
    leader, self._leader = self._leader, None
    poll(self)
    self._leader = leader


async def leads_without_a_timer(self: Shell, job: Job) -> None:
    await job.waiter


def leaves_without_an_heir(self: Shell, job: Job) -> None:
    parked, self.parked = self.parked, {}
    leave(self, job)
    self.parked = parked
    parked.pop(job, None)


def leaves_without_a_word(self: Shell, job: Job) -> None:
    self.parked.pop(job, None)
    job.waiter = None
    if self._leader is job:
        self._armed = math.inf
        self._leader = next(reversed(self.parked), None)


def names_no_moment_for_the_head(self: SchedulerState, now: float) -> tuple[list[Job], float]:
    changed, _ = decide(self, now)
    return changed, min(self.waiting.advance(now), self.waiting.blocked_until())


def names_no_moment_for_a_key(self: Waiting) -> float:
    return math.inf


def names_no_moment_for_a_backoff(self: Waiting, now: float) -> float:
    advance(self, now)
    return math.inf


@pytest.mark.parametrize(
    ("history", "where", "name", "mutant"),
    [
        ("who was admitted", SchedulerState, "poll", tells_nobody),
        ("an earlier moment", Shell, "poll", lets_the_leader_sleep),
        ("the leader's timer", Shell, "_lead", leads_without_a_timer),
        ("the heir", Shell, "_leave", leaves_without_an_heir),
        ("the heir's wake-up", Shell, "_leave", leaves_without_a_word),
        ("changes from outside", Shell, "repoll", nothing),
        ("an end", Attempt, "finish", staticmethod(without(Attempt.finish, Shell, "poll"))),
        ("a cancellation", Attempt, "cancelled", without(Attempt.cancelled, Shell, "poll")),
        ("a failure", Attempt, "_fail", without(Attempt._fail, Shell, "poll")),
        ("resume", Scheduler, "resume", without(Scheduler.resume, Shell, "repoll")),
        ("reset", Scheduler, "reset", without(Scheduler.reset, Shell, "repoll")),
        ("set_limits", Scheduler, "set_limits", without(Scheduler.set_limits, Shell, "repoll")),
        ("the head", SchedulerState, "poll", names_no_moment_for_the_head),
        ("a key", Waiting, "blocked_until", names_no_moment_for_a_key),
        ("a key after set_limits", SchedulerState, "retune",
         without(SchedulerState.retune, SchedulerState, "_unblock_all")),
        ("a key after an end", SchedulerState, "_end_attempt",
         without(SchedulerState._end_attempt, Waiting, "unblock")),
        ("a backoff", Waiting, "advance", names_no_moment_for_a_backoff),
    ],
)  # fmt: skip
def test_mutants_that_lose_a_wake_up_are_caught(
    history: str, where: type, name: str, mutant: Mutant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, mutant)
    with pytest.raises((AssertionError, ExceptionGroup)):
        wakes("asyncio", HISTORIES[history])
