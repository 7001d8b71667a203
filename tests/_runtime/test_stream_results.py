"""A run that ends early keeps what was done; and a `Map` is a coroutine object."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import trio
from clocks import VirtualLoop
from inject import BACKENDS, Boom, run

from headway import AlreadyUsed, Cleared, InvalidArgument, Scheduler

NOTE = (
    "headway: {} items were done. `results_so_far` of this error, and of the run, has their "
    "results by the index of the item: to go on, run the others."
)


async def answer(seconds: float) -> float:
    """What takes `seconds`; 13 fails after 3."""
    await anyio.sleep(3 if seconds == 13 else seconds)
    if seconds == 13:
        raise Boom
    return seconds


async def endless() -> AsyncIterator[float]:
    for seconds in (1, 13, 2, 4):
        yield seconds


# What was done before it ended


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("items", "count"), [([1, 13, 2, 4], "2 of 4"), (endless, "2")])
def test_a_failure_carries_the_results_so_far(items: Any, count: str, backend: str) -> None:
    async def main() -> None:
        made = Scheduler(concurrency=9).map(answer, items() if callable(items) else items)
        with pytest.raises(Boom) as caught:
            await made
        assert caught.value.results_so_far == {0: 1, 2: 2}  # type: ignore[attr-defined]
        assert made.results_so_far == {0: 1, 2: 2}
        assert caught.value.__notes__ == [NOTE.format(count)]

    run(backend, main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_tells_how_many_its_consumer_has_taken(backend: str) -> None:
    async def main() -> None:
        made = Scheduler(concurrency=9).map(answer, [1, 13, 2, 4])
        with pytest.raises(Boom) as caught:  # noqa: PT012 - a stream is entered and looped over
            async with made as results:
                async for _ in results:
                    pass
        assert caught.value.results_so_far == {2: 2}  # type: ignore[attr-defined]
        assert caught.value.__notes__ == [
            "headway: 2 of 4 items were done. `results_so_far` of this error, and of the run, has "
            "the results that were not taken yet (the first 1 were), by the index of the item: to "
            "go on, run the others."
        ]

    run(backend, main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_goes_on_with_the_others(backend: str) -> None:
    async def main() -> None:
        scheduler, items, results = Scheduler(concurrency=9), [1, 13, 2, 4], {}
        try:
            await scheduler.map(answer, items)
        except Boom as error:
            results = error.results_so_far  # type: ignore[attr-defined]
        rest = [index for index in range(len(items)) if index not in results]
        more = await scheduler.map(lambda index: answer(7 if index == 1 else items[index]), rest)
        results.update(zip(rest, more, strict=True))
        assert [results[index] for index in range(4)] == [1, 7, 2, 4]

    run(backend, main)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("exit_of", [KeyboardInterrupt, SystemExit])
def test_an_exit_of_a_call_carries_them(exit_of: type[BaseException], backend: str) -> None:
    async def leaves(seconds: float) -> float:
        await anyio.sleep(seconds)
        if seconds == 2:
            raise exit_of
        return seconds

    async def main() -> None:
        with pytest.raises(exit_of) as caught:
            await Scheduler(concurrency=9).map(leaves, [3, 1, 2])
        assert caught.value.results_so_far == {1: 1}  # type: ignore[attr-defined]

    run(backend, main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cancelled_run_keeps_them(backend: str) -> None:
    async def main() -> None:
        made, seen = Scheduler(concurrency=9).map(answer, [5, 1, 2]), []
        with anyio.move_on_after(2.5):
            try:
                await made
            except anyio.get_cancelled_exc_class() as error:
                seen.append(error)
                raise
        assert made.results_so_far == {1: 1, 2: 2}
        assert seen[0].results_so_far == {1: 1, 2: 2}

    run(backend, main)


def test_the_cancellation_of_a_task_is_the_same_object() -> None:
    async def main() -> None:
        task = asyncio.create_task(Scheduler(concurrency=9).map(answer, [5, 1]))
        await asyncio.sleep(2)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ("enough",)
        assert caught.value.results_so_far == {1: 1}  # type: ignore[attr-defined]
        with pytest.raises(TimeoutError) as late:
            async with asyncio.timeout(2):
                await Scheduler(concurrency=9).map(answer, [5, 1])
        assert late.value.__cause__.results_so_far == {1: 1}  # type: ignore[union-attr]

    run("asyncio", main)


def test_ctrl_c_leaves_them_with_the_run() -> None:
    made = Scheduler(concurrency=9).map(interrupted, [1, 2, 3])
    with asyncio.Runner(loop_factory=VirtualLoop) as runner, pytest.raises(KeyboardInterrupt):
        runner.run(made)
    assert made.results_so_far == {0: 1}


async def interrupted(seconds: float) -> float:
    """Ctrl-C at 2."""
    await anyio.sleep(seconds)
    if seconds == 2:
        signal.raise_signal(signal.SIGINT)
        await anyio.sleep(1)
    return seconds


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_carries_what_was_not_taken(backend: str) -> None:
    async def main() -> None:
        made, taken = Scheduler(concurrency=9).map(answer, [1, 13, 2, 4]), []

        async def take() -> None:
            async with made as results:
                async for result in results:
                    taken.append(result)  # noqa: PERF401 - those before it fails

        with pytest.raises(Boom) as caught:
            await take()
        assert taken == [1]
        assert caught.value.results_so_far == {2: 2}  # type: ignore[attr-defined]
        assert len(caught.value.__notes__) == 1

    run(backend, main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_run_that_failed_before_anything_was_done_says_nothing(backend: str) -> None:
    async def main() -> None:
        scheduler = Scheduler("60/min")
        with pytest.raises(Boom) as caught:
            await scheduler.map(answer, [13])
        assert caught.value.results_so_far == {}  # type: ignore[attr-defined]
        assert not hasattr(caught.value, "__notes__")
        scheduler.pause()
        made = scheduler.gather(lambda: answer(0), lambda: answer(0))
        async with anyio.create_task_group() as group:

            async def clear() -> None:
                await anyio.sleep(1)
                scheduler.clear()

            group.start_soon(clear)
            with pytest.raises(Cleared):
                await made

    run(backend, main)


class Closed(Exception):
    """Takes no attributes."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


