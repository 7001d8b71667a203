"""Steering a scheduler while it runs: clear, idle, record, and a queue in which nothing waits."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest
from crowd import Crowd, Hub
from inject import Status, settle_down

from headway import Cleared, Cost, InvalidArgument, Limits, QueueFull, Rate, Scheduler
from headway.events import Ended, Event, Finished
from headway.httpx import AsyncTransport

pytestmark = pytest.mark.anyio


async def answer(value: object = None, seconds: float = 0.0) -> object:
    await anyio.sleep(seconds)
    return value


# clear


class Callers:
    """Tasks that submit, and what became of each."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.ended: list[tuple[object, object]] = []

    async def submit(self, key: object, fn: Any = answer) -> None:
        try:
            self.ended.append((key, await self.scheduler.with_options(key=key).submit(fn, key)))
        except Cleared as error:
            self.ended.append((key, error))

    async def held(self, keys: list[object], group: anyio.abc.TaskGroup) -> None:
        """Submit one of each key while nothing may start."""
        self.scheduler.pause()
        for key in keys:
            group.start_soon(self.submit, key)
        await settle_down()


async def test_clear_drops_what_is_queued_and_its_callers_are_told() -> None:
    scheduler = Scheduler("60/min", concurrency=1)
    callers = Callers(scheduler)
    async with anyio.create_task_group() as group:
        group.start_soon(callers.submit, "in flight", lambda key: answer(key, 3))
        await settle_down()
        for _ in range(3):
            group.start_soon(callers.submit, "queued")
        await settle_down()
        assert scheduler.clear() == 3
        assert (scheduler.statistics().queued, scheduler.statistics().in_flight) == (0, 1)
    *cleared, goes_on = callers.ended
    assert goes_on == ("in flight", "in flight")
    for _, error in cleared:
        assert str(error) == (
            "clear() was called while this job was queued: it was dropped, never tried. "
            "Fix: submit it again, where it is still wanted."
        )
    assert len({id(error) for _, error in cleared}) == 3
    stats = scheduler.statistics()
    assert (stats.cancelled, stats.failed, stats.succeeded) == (3, 0, 1)
    assert scheduler.clear() == 0


@pytest.mark.parametrize(
    ("key", "left"),
    [
        ({}, []),
        ({"key": "a"}, [None, "b", None]),
        ({"key": None}, ["a", "b", "a"]),
        ({"key": "nobody"}, [None, "a", "b", None, "a"]),
    ],
)
async def test_clear_of_one_key(key: dict[str, Any], left: list[object]) -> None:
    scheduler = Scheduler(keys={"a": Limits("1/min")})
    callers = Callers(scheduler)
    async with anyio.create_task_group() as group:
        await callers.held([None, "a", "b", None, "a"], group)
        assert scheduler.clear(**key) == 5 - len(left)
        scheduler.resume()
    assert sorted(map(str, (k for k, end in callers.ended if k == end))) == sorted(map(str, left))
    assert "nobody" not in scheduler.statistics().keys


async def test_clear_drops_what_waits_to_be_tried_again() -> None:
    scheduler = Scheduler()

    async def refused() -> None:
        raise Status(429, 30)

    async def clear() -> None:
        await anyio.sleep(1)
        assert scheduler.clear() == 1

    async with anyio.create_task_group() as group:
        group.start_soon(clear)
        with pytest.raises(Cleared, match="dropped, tried once before") as caught:
            await scheduler.submit(refused)
        assert isinstance(caught.value.__cause__, Status)


async def test_what_clear_drops_is_a_failure_of_its_run() -> None:
    scheduler = Scheduler("60/min")

    async def clear() -> None:
        await anyio.sleep(1.5)
        scheduler.clear()

    async with anyio.create_task_group() as group:
        group.start_soon(clear)
        *first, last = await scheduler.map(answer, range(3), return_exceptions=True)
        assert first == [0, 1] if isinstance(last, Cleared) else isinstance(first[-1], Cleared)
    with pytest.raises(InvalidArgument, match="cannot name a flow"):
        scheduler.clear(key=[])


