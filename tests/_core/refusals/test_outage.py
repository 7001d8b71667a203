"""An outage: five failures in a row, of three jobs, with no answer in between."""

from __future__ import annotations

import pytest
from world import World

from headway import Kind, Limits, Retry
from headway._core.refusals.outage import Outage
from headway._core.refusals.retry import Delay, GiveUp
from headway.events import Closed
from headway.hints import Refusal


@pytest.mark.parametrize(
    ("happened", "on"),
    [
        ([], False),
        ([1, 2, 3, 4], False),  # too few
        ([1, 2, 3, 4, 5], True),
        ([1, 2, 1, 2, 3], True),
        ([1] * 50, False),  # one poisonous job
        ([1, 2] * 25, False),  # two of them
        ([1, 2, 3, "answer", 4, 5, 6], False),  # not in a row
        ([1, 2, 3, 4, 5, "answer"], False),
        ([1, 2, 3, "answer", 4, 5, 6, 7, 8], True),
        ([1, 1, 2, "answer", 3, 3, 4, 4, 4], False),  # the jobs count anew too
    ],
)
def test_when_it_is_on(happened: list[int | str], on: bool) -> None:
    outage = Outage()
    for moment, what in enumerate(happened):
        if isinstance(what, int):
            outage.failed(what, float(moment))
        else:
            outage.answered()
    assert outage.on is on


def test_since_the_first_failure() -> None:
    outage = Outage()
    outage.failed(1, 5.0)
    outage.answered()
    for moment in (7.0, 8.0, 9.0):
        outage.failed(int(moment), moment)
    assert outage.since == 7.0
    outage.shift(100.0)
    assert outage.since == 107.0


def test_keeps_no_more_jobs_than_it_needs() -> None:
    outage = Outage()
    for job in range(10_000):
        outage.failed(job, 0.0)
    assert len(outage._jobs) == 3


def test_one_job_is_not_to_blame_where_nobody_is_reached() -> None:
    outage = Outage()
    for now in range(4):
        outage.failed(1, float(now), unreached=True)
        assert not outage.on
    outage.failed(1, 4.0, unreached=True)
    assert (outage.on, outage.since) == (True, 0.0)
    outage.answered()
    for now in range(5):
        outage.failed(1, 10.0 + now, unreached=now != 2)  # it was reached once: it may be the job
    assert not outage.on


def test_no_network_is_told_as_that() -> None:
    world = World(Limits(concurrency=1), retry=Retry(patience=30))
    (job,) = world.submit()
    verdict: object = None
    while not isinstance(verdict, GiveUp):
        refusal = Refusal(Kind.TRANSIENT, None, None, "ConnectError: no route", unreached=True)
        verdict = world.state.defer(job, refusal, world.now, 0.5)
        if isinstance(verdict, Delay):
            while not world.in_flight:
                world.run(1.0)
    (closed,) = world.events(Closed)
    assert closed.at - 1000.0 < 10
    assert closed.reason == (
        "no connection can be made: the network, a proxy or the address is at fault, and headway "
        "goes on trying; the last: ConnectError: no route"
    )
    assert verdict.reason.startswith("no connection: no attempt was answered for 3")
