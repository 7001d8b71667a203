"""The sections over time: their charts, series and legends, from known samples."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from headway.bulk.record.measures import Sample, SessionInfo
from headway.bulk.record.trace import Session, Trace
from headway.bulk.report.axis import make_axis
from headway.bulk.report.measured import Measured
from headway.bulk.report.overtime import flow, latency, tokens, unmeasured
from headway.bulk.report.summary import Sums


def measured(*samples: Sample) -> Measured:
    trace = Trace([Session(SessionInfo(), list(samples))] if samples else [])
    for sample in samples:
        trace.wait.add(sample.wait)
        trace.latency.add(sample.latency)
    return Measured("in", trace, None, Sums(trace, None), make_axis(trace.sessions, UTC), False)


RUN = measured(
    Sample(10.0, 10.0, sent=50, limit=10.0, in_flight=4, binds={"requests": 5.0}, cost=1.0,
           input=100, output=20, refused={"new": 5, "rate": 10}, latency={49: 3}, wait={-1: 3}),
    Sample(20.0, 10.0, sent=100, limit=10.0, in_flight=8, binds={"requests": 10.0}, cost=0.5,
           input=300),
)  # fmt: skip


def test_what_was_sent_and_what_held_it_back() -> None:
    found: Any = flow(RUN)
    assert [chart.key for chart in found.charts] == ["sends", "refused", "flight", "bound"]
    sends = {one.name: list(one.values) for one in found.sends.series}
    assert sends == {"sent": [5.0, 10.0], "limit": [10.0, 10.0]}
    assert list(found.flight.series[0].values) == [4.0, 8.0]
    bound = {one.name: list(one.values) for one in found.bound.series}
    assert bound == {"the limit on requests": [0.5, 1.0], "nothing": [0.5, 0.0]}
    assert [key.text for key in found.bound.legend] == ["75%", "25%"]


def test_a_kind_that_is_not_known_yet_is_shown_too() -> None:
    found: Any = flow(RUN)
    assert [(one.name, list(one.values)) for one in found.refused.series] == [
        ("rate", [1.0, 0.0]), ("new", [0.5, 0.0])
    ]  # fmt: skip
    quiet: Any = flow(measured(Sample(10.0, 10.0, sent=1)))
    assert quiet.refused is None


def test_latencies_in_a_table_and_over_time() -> None:
    found: Any = latency(RUN)
    assert found.heads == ("p50", "p90", "p99", "max")
    waited, took = found.rows
    assert waited.cells[-1] == "1 ms"
    assert took.cells[0].endswith(" s") or took.cells[0].endswith(" ms")
    assert [one.name for one in found.over.series] == ["p99", "p90", "p50"]
    assert all(one.values[1] is None for one in found.over.series)


def test_tokens_and_the_cost_so_far() -> None:
    found: Any = tokens(RUN)
    used = {one.name: list(one.values) for one in found.tokens.series}
    assert used == {"input": [10.0, 30.0], "output": [2.0, 0.0], "limit": [None, None]}
    assert [(key.name, key.text) for key in found.tokens.legend] == [
        ("input", "400"),
        ("output", "20"),
    ]
    assert list(found.cost.series[0].values) == [1.0, 1.5]
    free: Any = tokens(measured(Sample(10.0, 10.0, input=5)))
    assert free.cost is None
    assert tokens(measured(Sample(10.0, 10.0))) is None


def test_without_measurements_there_is_one_sentence() -> None:
    empty = measured()
    assert [flow(empty), latency(empty), tokens(empty)] == [None, None, None]
    assert unmeasured(empty) is not None
    assert unmeasured(RUN) is None
