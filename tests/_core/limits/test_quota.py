"""Quotas: rates over more than an hour are counted and not paced, and told as soon as they are
spent.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import anyio.lowlevel
import pytest
from anyio import current_time, sleep

from headway import Cost, InvalidLimit, Limits, Rate, Retry, Scheduler, Unavailable
from headway._core.limits.quota import RequestQuota
from headway._core.queue.job import FAILED, Job
from headway._core.state import SchedulerState
from headway.events import Closed
from headway.hints import LimitHint

DAY = 86_400.0


def machine(limits: Limits, **options: Any) -> SchedulerState:
    return SchedulerState(limits, now=0.0, retry=Retry(**options))


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def nothing() -> None:
    """A call."""


@pytest.mark.anyio
async def test_a_quota_is_counted_and_not_paced() -> None:
    scheduler = Scheduler(["30/min", "1000/day"])
    began = current_time()
    await scheduler.map(lambda n: nothing(), range(30))
    assert current_time() - began < 61  # and not 87 s for each
    quota = scheduler.statistics().limits[-1]
    assert (quota.what, quota.limit, quota.per, quota.used, quota.frees_in) == (
        "requests", 1000, DAY, 30, 0.0,
    )  # fmt: skip


@pytest.mark.anyio
async def test_those_that_wait_are_told_at_once_and_until_when() -> None:
    events: list[Any] = []
    scheduler = Scheduler(["3/day", "60/min"], on_event=events.append)
    outcomes = await scheduler.map(lambda n: nothing(), range(5), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None)] * 3 + [Unavailable] * 2
    assert current_time() < 1_010
    with pytest.raises(Unavailable) as caught:
        await scheduler.submit(nothing)
    assert re.fullmatch(
        r"the quota of 3/day requests is spent, and has room again in 1 d, at 20\d\d-\d\d-\d\d "
        r"\d\d:\d\d UTC\. Fix: submit again then, raise the limit, or wait with "
        r"Retry\(patience=\.\.\.\)\.",
        str(caught.value),
    )
    statistics = scheduler.statistics()
    assert statistics.binds == "quota"
    assert statistics.seconds == pytest.approx(DAY * 1.001, rel=0.01)
    await anyio.lowlevel.checkpoint()
    (closed,) = [event for event in events if isinstance(event, Closed)]  # once
    assert closed.until == pytest.approx(current_time() + statistics.seconds, abs=2)


@pytest.mark.anyio
async def test_it_rolls_and_those_that_are_patient_wait() -> None:
    scheduler = Scheduler("3/day", retry=Retry(patience=2 * DAY))
    began = current_time()
    await scheduler.map(lambda n: nothing(), range(4))
    assert current_time() - began == pytest.approx(DAY * 1.0015, rel=0.002)


@pytest.mark.parametrize(
    ("resets", "now", "then"),
    [
        ("00:00", "2026-11-26T17:00:00+00:00", "2026-11-27T00:00:00+00:00"),
        ("00:00 UTC", "2026-11-26T00:00:00+00:00", "2026-11-27T00:00:00+00:00"),
        ("17:30", "2026-11-26T17:00:00+00:00", "2026-11-26T17:30:00+00:00"),
        ("00:00 America/Los_Angeles", "2026-11-26T17:00:00+00:00", "2026-11-27T08:00:00+00:00"),
        # Days of 23 and 25 hours
        ("00:00 America/Los_Angeles", "2026-03-08T20:00:00+00:00", "2026-03-09T07:00:00+00:00"),
        ("00:00 Europe/Berlin", "2026-10-25T00:00:00+00:00", "2026-10-25T23:00:00+00:00"),
    ],
)
def test_a_day_begins_anew_where_the_provider_says(resets: str, now: str, then: str) -> None:
    rate = Rate(2, per=DAY, resets=resets)
    assert rate.renews_after(at(now)) == at(then)
    state = machine(Limits(rate))
    state.set_wall(at(now), 0.0)
    jobs = [Job(state.flow(None)) for _ in range(2)]
    assert all(state.submit(job, 1.0) for job in jobs)
    wait = at(then) - at(now)
    with pytest.raises(Unavailable, match="is spent, and has room again in"):
        state.submit(Job(state.flow(None)), 2.0)
    assert state.statistics(2.0).seconds == pytest.approx(wait - 2.0)
    assert state.submit(Job(state.flow(None)), wait + 1e-3)


def test_a_rolling_quota_gives_back_as_it_was_used() -> None:
    quota = RequestQuota(Rate(10, per=DAY))
    for hour in range(10):
        quota.take(0.0, hour * 3_600.0)
    assert quota.frees_at(0.0, 36_000.0) == pytest.approx(DAY * 1.0015, rel=0.002)
    assert quota.spent(36_000.0) == 10
    assert quota.ready_at(0.0, DAY * 1.0025) < DAY * 1.0025
    quota.take(0.0, DAY * 1.0025)
    assert quota.frees_at(0.0, DAY * 1.0025) == pytest.approx(DAY * 1.0015 + 3_600, rel=0.002)


def test_a_quota_of_tokens_waits_for_what_is_in_flight_before_it_says_that_it_is_spent() -> None:
    state = machine(Limits(output_tokens="1000/day"))
    first = Job(state.flow(None), 0, Cost(input=5, output=900))
    second = Job(state.flow(None), 0, Cost(input=5, output=900))
    third = Job(state.flow(None), 0, Cost(input=5, output=900))
    assert state.submit(first, 0.0)
    assert not state.submit(second, 0.0)
    assert not state.submit(third, 0.0)
    assert state.poll(0.0)[0] == []
    state.finish(first, Cost(input=5, output=90), 1.0)  # it used less
    assert state.poll(1.0)[0] == [second]
    state.finish(second, Cost(input=5, output=900), 2.0)
    assert state.poll(2.0)[0] == [third]
    assert third.status == FAILED
    assert "1000/day output tokens is spent" in str(third.error)


def test_a_quota_of_a_key_ends_that_keys_jobs_alone() -> None:
    state = SchedulerState(
        Limits("600/min"), now=0.0, retry=Retry(), keys={"a": Limits("1/day")}.get
    )
    assert state.submit(Job(state.flow("a")), 0.0)
    with pytest.raises(Unavailable):
        state.submit(Job(state.flow("a")), 1.0)
    assert state.submit(Job(state.flow("b")), 1.0)


def test_one_that_was_never_sent_counts_for_nothing() -> None:
    state = machine(Limits("1/day"))
    job = Job(state.flow(None))
    assert state.submit(job, 0.0)
    state.unsend(job, 0.1)
    assert state.submit(Job(state.flow(None)), 0.2)


def test_a_retune_keeps_what_was_used() -> None:
    state = machine(Limits("2/day"))
    assert state.submit(Job(state.flow(None)), 0.0)
    state.retune(Limits("3/day"), lambda key: None, {}, 1.0)
    (quota,) = state.statistics(1.0).limits
    assert (quota.limit, quota.used) == (3, 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: Rate(10, per=60, resets="00:00"),
            "resets='00:00' is for a quota of a day, and this rate is over 60 seconds. Fix: "
            'Rate(1000, per=86_400, resets="00:00"), or leave it out.',
        ),
        (
            lambda: Rate(10, per=DAY, resets="midnight"),
            "resets='midnight' is no time of day. Fix: \"00:00\" for midnight UTC, or with a zone, "
            '"00:00 America/Los_Angeles".',
        ),
        (
            lambda: Rate(10, per=DAY, resets="00:00 Nowhere/Land"),
            "resets='00:00 Nowhere/Land' is no time of day. Fix: \"00:00\" for midnight UTC, or "
            'with a zone, "00:00 America/Los_Angeles".',
        ),
        (
            lambda: Rate(10, per=DAY, resets=7),  # type: ignore[arg-type]
            'resets=7 is no time of day. Fix: "00:00" for midnight UTC, or with a zone, '
            '"00:00 America/Los_Angeles".',
        ),
    ],
)
def test_a_time_of_day_that_is_none(make: Any, said: str) -> None:
    with pytest.raises(InvalidLimit) as caught:
        make()
    assert str(caught.value) == said


def test_the_zone_of_a_time_is_read_of_the_systems_own() -> None:
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()
    tokyo = Rate(1, per=DAY, resets="9:05 Asia/Tokyo").renews_after(noon)
    assert datetime.fromtimestamp(tokyo, UTC) == datetime(2026, 7, 2, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("resets", "after", "renews"),
    [  # in UTC; the first is 1:10 for the second time, when 1:30 has been once
        ("01:30 America/New_York", datetime(2026, 11, 1, 6, 10), datetime(2026, 11, 2, 6, 30)),
        ("01:30 America/New_York", datetime(2026, 11, 1, 4, 0), datetime(2026, 11, 1, 5, 30)),
        ("01:30 America/New_York", datetime(2026, 11, 1, 5, 30), datetime(2026, 11, 2, 6, 30)),
        ("02:30 America/New_York", datetime(2026, 3, 8, 6, 59), datetime(2026, 3, 8, 7, 30)),
        ("02:30 America/New_York", datetime(2026, 3, 8, 7, 30), datetime(2026, 3, 9, 6, 30)),
    ],
)
def test_a_time_that_comes_twice_or_never_renews_once(
    resets: str, after: datetime, renews: datetime
) -> None:
    quota = Rate(1, per=DAY, resets=resets)
    found = quota.renews_after(after.replace(tzinfo=UTC).timestamp())
    assert datetime.fromtimestamp(found, UTC) == renews.replace(tzinfo=UTC)


@pytest.mark.anyio
async def test_a_quota_of_tokens_is_not_overrun_before_anything_is_known() -> None:
    scheduler = Scheduler(tokens="100k/day")

    async def call(n: int) -> Any:
        await sleep(2)
        return {
            "usage": {"prompt_tokens": 9_000, "completion_tokens": 9_000, "total_tokens": 18_000}
        }

    await scheduler.map(call, range(50), return_exceptions=True)
    (quota,) = scheduler.statistics().limits
    assert quota.used is not None
    assert quota.used <= 100_000


@pytest.mark.parametrize("stated", [Limits("1000/day"), Limits(tokens="1M/day")])
def test_a_quota_alone_leaves_the_rate_to_be_found(stated: Limits) -> None:
    scheduler = Scheduler(stated.requests or None, tokens=stated.tokens or None)
    state = scheduler._shell.state
    hints = [
        LimitHint("requests", 60, None, None, 60), LimitHint("tokens", 30_000, None, None, 60)
    ]  # fmt: skip
    state.observe(hints, state.flow(None), 0.0)
    limits = {(each.what, each.per): each.limit for each in state.statistics(0.0).limits}
    assert limits[("tokens", 60)] == 30_000
    assert state.statistics(0.0).pace == pytest.approx(0.99)
    assert any(per == DAY for _, per in limits)
