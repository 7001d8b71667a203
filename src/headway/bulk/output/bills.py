"""What a run was billed, or may have been, for attempts whose answers stand in no answered row.

An attempt that failed and was billed, and one that was in flight when the process was killed, is a
line of ``billed.jsonl`` in the run's folder: a later session counts it, whatever became of the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from headway.bulk.output.paths import AppendFile

__all__ = ["Bills", "Unanswered"]


class Unanswered(msgspec.Struct):
    """An attempt at `line` that got no answer: the models that it may be priced as (the one that
    answered, the one that was asked), and tokens.
    """

    line: int
    models: list[str | None]
    read: int
    written: int
    cached: int = 0
    either: int = 0


_decode = msgspec.json.Decoder(Unanswered).decode


class Bills:
    """The file of a run, in its folder. Use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "billed.jsonl"
        self._file: AppendFile | None = None

    def add(self, attempt: Unanswered) -> None:
        """Write it down. Raises `OSError`."""
        # A line break in front too: what a full disk or a kill cut off stays a line by itself.
        if self._file is None:
            self._file = AppendFile(self._path)
        try:
            data = msgspec.json.encode(attempt)
        except UnicodeEncodeError:  # half a character in a model's name
            attempt = msgspec.structs.replace(attempt, models=[None, None])
            data = msgspec.json.encode(attempt)
        self._file.write(b"\n" + data + b"\n")

    def __iter__(self) -> Iterator[Unanswered]:
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            for line in file:
                with suppress(msgspec.DecodeError, RecursionError):
                    yield _decode(line)

    def __enter__(self) -> Bills:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._file is not None:
            self._file.close()
