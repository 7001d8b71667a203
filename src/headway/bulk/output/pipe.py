"""Rows to standard output or a device: a run that is not kept, and cannot be resumed."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections import Counter
from pathlib import Path

from headway.bulk.output.bitmap import Bitmap
from headway.bulk.output.journal import Journal
from headway.bulk.output.paths import AppendFile

__all__ = ["Pipe", "Rows"]


class Pipe:
    """The rows of one run, as a `Journal` has them, to a device; `fd` is where it is open already,
    and is not closed.

    With `ordered` they wait in a temporary file, and go out in the order of the input at the end.
    """

    dirty = False  # nothing is kept, so that `sync` has nothing to do

    def __init__(self, path: Path, fd: int | None = None, *, ordered: bool = False) -> None:
        self.done = Bitmap()
        self.ambiguous = Bitmap()
        self.failed: Counter[str] = Counter()
        # A device is no file that somebody could read, and /dev/stdout is a link.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._out = AppendFile(path, os.open(path, flags, 0o600) if fd is None else fd)
        self._owned = fd is None
        self._spool = tempfile.TemporaryFile() if ordered else None  # noqa: SIM115 - see __exit__
        self._places = array("Q")  # number, offset, number, offset, …

    def __contains__(self, number: int) -> bool:
        return False

    def start(self, number: int) -> None:
        """Nothing is remembered."""

    def refused(self, number: int) -> None:
        """Nothing is remembered."""

    def write(self, number: int, row: bytes, code: str | None) -> None:
        """Write the row of the line `number`, which failed with `code` (None: it was answered)."""
        if self._spool is None:
            self._out.write(row)
        else:
            self._places.extend((number, self._spool.tell()))
            self._spool.write(row)
        if code is None:
            self.done.add(number)
        else:
            self.failed[code] += 1

    def sync(self) -> None:
        """Nothing is kept."""

    def arrange(self) -> None:
        """Write what waits, in the order of the input."""
        if self._spool is None:
            return
        places = self._places
        for _, offset in sorted(zip(places[::2], places[1::2], strict=True)):
            self._spool.seek(offset)
            self._out.write(self._spool.readline())

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._owned:
            self._out.close()
        if self._spool is not None:
            self._spool.close()


Rows = Journal | Pipe
"""Where the rows of a run go."""
