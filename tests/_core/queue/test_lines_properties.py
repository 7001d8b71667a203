"""The queue: strict priority, shares by weight, age; cancellation anywhere; bounded memory."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from itertools import count
from types import FrameType
from typing import Any

import pytest
from depth import depth
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headway._core.queue.fair import JobQueue
from headway._core.queue.job import DONE, QUEUED, STARTED, Flow, Job
from headway._core.queue.waiting import Waiting


class Bench:
    """A queue, and what a test does to it."""

    def __init__(self, **weights: float) -> None:
        self.queue = JobQueue()
        self.flows = {key: Flow(key, weight, None) for key, weight in weights.items()}
        self.numbers = count(1)

    def push(self, key: str = "a", priority: float = 0, cost: float = 0) -> Job:
        job = Job(self.flows[key], priority, cost)
        job.number = next(self.numbers)
        job.status = QUEUED
        self.queue.push(job)
        return job

    def start(self) -> Job:
        job = self.queue.head()
        assert job is not None
        self.queue.start(job)
        job.status = STARTED
        return job

    def drain(self) -> list[Job]:
        jobs = []
        while self.queue.head() is not None:
            jobs.append(self.start())
        return jobs

    def cancel(self, job: Job) -> None:
        job.status = DONE
        self.queue.remove(job)
        job.key_queue = None

    def put_back(self, job: Job) -> None:
        self.queue.refund(job)
        job.status = QUEUED
        self.queue.push_back(job)

    @property
    def size(self) -> int:
        """What it keeps in memory: levels, key_queues, jobs, entries of heaps."""
        levels = self.queue._levels.values()
        key_queues = [key_queue for level in levels for key_queue in level.key_queues.values()]
        return (
            len(self.queue._ranking)
            + len(key_queues)
            + sum(len(level.heap) for level in levels)
            + sum(len(key_queue.jobs) + len(key_queue.returned) for key_queue in key_queues)
        )


# Who goes next


@pytest.mark.parametrize(
    ("pushed", "order"),
    [
        ([("a", 0), ("a", 0), ("a", 0)], [1, 2, 3]),  # age
        ([("a", 0), ("a", 5), ("a", -1), ("a", 5)], [2, 4, 1, 3]),  # priority first
        ([("a", 0), ("a", 0), ("b", 0), ("b", 0)], [1, 3, 2, 4]),  # keys take turns
        ([("a", 0), ("a", 0), ("b", 1), ("b", 1)], [3, 4, 1, 2]),  # priority before shares
        ([("a", 0), ("a", 0.5), ("a", float("inf"))], [3, 2, 1]),
    ],
)
def test_order(pushed: list[tuple[str, float]], order: list[int]) -> None:
    bench = Bench(a=1, b=1)
    for key, priority in pushed:
        bench.push(key, priority)
    assert [job.number for job in bench.drain()] == order


@pytest.mark.parametrize("weights", [(1, 1), (8, 1), (3, 2), (0.5, 0.25)])
@pytest.mark.parametrize("costs", [(0, 0), (100, 100), (100, 700)])
def test_shares_follow_the_weights_in_cost(
    weights: tuple[float, float], costs: tuple[float, float]
) -> None:
    bench = Bench(a=weights[0], b=weights[1])
    served: Counter[object] = Counter()
    for _ in range(3000):
        bench.push("a", cost=costs[0])
        bench.push("b", cost=costs[1])
    for _ in range(2000):
        job = bench.start()
        served[job.flow.key] += max(1.0, job.cost)
    assert served["a"] / served["b"] == pytest.approx(weights[0] / weights[1], rel=0.04)


def test_a_wrong_guess_is_settled_with_the_next_start() -> None:
    bench = Bench(a=1, b=1)
    used: Counter[object] = Counter()
    for _ in range(2000):
        bench.push("a", cost=10)
        bench.push("b", cost=10)
    for _ in range(1000):
        job = bench.start()
        really = 30 if job.flow.key == "a" else 10
        bench.queue.settle(job, really)
        used[job.flow.key] += really
    assert used["a"] == pytest.approx(used["b"], rel=0.02)


def test_an_idle_key_banks_no_credit() -> None:
    bench = Bench(a=1, b=1)
    bench.push("b")
    for _ in range(200):
        bench.push("a")
    bench.start()
    bench.start()
    for _ in range(100):
        bench.start()  # b is idle all this time
    for _ in range(50):
        bench.push("b")
    after = Counter(bench.start().flow.key for _ in range(40))
    assert abs(after["a"] - after["b"]) <= 2


def test_a_held_key_holds_nobody_back_and_banks_no_credit() -> None:
    bench = Bench(a=1, b=1)
    for _ in range(200):
        bench.push("a")
        bench.push("b")
    bench.push("b", priority=-1)
    bench.flows["a"].blocked_until = 9.0
    assert {bench.start().flow.key for _ in range(100)} == {"b"}
    bench.flows["a"].blocked_until = None
    bench.queue.relist(bench.flows["a"])
    after = Counter(bench.start().flow.key for _ in range(40))
    assert abs(after["a"] - after["b"]) <= 2


def test_only_held_keys_are_no_head() -> None:
    bench = Bench(a=1)
    bench.push()
    bench.flows["a"].blocked_until = 9.0
    assert bench.queue.head() is None
    assert len(bench.queue.waiting()) == bench.queue.size == 1


def test_a_job_that_comes_back_takes_its_old_place() -> None:
    bench = Bench(a=1)
    jobs = [bench.push() for _ in range(5)]
    first, second = bench.start(), bench.start()
    bench.put_back(second)
    bench.put_back(first)
    late = bench.push()
    assert bench.drain() == [*jobs, late]


def test_a_refused_start_is_charged_nothing() -> None:
    bench = Bench(a=1, b=1)
    for _ in range(10):
        bench.push("a")
        bench.push("b")
    served: Counter[object] = Counter()
    refused = 0
    while served.total() < 10:
        job = bench.start()
        if job.flow.key == "a" and refused < 4:
            refused += 1
            bench.put_back(job)
        else:
            served[job.flow.key] += 1
    assert served == {"a": 5, "b": 5}


# Memory


def test_cancelling_100_000_keeps_memory_bounded() -> None:
    bench = Bench(a=1)
    jobs = [bench.push() for _ in range(100_000)]
    for index, job in enumerate(jobs[:-1]):
        bench.cancel(job)
        if index % 1000 == 0:
            assert bench.size <= 2 * bench.queue.size + 40
    assert bench.size <= 40
    assert bench.drain() == jobs[-1:]
    assert bench.size == 0


def test_cancelled_while_waiting_for_their_backoff_keeps_memory_bounded() -> None:
    waiting = Waiting()
    flow = Flow("a", 1, None)
    jobs = []
    for number in range(10_000):
        job = Job(flow, deadline=1e6 + number)
        job.number, job.status = number, QUEUED
        waiting.delay(job, 100.0 + number)
        jobs.append(job)
    for job in jobs[:-1]:
        job.status = DONE
        waiting.remove(job)
    assert len(waiting._delayed) <= 64
    assert waiting.delayed == waiting.size == len(waiting.jobs()) == 1
    for number in range(20_000, 20_200):  # the deadlines are swept when new ones come
        job = Job(flow, deadline=2e6)
        job.number, job.status = number, QUEUED
        waiting.push(job)
        job.status = DONE
        waiting.remove(job)
    assert len(waiting._deadlines) <= 66


def test_a_key_that_is_held_again_and_again_leaves_nothing_behind() -> None:
    waiting = Waiting()
    flow = Flow("a", 1, None)
    jobs = []
    for number in range(5000):
        job = Job(flow)
        job.number, job.status = number, QUEUED
        waiting.push(job)
        jobs.append(job)
    for job in jobs[:-1]:
        waiting.block(flow, 0, 100.0)
        job.status = DONE
        waiting.remove(job)  # releases the key: the head may be another now
    assert len(waiting._blocked) <= 64
    waiting.block(flow, 0, 100.0)
    assert waiting.blocked_until() == 100.0
    waiting.advance(100.0)
    assert waiting.queue.head() is jobs[-1]


def test_many_priorities_and_keys_leave_nothing_behind() -> None:
    bench = Bench()
    for number in range(3000):
        key = f"key {number}"
        bench.flows[key] = Flow(key, 1, None)
        bench.push(key, priority=number % 1000)
        if number % 3 == 0:
            bench.cancel(bench.push(key, priority=-number))
    assert len(bench.queue._levels) == 1000
    bench.drain()
    assert bench.size == bench.queue.size == 0
    assert not bench.queue._levels


def test_keys_that_come_once_are_forgotten_while_the_level_lives() -> None:
    bench = Bench(steady=1)
    bench.push("steady")
    for number in range(5000):
        bench.push("steady")
        key = f"key {number}"
        bench.flows[key] = Flow(key, 1, None)
        bench.push(key)
        bench.start()
        bench.start()
    assert len(bench.queue._levels[0].key_queues) < 200


# Cost


def lines_run(act: Callable[[], object]) -> int:
    """How many key_queues of Python `act` runs: a cost that no busy machine changes."""
    total = 0

    def tracer(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal total
        total += event == "key_queue"
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        act()
    finally:
        sys.settrace(before)
    return total


def cycle(bench: Bench, key: str, priority: float) -> None:
    for _ in range(200):
        bench.push(key, priority)
        bench.start()


@pytest.mark.parametrize("many", ["jobs", "keys", "priorities", "held keys", "cancelled"])
def test_a_start_costs_the_same_whatever_the_length(many: str) -> None:
    def cost(length: int) -> int:
        bench = Bench(a=1)
        for number in range(length):
            key = f"key {number}" if many in ("keys", "held keys") else "a"
            flow = bench.flows.setdefault(key, Flow(key, 1, None))
            job = bench.push(key, priority=number if many == "priorities" else 0)
            if many == "held keys":
                flow.blocked_until = 9.0
            if many == "cancelled":
                bench.push(key)
                bench.cancel(job)
        if many == "held keys":
            assert bench.queue.head() is None

        def work() -> None:
            cycle(bench, "a", length // 2 if many == "priorities" else 0)
            for number in range(200):
                bench.flows[f"new {number}"] = Flow(f"new {number}", 1, None)
                bench.push(f"new {number}")

        return lines_run(work)

    assert cost(8000) <= 1.3 * cost(500)


class Counted(float):
    """A priority that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return float(self) == other

    def __lt__(self, other: float) -> bool:
        Counted.compared += 1
        return float(self) < float(other)

    def __neg__(self) -> Counted:
        return Counted(-float(self))

    __hash__ = float.__hash__


