"""``headway run``: what it refuses before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import headway, said, write_requests


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_requests(tmp_path / "in.jsonl", 2)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("in.jsonl",), "TOGETHER_API_KEY"),
        (("none.jsonl", "--base-url", "http://test/v1"), "none.jsonl does not exist"),
        (("in.jsonl", "--rate", "600"), "Fix: --rate 600/min"),
        (("in.jsonl", "--shard", "3/2"), "shard"),
        (("in.jsonl", "--param", "n"), "is not KEY=VALUE"),
        (("in.jsonl", "--base-url", "http://test/v1", "-o", "in.jsonl"), "is the input itself"),
    ],
)
def test_bad_usage_is_2_and_leaves_nothing(
    arguments: tuple[str, ...], says: str, folder: Path
) -> None:
    result = headway("run", *arguments)
    assert result.exit_code == 2
    assert says in said(result)
    assert [path.name for path in folder.iterdir()] == ["in.jsonl"]
