"""Small charts of text."""

from __future__ import annotations

import pytest

from headway.cli.display import charts


def test_a_row_shows_levels_and_what_is_small_is_seen() -> None:
    assert charts.rows([0, 0.01, 4, 8, 9], 8) == [" ▁▄██"]
    assert charts.rows([0, 1, 4, 8], 8, plain=True) == [" .=#"]
    assert charts.rows([1, 2], 0) == ["  "]


def test_several_rows_are_one_chart() -> None:
    assert charts.rows([0, 1, 4, 6, 8], 8, height=2) == ["   ▄█", " ▂███"]


@pytest.mark.parametrize(
    ("width", "elapsed", "each"), [(60, 10, 1.0), (60, 120, 2.0), (60, 1e6, 4.0), (0, 600, 240.0)]
)
def test_a_chart_goes_back_four_minutes_at_most(width: int, elapsed: float, each: float) -> None:
    assert charts.columns(width, elapsed) == each


@pytest.mark.parametrize(
    ("share", "drawn"), [(0, "░░░░"), (0.5, "██░░"), (1, "████"), (7, "████"), (-1, "░░░░")]
)
def test_a_bar_is_never_wider(share: float, drawn: str) -> None:
    assert charts.bar(share, 4) == drawn
    assert charts.bar(0.5, 4, plain=True) == "##--"