async def test_clear_is_told_as_an_event() -> None:
    told: list[Event] = []
    scheduler = Scheduler("60/min", on_event=told.append)
    callers = Callers(scheduler)
    async with anyio.create_task_group() as group:
        await callers.held(["a"], group)
        scheduler.clear()
    await settle_down()
    assert [each.outcome for each in told if isinstance(each, Finished)] == [Ended.CLEARED]


# idle


async def test_idle_waits_for_all_that_is_queued_and_in_flight() -> None:
    scheduler, ended = Scheduler("60/min"), []

    async def idle(n: int) -> None:
        await scheduler.idle()
        ended.append(n)

    await scheduler.idle()  # at once
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(scheduler.submit, answer, 1, 2.0)
        await settle_down()
        with anyio.move_on_after(0.5):
            await idle(1)
        for n in (2, 3):
            group.start_soon(idle, n)
        await settle_down()
        assert not ended
    assert sorted(ended) == [2, 3]
    assert scheduler._shell.idle is None


# max_queue=0


async def test_where_nothing_may_wait_what_cannot_start_at_once_is_refused() -> None:
    scheduler = Scheduler("60/min", concurrency=2, max_queue=0)
    assert await scheduler.submit(answer, 1) == 1
    with pytest.raises(QueueFull) as caught:
        await scheduler.submit(answer)
    assert str(caught.value) == (
        "max_queue=0 lets no job wait, and this one cannot start at once. "
        "Fix: submit later, use map() (it waits for room), or raise max_queue."
    )
    await anyio.sleep(1.1)
    async with scheduler.lease():
        assert scheduler.statistics().queued == 0


async def test_where_nothing_may_wait_a_run_waits() -> None:
    scheduler = Scheduler("60/min", concurrency=2, max_queue=0)
    began = anyio.current_time()
    assert await scheduler.map(answer, range(4)) == [0, 1, 2, 3]
    assert anyio.current_time() - began == pytest.approx(3, abs=0.2)
    assert await scheduler.gather(answer(5), answer(6)) == [5, 6]


async def test_where_nothing_may_wait_a_refused_job_does() -> None:
    scheduler = Scheduler(concurrency=4, max_queue=0, keys={"busy": Limits()})
    statuses = [429, 429]

    async def refused() -> str:
        if statuses:
            raise Status(statuses.pop(), 5)
        return "done"

    async with anyio.create_task_group() as group:

        async def submit() -> None:
            assert await scheduler.with_options(key="busy").submit(refused) == "done"

        group.start_soon(submit)
        await settle_down()
        assert scheduler.statistics().queued == 1
        assert await scheduler.submit(answer, 1) == 1  # it passes those that cannot start
        with pytest.raises(QueueFull):
            await scheduler.with_options(key="busy").submit(answer)
        scheduler.pause()
        with pytest.raises(QueueFull):
            await scheduler.submit(answer)
        scheduler.resume()


# Under a transport


def client(scheduler: Scheduler) -> httpx.AsyncClient:
    answers = httpx.MockTransport(lambda request: httpx.Response(200))
    return httpx.AsyncClient(transport=AsyncTransport(scheduler, answers))


async def test_a_further_send_is_waited_for_where_nothing_may_wait() -> None:
    scheduler = Scheduler("60/min", max_queue=0)
    async with client(scheduler) as http:

        async def twice() -> None:
            for _ in range(2):
                await http.get("http://test")

        began = anyio.current_time()
        await scheduler.submit(twice)
        assert anyio.current_time() - began == pytest.approx(1, abs=0.1)
        with pytest.raises(QueueFull):
            await http.get("http://test")


async def test_clear_drops_requests_and_leaves_a_further_send_alone() -> None:
    scheduler = Scheduler("60/min")
    async with client(scheduler) as http, anyio.create_task_group() as group:
        dropped: list[Cleared] = []

        async def request() -> None:
            try:
                await http.get("http://test")
            except Cleared as error:
                dropped.append(error)

        async def twice() -> None:
            for _ in range(2):
                await http.get("http://test")

        group.start_soon(scheduler.submit, twice)
        await settle_down()
        group.start_soon(request)
        await settle_down()
        assert scheduler.statistics().queued == 2
        assert scheduler.clear() == 1
        await scheduler.idle()
        assert len(dropped) == 1
        assert scheduler.statistics().sent == 2


