"""Law 7: cancelled, or failing, at any moment at all, a job leaves nothing behind.

A scenario is run again and again, each time cancelled one step of the event loop later, until it
ends before it is cancelled. Others compete for the same limits meanwhile; all of theirs gets done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import anyio
import pytest
from depth import depth
from inject import BACKENDS, Boom, Status, Steps, World, attack, run
from mutants import Mutant, nothing, table, without

from headway._core.queue.job import Job
from headway._core.queue.waiting import Waiting
from headway._core.state import SchedulerState
from headway._runtime import attempt as _attempt
from headway._runtime.attempt import Attempt
from headway._runtime.lease import Lease
from headway._runtime.shell import Shell

Victim = Callable[[World], Awaitable[object]]

PATIENCE = 30.0  # virtual seconds in which everything must be done


@pytest.fixture(autouse=True)
def _no_chance(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", logger="headway")
    monkeypatch.setattr(_attempt, "random", lambda: 0.5)


async def submit(world: World) -> None:
    await world.view.submit(world.call)
    await world.view.with_options(key="slow", priority=5).submit(world.call)


async def submit_refused(world: World) -> None:
    await world.view.submit(world.flaky(429))


async def submit_failing(world: World) -> None:
    await world.view.submit(world.flaky(500))


async def submit_timed(world: World) -> None:
    timed = world.view.with_options(timeout=20, attempt_timeout=5)
    await timed.submit(world.call)


async def lease(world: World) -> None:
    for _ in range(2):
        async with world.scheduler.lease(tokens=world.COST) as permit:
            world.spent += world.COST
            await anyio.sleep(0.05)
            permit.settle(tokens=40)
            world.spent -= world.COST - 40
            await anyio.sleep(0.05)


async def map_awaited(world: World) -> None:
    assert await world.view.map(world.call, [0.1, 0.03, 0.2, 0.0]) == [0.1, 0.03, 0.2, 0.0]


async def map_stream(world: World) -> None:
    async with world.view.map(world.call, [0.1, 0.03, 0.0]) as results:
        async for _ in results:
            await anyio.sleep(0.05)


async def as_completed(world: World) -> None:
    async def seconds() -> AsyncIterator[float]:
        for n in range(3):
            await anyio.sleep(0.02)
            yield n / 20

    async with world.view.as_completed(world.call, seconds()) as outcomes:
        async for outcome in outcomes:
            assert outcome.result == outcome.item


async def gather(world: World) -> None:
    calls = [world.call(0.1), partial(world.call, 0.05), world.call(0.0)]
    assert await world.view.gather(*calls) == [0.1, 0.05, 0.0]


async def aclose(world: World) -> None:
    await world.scheduler.aclose()


async def idle(world: World) -> None:
    await world.scheduler.idle()


async def try_lease(world: World) -> None:
    for _ in range(2):
        lease = world.scheduler.try_lease(tokens=world.COST)
        while lease is None:
            await anyio.sleep(0.05)
            lease = world.scheduler.try_lease(tokens=world.COST)
        await anyio.sleep(0.05)  # cancelled here it is dropped, and costs nothing
        async with lease:
            world.spent += world.COST
            await anyio.sleep(0.05)


async def retuned_and_paused(world: World) -> None:
    scheduler = world.scheduler
    try:
        scheduler.pause()
        async with anyio.create_task_group() as group:
            group.start_soon(world.view.submit, world.call)
            await anyio.sleep(0.1)
            scheduler.set_limits("1/hour")
            scheduler.resume()
            await anyio.sleep(0.1)
            scheduler.set_limits("1200/min", concurrency=1)
            await anyio.sleep(0.1)
    finally:
        scheduler.resume()
        scheduler.set_limits("1200/min", concurrency=3)


class Shared:
    """A limiter of the application's own, in the shape of aiolimiter's."""

    max_rate, time_period = 1.0, 0.05

    def __init__(self) -> None:
        self._lock = anyio.Lock()

    async def acquire(self, amount: float = 1) -> None:
        async with self._lock:
            await anyio.sleep(self.time_period)


async def shared(world: World) -> None:
    world.scheduler.set_limits(["1200/min", Shared()])
    try:
        await submit(world)
        async with world.view.lease():
            world.spent += world.COST
    finally:
        world.scheduler.set_limits("1200/min")


async def nested(world: World) -> None:
    async def outer() -> float:
        world.spent += world.COST
        return await world.view.submit(world.call)

    await world.view.submit(outer)


async def in_front(world: World) -> None:
    """Jobs that do not fit for a minute and block, one the whole and one its key."""
    urgent = world.scheduler.with_options(priority=9)
    await world.load("slow", 9, 0)
    async with anyio.create_task_group() as group:
        for key, tokens in ((None, 6e6 - 50), ("slow", 6e5 - 50)):
            with anyio.move_on_after(0.2):
                group.start_soon(world.load, key, 0, 0.05)
                await urgent.with_options(key=key, tokens=tokens).submit(world.call)


VICTIMS: list[Victim] = [
    in_front, submit, shared, lease, submit_refused, submit_failing, submit_timed, map_awaited,
    map_stream, as_completed, gather, aclose, idle, try_lease, retuned_and_paused, nested,
]  # fmt: skip
HOWS = [("asyncio", True), ("asyncio", False), ("trio", False)]


async def cancelled_at(steps: Steps, victim: Victim, native: bool) -> None:
    world = World()
    with anyio.move_on_after(PATIENCE) as patience:
        steps.scheduler = world.scheduler
        async with anyio.create_task_group() as group:
            world.start_load(group)
            await anyio.sleep(0.01)
            await attack(steps, lambda: victim(world), native=native)
        await world.check()
    assert not patience.cancelled_caught, "not done in time: a wake-up was lost"


def cancelled_everywhere(
    victim: Victim, backend: str, native: bool, first: int = 1, stride: int = 1
) -> int:
    """Cancel `victim` `stride` steps later each time, from `first` on; how many steps it has."""
    at = first
    while True:
        steps = Steps(at)
        run(backend, cancelled_at, steps, victim, native, steps=steps)
        if not steps.hit:
            return at
        at += stride


@pytest.mark.parametrize(("backend", "native"), HOWS)
@pytest.mark.parametrize("victim", VICTIMS, ids=lambda victim: victim.__name__)
def test_cancelled_at_any_step(victim: Victim, backend: str, native: bool) -> None:
    stride = depth(4 * len(HOWS), 1)  # every fourth step in one of the ways, or each in each
    first = 4 * HOWS.index((backend, native)) % stride + 1
    assert cancelled_everywhere(victim, backend, native, first, stride) > 8


# Failures of the user's own code


class Bomb:
    """Raises `error` at its `at`-th call; callbacks of all sorts go through it."""

    def __init__(self, at: int, error: type[BaseException] = Boom) -> None:
        self.at = at
        self.error = error
        self.count = 0

    def __call__(self, value: Any = None) -> Any:
        self.count += 1
        if self.count == self.at:
            raise self.error
        return value

    @property
    def hit(self) -> bool:
        return self.count >= self.at


async def everything(world: World, bomb: Bomb) -> None:
    """Every sort of call; all that is the caller's own may blow up."""
    view = world.view

    async def call(seconds: float) -> float:
        world.spent += world.COST
        bomb()
        await anyio.sleep(seconds)
        return bomb(seconds)

    async def refused() -> None:
        world.spent += world.COST
        bomb()
        await anyio.sleep(0.01)
        world.spent -= world.COST
        raise Status(429, 0.2)

    def source() -> Iterator[float]:
        for n in range(3):
            yield bomb(n / 20)

    async def async_source() -> AsyncIterator[float]:
        for seconds in source():
            await anyio.sleep(0.01)
            yield seconds

    async with view.lease(tokens=world.COST) as permit:
        world.spent += world.COST
        bomb()
        await anyio.sleep(0.2)
        permit.settle(tokens=world.COST)
        bomb()
    await view.map(call, async_source())
    async with view.map(call, source()) as results:
        async for _ in results:
            bomb()
            await anyio.sleep(0.01)
            bomb()
    async with view.as_completed(call, async_source()) as outcomes:
        async for outcome in outcomes:
            bomb(outcome.result)
    await view.with_options(tokens=world.COST).gather(call(0.1), partial(call, 0.2))
    with pytest.raises(Status):
        await view.with_options(timeout=0.1).submit(refused)
    await view.submit(call, 0.1)


