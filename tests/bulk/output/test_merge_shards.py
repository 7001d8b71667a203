"""Shards that are merged: in the order of the input, and none that is not of the same run."""

from __future__ import annotations

from pathlib import Path

import pytest
from journaled import HEADER, numbers, row, write

from headway.bulk.output.journal import Journal
from headway.bulk.output.merge import Merged, merge
from headway.bulk.output.paths import InvalidOutput, errors_file


def shard(folder: Path, index: int, rows: list[tuple[int, str | None]], lines: int) -> Path:
    output = folder / f"r.{index}-of-3.jsonl"
    with Journal(output, {**HEADER, "shard": [index, 3], "lines": lines}) as journal:
        for number, code in rows:
            write(journal, number, code)
    return output


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    return [
        shard(tmp_path, 0, [(3, None), (1, None), (2, "http_400")], 3),
        shard(tmp_path, 1, [(5, None), (4, None)], 2),
        shard(tmp_path, 2, [(7, None), (6, "timeout")], 2),
    ]


def test_shards_are_merged_in_the_order_of_the_input(shards: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "all.jsonl"
    assert merge(list(reversed(shards)), target) == Merged(7, 2, 0, duplicates=6)
    assert numbers(target) == [1, 2, 3, 4, 5, 6, 7]
    assert numbers(errors_file(target)) == [2, 6]
    with pytest.raises(InvalidOutput, match="exists already"):
        merge(shards, target)
    merge(shards, target, overwrite=True)


def test_a_shard_that_is_not_done(shards: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "all.jsonl"
    (tmp_path / "new").mkdir()
    shards[1] = shard(tmp_path / "new", 1, [(5, None)], 2)
    with pytest.raises(InvalidOutput) as caught:
        merge(shards, target)
    assert str(caught.value) == (
        f"{shards[1]} has rows for 1 of its 2 lines. Fix: run that shard to its end first, or "
        f"merge "
        "what is there with --partial"
    )
    assert sorted(path.name for path in tmp_path.glob("*all*")) == []
    assert merge(shards, target, partial=True).missing == 1
    assert numbers(target) == [1, 2, 3, 5, 6, 7]


@pytest.mark.parametrize(
    ("pick", "message"),
    [
        ((0, 1), "shards are missing: 2/3. Fix: give the results of all of them"),
        ((0, 1, 1, 2), "shard 1/3 comes twice. Fix: give each once"),
        ((), "there is nothing to merge. Fix: give the results of all shards"),
    ],
)
def test_shards_that_do_not_fit(
    pick: tuple[int, ...], message: str, shards: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(InvalidOutput) as caught:
        merge([shards[index] for index in pick], tmp_path / "all.jsonl")
    assert str(caught.value) == message


def test_what_is_no_shard(shards: list[Path], tmp_path: Path) -> None:
    (tmp_path / "foreign.jsonl").write_bytes(row(1))
    with pytest.raises(InvalidOutput, match="is no output of a run with a journal beside it"):
        merge([tmp_path / "foreign.jsonl"], tmp_path / "all.jsonl")
    with Journal(tmp_path / "whole.jsonl", HEADER) as journal:
        write(journal, 1)
    with pytest.raises(InvalidOutput, match="is the output of a whole run, not of a shard"):
        merge([tmp_path / "whole.jsonl"], tmp_path / "all.jsonl")
    with Journal(tmp_path / "s.jsonl", {**HEADER, "input": "b", "shard": [1, 3]}) as journal:
        write(journal, 4)
    with pytest.raises(InvalidOutput, match="are not shards of one run"):
        merge([shards[0], tmp_path / "s.jsonl", shards[2]], tmp_path / "all.jsonl")


def test_a_shard_is_not_replaced_by_the_whole(shards: list[Path]) -> None:
    with pytest.raises(InvalidOutput) as caught:
        merge(shards, shards[0], overwrite=True)
    assert str(caught.value) == (
        f"the output {shards[0]} is one of the results to merge, which would be lost. Fix: give "
        f"another "
        "file with -o"
    )


def test_a_shard_that_holds_rows_of_others(tmp_path: Path) -> None:
    shards = [
        shard(tmp_path, 0, [(1, None), (2, None)], 1),
        shard(tmp_path, 1, [(2, None)], 1),
        shard(tmp_path, 2, [(3, None)], 1),
    ]
    with pytest.raises(InvalidOutput, match="has 2 rows for 1 line: it holds those of others"):
        merge(shards, tmp_path / "all.jsonl")
