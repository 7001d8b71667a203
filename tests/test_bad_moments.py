"""Calls at a moment at which none can be made, and what fails in the middle of one."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from misuse import WAYS, ask, use

from headway import QueueFull, Scheduler, SchedulerClosed, WrongLoop

pytestmark = pytest.mark.anyio


# When and where it is used


async def test_more_jobs_than_max_queue() -> None:
    scheduler = Scheduler(concurrency=1, max_queue=2)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(scheduler.submit, ask)
        await anyio.sleep(0.1)
        with pytest.raises(QueueFull) as caught:
            await scheduler.submit(ask)
        assert str(caught.value) == (
            "2 jobs are waiting, which is max_queue: more are submitted than the limits let "
            "through. Fix: submit later, use map() (it waits for room), or raise max_queue."
        )
        assert await scheduler.map(ask, range(3)) == [0, 1, 2]  # waits for room


@pytest.mark.parametrize("way", WAYS)
async def test_after_aclose(way: str) -> None:
    scheduler = Scheduler()
    async with scheduler:
        await scheduler.submit(ask)
    with pytest.raises(SchedulerClosed) as caught:
        await use(scheduler, way)
    assert str(caught.value) == (
        "this Scheduler is closed: aclose() was called. Fix: make a new Scheduler, or close it "
        "later."
    )
    await scheduler.aclose()  # again, for nothing


WRONG_LOOP = (
    "this Scheduler is at work on another event loop (1 in flight, 1 queued) and was used from a "
    "second one. Fix: a headway.sync.Scheduler, which many loops and threads may use at once; or "
    "use this one again when its work is done."
)


def in_a_thread(act: Callable[[], object]) -> BaseException | None:
    """What `act` raises in a thread of its own."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


CHANGES = ["pause", "resume", "reset", "set_limits"]


@pytest.mark.parametrize("way", [*WAYS, "aclose", *CHANGES])
async def test_from_a_second_loop_or_thread_with_work_pending(way: str) -> None:
    scheduler = Scheduler(concurrency=1)
    acts: list[Callable[[], object]] = [lambda: asyncio.run(use(scheduler, way))]
    if way in CHANGES:  # in a thread with no loop at all, too
        acts.append(lambda: use(scheduler, way).send(None))
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(scheduler.submit, ask)
        await anyio.sleep(0.1)
        for act in acts:
            error = in_a_thread(act)
            assert isinstance(error, WrongLoop)
            assert str(error) == WRONG_LOOP
        # Nothing has changed, and the work goes on.
        assert scheduler.limits.concurrency == 1
        assert scheduler.statistics().binds == "concurrency"
    assert scheduler.statistics().succeeded == 2


async def test_from_a_second_loop_while_idle() -> None:
    scheduler = Scheduler(concurrency=1)
    assert await scheduler.submit(ask, 1) == 1
    answers: list[object] = []

    async def use() -> None:
        answers.append(await scheduler.with_options(timeout=9).submit(anyio.sleep, 0))

    assert in_a_thread(lambda: asyncio.run(use())) is None
    assert answers == [None]
    assert await scheduler.submit(ask, 2) == 2


@pytest.mark.parametrize("options", [{}, {"timeout": 5}])
def test_with_no_event_loop_at_all(options: dict[str, Any]) -> None:
    scheduler = Scheduler("1/min")
    scheduler.set_limits("2/min")
    scheduler.pause()
    scheduler.resume()
    scheduler.reset()
    assert scheduler.statistics().queued == 0
    with pytest.raises(RuntimeError, match="Not currently running on any asynchronous event loop"):
        scheduler.with_options(**options).submit(ask).send(None)  # type: ignore[attr-defined]
    assert scheduler.statistics().in_flight == 0


# Whatever is wrong, the slot comes back


class Broken:
    """A limiter of the application's that fails."""

    max_rate = 1.0
    time_period = 1.0

    def __init__(self) -> None:
        self.calls = 0

    async def acquire(self, amount: float = 1) -> None:
        self.calls += 1
        if self.calls % 2:
            raise ValueError("Can't acquire more than the maximum capacity")


@pytest.mark.parametrize("way", WAYS)
async def test_a_shared_limiter_that_fails(way: str) -> None:
    limiter = Broken()
    scheduler = Scheduler(limiter, concurrency=1)
    with pytest.raises(ValueError, match="maximum capacity"):
        await use(scheduler, way)
    statistics = scheduler.statistics()
    assert (statistics.in_flight, statistics.queued, statistics.sent) == (0, 0, 0)
    assert await scheduler.submit(ask, "next") == "next"
    assert scheduler.statistics().in_flight == 0


async def test_a_usage_that_fails_is_the_callers_error() -> None:
    scheduler = Scheduler(concurrency=1)
    view = scheduler.with_options(usage=lambda reply: reply.usage.total_tokens)
    with pytest.raises(AttributeError):
        await view.submit(ask, "no usage here")
    assert scheduler.statistics().in_flight == 0
    assert await scheduler.submit(ask, "next") == "next"


@pytest.mark.parametrize("used", ["12", -1, math.nan, math.inf, True, 1e16])
async def test_a_usage_that_is_no_count_is_charged_to_nobody(used: Any) -> None:
    scheduler = Scheduler(tokens="1k/s", concurrency=1)
    view = scheduler.with_options(tokens=100, usage=lambda reply: used)
    with pytest.raises(TypeError) as caught:
        await view.submit(ask)
    assert str(caught.value) == (
        f"usage= returned {used!r}, which is no count of tokens. Fix: a finite number from 0, or "
        "None where it is not known."
    )
    assert (scheduler.statistics().in_flight, scheduler.statistics().tokens) == (0, 0.0)
    assert await scheduler.with_options(tokens=900).submit(ask, "next") == "next"


@pytest.mark.parametrize("used", ["12", -1, math.nan, math.inf, 1e16, 10**400])
async def test_a_result_that_states_no_usable_usage_states_none(used: Any) -> None:
    async def answer() -> object:
        return {"usage": {"total_tokens": used}}

    scheduler = Scheduler(tokens="1k/s", concurrency=1)
    await scheduler.with_options(tokens=100).submit(answer)
    assert scheduler.statistics().tokens == 0.0
    assert await scheduler.with_options(tokens=900).submit(ask, "next") == "next"


async def as_completed(scheduler: Scheduler, items: Any) -> None:
    async with scheduler.as_completed(ask, items) as outcomes:
        async for _ in outcomes:
            pass


async def test_a_source_that_fails() -> None:
    def source() -> Any:
        yield 1
        raise KeyError("row 2")

    scheduler = Scheduler(concurrency=2)
    with pytest.raises(KeyError, match="row 2"):
        await scheduler.map(ask, source())
    with pytest.raises(KeyError, match="row 2"):
        await as_completed(scheduler, source())
    assert scheduler.statistics().in_flight == 0
