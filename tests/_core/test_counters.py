"""The recent share of refusals: the last five minutes, in steps of half a minute."""

from __future__ import annotations

import pytest

from headway._core.counters import Counters, Recent
from headway.events import Kind


def run(counters: Counters, seconds: range, refused: Kind | None = None) -> None:
    """One attempt a second, marked as the scheduler marks; all `refused`, or none."""
    for now in seconds:
        if now >= counters.next_snapshot:
            counters.take_snapshot(now)
        counters.sent += 1
        if refused is not None:
            counters.refuse(refused)


def test_nothing_sent_is_a_share_of_zero() -> None:
    recent = Counters(0.0).recent(1000.0)
    assert (recent.sent, dict(recent.refused), recent.share()) == (0, {}, 0.0)


def test_shares_by_kind() -> None:
    recent = Recent(300.0, 200, {Kind.RATE: 10, Kind.CAPACITY: 30})
    assert recent.share() == pytest.approx(0.2)
    assert recent.share(Kind.RATE) == pytest.approx(0.05)
    assert recent.share(Kind.TOKENS) == 0.0


def test_what_is_older_than_the_window_is_forgotten() -> None:
    counters = Counters(0.0)
    run(counters, range(300), Kind.RATE)
    assert counters.recent(300.0).share() == 1.0
    run(counters, range(300, 450))
    recent = counters.recent(450.0)
    assert 270 <= recent.seconds <= 300
    assert recent.share() == pytest.approx(0.5, abs=0.06)
    run(counters, range(450, 700))
    recent = counters.recent(700.0)
    assert (recent.share(), dict(recent.refused)) == (0.0, {})
    assert counters.refused == {Kind.RATE: 300}  # the totals stay


def test_so_it_is_where_attempts_are_rare() -> None:
    counters = Counters(0.0)
    run(counters, range(0, 400, 100), Kind.RATE)
    run(counters, range(400, 1100, 100))
    recent = counters.recent(1050.0)
    assert recent.seconds <= 300
    assert (recent.sent, recent.share()) == (3, 0.0)


def test_a_picture_does_not_change_afterwards() -> None:
    counters = Counters(0.0)
    run(counters, range(10), Kind.RATE)
    before = counters.recent(10.0)
    run(counters, range(10, 20), Kind.RATE)
    assert (before.sent, before.refused[Kind.RATE]) == (10, 10)


def test_bounded_over_a_week() -> None:
    counters = Counters(0.0)
    for now in range(0, 7 * 86_400, 60):
        run(counters, range(now, now + 1))
    assert len(counters._snapshots) <= 10


def test_another_clock() -> None:
    counters = Counters(0.0)
    run(counters, range(100), Kind.RATE)
    counters.shift(-5000.0)
    recent = counters.recent(-4900.0)
    assert (recent.seconds, recent.sent) == (100.0, 100)
    assert counters.next_snapshot == pytest.approx(120.0 - 5000.0)
