"""The lines of a file, read one at a time in binary: no more than one of them is in memory."""

from __future__ import annotations

import codecs
import gzip
import io
import stat
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from headway.bulk.input.foreign import (
    InvalidInput,
    check_text,
    is_spread,
    quoted,
    refuse_folder,
)
from headway.errors import MissingExtra

__all__ = [
    "MAX_LINE",
    "BoundedFile",
    "Compression",
    "InvalidInput",
    "Line",
    "as_utf8",
    "check_compression",
    "check_head",
    "compression_of",
    "copied",
    "count_lines",
    "decompressed",
    "open_file",
    "read_lines",
    "skip_line",
    "undecodable",
    "wide_encoding",
]

MAX_LINE = 16 * 1024 * 1024
"""The longest line that is taken, in bytes without its line break."""

_CHUNK = 1024 * 1024
_EXAMPLE = 'one request a line, like {"custom_id": "1", "body": {"model": "…", "messages": […]}}'

Compression = Literal["gzip", "zstd"]
_MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_SUFFIX: dict[str, str] = {"gzip": ".gz", "zstd": ".zst"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank. `number` counts from 1; `size` is in bytes, without the break.

    `data` is empty when `size` is above `MAX_LINE`: such a line is measured, not kept.
    """

    number: int
    size: int
    data: bytes


def check_head(head: bytes, name: str, *, table: bool = False) -> None:
    """Raise `InvalidInput` when a file that starts with `head` can be no JSONL, or no CSV."""
    check_text(head, name, table=table)
    first = next(read_lines(io.BytesIO(head)), None)
    if first is None:
        example = "a header and one record a prompt" if table else _EXAMPLE
        raise InvalidInput(f"{name} is empty", fix=f"put {example} in it")
    # A line that goes on beyond the head may be cut inside a character.
    whole = len(first.data) < len(head) - 4 or len(head) < _CHUNK
    position = undecodable(first.data if whole else first.data[:-4])
    if position is not None and (whole or position < len(first.data) - 8):
        raise InvalidInput(
            f"{name} is not UTF-8 text (line {first.number}, byte {position + 1})",
            fix="convert it first, for example: iconv -f LATIN1 -t UTF-8 "
            f"{quoted(name)} > utf8.{'csv' if table else 'jsonl'}",
        )
    if not table and first.data.lstrip().startswith(b"["):
        raise InvalidInput(
            f"{name} starts with '[': a JSON array, not JSONL",
            fix=f"write one request a line, for example: jq -c '.[]' {quoted(name)} > lines.jsonl",
        )
    if not table and first.data.lstrip().startswith(b"<"):
        raise InvalidInput(
            f"{name} starts with '<': a web page or XML, not JSONL",
            fix="look at what it says: it may be a sign-in page in the place of the file.",
        )
    if not table and is_spread(head, first.data):
        raise InvalidInput(
            f"{name} holds JSON over several lines, not JSONL",
            fix=f"write one request a line, for example: jq -c . {quoted(name)} > lines.jsonl",
        )


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
        data = data.removeprefix(codecs.BOM_UTF8)  # of the file, or of one that was joined to it
        if not data.endswith(b"\n") and len(data) > MAX_LINE:
            size = len(data)
            del data  # before the rest is read: a long line costs its limit once
            yield Line(number, size + skip_line(file), b"")
            continue
        data = data.rstrip(b"\r\n")
        if len(data) > MAX_LINE:
            yield Line(number, len(data), b"")
        elif not data.isspace() and data:
            yield Line(number, len(data), data)


def skip_line(file: BinaryIO) -> int:
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


# -- what a file is stored as ------------------------------------------------------------------


def compression_of(head: bytes) -> Compression | None:
    """How a file that starts with `head` (4 bytes) is compressed."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def check_compression(head: bytes, name: str) -> Compression | None:
    """`compression_of` the file `name`; `InvalidInput` where its suffix says something else."""
    found = compression_of(head)
    said = next((kind for kind, end in _SUFFIX.items() if name.lower().endswith(end)), None)
    if head and found != said:
        is_ = f"is compressed with {found}" if found else f"is not compressed with {said}"
        ends = f"its name ends in {_SUFFIX[said]}" if said else "its name does not say so"
        stem = name[: -len(_SUFFIX[said])] if said else name
        to = stem + (_SUFFIX[found] if found else "")
        raise InvalidInput(
            f"{name} {is_}, but {ends}", fix=f"rename it: mv {quoted(name)} {quoted(to)}"
        )
    return found


def decompressed(file: BinaryIO, kind: Compression | None, name: str) -> BinaryIO:
    """What `file` holds. Reading raises `InvalidInput` where it is cut off or damaged."""
    if kind is None:
        return file
    raw = gzip.GzipFile(fileobj=file) if kind == "gzip" else _zstd(file)
    return io.BufferedReader(_Checked(raw, kind, name), 128 * 1024)


def as_utf8(file: BinaryIO, name: str) -> BinaryIO:
    """What `file` holds as UTF-8, where a byte order mark says that it is UTF-16 or UTF-32. Reading
    raises `InvalidInput` for what is neither after all.
    """
    head: bytes = cast("Any", file).peek(4)[:4]
    encoding = wide_encoding(head)
    return file if encoding is None else io.BufferedReader(_Narrow(file, encoding, name), _CHUNK)


def wide_encoding(head: bytes) -> str | None:
    """The encoding that a byte order mark at the start of `head` names, None for UTF-8."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None


class _Narrow(io.RawIOBase):
    """The text in `file` as UTF-8."""

    def __init__(self, file: BinaryIO, encoding: str, name: str) -> None:
        self._file, self._encoding, self._name = file, encoding, name
        self._decode = codecs.getincrementaldecoder(encoding)().decode
        self._ready, self._ended = b"", False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; how many bytes that were."""
        while not self._ready and not self._ended:
            data = self._file.read(_CHUNK)
            self._ended = not data
            try:
                self._ready = self._decode(data, self._ended).encode()
            except UnicodeError as error:
                raise InvalidInput(
                    f"{self._name} starts as {self._encoding.upper()} and is not ({error})",
                    fix="save it as UTF-8, or fetch it again",
                ) from None
        data, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


class BoundedFile(io.RawIOBase):
    """The first `end` bytes of a seekable `file`, from where it stands now, whatever it grows to.

    Reading raises `InvalidInput` where the file has become shorter.
    """

    def __init__(self, file: BinaryIO, end: int, name: str) -> None:
        self._file, self._left, self._name = file, end - file.tell(), name

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; how many bytes that were."""
        data = self._file.read(min(len(buffer), self._left))
        if not data and self._left > 0 and len(buffer):
            raise InvalidInput(
                f"{self._name} became shorter while it was read",
                fix="run again once nothing writes to it",
            )
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


class _Checked(io.RawIOBase):
    """A decompressed stream whose errors are `InvalidInput`."""

    def __init__(self, raw: Any, kind: Compression, name: str) -> None:
        self._raw, self._kind, self._name = raw, kind, name

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; how many bytes that were."""
        try:
            data = self._raw.read(len(buffer))
        except EOFError:
            raise InvalidInput(
                f"{self._name} ends in the middle of its {self._kind} data: it was not copied "
                "whole",
                fix="fetch it again",
            ) from None
        except (OSError, zlib.error, ValueError) as error:
            raise InvalidInput(
                f"{self._name} holds something that is not {self._kind} data ({error}): it is "
                "damaged, or more was appended to it",
                fix="fetch it again",
            ) from None
        buffer[: len(data)] = data
        return len(data)


def _zstd(file: BinaryIO) -> _ZstdFrames:
    try:
        import zstandard
    except ImportError as error:  # pragma: no cover - needs an environment without the extra
        raise MissingExtra(
            "reading .zst files takes zstandard, which is not installed",
            fix="install it with: pip install 'headway[cli]'",
        ) from error
    return _ZstdFrames(file, zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError)


class _ZstdFrames:
    """The frames of a zstd file one after another. (`stream_reader` does not tell a cut one.)"""

    # 512 bytes of zeros compressed unfold to 16 MiB: a longer step could fill the memory.
    _STEP = 512

    def __init__(self, file: BinaryIO, new_frame: Any, failure: type[Exception]) -> None:
        self._file, self._new_frame, self._failure = file, new_frame, failure
        self._frame: Any = None
        self._waiting = b""  # compressed
        self._data, self._at = b"", 0  # decompressed

    def read(self, size: int) -> bytes:
        while self._at >= len(self._data):
            step = self._waiting or self._file.read(self._STEP)
            self._waiting = b""
            if not step:
                if self._frame is not None:
                    raise EOFError
                return b""
            if self._frame is None:
                self._frame = self._new_frame()
            try:
                self._data, self._at = self._frame.decompress(step), 0
            except self._failure as error:
                raise ValueError(str(error)) from None
            if self._frame.eof:
                self._waiting, self._frame = self._frame.unused_data, None
        data = self._data[self._at : self._at + size]
        self._at += len(data)
        return data


# -- opening -----------------------------------------------------------------------------------


def open_file(path: Path) -> BinaryIO:
    """Open a file or a pipe; `InvalidInput` for what is neither, or cannot be read."""
    try:
        # Looked at before it is opened: to open some devices waits, or does something.
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            refuse_folder(path)
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
            kind = "a socket" if stat.S_ISSOCK(mode) else "a device"
            raise InvalidInput(
                f"{path} is {kind}, not a file", fix="write the requests to a file first"
            )
        return path.open("rb")
    except FileNotFoundError:
        raise InvalidInput(f"{path} does not exist", fix="check the path") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        said = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"cannot read {path}: {said}", fix="check the path") from None


def copied(file: BinaryIO, folder: Path) -> BinaryIO:
    """What is left of `file`, in a file of its own in `folder`, which has no name and so is gone
    with the process, whatever ends it.
    """
    copy: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller's
    while data := file.read(_CHUNK):
        copy.write(data)
    copy.seek(0)
    return cast("BinaryIO", copy)
