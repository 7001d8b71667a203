"""What earlier runs measured, as the next plan takes it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from headway.bulk.output.paths import InvalidOutput
from headway.bulk.plan.calibration import Calibration, Use, calibration_of
from headway.bulk.record.trace import Recorder


def test_sums_by_model_and_latencies_in_order() -> None:
    found = Calibration.from_models(
        {"m": {"rows": 2, "bytes": 100, "input": 30, "output": 40}, "n": {"rows": 1, "bytes": 9}},
        [3.0, 1.0, 2.0],
    )
    assert found.models == {"m": Use(2.0, 100.0, 30.0, 40.0), "n": Use(1.0, 9.0, 0.0, 0.0)}
    assert found.latency == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("sums", [{}, {"rows": 0, "bytes": 5}, {"rows": 5, "bytes": 0}])
def test_what_counts_no_rows_says_nothing(sums: dict[str, float]) -> None:
    assert Calibration.from_models({"m": sums}).models == {}


def test_latencies_that_cannot_be_are_left_out() -> None:
    strange = [math.nan, math.inf, -1.0, 0.0, 5.0]
    assert Calibration.from_models({}, strange).latency == (0.0, 5.0)


def a_run(folder: Path, latency: float) -> Path:
    """The results of a run of four rows, two of a model."""
    (folder / "in.results.run").mkdir()
    recorder = Recorder(folder / "in.results.run" / "trace.jsonl", {"started": 1000.0})
    for model in ("m", "m", "n", None):
        recorder.row(
            model=model, code=None, attempts=1, waited=0.0, latency=latency, size=50,
            input_tokens=10, output_tokens=20, cost=None,
        )  # fmt: skip
    recorder.end(1001.0, "done", "")
    recorder.close()
    return folder / "in.results.jsonl"


def test_a_run_is_found_by_its_input_and_by_its_results(tmp_path: Path) -> None:
    results = a_run(tmp_path, 2.0)
    by_input = calibration_of(str(tmp_path / "in.jsonl"))
    assert by_input == calibration_of("elsewhere.jsonl", str(results))
    assert by_input.models == {
        "m": Use(2.0, 100.0, 20.0, 40.0), "n": Use(1.0, 50.0, 10.0, 20.0),
        "": Use(1.0, 50.0, 10.0, 20.0),
    }  # fmt: skip
    assert len(by_input.latency) == 100
    assert by_input.latency == pytest.approx([2.0] * 100, rel=0.15)
    assert by_input.latency == tuple(sorted(by_input.latency))


def test_an_input_without_a_run_says_nothing_and_a_run_that_is_none_is_an_error(
    tmp_path: Path,
) -> None:
    assert calibration_of(str(tmp_path / "in.jsonl")) == Calibration()
    with pytest.raises(InvalidOutput, match="is no run of which anything is known"):
        calibration_of(str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
