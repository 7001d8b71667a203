"""The input of a run: opened, measured, and read request by request."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from headway.bulk.input.foreign import refuse_address, to_lines
from headway.bulk.input.formats import BadLine, Request, RequestReader, resolve_endpoint
from headway.bulk.input.lines import (
    MAX_LINE,
    BoundedFile,
    Compression,
    InvalidInput,
    Line,
    as_utf8,
    check_compression,
    check_head,
    compression_of,
    copied,
    count_lines,
    decompressed,
    open_file,
    read_lines,
    skip_line,
    wide_encoding,
)
from headway.bulk.input.parquet import is_parquet, parquet_lines
from headway.bulk.input.seen import SeenIds
from headway.bulk.input.shapes import Shape, Shard
from headway.bulk.input.tables import PromptReader, as_text, read_records
from headway.kinds._words import shown

__all__ = ["InvalidInput", "Shape", "Shard", "Source", "open_source"]

_CHUNK = 1024 * 1024
_LOOKED_AT = 1_000  # lines, for one with a model, or without


class _IdForm(msgspec.Struct, gc=False):
    custom_id: Any = None


_decode_id = msgspec.json.Decoder(_IdForm).decode


class Source:
    """An input that was opened and measured; made by `open_source`.

    `lines` counts what it will yield, blank lines among them until they were read, and `last` is
    the highest number of a line, of the whole part whatever the limit; both None for a stream.
    `size` is in bytes, as stored; `fingerprint` the hex SHA-256 of those and of the size.
    """

    def __init__(
        self, file: BinaryIO, name: str, shape: Shape, *, table: bool, limit: int | None,
        trust_ids: bool,
    ) -> None:  # fmt: skip
        self.name = name
        self.lines: int | None = None
        self.last: int | None = None
        self.size = 0
        self.fingerprint = ""
        self._file = file
        self._limit = limit
        self._trust_ids = trust_ids
        self._table = table
        self._named = False
        self._opened = 0
        self._compression: Compression | None = None
        self._parquet = False
        self._reading = False  # a stream, which may have nothing to give for a long time
        self._streamed: BinaryIO | None = None  # what is left of an input that is read once
        self._start, self._first, self._count = 0, 1, -1  # of the shard: byte, line, lines
        url = resolve_endpoint(shape.endpoint) if shape.endpoint is not None else None
        self._prompts: PromptReader | None = None
        self._model = shape.model
        self._batch = RequestReader(url, shape.model)
        if table or shape.prompt_column is not None or shape.template is not None:
            self._prompts = PromptReader(url or resolve_endpoint("chat"), shape)
        elif shape.id_column is not None or shape.system is not None or shape.parameters:
            raise InvalidInput(
                "an id column, a system prompt and parameters are for tables of prompts, and "
                f"{name} is read as requests",
                fix="give --prompt-column or --template too, or leave them out",
            )

    def grown(self) -> int:
        """Bytes that were added to a regular file since it was measured."""
        if self.lines is None or not self._named:
            return 0
        try:
            return max(0, os.fstat(self._file.fileno()).st_size - self._opened)
        except OSError:
            return 0

    def close(self) -> None:
        """Close the file, unless a thread waits in it for more: it would wait for that too."""
        if not self._reading:
            self._file.close()

    def requests(self, skip: Callable[[int], bool]) -> Iterator[Request | BadLine]:
        """The lines in file order, but those whose number `skip` is true for.

        The `custom_id` of a skipped line still counts for duplicates, unless ids are trusted.
        Numbers are of the whole file, from 1, in shards too. Raises `InvalidInput` where the file
        turns out to be cut off or damaged. A stream can be read once.
        """
        self._reading = self.lines is None
        try:
            for _, request in self.sized_requests(skip):
                yield request
        finally:
            self._reading = False

    def records(self) -> Iterator[tuple[int, Mapping[str, object]]]:
        """What was given of each line, by its number: the columns of a table of prompts, nothing of
        a line of requests. What cannot be read is nothing too.
        """
        content = self._open_content()
        if self._table:
            columns = self._prompts.columns() if self._prompts is not None else ()
            records = read_records(content, columns)
            header = next(records)
            for record in records:
                yield record.number, dict(zip(header.fields, record.fields, strict=False))
            return
        for line in islice(read_lines(content), self.lines):
            row: object = None
            if self._prompts is not None:
                with suppress(msgspec.DecodeError, RecursionError, UnicodeError):
                    row = msgspec.json.decode(line.data)
            yield self._first - 1 + line.number, row if isinstance(row, dict) else {}

    def sized_requests(
        self, skip: Callable[[int], bool]
    ) -> Iterator[tuple[int, Request | BadLine]]:
        """As `requests`, each with the size of its line in bytes."""
        seen = None if self._trust_ids else SeenIds()
        file = self._open_content()
        return self._records(file, skip, seen) if self._table else self._lines(file, skip, seen)

    def _lines(
        self, file: BinaryIO, skip: Callable[[int], bool], seen: SeenIds | None
    ) -> Iterator[tuple[int, Request | BadLine]]:
        readline = file.readline
        parse: Callable[[Line, SeenIds | None], Request | BadLine] = (
            self._prompts.of_line if self._prompts is not None else self._batch.parse
        )
        note_ids = seen is not None
        column = "custom_id" if self._prompts is None else self._prompts.id_column
        left = -1 if self._limit is None else self._limit
        number, last, count = self._first - 1, self._first - 1 + self._count, 0
        while number != last and left != 0 and (data := readline(MAX_LINE + 2)):
            number += 1
            if skip(number):
                count += 1
                left -= 1
                if len(data) > MAX_LINE and not data.endswith(b"\n"):
                    skip_line(file)
                elif note_ids and column is not None and (self._prompts or b"custom_id" in data):
                    assert seen is not None
                    try:
                        custom_id = (
                            _decode_id(data).custom_id
                            if self._prompts is None
                            else as_text(msgspec.json.decode(data)[column])
                        )
                    except Exception:  # whatever it is, the line has its row
                        continue
                    if isinstance(custom_id, str) and custom_id:
                        seen.first_line(custom_id, number)
                continue
            size = len(data)
            if size > MAX_LINE and not data.endswith(b"\n"):
                del data  # before the rest is read: a long line costs its limit once
                line = Line(number, size + skip_line(file), b"")
            else:
                data = data.rstrip(b"\r\n").removeprefix(codecs.BOM_UTF8)
                if not data or data.isspace():
                    continue
                size = len(data)
                line = Line(number, size, data if size <= MAX_LINE else b"")
            count += 1
            left -= 1
            yield line.size, parse(line, seen)
        if self.lines is not None:
            self.lines = count

    def _records(
        self, file: BinaryIO, skip: Callable[[int], bool], seen: SeenIds | None
    ) -> Iterator[tuple[int, Request | BadLine]]:
        prompts = self._prompts
        assert prompts is not None
        records = read_records(file, prompts.columns())
        header = next(records, None)
        if header is None or header.problem is not None:
            problem = header.problem if header is not None else None
            _, why, fix = problem or ("", "is missing", "give it one, with the columns' names")
            raise InvalidInput(f"the header of {self.name} {why}", fix=fix)
        prompts.bind(header.fields, self.name)
        for record in records:
            if self._limit is not None and record.number > self._limit:
                return
            if not skip(record.number):
                yield record.size, prompts.of_record(record, seen)
            elif seen is not None and prompts.id_column is not None and record.problem is None:
                custom_id = record.fields[header.fields.index(prompts.id_column)]
                if custom_id:
                    seen.first_line(custom_id, record.number)

    def _open_content(self) -> BinaryIO:
        """The text from the start of the shard on, behind a byte order mark."""
        if self.lines is None:
            if self._streamed is None:
                raise InvalidInput(
                    f"{self.name} is a stream and was read already", fix="use a file"
                )
            content, self._streamed = self._streamed, None
            return content
        content = self._content(self._start)
        if self._start == 0 and _peek(content).startswith(codecs.BOM_UTF8):
            content.read(3)
        return content

    def _content(self, start: int) -> BinaryIO:
        if self._parquet:
            return parquet_lines(self._file, self.name)
        self._file.seek(start)
        stored = io.BufferedReader(BoundedFile(self._file, self.size, self.name), _CHUNK)
        return as_utf8(decompressed(stored, self._compression, self.name), self.name)

    def measure(self, shard: Shard | None, *, named: bool = True) -> None:
        """Take the size, the fingerprint and the number of lines of a regular file.

        The suffix of a file that is `named` must fit what it holds.
        """
        self._file.seek(0)
        head = self._file.read(4)
        self._compression = check_compression(head, self.name) if named else compression_of(head)
        self.size = opened = self._opened = os.fstat(self._file.fileno()).st_size
        self._named = named
        self._parquet = not self._compression and is_parquet(head)
        wide = wide_encoding(head)
        stored = "CSV" if self._table else "Parquet" if self._parquet else (wide or "").upper()
        if self._compression:
            stored = stored or f"compressed with {self._compression}"
        if shard is not None and stored:
            raise no_shard(self.name, stored)
        check_head(self._content(0).read(_CHUNK), self.name, table=self._table)
        shard = Shard(0, 1) if shard is None else shard
        low = self.size * shard.index // shard.count
        high = self.size * (shard.index + 1) // shard.count
        before, through, cut = self._measure_bytes(low, high)
        if os.fstat(self._file.fileno()).st_size > opened and cut != self.size:
            self.size = cut  # the last line was not whole when the file was opened
            through -= high == opened
        if self._table:
            self.lines = 0  # from here on no stream
            columns = self._prompts.columns() if self._prompts is not None else ()
            self.lines = sum(1 for _ in read_records(self._open_content(), columns)) - 1
            next(self.sized_requests(lambda number: False), None)  # that the columns are there
        elif stored:
            self.lines = count_lines(self._content(0))
        else:
            self.lines = max(0, through - before)
            self._first, self._count = before + 1, self.lines
            self._start = self._start_of(low)
        if self._prompts is None:
            self._detect()
        self.last = self._first - 1 + self.lines
        if self._limit is not None:
            self.lines = min(self.lines, self._limit)

    def _measure_bytes(self, low: int, high: int) -> tuple[int, int, int]:
        """How many lines start before `low` and before `high`; the end of the last whole line.

        A line starts at 0 and behind each break: before `x` > 0, one more than breaks in front of
        byte `x` - 1.
        """
        digest = hashlib.sha256()
        stops = [max(0, low - 1), max(0, high - 1), self.size]
        breaks, counts, at, cut = 0, [], 0, 0
        self._file.seek(0)
        stored = BoundedFile(self._file, self.size, self.name)
        for stop in stops:
            while at < stop and (data := stored.read(min(_CHUNK, stop - at))):
                digest.update(data)
                breaks += data.count(b"\n")
                if (last := data.rfind(b"\n")) >= 0:
                    cut = at + last + 1
                at += len(data)
            counts.append(breaks)
        digest.update(self.size.to_bytes(8, "little"))
        self.fingerprint = digest.hexdigest()
        return counts[0] + (low > 0), counts[1] + (high > 0), cut

    def _start_of(self, low: int) -> int:
        """Where the first line that starts at `low` or later does."""
        if low == 0:
            return 0
        self._file.seek(low - 1)
        skip_line(self._file)
        return self._file.tell()

    def _detect(self) -> None:
        """Tell the form of the file by its first valid line, in whatever shard that is."""
        content = self._content(0)
        if _peek(content).startswith(codecs.BOM_UTF8):
            content.read(3)
        number = 0
        while data := content.readline(MAX_LINE + 2):
            number += 1
            if len(data) > MAX_LINE and not data.endswith(b"\n"):
                skip_line(content)
            elif self._batch.detect(line := Line(number, len(data), data)) is not None:
                if self._model is not None:
                    self._check_model(line, content)
                return
        if strange := self._batch.strange:
            raise InvalidInput(
                f"{self.name} holds no requests: its first object has {', '.join(strange[:8])}",
                fix=to_lines(strange, self.name)
                or "for prompts, say where they are: --prompt-column "
                f"{strange[0]}, or a --template; for bodies that only their url tells apart: "
                "--endpoint",
            )

    def _check_model(self, line: Line, content: BinaryIO) -> None:
        """Raise `InvalidInput` where the lines of a batch file, the first of which is `line`, all
        name other models than the one that was given: it would change nothing.
        """
        others = 0
        for each in islice(chain([line], read_lines(content)), _LOOKED_AT):
            found = self._batch.parse(each, None)
            if isinstance(found, Request) and found.model == self._model:
                return
            others += isinstance(found, Request) and found.custom_id != str(found.line)
        if others:
            raise InvalidInput(
                "the lines of a batch file name their models themselves, and --model "
                f"{self._model} would change nothing",
                fix="leave --model out",
            )

    def require_models(self) -> None:
        """Take no line without a model from here on. Raises `InvalidInput` where that is so for
        the first one that could be sent.
        """
        self._batch.models_needed = True
        if self.lines is None or self._prompts is not None:
            return
        content = self._content(0)
        if _peek(content).startswith(codecs.BOM_UTF8):
            content.read(3)
        for line in islice(read_lines(content), _LOOKED_AT):
            found = self._batch.parse(line, None)
            if isinstance(found, BadLine) and found.code == "missing_model":
                raise InvalidInput(
                    f"line {line.number} of {self.name} names no model", fix="give one with --model"
                )
            if isinstance(found, Request):
                return

    def stream(self) -> None:
        """Take the file as one that is read once, as it comes."""
        kind = compression_of(_peek(self._file))
        content = as_utf8(decompressed(self._file, kind, self.name), self.name)
        check_head(_peek(content), self.name, table=self._table)
        if _peek(content).startswith(codecs.BOM_UTF8):
            content.read(3)
        self._streamed = content


def no_shard(name: str, what: str) -> InvalidInput:
    """The error for a shard of what has no byte ranges."""
    return InvalidInput(
        f"{name} is {what}, and a shard is a range of bytes of a plain JSONL file",
        fix="turn it into one first, or leave --shard out",
    )


def _peek(file: Any) -> bytes:
    """What comes next, at least 4 bytes where there are so many, without taking it."""
    head: bytes = file.peek(4)
    return head


# -- opening -----------------------------------------------------------------------------------


def _file_of(path: str | os.PathLike[str] | BinaryIO) -> tuple[BinaryIO, str, bool]:
    """Its file, open; its name for people; and whether it can be read again."""
    if not isinstance(path, str | os.PathLike):
        name = str(getattr(path, "name", "the stream"))
        nameless = not name or name.startswith("<") or name.isdigit()
        return path, "the stream" if nameless else name, False
    name = os.fspath(path)
    if name == "-":
        return sys.stdin.buffer, "standard input", False
    refuse_address(name)
    file = open_file(Path(path))
    return file, name, stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def _is_csv(name: str) -> bool:
    stem = name.lower().removesuffix(".gz").removesuffix(".zst")
    return stem.endswith((".csv", ".tsv", ".tab", ".psv"))


def _looks_like_csv(file: BinaryIO, shape: Shape) -> bool:
    """Whether a stream, which has no suffix, is a table: one of JSONL starts with a brace."""
    if shape.prompt_column is None and shape.template is None:
        return False
    head = _peek(file)
    if compression_of(head) is not None:
        return False
    if (encoding := wide_encoding(head)) is not None:
        head = head[: len(head) // 4 * 4].decode(encoding, "replace").encode()
    return not head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")


def _check_opening(
    path: object, shape: object, shard: object, limit: object, trust_ids: object, spool: object
) -> None:
    """Raise `InvalidInput` for arguments of `open_source` that cannot be meant."""
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
        raise InvalidInput(
            f"limit={shown(limit)} is no number of lines", fix="give a whole one from 1"
        )
    if limit is not None and limit < 1:
        raise InvalidInput(f"a limit of {limit} lines leaves nothing", fix="give --limit 1 or more")
    if not (isinstance(path, str | os.PathLike) or hasattr(path, "read")):
        raise InvalidInput(
            f"{shown(path)} is no input", fix="give the path of a file, or an open one"
        )
    if not isinstance(shape, Shape):
        raise InvalidInput(
            f"shape={shown(shape)} is not a Shape", fix="give Shape(), or one with options"
        )
    if not isinstance(shard, Shard | None):
        raise InvalidInput(f"shard={shown(shard)} is not a Shard", fix="give Shard(0, 8), or none")
    if not isinstance(trust_ids, bool):
        raise InvalidInput(
            f"trust_ids={shown(trust_ids)} says neither yes nor no", fix="give True or False"
        )
    if not isinstance(spool, Path | None):
        raise InvalidInput(
            f"spool={shown(spool)} is not a Path", fix="give the Path of a folder, or none"
        )


def open_source(
    path: str | os.PathLike[str] | BinaryIO,
    shape: Shape,
    *,
    shard: Shard | None = None,
    limit: int | None = None,
    trust_ids: bool = False,
    spool: Path | None = None,
) -> Source:
    """Open and measure an input; blocks, for about a second a gigabyte.

    "-" is standard input; it, a pipe and an open file are copied into the folder `spool`, or read
    once as they come. `limit` takes the first lines alone. `trust_ids` looks for no duplicates.
    Raises `InvalidInput` for what cannot be read, and for options that do not fit it.
    """
    _check_opening(path, shape, shard, limit, trust_ids, spool)
    file, name, regular = _file_of(path)
    try:
        if not regular and shard is not None:
            raise no_shard(name, "a stream")
        if not regular and not isinstance(file, io.BufferedReader):
            raw: Any = file
            file = io.BufferedReader(raw)
        if not regular and spool is not None:
            file = copied(file, spool)
        table = _is_csv(name) or (not regular and _looks_like_csv(file, shape))
        source = Source(file, name, shape, table=table, limit=limit, trust_ids=trust_ids)
        if regular:
            source.measure(shard)
        elif spool is not None:
            source.measure(None, named=False)
        else:
            source.stream()
    except BaseException:
        if sys.stdin is None or file is not sys.stdin.buffer:
            file.close()
        raise
    return source
