"""Who makes a port's calls: a store that is never there, that refuses, and a process that forks."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

import anyio
import pytest

from headway import Scheduler
from headway.errors import Unavailable
from headway.events import SharedChanged
from headway.providers import InvalidSettings
from headway.shared.ledger import step
from headway.shared.stores import Calls, Replies, StoreAway

pytestmark = pytest.mark.anyio


class Memory:
    """A store in this process; `fails` is what a call raises."""

    where = "memory"

    def __init__(self, fails: Exception | None = None) -> None:
        self.fails = fails
        self.state: dict[str, Any] | None = None
        self.workers: list[str] = []
        self.opened = 1
        self.closed = False

    async def call(self, calls: Calls) -> Replies:
        if self.fails is not None:
            raise self.fails
        replies: Replies = {}
        for name, call in calls.items():
            self.workers.append(call["id"])
            self.state, replies[name] = step(self.state, call, anyio.current_time())
        return replies

    def again(self) -> Memory:
        self.opened += 1
        return self

    async def aclose(self) -> None:
        self.closed = True


def scheduler(store: Memory, **options: Any) -> Scheduler:
    with mock.patch("headway.shared.sharing.open_store", return_value=(store, "acme")):
        return Scheduler("60/min", shared="acme", **options)


async def call() -> str:
    return "done"


async def test_a_store_that_was_never_reached_fails_jobs_in_ten_seconds() -> None:
    events: list[Any] = []
    away = StoreAway("connection refused", "open the door.")
    shared = scheduler(Memory(away), on_event=events.append)
    began = anyio.current_time()
    with pytest.raises(
        Unavailable, match=r" memory were not reached in 10 s: connection refused\. Fix: open"
    ):
        await shared.submit(call)
    assert 10 <= anyio.current_time() - began < 11
    lost = [event for event in events if isinstance(event, SharedChanged)]
    assert [(event.what, event.why) for event in lost] == [("lost", "connection refused")]
    with anyio.fail_after(1):
        await shared.aclose()


async def test_a_store_that_refuses_fails_jobs_at_once_until_it_is_mended() -> None:
    store = Memory(InvalidSettings("the store at memory refuses the password", fix="correct it."))
    shared = scheduler(store)
    for _ in range(3):
        with pytest.raises(InvalidSettings, match="refuses the password"):
            await shared.submit(call)
    store.fails = None
    await anyio.sleep(1.1)
    assert await shared.submit(call) == "done"
    await shared.aclose()
    assert store.closed


async def test_a_forked_process_is_another_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Memory()
    shared = scheduler(store)
    assert await shared.submit(call) == "done"
    first = {*store.workers}
    pid = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: pid)
    assert await shared.submit(call) == "done"
    assert len(first) == 1
    assert len({*store.workers}) == 2
    assert store.opened == 2


async def test_a_worker_that_leaves_is_forgotten_and_what_it_held_is_free() -> None:
    store = Memory()
    async with scheduler(store, concurrency=2) as shared:
        assert await shared.submit(call) == "done"
        assert store.state is not None
        assert len(store.state["workers"]) == 1
    assert store.state["workers"] == {}