def test_an_error_that_takes_no_attributes_is_raised_as_it_is() -> None:
    async def closed(n: int) -> int:
        await anyio.sleep(n)
        if n:
            raise Closed
        return n

    async def main() -> None:
        made = Scheduler().map(closed, [0, 1])
        with pytest.raises(Closed):
            await made
        assert made.results_so_far == {0: 0}

    run("asyncio", main)


# A coroutine object


def test_asyncio_takes_a_map_as_it_is() -> None:
    scheduler = Scheduler(concurrency=9)
    assert asyncio.iscoroutine(made := scheduler.map(answer, [0]))
    assert asyncio.run(made) == [0]

    async def main() -> None:
        assert await asyncio.create_task(scheduler.map(answer, [1, 2])) == [1, 2]
        assert await asyncio.gather(scheduler.map(answer, [1]), scheduler.map(answer, [2])) == [
            [1],
            [2],
        ]
        assert await asyncio.wait_for(scheduler.map(answer, [1]), 5) == [1]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(scheduler.map(answer, [3]))
        assert task.result() == [3]
        never = asyncio.create_task(scheduler.map(answer, [1]))
        never.cancel()  # before its first step
        with pytest.raises(asyncio.CancelledError):
            await never

    run("asyncio", main)


def test_other_runners_take_a_function() -> None:
    scheduler = Scheduler()
    assert anyio.run(lambda: scheduler.map(answer, [0]), backend="trio") == [0]

    async def main() -> list[float]:
        return await scheduler.map(answer, [0])

    assert trio.run(main) == [0]


@pytest.mark.filterwarnings("error")
def test_a_map_that_nobody_awaits_is_nothing() -> None:
    made = Scheduler().map(answer, [1])
    made.close()
    with pytest.raises(Boom):
        made.throw(Boom())
    del made


def test_a_map_is_used_once() -> None:
    async def main() -> None:
        made = Scheduler().map(answer, [0])
        assert await made == [0]
        with pytest.raises(AlreadyUsed):
            await made
        with pytest.raises(AlreadyUsed):
            async with made:
                pass

    run("asyncio", main)


def test_a_map_is_no_call_and_no_items() -> None:
    scheduler = Scheduler()

    async def main() -> None:
        for use in (
            lambda made: scheduler.gather(made),
            lambda made: scheduler.submit(made),
            lambda made: scheduler.map(made, [1]),
            lambda made: scheduler.map(answer, made),
        ):
            with pytest.raises(InvalidArgument) as caught:
                await use(scheduler.map(answer, [1]))
            assert "coroutine object" not in str(caught.value)

    run("asyncio", main)


@pytest.mark.parametrize("name", ["map", "as_completed"])
def test_a_run_that_nobody_awaited_is_told(name: str, caplog: pytest.LogCaptureFixture) -> None:
    gc.collect()  # those of other tests
    caplog.clear()
    getattr(Scheduler(), name)(answer, [1])
    gc.collect()
    (said,) = caplog.messages
    assert said.startswith(f"a {name}() was never awaited nor entered, and nothing was called. Fix")
    assert f"`async with scheduler.{name}(fn, items) as" in said


def test_a_run_that_was_closed_or_refused_was_not_forgotten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gc.collect()  # those of other tests
    caplog.clear()
    Scheduler().map(answer, [1]).close()
    with pytest.raises(InvalidArgument):
        Scheduler().map(answer, 7)  # type: ignore[arg-type, call-overload]
    with pytest.raises(InvalidArgument):
        aiter(Scheduler().as_completed(answer, [1]))  # type: ignore[arg-type]
    gc.collect()
    assert caplog.messages == []
