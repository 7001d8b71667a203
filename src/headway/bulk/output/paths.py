"""Files that are only appended to: the rows of a run, each with one write."""

from __future__ import annotations

import os
import shlex
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from headway.errors import InvalidArgument

__all__ = [
    "AppendFile", "InvalidOutput", "cannot_write", "check_output", "default_output",
    "errors_file", "fresh", "is_device", "is_planted", "open_own", "run_folder",
]  # fmt: skip

_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


_OTHER_TABLES = frozenset(
    {".xlsx", ".xls", ".xlsm", ".ods", ".arrow", ".feather", ".orc", ".avro", ".db", ".sqlite",
     ".sqlite3", ".duckdb", ".pkl"}
)  # fmt: skip


class InvalidOutput(InvalidArgument):
    """An output path that cannot be written, or holds something already: nothing was sent."""


def default_output(source: Path, shard: tuple[int, int] | None = None) -> Path:
    """``requests.results.jsonl`` for ``requests.jsonl`` (``.gz`` or not), beside it; with a shard
    ``requests.results.3-of-8.jsonl``.
    """
    name = source.name
    for suffix in (".gz", ".zst"):
        name = name.removesuffix(suffix)
    stem = Path(name).stem or "requests"
    part = "" if shard is None else f".{shard[0]}-of-{shard[1]}"
    return source.with_name(f"{stem}.results{part}.jsonl")


def errors_file(output: Path) -> Path:
    """Where the failed rows of `output` stand a second time."""
    return output.with_name(f"{output.name.removesuffix('.jsonl')}.errors.jsonl")


def run_folder(output: Path) -> Path:
    """The folder in which a run keeps what it must remember, beside its output."""
    return output.with_name(f"{output.name.removesuffix('.jsonl')}.run")


def fresh(path: Path) -> BinaryIO:
    """A new file at `path`, open for writing; what a kill has left there goes, links unfollowed."""
    path.unlink(missing_ok=True)
    return os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")


def open_own(path: Path, flags: int) -> int:
    """A descriptor of a file that is nobody else's to read, through no link that stands there."""
    return os.open(path, flags | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)


def is_planted(path: Path) -> bool:
    """Whether `path` is a link that another user has made."""
    return os.path.islink(path) and hasattr(os, "geteuid") and path.lstat().st_uid != os.geteuid()


class AppendFile:
    """One append descriptor, one `os.write` for each piece: a killed process loses none of them.

    Raises `OSError`, with the path, where it cannot be written (any more); what could be written
    in part is cut off again.
    """

    def __init__(self, path: Path, fd: int | None = None) -> None:
        self.path = path
        self.dirty = False  # whether `sync` has something to bring to the disk
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._fd = open_own(path, flags) if fd is None else fd
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        self.size = os.fstat(self._fd).st_size if self._regular else 0

    def write(self, data: bytes) -> None:
        """Append `data`, all of it or nothing."""
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            if self._regular:
                with suppress(OSError):
                    os.truncate(self._fd, self.size)
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self.size += len(data)
        self.dirty = self._regular

    def sync(self) -> None:
        """Bring to the disk what was written: for a power failure, a kill loses nothing."""
        if self.dirty:
            self.dirty = False
            _sync(self._fd)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)


def check_output(path: Path, source: Path | None) -> None:
    """Raise `InvalidOutput` for a path that can be no output."""
    if path.suffix.lower() in (".gz", ".zst", ".bz2", ".xz", ".zip"):
        raise InvalidOutput(
            f"the output {path} would not be compressed, whatever its name says",
            fix="give it another name with -o, and compress it when it is done",
        )
    if path.suffix.lower() in _OTHER_TABLES:
        raise InvalidOutput(
            f"the output {path} would be no {path.suffix}: rows are JSONL, and a table is CSV or "
            "Parquet",
            fix=f"-o {shlex.quote(str(path.with_suffix('.csv')))}, which spreadsheets and "
            "databases read",
        )
    if is_planted(path) and not is_device(path):
        raise InvalidOutput(
            f"the output {path} is a link that another user has made",
            fix="remove the link, or give another file with -o",
        )
    try:
        found = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise InvalidOutput(
                f"the output {path} is a link to {path.readlink()}, which does not exist",
                fix="remove the link, or give another file with -o",
            ) from None
        if not path.parent.exists():
            raise InvalidOutput(
                f"cannot write {path}: the folder {path.parent} does not exist",
                fix=f"make it first: mkdir -p {shlex.quote(str(path.parent))}",
            ) from None
        return
    except OSError as error:
        raise cannot_write(path, error) from None
    if source is not None and source.exists() and os.path.samestat(found, source.stat()):
        raise InvalidOutput(
            f"the output {path} is the input itself, which would be lost",
            fix="give another file with -o",
        )
    if stat.S_ISDIR(found.st_mode):
        raise InvalidOutput(f"the output {path} is a folder", fix="give a file with -o")


def is_device(path: Path) -> bool:
    """Whether `path` is a pipe or a device such as /dev/null, which keeps nothing."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def cannot_write(path: Path, error: OSError) -> InvalidOutput:
    """The error of an output that cannot be opened."""
    return InvalidOutput(f"cannot write {path}: {error.strerror}", fix="give another file with -o")
