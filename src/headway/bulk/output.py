"""The output of a run: rows appended to a file, each with one write."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from headway.errors import HeadwayError

__all__ = ["InvalidOutput", "RowFile", "default_output"]


class InvalidOutput(HeadwayError, ValueError):
    """An output path that cannot be written, or holds something already: nothing was sent."""


def default_output(source: Path) -> Path:
    """``requests.results.jsonl`` for ``requests.jsonl``, beside it."""
    return source.with_name(f"{source.stem}.results.jsonl")


class RowFile:
    """The output: one append descriptor, one write a row; `InvalidOutput` if it cannot be had.

    A file that is to be replaced keeps what it holds until the first row is there.
    """

    def __init__(self, path: Path, source: Path, overwrite: bool) -> None:
        self._path = path
        self._size = 0
        try:
            mode = _look_at(path, source)
            # A device such as /dev/null holds nothing that would be lost.
            exclusive = not overwrite and not stat.S_ISCHR(mode)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | (os.O_EXCL if exclusive else 0)
            self._created = not mode
            self._fd = os.open(path, flags, 0o666)
        except OSError as error:
            raise InvalidOutput(_why_not(path, error)) from None

    def write(self, row: bytes) -> None:
        """Append `row`; where only a part of it can be written, that part is cut off again."""
        if self._size == 0 and not self._created:
            os.close(os.open(self._path, os.O_WRONLY | os.O_TRUNC))
        try:
            written = os.write(self._fd, row)
            while written < len(row):
                written += os.write(self._fd, row[written:])
        except OSError as error:
            with suppress(OSError):  # a device cannot be cut
                os.truncate(self._fd, self._size)
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        self._size += len(row)

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._fd)
        if self._size == 0 and self._created:
            self._path.unlink()  # so that the next try does not find it in its way


def _look_at(path: Path, source: Path) -> int:
    """The mode of what is at `path`, 0 for nothing; `InvalidOutput` for what can be no output."""
    try:
        found = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise InvalidOutput(
                f"the output {path} is a link to {path.readlink()}, which does not exist. "
                "Remove the link, or give another file with -o"
            ) from None
        return 0
    if os.path.samestat(found, source.stat()):
        raise InvalidOutput(
            f"the output {path} is the input itself, which would be lost. Give another file with -o"
        )
    if stat.S_ISDIR(found.st_mode):
        raise InvalidOutput(f"the output {path} is a folder. Give a file with -o")
    return found.st_mode


def _why_not(path: Path, error: OSError) -> str:
    """What keeps `path` from being the output, and the way out."""
    if isinstance(error, FileExistsError):
        return (
            f"{path} exists already, and may hold results. "
            "Give another file with -o, or replace it with --overwrite"
        )
    if isinstance(error, FileNotFoundError) and not path.parent.exists():
        return (
            f"cannot write {path}: the folder {path.parent} does not exist. "
            f"Make it first: mkdir -p {path.parent}"
        )
    return f"cannot write {path}: {error.strerror}. Give another file with -o"
