"""The outputs of a run's shards as one file, in the order of the input."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.bulk.input.seen import SeenIds
from headway.bulk.output.bitmap import Bitmap
from headway.bulk.output.header import read_header
from headway.bulk.output.journal import finished_rows, journal_header
from headway.bulk.output.paths import InvalidOutput, errors_file, run_folder
from headway.bulk.output.rows import Checks, custom_id_of, is_answered
from headway.bulk.output.strangers import (
    check_place,
    holds_failed_rows,
    holds_rows,
    in_the_way,
    is_empty,
    refuse_inputs,
)
from headway.bulk.output.table import is_table
from headway.kinds._words import counted

__all__ = ["Merged", "check_target", "merge"]


_SAME = ("input", "provider", "shape")


@dataclass(frozen=True, slots=True)
class Merged:
    """What was written: rows, how many of them failed, lines of which no shard has a row, rows
    whose `custom_id` came before (no shard knows the ids of another), and rows that were left out,
    for they are not as their run wrote them, or come twice.
    """

    rows: int
    failed: int
    missing: int
    duplicates: int = 0
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class _Part:
    path: Path
    index: int
    count: int
    lines: int
    finished: int | None  # rows, where it is done: blank lines have none
    header: Mapping[str, Any]
    checks: Checks


def merge(
    outputs: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    partial: bool = False,
    overwrite: bool = False,
) -> Merged:
    """Write the rows of `outputs`, the results of all shards of one run, to `target`.

    The failed rows stand a second time in ``….errors.jsonl`` beside it. Raises `InvalidOutput`
    where a shard is missing, comes twice, belongs to another run, or has damaged rows or lines
    without a row, the latter two not with `partial`; where `target` or its file of failed rows
    exists, unless `overwrite` is true; and where one of those is no file of an earlier merge.
    """
    target = Path(target)
    _refuse_table(target)
    if any(target.exists() and Path(path).exists() and target.samefile(path) for path in outputs):
        raise InvalidOutput(
            f"the output {target} is one of the results to merge, which would be lost",
            fix="give another file with -o",
        )
    parts = sorted((_part(Path(path)) for path in outputs), key=lambda part: part.index)
    _check(parts)
    _check_target(target, parts, overwrite=overwrite)
    rows = failed = missing = duplicates = damaged = 0
    seen = SeenIds()
    with _Draft(target) as kept, _Draft(target) as errors:
        for part in parts:
            before = rows
            broken, in_order = _in_order(part)
            damaged += len(broken)
            if broken and not partial:
                raise InvalidOutput(
                    f"{part.path} holds {counted(len(broken), 'line')} other than the run "
                    f"wrote, or there twice, the first after {counted(broken[0], 'byte')}",
                    fix="run that shard again, which mends it, or merge the others with --partial",
                )
            for row in in_order:
                kept.write(row)
                rows += 1
                custom_id = custom_id_of(row)
                duplicates += custom_id is not None and seen.first_line(custom_id, rows) != rows
                if not is_answered(row):
                    errors.write(row)
                    failed += 1
            missing += _missing(part, rows - before, partial=partial)
        # The target comes last: a kill before that leaves it as it was.
        failures = errors_file(target)
        if failed:
            errors.put(failures)
        else:
            failures.unlink(missing_ok=True)  # of an earlier merge
        kept.put(target)
    return Merged(rows, failed, missing, duplicates, damaged)


def _missing(part: _Part, rows: int, *, partial: bool) -> int:
    """How many lines of `part`, of which there are so many `rows`, have none."""
    if (limit := part.header.get("limit")) is not None and not partial:
        raise InvalidOutput(
            f"{part.path} was run with --limit {limit}",
            fix="run that shard without it first, or merge what is there with --partial",
        )
    if part.finished is not None and rows != part.finished:
        if rows < part.finished and partial:
            return part.finished - rows
        raise InvalidOutput(
            f"{part.path} has {counted(rows, 'row')}, and had {part.finished:,} when its run was "
            "done",
            fix="run that shard again, which sends what is gone, or merge what is there with "
            "--partial",
        )
    left = 0 if part.finished is not None else part.lines - rows
    if left < 0 and limit is None:
        raise InvalidOutput(
            f"{part.path} has {counted(rows, 'row')} for {counted(part.lines, 'line')}: it holds "
            "those of others",
            fix="run that shard anew with --overwrite",
        )
    if left > 0 and not partial:
        raise InvalidOutput(
            f"{part.path} has rows for {rows:,} of its {counted(part.lines, 'line')}",
            fix="run that shard to its end first, or merge what is there with --partial",
        )
    return max(0, left)


def _check_target(target: Path, parts: Sequence[_Part], *, overwrite: bool) -> None:
    """Raise `InvalidOutput` where `target` is somebody's, or there and not to be replaced."""
    read = [path for part in parts for path in (part.path, errors_file(part.path))]
    for part in parts:
        read.extend(run_folder(part.path).iterdir())
    refuse_inputs(read, [target, errors_file(target)], target)
    check_target(target, overwrite=overwrite)


