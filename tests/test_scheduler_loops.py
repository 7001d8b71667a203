"""The scheduler and event loops: one after another, idle or not, of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
from inject import answer, counts, run, settle_down
from packages import of_dev

from headway import DeadlineExceeded, Limits, Scheduler, WrongLoop

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]

now = anyio.current_time

pytest_plugins = ["pytester"]


def test_a_scheduler_moves_between_loops_while_idle() -> None:
    scheduler = Scheduler("1/min", tokens="600/min")

    async def once() -> None:
        async with scheduler.lease(tokens=100):
            pass

    def seconds() -> float:
        stats = scheduler.statistics()
        assert stats.binds == "requests"
        return stats.seconds

    asyncio.run(once())
    assert 59 < seconds() <= 61.5
    for loop in ("trio", "asyncio", "trio"):

        async def again() -> None:
            with anyio.move_on_after(0):
                await once()
            # What was sent on the other loop still counts on this one's clock.
            assert 58 < seconds() <= 61.5
            assert scheduler._shell.state.whole.budgets[0].total == 100

        anyio.run(again, backend=loop)
    assert counts(scheduler) == (0, 0, 1)


def test_on_clocks_that_jump_it_moves_too() -> None:
    scheduler = Scheduler("1/s")
    for backend in ("asyncio", "trio", "asyncio"):
        run(backend, scheduler.submit, answer)
    assert counts(scheduler) == (0, 0, 3)


async def test_a_second_loop_with_work_pending_is_an_error() -> None:
    scheduler, errors = Scheduler("1/s"), []

    def elsewhere() -> None:
        uses: list[Callable[[], Any]] = [
            lambda: scheduler.submit(answer),
            lambda: scheduler.with_options(timeout=1).submit(answer),
            lambda: scheduler.map(answer, [1])._collect(),
            lambda: scheduler.gather(answer()),
            scheduler.aclose,
        ]
        for use in uses:
            for go in (asyncio.run, lambda call: trio.run(lambda: call)):
                with pytest.raises(WrongLoop) as caught:
                    go(use())
                errors.append(str(caught.value))
        for act in (scheduler.pause, scheduler.resume, scheduler.reset):
            with pytest.raises(WrongLoop):
                act()
        with pytest.raises(WrongLoop):
            scheduler.set_limits("9/s")
        assert scheduler.limits == Limits("1/s")

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(scheduler.submit, anyio.sleep, 1)
        await settle_down()
        with ThreadPoolExecutor() as threads:
            threads.submit(elsewhere).result()
    assert len(errors) == 10
    assert "at work on another event loop (1 in flight, 1 queued)" in errors[0]
    assert "Fix: a headway.sync.Scheduler" in errors[0]
    await scheduler.submit(answer)  # and it is as it was, not closed
    assert counts(scheduler) == (0, 0, 3)


async def test_an_idle_scheduler_may_be_set_from_any_thread() -> None:
    scheduler = Scheduler("1/hour")
    await scheduler.submit(answer)
    with ThreadPoolExecutor() as threads:
        threads.submit(scheduler.set_limits, "10/s").result()
    began = now()
    await scheduler.submit(answer)
    assert now() - began < 0.2


def test_uvloop() -> None:
    uvloop = of_dev("uvloop")
    scheduler = Scheduler("6000/min", concurrency=4)

    async def main() -> None:
        assert len(await scheduler.map(answer, range(8))) == 8
        with pytest.raises(DeadlineExceeded):
            await scheduler.with_options(timeout=0.5).submit(anyio.sleep, 60)

    anyio.run(main, backend_options={"use_uvloop": True})
    assert uvloop
    assert counts(scheduler) == (0, 0, 9)


def test_under_pytest_asyncio(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio
        import pytest, pytest_asyncio
        from headway import Scheduler

        shared = Scheduler("60000/min", concurrency=4)  # of a module, for all tests

        async def ask(n):
            await asyncio.sleep(0)
            return n

        @pytest_asyncio.fixture
        async def scheduler():
            async with Scheduler("60000/min") as scheduler:
                yield scheduler

        @pytest.mark.asyncio
        @pytest.mark.parametrize("n", range(3))
        async def test_shared(n):
            assert await shared.map(ask, range(10)) == list(range(10))
            assert await shared.submit(ask, n) == n

        @pytest.mark.asyncio
        async def test_fixture(scheduler):
            async with scheduler.map(ask, range(5)) as results:
                assert [r async for r in results] == list(range(5))

        @pytest.mark.asyncio
        async def test_cancelled():
            task = asyncio.create_task(shared.submit(asyncio.sleep, 60))
            await asyncio.sleep(0.02)
            assert shared.statistics().in_flight == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert shared.statistics().in_flight == 0

        @pytest.mark.asyncio
        async def test_left_behind():
            task = asyncio.create_task(shared.submit(asyncio.sleep, 60))
            shared.left = task
            await asyncio.sleep(0.02)  # the end of the loop cancels it

        @pytest.mark.asyncio
        async def test_after_that():
            assert await shared.gather(ask(1), ask(2)) == [1, 2]
        """
    )
    done = pytester.runpytest_inprocess(
        "-q", "-W", "error", "-p", "no:cov", "-p", "no:langsmith_plugin",
        "-o", "asyncio_default_fixture_loop_scope=function",
    )  # fmt: skip
    done.assert_outcomes(passed=7)


def test_a_loop_that_was_closed_with_jobs_pending_does_not_hold_the_scheduler() -> None:
    scheduler = Scheduler(concurrency=1)
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(scheduler.submit(asyncio.sleep, 100)) for _ in range(3)]
    loop.run_until_complete(asyncio.sleep(0.01))
    assert (scheduler.statistics().in_flight, scheduler.statistics().queued) == (1, 2)
    loop.close()
    assert asyncio.run(scheduler.submit(asyncio.sleep, 0, "alive")) == "alive"
    for task in tasks:  # what a garbage collector would do, in its own time
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()  # type: ignore[union-attr]
    assert (scheduler.statistics().in_flight, scheduler.statistics().queued) == (0, 0)
    assert asyncio.run(scheduler.submit(asyncio.sleep, 0, "alive")) == "alive"
