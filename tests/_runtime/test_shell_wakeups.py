"""No wake-up is lost: whatever happens, a job starts as soon as the limits allow it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from depth import depth
from hypothesis import given, settings
from hypothesis import strategies as st
from inject import BACKENDS, Status, Steps, run, settle_down
from mutants import Mutant, nothing, without

from headway import DeadlineExceeded, HeadwayError, Latched, Limits, Scheduler, View
from headway._core.queue.job import Job
from headway._core.queue.waiting import Waiting
from headway._core.state import SchedulerState
from headway._runtime.attempt import Attempt
from headway._runtime.shell import Shell

pytestmark = pytest.mark.anyio

SLACK = 0.011  # what timers may be late, and a little


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", logger="headway")


class Starts:
    """When each job started, in seconds from now on."""

    def __init__(self) -> None:
        self._began = anyio.current_time()
        self.at: dict[str, float] = {}

    async def __call__(self, name: str, seconds: float = 0.0) -> str:
        self.at[name] = anyio.current_time() - self._began
        await anyio.sleep(seconds)
        return name

    def check(self, **due: float) -> None:
        assert self.at == {name: pytest.approx(at, abs=SLACK) for name, at in due.items()}


async def line_up(group: TaskGroup, view: View, *args: Any) -> None:
    """Submit in a task of its own; trio starts tasks in any order, so see it queued first."""
    group.start_soon(view.submit, *args)
    await settle_down()


async def test_a_retune_acts_at_once() -> None:
    scheduler, starts = Scheduler("1/hour"), Starts()
    async with anyio.create_task_group() as group:
        for name in "abc":
            await line_up(group, scheduler, starts, name)
        await anyio.sleep(5)
        scheduler.set_limits("10/s")
    starts.check(a=0, b=5.1, c=5.2)


async def test_a_slower_rate_acts_at_once_too() -> None:
    scheduler, starts = Scheduler("10/s"), Starts()
    async with anyio.create_task_group() as group:
        for name in "abc":
            await line_up(group, scheduler, starts, name)
        await anyio.sleep(0.05)
        scheduler.set_limits("1/s")
    assert 0.4 < starts.at["b"] < 1.1
    assert starts.at["c"] - starts.at["b"] > 1


async def test_more_slots_act_at_once() -> None:
    scheduler, starts = Scheduler(concurrency=1), Starts()
    async with anyio.create_task_group() as group:
        for name in "abc":
            await line_up(group, scheduler, starts, name, 10)
        await anyio.sleep(1)
        scheduler.set_limits(concurrency=2)
    starts.check(a=0, b=1, c=10)


async def test_a_pause_and_its_end_act_at_once() -> None:
    scheduler, starts = Scheduler("1/s"), Starts()
    async with anyio.create_task_group() as group:
        for name in "abc":
            await line_up(group, scheduler, starts, name)
        await anyio.sleep(0.5)
        scheduler.pause()
        await anyio.sleep(10)
        assert starts.at.keys() == {"a"}
        assert scheduler.statistics().binds == "paused"
        scheduler.resume()
    starts.check(a=0, b=10.5, c=11.52)


async def test_a_leader_that_is_cancelled_hands_over() -> None:
    scheduler, starts = Scheduler("1/s"), Starts()
    async with anyio.create_task_group() as group:
        await scheduler.submit(starts, "a")
        with anyio.move_on_after(0.5):
            await line_up(group, scheduler, starts, "c")
            await scheduler.submit(starts, "b")
        assert scheduler.statistics().queued == 1
    starts.check(a=0, c=1.03)


async def test_all_leaders_but_one_are_cancelled_at_the_moment_of_their_permit() -> None:
    scheduler, starts = Scheduler("1/s"), Starts()
    scopes = [anyio.CancelScope() for _ in range(8)]

    async def cancelled(n: int) -> None:
        with scopes[n]:
            await scheduler.submit(starts, f"cancelled {n}")

    async with anyio.create_task_group() as group:
        await scheduler.submit(starts, "a")
        for n in range(8):
            group.start_soon(cancelled, n)
            await settle_down()
        await line_up(group, scheduler, starts, "z")
        await settle_down()
        await anyio.sleep(scheduler.statistics().seconds)  # the same moment as the leader's
        for scope in scopes:
            scope.cancel()
    assert starts.at.keys() <= {"a", "cancelled 0", "z"}
    assert starts.at["z"] < 2.1


async def test_a_leader_whose_timeout_is_over_hands_over() -> None:
    scheduler, starts = Scheduler("1/s"), Starts()

    async def timed() -> None:
        with pytest.raises(DeadlineExceeded, match="was never tried"):
            await scheduler.with_options(timeout=1.5).submit(starts, "never")

    async with anyio.create_task_group() as group:
        await scheduler.submit(starts, "a")
        scheduler.pause()
        group.start_soon(timed)
        await settle_down()
        for name in "bc":
            await line_up(group, scheduler.with_options(priority=1), starts, name)
        scheduler.resume()  # "b" goes next, then "c", and the other leads
    starts.check(a=0, b=1.03, c=2.06)


@pytest.mark.parametrize("how", ["returns", "raises", "is cancelled", "lease"])
async def test_the_end_of_an_attempt_starts_the_next(how: str) -> None:
    scheduler, starts = Scheduler(concurrency=1), Starts()

    async def first() -> None:
        await starts("a", 1)
        if how != "returns":
            raise ValueError

    async def run_first() -> None:
        if how == "is cancelled":
            with anyio.move_on_after(1):
                await scheduler.submit(starts, "a", math.inf)
        elif how == "lease":
            async with scheduler.lease():
                await starts("a", 1)
        else:
            try:
                await scheduler.submit(first)
            except ValueError:
                pass

    async with anyio.create_task_group() as group:
        group.start_soon(run_first)
        await anyio.sleep(0.1)
        await line_up(group, scheduler, starts, "b")
    starts.check(a=0, b=1)


async def test_a_key_that_is_released_goes_on() -> None:
    keys = {"one": Limits(concurrency=1), "slow": Limits("1/s")}
    scheduler, starts = Scheduler(keys=keys), Starts()
    async with anyio.create_task_group() as group:
        for name, key, seconds in (
            ("a", "one", 1.0), ("b", "one", 0.0), ("c", "slow", 0.0), ("d", "slow", 0.0),
            ("e", "slow", 0.0), ("free", None, 0.0),
        ):  # fmt: skip
            await line_up(group, scheduler.with_options(key=key), starts, name, seconds)
    starts.check(a=0, b=1, c=0, d=1.03, e=2.06, free=0)


async def test_a_key_whose_large_head_is_cancelled_goes_on() -> None:
    scheduler = Scheduler(keys={"k": Limits(tokens="1000/min")})
    starts, view = Starts(), scheduler.with_options(key="k")
    async with anyio.create_task_group() as group:
        await view.with_options(tokens=100).submit(starts, "a")
        with anyio.move_on_after(10):
            await line_up(group, view.with_options(tokens=100, priority=-1), starts, "b")
            await view.with_options(tokens=1000).submit(starts, "large")
    starts.check(a=0, b=10)


async def test_an_urgent_job_is_looked_at_in_a_key_that_is_held_back() -> None:
    scheduler = Scheduler(keys={"k": Limits(tokens="1000/min")})
    starts, view = Starts(), scheduler.with_options(key="k")
    async with anyio.create_task_group() as group:
        await view.with_options(tokens=100).submit(starts, "a")
        await line_up(group, view.with_options(tokens=1000), starts, "large")
        await anyio.sleep(10)
        await line_up(group, view.with_options(tokens=1, priority=1), starts, "urgent")
        await anyio.sleep(1)
        starts.check(a=0, urgent=10)
    assert 60 < starts.at["large"] < 72


async def test_a_backoff_ends_on_time() -> None:
    scheduler, starts = Scheduler(), Starts()
    left = [Status(500, 3.0)]

    async def flaky() -> None:
        if left:
            raise left.pop()
        await starts("again")

    await scheduler.submit(flaky)
    assert 3 <= starts.at["again"] < 3.4


async def test_reset_opens_a_gate() -> None:
    scheduler, starts = Scheduler(concurrency=4), Starts()

    async def refused() -> None:
        if "refused" not in starts.at:
            await starts("refused")
            raise Status(429, 100)

    async with anyio.create_task_group() as group:
        await line_up(group, scheduler, refused)
        await anyio.sleep(1)
        await line_up(group, scheduler, starts, "b")
        await anyio.sleep(1)
        scheduler.reset()
    starts.check(refused=0, b=2)
    assert anyio.current_time() - starts._began > 100  # the refused one has its hint to obey


async def test_a_latch_ends_those_that_wait_until_reset() -> None:
    scheduler, starts = Scheduler("1/s"), Starts()
    errors: list[Exception] = []

    async def wrong_key() -> None:
        await anyio.sleep(0.5)
        raise Status(401)

    async def tried(fn: Callable[..., Any], *args: Any) -> None:
        try:
            await scheduler.submit(fn, *args)
        except Exception as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(tried, wrong_key)
        await settle_down()
        for name in "abc":
            group.start_soon(tried, starts, name)
    assert anyio.current_time() - starts._began == pytest.approx(0.5, abs=SLACK)
    assert {type(error) for error in errors} == {Status, Latched}
    assert len(errors) == 4
    with pytest.raises(Latched, match="401"):
        await scheduler.submit(starts, "d")
    scheduler.reset()
    assert await scheduler.submit(starts, "d") == "d"


# At random

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


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)  # trio shuffles what it runs
async def test_who_comes_behind_others_has_the_queue_looked_at_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    def looked(self: SchedulerState, now: float) -> tuple[list[Job], float]:
        nonlocal looks
        looks += 1
        return decide(self, now)

    scheduler, starts = Scheduler("1/hour"), Starts()
    async with anyio.create_task_group() as group:
        await line_up(group, scheduler, starts, "first")
        await line_up(group, scheduler, starts, "waits")
        monkeypatch.setattr(SchedulerState, "poll", looked)
        for name in "abc":
            await line_up(group, scheduler, starts, name)
        assert scheduler.statistics().queued == 4
        assert looks == 0
        await line_up(group, scheduler.with_options(priority=1), starts, "urgent")
        assert looks == 1
        group.cancel_scope.cancel()


async def test_those_admitted_together_run_in_that_order() -> None:
    ran: list[str] = []

    async def note(name: str) -> None:
        ran.append(name)

    scheduler = Scheduler("1/s")
    async with anyio.create_task_group() as group:
        await scheduler.submit(note, "a")
        for name, priority in (("c", 0), ("b", 1)):  # "c" parks first, and leads
            group.start_soon(scheduler.with_options(priority=priority).submit, note, name)
            await settle_down()
        await anyio.sleep(0.5)
        scheduler.set_limits(requests="1000/s")
    assert ran == ["a", "b", "c"]
