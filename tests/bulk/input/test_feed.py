"""An iterator beside the event loop: its order, its errors, and how far it goes ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import aclosing

import pytest
from anyio import to_thread

from headway.bulk.input.feed import feed, still_reading

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]  # the thread is real, and so is the time

PATIENCE = 60  # seconds that nothing here takes


@pytest.mark.parametrize("count", [0, 1, 64, 65, 1000])
async def test_every_item_comes_once_and_in_order(count: int) -> None:
    assert [item async for item in feed(iter(range(count)))] == list(range(count))


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("bad"), KeyboardInterrupt()])
async def test_what_was_read_comes_before_the_error(error: BaseException) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise error

    fed = feed(items())
    assert [await anext(fed) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(type(error)) as caught:
        await anext(fed)
    assert caught.value is error


async def test_the_thread_is_ahead_by_so_many_items_and_closes_what_nobody_wants() -> None:
    taken: list[int] = []
    closed = threading.Event()
    ahead = threading.Event()

    def items() -> Iterator[int]:
        try:
            for number in range(10_000):
                taken.append(number)
                if number == 64:  # it was asked for, and waits for room
                    ahead.set()
                yield number
        finally:
            closed.set()

    async with aclosing(feed(items())) as fed:
        assert await anext(fed) == 0
        assert await to_thread.run_sync(ahead.wait, PATIENCE)
        assert len(taken) <= 66
    assert await to_thread.run_sync(closed.wait, PATIENCE)
    assert len(taken) <= 67


async def test_items_are_read_in_a_thread_of_their_own() -> None:
    def items() -> Iterator[tuple[bool, int]]:
        yield still_reading(), threading.get_ident()

    ((reading, thread),) = [item async for item in feed(items())]
    assert reading
    assert thread != threading.get_ident()
