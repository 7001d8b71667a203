"""The output of a run: rows appended to a file, each with one write."""

from __future__ import annotations

import os
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
        if path.exists() and path.samefile(source):
            raise InvalidOutput(
                f"the output {path} is the input itself, which would be lost. "
                "Give another file with -o"
            )
        if path.is_dir():
            raise InvalidOutput(f"the output {path} is a folder. Give a file with -o")
        self._created = not path.exists()
        self._path = path
        self._fd = _open_output(path, 0 if overwrite else os.O_EXCL)
        self._size = 0

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


def _open_output(path: Path, flags: int) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | flags, 0o666)
    except FileExistsError:
        raise InvalidOutput(
            f"{path} exists already, and may hold results. "
            "Give another file with -o, or replace it with --overwrite"
        ) from None
    except OSError as error:
        if not path.parent.exists():
            raise InvalidOutput(
                f"cannot write {path}: the folder {path.parent} does not exist. "
                f"Make it first: mkdir -p {path.parent}"
            ) from None
        raise InvalidOutput(
            f"cannot write {path}: {error.strerror}. Give another file with -o"
        ) from None
