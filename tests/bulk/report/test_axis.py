"""Samples in columns: nothing is lost, and the time between sessions is cut out."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone
from itertools import pairwise

import pytest

from headway.bulk.record.measures import Sample, SessionInfo
from headway.bulk.record.trace import Session
from headway.bulk.report.axis import MAX_BINS, WIDTH, Axis, Bin, make_axis


def a_session(start: float, spans: list[float], **counts: object) -> Session:
    samples, at = [], start
    for span in spans:
        at += span
        samples.append(Sample(at, span, sent=10, **counts))  # type: ignore[arg-type]
    return Session(SessionInfo(started=start), samples)


def test_nothing_measured_is_no_axis() -> None:
    for sessions in ([], [a_session(0.0, [])], [a_session(0.0, [0.0, 1e-9])]):
        axis = make_axis(sessions, UTC)
        assert (axis.bins, axis.ticks, axis.gaps) == ([], [], [])


@pytest.mark.parametrize("spans", [[1.0], [1.0, 3.0, 0.5], [1.0] * 1000, [7.0] * 401])
def test_columns_lie_side_by_side_and_hold_every_count(spans: list[float]) -> None:
    bins = make_axis([a_session(1000.0, spans, refused={"rate": 2})], UTC).bins
    assert 1 <= len(bins) <= MAX_BINS
    assert bins[0].left == 0
    assert bins[-1].right == pytest.approx(WIDTH)
    for one, after in pairwise(bins):
        assert one.right == pytest.approx(after.left)
    assert sum(one.counts["sent"] for one in bins) == pytest.approx(10 * len(spans))
    assert sum(one.refused["rate"] for one in bins) == pytest.approx(2 * len(spans))
    assert sum(one.span for one in bins) == pytest.approx(sum(spans))


def test_the_time_between_two_sessions_is_cut_out() -> None:
    sessions = [a_session(1000.0, [30.0]), a_session(5000.0, [10.0])]
    axis = make_axis(sessions, UTC)
    ((left, right, idle),) = axis.gaps
    assert (right - left, idle) == (50.0, 3970.0)
    first, last = axis.bins
    assert (first.right, last.left) == (pytest.approx(left), pytest.approx(right))
    assert (first.right - first.left) / (last.right - last.left) == pytest.approx(3.0)


def test_a_mean_is_weighted_by_time() -> None:
    one = Bin(0, 1, 0.0, 4.0)
    one.add(Sample(1.0, 1.0, in_flight=8, limit=2.0), 1.0)
    one.add(Sample(4.0, 3.0, in_flight=4), 3.0)
    assert one.means == {"in_flight": 5.0, "limit": 2.0, "queued": 0.0}
    one.add(Sample(8.0, 4.0, sent=6), 2.0)
    assert one.rate("sent") == 3.0 / 4.0
    assert one.rate("nothing") == 0


@pytest.mark.parametrize(("hours", "said"), [(0, "01 Jan 00:00:00"), (-2, "31 Dec 22:00:00")])
def test_a_clock_is_that_of_the_zone(hours: int, said: str) -> None:
    axis = Axis(zone=timezone(timedelta(hours=hours)))
    assert axis.clock(0.0) == said
    assert axis.clock(0.0, seconds=False, date=False) == said[7:12]
    assert axis.clock(1e20) == "?"


def test_ticks_are_at_full_minutes_of_the_wall() -> None:
    axis = make_axis([a_session(1000.0, [300.0])], timezone(timedelta(hours=1)))
    assert [text for _, text in axis.ticks] == ["01:17", "01:18", "01:19", "01:20", "01:21"]
    assert axis.ticks[0][0] == pytest.approx(20 / 300 * WIDTH)
