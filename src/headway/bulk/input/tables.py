"""Tables of prompts, CSV or JSONL: each record becomes a request, by a column or a template."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, BinaryIO, cast

import msgspec

from headway.bulk.input.formats import (
    ENDPOINTS,
    BadLine,
    Request,
    asked_of,
    check_id,
    options_in,
    unreadable,
)
from headway.bulk.input.lines import MAX_LINE, InvalidInput, Line, skip_line
from headway.bulk.input.seen import SeenIds
from headway.bulk.input.shapes import Shape
from headway.kinds._words import size

__all__ = ["DELIMITERS", "PromptReader", "Record", "as_text", "delimiter_of", "read_records"]

DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_HEAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a CSV file; `number` counts from 1 after the header, `size` is in bytes.

    `problem` is a code, what is wrong with the record, and the fix, where it cannot be used.
    """

    number: int
    size: int
    fields: Sequence[str]
    problem: tuple[str, str, str] | None = None


class _LongLine(Exception):
    pass


class _Text:
    """The lines of a file as text, for the csv module; notes their size and what is wrong."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0
        self.problem: tuple[str, str, str] | None = None

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        data = self._file.readline(MAX_LINE + 2)
        if not data:
            raise StopIteration
        self.size += len(data)
        data = data.removeprefix(codecs.BOM_UTF8)  # of a file that was joined to another
        if len(data) > MAX_LINE and not data.endswith(b"\n"):
            self.size += skip_line(self._file)
            raise _LongLine
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.problem = ("not_utf8", "is not UTF-8", "convert it to UTF-8")
            text = data.decode(errors="replace")
        if "\x00" in text:
            self.problem = ("nul_byte", "holds a NUL byte", "remove it")
        return text


def delimiter_of(head: str, wanted: Iterable[str] = ()) -> str:
    """What separates the fields of a table that starts with `head`: what gives the columns that are
    `wanted`, or else the most; a comma where nothing does.
    """
    found = {}
    for delimiter in DELIMITERS:
        try:
            found[delimiter] = next(csv.reader(head.splitlines(keepends=True), delimiter=delimiter))
        except (csv.Error, StopIteration):
            continue
    fits = [each for each, fields in found.items() if set(wanted) <= set(fields)]
    return max(fits or found, key=lambda each: len(found[each]), default=",")


def read_records(file: BinaryIO, wanted: Iterable[str] = ()) -> Iterator[Record]:
    """The records of a table that are not blank, the header as number 0; its delimiter is found.

    No more than one is in memory. `file` stands behind the byte order mark, if there is one. A
    header that comes again, of a file that was joined to another, is no record.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    text = _Text(file)
    head = cast("Any", file).peek(_HEAD)[:_HEAD].decode(errors="replace")
    delimiter = delimiter_of(head, wanted)
    reader = csv.reader(text, strict=True, delimiter=delimiter)
    header: list[str] | None = None
    number, width = 0, None
    while True:
        text.size, text.problem = 0, None
        fields: list[str] = []
        problem: tuple[str, str, str] | None = None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except _LongLine:
            what = f"is {size(text.size)} long; the limit is {size(MAX_LINE)}"
            problem = ("line_too_long", what, "make the prompt smaller, or split it")
        except csv.Error as error:
            why = "a quote is never closed" if "unexpected end" in str(error) else str(error)
            problem = ("invalid_csv", f"is not valid CSV: {why}", "correct its quotes")
        else:
            if not fields or fields == header:
                continue
            problem = text.problem
            if problem is None and width is not None and len(fields) != width:
                count = f"{len(fields)} field{'s' * (len(fields) != 1)}"
                problem = (
                    "wrong_fields",
                    f"has {count}, and the header {width}",
                    f"put quotes around {DELIMITERS[delimiter]} in a field",
                )
        if width is None:
            width, header = len(fields), fields
        yield Record(number, text.size, fields, problem)
        number += 1


