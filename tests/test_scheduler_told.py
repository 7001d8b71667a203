"""What the scheduler tells: its statistics, what binds, events and those that listen."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from inject import Boom, Status, answer, settle_down

from headway import Kind, Limits, Scheduler
from headway.events import Event, Finished, LimitChanged, Queued, Refused, Retrying, Started

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]


async def test_statistics() -> None:
    scheduler = Scheduler("600/min", tokens="60k/min", concurrency=2)
    ask = scheduler.with_options(tokens=100)
    failures = [Status(503, 0.5)]

    async def call() -> Any:
        await anyio.sleep(0.01)
        if failures:
            raise failures.pop()
        return {"usage": {"total_tokens": 40}}

    await ask.submit(call)
    stats = scheduler.statistics()
    assert (stats.sent, stats.succeeded, stats.failed, stats.retried) == (2, 1, 0, 1)
    assert (stats.refused, stats.tokens) == ({Kind.CAPACITY: 1}, 40)
    assert stats.recent.share() == 0.5
    assert stats.recent.share(Kind.CAPACITY) == 0.5
    assert (stats.capacity, stats.binds) == (2, "requests")
    assert stats.why.startswith("refused (capacity): ")
    with pytest.raises(Boom):
        await ask.submit(partial_raise)
    with anyio.move_on_after(0.15):
        await ask.submit(anyio.sleep, 9)
    stats = scheduler.statistics()
    assert (stats.sent, stats.failed, stats.cancelled) == (4, 1, 1)
    with pytest.raises(AttributeError):
        stats.sent = 0  # type: ignore[misc]
    stats.refused[Kind.RATE] = stats.keys["None"].refused[Kind.RATE] = 7  # a copy, nobody's else
    stats = scheduler.statistics()
    assert stats.refused == stats.keys["None"].refused == {Kind.CAPACITY: 1}


async def partial_raise() -> None:
    raise Boom


async def test_what_binds_a_key_is_told() -> None:
    keys = {"one": Limits(concurrency=1), "slow": Limits("1/min"), "t": Limits(tokens="100/min")}
    for key, binds in (("one", "concurrency"), ("slow", "requests"), ("t", "tokens")):
        scheduler = Scheduler(keys=keys)
        view = scheduler.with_options(key=key, tokens=80)
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(view.submit, anyio.sleep, 1000)
            await settle_down()
            stats = scheduler.statistics()
            assert (stats.binds, stats.queued) == (binds, 1)
            assert stats.seconds > 40
            group.cancel_scope.cancel()


async def test_events_in_their_order() -> None:
    events: list[Event] = []
    scheduler = Scheduler("10/s", on_event=events.append)
    failures = [Status(429, 1)]

    async def call() -> None:
        if failures:
            raise failures.pop()

    await scheduler.with_options(key="k", priority=2).submit(call)
    with anyio.move_on_after(0.01):
        await scheduler.submit(answer)
    await settle_down()  # events are handed on, and told at the next turn of the loop
    kinds = [type(event) for event in events if type(event) is not LimitChanged]
    assert kinds[:5] == [Queued, Started, Refused, Retrying, Started]
    finished = [event for event in events if isinstance(event, Finished)]
    assert [(one.job, one.attempts, one.outcome) for one in finished] == [
        (1, 2, "ok"), (2, 0, "cancelled"),
    ]  # fmt: skip
    queued = events[0]
    assert isinstance(queued, Queued)
    assert (queued.job, queued.key, queued.priority) == (1, "k", 2)
    assert sorted(events, key=lambda event: event.at) == events


async def test_a_listener_may_use_the_scheduler() -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, Refused):
            scheduler.pause()
            scheduler.set_limits("5/s")
        scheduler.statistics()
        scheduler.resume()

    scheduler = Scheduler("10/s", on_event=on_event)
    failures = [Status(429, 1)]

    async def call(n: int) -> None:
        if failures:
            raise failures.pop()

    with anyio.fail_after(100):
        await scheduler.map(call, range(20))
    assert scheduler.limits == Limits("5/s")
