"""A hook is called around jobs and attempts, where they are called; what it raises costs nobody."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hook import Recorder, refuse_once

from headway import Cleared, InvalidArgument, QueueFull, Retry, Scheduler
from headway._core import state
from headway.events import Event, Finished, Queued, Started
from headway.hooks.around import Around

pytestmark = pytest.mark.anyio

WHERE: ContextVar[str] = ContextVar("where", default="nowhere")


async def ask(n: int) -> int:
    return n


async def test_a_job_begins_and_each_attempt_is_entered_failed_and_left() -> None:
    hook = Recorder()
    scheduler = Scheduler("100/s", on_event=hook)
    assert await scheduler.submit(refuse_once(429), 7) == 7
    assert hook.seen == [
        "begin 1", "enter 1", "failed 1 rate 429", "Retrying 1", "leave 1",
        "enter 1", "Finished 1 ok", "leave 1",
    ]  # fmt: skip
    assert hook.scheduler is scheduler


async def test_a_lease_is_one_attempt_and_begins_where_it_waits() -> None:
    hook = Recorder()
    scheduler = Scheduler(concurrency=1, on_event=hook)
    async with scheduler.lease(), anyio.create_task_group() as group:
        with anyio.move_on_after(1):
            async with scheduler.lease():
                raise AssertionError("there is one slot")
        group.cancel_scope.cancel()
    assert hook.seen == [
        "begin 1", "enter 1", "begin 2", "Finished 2 cancelled", "Finished 1 ok", "leave 1",
    ]  # fmt: skip
    lease = scheduler.try_lease()
    assert lease is not None
    with pytest.raises(ValueError, match="mine"):
        async with lease:
            raise ValueError("mine")
    assert hook.seen[6:] == [
        "begin 3", "enter 3", "failed 3 permanent None", "Finished 3 permanent", "leave 3",
    ]  # fmt: skip


async def test_it_is_called_in_the_context_of_the_caller() -> None:
    found: list[str] = []

    class Here(Recorder):
        def begin(self, job: Any) -> None:
            found.append(WHERE.get())

        def enter(self, job: Any) -> None:
            WHERE.set("inside")

        def leave(self, job: Any) -> None:
            found.append(WHERE.get())
            WHERE.set("outside")

    async def look(n: int) -> str:
        return WHERE.get()

    WHERE.set("caller")
    assert await Scheduler("100/s", on_event=Here()).submit(look, 1) == "inside"
    assert found == ["caller", "inside"]
    assert WHERE.get() == "outside"


async def test_what_is_not_accepted_never_begins_and_what_is_dropped_ends() -> None:
    hook = Recorder()
    scheduler = Scheduler(concurrency=1, max_queue=1, on_event=hook)

    async def dropped() -> None:
        with pytest.raises(Cleared):
            await scheduler.submit(ask, 1)

    async with scheduler.lease(), anyio.create_task_group() as group:
        group.start_soon(dropped)
        await anyio.sleep(0.1)
        with pytest.raises(QueueFull):
            await scheduler.submit(ask, 2)
        scheduler.clear()
    assert hook.seen == [
        "begin 1", "enter 1", "begin 2", "Finished 2 cleared", "Finished 1 ok", "leave 1",
    ]  # fmt: skip


async def test_what_a_hook_raises_is_told_once_and_costs_nobody_a_job(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Recorder):
        def _say(self, what: str) -> None:
            raise KeyError("a bug of the hook's")

    scheduler = Scheduler(concurrency=2, retry=Retry(base=0.1), on_event=Broken())
    with caplog.at_level(logging.ERROR, "headway"):
        assert await scheduler.map(refuse_once(500), range(5)) == list(range(5))
    (record,) = caplog.records
    assert record.getMessage() == "the hook Broken raised; the job goes on, and this is told once"


async def test_a_scheduler_has_one_hook() -> None:
    with pytest.raises(InvalidArgument, match="on_event= holds 2 hooks") as raised:
        Scheduler(on_event=[Recorder(), Recorder()])
    assert raised.value.fix.startswith("one of them for a scheduler")


def test_what_attach_raises_is_raised() -> None:
    class Taken(Recorder):
        def attach(self, scheduler: Any) -> None:
            raise ValueError("taken")

    with pytest.raises(ValueError, match="taken"):
        Around(Taken(), bool).attach(object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="taken"):
        Scheduler(on_event=Taken())


async def test_what_no_sink_wants_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ends(Recorder):
        wants = frozenset({Finished})

    def made(*args: object) -> object:
        raise AssertionError("nobody wants it")

    with monkeypatch.context() as patch:
        patch.setattr(state, "started", made)
        patch.setattr(state, "queued", made)
        hook = Ends()
        assert await Scheduler(concurrency=1, on_event=hook).map(ask, range(3)) == [0, 1, 2]
        assert await Scheduler("100/s", on_event=Ends()).submit(refuse_once(429), 1) == 1
    assert [line for line in hook.seen if line.startswith("Fin")] == [
        f"Finished {number} ok" for number in (1, 2, 3)
    ]
    both: list[type[Event]] = []
    await Scheduler(on_event=[Ends(), lambda event: both.append(type(event))]).submit(ask, 1)
    for _ in range(3):
        await checkpoint()
    assert [kind for kind in both if kind in (Queued, Started, Finished)] == [
        Queued, Started, Finished,
    ]  # fmt: skip


async def test_the_event_loop_is_not_woken_for_what_the_hook_alone_wants() -> None:
    hook = Recorder()
    scheduler = Scheduler(concurrency=1, on_event=hook)
    calls: list[object] = []

    def next_turn(call: object) -> bool:
        calls.append(call)
        return True

    scheduler._shell.sinks._next_turn = next_turn
    assert await scheduler.map(ask, range(3)) == [0, 1, 2]
    assert "Finished 3 ok" in hook.seen
    assert calls == []
