"""Runs beside others: on their own scheduler, on a loop that others need, at its closing."""

from __future__ import annotations

import itertools

import anyio
import anyio.lowlevel
import pytest
from clocks import VirtualLoop
from inject import settle_down
from streamed import double, idle

from headway import QueueFull, Scheduler, SchedulerClosed

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]


async def test_calls_may_use_the_scheduler_that_they_run_under() -> None:
    scheduler = Scheduler("100/s", concurrency=8)

    async def outer(n: int) -> int:
        inner = await scheduler.with_options(priority=1).submit(double, n)
        return inner + await scheduler.with_options(priority=1).submit(double, n)

    with anyio.fail_after(100):
        # One slot for each outer call, and one of them must be left for the inner ones.
        async with scheduler.map(outer, range(7)) as results:
            assert [result async for result in results] == [4 * n for n in range(7)]
    assert idle(scheduler)


@pytest.mark.parametrize("name", ["map", "as_completed"])
async def test_the_body_may_use_the_scheduler_of_its_stream(name: str) -> None:
    scheduler = Scheduler("100/s", concurrency=4)
    with anyio.fail_after(100):
        async with getattr(scheduler, name)(double, range(50)) as results:
            async for _ in results:
                await scheduler.submit(double, 9)
    assert scheduler.statistics().succeeded == 100


async def test_workers_that_never_wait_let_others_run() -> None:
    scheduler, turns = Scheduler(concurrency=1000), 0

    async def nothing(n: int) -> None:
        pass

    async def other() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await settle_down()
        before = turns
        scheduler._shell.clock = itertools.count(0, 0.0001).__next__  # each look takes 0.1 ms
        scheduler._shell._current = lambda: scheduler._shell._loop
        await scheduler.map(nothing, range(500))
        group.cancel_scope.cancel()
    assert turns - before > 8


async def test_closing_waits_for_a_run_that_has_begun_and_refuses_a_new_one() -> None:
    scheduler = Scheduler("10/s", concurrency=1)
    results: list[int] = []

    async def run() -> None:
        results.extend(await scheduler.map(double, range(40)))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.sleep(0.1)
        await scheduler.aclose()
        assert results == [2 * n for n in range(40)]
    with pytest.raises(SchedulerClosed):
        await scheduler.map(double, range(3))
    assert idle(scheduler)


async def test_submit_is_refused_where_map_would_wait() -> None:
    scheduler = Scheduler("1/s", max_queue=1)
    async with anyio.create_task_group() as group:
        await scheduler.submit(double, 0)
        group.start_soon(scheduler.submit, double, 1)
        await settle_down()
        with pytest.raises(QueueFull, match=r"1 job is waiting.*use map\(\)"):
            await scheduler.submit(double, 2)
        assert await scheduler.map(double, [3]) == [6]


def test_calls_that_never_wait_leave_the_loop_to_others_every_millisecond() -> None:
    class TickingLoop(VirtualLoop):
        def time(self) -> float:
            self.now += 1e-6  # as long as a third of a job, each of which looks at it thrice
            return self.now

    async def same(n: int) -> int:
        return n

    async def main() -> tuple[int, float]:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await anyio.lowlevel.checkpoint()

        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(other)
            await Scheduler(concurrency=100).map(same, range(50_000))
            group.cancel_scope.cancel()
        return turns, anyio.current_time() - began

    turns, seconds = anyio.run(main, backend_options={"loop_factory": TickingLoop})
    assert seconds > 0.1
    assert turns > 1000 * seconds / 3
