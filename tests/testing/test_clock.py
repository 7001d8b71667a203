"""Virtual time: hours pass, hangs and sockets are told, and headway's own clock follows."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio

from headway import InvalidArgument, MissingExtra, Scheduler, sync
from headway.testing import NoRealSockets, NothingWakes, VirtualLoop, virtual_backend, virtual_clock
from headway.testing.clock import BACKENDS, Follower

RUNS: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "asyncio.run": lambda main: asyncio.run(main()),
    "anyio on asyncio": anyio.run,
    "trio.run": lambda main: trio.run(main),
    "anyio on trio": lambda main: anyio.run(main, backend="trio"),
}


@pytest.mark.parametrize("name", RUNS)
def test_an_hour_of_limits_takes_no_time(name: str) -> None:
    async def main() -> list[int]:
        scheduler = Scheduler("60/h")

        async def same(n: int) -> int:
            return n

        return await scheduler.map(same, range(61))

    with virtual_clock() as clock:
        assert RUNS[name](main) == list(range(61))
    assert clock.loops == 1
    assert 3600 <= clock.elapsed < 3800


def test_afterwards_loops_are_real_again_and_a_chosen_clock_is_kept() -> None:
    with virtual_clock() as clock:
        trio.run(trio.sleep, 0.0, clock=trio.testing.MockClock(rate=1000))
        assert clock.loops == 0
    made: list[Any] = []

    async def look() -> None:
        made.append(asyncio.get_running_loop())

    asyncio.run(look())
    assert not isinstance(made[0], VirtualLoop)
    assert trio.run.__module__ != "functools"
    assert clock.elapsed == 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("address", ["localhost", "127.0.0.1"])
def test_a_real_socket_is_an_error_and_no_timeout(backend: Any, address: str) -> None:
    async def main() -> None:
        with anyio.fail_after(5):
            await anyio.connect_tcp(address, 9)

    name, options = virtual_backend(backend)
    with pytest.raises((NoRealSockets, ExceptionGroup)) as caught:
        anyio.run(main, backend=name, backend_options=options)
    found = caught.value
    error = found.exceptions[0] if isinstance(found, ExceptionGroup) else found
    assert str(error) == (
        "a real socket was asked for under a virtual clock, on which every timeout is over before "
        "a byte has come. Fix: let the client send to a FakeProvider's transport(), or take the "
        "test off the virtual clock."
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_real_socket_is_told_first_and_not_below_the_group_of_who_opens_it(
    backend: Any,
) -> None:
    async def main() -> None:
        await anyio.connect_tcp("127.0.0.1", 9)

    with pytest.raises(NoRealSockets) as caught, virtual_clock():
        anyio.run(main, backend=backend)
    assert "main" in [entry.name for entry in caught.traceback]
    both = ExceptionGroup("", [caught.value, ValueError("a bug of the test's")])
    with pytest.raises(ExceptionGroup) as kept, virtual_clock():
        raise both
    assert kept.value is both


@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside a thread"])
def test_what_would_hang_says_where(others: bool) -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    if others:
        thread.start()
    try:
        with virtual_clock(), pytest.raises(NothingWakes) as caught:
            asyncio.run(stuck())
    finally:
        done.set()
    assert str(caught.value).startswith(
        "every task waits, no timer is set, and nothing else could wake one: Task-"
    )
    assert "stuck, " in str(caught.value)
    assert __file__ in str(caught.value)


def test_no_task_is_looked_at_for_threads_that_have_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        await anyio.to_thread.run_sync(time.sleep, 0.01)
        monkeypatch.setattr("headway.testing.clock._is_in", None)  # to walk all that they await
        await anyio.sleep(3600)

    anyio.run(main, backend_options={"loop_factory": VirtualLoop})


def test_a_thread_may_still_wake_a_task() -> None:
    async def main() -> None:
        await anyio.to_thread.run_sync(time.sleep, 0.01)

    with virtual_clock() as clock:
        asyncio.run(main())
    assert clock.elapsed == 0


def test_a_backend_that_is_none() -> None:
    with pytest.raises(InvalidArgument) as caught:
        virtual_backend("curio")  # type: ignore[arg-type]
    assert str(caught.value) == (
        '\'curio\' is no event loop that anyio knows. Fix: "asyncio" or "trio".'
    )


def test_without_trio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.testing.clock.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install trio$"):
        virtual_backend("trio")


def test_a_follower_goes_on_over_loops_and_never_back() -> None:
    follower = Follower()
    seen = []

    async def look(seconds: float) -> None:
        seen.append(follower.now())
        await anyio.sleep(seconds)
        seen.append(follower.now())

    with virtual_clock():
        asyncio.run(look(100))
        anyio.run(look, 50, backend="trio")
        asyncio.run(look(7))
    first, *rest = (at - seen[0] for at in seen)
    assert [first, *rest] == pytest.approx([0, 100, 100, 150, 150, 157])
    real = follower.now()
    assert seen[-1] <= real <= follower.now() < seen[-1] + 60


def test_a_follower_reads_the_machines_clock_on_real_loops_and_in_threads() -> None:
    follower = Follower()
    before = time.monotonic()

    async def look() -> float:
        return follower.now()

    found = [follower.now(), asyncio.run(look()), trio.run(look), follower.now()]
    assert found == sorted(found)
    assert before <= found[0] <= found[-1] <= time.monotonic()


def test_a_follower_never_runs_back_between_a_virtual_clock_and_a_thread() -> None:
    follower = Follower()
    seen = []

    async def main() -> None:
        for _ in range(2):
            seen.append(follower.now())
            seen.append(await anyio.to_thread.run_sync(follower.now))
            await anyio.sleep(100)

    with virtual_clock():
        asyncio.run(main())
    assert seen == sorted(seen)
    assert seen[-1] - seen[0] >= 100


def test_the_threads_of_a_sync_scheduler_keep_real_time_on_which_nothing_jumps() -> None:
    with virtual_clock() as clock, sync.Scheduler("1000/s") as scheduler:
        assert [*scheduler.map(abs, [-1, -2, -3])] == [1, 2, 3]
    assert (clock.loops, clock.elapsed) == (0, 0.0)


def work(begun: threading.Event, go_on: threading.Event) -> str:
    begun.set()
    return "done" if go_on.wait(10) else "alone"


async def in_asyncios_thread(fn: Callable[..., str], *args: Any) -> str:
    return await asyncio.wait_for(asyncio.to_thread(fn, *args), 5)


async def in_anyios_thread(fn: Callable[..., str], *args: Any) -> str:
    with anyio.fail_after(5):
        return await anyio.to_thread.run_sync(fn, *args, abandon_on_cancel=True)


async def in_trios_thread(fn: Callable[..., str], *args: Any) -> str:
    with trio.fail_after(5):
        return await trio.to_thread.run_sync(fn, *args, abandon_on_cancel=True)


THREADS = [
    ("asyncio", in_asyncios_thread), ("asyncio", in_anyios_thread), ("trio", in_anyios_thread),
    ("trio", in_trios_thread),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "in_thread"), THREADS)
def test_the_clock_does_not_jump_over_a_thread_that_is_awaited(
    backend: Any, in_thread: Callable[..., Any]
) -> None:
    def blocks() -> str:
        time.sleep(0.02)
        return "done"

    async def main() -> None:
        assert await in_thread(blocks) == "done"
        await anyio.sleep(3600)  # and jumps again

    name, options = virtual_backend(backend)
    anyio.run(main, backend=name, backend_options=options)


@pytest.mark.parametrize(("backend", "in_thread"), THREADS)
def test_a_thread_that_waits_for_a_task_is_no_deadlock(
    backend: Any, in_thread: Callable[..., Any]
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def main() -> None:
        async def later() -> None:
            await anyio.sleep(0.05)
            go_on.set()

        async with anyio.create_task_group() as group:
            group.start_soon(later)
            assert await in_thread(work, begun, go_on) == "done"

    name, options = virtual_backend(backend)
    anyio.run(main, backend=name, backend_options=options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_thread_that_is_awaited_for_too_long_is_given_up(backend: Any) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def main() -> None:
        with anyio.move_on_after(0.05) as scope:
            await anyio.to_thread.run_sync(work, begun, go_on, abandon_on_cancel=True)
        assert scope.cancelled_caught
        await anyio.sleep(3600)  # nobody waits for it any more: the clock jumps
        go_on.set()

    name, options = virtual_backend(backend)
    anyio.run(main, backend=name, backend_options=options)
