"""What a scheduler remembers: quotas that outlast the process, and files that say nothing."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio import current_time
from anyio.lowlevel import checkpoint

import headway.httpx
from headway import InvalidArgument, Limits, Rate, Retry, Scheduler, Unavailable
from headway._core.limits.quota import RequestQuota
from headway._core.queue.job import STARTED, Job
from headway._core.state import SchedulerState
from headway._runtime.memory import Memory
from headway.events import Forgotten, Kind, Outdated
from headway.hints import Refusal
from headway.testing import virtual_clock

pytestmark = pytest.mark.anyio

DAY = 86_400.0


async def nothing(n: int = 0) -> None:
    """A call."""


def used(scheduler: Scheduler) -> float | None:
    return scheduler.statistics().limits[-1].used


async def test_a_quota_outlasts_the_process(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    async with Scheduler("3/day", memory=path) as scheduler:
        await scheduler.map(nothing, range(2))
    async with Scheduler("3/day", memory=path) as scheduler:
        await scheduler.submit(nothing)
        assert used(scheduler) == 3
        with pytest.raises(Unavailable, match="the quota of 3/day requests is spent"):
            await scheduler.submit(nothing)
    assert path.stat().st_mode & 0o777 == 0o600


async def test_what_is_spent_is_known_before_the_first_call(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    async with Scheduler("3/day", memory=path) as scheduler:
        await scheduler.map(nothing, range(3))
    scheduler = Scheduler("3/day", memory=path)
    assert scheduler.would_wait().binds == "quota"
    assert used(scheduler) == 3
    assert scheduler.try_lease() is None  # the loop's clock is another one
    assert DAY - 60 < scheduler.would_wait() < DAY + 600


async def test_one_that_does_nothing_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m"
    async with Scheduler("3/day", memory=path), Scheduler("3/day", memory=path) as other:
        await other.submit(nothing)
    assert used(Scheduler("3/day", memory=path)) == 1


async def test_a_link_goes_on_being_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("m")
    async with Scheduler("3/day", memory=tmp_path / "link") as scheduler:
        await scheduler.submit(nothing)
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "m").read_bytes())["headway"] == 1


async def test_two_that_write_one_file_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m"
    async with Scheduler(["90/day", "60/min"], memory=path) as one:
        await one.map(nothing, range(9))
        assert not caplog.records
        async with Scheduler(["90/day", "60/min"], memory=path) as other:
            await other.submit(nothing)
        await one.map(nothing, range(9))
    assert [each.message for each in caplog.records] == [
        f"{path} is written by another scheduler too, and each forgets what the other used. "
        "Fix: a file for each of them, or shared= for limits that both keep to."
    ]


def test_a_loop_whose_clock_shows_less_saves_too(tmp_path: Path) -> None:
    path = tmp_path / "m"
    scheduler = Scheduler(["1000/day", "60/min"], memory=path)
    asyncio.run(scheduler.submit(nothing))
    with virtual_clock():  # which begins at 1,000
        asyncio.run(scheduler.map(nothing, range(20)))
    assert (used(Scheduler(["1000/day", "60/min"], memory=path)) or 0) >= 19


async def test_one_that_is_killed_loses_its_last_seconds_alone(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    scheduler = Scheduler(["1000/day", "60/min"], memory=str(path))
    await scheduler.map(nothing, range(30))  # half a minute, and never closed
    other = Scheduler(["1000/day", "60/min"], memory=path)
    await other.submit(nothing)
    assert 19 <= (used(other) or 0) <= 31


async def test_keys_are_remembered_too(tmp_path: Path) -> None:
    path, keys = tmp_path / "m", {"a": Limits("2/day"), "b": Limits("2/day")}
    async with Scheduler(keys=keys, memory=path) as scheduler:
        await scheduler.with_options(key="a").submit(nothing)
    for _ in range(2):  # what no process has used is kept for the next
        async with Scheduler(keys=keys, memory=path) as scheduler:
            await scheduler.with_options(key="b").submit(nothing)
    async with Scheduler(keys=keys, memory=path) as scheduler:
        await scheduler.with_options(key="a").submit(nothing)
        for key in keys:
            with pytest.raises(Unavailable):
                await scheduler.with_options(key=key).submit(nothing)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "what was remembered is damaged, and not used: "),
        (b'{"headway":1,"whole":{"quo', "what was remembered is damaged, and not used: "),
        (b"[1]", "what was remembered is damaged, and not used: "),
        (b"\xff\xfe", "what was remembered is damaged, and not used: "),
        (b"[" * 100_000, "what was remembered is damaged, and not used: "),
        (b'{"headway":2}', "what was remembered is of another version of headway (2), and not "
         "used: "),
    ],
)  # fmt: skip
async def test_a_file_that_cannot_be_used_is_told_and_replaced(
    content: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "m"
    path.write_bytes(content)
    events: list[Any] = []
    async with Scheduler("3/day", memory=path, on_event=events.append) as scheduler:
        await scheduler.submit(nothing)
        while not any(isinstance(each, Forgotten) for each in events):
            await checkpoint()
    assert [each.what for each in events if isinstance(each, Forgotten)] == [f"{said}{path}"]
    assert json.loads(path.read_bytes())["headway"] == 1


@pytest.mark.parametrize(
    "whole",
    [
        7,
        {"quotas": 7},
        {"quotas": [7, {}, {"what": "requests"}]},
        {"quotas": [{"what": "requests", "per": DAY, "resets": None, "used": [[1], 7, "x"]}]},
        {"quotas": [{"what": "requests", "per": DAY, "resets": None, "used": [[1, -5.0]]}]},
        {"quotas": [{"what": "requests", "per": DAY, "resets": None, "used": [["a", 5.0]]}]},
        {"quotas": [{"what": "tokens", "per": DAY, "resets": None, "used": [[9e9, 5.0]]}]},
        {"quotas": [{"what": "requests", "per": 7.0, "resets": None, "used": [[9e9, 5.0]]}]},
        # Of days that are over, in either form
        {"quotas": [{"what": "requests", "per": DAY, "resets": None, "used": [[1e9, 5.0]]}]},
    ],
)
async def test_what_cannot_be_meant_counts_for_nothing(whole: object, tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text(json.dumps({"headway": 1, "whole": whole, "keys": []}))
    events: list[Any] = []
    async with Scheduler("3/day", memory=path, on_event=events.append) as scheduler:
        await scheduler.map(nothing, range(3))
        assert used(scheduler) == 3
        for _ in range(50):
            await checkpoint()
    over = "1000000000.0" in json.dumps(whole)
    assert len([each for each in events if isinstance(each, Forgotten)]) == (not over)


def test_what_was_learned_is_kept_under_the_same_limits() -> None:
    def learned(stated: str, now: float = 0.0) -> SchedulerState:
        state = SchedulerState(Limits(stated), now=now, retry=Retry())
        state.set_wall(1e9, now)
        return state

    state = learned("20/s")
    now = 0.0
    for _ in range(200):  # a server that lets 8 a second through
        job = Job(state.flow(None))
        state.submit(job, now)
        while job.status != STARTED:
            _, now = state.poll(now)[0], now + 0.01
        if int(now * 8) == int((now - 0.06) * 8):
            state.learn(job, Refusal(Kind.RATE, None, 429), now + 0.01, 0.5)
        else:
            state.finish(job, None, now + 0.01)
        now += 0.05
    pace = state.statistics(now).pace
    assert pace < 15
    kept = json.loads(json.dumps(state.snapshot(now)))
    assert kept["whole"]["learned"]["requests"]["plateau"] < 0.8
    for stated, seconds, used in (
        ("20/s", 3_600.0, True), ("30/s", 3_600.0, False), ("20/s", 90_000.0, False),
    ):  # fmt: skip
        later = learned(stated, now + seconds)
        later.restore(kept, now + seconds)
        assert (later.statistics(now + seconds).pace < 16) is used
    # It was wrong: the server refuses what was remembered to be safe
    later = learned("20/s", now)
    later.restore({**kept, "whole": {**kept["whole"], "learned": {"requests": {
        "plateau": 0.9, "hold": 10.0, "walled": 0.0}}}}, now)  # fmt: skip
    for _ in range(200):  # again it lets 8 a second through
        job = Job(later.flow(None))
        later.submit(job, now)
        while job.status != STARTED:
            _, now = later.poll(now)[0], now + 0.01
        if int(now * 8) == int((now - 0.06) * 8):
            later.learn(job, Refusal(Kind.RATE, None, 429), now + 0.01, 0.5)
        else:
            later.finish(job, None, now + 0.01)
        now += 0.05
    (event,) = [each for each in later.events if isinstance(each, Outdated)]
    assert (event.limit, event.value) == ("requests", 0.9)


def of(account: str | None, path: Path, used: float = 0.0) -> SchedulerState:
    """A state that goes on from what `account` has kept, and has used so much more of its quota."""
    state = SchedulerState(Limits("5/day"), now=0.0, retry=Retry())
    state.set_wall(1e9, 0.0)
    memory = Memory(path, account)
    memory.begin(state, 0.0)
    for _ in range(int(used)):
        assert state.submit(Job(state.flow(None)), 0.0)
    memory.save(state, 0.0)
    return state


def test_of_another_account_nothing_is_used(tmp_path: Path) -> None:
    path = tmp_path / "m"
    of("one", path, used=3)
    assert of("one", path).statistics(0.0).limits[0].used == 3
    assert of(None, path).statistics(0.0).limits[0].used == 3  # nobody knows whose it is yet
    other = of("two", path)
    assert other.statistics(0.0).limits[0].used == 0
    assert [each.what for each in other.events if isinstance(each, Forgotten)] == [
        f"what was remembered is of another account, and not used: {path}"
    ]


@pytest.mark.parametrize("path", [7, b"x", "", "a\0b"])
async def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(InvalidArgument, match="is no path of a file"):
        Scheduler(memory=path)


async def test_where_nothing_can_be_written_that_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="cannot be kept: it is no file"):
        Scheduler(memory=tmp_path)
    with pytest.raises(InvalidArgument, match="its folder cannot be written to"):
        Scheduler(memory=tmp_path / "none" / "m")


async def test_a_disk_that_fails_later_stops_nothing_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with Scheduler(["60/min", "900/day"], memory=tmp_path / "m") as scheduler:
        monkeypatch.setattr(os, "replace", full)
        await scheduler.map(nothing, range(30))
    told = [each.message for each in caplog.records if "nothing is remembered" in each.message]
    assert told == [
        f"{tmp_path / 'm'} cannot be written (No space left on device): nothing is remembered"
    ]
    assert os.listdir(tmp_path) == []


def test_a_day_that_began_anew_meanwhile_is_empty() -> None:
    rate = Rate(5, per=DAY, resets="00:00")
    midnight = 20_000 * DAY
    quota = RequestQuota(rate)
    quota.set_wall(midnight - 3_600.0, 0.0)  # an hour before
    for _ in range(5):
        quota.take(0.0, 10.0)
    kept = quota.snapshot(midnight - 3_600.0)
    for hours, left in ((0.5, 5.0), (2.0, 0.0)):
        later = RequestQuota(rate)
        wall = midnight - 3_600.0 + hours * 3_600.0
        later.set_wall(wall, 0.0)
        assert later.restore(kept, wall, 0.0)
        assert later.spent(0.0) == left


def test_a_clock_that_was_put_back_frees_nothing() -> None:
    state = SchedulerState(Limits("5/day"), now=0.0, retry=Retry())
    state.set_wall(1e9, 0.0)
    kept = [{"what": "requests", "per": DAY, "resets": None, "used": [[1e9 + 7_000, 5.0]]}]
    state.restore({"whole": {"quotas": kept}}, 0.0)
    assert state.statistics(0.0).limits[0].used == 5


@pytest.mark.parametrize(("key", "refused"), [("a", True), ("b", False)])
async def test_the_use_of_another_key_is_not_ones_own(
    key: str, refused: bool, tmp_path: Path
) -> None:
    async def calls(key: str, number: int) -> int:
        inner = httpx.MockTransport(lambda request: httpx.Response(200))
        async with Scheduler("2/day", memory=tmp_path / "m") as scheduler:
            transport = headway.httpx.AsyncTransport(scheduler, inner)
            async with httpx.AsyncClient(
                transport=transport, headers={"authorization": f"Bearer {key}"}
            ) as client:
                for _ in range(number):
                    await client.get("https://llm.example/")
            return int(used(scheduler) or 0)

    assert await calls("a", 2) == 2
    if refused:
        with pytest.raises(Unavailable):
            await calls(key, 1)
    else:
        await calls(key, 1)


async def test_time_goes_on_between_two_processes(tmp_path: Path) -> None:
    path = tmp_path / "m"
    began = current_time()
    async with Scheduler("2/day", memory=path) as scheduler:
        await scheduler.map(nothing, range(2))
    kept = json.loads(path.read_bytes())
    for slot in kept["whole"]["quotas"][0]["used"]:
        slot[0] -= 2 * DAY  # as if it had been the day before yesterday
    path.write_text(json.dumps(kept))
    async with Scheduler("2/day", memory=path) as scheduler:
        await scheduler.map(nothing, range(2))
    assert current_time() - began < 60
