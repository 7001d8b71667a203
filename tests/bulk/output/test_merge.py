"""Shards to one file: the order of the input, and what keeps them from being joined."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from headway.bulk.output.journal import Journal
from headway.bulk.output.merge import Merged, merge
from headway.bulk.output.paths import InvalidOutput, errors_file

HEADER = {"input": "f00d", "provider": ["p", "u"], "shape": {}, "lines": 3}


def a_row(number: int, name: str, code: str | None) -> bytes:
    error = None if code is None else {"code": code, "message": "m"}
    value = {"id": f"batch_req_{number}", "custom_id": name, "response": None, "error": error}
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def shard(
    folder: Path, index: int, numbers: Iterable[int], *, count: int = 2, failed: Iterable[int] = (),
    done: bool = True, names: str = "q{}", **header: Any,
) -> Path:  # fmt: skip
    """The results of one shard, its rows in the order of `numbers`."""
    output = folder / f"out.{index}.jsonl"
    with Journal(output, {**HEADER, "shard": [index, count], **header}) as journal:
        for number in numbers:
            code = "http_400" if number in failed else None
            journal.start(number)
            journal.write(number, a_row(number, names.format(number), code), code)
        if done:
            journal.finish()
    return output


def names(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_bytes().splitlines()]


def test_rows_come_in_the_order_of_the_input(tmp_path: Path) -> None:
    second = shard(tmp_path, 1, [6, 4, 5], failed=[4])
    first = shard(tmp_path, 0, [2, 3, 1], failed=[3])
    target = tmp_path / "all.jsonl"
    assert merge([second, first], target) == Merged(rows=6, failed=2, missing=0)
    assert names(target) == ["q1", "q2", "q3", "q4", "q5", "q6"]
    assert names(errors_file(target)) == ["q3", "q4"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (target, errors_file(target))} == {0o600}
    assert b"".join(sorted(first.read_bytes().splitlines(True))) in target.read_bytes()


def test_ids_that_shards_share_are_counted(tmp_path: Path) -> None:
    outputs = [shard(tmp_path, 0, [1, 2, 3], names="same"), shard(tmp_path, 1, [4, 5, 6])]
    assert merge(outputs, tmp_path / "all.jsonl").duplicates == 2


def test_an_earlier_merge_is_replaced_only_where_that_is_wanted(tmp_path: Path) -> None:
    outputs = [shard(tmp_path, 0, [1, 2, 3], failed=[1]), shard(tmp_path, 1, [4, 5, 6])]
    target = tmp_path / "all.jsonl"
    merge(outputs, target)
    with pytest.raises(InvalidOutput, match="exists already"):
        merge(outputs, target)
    assert merge(outputs, target, overwrite=True).rows == 6


def test_a_shard_that_is_not_done_is_merged_in_part(tmp_path: Path) -> None:
    outputs = [shard(tmp_path, 0, [1, 2, 3]), shard(tmp_path, 1, [6], done=False)]
    with pytest.raises(InvalidOutput, match="rows for 1 of its 3 lines"):
        merge(outputs, tmp_path / "all.jsonl")
    assert (
        sorted(path.name for path in tmp_path.iterdir() if path.name.startswith((".", "all"))) == []
    )
    assert merge(outputs, tmp_path / "all.jsonl", partial=True) == Merged(4, 0, missing=2)


def test_a_damaged_row_is_left_out_with_partial_alone(tmp_path: Path) -> None:
    outputs = [shard(tmp_path, 0, [1, 2, 3]), shard(tmp_path, 1, [4, 5, 6])]
    outputs[1].write_bytes(outputs[1].read_bytes().replace(b'"q5"', b'"q0"'))
    with pytest.raises(InvalidOutput, match="holds 1 line other than the run wrote"):
        merge(outputs, tmp_path / "all.jsonl")
    found = merge(outputs, tmp_path / "all.jsonl", partial=True)
    assert (found.rows, found.damaged, found.missing) == (5, 1, 1)
    assert names(tmp_path / "all.jsonl") == ["q1", "q2", "q3", "q4", "q6"]


def test_what_are_no_shards_of_one_run(tmp_path: Path) -> None:
    first, second = shard(tmp_path, 0, [1, 2, 3]), shard(tmp_path, 1, [4, 5, 6])
    other = shard(tmp_path, 2, [7], input="beef")
    (tmp_path / "plain.jsonl").write_bytes(b"{}\n")
    target = tmp_path / "all.jsonl"
    for outputs, says in (
        ([], "nothing to merge"),
        ([first], "shards are missing: 1/2"),
        ([first, first, second], "shard 0/2 comes twice"),
        ([first, second, other], "are not shards of one run"),
        ([first, tmp_path / "plain.jsonl"], "is no output of a run"),
    ):
        with pytest.raises(InvalidOutput, match=says):
            merge(outputs, target)
    with pytest.raises(InvalidOutput, match="is one of the results to merge"):
        merge([first, second], second)
    assert not target.exists()
