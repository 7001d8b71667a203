"""Runs that share limits, each in a process of its own: shards of one file."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from commands import headway, ids_of, said, started, write_requests
from echo import Echo, echo

__all__ = ["echo"]


@pytest.fixture(autouse=True)
def folder(echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    write_requests(tmp_path / "requests.jsonl", 60)
    return tmp_path


def options(echo: Echo, *more: str, limits: tuple[str, ...] = ("--concurrency", "3")) -> list[str]:
    address = ("--base-url", echo.url, "--shared", "acme")
    return ["run", "requests.jsonl", *address, *limits, *more]


def test_two_shards_share_the_slots(echo: Echo, folder: Path) -> None:
    echo.takes = 0.01
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                started(*options(echo, "--shard", f"{shard}/2", "-o", f"{shard}.jsonl", "--json"))
            )
            for shard in range(2)
        ]
        assert [run.wait() for run in runs] == [0, 0]
    assert echo.peak <= 3
    answered = [ids_of(folder / f"{shard}.jsonl") for shard in range(2)]
    assert sorted(answered[0] + answered[1]) == sorted(f"q{number}" for number in range(60))
    assert all(answered)
    assert len(echo.asked) == 60
    # What they learned is the store's, and no file's beside the rows.
    assert list(folder.glob("*.run/journal"))
    assert not list(folder.glob("*.run/memory.json"))


def test_limits_that_differ_end_the_run_and_none_joins(echo: Echo, folder: Path) -> None:
    assert headway(*options(echo, "--limit", "2")).exit_code == 0
    other = headway(*options(echo, "-o", "b.jsonl", limits=("--rate", "700/min")))
    assert other.exit_code == 2
    assert "are stated already, and differ" in said(other)
    assert not (folder / "b.jsonl").exists()
    joined = headway(*options(echo, "-o", "c.jsonl", "--json", limits=()))
    assert joined.exit_code == 0
    assert json.loads(joined.stdout.splitlines()[-1])["remaining"] == 0
    assert echo.peak <= 3


def test_a_place_that_is_none(echo: Echo) -> None:
    result = headway("run", "requests.jsonl", "--base-url", echo.url, "--shared", "gopher://x")
    assert result.exit_code == 2
    assert "gopher:// is no store that headway knows. Fix: a name such as" in said(result)


def test_the_others_concurrency_is_not_lowered(
    echo: Echo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = sys.modules["headway.bulk.run"]
    monkeypatch.setattr(module, "connections_for", lambda wanted: min(wanted, 2))
    assert headway(*options(echo)).exit_code == 0
    assert caplog.messages == [
        "this process may open no more than 2 connections, and of what is shared it may get more. "
        "Fix: raise the limit: ulimit -n 67"
    ]
    echo.takes = 0.005
    assert headway(*options(echo, "--overwrite")).exit_code == 0  # under the same limits
    assert echo.peak <= 3
