"""What threads and tasks wait for, set from another thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest

from headway.sync._waiters import Abandoned, CommonFlag, LoopWaiter, ThreadWaiter, TimeOver


def in_thread(act: Any) -> None:
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


def test_a_thread_goes_on_when_it_is_set_before_or_after() -> None:
    waiter = ThreadWaiter()
    waiter.set()
    waiter.set()  # twice, for nothing
    waiter.wait()
    timer = threading.Timer(0.01, waiter.set)
    timer.start()
    waiter.wait(10)
    timer.join()


@pytest.mark.parametrize("seconds", [0.001, 0, -1])
def test_a_thread_waits_no_longer_than_it_may(seconds: float) -> None:
    with pytest.raises(TimeOver):
        ThreadWaiter().wait(seconds)


def test_an_abandoned_thread_waits_for_nothing_any_more() -> None:
    waiter = ThreadWaiter()
    timer = threading.Timer(0.01, waiter.abandon)
    timer.start()
    for _ in range(2):
        with pytest.raises(Abandoned):
            waiter.wait()
    timer.join()


@pytest.mark.anyio
async def test_a_task_goes_on_when_another_thread_sets_it() -> None:
    lost: list[bool] = []
    waiter = LoopWaiter(lambda: lost.append(True))
    in_thread(waiter.set)
    with anyio.fail_after(5):
        await waiter
    assert not lost


@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_task_whose_loop_has_ended_is_lost() -> None:
    lost: list[bool] = []

    async def make() -> LoopWaiter:
        return LoopWaiter(lambda: lost.append(True))

    waiter = asyncio.run(make())
    waiter.set()
    assert lost == [True]


@pytest.mark.anyio
async def test_a_flag_lets_tasks_and_threads_go_on() -> None:
    flag, waiter = CommonFlag(), ThreadWaiter()
    flag.add(waiter)
    assert not flag.is_set()
    async with anyio.create_task_group() as group:
        group.start_soon(flag.wait)
        await anyio.sleep(0.01)
        in_thread(flag.set)
    waiter.wait(1)
    await flag.wait()  # set already
    late = ThreadWaiter()
    flag.add(late)
    late.wait(1)
    assert flag.is_set()