class PromptReader:
    """Records to requests to `url`, as `shape` says. Raises `InvalidInput` for options that cannot
    make one of a record.
    """

    def __init__(self, url: str, shape: Shape) -> None:
        if not shape.model:
            raise InvalidInput("a table of prompts names no model", fix="give one with --model")
        if shape.prompt_column is not None and shape.template is not None:
            raise InvalidInput(
                "a prompt column and a template were both given",
                fix="give --prompt-column, or --template with {columns} in it",
            )
        self._url, self._model, self.id_column = url, shape.model, shape.id_column
        self._prompt_column = shape.prompt_column or "prompt"
        self._parts = None if shape.template is None else _template_parts(shape.template)
        self._before, self._after = _body_around_the_prompt(url, shape)
        options = options_in(shape.parameters)
        asked = asked_of(options)
        if isinstance(asked, str):
            raise InvalidInput(f"the parameter {asked} is no count of tokens", fix="correct it")
        if options.stream not in (None, False):
            raise InvalidInput(
                'the parameter "stream" was given, and a stream is not one row',
                fix="remove it",
            )
        self._asked = asked

    def columns(self) -> list[str]:
        """The columns that a record must have, that of the id last."""
        if self._parts is not None:
            needed = [name for _, name in self._parts if name is not None]
        else:
            needed = [self._prompt_column]
        return needed if self.id_column is None else [*needed, self.id_column]

    def bind(self, header: Sequence[str], name: str) -> None:
        """Find the columns in a CSV file's `header`; `InvalidInput` lists those there are."""
        for column in self.columns():
            if header.count(column) != 1:
                times = "no column" if column not in header else "more than one column"
                raise InvalidInput(
                    f"{name} has {times} {column!r}",
                    fix="name one of these with --prompt-column, "
                    f"--template or --id-column: {', '.join(header[:50])}",
                )
        self._header = list(header)

    def of_record(self, record: Record, seen: SeenIds | None) -> Request | BadLine:
        """The request of a CSV record, after `bind`."""
        if record.problem is not None:
            code, what, fix = record.problem
            said = f"record {record.number} {what}. {fix[0].upper()}{fix[1:]}"
            return BadLine(record.number, None, code, said)
        row = dict(zip(self._header, record.fields, strict=True))
        return self._request(Line(record.number, record.size, b""), row, seen, "record")

    def of_line(self, line: Line, seen: SeenIds | None) -> Request | BadLine:
        """The request of a line of JSONL, an object with the columns as its members."""
        if (bad := unreadable(line)) is not None:
            return bad
        try:
            row = msgspec.json.decode(line.data)
        except (msgspec.DecodeError, RecursionError) as error:
            what = f"line {line.number} is not valid JSON: {error}. Correct the line"
            return BadLine(line.number, None, "invalid_json", what)
        if not isinstance(row, dict):
            what = f"line {line.number} is not a JSON object with the columns. Make it one"
            return BadLine(line.number, None, "invalid_line", what)
        return self._request(line, row, seen, "line")

    def _request(
        self, line: Line, row: Mapping[str, object], seen: SeenIds | None, noun: str
    ) -> Request | BadLine:
        where = f"{noun} {line.number}"
        for column in self.columns():
            if row.get(column) is None:
                shown = ", ".join(list(row)[:50])
                what = f"{where} has no column {column!r}, only: {shown}. Give it one"
                return BadLine(line.number, None, "missing_column", what)
        custom_id = str(line.number)
        if self.id_column is not None:
            found = check_id(line, as_text(row[self.id_column]), seen, noun)
            if not isinstance(found, str):
                return found
            custom_id = found
        prompt = self.prompt_of(row)
        if not prompt.strip():
            what = f"{where} has an empty prompt. Fill it in, or remove the {noun}"
            return BadLine(line.number, custom_id, "empty_prompt", what)
        return self.request(line.number, custom_id, prompt)

    def request(self, number: int, custom_id: str, prompt: str) -> Request:
        """The request of `prompt`, which is not empty."""
        body = self._before + msgspec.json.encode(prompt) + self._after
        return Request(
            number, custom_id, self._url, body, self._asked.max_tokens, self._model,
            self._asked.choices,
        )  # fmt: skip

    def prompt_of(self, row: Mapping[str, object]) -> str:
        """The prompt of a row that has every column."""
        if self._parts is None:
            return as_text(row[self._prompt_column])
        return "".join(
            text + ("" if name is None else as_text(row[name])) for text, name in self._parts
        )


def _body_around_the_prompt(url: str, shape: Shape) -> tuple[bytes, bytes]:
    """A request's body, before and after its prompt."""
    chat, responses = url == ENDPOINTS["chat"], url == "/v1/responses"
    if url == ENDPOINTS["rerank"]:
        raise InvalidInput(
            "a prompt is no request to rerank", fix="write lines with a query and documents"
        )
    if shape.system is not None and not chat and not responses:
        raise InvalidInput(f"{url} takes no system prompt", fix="leave --system out")
    try:
        start = msgspec.json.encode({"model": shape.model, **shape.parameters})[:-1] + b","
        system = msgspec.json.encode(shape.system)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the parameters cannot be JSON: {error}", fix="correct them") from None
    if chat:
        before = b'{"role":"system","content":' + system + b"}," if shape.system else b""
        return start + b'"messages":[' + before + b'{"role":"user","content":', b"}]}"
    if responses and shape.system:
        start += b'"instructions":' + system + b","
    prompt = url in (ENDPOINTS["completions"], ENDPOINTS["images"])
    return start + (b'"prompt":' if prompt else b'"input":'), b"}"


def as_text(value: object) -> str:
    """A cell as text: a string as it is, all else as JSON writes it."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _template_parts(template: str) -> list[tuple[str, str | None]]:
    """A template as texts, each with the column that follows it."""
    fix = "write {column} for a column, and {{ or }} for a brace"
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise InvalidInput(f"the template {template!r} is wrong: {error}", fix=fix) from None
    for _, name, spec, conversion in parts:
        if name == "" or spec or conversion:
            raise InvalidInput(
                f"the template {template!r} has a field that is no column's name alone", fix=fix
            )
    return [(text, name) for text, name, _, _ in parts]
