"""The lines of a file, read one at a time in binary: no more than one of them is in memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from headway.errors import HeadwayError

__all__ = [
    "MAX_LINE",
    "InvalidInput",
    "Line",
    "check_start",
    "count_lines",
    "read_lines",
    "undecodable",
]

MAX_LINE = 16 * 1024 * 1024
"""The longest line that is taken, in bytes without its line break."""

_CHUNK = 1024 * 1024


class InvalidInput(HeadwayError, ValueError):
    """An input file that cannot be a batch file at all: nothing of it was sent."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank. `number` counts from 1; `size` is in bytes, without the break.

    `data` is empty when `size` is above `MAX_LINE`: such a line is measured, not kept.
    """

    number: int
    size: int
    data: bytes


def check_start(file: BinaryIO, name: str) -> None:
    """Read the first line and raise `InvalidInput` when `file` cannot be JSONL; then rewind."""
    head = file.read(4)
    file.seek(0)
    if (found := _not_text(head)) is not None:
        what, fix = found
        raise InvalidInput(
            f"{name} is {what}, not UTF-8 text. Convert it first: {fix} {name} > utf8.jsonl"
        )
    first = next(read_lines(file), None)
    file.seek(0)
    if first is None:
        raise InvalidInput(
            f"{name} is empty. It should hold one request a line, like "
            '{"custom_id": "1", "body": {"model": "…", "messages": […]}}'
        )
    if (position := undecodable(first.data)) is not None:
        raise InvalidInput(
            f"{name} is not UTF-8 text (line {first.number}, byte {position + 1}). "
            f"Convert it first, for example: iconv -f LATIN1 -t UTF-8 {name} > utf8.jsonl"
        )
    if first.data.lstrip().startswith(b"["):
        raise InvalidInput(
            f"{name} starts with '[': a JSON array, not JSONL. Write one request a line, "
            f"for example: jq -c '.[]' {name} > lines.jsonl"
        )


def _not_text(head: bytes) -> tuple[str, str] | None:
    """What a file with this start is, and the command that makes text of it."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32", "iconv -f UTF-32 -t UTF-8"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16", "iconv -f UTF-16 -t UTF-8"
    if head.startswith(b"\x1f\x8b"):
        return "compressed with gzip", "gunzip -c"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "compressed with zstd", "unzstd -c"
    if b"\x00" in head:
        return "binary, or UTF-16 without a mark", "iconv -f UTF-16LE -t UTF-8"
    return None


def count_lines(file: BinaryIO) -> int:
    """How many lines `file` has from here on, blank ones among them: about a second a gigabyte."""
    count, last = 0, b"\n"
    while chunk := file.read(_CHUNK):
        count += chunk.count(b"\n")
        last = chunk[-1:]
    return count + (last != b"\n")


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """The lines of `file` that are not blank, one at a time, none of them held when too long."""
    number = 0
    while data := file.readline(MAX_LINE + 2):
        number += 1
        if number == 1:
            data = data.removeprefix(codecs.BOM_UTF8)
        if not data.endswith(b"\n") and len(data) > MAX_LINE:
            size = len(data)
            del data  # before the rest is read: a long line costs its limit once
            yield Line(number, size + _skip_line(file), b"")
            continue
        data = data.rstrip(b"\r\n")
        if len(data) > MAX_LINE:
            yield Line(number, len(data), b"")
        elif not data.isspace() and data:
            yield Line(number, len(data), data)


def _skip_line(file: BinaryIO) -> int:
    """Read to the end of the line; how many bytes that were, without the break."""
    size = 0
    while chunk := file.readline(_CHUNK):
        size += len(chunk)
        if chunk.endswith(b"\n"):
            return size - 1
    return size


def undecodable(data: bytes) -> int | None:
    """The position of the first byte that is not UTF-8, or None."""
    if data.isascii():
        return None
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None
