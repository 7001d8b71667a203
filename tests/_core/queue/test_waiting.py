"""What waits, and for what: a permit, a backoff, limits of its key; each is let in at its time."""

from __future__ import annotations

from itertools import count

import pytest

from headway._core.queue.job import DONE, QUEUED, Flow, Job
from headway._core.queue.waiting import Waiting

INFINITY = float("inf")


class Bench:
    def __init__(self) -> None:
        self.waiting = Waiting()
        self.flows = {key: Flow(key, 1.0, None) for key in "ab"}
        self._numbers = count(1)

    def job(self, key: str = "a", priority: float = 0, deadline: float | None = None) -> Job:
        job = Job(self.flows[key], priority, 0.0, deadline)
        job.number, job.status = next(self._numbers), QUEUED
        return job

    def push(self, key: str = "a", priority: float = 0, deadline: float | None = None) -> Job:
        job = self.job(key, priority, deadline)
        self.waiting.push(job)
        return job

    def delay(self, until: float, deadline: float | None = None) -> Job:
        job = self.job(deadline=deadline)
        self.waiting.delay(job, until)
        return job

    def cancel(self, job: Job) -> None:
        job.status = DONE
        self.waiting.remove(job)


def test_a_backoff_ends_at_its_time_and_the_job_has_its_old_place() -> None:
    bench = Bench()
    older, last = bench.delay(5.0), bench.delay(9.0)
    newer = bench.push()
    assert (bench.waiting.size, bench.waiting.delayed) == (3, 2)
    assert bench.waiting.advance(4.9) == 5.0
    assert bench.waiting.queue.head() is newer
    assert bench.waiting.advance(5.0) == 9.0
    assert bench.waiting.queue.head() is older
    assert bench.waiting.advance(9.0) == INFINITY
    assert (bench.waiting.size, bench.waiting.delayed) == (3, 0)
    assert {job.number for job in bench.waiting.jobs()} == {1, 2, 3}
    assert last in bench.waiting.jobs()


def test_a_job_that_is_cancelled_in_its_backoff_is_not_let_in() -> None:
    bench = Bench()
    gone, kept = bench.delay(5.0), bench.delay(7.0)
    bench.cancel(gone)
    assert (bench.waiting.size, bench.waiting.delayed) == (1, 1)
    assert bench.waiting.jobs() == [kept]
    assert bench.waiting.advance(1.0) == 7.0
    assert bench.waiting.advance(8.0) == INFINITY
    assert bench.waiting.queue.head() is kept
    assert bench.waiting.delayed == 0


def test_many_cancelled_backoffs_are_swept() -> None:
    bench = Bench()
    jobs = [bench.delay(100.0 + n) for n in range(80)]
    for job in jobs[:60]:
        bench.cancel(job)
    assert len(bench.waiting._delayed) < 60
    assert (bench.waiting.size, bench.waiting.delayed) == (20, 20)
    assert bench.waiting.advance(0.0) == 160.0


def test_a_key_is_blocked_until_its_time() -> None:
    bench = Bench()
    held, other = bench.push("a"), bench.push("b")
    bench.waiting.block(held.flow, 0, 6.0)
    assert bench.waiting.blocked_until() == 6.0
    assert bench.waiting.blocked_flow(bench.flows.values()) is held.flow
    assert bench.waiting.queue.head() is other
    bench.waiting.start(other)
    bench.waiting.advance(5.9)
    assert bench.waiting.queue.head() is None
    bench.waiting.advance(6.0)
    assert bench.waiting.queue.head() is held
    assert bench.waiting.blocked_until() == INFINITY
    assert bench.waiting.blocked_flow(bench.flows.values()) is None


def test_the_key_that_is_held_for_the_shortest_time() -> None:
    bench = Bench()
    bench.waiting.block(bench.flows["a"], 0, INFINITY)  # until an attempt ends
    assert bench.waiting.blocked_until() == INFINITY
    bench.waiting.block(bench.flows["b"], 0, 8.0)
    assert bench.waiting.blocked_flow(bench.flows.values()) is bench.flows["b"]


