"""Which run a page is of, and what it may replace."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.bulk.output.paths import InvalidOutput
from headway.bulk.record.trace import Recorder
from headway.bulk.report.page import InvalidRun, write_report


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "out.run").mkdir()
    session = {"started": 1e9, "input": "C:\\folder\\in.jsonl"}
    recorder = Recorder(tmp_path / "out.run" / "trace.jsonl", session)
    recorder.end(1e9 + 1, "done", "")
    recorder.close()
    return tmp_path / "out.jsonl"


def test_a_page_is_named_after_the_input_without_its_folders(run: Path) -> None:
    write_report(run, run.with_name("report.html"))
    text = run.with_name("report.html").read_text()
    assert "<title>in.jsonl: run report</title>" in text
    assert sorted(path.name for path in run.parent.iterdir()) == ["out.run", "report.html"]


def test_a_run_without_a_trace_is_named_after_its_folder(run: Path) -> None:
    (run.with_suffix(".run") / "trace.jsonl").unlink()
    write_report(run, run.with_name("report.html"))
    assert "<title>out: run report</title>" in run.with_name("report.html").read_text()


def test_an_earlier_report_is_replaced_and_nothing_else(run: Path) -> None:
    page, theirs = run.with_name("report.html"), run.with_name("theirs.html")
    page.touch()
    write_report(run, page)
    write_report(run, page)
    theirs.write_text("<html>mine")
    with pytest.raises(InvalidOutput, match="exists already and is no report"):
        write_report(run, theirs)
    assert theirs.read_text() == "<html>mine"


def test_where_no_page_can_be(run: Path) -> None:
    for path, says in (
        (run.parent, "is a folder"),
        (run.parent / "none" / "report.html", f"mkdir -p {run.parent / 'none'}$"),
    ):
        with pytest.raises(InvalidOutput, match=says):
            write_report(run, path)


def test_what_is_no_run(run: Path) -> None:
    plain = run.with_name("plain.jsonl")
    plain.touch()
    for path, says in (
        (run.with_name("none.jsonl"), "none.jsonl does not exist"),
        (plain, "has no measurements beside it: there is no folder plain.run"),
    ):
        with pytest.raises(InvalidRun, match=says):
            write_report(path, run.with_name("report.html"))
