"""How a row shows that it is as its run wrote it: by a CRC-32 of its own.

The check is the second member of a row, ``"check"``: the CRC-32, in hexadecimal, of what follows
it, begun with what was run and with the number of the line. So a row counts for its own run, its
own line and its own answer alone. The header of a journal begins with a check of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

__all__ = ["Checks", "is_row", "read_header", "write_header"]

_VERSION = 1
_RUN = ("input", "provider", "shape", "shard")  # what makes a run that run, of its header
_ROW = re.compile(rb'\{"id":"batch_req_([1-9]\d{0,17})","check":"([0-9a-f]{8})",')
_HEADER = re.compile(rb'\{"check":"([0-9a-f]{8})",')
_WHOLE = 0xFFFFFFFF
_LONGEST = 1024 * 1024  # bytes of a header


class Checks:
    """The checks of the run with this header."""

    def __init__(self, header: Mapping[str, Any]) -> None:
        told = [header.get(name) for name in _RUN]
        self._seed = crc32(json.dumps(told, sort_keys=True).encode())

    def with_check(self, number: int, row: bytes) -> bytes:
        """The row of the line `number`, with its check."""
        head, _, rest = row.partition(b",")
        check = crc32(rest, (self._seed + number) & _WHOLE)
        return b'%b,"check":"%08x",%b' % (head, check, rest)

    def number(self, row: bytes) -> int | None:
        """The number of the line whose row this is; None for what this run has not written so."""
        return next(self.rows([row]))[0]

    def rows(self, lines: Iterable[bytes]) -> Iterator[tuple[int | None, int, bytes]]:
        """Each of the `lines`: its `number`, where it begins, and itself."""
        match, seed, at = _ROW.match, self._seed, 0  # for a million rows each name counts
        for line in lines:
            number = None
            if (found := match(line)) is not None and line.endswith(b"\n"):
                told = int(found[1])
                if crc32(line[found.end() :], (seed + told) & _WHOLE) == int(found[2], 16):
                    number = told
            yield number, at, line
            at += len(line)


def is_row(line: bytes) -> bool:
    """Whether `line` looks like a row of some run of headway's, damaged or not."""
    return _ROW.match(line) is not None


def read_header(path: Path) -> dict[str, Any] | None:
    """The header of the journal at `path`, empty where it is damaged; None where there is none."""
    try:
        with path.open("rb") as file:
            line = file.readline(_LONGEST)
    except FileNotFoundError:
        return None
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(header, dict):
        return {}
    if header.get("version") == _VERSION:
        found = _HEADER.match(line)
        if found is None:
            return {"version": None}  # of another version, before there were checks
        if crc32(line[found.end() :]) != int(found[1], 16):
            return {}
    return header


def write_header(file: BinaryIO, header: Mapping[str, Any]) -> None:
    """Write the first line of a journal."""
    rest = json.dumps({"version": _VERSION, **header}).encode()[1:] + b"\n"
    file.write(b'{"check":"%08x",%b' % (crc32(rest), rest))
