"""Histograms of durations, and the forms of the lines of a trace."""

from __future__ import annotations

import msgspec
import pytest

from headway.bulk.record.measures import (
    End,
    Histogram,
    ModelUse,
    Sample,
    SessionInfo,
    bucket,
    edges,
    mend,
)


def test_the_buckets_lie_one_beside_the_other() -> None:
    assert edges(-1) == (0.0, 0.001)
    for k in range(-1, 161):
        low, high = edges(k)
        assert high == pytest.approx(edges(k + 1)[0])
        assert bucket(low + (high - low) / 2) == min(k, 160)


def test_a_share_of_another_is_added() -> None:
    found = Histogram({1: 2})
    found.add({1: 4, 7: 1}, 0.5)
    found.add({7: 1})
    assert found.counts == {1: 4.0, 7: 1.5}
    assert found.total == 5.5


def test_a_percentile_lies_within_its_bucket() -> None:
    found = Histogram({10: 1, 20: 2, 30: 1})
    low, high = edges(20)
    assert found.percentile(0.5) == pytest.approx((low + high) / 2)
    assert found.percentile(0.25) == pytest.approx(edges(10)[1])
    assert found.percentile(0.0) == pytest.approx(edges(10)[0])
    assert found.percentile(1.0) == pytest.approx(edges(30)[1])


@pytest.mark.parametrize("counts", [{}, {3: 0}, {3: -1}])
def test_nothing_has_no_percentile(counts: dict[int, float]) -> None:
    assert Histogram(counts).percentile(0.5) is None


@pytest.mark.parametrize(
    ("mine", "theirs", "cost"), [(1.0, 2.0, 3.0), (None, 2.0, None), (1.0, None, None)]
)
def test_an_unknown_price_makes_the_sum_unknown(
    mine: float | None, theirs: float | None, cost: float | None
) -> None:
    use = ModelUse(1, 10, 100, 1000, mine)
    use.add(ModelUse(2, 20, 200, 2000, theirs))
    assert use == ModelUse(3, 30, 300, 3000, cost)


def test_a_sample_is_written_short_and_read_back() -> None:
    sample = Sample(5.0, 1.0, sent=3, latency={-1: 1, 160: 2}, models={"m": ModelUse(rows=1)})
    data = msgspec.json.encode(sample)
    assert b"queued" not in data  # what is as it always is
    assert msgspec.json.decode(data, type=Sample) == sample


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Sample, b'{"t":1,"span":1,"sent":-1}'),
        (Sample, b'{"t":1,"span":1,"sent":1e30}'),
        (Sample, b'{"t":1,"span":1,"latency":{"161":1}}'),
        (Sample, b'{"t":1,"span":1,"limit":1e300}'),
        (Sample, b'{"span":1}'),
        (SessionInfo, b'{"total":-5}'),
        (End, b'{"reason":"done"}'),
    ],
)
def test_what_no_run_can_have_measured_cannot_be_read(kind: type, text: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=kind)


def test_what_is_not_utf_8_is_mended() -> None:
    line = rb'{"a":"\ud83d\uDE00 \u00e9' + b'\xff"}'
    assert msgspec.json.decode(mend(line)) == {"a": "\ufffd\ufffd é\ufffd"}
