"""What stands where a run, a merge or a report is to write: headway's own, or somebody else's.

Nothing that is not recognised here is deleted, replaced or written to. All of it only looks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from headway.bulk.output.header import read_header
from headway.bulk.output.paths import InvalidOutput, errors_file, is_planted, run_folder
from headway.bulk.output.rows import Checks, is_answered, is_row, is_torn

__all__ = [
    "check_place",
    "holds_failed_rows",
    "holds_rows",
    "in_the_way",
    "is_empty",
    "is_own_folder",
    "refuse_inputs",
]

_LOOKED_AT = 1024 * 1024  # bytes: where one row shows whose file it is
# What a kill may leave without a journal.
_FOLDER = {
    "lock",
    "journal.draft",
    "before",
    "gone",
    "memory.json",
}


def check_place(output: Path) -> None:
    """Raise `InvalidOutput` where `output` is a file that another run keeps or will write."""
    name, folder = output.name, output.parent
    if folder.suffix == ".run" and read_header(folder / "journal"):
        raise InvalidOutput(
            f"{folder} is where a run keeps its journal, and no place for {name}",
            fix="give a file in another folder with -o",
        )
    base = folder / f"{name.removesuffix('.errors.jsonl')}.jsonl"
    if name.endswith(".errors.jsonl") and read_header(run_folder(base) / "journal"):
        raise InvalidOutput(
            f"{output} is where the failed rows of the run to {base} go",
            fix="give another file with -o",
        )
    errors = errors_file(output)
    if errors != output and read_header(run_folder(errors) / "journal"):
        raise InvalidOutput(
            f"{errors}, where the failed rows of {output} go, is the output of another run",
            fix="give another file with -o",
        )


def refuse_inputs(inputs: Iterable[Path], written: Iterable[Path], output: Path) -> None:
    """Raise `InvalidOutput` where one of the files to be `written` is one of the `inputs`."""
    read = [(path, path.stat()) for path in inputs if path.exists()]
    for path in written:
        if not path.exists():
            continue
        for source, found in read:
            if os.path.samestat(found, path.stat()):
                raise InvalidOutput(
                    f"{path}, which belongs to the output {output}, is the input {source} itself, "
                    "which would be lost",
                    fix="give another file with -o",
                )


def in_the_way(path: Path, what: str, output: Path) -> InvalidOutput:
    """The error for `path`, where `what` of `output` is to go."""
    return InvalidOutput(
        f"{path} is in the way: {what} of {output} is to go there, and what is there is not as "
        "headway left it",
        fix="move it away, or give another file with -o",
    )


def is_empty(path: Path) -> bool:
    """Whether there is nothing at `path`, or a file that holds nothing."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return not path.is_symlink()


def is_own_folder(folder: Path) -> bool:
    """Whether `folder` is none yet, or one that a run keeps its memory in."""
    if is_planted(folder):
        return False
    if not folder.is_dir():
        return True
    names = set(os.listdir(folder))
    if any((folder / name).is_symlink() for name in names):
        return False
    if "lock" in names and (folder / "lock").stat().st_size:
        return False
    return "journal" in names or "before" in names or names <= _FOLDER


def holds_rows(path: Path, checks: Checks | None) -> bool:
    """Whether some line at the start of `path` is a row of the run with these checks (None: of
    any run of headway's).
    """
    with path.open("rb") as file:
        lines = file.readlines(_LOOKED_AT)
    return any(is_row(line) if checks is None else checks.number(line) for line in lines)


def holds_failed_rows(path: Path, checks: Checks | None) -> bool:
    """Whether `path` holds failed rows of the run with these checks (None: of any) and nothing
    else; the last one may be torn.
    """
    with path.open("rb") as file:
        for line in file:
            whole = is_row(line) if checks is None else checks.number(line) is not None
            if is_answered(line) or not (whole or is_torn(line)):
                return False
    return True
