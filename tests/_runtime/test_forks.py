"""A forked process has its parent's schedulers: every call says so, and none changes them."""

from __future__ import annotations

import gc
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

import headway
import headway.sync
from headway.errors import WrongLoop
from headway.httpx import AsyncTransport, Transport

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


TOLD = (
    "this Scheduler was made in the process that this one was forked from: both would send up to "
    "the whole limits. Fix: make one in each process, after the fork"
)


async def nothing() -> None:
    pass


async def each(items: Any) -> None:
    async with items as stream:
        async for _ in stream:
            pass


COMMON: dict[str, Callable[[Any], Any]] = {
    "pause": lambda s: s.pause(),
    "resume": lambda s: s.resume(),
    "reset": lambda s: s.reset(),
    "clear": lambda s: s.clear(),
    "clear of a key": lambda s: s.clear(key="unknown"),
    "set_limits": lambda s: s.set_limits("1/s"),
    "statistics": lambda s: s.statistics(),
    "record": lambda s: s.record(tokens=1),
    "would_wait": lambda s: s.would_wait(),
    "try_lease": lambda s: s.try_lease(),
    "idle": lambda s: s.idle(),
}
ASYNC = COMMON | {
    "submit": lambda s: s.submit(nothing),
    "submit of a view": lambda s: s.with_options(timeout=1).submit(nothing),
    "limit": lambda s: s.limit(nothing)(),
    "lease": lambda s: s.lease().__aenter__(),
    "map": lambda s: s.map(nothing, [1]).__aenter__(),
    "as_completed": lambda s: each(s.as_completed(nothing, [1])),
    "gather": lambda s: s.gather(nothing),
    "enter": lambda s: s.__aenter__(),
    "transport": AsyncTransport,
}
SYNC = COMMON | {
    "submit": lambda s: s.submit(len, "a"),
    "submit of a view": lambda s: s.with_options(timeout=1).submit(len, "a"),
    "limit": lambda s: s.limit(len)("a"),
    "lease": lambda s: s.lease().__enter__(),
    "map": lambda s: list(s.map(len, ["a"])),
    "as_completed": lambda s: list(s.as_completed(len, ["a"])),
    "gather": lambda s: s.gather(dict),
    "aio": lambda s: s.aio.submit(nothing),
    "transport": Transport,
}


async def silent(scheduler: Any, calls: dict[str, Callable[[Any], Any]]) -> list[str]:
    """The names of those `calls` that do not say that the process was forked."""
    quiet = []
    for name, call in calls.items():
        try:
            result = call(scheduler)
            if inspect.isawaitable(result):
                await result
            quiet.append(name)
        except WrongLoop as error:
            if not str(error).startswith(TOLD):
                quiet.append(f"{name}: {error}")
    return quiet


def in_a_fork(check: Callable[[], object]) -> None:
    """Call `check` in a process that is forked here; what it raises is printed and fails."""
    child = os.fork()
    if not child:
        status = 1
        try:
            if threading.current_thread() is threading.main_thread():
                signal.set_wakeup_fd(-1)  # which an event loop of the parent's may have set
            check()
            gc.collect()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_every_call_of_the_async_face_tells(backend: str, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    unused = headway.Scheduler("10/s")
    used = headway.Scheduler("10/s", concurrency=1, memory=memory)

    async def at_work() -> None:
        async with used.lease():
            with anyio.move_on_after(0.01):
                await used.submit(nothing)
            await anyio.to_thread.run_sync(in_a_fork, idle)

    def idle() -> None:
        before = memory.read_bytes() if memory.exists() else b""
        anyio.run(tell, backend=backend)
        assert (memory.read_bytes() if memory.exists() else b"") == before

    async def tell() -> None:
        for scheduler in (unused, used):
            assert await silent(scheduler, ASYNC) == []
            await scheduler.aclose()

    anyio.run(used.submit, nothing, backend=backend)
    in_a_fork(idle)
    anyio.run(used.submit, nothing, backend=backend)  # and here it is as it was
    anyio.run(at_work, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_job_that_forks_ends_in_the_child_without_a_trace(backend: str) -> None:
    events: list[Any] = []
    used = headway.Scheduler("10/s", concurrency=1, on_event=events.append)

    async def forks() -> None:
        in_a_fork(lambda: None)
        if not (child := os.fork()):
            raise ConnectionError  # which would be tried again
        ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))  # noqa: ASYNC222

    ended: list[int] = []
    parent = os.getpid()

    async def main() -> None:
        try:
            await used.submit(forks)
        except ConnectionError:
            assert os.getpid() != parent
            os._exit(0)
        finally:
            if os.getpid() != parent:
                os._exit(1)
        await used.submit(nothing)

    anyio.run(main, backend=backend)
    assert ended == [0]
    assert used.statistics().succeeded == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_every_call_of_the_sync_face_tells(backend: str) -> None:
    unused, used = headway.sync.Scheduler("10/s"), headway.sync.Scheduler("10/s", concurrency=1)

    async def tell() -> None:
        for scheduler in (unused, used):
            assert await silent(scheduler, SYNC) == []
            scheduler.close()

    with used.lease():
        in_a_fork(lambda: anyio.run(tell, backend=backend))
    assert used.submit(len, "a") == 1
    used.close()


def test_a_client_of_the_parent_tells_in_the_child() -> None:
    scheduler = headway.sync.Scheduler("10/s")
    transport = Transport(scheduler, httpx.MockTransport(lambda _: httpx.Response(200)))
    with httpx.Client(transport=transport) as http:
        assert http.get("http://provider").status_code == 200

        def tell() -> None:
            with pytest.raises(WrongLoop, match="forked from"):
                http.get("http://provider")

        in_a_fork(tell)
        assert http.get("http://provider").status_code == 200
    scheduler.close()


def test_limits_that_are_shared_make_a_fork_another_worker(tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/shared.db"
    shared = headway.Scheduler("100/s", concurrency=2, shared=where)

    async def held() -> None:
        async with shared.lease():
            in_a_fork(lambda: None)

    async def works() -> None:
        await shared.submit(nothing)
        statistics = shared.statistics()
        assert (statistics.in_flight, statistics.queued) == (0, 0)
        await shared.aclose()

    anyio.run(held)
    in_a_fork(lambda: anyio.run(works))
    anyio.run(works)


def test_a_sync_one_that_shares_is_told_to_share_again() -> None:
    scheduler = headway.sync.Scheduler("10/s", shared="forked")
    scheduler._shell.of_parent = True
    with pytest.raises(WrongLoop, match=r"its thread is there\. Fix: .* with the same shared=\."):
        scheduler.submit(len, "a")
