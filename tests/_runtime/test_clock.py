"""Which loop an object belongs to, its clock, and what it carries to the next loop."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import anyio
import pytest
from inject import BACKENDS, run, settle_down

from headway._runtime.clock import LoopClock


class Clock(LoopClock):
    """Says what it was told: how it moved, and whether its loop was lost."""

    def __init__(self) -> None:
        super().__init__()
        self.moves: list[float] = []
        self.lost: list[bool] = []
        self.busy = False

    def _check_idle(self, *, lost: bool) -> None:
        if self.busy:
            raise RuntimeError("busy")
        self.lost.append(lost)

    def _moved(self, seconds: float) -> None:
        self.moves.append(seconds)


@pytest.mark.parametrize("backend", BACKENDS)
def test_its_time_is_the_loops(backend: str) -> None:
    clock = Clock()

    async def look() -> None:
        assert clock.now() == anyio.current_time()
        await anyio.sleep(5)
        assert clock.now() == clock.time() == clock.clock() == anyio.current_time()
        assert len(clock.moves) == 1  # it belongs to this loop already

    run(backend, look)
    assert clock.time() > 0  # outside, as far as it is known


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_loop_is_told_how_far_its_clock_is(backend: str) -> None:
    clock = Clock()
    run(backend, _now, clock)
    run(backend, _sleep_and_now, clock, 500.0)
    before, after = clock.time(), 0.0

    async def third() -> None:
        nonlocal after
        after = clock.now()

    run(backend, third)
    assert len(clock.moves) == 3
    # What it carries over is as far from now as it was.
    assert clock.moves[-1] == pytest.approx(after - before, abs=1.0)
    assert clock.lost[1:] == [backend == "asyncio"] * 2  # trio's ends nothing half done


async def _now(clock: Clock) -> None:
    clock.now()


async def _sleep_and_now(clock: Clock, seconds: float) -> None:
    clock.now()
    await anyio.sleep(seconds)
    clock.now()


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_that_is_at_work_does_not_move(backend: str) -> None:
    clock = Clock()
    run(backend, _now, clock)
    clock.busy = True
    with pytest.raises(RuntimeError, match="busy"):
        run(backend, _now, clock)
    assert len(clock.moves) == 1


def test_outside_a_loop_there_is_no_now() -> None:
    with pytest.raises(anyio.NoEventLoopError):
        Clock().now()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", ["soon", "next_turn"])
def test_the_loop_calls_back(backend: str, how: str) -> None:
    clock, called = Clock(), []

    async def look() -> None:
        clock.now()
        getattr(clock, how)(lambda: called.append(threading.current_thread()))
        assert called == []
        await settle_down()
        assert called == [threading.main_thread()]

    run(backend, look)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", ["soon", "next_turn"])
def test_what_an_ended_loop_cannot_call_the_next_one_does(backend: str, how: str) -> None:
    clock, called = Clock(), []
    run(backend, _now, clock)
    getattr(clock, how)(lambda: called.append(clock.clock()))
    assert called == []
    run(backend, _now, clock)
    assert len(called) == 1
    run(backend, _now, clock)
    assert len(called) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_task_of_the_loops_own_can_be_cancelled(backend: str) -> None:
    clock = Clock()
    done: list[str] = []

    async def work(name: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        done.append(name)

    async def look() -> None:
        clock.now()
        clock.spawn(lambda: work("kept", 1.0))
        cancel = clock.spawn(lambda: work("cancelled", 2.0))
        await anyio.sleep(1.5)
        cancel()
        await anyio.sleep(5)

    run(backend, look)
    assert done == ["kept"]
    assert not clock._tasks


def test_the_clock_of_an_ordinary_loop_is_the_systems() -> None:
    async def look(clock: Clock) -> Any:
        clock.now()
        return clock.clock

    assert asyncio.run(look(Clock())) is time.monotonic