@pytest.mark.parametrize(("priority", "released"), [(0, False), (1, True)])
@pytest.mark.parametrize("how", ["pushed", "delayed"])
def test_only_a_more_urgent_job_lets_a_held_key_be_looked_at_again(
    priority: float, released: bool, how: str
) -> None:
    bench = Bench()
    bench.push("a")
    bench.waiting.block(bench.flows["a"], 0, 6.0)
    job = bench.job("a", priority)
    if how == "pushed":
        bench.waiting.push(job)
    else:
        bench.waiting.delay(job, 1.0)
        bench.waiting.advance(1.0)
    assert (bench.flows["a"].blocked_until is None) is released
    assert bench.waiting.queue.head() is (job if released else None)


def test_where_the_head_of_a_held_key_goes_the_next_is_looked_at() -> None:
    bench = Bench()
    first, second = bench.push("a"), bench.push("a")
    bench.waiting.block(first.flow, 0, 6.0)
    bench.cancel(first)
    assert bench.waiting.queue.head() is second


def test_deadlines_are_named_once_each_in_their_order() -> None:
    bench = Bench()
    jobs = [bench.push(deadline=deadline) for deadline in (9.0, 3.0, None, 5.0)]
    backing_off = bench.delay(50.0, deadline=4.0)
    bench.cancel(jobs[3])
    assert list(bench.waiting.late(2.9)) == []
    assert list(bench.waiting.late(6.0)) == [jobs[1], backing_off]
    assert list(bench.waiting.late(6.0)) == []
    bench.waiting.watch(jobs[1])
    assert list(bench.waiting.late(99.0)) == [jobs[1], jobs[0]]


def test_what_waits_by_key() -> None:
    bench = Bench()
    bench.push("b")
    bench.push("a")
    bench.delay(5.0)
    assert bench.waiting.sizes() == {bench.flows["a"]: 2, bench.flows["b"]: 1}
    assert bench.waiting.flows() == set(bench.flows.values())


def test_who_has_waited_for_long_goes_before_every_priority() -> None:
    waiting = Waiting(aging=60.0)
    flows = {key: Flow(key, 1.0, None) for key in "ab"}

    def push(number: int, key: str, priority: float, at: float) -> Job:
        job = Job(flows[key], priority)
        job.number, job.status, job.submitted_at = number, QUEUED, at
        waiting.push(job)
        return job

    first = push(1, "a", 0, 0.0)
    second = push(2, "a", 5, 1.0)
    gone = push(3, "b", 0, 2.0)
    gone.status = DONE
    waiting.remove(gone)
    third = push(4, "b", 0, 3.0)
    waiting.advance(59.9)
    assert waiting.queue.head() is second
    waiting.advance(60.0)
    assert waiting.queue.head() is first
    late = push(5, "b", 9, 60.0)
    waiting.advance(63.0)  # all of them but the last have waited a minute
    order = []
    while (job := waiting.queue.head()) is not None:
        waiting.start(job)
        job.status = DONE
        order.append(job)
    assert order == [first, third, second, late]
    assert waiting.size == waiting.queue.size == 0


def test_who_waits_for_a_backoff_grows_old_too() -> None:
    waiting = Waiting(aging=10.0)
    flow = Flow("a", 1.0, None)
    old, young = Job(flow), Job(flow, 3)
    for number, job in enumerate((old, young)):
        job.number, job.status, job.submitted_at = number, QUEUED, 0.0
    young.submitted_at = 9.0
    waiting.push(young)
    old.status = QUEUED
    waiting.push(old)
    waiting.start(old)
    waiting.queue.refund(old)
    waiting.delay(old, 12.0)
    waiting.advance(11.0)
    assert waiting.queue.head() is young
    waiting.advance(12.0)
    assert waiting.queue.head() is old