def check_target(target: Path, *, overwrite: bool = False) -> None:
    """Raise `InvalidOutput` where rows cannot be merged into `target`, as `merge` does."""
    _refuse_table(target)
    failures = errors_file(target)
    check_place(target)
    if read_header(run_folder(target) / "journal") is not None:
        raise InvalidOutput(
            f"{target} is the output of a run of its own", fix="give another file with -o"
        )
    if target.exists() and not overwrite:
        raise InvalidOutput(
            f"{target} exists already",
            fix="give another file with -o, or replace it with --overwrite",
        )
    if not is_empty(target) and not holds_rows(target, None):
        raise in_the_way(target, "all rows", target)
    if not is_empty(failures) and not holds_failed_rows(failures, None):
        raise in_the_way(failures, "the file of the failed rows", target)


def _refuse_table(target: Path) -> None:
    if is_table(target):
        raise InvalidOutput(
            f"{target} is a table by its name, and rows are merged",
            fix="give a .jsonl with -o, and make a table of it: headway export",
        )


class _Draft:
    """A file beside `target` that is gone at the end, unless it was put in its place."""

    def __init__(self, target: Path) -> None:
        fd, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:50]}.")
        self._path, self._file = Path(name), open(fd, "wb")  # noqa: SIM115 - closed at the end
        self.write = self._file.write

    def put(self, path: Path) -> None:
        """Bring it to the disk, and to `path`, in one step; nobody else may read it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._path.replace(path)

    def __enter__(self) -> _Draft:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def _part(path: Path) -> _Part:
    header = journal_header(path)
    if header is None:
        raise InvalidOutput(
            f"{path} is no output of a run with a journal beside it",
            fix="give the results of `headway run --shard`",
        )
    if not header:
        raise InvalidOutput(
            f"the journal of {path} is damaged, so that its rows cannot be checked",
            fix="restore "
            f"{run_folder(path) / 'journal'} from a copy, or run that shard anew with --overwrite",
        )
    if not isinstance(shard := header.get("shard"), list):
        raise InvalidOutput(
            f"{path} is the output of a whole run, not of a shard",
            fix="use it as it is: there is nothing to merge",
        )
    return _Part(
        path, shard[0], shard[1], header.get("lines") or 0, finished_rows(path), header,
        Checks(header),
    )  # fmt: skip


def _check(parts: Sequence[_Part]) -> None:
    if not parts:
        raise InvalidOutput("there is nothing to merge", fix="give the results of all shards")
    first = parts[0]
    for part in parts:
        if part.count != first.count or any(
            part.header.get(name) != first.header.get(name) for name in _SAME
        ):
            raise InvalidOutput(
                f"{part.path} and {first.path} are not shards of one run: their input, their "
                "options or the number of shards differ",
                fix="give the results of all shards of one run",
            )
    found = [part.index for part in parts]
    if twice := {index for index in found if found.count(index) > 1}:
        raise InvalidOutput(f"shard {min(twice)}/{first.count} comes twice", fix="give each once")
    if missing := sorted(set(range(first.count)) - set(found)):
        shown = ", ".join(f"{index}/{first.count}" for index in missing[:10])
        raise InvalidOutput(f"shards are missing: {shown}", fix="give the results of all of them")


def _in_order(part: _Part) -> tuple[Sequence[int], Iterator[bytes]]:
    """Where the damaged and doubled rows of `part` begin, and the others by their line's number;
    eight bytes of memory for each line.
    """
    numbers, broken = Bitmap(), array("Q")
    first = last = 0
    with part.path.open("rb") as file:
        for number, at, row in part.checks.rows(file):
            if number is not None and numbers.add(number):
                first, last = min(first or number, number), max(last, number)
            elif number is not None or row.endswith(b"\n"):  # else it is a row that a kill cut
                broken.append(at)
    return broken, _sorted(part, first, last)


def _sorted(part: _Part, first: int, last: int) -> Iterator[bytes]:
    offsets = array("Q", bytes(8 * (last - first + 1)))
    with part.path.open("rb") as file:
        for number, at, _ in part.checks.rows(file):
            if number is not None and not offsets[number - first]:
                offsets[number - first] = at + 1
        for offset in offsets:
            if offset:
                file.seek(offset - 1)
                yield file.readline()
