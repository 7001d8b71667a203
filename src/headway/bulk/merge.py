"""The outputs of a run's shards as one file, in the order of the input."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headway.bulk.journal import journal_header, row_number, trace_file
from headway.bulk.output import ANSWERED, InvalidOutput, errors_file
from headway.bulk.record import read_trace
from headway.bulk.seen import SeenIds

__all__ = ["Merged", "merge"]


class _Row(msgspec.Struct):
    custom_id: str | None = None


_decode_id = msgspec.json.Decoder(_Row).decode
_SAME = ("input", "provider", "shape")


@dataclass(frozen=True, slots=True)
class Merged:
    """What was written: rows, how many of them failed, lines of which no shard has a row, and rows
    whose `custom_id` came before: no shard knows the ids of another.
    """

    rows: int
    failed: int
    missing: int
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class _Part:
    path: Path
    index: int
    count: int
    lines: int
    header: Mapping[str, Any]


def merge(
    outputs: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    partial: bool = False,
    overwrite: bool = False,
) -> Merged:
    """Write the rows of `outputs`, the results of all shards of one run, to `target`.

    The failed rows stand a second time in ``….errors.jsonl`` beside it. Raises `InvalidOutput`
    where a shard is missing, comes twice, belongs to another run or has lines without a row, the
    latter not with `partial`; and where `target` exists, unless `overwrite` is true.
    """
    target = Path(target)
    if any(target.exists() and Path(path).exists() and target.samefile(path) for path in outputs):
        raise InvalidOutput(
            f"the output {target} is one of the results to merge, which would be lost. Give "
            "another file with -o"
        )
    parts = sorted((_part(Path(path)) for path in outputs), key=lambda part: part.index)
    _check(parts)
    if target.exists() and not overwrite:
        raise InvalidOutput(
            f"{target} exists already. Give another file with -o, or replace it with --overwrite"
        )
    draft = target.with_name(f".{target.name}.draft")
    failures = target.with_name(f".{target.name}.errors.draft")
    rows = failed = missing = duplicates = 0
    seen = SeenIds()
    try:
        with draft.open("wb") as kept, failures.open("wb") as errors:
            for part in parts:
                before = rows
                for row in _in_order(part.path):
                    kept.write(row)
                    rows += 1
                    custom_id = _decode_id(row).custom_id
                    duplicates += custom_id is not None and seen.first_line(custom_id, rows) != rows
                    if not row.endswith(ANSWERED):
                        errors.write(row)
                        failed += 1
                if (limit := part.header.get("limit")) is not None and not partial:
                    raise InvalidOutput(
                        f"{part.path} was run with --limit {limit}. Run that shard without it "
                        "first, or merge what is there with --partial"
                    )
                left = part.lines - (rows - before)
                if left < 0 and limit is None:
                    raise InvalidOutput(
                        f"{part.path} has {rows - before:,} rows for {part.lines:,} lines: it "
                        "holds those of others. Run that shard anew with --overwrite"
                    )
                if left > 0 and not _is_done(part.path):
                    missing += left
                    if not partial:
                        raise InvalidOutput(
                            f"{part.path} has rows for {rows - before:,} of its {part.lines:,} "
                            "lines. Run that shard to its end first, or merge what is there with "
                            "--partial"
                        )
            kept.flush()
            os.fsync(kept.fileno())
        draft.replace(target)
        if failed:
            failures.replace(errors_file(target))
    finally:
        draft.unlink(missing_ok=True)
        failures.unlink(missing_ok=True)
    return Merged(rows, failed, missing, duplicates)


def _part(path: Path) -> _Part:
    header = journal_header(path)
    if header is None:
        raise InvalidOutput(
            f"{path} is no output of a run with a journal beside it. Give the results of "
            "`headway run --shard`"
        )
    if not isinstance(shard := header.get("shard"), list):
        raise InvalidOutput(
            f"{path} is the output of a whole run, not of a shard. There is nothing to merge"
        )
    return _Part(path, shard[0], shard[1], header.get("lines") or 0, header)


def _is_done(path: Path) -> bool:
    """Whether its last session came to the end: a shard with blank lines has fewer rows."""
    trace = trace_file(path)
    sessions = read_trace(trace).sessions if trace.is_file() else []
    end = sessions[-1].end if sessions else None
    return end is not None and end.reason == "done"


def _check(parts: Sequence[_Part]) -> None:
    if not parts:
        raise InvalidOutput("there is nothing to merge. Give the results of all shards")
    first = parts[0]
    for part in parts:
        if part.count != first.count or any(
            part.header.get(name) != first.header.get(name) for name in _SAME
        ):
            raise InvalidOutput(
                f"{part.path} and {first.path} are not shards of one run: their input, their "
                "options or the number of shards differ"
            )
    found = [part.index for part in parts]
    if twice := {index for index in found if found.count(index) > 1}:
        raise InvalidOutput(f"shard {min(twice)}/{first.count} comes twice. Give each once")
    if missing := sorted(set(range(first.count)) - set(found)):
        shown = ", ".join(f"{index}/{first.count}" for index in missing[:10])
        raise InvalidOutput(f"shards are missing: {shown}. Give the results of all of them")


def _in_order(path: Path) -> Iterator[bytes]:
    """The rows at `path` by their line's number; eight bytes of memory for each line."""
    with path.open("rb") as file:
        first = last = None
        for row in file:
            number = row_number(row)
            if number is not None:
                first = number if first is None else min(first, number)
                last = number if last is None else max(last, number)
        if first is None or last is None:
            return
        offsets = array("Q", bytes(8 * (last - first + 1)))
        file.seek(0)
        at = 0
        for row in file:
            number = row_number(row)
            if number is not None and row.endswith(b"\n"):
                offsets[number - first] = at + 1
            at += len(row)
        for offset in offsets:
            if offset:
                file.seek(offset - 1)
                yield file.readline()
