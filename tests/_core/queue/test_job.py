"""A job, its key, and the queue of the key: the oldest that is still wanted is its head."""

from __future__ import annotations

from heapq import heappush
from typing import Any

import pytest

from headway import Limits
from headway._core.queue.job import DONE, NEW, QUEUED, Flow, Job, KeyQueue


def job(number: int, status: int = QUEUED) -> Job:
    made = Job(Flow(None, 1.0, None))
    made.number = number
    made.status = status
    return made


def queue_of(waiting: list[Job], returned: list[Job]) -> KeyQueue:
    made = KeyQueue(Flow(None, 1.0, None), 0.0)
    made.jobs.extend(waiting)
    for each in returned:
        heappush(made.returned, (each.number, each))
    return made


def test_a_new_job_holds_nothing() -> None:
    made = Job(Flow("a", 1.0, None), 2, 30.0, 5.0, True)
    assert (made.status, made.attempts, made.slots) == (NEW, 0, 1)
    assert (made.priority, made.cost, made.deadline, made.guessed) == (2, 30.0, 5.0, True)
    assert made.key_queue is made.charges is made.waiter is made.last_error is None


def test_a_flow_learns_what_its_attempts_use() -> None:
    flow = Flow("a", 1.0, Limits("60/min"))
    assert flow.mean is None
    for used, mean in ((100.0, 100.0), (200.0, 110.0), (0.0, 99.0)):
        flow.learn(used)
        assert flow.mean == pytest.approx(mean)
    assert flow.limits is not None
    assert flow.limits.key == "a"


@pytest.mark.parametrize(
    ("waiting", "returned", "first"),
    [
        ([], [], None),
        ([3, 4], [], 3),
        ([3, 4], [2], 2),  # one that came back has its old place
        ([3, 4], [5, 7], 3),
        ([], [7, 5], 5),
    ],
)
@pytest.mark.parametrize("ask", [KeyQueue.head, KeyQueue.peek])
def test_the_head_is_the_oldest(
    waiting: list[int],
    returned: list[int],
    first: int | None,
    ask: Any,
) -> None:
    found = ask(queue_of([*map(job, waiting)], [*map(job, returned)]))
    assert (None if found is None else found.number) == first


def test_those_that_were_cancelled_are_passed_over_and_a_peek_drops_none() -> None:
    waiting, returned = [job(1, DONE), job(4, DONE), job(5)], [job(2, DONE), job(6)]
    made = queue_of(waiting, returned)
    made.dead = 3
    assert made.size == 2
    assert made.peek() is waiting[2]
    assert (len(made.jobs), len(made.returned), made.dead) == (3, 2, 3)
    assert made.head() is waiting[2]
    assert (len(made.jobs), len(made.returned), made.dead, made.size) == (1, 1, 0, 2)
    made.pop(waiting[2])
    assert made.head() is returned[1]
    made.pop(returned[1])
    assert made.head() is None
    assert made.size == 0


def test_a_queue_of_mostly_cancelled_jobs_is_swept() -> None:
    jobs = [job(number) for number in range(60)]
    back = [job(number) for number in range(60, 70)]
    made = queue_of(jobs, back)
    for each in [*jobs[5:40], back[0]]:
        each.status = DONE
        made.bury()
    assert made.dead < 33  # those of them that came after the sweep, at most
    assert len(made.jobs) + len(made.returned) < 70
    assert made.size == 34
    assert made.head() is jobs[0]
    assert [number for number, _ in made.returned] == sorted(n for n, _ in made.returned)
