"""``headway run --check``: what it says of an input, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import headway, write_requests

from headway.bulk import RunOptions
from headway.cli.check import check


def test_an_input_without_a_fault_is_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_requests(tmp_path / "in.jsonl", 3)
    assert check(str(path), RunOptions()) == 0
    lines = capsys.readouterr().out.splitlines()
    longest = max(len(line) for line in path.read_bytes().splitlines())
    assert lines[0] == "3 lines: 3 can be sent, 0 cannot"
    assert " ".join(lines[1].split()) == "3 to /v1/chat/completions"
    assert " ".join(lines[2].split()) == "3 for m"
    assert lines[-1] == f"the largest line has {longest:,} bytes"


def test_an_input_with_faults_is_1_and_shows_three_of_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_requests(tmp_path / "in.jsonl", 2)
    path.write_bytes(path.read_bytes() + b"{no json\n" * 5)
    assert check(str(path), RunOptions()) == 1
    said = capsys.readouterr().out
    assert "7 lines: 2 can be sent, 5 cannot\n" in said
    assert "5 invalid_json:\n" in said
    assert said.count("is not valid JSON") == 3
    assert said.endswith("  and 2 more\n")


def test_options_of_the_run_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_requests(tmp_path / "in.jsonl", 9)
    check(str(path), RunOptions(limit=4))
    assert capsys.readouterr().out.startswith("4 lines: 4 can be sent")


def test_of_many_models_the_most_asked_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    bodies = [{"model": f"m{n}", "messages": [{"role": "user", "content": "x"}]} for n in range(23)]
    path.write_text("".join(json.dumps(body) + "\n" for body in [*bodies, bodies[22]]))
    result = headway("run", str(path), "--check")
    assert result.exit_code == 0
    assert result.stdout.index("2 for m22") < result.stdout.index("1 for m0")
    assert "and 3 more\n" in result.stdout
