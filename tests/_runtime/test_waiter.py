"""What a parked caller waits for: set once, awaited by one task, cancelled without a trace."""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable

import anyio
import pytest
from inject import settle_down

from headway._runtime.waiter import Waiter, asyncio_waiters, trio_waiters

pytestmark = pytest.mark.anyio


@pytest.fixture
def make(anyio_backend_name: str) -> Callable[[], Callable[[], Waiter]]:
    def waiters() -> Callable[[], Waiter]:
        if anyio_backend_name == "trio":
            return trio_waiters()
        return asyncio_waiters(get_running_loop())

    return waiters


async def test_one_that_was_set_before_is_not_waited_for(
    make: Callable[[], Callable[[], Waiter]],
) -> None:
    waiter = make()()
    assert not waiter.is_set()
    waiter.set()
    waiter.set()
    assert waiter.is_set()
    began = anyio.current_time()
    await waiter
    assert anyio.current_time() == began


async def test_a_task_goes_on_when_it_is_set_and_not_before(
    make: Callable[[], Callable[[], Waiter]],
) -> None:
    waiter, woken = make()(), []

    async def wait() -> None:
        await waiter
        woken.append(anyio.current_time())

    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(3)
        assert woken == []
        waiter.set()
        waiter.set()  # a second time, before its task has run
    assert woken == [pytest.approx(began + 3)]


async def test_a_wait_can_be_cancelled_and_a_late_set_wakes_nobody(
    make: Callable[[], Callable[[], Waiter]],
) -> None:
    waiter = make()()
    with anyio.move_on_after(2) as scope:
        await waiter
    assert scope.cancelled_caught
    waiter.set()
    assert waiter.is_set()
    await settle_down()


async def test_each_is_its_own(make: Callable[[], Callable[[], Waiter]]) -> None:
    waiters = make()
    first, second = waiters(), waiters()
    first.set()
    await first
    assert not second.is_set()


@pytest.mark.parametrize(("after", "was_set"), [(2, True), (4, False)])
async def test_a_wait_may_have_an_end(
    make: Callable[[], Callable[[], Waiter]], after: float, was_set: bool
) -> None:
    waiter = make()()
    began = anyio.current_time()

    async def later() -> None:
        await anyio.sleep(after)
        waiter.set()

    async with anyio.create_task_group() as group:
        group.start_soon(later)
        assert await waiter.until(began + 3) is was_set
        assert anyio.current_time() == pytest.approx(began + min(after, 3))


async def test_a_moment_that_has_passed_is_not_waited_for(
    make: Callable[[], Callable[[], Waiter]],
) -> None:
    waiters = make()
    began = anyio.current_time()
    assert not await waiters().until(began - 1)
    waiter = waiters()
    waiter.set()
    assert await waiter.until(began - 1)
    assert anyio.current_time() == began


async def test_a_wait_with_an_end_can_be_cancelled_and_leaves_no_timer(
    make: Callable[[], Callable[[], Waiter]],
) -> None:
    waiter = make()()
    began = anyio.current_time()
    with anyio.move_on_after(2) as scope:
        await waiter.until(began + 100)
    assert scope.cancelled_caught
    waiter.set()
    await settle_down()
    assert anyio.current_time() == pytest.approx(began + 2)
