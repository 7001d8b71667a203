"""A run in numbers."""

from __future__ import annotations

import pytest

from headway.bulk.record.measures import ModelUse, Sample, SessionInfo
from headway.bulk.record.trace import Session, Trace
from headway.bulk.report.failures import Failures
from headway.bulk.report.summary import Sums


def a_trace() -> Trace:
    first = [Sample(10.0, 10.0, sent=50, done=40, failed={"c": 5}, limit=10.0)]
    last = [
        Sample(110.0, 10.0, sent=30, done=20, failed={"c": 1}, binds={"requests": 9.0}, cost=2.0,
               input=600, output=400, refused={"rate": 3}),
    ]  # fmt: skip
    return Trace([
        Session(SessionInfo(total=100), first),
        Session(SessionInfo(total=100, already_done=45), last),
    ])  # fmt: skip


def test_the_sums_of_two_sessions() -> None:
    sums = Sums(a_trace(), None)
    assert (sums.answered, sums.failed, sums.left, sums.total) == (60, 6, 34, 100)
    assert (sums.seconds, sums.sessions, sums.sent, sums.rate) == (20.0, 2, 80, 4.0)
    assert (sums.reached, sums.allowed) == (0.5, 10.0)  # where a limit was known
    assert sums.binds == {"requests": 9.0, "nothing": 11.0}
    assert sums.refused == {"rate": 3}


def test_the_error_file_knows_better_than_the_trace() -> None:
    sums = Sums(a_trace(), Failures({"http_400": 2}))
    assert (sums.codes, sums.failed, sums.answered) == ({"http_400": 2}, 2, 64)


def test_nothing_at_all() -> None:
    sums = Sums(Trace(), None)
    assert (sums.answered, sums.total, sums.left, sums.rate) == (0, None, None, 0.0)
    assert (sums.money, sums.held()) == ("none", "")


@pytest.mark.parametrize(
    ("models", "cost", "said"),
    [({}, 2.0, "$2.00"), ({"m": None}, 2.0, "≥ $2.00"), ({"m": None}, 0.0, "unknown")],
)
def test_money_as_far_as_prices_are_known(
    models: dict[str, float | None], cost: float, said: str
) -> None:
    trace = a_trace()
    trace.sessions[-1].samples[0].cost = cost
    trace.models = {name: ModelUse(cost=price) for name, price in models.items()}
    assert Sums(trace, None).money == said


def test_what_held_it_back_most() -> None:
    trace = a_trace()
    assert Sums(trace, None).held().startswith("For 55% of the time nothing held it back")
    trace.sessions[0].samples[0].binds = {"requests": 5.0}
    assert Sums(trace, None).held() == (
        "What held it back most was the limit on requests: 70% of the time."
    )
