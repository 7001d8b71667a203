"""Minutes of history in bounded memory, and what a chart takes from them."""

from __future__ import annotations

from headway.hooks.watch.history import KEPT, History, Moment, levels, per_second


def moment(seconds: float, sent: int = 0, queued: int = 0) -> Moment:
    return Moment(seconds, sent, 0, 0, 0, queued, 0.0)


def test_the_oldest_goes() -> None:
    history = History()
    assert history.last == -1.0
    for second in range(KEPT + 5):
        history.add(moment(second))
    kept = history.since(-1.0)
    assert [kept[0].seconds, len(kept), history.last] == [5, KEPT, KEPT + 4]
    assert history.since(KEPT + 2) == kept[-2:]


def test_what_a_total_grew_a_second() -> None:
    moments = [moment(second, sent=total) for second, total in enumerate((0, 2, 4, 10, 10))]
    assert per_second(moments, lambda one: one.sent, 4, 1.0) == [2, 2, 6, 0]
    assert per_second(moments, lambda one: one.sent, 2, 2.0) == [2, 3]
    assert per_second(moments, lambda one: one.sent, 60, 1.0) == [2, 2, 6, 0]  # no more is known
    assert per_second(moments[:1], lambda one: one.sent, 60, 1.0) == []


def test_what_is_missing_is_as_before() -> None:
    moments = [moment(0), moment(1, sent=3), moment(4, sent=3, queued=6)]
    assert per_second(moments, lambda one: one.sent, 4, 1.0) == [3, 3, 3, 0]
    assert levels(moments, lambda one: one.queued, 2, 2.0) == [0, 6]
    assert levels([], lambda one: one.queued, 2, 2.0) == []
