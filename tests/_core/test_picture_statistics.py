"""What `statistics()` gives: plain values, for the whole and for each key."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import anyio
import pytest
from inject import settle_down

from headway import DeadlineExceeded, Kind, Limits, Retry, Scheduler, View
from headway._core import picture
from headway.events import Binds, Ended, Event, Finished

pytestmark = pytest.mark.anyio


async def ask(result: Any = None) -> Any:
    return result


@pytest.mark.parametrize("limits", [{}, {"requests": "10/s", "tokens": "1M/min", "concurrency": 3}])
async def test_it_is_strict_json(limits: dict[str, Any]) -> None:
    scheduler = Scheduler(**limits, retry=Retry(attempts=1), keys={("a", 1): Limits(concurrency=2)})
    await scheduler.with_options(key=("a", 1)).submit(ask)
    with pytest.raises(ConnectionError):
        await scheduler.submit(fail)
    found = scheduler.statistics().as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["capacity"] == limits.get("concurrency")
    assert found["keys"]["('a', 1)"]["capacity"] == 2
    assert found["keys"]["None"]["refused"] == found["refused"] == {"transient": 1}
    assert type(next(iter(found["refused"]))) is type(found["binds"]) is str
    assert found["recent"]["sent"] == found["sent"] == 2


async def test_it_is_a_line_in_a_notebook() -> None:
    scheduler = Scheduler("60/min", concurrency=5)
    assert repr(scheduler.statistics()) == (
        "<Statistics: 0 queued, 0 in flight, 0 sent, 0 succeeded, 0 failed, 0 refused>"
    )
    async with scheduler.lease(), anyio.create_task_group() as group:
        group.start_soon(lambda: scheduler.submit(ask))
        await anyio.wait_all_tasks_blocked()
        shown = repr(scheduler.statistics())
        assert shown.startswith(
            "<Statistics: 1 queued, 1 in flight, 1 sent, 0 succeeded, 0 failed,"
        )
        assert "0 refused; next held back by the limit on requests for " in shown
        group.cancel_scope.cancel()


async def leased(view: View) -> None:
    async with view.lease():
        pass


async def fail() -> None:
    raise ConnectionError("gone")


async def test_a_picture_can_be_copied() -> None:
    found = Scheduler().statistics()  # as pickle, dataclasses.asdict and FastAPI do
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == found
    assert found.capacity == math.inf


async def test_each_key_has_its_figures() -> None:
    scheduler = Scheduler(concurrency=1, keys={"slow": Limits("60/min")})
    slow = scheduler.with_options(key="slow", tokens=7)
    await slow.submit(ask, {"usage": {"total_tokens": 5}})
    async with anyio.create_task_group() as group:
        group.start_soon(scheduler.submit, anyio.sleep, 50)
        await anyio.sleep(1)
        for _ in range(2):
            group.start_soon(slow.submit, ask)
        await anyio.sleep(1)
        keys = scheduler.statistics().keys
        assert list(keys) == ["slow", "None"]
        one, other = keys["slow"], keys["None"]
        assert (one.queued, one.in_flight, one.sent, one.succeeded, one.tokens) == (2, 0, 1, 1, 5)
        assert (other.queued, other.in_flight, other.sent, other.succeeded) == (0, 1, 1, 0)
        assert one.pace == pytest.approx(1, rel=0.05)
        assert other.pace == other.capacity == math.inf
        group.cancel_scope.cancel()
    keys = scheduler.statistics().keys
    assert (keys["slow"].cancelled, keys["None"].cancelled) == (2, 1)


async def test_keys_that_read_alike_are_apart() -> None:
    scheduler = Scheduler()
    for key in ("1", 1):
        await scheduler.with_options(key=key).submit(ask)
    assert {name: key.sent for name, key in scheduler.statistics().keys.items()} == {
        "1": 1, "1 (int)": 1,
    }  # fmt: skip


async def test_of_many_keys_the_busiest_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "_MOST_KEYS", 2)
    scheduler = Scheduler()
    for key, times in (("a", 2), ("b", 1), ("c", 3)):
        for _ in range(times):
            await scheduler.with_options(key=key).submit(ask)
    assert sorted(scheduler.statistics().keys) == ["a", "c"]


@pytest.mark.parametrize("how", ["runs", "waits", "lease", "hopeless"])
async def test_a_job_whose_time_is_over_is_counted_as_that(how: str) -> None:
    heard: list[Event] = []
    scheduler = Scheduler(concurrency=1, on_event=heard.append)
    view = scheduler.with_options(timeout=2)
    async with anyio.create_task_group() as group:
        if how in ("waits", "lease"):
            group.start_soon(scheduler.submit, anyio.sleep, 50)
            await anyio.sleep(1)
        if how == "hopeless":
            now = scheduler._shell.now()
            scheduler._shell.state.whole.gate.shut_until(now + 9)
        call = leased(view) if how == "lease" else view.submit(anyio.sleep, 60)
        with pytest.raises(DeadlineExceeded):
            await call
        group.cancel_scope.cancel()
    await settle_down()  # events are told at the next turn of the loop
    found = scheduler.statistics()
    others = int(how in ("waits", "lease"))
    assert (found.timed_out, found.cancelled, found.failed) == (1, others, 0)
    assert found.keys["None"].timed_out == 1
    ends = [event.outcome for event in heard if isinstance(event, Finished)]
    assert ends == ([] if how == "hopeless" else [Ended.TIMED_OUT] + [Ended.CANCELLED] * others)


async def test_a_lease_that_is_cancelled_after_its_timeout_is_cancelled() -> None:
    scheduler = Scheduler()
    with anyio.move_on_after(5):
        async with scheduler.with_options(timeout=2).lease():
            await anyio.sleep(60)
    found = scheduler.statistics()
    assert (found.timed_out, found.cancelled) == (0, 1)


async def test_an_outcome_says_which_item_it_is_of() -> None:
    seconds = [3, 1, 2]
    async with Scheduler().as_completed(anyio.sleep, seconds) as outcomes:
        places = {outcome.index: outcome.item async for outcome in outcomes}
    assert places == dict(enumerate(seconds))


async def test_what_binds_is_a_word_of_its_own() -> None:
    scheduler = Scheduler("1/min")
    assert scheduler.statistics().binds is Binds.NOTHING
    await scheduler.submit(ask)
    assert scheduler.statistics().binds is Binds.REQUESTS
    assert scheduler.statistics().refused.get(Kind.RATE) is None
