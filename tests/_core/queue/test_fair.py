"""Start-time fair queueing: real costs are settled, idle keys bank nothing, few queues are kept."""

from __future__ import annotations

from collections import Counter
from itertools import count

import pytest

from headway._core.counters import Counts
from headway._core.limits.port import Port
from headway._core.limits.scope import Scope
from headway._core.queue.fair import JobQueue
from headway._core.queue.job import QUEUED, STARTED, Flow, Job
from headway.rates import Limits


class Bench:
    """A queue of jobs of a few keys, which are numbered as they come."""

    def __init__(self, **weights: float) -> None:
        self.queue = JobQueue()
        self.flows = {key: Flow(key, weight, None) for key, weight in weights.items()}
        self._numbers = count(1)

    def push(self, key: str, cost: float = 1.0, priority: float = 0, times: int = 1) -> list[Job]:
        jobs = []
        for _ in range(times):
            job = Job(self.flows[key], priority, cost)
            job.number, job.status = next(self._numbers), QUEUED
            self.queue.push(job)
            jobs.append(job)
        return jobs

    def start(self) -> Job:
        job = self.queue.head()
        assert job is not None
        self.queue.start(job)
        job.status = STARTED
        return job

    def keys(self, number: int) -> str:
        return "".join(str(self.start().flow.key) for _ in range(number))


def test_costs_share_by_weight() -> None:
    bench = Bench(a=1, b=3)
    bench.push("a", 10.0, times=40)
    bench.push("b", 10.0, times=40)
    assert Counter(bench.keys(20)) == {"a": 5, "b": 15}


def test_the_cheaper_jobs_are_more() -> None:
    bench = Bench(a=1, b=1)
    bench.push("a", 40.0, times=40)
    bench.push("b", 10.0, times=40)
    assert Counter(bench.keys(20)) == {"a": 4, "b": 16}


def test_what_an_attempt_really_cost_is_settled_with_the_next_start() -> None:
    bench = Bench(a=1, b=1)
    bench.push("a", 10.0, times=20)
    bench.push("b", 10.0, times=20)
    first = bench.start()
    bench.queue.settle(first, 50.0)  # and not 10
    assert first.key_queue is None
    # Its next start is charged the other 40, so the other key has five in a row after it.
    assert bench.keys(8) == "babbbbba"


def test_a_refused_attempt_costs_its_key_nothing() -> None:
    bench = Bench(a=1, b=1)
    bench.push("a", 10.0, times=9)
    bench.push("b", 10.0, times=9)
    bench.queue.refund(bench.start())
    assert bench.keys(6) == "baabab"  # charged, it would be "bababa"


def test_a_cost_below_one_counts_as_one() -> None:
    bench = Bench(a=1, b=1)
    bench.push("a", 0.0, times=10)
    bench.push("b", 1.0, times=10)
    assert Counter(bench.keys(10)) == {"a": 5, "b": 5}


def test_a_key_that_was_idle_banks_no_credit() -> None:
    bench = Bench(a=1, b=1)
    bench.push("a", times=30)
    bench.keys(20)
    bench.push("b", times=10)
    assert Counter(bench.keys(6)) == {"a": 3, "b": 3}


def test_a_key_whose_starts_pass_goes_ahead_of_its_share_by_some_of_them() -> None:
    bench = Bench(a=1, b=1)
    limits = bench.flows["b"].limits = Scope(Limits("9/s"), "b", Counts())
    limits.ports = (Passing(),)
    bench.push("a", times=20)
    bench.push("b", times=20)
    assert bench.keys(12) == "abbbbabababa"
    assert bench.keys(8).count("a") == 4


class Passing(Port):
    passing = 3.0


def test_a_key_that_is_held_back_is_left_out_until_it_is_relisted() -> None:
    bench = Bench(a=1, b=1)
    (held,), (other,) = bench.push("a"), bench.push("b")
    bench.flows["a"].blocked_until = 9.0
    assert bench.queue.head() is bench.queue.peek() is other
    assert bench.queue.head_of(bench.flows["a"]) is held
    bench.queue.start(other)
    assert bench.queue.head() is None
    assert bench.queue.size == 1
    bench.flows["a"].blocked_until = None
    bench.queue.relist(bench.flows["a"])
    assert bench.queue.head() is held


@pytest.mark.parametrize("key", ["a", "b"])
def test_the_head_of_a_key_is_its_most_urgent(key: str) -> None:
    bench = Bench(a=1, b=1)
    bench.push(key)
    (urgent,) = bench.push(key, priority=3)
    assert bench.queue.head_of(bench.flows[key]) is urgent
    assert bench.queue.head_of(bench.flows["b" if key == "a" else "a"]) is None


def test_a_peek_is_what_the_head_is_through_a_whole_run() -> None:
    bench = Bench(a=1, b=2, c=5)
    for key, cost in (("a", 3.0), ("b", 9.0), ("c", 1.0), ("a", 30.0), ("c", 4.0)):
        bench.push(key, cost, priority=cost % 2, times=4)
    while bench.queue.size:
        seen = bench.queue.peek()
        assert seen is bench.start()
    assert bench.queue.peek() is None


def test_what_waits_is_counted_by_key_and_listed() -> None:
    bench = Bench(a=1, b=1)
    jobs = [*bench.push("a", times=2), *bench.push("b"), *bench.push("a", priority=1)]
    assert bench.queue.sizes() == {bench.flows["a"]: 3, bench.flows["b"]: 1}
    assert {job.number for job in bench.queue.waiting()} == {job.number for job in jobs}
    assert bench.queue.holds(bench.flows["b"])
    for _ in jobs:
        bench.start()
    assert (bench.queue.size, bench.queue.waiting()) == (0, [])
    assert not bench.queue.holds(bench.flows["b"])


def test_a_key_that_was_held_back_goes_on_with_its_highest_priority() -> None:
    bench = Bench(a=1.0, b=1.0)
    for priority in (0, 1, 2):
        bench.push("a", priority=priority, times=2)
    bench.push("b", priority=1)
    bench.flows["a"].blocked_until = 9.0
    assert bench.start().flow.key == "b"
    assert bench.queue.head() is None
    bench.flows["a"].blocked_until = None
    bench.queue.relist(bench.flows["a"])
    assert [len(level.heap) for level in bench.queue._levels.values()] == [0, 0, 1]
    assert [bench.start().priority for _ in range(6)] == [2, 2, 1, 1, 0, 0]


def test_a_head_costs_no_look_at_the_priorities_that_are_held_back() -> None:
    bench = Bench(**{f"k{number}": 1.0 for number in range(500)}, free=1.0)
    for number in range(500):
        bench.push(f"k{number}", priority=number + 1)
        bench.flows[f"k{number}"].blocked_until = 9.0
    bench.push("free")
    assert bench.start().flow.key == "free"
    assert bench.queue._ranking == []