def test_cancelling_among_many_priorities_is_not_linear() -> None:
    bench = Bench(a=1)
    jobs = [bench.push(priority=Counted(number)) for number in range(2000)]
    Counted.compared = 0
    for job in jobs[::20]:
        bench.cancel(job)
    assert Counted.compared < 100 * 30


# Against a naive model


class _ModelKeyQueue:
    def __init__(self, tag: float) -> None:
        self.tag = tag
        self.owed = 0.0
        self.jobs: list[Job] = []


class _ModelLevel:
    def __init__(self) -> None:
        self.virtual = 0.0
        self.key_queues: dict[object, _ModelKeyQueue] = {}


class QueueMachine(RuleBasedStateMachine):
    """The same operations on a queue and on lists that are searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(a=1, b=8, c=0.5, d=3)
        self.levels: dict[float, _ModelLevel] = {}
        self.started: list[tuple[Job, _ModelKeyQueue]] = []

    def queued(self) -> list[tuple[float, _ModelKeyQueue, Job]]:
        return [
            (priority, key_queue, job)
            for priority, level in self.levels.items()
            for key_queue in level.key_queues.values()
            for job in key_queue.jobs
        ]

    def put(self, job: Job) -> None:
        level = self.levels.setdefault(job.priority, _ModelLevel())
        key_queue = level.key_queues.setdefault(job.flow.key, _ModelKeyQueue(level.virtual))
        key_queue.jobs = sorted([*key_queue.jobs, job], key=lambda job: job.number)

    def drop(self, job: Job, key_queue: _ModelKeyQueue) -> None:
        key_queue.jobs.remove(job)
        if not any(key_queue.jobs for key_queue in self.levels[job.priority].key_queues.values()):
            del self.levels[job.priority]

    @rule(
        keys=st.lists(st.sampled_from("abcd"), min_size=1, max_size=6),
        priority=st.sampled_from([0, 0, 0, 1, -1.5]),
        cost=st.sampled_from([0, 1, 3, 10]),
    )
    def push(self, keys: list[str], priority: float, cost: float) -> None:
        for key in keys:
            self.put(self.bench.push(key, priority, cost))

    @rule(n=st.integers(1, 4))
    def start_some(self, n: int) -> None:
        for _ in range(n):
            self.start()

    def start(self) -> None:
        head = self.bench.queue.head()
        for priority in sorted(self.levels, reverse=True):
            level = self.levels[priority]
            ready = {
                key: max(key_queue.tag, level.virtual)
                for key, key_queue in level.key_queues.items()
                if key_queue.jobs and self.bench.flows[str(key)].blocked_until is None
            }
            if not ready:
                continue
            assert head is not None
            key_queue = level.key_queues[head.flow.key]
            assert head is key_queue.jobs[0]
            assert head.priority == priority
            assert ready[head.flow.key] == pytest.approx(min(ready.values()))
            level.virtual = ready[head.flow.key]
            owed = key_queue.owed + max(1.0, head.cost)
            key_queue.owed = min(0.0, owed)
            key_queue.tag = level.virtual + max(0.0, owed) / head.flow.weight
            assert self.bench.start() is head
            self.started.append((head, key_queue))
            self.drop(head, key_queue)
            return
        assert head is None

    @precondition(lambda self: self.queued())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        _, key_queue, job = data.draw(st.sampled_from(self.queued()))
        self.bench.cancel(job)
        self.drop(job, key_queue)

    @precondition(lambda self: self.started)
    @rule(data=st.data(), used=st.sampled_from([0, 1, 5, 40]))
    def finish(self, data: st.DataObject, used: float) -> None:
        job, key_queue = self.started.pop(data.draw(st.integers(0, len(self.started) - 1)))
        self.bench.queue.settle(job, used)
        job.status = DONE
        key_queue.owed += max(1.0, used) - max(1.0, job.cost)

    @precondition(lambda self: self.started)
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        job, key_queue = self.started.pop(data.draw(st.integers(0, len(self.started) - 1)))
        key_queue.owed -= max(1.0, job.cost)
        self.bench.put_back(job)
        self.put(job)

    @rule(key=st.sampled_from("abcd"))
    def hold(self, key: str) -> None:
        self.bench.flows[key].blocked_until = 9.0

    @rule(key=st.sampled_from("abcd"))
    def release(self, key: str) -> None:
        self.bench.flows[key].blocked_until = None
        self.bench.queue.relist(self.bench.flows[key])

    @invariant()
    def same_content(self) -> None:
        queue = self.bench.queue
        mine = sorted(job.number for _, _, job in self.queued())
        assert sorted(job.number for job in queue.waiting()) == mine
        assert queue.size == len(mine)
        assert sorted(queue._levels) == sorted(self.levels)
        listed = [priority for priority, level in queue._levels.items() if level.heap]
        assert queue._ranking == sorted(-priority for priority in listed)

    def teardown(self) -> None:
        for key in "abcd":
            self.release(key)
        while self.bench.queue.size:
            self.start()
        assert self.bench.size == 0


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(
    max_examples=depth(20, 1000), stateful_step_count=40, deadline=None
)
