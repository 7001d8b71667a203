"""``headway merge``: what it says, and its exit code."""

from __future__ import annotations

from pathlib import Path

from commands import headway, said

from headway.bulk.output.journal import Journal
from headway.bulk.output.rows import error_row

HEADER = {"input": "f00d", "provider": ["p", "u"], "shape": {}, "lines": 2}


def shards(folder: Path) -> list[str]:
    paths = [folder / f"{index}.jsonl" for index in range(2)]
    for index, path in enumerate(paths):
        with Journal(path, {**HEADER, "shard": [index, 2]}) as journal:
            for number in (2 * index + 1, 2 * index + 2):
                journal.start(number)
                journal.write(number, error_row(number, "same", "http_400", "no"), "http_400")
            journal.finish()
    return [str(path) for path in paths]


def test_it_says_what_was_written(tmp_path: Path) -> None:
    target = tmp_path / "all.jsonl"
    result = headway("merge", *shards(tmp_path), "-o", str(target))
    assert result.exit_code == 0
    assert said(result) == (
        f"{target}: 4 rows, 4 of them failed, 3 have a custom_id that came before"
    )
    assert target.read_bytes().count(b"\n") == 4


def test_a_part_of_the_shards_is_2_and_writes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "all.jsonl"
    result = headway("merge", shards(tmp_path)[0], "-o", str(target))
    assert result.exit_code == 2
    assert said(result).startswith("headway: shards are missing: 1/2")
    assert not target.exists()


def test_what_was_damaged_is_said(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    path = Path(paths[1])
    path.write_bytes(path.read_bytes().replace(b'"no"', b'"ja"', 1))
    result = headway("merge", *paths, "--partial", "-o", str(tmp_path / "all.jsonl"))
    assert "1 was damaged or there twice, and is left out, 1 line has no row" in said(result)
