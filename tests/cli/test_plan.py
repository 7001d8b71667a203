"""``headway plan``: words or JSON, and errors in the words of the command line."""

from __future__ import annotations

import json
from pathlib import Path

from commands import headway, said, write_requests


def test_a_plan_in_words_and_in_json_is_the_same_plan(tmp_path: Path) -> None:
    path = str(write_requests(tmp_path / "in.jsonl", 10))
    words = headway("plan", path, "--concurrency", "2", "--latency", "3")
    assert words.exit_code == 0
    assert words.stdout.startswith("10 requests would take 15 s.\n")
    found = json.loads(
        headway("plan", path, "--concurrency", "2", "--latency", "3", "--json").stdout
    )
    assert (found["requests"], found["seconds"]) == (10, 15.0)
    assert found["in_flight"] == {"most": 2, "mean": 2.0}


def test_only_the_first_lines_where_a_limit_says_so(tmp_path: Path) -> None:
    path = str(write_requests(tmp_path / "in.jsonl", 10))
    found = headway("plan", path, "--limit", "4", "--latency", "1", "--json")
    assert json.loads(found.stdout)["requests"] == 4


def test_what_cannot_be_planned_is_2(tmp_path: Path) -> None:
    path = str(write_requests(tmp_path / "in.jsonl", 1))
    for arguments, says in (
        ((str(tmp_path / "none"),), "does not exist"),
        ((path, "--rate", "600"), "Fix: --rate 600/min"),
        ((path, "--like", "none.jsonl"), "none.jsonl is no run of which anything is known"),
    ):
        result = headway("plan", *arguments)
        assert result.exit_code == 2
        assert says in said(result)