# record


async def test_what_was_used_elsewhere_is_counted_here() -> None:
    scheduler = Scheduler(
        "60/min", input_tokens="1000/min", output_tokens="1000/min", keys={"a": Limits("6/min")}
    )
    scheduler.record(tokens=Cost(input=400, output=100), requests=3)
    stats = scheduler.statistics()
    assert {each.what: each.used for each in stats.limits} == {
        "requests": None, "input_tokens": 400, "output_tokens": 100,
    }  # fmt: skip
    assert (stats.tokens, stats.input_tokens, stats.output_tokens) == (500, 400, 100)
    assert (stats.sent, stats.in_flight, stats.succeeded) == (0, 0, 0)
    began = anyio.current_time()
    await scheduler.with_options(tokens=0).submit(answer)
    assert anyio.current_time() - began == pytest.approx(3, abs=0.1)
    scheduler.record(key="a")
    await scheduler.with_options(tokens=0, key="a").submit(answer)
    assert anyio.current_time() - began == pytest.approx(13, abs=0.2)
    assert scheduler.statistics().keys["a"].tokens == 0


async def test_what_was_used_elsewhere_holds_back_what_waits() -> None:
    scheduler, began = Scheduler("60/min", tokens="600/min"), anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(scheduler.with_options(tokens=1).submit, answer)
        await settle_down()
        scheduler.with_options(key="b").record(tokens=600)
    assert anyio.current_time() - began == pytest.approx(60, rel=0.05)
    assert scheduler.statistics().keys["b"].tokens == 600


async def test_a_lease_that_is_dropped_later_takes_nothing_back_of_it() -> None:
    scheduler = Scheduler("60/min")
    lease = scheduler.try_lease()
    assert lease is not None
    scheduler.record(requests=5)
    del lease
    await settle_down()
    assert scheduler.would_wait() == pytest.approx(6, abs=0.2)


async def test_what_was_used_elsewhere_counts_in_quotas() -> None:
    scheduler = Scheduler("1000/day", tokens="5000/day")
    scheduler.record(tokens=100, requests=0)
    scheduler.record(requests=40)
    assert {each.what: each.used for each in scheduler.statistics().limits} == {
        "requests": 40, "tokens": 100,
    }  # fmt: skip


async def test_what_was_used_elsewhere_takes_the_starts_of_a_shared_limiter() -> None:
    class Limiter:
        max_rate, time_period = 1.0, 1.0

        async def acquire(self, amount: float = 1) -> None:
            await anyio.sleep(1)

    scheduler, began = Scheduler([Limiter()]), anyio.current_time()
    scheduler.record(requests=2)
    await scheduler.submit(answer)
    assert anyio.current_time() - began == pytest.approx(3)


async def test_what_was_used_elsewhere_is_shared() -> None:
    crowd = Crowd(2, Hub(1), requests="60/min", tokens="600000/min")
    first, second = (worker.scheduler for worker in crowd.workers)
    await first.submit(answer)
    first.record(requests=3, tokens=1000)
    began = anyio.current_time()
    await first.submit(answer)
    assert anyio.current_time() - began == pytest.approx(4, abs=0.5)
    await second.submit(answer)
    for scheduler in (first, second):
        await scheduler.aclose()
    assert "1000" in str(crowd.hub.state())


async def test_a_window_is_kept_with_what_was_sent_elsewhere() -> None:
    scheduler = Scheduler(Rate(10, per=10, burst=3))
    scheduler.record(requests=2)
    began = anyio.current_time()
    await scheduler.submit(answer)
    assert anyio.current_time() == began
    await scheduler.submit(answer)
    assert anyio.current_time() - began == pytest.approx(1.25, abs=0.3)
