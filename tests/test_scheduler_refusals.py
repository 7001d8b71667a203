"""Refusals, the users' words for them, and what a job ends with."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from inject import Boom, Status

from headway import Kind, Latched, Retry, Scheduler, Unavailable

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]


async def test_is_refused_is_asked_about_results_and_exceptions() -> None:
    asked: list[Any] = []

    def is_refused(value: Any) -> bool | Kind:
        asked.append(value)
        if isinstance(value, Boom):
            return Kind.CAPACITY
        return value == "slow down"

    scheduler, replies = Scheduler(is_refused=is_refused), ["slow down", Boom(), "ok"]

    async def call() -> Any:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    assert await scheduler.submit(call) == "ok"
    assert [type(value) for value in asked] == [str, Boom, str]
    assert scheduler.statistics().refused == {Kind.RATE: 1, Kind.CAPACITY: 1}


async def test_what_a_job_raised_before_it_failed_in_the_queue_is_not_lost() -> None:
    async def down() -> None:
        await anyio.sleep(0.01)
        raise ConnectionError("down")

    scheduler = Scheduler(concurrency=8, retry=Retry(patience=1))
    errors = await scheduler.map(lambda _: down(), range(20), return_exceptions=True)
    tried = [error for error in errors if isinstance(error, ConnectionError)]
    never = [error for error in errors if isinstance(error, Unavailable)]
    assert len(tried) >= 8
    assert len(tried) + len(never) == 20
    for error in tried:
        (note,) = error.__notes__
        assert "down" in note
        assert "patience=1 second is over" in note
    assert all("down" in str(error) for error in never)

    async def wrong_key() -> None:
        raise Status(401)

    async def flaky() -> None:
        raise Status(500)

    scheduler = Scheduler(retry=Retry(base=10))
    async with anyio.create_task_group() as group:

        async def backing_off() -> None:
            with pytest.raises(Latched) as caught:
                await scheduler.submit(flaky)
            assert isinstance(caught.value.__cause__, Status)

        group.start_soon(backing_off)
        await anyio.sleep(0.001)
        with pytest.raises(Status):
            await scheduler.submit(wrong_key)


async def test_a_refusal_without_a_hint_does_not_end_a_job_of_little_patience() -> None:
    answers = iter(["busy", "busy", "well"])

    async def ask() -> str:
        return next(answers)

    scheduler = Scheduler("100/s", is_refused=lambda r: r == "busy", retry=Retry(patience=0.5))
    assert await scheduler.submit(ask) == "well"


async def test_a_predicate_that_raises_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError

    caplog.set_level("ERROR", logger="headway")
    scheduler = Scheduler(is_refused=lambda reply: reply.status == 429)
    await scheduler.map(lambda _: fail(), range(5), return_exceptions=True)
    assert len(caplog.records) == 1
