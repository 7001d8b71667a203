"""What a killed session had not measured is counted from the rows; faults are no refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reports import make_run, sample, session, words

from headway.bulk.output.rows import Answer, Checks, answer_row, error_row
from headway.bulk.record.trace import OTHER_MODELS, read_trace
from headway.bulk.report import write_report
from headway.bulk.report.recovered import make_whole

CHECKS = Checks({})


class Line:
    def __init__(self, line: int) -> None:
        self.line, self.custom_id = line, f"c{line}"


def row(line: int, model: str) -> bytes:
    said = {"model": model, "choices": [{}], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}
    return answer_row(Line(line), Answer(200, None, json.dumps(said).encode()))  # type: ignore[arg-type]


def killed(folder: Path, models: dict[str, Any], *sessions: Any, rows: int = 300) -> Path:
    """A run whose first session measured 100 of its 116 rows, and its second the other 184."""
    lines = sessions or (
        {"session": session(total=300, already_done=0)},
        sample(10, 10, done=100, sent=100, attempts={"1": 100}, models=models),
        {"session": session(total=300, already_done=116)},
        sample(30, 10, done=184, sent=190, attempts={"1": 178, "2": 6},
               models={name: {**use, "rows": use["rows"] * 184 // 100}
                       for name, use in models.items()}),
        {"end": {"t": 31, "reason": "done"}},
    )  # fmt: skip
    run = make_run(folder, list(lines))
    results = run if run.suffix == ".jsonl" else run.with_suffix(".jsonl")
    results.write_bytes(
        b"".join(
            CHECKS.with_check(n, row(n, "a-2024" if n % 2 else "b")) for n in range(1, rows + 1)
        )
    )
    return results


def trace_of(results: Path) -> Any:
    trace = read_trace(results.with_suffix(".run") / "trace.jsonl")
    make_whole(trace, results)
    return trace


def test_rows_and_models_are_made_whole(tmp_path: Path) -> None:
    results = killed(tmp_path, {"a": {"rows": 50}, "b": {"rows": 50}})
    trace = trace_of(results)
    assert (trace.unmeasured, trace.rows) == (16, 300)
    # b's answers name it; the other rows are of a name that nobody asked for.
    assert {name: use.rows for name, use in trace.models.items()} == {
        "a": 142, "b": 150, OTHER_MODELS: 8,
    }  # fmt: skip
    assert trace.models["b"].input == 300
    write_report(results, tmp_path / "report.html")
    page = words((tmp_path / "report.html").read_text())
    assert "300 of 300 rows were answered" in page
    assert "not measured" in page


def test_the_only_model_has_them_all(tmp_path: Path) -> None:
    trace = trace_of(killed(tmp_path, {"asked": {"rows": 100}}))
    assert {name: use.rows for name, use in trace.models.items()} == {"asked": 300}


def test_the_rows_of_a_last_session_that_was_killed_count(tmp_path: Path) -> None:
    results = killed(
        tmp_path, {},
        {"session": session(total=300, already_done=0)},
        sample(10, 10, done=250, sent=250, models={"a": {"rows": 250}}),
        rows=260,
    )  # fmt: skip
    with results.open("ab") as file:
        file.write(CHECKS.with_check(261, error_row(261, "x", "http_500", "no")))
    trace = trace_of(results)
    assert (trace.unmeasured, trace.rows) == (11, 261)
    write_report(results, tmp_path / "report.html")
    assert "of 300 rows were answered" in words((tmp_path / "report.html").read_text())


@pytest.mark.parametrize("there", [True, False])
def test_a_run_that_came_to_its_end_is_not_read_again(there: bool, tmp_path: Path) -> None:
    results = killed(
        tmp_path, {},
        {"session": session(total=300)}, sample(10, 10, done=9), {"end": {"t": 1, "reason": "x"}},
    )  # fmt: skip
    if not there:
        results.unlink()
    trace = trace_of(results)
    assert (trace.unmeasured, trace.rows) == (0, 0)


def test_the_tile_of_refusals_counts_no_faults(tmp_path: Path) -> None:
    lines = [
        {"session": session(total=9)},
        sample(10, 10, sent=100, done=9,
               refused={"rate": 3, "tokens": 2, "transient": 40, "permanent": 5, "capacity": 1}),
        {"end": {"t": 11, "reason": "done"}},
    ]  # fmt: skip
    write_report(make_run(tmp_path, lines), tmp_path / "report.html")
    page = words((tmp_path / "report.html").read_text())
    assert "Refusals 6 6% of sends" in page
