"""The rows of a Parquet file as lines of JSON, by pyarrow, where that is installed."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

from headway.bulk.input.foreign import InvalidInput

__all__ = ["is_parquet", "parquet_lines", "pyarrow_or_none"]

_BATCH = 1_000  # rows

_encode = msgspec.json.Encoder(enc_hook=str).encode


def pyarrow_or_none() -> Any:
    """The module ``pyarrow``, None where it is not installed."""
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        return None


def is_parquet(head: bytes) -> bool:
    """Whether a file that starts with `head` is Parquet."""
    return head.startswith(b"PAR1")


def parquet_lines(file: BinaryIO, name: str) -> BinaryIO:
    """The rows of the Parquet `file`, a JSON object a line, without what is null in them.

    Raises `InvalidInput` where pyarrow is not installed, or cannot read it.
    """
    if pyarrow_or_none() is None:
        raise InvalidInput(
            f"{name} is a Parquet file, which takes pyarrow to read",
            fix="install it, and run the same command again: pip install pyarrow",
        )
    parquet: Any = importlib.import_module("pyarrow.parquet")
    copy = os.fdopen(os.dup(file.fileno()), "rb")  # it is closed with what reads it
    copy.seek(0)
    try:
        opened = parquet.ParquetFile(copy)
    except Exception as error:
        copy.close()
        raise InvalidInput(
            f"{name} starts as a Parquet file, and cannot be read as one: {error}",
            fix="fetch it again",
        ) from None
    return io.BufferedReader(_Lines(_rows(opened, copy, name)), 128 * 1024)


def _rows(opened: Any, copy: BinaryIO, name: str) -> Iterator[bytes]:
    try:
        for batch in opened.iter_batches(_BATCH):
            for row in batch.to_pylist():
                said = {key: value for key, value in row.items() if value is not None}
                yield _encode(said) + b"\n"
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{name} is damaged: {error}", fix="fetch it again") from None
    finally:
        copy.close()


class _Lines(io.RawIOBase):
    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines, self._ready = lines, b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; how many bytes that were."""
        if not self._ready:
            self._ready = next(self._lines, b"")
        data, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)