async def blown_up_at(world: World, bomb: Bomb) -> None:
    with anyio.move_on_after(PATIENCE) as patience:
        async with anyio.create_task_group() as group:
            world.start_load(group)
            await anyio.sleep(0.01)
            try:
                await everything(world, bomb)
            except bomb.error:
                assert bomb.hit
            except BaseExceptionGroup:  # what is no Exception is no job's failure: anyio wraps it
                assert bomb.error is Quit
                assert bomb.hit
        bomb.at = 0  # the rest goes well
        await world.check()
    assert not patience.cancelled_caught, "not done in time: a wake-up was lost"


class Quit(BaseException):
    """What is no `Exception`, such as `KeyboardInterrupt`."""


CALLBACKS: dict[str, Callable[[Bomb], dict[str, Any]]] = {
    "fn, source and body": lambda bomb: {},
    "tokens": lambda bomb: {"tokens": lambda *args: bomb(World.COST)},
    "usage": lambda bomb: {"usage": lambda result: bomb(World.COST)},
    "is_refused": lambda bomb: {"is_refused": lambda value: bomb(False)},
    "on_event": lambda bomb: {"on_event": bomb},
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("callbacks", CALLBACKS)
def test_an_exception_anywhere(callbacks: str, backend: str) -> None:
    strides = 3 if callbacks == "on_event" else 1  # there are many, and all of a kind
    stride = strides * depth(4 * len(BACKENDS), 1)
    at = 1 + 4 * BACKENDS.index(backend) % stride
    while True:
        bomb = Bomb(at)
        world = World(**CALLBACKS[callbacks](bomb))
        steps = Steps()
        steps.scheduler = world.scheduler
        run(backend, blown_up_at, world, bomb, steps=steps)
        if not bomb.count >= at:
            break
        at += stride
    assert at > 20


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_no_exception_anywhere(backend: str) -> None:
    stride = depth(len(BACKENDS), 1)
    for at in range(1 + BACKENDS.index(backend) % stride, 40, stride):
        bomb = Bomb(at, Quit)
        steps, world = Steps(), World()
        steps.scheduler = world.scheduler
        run(backend, blown_up_at, world, bomb, steps=steps)


# The tests above must catch these

leave, leave_lease = Shell._leave, Lease.__aexit__


def leaves_and_stays_parked(self: Shell, job: Job) -> None:
    leave(self, job)
    self.parked[job] = None


async def forgets_a_cancelled_body(
    self: Lease, kind: Any, error: BaseException | None, traceback: Any
) -> None:
    if error is None or isinstance(error, Exception):
        await leave_lease(self, kind, error, traceback)


@pytest.mark.parametrize(
    ("where", "name", "mutant", "victim"),
    table(
        ("a cancelled job stays", Attempt, "never_sent", nothing, in_front),
        ("what was never sent costs", SchedulerState, "unsend", SchedulerState.cancel, in_front),
        ("who left is parked", Shell, "_leave", leaves_and_stays_parked, in_front),
        ("no poll after what was never sent", Attempt, "never_sent",
         without(Attempt.never_sent, Shell, "poll"), in_front),
        ("a cancelled attempt stays", Attempt, "cancelled",
         without(Attempt.cancelled, SchedulerState, "cancel"), in_front),
        ("no poll after a cancellation", Attempt, "cancelled",
         without(Attempt.cancelled, Shell, "poll"), lease),
        ("no poll after a failure", Attempt, "_fail", without(Attempt._fail, Shell, "poll"), None),
        ("a cancelled body keeps its slot", Lease, "__aexit__", forgets_a_cancelled_body, lease),
        ("tokens of what was never sent", SchedulerState, "unsend",
         without(SchedulerState.unsend, SchedulerState, "_release"), in_front),
        ("the slot of what was never sent", SchedulerState, "unsend",
         without(SchedulerState.unsend, SchedulerState, "_end_attempt"), in_front),
        ("a key that stays held back", Waiting, "remove",
         without(Waiting.remove, Waiting, "unblock"), in_front),
    ),
)  # fmt: skip
def test_mutants_are_caught(
    where: type, name: str, mutant: Mutant, victim: Victim | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the one victim, or (None) by an exception of the caller's own."""
    monkeypatch.setattr(where, name, mutant)
    with pytest.raises((AssertionError, ExceptionGroup)):  # noqa: PT012
        if victim is None:
            test_an_exception_anywhere("fn, source and body", "asyncio")
        else:
            cancelled_everywhere(victim, "asyncio", native=True)
