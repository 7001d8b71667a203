"""Events: frozen values, one for each thing that happens, in the order in which it does."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest
from inject import Boom, Status, settle_down

from headway import Kind, Retry, Scheduler, events
from headway.events import Ended, Event, Finished, Queued, Refused, Retrying, Started


def kinds() -> list[type[Event]]:
    return Event.__subclasses__()


def test_each_is_public_frozen_and_says_when() -> None:
    assert {kind.__name__ for kind in kinds()} == {
        name for name in events.__all__ if isinstance(getattr(events, name), type)
    } - {"Binds", "Ended", "Event", "Kind", "LimitName"}
    for kind in kinds():
        assert next(iter(dataclasses.fields(kind))).name == "at"
        assert kind.__doc__


def test_they_are_values() -> None:
    one, other = (Started(1.5, 7, "chat", 1, 0.25, 30.0) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.at = 2.0  # type: ignore[misc]


def test_an_end_is_its_word() -> None:
    assert [*map(str, Ended)] == [
        "ok", "cancelled", "timed_out", "unavailable", "latched", "never_fits", "cleared",
    ]  # fmt: skip
    assert not set(Ended) & {str(kind) for kind in Kind}  # an outcome is one or the other


@pytest.mark.anyio
async def test_a_job_is_told_from_its_queue_to_its_end() -> None:
    heard: list[Event] = []
    scheduler = Scheduler("100/s", concurrency=1, on_event=heard.append)
    answers: list[Any] = [Status(429, 2.0), "fine"]

    async def call() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    await scheduler.with_options(key="chat", priority=4).submit(call)
    await settle_down()
    told = [event for event in heard if isinstance(event, (Queued, Started, Refused, Retrying,
                                                           Finished))]  # fmt: skip
    assert [type(event) for event in told] == [
        Queued, Started, Refused, Retrying, Started, Finished,
    ]  # fmt: skip
    queued, started, refused, retrying, again, finished = told
    began = queued.at
    assert queued == Queued(began, 1, "chat", 4)
    assert started == Started(began, 1, "chat", 1, 0.0, 0.0)
    assert isinstance(refused, Refused)
    assert (refused.kind, refused.status, refused.wait, refused.episode) == (Kind.RATE, 429, 2.0, 1)
    assert isinstance(retrying, Retrying)
    assert retrying.not_before >= began
    assert isinstance(again, Started)
    assert again.attempt == 2
    assert again.at >= began + 2
    assert isinstance(finished, Finished)
    assert (finished.attempts, finished.outcome, finished.at) == (2, Ended.OK, again.at)


@pytest.mark.anyio
async def test_a_job_that_failed_ends_with_the_kind_of_its_failure() -> None:
    heard: list[Event] = []
    scheduler = Scheduler("100/s", retry=Retry(attempts=1), on_event=heard.append)

    async def call() -> None:
        raise Boom

    with pytest.raises(Boom):
        await scheduler.submit(call)
    await settle_down()
    (finished,) = (event for event in heard if isinstance(event, Finished))
    assert finished.outcome is Kind.PERMANENT
