"""What the names of a run's input and output mean, and where its rows go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from headway import bulk
from headway.bulk.input.source import InvalidInput, Shard
from headway.bulk.output.header import read_header
from headway.bulk.output.journal import Journal
from headway.bulk.output.opening import Paths, open_rows, paths_of
from headway.bulk.output.paths import InvalidOutput
from headway.bulk.output.pipe import Pipe

ENDPOINT = bulk.Endpoint("custom", "http://test/v1", "a-key", "HEADWAY_API_KEY")
LINE = b'{"custom_id":"q","body":{"model":"m","messages":[{"role":"user","content":"x"}]}}\n'


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_bytes(LINE)
    return Path("in.jsonl")


@pytest.mark.parametrize(
    ("name", "target", "shard", "found"),
    [
        ("in.jsonl", None, None, Paths("in.jsonl", Path("in.results.jsonl"), None)),
        ("in.jsonl", None, (1, 3), Paths("in.jsonl", Path("in.results.1-of-3.jsonl"), None)),
        ("in.jsonl", "out.jsonl", (1, 3), Paths("in.jsonl", Path("out.jsonl"), None)),
        ("in.jsonl", "-", None, Paths("in.jsonl", None, None)),
        ("-", None, None, Paths("-", None, None)),
        ("-", "out.jsonl", None, Paths("-", Path("out.jsonl"), Path())),
        ("-", os.devnull, None, Paths("-", Path(os.devnull), None)),
    ],
)
def test_what_the_names_mean(
    name: str, target: str | None, shard: tuple[int, int] | None, found: Paths, source: Path
) -> None:
    part = None if shard is None else Shard(*shard)
    assert paths_of(name, target, part) == found


def test_a_pipe_is_copied_beside_the_output(source: Path) -> None:
    os.mkfifo("pipe")
    assert paths_of("pipe", "out.jsonl", None).spool == Path()


def test_names_that_mean_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="the input's name is empty"):
        paths_of("", "out.jsonl", None)
    with pytest.raises(InvalidOutput, match="the output's name is empty"):
        paths_of(source, "", None)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InvalidInput, match="standard input is closed"):
        paths_of("-", "out.jsonl", None)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(InvalidOutput, match="standard output is closed"):
        paths_of(source, "-", None)


def test_a_file_is_kept_and_a_device_is_not(source: Path) -> None:
    options = bulk.RunOptions()
    for target, kind in (("out.jsonl", Journal), (os.devnull, Pipe)):
        paths = paths_of(source, target, None)
        lines = bulk.open_source(source, options.shape)
        try:
            with open_rows(paths, lines, ENDPOINT, options) as rows:
                assert type(rows) is kind
        finally:
            lines.close()


def test_what_may_not_differ_in_a_resumption_is_in_the_header(source: Path) -> None:
    options = bulk.RunOptions(limit=5)
    lines = bulk.open_source(source, options.shape, limit=5)
    with open_rows(paths_of(source, "out.jsonl", None), lines, ENDPOINT, options) as rows:
        rows.start(1)
        told = read_header(Path("out.run/journal"))
        lines.close()
    assert told is not None
    assert told["input"] == lines.fingerprint
    assert told["provider"] == ["custom", "http://test/v1"]
    assert (told["limit"], told["lines"], told["shard"]) == (5, 1, None)
    other = bulk.Endpoint("custom", "http://other/v1", None, "HEADWAY_API_KEY")
    with pytest.raises(InvalidOutput, match="the provider or its address is another"):
        open_rows(paths_of(source, "out.jsonl", None), lines, other, options)
