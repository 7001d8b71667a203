"""A run: items are taken one by one, as far as the slots and the consumer let it; then it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest
from inject import Boom, settle_down

from headway import Scheduler
from headway._core.queue.job import Job
from headway._runtime import workers as module
from headway._runtime.calls import Options
from headway._runtime.workers import Workers

pytestmark = pytest.mark.anyio


class Bench:
    """A run whose outcomes are kept, by the index of their item."""

    def __init__(self, items: object, call: Callable[[Any], Any], **limits: Any) -> None:
        self.scheduler = Scheduler(**limits)
        self.shell = self.scheduler._shell
        self.call = call
        self.outcomes: dict[int, Any] = {}
        self.run = Workers(self.shell, Options(), self._execute, items, self._deliver)

    async def _execute(self, job: Job, args: Any) -> Any:
        return await self.shell.run(Options(), self.call, job, args)

    def _deliver(self, index: int, item: Any, job: Any, result: Any, error: Any) -> None:
        self.outcomes[index] = error or result
        self.run.wake()

    async def to_the_end(self) -> None:
        async with anyio.create_task_group() as group:
            self.run.start(group)


async def double(item: int) -> int:
    await anyio.sleep(1)
    return 2 * item


async def from_a_file(items: list[int], log: list[str]) -> AsyncIterator[int]:
    try:
        for item in items:
            await anyio.lowlevel.checkpoint()
            yield item
    finally:
        log.append("closed")


@pytest.mark.parametrize("kind", ["list", "generator", "async generator"])
async def test_every_item_is_called_once(kind: str) -> None:
    log: list[str] = []
    items: Any = list(range(25))
    if kind == "generator":
        items = iter(items)
    elif kind == "async generator":
        items = from_a_file(items, log)
    bench = Bench(items, double, concurrency=10)
    began = anyio.current_time()
    await bench.to_the_end()
    assert bench.outcomes == {n: 2 * n for n in range(25)}
    assert anyio.current_time() - began == pytest.approx(3, abs=0.01)  # ten at a time
    assert bench.run.done
    assert bench.run.error is None
    assert log == (["closed"] if kind == "async generator" else [])


async def test_a_failure_is_an_outcome_of_its_item() -> None:
    async def call(item: int) -> int:
        if item == 1:
            raise Boom("mine")
        return item

    bench = Bench([0, 1, 2], call, concurrency=1)
    await bench.to_the_end()
    assert isinstance(bench.outcomes.pop(1), Boom)
    assert bench.outcomes == {0: 0, 2: 2}
    assert bench.run.error is None


async def test_a_source_that_raises_ends_the_run() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise Boom("of the source")

    bench = Bench(items(), double, concurrency=4)
    await bench.to_the_end()
    assert isinstance(bench.run.error, Boom)
    assert bench.run.taken == 1
    assert bench.run.done


async def test_no_more_is_taken_than_the_consumer_leaves_room_for() -> None:
    async def call(item: int) -> int:
        return item

    bench = Bench(iter(range(10_000)), call, concurrency=2)
    bench.run.open_window()
    window = bench.run.window
    assert window == 2 * 2 + module._STANDING_BY
    async with anyio.create_task_group() as group:
        bench.run.start(group)
        await anyio.sleep(1)
        assert bench.run.taken == window
        for _ in range(int(window)):
            bench.run.consume()
        await anyio.sleep(1)
        assert bench.run.taken == 2 * window
        bench.run.stop()
    assert len(bench.outcomes) == 2 * window


async def test_as_many_workers_as_slots_and_some_where_others_compete() -> None:
    bench = Bench([], double, concurrency=5)
    assert bench.run.slots() == 5
    bench.shell.state.counters.in_flight = 1  # somebody else's
    assert bench.run.slots() == 5 + module._STANDING_BY
    assert Bench([], double).run.slots() == module.MOST_WORKERS


async def test_stopped_it_cancels_what_runs_and_takes_no_more() -> None:
    bench = Bench(iter(range(100)), double, concurrency=3)
    first = Boom("first")
    async with anyio.create_task_group() as group:
        bench.run.start(group)
        await anyio.sleep(0.5)
        bench.run.stop(first)
        bench.run.stop(Boom("second"))
    assert bench.run.error is first
    assert (bench.outcomes, bench.run.taken) == ({}, 3)
    assert bench.scheduler.statistics().cancelled == 3


async def test_the_consumer_is_woken_by_outcomes_and_by_the_end() -> None:
    bench = Bench([1, 2], double, concurrency=1)
    began, woken = anyio.current_time(), []
    async with anyio.create_task_group() as group:
        bench.run.start(group)
        while not bench.run.done:
            await bench.run.changed()
            woken.append(round(anyio.current_time() - began))
    assert woken[0] == 1
    assert woken[-1] == 2


async def test_an_interrupt_ends_the_run_and_is_the_callers() -> None:
    async def call(item: int) -> int:
        if item == 2:
            raise KeyboardInterrupt
        return await double(item)

    bench = Bench(iter(range(9)), call, concurrency=3)
    await bench.to_the_end()
    assert isinstance(bench.run.error, KeyboardInterrupt)
    assert bench.outcomes == {}
    await settle_down()
    assert bench.scheduler.statistics().in_flight == 0


async def test_what_closing_the_source_raises_is_kept() -> None:
    async def items() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise Boom("of the close")

    bench = Bench(items(), double, concurrency=2)
    async with anyio.create_task_group() as group:
        bench.run.start(group)
        await anyio.sleep(0.5)
        bench.run.stop()
    assert isinstance(bench.run.unclosed, Boom)


@pytest.mark.parametrize("items", [3, None, object()])
def test_items_are_an_iterable(items: object) -> None:
    with pytest.raises(TypeError, match="Fix: a list, a generator, a range, or an async generator"):
        Bench(items, double)
