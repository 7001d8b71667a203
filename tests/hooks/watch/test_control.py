"""Changes are made where the scheduler is at home, and those that were given up are not made."""

from __future__ import annotations

import threading

import anyio
import pytest
from anyio.lowlevel import checkpoint

from headway import Scheduler
from headway.hooks.watch.control import change, hand, is_at_work

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]  # a real socket


async def f(n: int) -> int:
    return n


async def test_the_loop_makes_the_change() -> None:
    scheduler = Scheduler()
    await scheduler.submit(f, 1)
    assert is_at_work(scheduler)
    made = hand(scheduler, threading.get_ident)
    assert not made.done()
    while not made.done():
        await checkpoint()
    assert made.result() == threading.get_ident()


async def test_one_that_was_given_up_is_not_made() -> None:
    scheduler = Scheduler()
    await scheduler.submit(f, 1)
    made = hand(scheduler, scheduler.pause)
    assert made.cancel()
    await anyio.wait_all_tasks_blocked()
    assert scheduler.statistics().binds != "paused"


def test_without_a_loop_a_thread_makes_it() -> None:
    scheduler = Scheduler()
    assert not is_at_work(scheduler)
    assert hand(scheduler, threading.get_ident).result(5) != threading.get_ident()


def test_what_it_raises_is_told() -> None:
    def broken() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        hand(Scheduler(), broken).result(5)


class Plain:
    """The shape of a scheduler of plain functions: any thread may call it."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def pause(self) -> None:
        self.done.append("pause")

    def clear(self, **options: object) -> None:
        self.done.append(options)


def test_one_of_plain_functions_is_called_as_it_is() -> None:
    plain = Plain()
    for request in ({"do": "pause"}, {"do": "clear"}):
        hand(plain, change(plain, int, request)).result(5)
    assert plain.done == ["pause", {}]
