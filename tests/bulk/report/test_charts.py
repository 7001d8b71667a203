"""Charts as values: paths, texts and bars whose places are known."""

from __future__ import annotations

import pytest

from headway.bulk.record.measures import Histogram
from headway.bulk.report.axis import Axis, Bin
from headway.bulk.report.charts import (
    Placed,
    Series,
    bars,
    far_above,
    histogram,
    legend,
    nice,
    plot,
    time_labels,
)

AXIS = Axis([Bin(0, 2000, 0.0, 1.0), Bin(2000, 4000, 1.0, 1.0)])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.9, 1), (1, 1), (1.01, 1.2), (17, 20), (99, 100), (0.011, 0.012), (0, 1), (-3, 1),
     (float("inf"), 1), (float("nan"), 1)],
)  # fmt: skip
def test_the_top_of_an_axis_is_easy_to_read(value: float, expected: float) -> None:
    assert nice(value) == pytest.approx(expected)


def drawn(*series: Series, top: float = 10.0, **options: object) -> dict[tuple[str, str], str]:
    chart = plot("k", AXIS, series, str, title="t", label="l", top=top, **options)  # type: ignore[arg-type]
    return {(shape.kind, shape.colour): shape.path for shape in chart.shapes}


def test_areas_stand_one_on_the_other() -> None:
    found = drawn(Series("a", "low", [5.0, 5.0]), Series("b", "high", [2.0, 5.0]), solid=True)
    assert found["area", "low"] == "M0 1000V500H2000V500H4000V1000H2000V1000H0Z"
    assert found["area", "high"] == "M0 500V300H2000V0H4000V500H2000V500H0Z"
    assert ("line", "low") not in found


def test_a_line_and_a_limit_have_gaps_where_nothing_is_known() -> None:
    found = drawn(Series("p", "p", [5.0, None], "line"), Series("l", "l", [None, 10.0], "limit"))
    assert found["line", "p"] == "M0 500L1000 500L2000 500"
    assert found["limit", "l"] == "M2000 0V0H4000"


def test_a_limit_far_above_everything_sets_no_scale() -> None:
    near = [Series("a", "a", [10.0, 1.0]), Series("l", "l", [20.0, 20.0], "limit")]
    far = [near[0], Series("l", "l", [41.0, 41.0], "limit")]
    assert [far_above(near), far_above(far)] == [False, True]
    tops = [plot("k", AXIS, one, str, title="", label="").heights[0].text for one in (near, far)]
    assert [float(top) for top in tops] == [24.0, 12.0]


def test_a_histogram_has_a_bar_for_each_bucket_and_one_text_for_marks_that_meet() -> None:
    found = histogram("Answer took", Histogram({10: 1, 30: 4}), "c", {"p50": 0.07, "p99": 0.071})
    assert [shape.kind for shape in found.shapes] == ["bar", "bar", "quantile", "quantile"]
    assert [shape.title.rsplit(": ", 1)[1] for shape in found.shapes[:2]] == ["1", "4"]
    assert [one.text for one in found.quantiles] == ["p50 p99"]
    assert found.label == "Distribution: answer took"
    assert histogram("t", Histogram({3: 0}), "c", {}).shapes == ()


def test_bars_are_shares_of_the_longest() -> None:
    assert [bar.share for bar in bars([("a", 4.0, ""), ("b", 1.0, "")])] == [1.0, 0.25]
    assert [bar.share for bar in bars([("a", 0.0, "")])] == [0.0]
    assert bars([]) == ()


def test_a_legend_draws_a_limit_dashed() -> None:
    keys = legend([(Series("a", "c-a", []), "x"), (Series("l", "c-l", [], "limit"), "y")])
    assert [(key.name, key.swatch, key.text) for key in keys] == [
        ("a", "c-a", "x"),
        ("l", "dash", "y"),
    ]


def test_times_that_would_lie_over_a_cut_are_left_out() -> None:
    axis = Axis(
        AXIS.bins, [(0.0, "00:00"), (1800.0, "00:30"), (3600.0, "01:00")], [(1900, 1950, 60.0)]
    )
    times = time_labels(axis)
    assert times.ticks == (Placed(0.0, "00:00", ""), Placed(0.9, "01:00", "last"))
    assert times.cuts == (Placed(1925 / 4000, "resumed after 1 min"),)
