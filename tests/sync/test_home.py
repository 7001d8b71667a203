"""The event loop of its own thread: its timer, its tasks, and every way to its end."""

from __future__ import annotations

import gc
import threading
import time

import anyio

from headway.sync import _home
from headway.sync._home import Home


class Tenant:
    def __init__(self) -> None:
        self.ticked = threading.Event()

    def tick(self) -> None:
        self.ticked.set()


def alive() -> int:
    return sum(thread.name == "headway" for thread in threading.enumerate())


def test_it_ticks_at_the_last_moment_that_it_was_told() -> None:
    tenant = Tenant()
    home = Home(tenant)
    home.wake_at(time.monotonic() + 1000)
    assert not tenant.ticked.is_set()
    home.wake_at(time.monotonic())
    assert tenant.ticked.wait(5)
    assert not home.here
    home.end()


def test_its_tasks_are_cancelled_from_any_thread_and_at_its_end() -> None:
    home = Home(tenant := Tenant())
    begun, ended = threading.Semaphore(0), threading.Semaphore(0)

    async def work() -> None:
        begun.release()
        try:
            await anyio.sleep(1000)
        finally:
            ended.release()

    cancel = home.run(work())
    assert begun.acquire(timeout=5)
    cancel()
    assert ended.acquire(timeout=5)
    home.run(work())
    assert begun.acquire(timeout=5)
    home.end()
    assert ended.acquire(timeout=5)
    assert not tenant.ticked.is_set()


def test_after_its_end_nothing_happens() -> None:
    home = Home(tenant := Tenant())
    home.end()
    assert home.ended
    assert alive() == 0
    home.soon(lambda: 1 / 0)
    home.wake_at(0)

    async def work() -> None:
        raise AssertionError

    assert not home.run(work())()
    assert not tenant.ticked.is_set()


def test_a_tenant_that_is_garbage_ends_it() -> None:
    tenant = Tenant()
    home = Home(tenant)
    home.wake_at(time.monotonic() + 1000)
    del tenant
    gc.collect()
    home._thread.join(5)
    assert not home._thread.is_alive()
    Home(other := Tenant()).end()  # the next one clears away what is left of it
    assert home not in _home._HOMES
    assert other
