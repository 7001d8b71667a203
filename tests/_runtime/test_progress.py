"""Showing how far a run is: by a function of the user's, and by the bars that people have."""

from __future__ import annotations

import builtins
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import rich
from inject import Boom

from headway import Advance, InvalidArgument, MissingExtra, Scheduler
from headway._runtime import progress

pytestmark = pytest.mark.anyio


async def answer(n: int) -> int:
    await anyio.sleep(n)
    if n == 2:
        raise Boom
    return n


async def numbers() -> AsyncIterator[int]:
    for n in (0, 1):
        yield n


async def test_a_function_is_told_after_each_call() -> None:
    scheduler, told = Scheduler(concurrency=9), []
    await scheduler.map(answer, range(4), return_exceptions=True, progress=told.append)
    assert told == [Advance(n + 1, 4, int(n >= 2)) for n in range(4)]
    told.clear()
    await scheduler.map(answer, numbers(), progress=told.append)
    assert told == [Advance(1, None, 0), Advance(2, None, 0)]
    told.clear()
    async with scheduler.as_completed(answer, [2, 1], progress=told.append) as outcomes:
        assert [outcome.item async for outcome in outcomes] == [1, 2]
    assert told == [Advance(1, 2, 0), Advance(2, 2, 1)]
    told.clear()
    await scheduler.gather(answer(0), lambda: answer(1), progress=told.append)
    assert told[-1] == Advance(2, 2, 0)
    told.clear()
    with pytest.raises(Boom):
        await scheduler.map(answer, [0, 2, 9], progress=told.append)
    assert told == [Advance(1, 3, 0), Advance(2, 3, 1)]


async def test_a_function_that_raises_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken(advance: Advance) -> None:
        raise Boom

    assert await Scheduler().map(answer, [0, 0, 1], progress=broken) == [0, 0, 1]
    (record,) = caplog.records
    assert record.message == "progress= raised; the run goes on, and this is told once"
    assert record.exc_info is not None


async def test_a_function_that_is_slow_is_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    await Scheduler().map(answer, [0, 0], progress=lambda advance: None)
    (record,) = caplog.records
    assert record.getMessage() == (
        "progress= took 1 s, for which nothing else could go on; this is told once. "
        "Fix: hand on what it is told, and do what takes long in a thread"
    )


def leave(advance: Advance) -> None:
    raise KeyboardInterrupt


async def mapped(scheduler: Scheduler) -> None:
    await scheduler.map(answer, [0, 9, 9], progress=leave)


async def streamed(scheduler: Scheduler) -> None:
    async with scheduler.map(answer, [0, 9, 9], progress=leave) as results:
        [_ async for _ in results]


async def completed(scheduler: Scheduler) -> None:
    async with scheduler.as_completed(answer, [0, 9, 9], progress=leave) as outcomes:
        [_ async for _ in outcomes]


@pytest.mark.parametrize("run", [mapped, streamed, completed])
async def test_an_exit_in_it_ends_the_run(run: Callable[[Scheduler], Awaitable[None]]) -> None:
    scheduler = Scheduler()
    with pytest.raises(KeyboardInterrupt):
        await run(scheduler)
    assert scheduler.statistics().in_flight == 0


async def test_a_bar_of_tqdm(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Boom):
        await Scheduler().map(answer, [0, 1, 2], progress=True)
    shown = capsys.readouterr().err
    assert "0/3" in shown
    assert "100%" in shown
    assert "failed=1" in shown
    assert shown.endswith("\n")  # it is closed
    await Scheduler().map(answer, numbers(), progress=True)
    assert "2call [" in capsys.readouterr().err


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """None of these is installed."""
    real = builtins.__import__

    def imported(name: str, *more: Any) -> Any:
        if name.partition(".")[0] in packages:
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", imported)


async def test_a_bar_of_rich_where_there_is_no_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "tqdm")
    file = io.StringIO()
    monkeypatch.setattr(rich.get_console(), "_file", file)
    with pytest.raises(Boom):
        await Scheduler().map(answer, [0, 1, 2], progress=True)
    assert "3/3" in file.getvalue()
    assert "1 failed" in file.getvalue()


async def test_where_there_is_no_bar_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, "tqdm", "rich")
    with pytest.raises(MissingExtra) as caught:
        Scheduler().map(answer, [0], progress=True)
    assert str(caught.value) == (
        "progress=True shows a bar, and neither tqdm nor rich is installed. "
        "Fix: pip install 'headway[progress]', or progress= a function."
    )


@pytest.mark.parametrize("wrong", [None, 0, 1, "bar", [], numbers])
async def test_what_cannot_be_meant(wrong: Any) -> None:
    for call in (Scheduler().map, Scheduler().as_completed):
        with pytest.raises(
            InvalidArgument, match=r"progress=.*Fix: progress=True for a bar, or a def"
        ):
            call(answer, [1], progress=wrong)
