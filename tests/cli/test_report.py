"""``headway report``: it names the page that it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import headway, said

from headway.bulk.record.trace import Recorder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.run").mkdir()
    recorder = Recorder(tmp_path / "out.run" / "trace.jsonl", {"started": 1e9, "input": "in.jsonl"})
    recorder.end(1e9 + 1, "done", "")
    recorder.close()
    return tmp_path / "out.jsonl"


@pytest.mark.parametrize("name", ["out.jsonl", "out.run"])
def test_a_run_by_either_name(name: str, run: Path) -> None:
    result = headway("report", name)
    assert (result.exit_code, result.stdout) == (0, "report.html\n")
    assert "in.jsonl: run report" in Path("report.html").read_text()


def test_redact_leaves_messages_out(run: Path) -> None:
    row = '{"id":"batch_req_1","error":{"code":"http_400","message":"a secret"}}\n'
    Path("out.errors.jsonl").write_text(row)
    headway("report", "out.jsonl", "-o", "open.html")
    headway("report", "out.jsonl", "-o", "closed.html", "--redact")
    assert "a secret" in Path("open.html").read_text()
    assert "a secret" not in Path("closed.html").read_text()


def test_what_is_no_run_is_2(run: Path) -> None:
    result = headway("report", "none.jsonl")
    assert result.exit_code == 2
    assert said(result).startswith("headway: none.jsonl does not exist.")
