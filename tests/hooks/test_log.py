"""The logger ``headway``: a few lines for an operator, never one per job."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import Any

import anyio
import pytest

from headway import Kind, Latched, Limits, Retry, Scheduler, Unavailable
from headway.events import (
    Closed,
    Event,
    Finished,
    GaveUp,
    LimitChanged,
    Queued,
    Recovered,
    Refused,
    Retrying,
    Started,
)
from headway.hooks.log import Log

WARNING, INFO, ERROR = logging.WARNING, logging.INFO, logging.ERROR


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    assert {record.name for record in caplog.records} <= {"headway"}
    return [(record.levelno, record.getMessage()) for record in caplog.records]


@pytest.fixture(autouse=True)
def listen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "headway")


# Event by event


def refused(**values: Any) -> Refused:
    given: dict[str, Any] = {
        "at": 5.0, "job": 1, "key": None, "kind": Kind.RATE, "status": 429, "wait": None,
        "closed_until": 6.0, "episode": 1, "binds": "requests",
    }  # fmt: skip
    return Refused(**{**given, **values})


TOLD: list[tuple[Event, int, str]] = [
    (
        refused(),
        WARNING,
        "refused (rate, status 429, no hint); what binds here: the limit on requests; nothing is "
        "sent until 1 s have passed",
    ),
    (
        refused(kind=Kind.CAPACITY, status=503, wait=2.0, closed_until=7.25, binds=""),
        WARNING,
        "refused (capacity, status 503, hint 2 s); what binds here: nothing; nothing is sent "
        "until 2.25 s have passed",
    ),
    (
        refused(kind=Kind.CONCURRENCY, closed_until=None, binds="concurrency"),
        WARNING,
        "refused (concurrency, status 429, no hint); what binds here: the limit on requests in "
        "flight; nothing is sent until an attempt in flight ends",
    ),
    (
        refused(wait=3600.0, closed_until=5.2),
        WARNING,
        "refused (rate, status 429, hint 1 h, which nobody waits for); what binds here: the limit "
        "on requests; nothing is sent until 200 ms have passed",
    ),
    (
        Recovered(12.5, 5.0, MappingProxyType({Kind.RATE: 7, Kind.CAPACITY: 2})),
        INFO,
        "recovered after 7.5 s: refused 7 rate, 2 capacity",
    ),
    (Closed(5.0, Kind.TRANSIENT, 9.0, "an outage: ..."), WARNING, "an outage: ..."),
    (Closed(5.0, Kind.AUTH, None, "auth: ..."), ERROR, "auth: ..."),
    (Closed(5.0, Kind.QUOTA, None, "quota: ..."), ERROR, "quota: ..."),
    (Closed(5.0, Kind.RATE, 999.0, "the provider asks ..."), ERROR, "the provider asks ..."),
    (
        GaveUp(5.0, 9, None, 5, Kind.TRANSIENT, "attempts=5 are used up"),
        ERROR,
        "gave up job 9 after 5 attempts (transient): attempts=5 are used up",
    ),
]
SILENT: list[Event] = [
    refused(episode=2),
    Queued(1.0, 1, None, 0),
    Started(1.0, 1, None, 1, 0.0, 0.0),
    Finished(1.0, 1, None, 1, "ok", 0.0),
    Retrying(1.0, 1, None, 1, Kind.RATE, 2.0),
    LimitChanged(1.0, None, "requests", 9.0, "refused (rate)"),
]


@pytest.mark.parametrize(("event", "level", "text"), TOLD)
def test_tells(event: Event, level: int, text: str, caplog: pytest.LogCaptureFixture) -> None:
    Log()(event)
    assert lines(caplog) == [(level, text)]


@pytest.mark.parametrize("event", SILENT)
def test_keeps_quiet(event: Event, caplog: pytest.LogCaptureFixture) -> None:
    Log()(event)
    assert lines(caplog) == []


def test_giving_up_is_told_once_a_minute_with_the_number_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log()
    for second in range(150):
        log(GaveUp(float(second), second, None, 5, Kind.TRANSIENT, "attempts=5 are used up"))
    texts = [text for _, text in lines(caplog)]
    assert [text.partition(": ")[0] for text in texts] == [
        f"gave up job {job} after 5 attempts (transient)" for job in (0, 60, 120)
    ]
    assert [text.partition("used up")[2] for text in texts] == [
        "",
        " (59 more since the last line)",
        " (59 more since the last line)",
    ]


# The whole way, on both backends


class Provider:
    """Refuses until a moment, each time with what `refusal` makes."""

    def __init__(self, seconds: float, **refusal: Any) -> None:
        self.until = anyio.current_time() + seconds
        self.refusal = refusal
        self.sent = 0

    async def __call__(self, item: object = None) -> object:
        self.sent += 1
        await anyio.sleep(0.05)
        if anyio.current_time() < self.until:
            error = Exception("no")
            for name, value in self.refusal.items():
                setattr(error, name, value)
            raise error
        return item


@pytest.mark.anyio
async def test_one_warning_and_one_line_at_the_end_for_a_long_episode(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = Provider(30.0, status_code=429)
    scheduler = Scheduler("600/min", concurrency=16)
    await scheduler.map(provider, range(200))
    (began, ended) = lines(caplog)
    assert began[0] == WARNING
    assert began[1].startswith(
        "refused (rate, status 429, no hint); what binds here: the limit on requests"
    )
    assert ended[0] == INFO
    assert ended[1].startswith("recovered after ")
    assert ended[1].endswith(f": refused {scheduler.statistics().refused[Kind.RATE]} rate")


@pytest.mark.anyio
@pytest.mark.parametrize("status", [401, 402])
async def test_a_latch_is_one_error(caplog: pytest.LogCaptureFixture, status: int) -> None:
    provider = Provider(9e9, status_code=status)
    scheduler = Scheduler("600/min", concurrency=16)
    outcomes = await scheduler.map(provider, range(200), return_exceptions=True)
    assert sum(isinstance(outcome, Latched) for outcome in outcomes) > 180
    ((level, text),) = lines(caplog)
    assert level == ERROR
    assert f"the provider answered {status} (no)" in text


@pytest.mark.anyio
async def test_a_long_wait_is_one_error(caplog: pytest.LogCaptureFixture) -> None:
    provider = Provider(9e9, status_code=429, headers={"retry-after": "3600"})
    scheduler = Scheduler(concurrency=16)
    outcomes = await scheduler.map(provider, range(200), return_exceptions=True)
    assert sum(isinstance(outcome, Unavailable) for outcome in outcomes) == 200 - 16
    texts = [(level, text.split(" ")[0]) for level, text in lines(caplog)]
    assert texts == [(WARNING, "refused"), (ERROR, "the")]


@pytest.mark.anyio
async def test_an_outage_is_one_warning_and_one_line_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = Provider(60.0, status_code=500)
    scheduler = Scheduler("600/min", concurrency=16)
    assert await scheduler.map(provider, range(100)) == list(range(100))
    (began, ended) = lines(caplog)
    assert began[0] == WARNING
    assert began[1].startswith("an outage: attempts fail one after another and none is answered; ")
    assert ended[0] == INFO
    assert ended[1].startswith("recovered after ")
    assert provider.sent < 160


@pytest.mark.anyio
async def test_failures_given_up_are_one_error_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(item: int) -> int:
        if item % 2:
            error = Exception("no")
            error.status_code = 500  # type: ignore[attr-defined]
            raise error
        return item

    scheduler = Scheduler("60/min", concurrency=4, retry=Retry(attempts=2, base=0.01))
    await scheduler.map(fail, range(100), return_exceptions=True)
    told = lines(caplog)
    assert {level for level, _ in told} == {ERROR}
    assert len(told) <= 4
    assert all(text.startswith("gave up job ") for _, text in told)


@pytest.mark.anyio
async def test_a_quiet_run_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler("600/min", keys={"a": Limits(concurrency=1)}, concurrency=4)
    await scheduler.with_options(key="a").map(Provider(0.0), range(50))
    scheduler.set_limits("10/s")
    scheduler.pause()
    scheduler.resume()
    assert lines(caplog) == []


@pytest.mark.anyio
async def test_a_listener_that_raises_costs_nobody_a_job(caplog: pytest.LogCaptureFixture) -> None:
    def listen(event: Event) -> None:
        raise KeyError("a listener's bug")

    scheduler = Scheduler(concurrency=1, on_event=listen)
    assert await scheduler.map(Provider(0.0), range(3)) == [0, 1, 2]
    assert scheduler.statistics().in_flight == 0
    assert all("on_event= raised for" in text for _, text in lines(caplog))
