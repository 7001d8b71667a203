"""Who goes next, through the whole stack: priority, shares, age, and the order after a refusal."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from inject import Status, run
from mutants import Mutant, nothing, table

from headway import Limits, Retry, Scheduler, View
from headway._core.limits.gate import Gate
from headway._core.queue.fair import JobQueue
from headway._core.queue.job import Job
from headway._runtime import attempt as _attempt

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_chance(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(_attempt, "random", lambda: 0.5)
    caplog.set_level("CRITICAL", logger="headway")


class Starts(list[tuple[float, Any]]):
    """When which job started."""

    async def __call__(self, name: Any, seconds: float = 0.0) -> Any:
        self.append((anyio.current_time(), name))
        await anyio.sleep(seconds)
        return name

    @property
    def names(self) -> list[Any]:
        return [name for _, name in self]


async def line_up(group: TaskGroup, view: View, fn: Callable[..., Awaitable[Any]], *a: Any) -> None:
    """Submit in a task of its own, and see it queued before going on."""
    group.start_soon(view.submit, fn, *a)
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()


# Priority


@pytest.mark.parametrize("how", ["submit", "map", "lease"])
async def test_an_urgent_job_takes_the_very_next_permit(how: str) -> None:
    scheduler, starts = Scheduler("10/s"), Starts()
    async with anyio.create_task_group() as group:
        if how == "map":
            group.start_soon(scheduler.map(starts, range(1001))._collect)
        else:
            for n in range(1001):
                group.start_soon(scheduler.submit, starts, n)
        await anyio.sleep(1.05)
        assert scheduler.statistics().queued > 900
        before = len(starts)
        urgent = scheduler.with_options(priority=1)
        if how == "lease":
            async with urgent.lease():
                await starts("urgent")
        else:
            await urgent.submit(starts, "urgent")
        assert len(starts) == before + 1
        assert starts[-1][0] - starts[-2][0] < 0.11
        group.cancel_scope.cancel()


async def test_priority_is_strict_and_inside_it_the_older_goes_first() -> None:
    scheduler, starts = Scheduler("10/s"), Starts()
    async with anyio.create_task_group() as group:
        await scheduler.submit(starts, "first")
        for n, priority in enumerate([0, 2, 1, 2, -1, 0, 1]):
            await line_up(group, scheduler.with_options(priority=priority), starts, n)
    assert starts.names == ["first", 1, 3, 2, 6, 0, 5, 4]


async def test_low_priority_waits_as_long_as_there_is_anything_higher() -> None:
    scheduler, starts = Scheduler("10/s"), Starts()
    low, high = scheduler.with_options(key="low"), scheduler.with_options(key="high", priority=1)
    async with anyio.create_task_group() as group:
        await high.submit(starts, "high")
        await line_up(group, low, starts, "low")
        await high.map(starts, ["high"] * 50)
    assert starts.names == ["high"] * 51 + ["low"]


# Shares

WEIGHTS = {"chat": 8, "bulk": 1}


def shares(spent: dict[str, float]) -> float:
    return spent["chat"] / spent["bulk"]


@pytest.mark.parametrize(
    ("how", "guess"),
    [("submit", "exact"), ("map", "too high"), ("submit", "none"), ("map", "none")],
)
async def test_keys_share_tokens_by_weight(how: str, guess: str) -> None:
    scheduler = Scheduler(tokens="600k/min", concurrency=16, weights=WEIGHTS)
    spent = {"chat": 0.0, "bulk": 0.0}
    # One chance for each key: trio's order of those that are ready at once is random.
    chances = {key: random.Random(key) for key in spent}
    reserve: Any = {
        "exact": lambda key, tokens: tokens,
        "too high": lambda key, tokens: 400,
        "none": None,
    }[guess]
    view = scheduler.with_options(
        tokens=reserve and (lambda item: reserve(*item)), usage=lambda used: used
    )

    async def call(item: tuple[str, float]) -> float:
        key, tokens = item
        await anyio.sleep(0.02 + 0.06 * chances[key].random())
        spent[key] += tokens
        return tokens

    def items(key: str) -> Iterator[tuple[str, float]]:
        # Small ones of the smaller share: what is in flight at a moment is little beside it.
        for _ in range(1200 if key == "chat" else 420):
            yield key, chances[key].randint(1, 300 if key == "chat" else 120)

    async with anyio.create_task_group() as group:
        for key in spent:
            one = view.with_options(key=key)
            if how == "map":
                group.start_soon(one.map(call, items(key))._collect)
            else:
                for item in items(key):
                    group.start_soon(one.submit, call, item)
        await anyio.sleep(8)  # out of the start, when nothing was known
        before = dict(spent)
        await anyio.sleep(8)
        gained = {key: spent[key] - before[key] for key in spent}
        assert sum(gained.values()) > 0.9 * 8 * 10_000
        assert shares(gained) == pytest.approx(8, rel=0.05)
        group.cancel_scope.cancel()


async def test_at_equal_priority_no_key_starves() -> None:
    scheduler, starts = Scheduler("100/s"), Starts()

    async with anyio.create_task_group() as group:
        greedy = scheduler.with_options(key="greedy")
        group.start_soon(greedy.map(starts, itertools.repeat("greedy"))._collect)
        await anyio.sleep(1)
        for n in range(20):
            await line_up(group, scheduler.with_options(key=n), starts, n)
        before = len(starts)
        await anyio.sleep(0.3)
        # Each of the twenty has had its turn, though the greedy key has 1,000 jobs before them.
        assert set(starts.names[before:]) >= set(range(20))
        group.cancel_scope.cancel()


@pytest.mark.parametrize("key", [None, "other"])
@pytest.mark.parametrize("size", [60_000, 20_000])
async def test_a_large_job_among_endless_small_ones_starts_in_time(key: Any, size: int) -> None:
    scheduler, starts = Scheduler(tokens="60k/min", concurrency=16), Starts()
    small = scheduler.with_options(tokens=200)
    async with anyio.create_task_group() as group:
        group.start_soon(small.map(starts, itertools.repeat("small"))._collect)
        await anyio.sleep(130)  # two windows and more: steady
        began = anyio.current_time()
        await scheduler.with_options(tokens=size, key=key).submit(starts, "large")
        assert anyio.current_time() - began < 2 * size / 1000
        group.cancel_scope.cancel()


async def test_a_key_held_back_by_its_own_limits_holds_nobody_else_back() -> None:
    keys = {"slow": Limits("1/min"), "one": Limits(concurrency=1)}
    scheduler, starts = Scheduler("10/s", keys=keys), Starts()
    async with anyio.create_task_group() as group:
        for key in ("slow", "one"):
            for n in range(5):
                view = scheduler.with_options(key=key, priority=9)
                await line_up(group, view, starts, f"{key} {n}", 1000)
        began = anyio.current_time()
        await scheduler.map(starts, range(20))
        assert anyio.current_time() - began < 2.5
        assert set(starts.names) == {"slow 0", "one 0", *range(20)}
        group.cancel_scope.cancel()


# After a refusal


@pytest.mark.parametrize("refused_after", [0.0, 0.2, 2.0])
@pytest.mark.parametrize("answers_after", [0.1, 5.0])
async def test_after_a_refusal_one_probe_goes_first_and_nothing_before_its_time(
    answers_after: float, refused_after: float
) -> None:
    scheduler, starts = Scheduler("100/s", concurrency=8), Starts()

    async def refused() -> None:
        starts.append((anyio.current_time(), "refused"))
        if len(starts) == 1:
            await anyio.sleep(refused_after)
            raise Status(429, 2)
        await anyio.sleep(answers_after)

    async with anyio.create_task_group() as group:
        await line_up(group, scheduler, refused)
        await anyio.sleep(refused_after)
        for n in range(500):
            group.start_soon(scheduler.submit, starts, n, answers_after)
        began = anyio.current_time()
        await anyio.sleep(12)
        group.cancel_scope.cancel()
    (_, first), (probe, name), (third, _), *rest = starts
    assert first == name == "refused"  # it keeps its place, so it is the probe too
    assert 2 <= probe - began < 2.3
    # The rest follow when it is answered, or when it was not refused in three times the time that
    # a refusal takes.
    patience = min(1.0, max(0.25, 3 * refused_after))
    assert third - probe == pytest.approx(min(answers_after, patience), abs=0.011)
    assert all(at >= third for at, _ in rest)
    assert len(rest) > 10


async def test_a_retry_keeps_its_place() -> None:
    scheduler, starts = Scheduler("10/s"), Starts()
    failed: set[int] = set()

    async def flaky(name: int) -> None:
        await starts(name)
        if name % 2 and name not in failed:
            failed.add(name)
            raise Status(503, 0.25)

    async with anyio.create_task_group() as group:
        for n in range(6):
            await line_up(group, scheduler, flaky, n)
    # The gate is shut for as long as the refused one has to wait: nobody overtakes it.
    assert starts.names == [0, 1, 1, 2, 3, 3, 4, 5, 5]


async def test_a_failed_attempt_gives_its_slot_to_others_during_its_backoff() -> None:
    scheduler, starts = Scheduler(concurrency=1), Starts()
    failures = [Status(500, 5), Status(500, 5)]

    async def flaky() -> None:
        await starts("flaky", 1)
        if failures:
            raise failures.pop()

    async with anyio.create_task_group() as group:
        await line_up(group, scheduler, flaky)
        for n in range(12):
            await line_up(group, scheduler, starts, n, 1)
        began = anyio.current_time()
    # Second by second: it comes back after five and some, before all those that came later.
    assert starts.names == ["flaky", *range(6), "flaky", *range(6, 12), "flaky"]
    assert [at - began for at, _ in starts] == pytest.approx(list(range(15)), abs=0.5)


async def test_a_refused_key_gives_its_slot_to_others_too() -> None:
    scheduler, starts = Scheduler(concurrency=1, keys={"k": Limits("10/s")}), Starts()
    failures = [Status(429, 5)]

    async def refused() -> None:
        await starts("refused", 1)
        if failures:
            raise failures.pop()

    async with anyio.create_task_group() as group:
        await line_up(group, scheduler.with_options(key="k"), refused)
        for n in range(3):
            await line_up(group, scheduler, starts, n, 1)
    assert starts.names == ["refused", 0, 1, 2, "refused"]


# Giving up


@pytest.mark.parametrize(
    ("retry", "error", "note"),
    [
        (Retry(attempts=3), Status(500), r"tried 3 times in \S+ m?s.*: attempts=3 are used up"),
        (Retry(patience=10), Status(429, 4), r"tried 3 times in 8\S* s.*patience=10 seconds is"),
        (Retry(budget=0), Status(502, 0.01), r"tried \d+ times in .*attempts=5 are used up"),
        (Retry(), ConnectionResetError("gone"), r"tried 5 times in .*attempts=5 are used up"),
    ],
)
async def test_giving_up_raises_the_original_with_a_note(
    retry: Retry, error: Exception, note: str
) -> None:
    scheduler = Scheduler("10/s", retry=retry)

    async def failing() -> None:
        await anyio.sleep(0.01)
        raise error

    with pytest.raises(type(error)) as caught:
        await scheduler.submit(failing)
    assert caught.value is error
    (text,) = error.__notes__
    assert text.startswith("headway: tried ")
    assert re.search(note, text), text
    del error.__notes__  # the same object is raised on the other backend


@pytest.mark.parametrize("status", [400, 404, 422, 401])
async def test_what_is_not_retried_is_raised_as_it_is(status: int) -> None:
    scheduler, starts = Scheduler("10/s"), Starts()

    async def failing() -> None:
        await starts(status)
        raise Status(status)

    with pytest.raises(Status) as caught:
        await scheduler.submit(failing)
    assert len(starts) == 1
    assert not hasattr(caught.value, "__notes__")


async def test_a_hint_beyond_patience_gives_up_at_once() -> None:
    scheduler, starts = Scheduler("10/s"), Starts()

    async def failing() -> None:
        await starts("")
        raise Status(429, 3600)

    began = anyio.current_time()
    with pytest.raises(Status):
        await scheduler.submit(failing)
    assert anyio.current_time() == began
    assert len(starts) == 1


# The tests above must catch these

head, push, start = JobQueue.head, JobQueue.push, JobQueue.start
ready_at = Gate.ready_at


def queues_by_age_alone(self: JobQueue, job: Job) -> None:
    job.priority = 0
    push(self, job)


def charges_without_weight(self: JobQueue, job: Job) -> None:
    weight, job.flow.weight = job.flow.weight, 7.0
    start(self, job)
    job.flow.weight = weight


def waits_for_keys_that_are_blocked(self: JobQueue) -> Job | None:
    blocked = any(job.flow.blocked_until is not None for job in self.waiting())
    return None if blocked else head(self)


def opens_for_all(self: Gate, attempt: object, now: float) -> None:
    self.open()


def is_ready_a_second_early(self: Gate) -> float:
    return ready_at(self) - 1


@pytest.mark.parametrize(
    ("where", "name", "mutant", "test", "args"),
    table(
        ("no priority", JobQueue, "push", queues_by_age_alone,
         test_priority_is_strict_and_inside_it_the_older_goes_first, ()),
        ("equal weights", JobQueue, "start", charges_without_weight,
         test_keys_share_tokens_by_weight, ("map", "exact")),
        ("guesses that are not settled", JobQueue, "settle", nothing,
         test_keys_share_tokens_by_weight, ("map", "too high")),
        ("a retry behind the others", JobQueue, "push_back", JobQueue.push,
         test_a_retry_keeps_its_place, ()),
        ("a key that holds others back", JobQueue, "head", waits_for_keys_that_are_blocked,
         test_a_key_held_back_by_its_own_limits_holds_nobody_else_back, ()),
        ("no probe", Gate, "passed", opens_for_all,
         test_after_a_refusal_one_probe_goes_first_and_nothing_before_its_time, (5.0, 0.0)),
        ("a gate that opens early", Gate, "ready_at", is_ready_a_second_early,
         test_after_a_refusal_one_probe_goes_first_and_nothing_before_its_time, (0.1, 0.0)),
    ),
)  # fmt: skip
def test_mutants_are_caught(
    where: type, name: str, mutant: Mutant, test: Callable[..., Awaitable[None]],
    args: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async def bounded() -> None:
        with anyio.fail_after(1e5):
            await test(*args)

    monkeypatch.setattr(where, name, mutant)
    with pytest.raises((AssertionError, ExceptionGroup, TimeoutError)):
        run("asyncio", bounded)
