"""The header of a journal, what was run, which begins with a check of its own: a CRC-32."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

__all__ = ["read_header", "write_header"]

_VERSION = 1
_HEADER = re.compile(rb'\{"check":"([0-9a-f]{8})",')
_LONGEST = 1024 * 1024  # bytes of a header


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
