"""The scheduler of a process, in a thread of its own: who shares it, and how it ends."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from itertools import groupby
from typing import Any

import anyio
import pytest
from echo import Echo

from headway import Limits
from headway.providers import InvalidSettings
from headway.rows import Ask
from headway.rows import _worker as worker

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]  # a real server
Make = Callable[..., Ask]


async def test_rows_of_many_tasks_share_the_limits(make: Make, echo: Echo) -> None:
    ask = make(limits=Limits(concurrency=2))
    echo.gate.clear()
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(ask, {"text": str(number)})
        for _ in range(2):
            await anyio.to_thread.run_sync(echo.arrived.acquire)
        stats = await anyio.to_thread.run_sync(ask.statistics)
        echo.gate.set()
    assert (stats.in_flight, stats.sent) == (2, 2)
    assert len(echo.asked) == 5


async def test_a_task_that_is_cancelled_takes_its_row_along(make: Make, echo: Echo) -> None:
    ask = make()
    echo.gate.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(ask, {"text": "slow"})
        await anyio.to_thread.run_sync(echo.arrived.acquire)
        group.cancel_scope.cancel()
    echo.gate.set()
    assert await ask({"text": "next"})
    stats = await anyio.to_thread.run_sync(ask.statistics)
    assert (stats.in_flight, stats.succeeded, stats.sent) == (0, 1, 2)


def test_copies_and_other_prompts_are_one_worker(make: Make) -> None:
    ask = make()
    for each in (ask, pickle.loads(pickle.dumps(ask)), make(prompt="other: {text}")):
        each.batch({"text": ["x"]})
    assert ask.statistics().sent == 3
    other = make(limits=Limits(concurrency=9))
    other.batch({"text": ["x"]})
    assert (ask.statistics().sent, other.statistics().sent) == (3, 1)


def test_close_ends_the_thread_and_the_next_row_begins_anew(make: Make) -> None:
    ask = make()
    before = threading.active_count()
    ask.batch({"text": ["x"]})
    assert threading.active_count() > before
    ask.close()
    ask.close()
    assert not any(each.name == "headway-rows" for each in threading.enumerate())
    assert ask.batch({"text": ["x"]})["answer"] == ["SAY: X"]
    assert ask.statistics().sent == 1


def test_close_cancels_what_is_in_flight(make: Make, echo: Echo) -> None:
    ask = make()
    echo.gate.clear()
    raised = []

    def wait() -> None:
        try:
            ask.batch({"text": ["x"]})
        except BaseException as error:
            raised.append(type(error).__name__)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert echo.arrived.acquire(timeout=10)
    ask.close()
    waiting.join(10)
    echo.gate.set()
    assert raised == ["CancelledError"]


def test_a_worker_that_cannot_be_made_says_why(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOGETHER_API_KEY", raising=False)
    ask = make(base_url=None, api_key=None)
    with pytest.raises(InvalidSettings, match=r"no API key.*export TOGETHER_API_KEY="):
        ask.batch({"text": ["x"]})
    with pytest.raises(InvalidSettings, match="no store that headway knows"):
        make(shared="gopher://host/x").batch({"text": ["x"]})


def test_a_setup_shows_no_secret(make: Make) -> None:
    setup = make(api_key="key-of-mine", shared="valkey://u:pass@host/x")._setup()
    assert isinstance(setup, worker.Setup)
    assert "key-of-mine" not in repr(setup)
    assert "pass" not in repr(setup)


def test_a_batch_is_as_wide_as_the_limits(make: Make, echo: Echo) -> None:
    ask = make(limits=Limits(concurrency=8))
    echo.gate.clear()
    with_answers = threading.Thread(target=ask.batch, args=({"text": ["x"] * 20},))
    with_answers.start()
    for _ in range(8):
        assert echo.arrived.acquire(timeout=10)
    echo.gate.set()
    with_answers.join()
    assert len(echo.asked) == 20


async def test_of_the_batches_that_an_engine_hands_over_at_once_some_rows_are_queued(
    make: Make, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_STANDING", 3)
    ask = make(limits="1/min")
    async with anyio.create_task_group() as group:
        for batch in range(4):
            group.start_soon(ask.abatch, {"text": [f"{batch}.{number}" for number in range(9)]})
        await anyio.to_thread.run_sync(echo.arrived.acquire)
        while (stats := await anyio.to_thread.run_sync(ask.statistics)).in_flight:
            pass
        group.cancel_scope.cancel()
    assert stats.queued <= 3


async def test_rows_of_one_batch_are_taken_before_those_of_the_next(
    make: Make, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_STANDING", 1)
    ask = make(prompt="{text}", limits=Limits(concurrency=1))
    async with anyio.create_task_group() as group:
        for batch in "abc":
            group.start_soon(ask.abatch, {"text": [batch] * 3})
    asked = [body["messages"][-1]["content"] for body in echo.asked]
    assert sorted(each * 3 for each, _ in groupby(asked)) == ["aaa", "bbb", "ccc"]


def test_no_row_is_started_before_what_sends_is_there(make: Make) -> None:
    """That takes a tenth of a second, by which starts would be late, and refused."""
    pool = worker.worker_of(make()._setup())._sender._pool
    assert pool is not None
    assert pool._inner is not None


def test_code_without_an_event_loop(make: Make, echo: Echo) -> None:
    found = make().batch({"text": [str(number) for number in range(20)]})
    assert found["answer"] == [f"SAY: {number}" for number in range(20)]
    # From within one, as in a notebook.
    assert asyncio.run(_in_a_loop(make())) == ["SAY: X"]


async def _in_a_loop(ask: Ask) -> Any:
    return ask.batch({"text": ["x"]})["answer"]
