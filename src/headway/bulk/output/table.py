"""Answers as a table, CSV, TSV or Parquet: the input with a column for them, or rows alone."""

from __future__ import annotations

import csv
import hashlib
import importlib
import os
import shlex
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from headway.bulk.input.parquet import pyarrow_or_none
from headway.bulk.input.source import Source
from headway.bulk.output.answers import read_answer
from headway.bulk.output.header import read_header
from headway.bulk.output.paths import InvalidOutput, fresh, run_folder
from headway.bulk.output.rows import Checks, Row, decode
from headway.bulk.output.strangers import in_the_way, is_empty
from headway.errors import MissingExtra

__all__ = [
    "answer_in", "answer_of", "check_table", "export", "is_table", "results_in", "rows_of",
    "write_table",
]  # fmt: skip

_SUFFIXES = {".csv": ",", ".tsv": "\t", ".parquet": ""}
_BATCH = 1_000  # rows

Record = Mapping[str, object]


def is_table(path: Path) -> bool:
    """Whether a file of that name is a table."""
    return path.suffix.lower() in _SUFFIXES


def rows_of(table: Path) -> Path:
    """Where the rows go whose answers are to stand in `table`: ``answers.rows.jsonl`` beside it."""
    return table.with_name(f"{table.stem}.rows.jsonl")


def results_in(output: Path) -> Path:
    """The rows of the run to `output`, as its user calls it: those beside it, where it is a table
    that a run has written.
    """
    rows = rows_of(output)
    return rows if is_table(output) and run_folder(rows).is_dir() else output


def _note_of(table: Path) -> Path:
    return run_folder(rows_of(table)) / "table"


def check_table(table: Path) -> None:
    """Raise `InvalidOutput` where `table` is there and not as a run has left it, and `MissingExtra`
    where it cannot be written without pyarrow.
    """
    if table.suffix.lower() == ".parquet" and pyarrow_or_none() is None:
        raise MissingExtra(
            f"writing {table} takes pyarrow, which is not installed",
            fix="install it with: pip install pyarrow, or give a .csv with -o",
        )
    if is_empty(table):
        return
    ours: set[str] = set()
    with suppress(OSError):
        ours = set(_note_of(table).read_text().split())
    if not table.is_file() or _digest(table) not in ours:
        raise in_the_way(table, "the table", table)


def write_table(table: Path, source: Source, rows: Path) -> None:
    """Write the records of `source` with the answers in `rows`, in order: their columns, then
    ``answer`` and ``error``; nothing where there is no row yet. Raises `OSError`.
    """
    if is_empty(rows):
        return
    columns: dict[str, set[type]] = {}
    for _, record in source.records():
        for name, value in record.items():
            kinds = columns.setdefault(name, set())
            if value is not None:
                kinds.add(_kind(value))
    answer, error = _free("answer", columns), _free("error", columns)
    found = _Rows(rows)

    def records() -> Iterator[Record]:
        for number, record in source.records():
            row = found.row(number)
            said = {} if row is None else _said(row)
            if not columns_of_input:
                record = {"custom_id": row.custom_id if row is not None else str(number)}
            yield {**record, answer: said.get("answer"), error: said.get("error")}

    columns_of_input = list(columns)
    names = [*(columns_of_input or ["custom_id"]), answer, error]
    draft = run_folder(rows) / "table.draft"
    try:
        whole = {name: _one_kind(kinds) for name, kinds in columns.items()}
        _write(draft, table.suffix.lower(), names, records(), whole)
    finally:
        found.close()
    note = _note_of(table)
    with note.open("a") as file:  # before: a kill leaves one of those that are named
        file.write(f"{_digest(draft)}\n")
    draft.replace(os.path.realpath(table))


def export(rows: Path, table: Path, *, overwrite: bool = False) -> tuple[int, int]:
    """Write the rows of a run's results as a table, in the order of its input; how many rows that
    were, and how many lines are left out: they were none, or not as the run wrote them, or there
    twice. Raises `InvalidOutput`.
    """
    if not is_table(table):
        raise InvalidOutput(
            f"{table} is no table by its name", fix="end it in .csv, .tsv or .parquet"
        )
    if table.suffix.lower() == ".parquet" and pyarrow_or_none() is None:
        check_table(table)
    rows = results_in(rows)
    if not rows.is_file():
        raise InvalidOutput(f"{rows} does not exist", fix="give the results of a run")
    if table.exists() and (not overwrite or not table.is_file() or table.samefile(rows)):
        raise InvalidOutput(
            f"{table} exists already", fix="give another file with -o, or replace it: --overwrite"
        )
    if not is_empty(table) and not _is_exported(table):
        raise in_the_way(table, "the table", rows)
    if not table.parent.is_dir():
        raise InvalidOutput(
            f"cannot write {table}: the folder {table.parent} does not exist",
            fix=f"make it first: mkdir -p {shlex.quote(str(table.parent))}",
        )
    found = _Rows(rows)
    draft = table.with_name(f".{table.name[:200]}.draft")
    try:
        _write(draft, table.suffix.lower(), _EXPORTED, map(_said, found.in_order()), _COUNTS)
        draft.replace(os.path.realpath(table))
    finally:
        found.close()
        draft.unlink(missing_ok=True)
    return found.count, found.strange


_EXPORTED = [
    "custom_id", "answer", "error", "finish_reason", "model", "input_tokens", "output_tokens",
]  # fmt: skip


def _is_exported(table: Path) -> bool:
    """Whether `table` has the columns of an exported one: all others are somebody's own."""
    if table.suffix.lower() == ".parquet":
        parquet: Any = importlib.import_module("pyarrow.parquet")
        try:
            return list(parquet.read_schema(table).names) == _EXPORTED
        except (OSError, ValueError):
            return False
    with table.open("rb") as file:
        return (
            file.readline(1_000) == f"{_SUFFIXES[table.suffix.lower()].join(_EXPORTED)}\n".encode()
        )


def _free(name: str, taken: Iterable[str]) -> str:
    """`name`, or the first of ``name_2``, ``name_3``, … that is not `taken`."""
    names, free, number = set(taken), name, 1
    while free in names:
        number += 1
        free = f"{name}_{number}"
    return free


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Rows:
    """The rows in a file by the numbers of their lines, eight bytes of memory for each; those
    without one by the order in which they stand.
    """

    def __init__(self, path: Path) -> None:
        self.count = self.strange = 0
        self._file = path.open("rb") if path.exists() else None
        self._offsets = array("Q")
        self._unnumbered = array("Q")
        for at, number in self._found(_checks_of(path)):
            if number is None:
                self._unnumbered.append(at)
            else:
                if number >= len(self._offsets):
                    self._offsets.frombytes(bytes(8 * (number + 1 - len(self._offsets))))
                if self._offsets[number]:  # there twice
                    self.strange += 1
                    continue
                self._offsets[number] = at + 1
            self.count += 1

    def _found(self, checks: Checks | None) -> Iterator[tuple[int, int | None]]:
        """Where each row begins, and the number of its line; with `checks` those alone that are as
        their run wrote them.
        """
        at = 0
        for line in self._file or ():
            if checks is not None:
                number = checks.number(line)
                whole = number is not None
            else:
                row = _decoded(line)
                number, whole = None if row is None else row.line, row is not None
            if whole:
                yield at, number
            else:
                self.strange += not line.isspace()
            at += len(line)

    def row(self, number: int) -> Row | None:
        """That of the line `number`."""
        at = self._offsets[number] if number < len(self._offsets) else 0
        return self._at(at - 1) if at else None

    def in_order(self) -> Iterator[Row]:
        """All of them."""
        for at in (*(each - 1 for each in self._offsets if each), *self._unnumbered):
            if (row := self._at(at)) is not None:
                yield row

    def _at(self, offset: int) -> Row | None:
        assert self._file is not None
        self._file.seek(offset)
        return _decoded(self._file.readline())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _checks_of(rows: Path) -> Checks | None:
    """Those of the run whose rows these are; None where its journal does not say, or is not there:
    rows that were merged, or came from standard output.
    """
    header = read_header(run_folder(rows) / "journal")
    return Checks(header) if header and header["version"] is not None else None


def _decoded(line: bytes) -> Row | None:
    try:
        row = decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return row if row.id and line.endswith(b"\n") else None


def _said(row: Row) -> dict[str, object]:
    """The columns of `row`."""
    said: dict[str, object] = {"custom_id": row.custom_id}
    if row.error is not None:
        return {**said, "error": f"{row.error.code}: {row.error.message}"}
    body = bytes(row.response.body) if row.response is not None else b"null"
    said["answer"] = answer_of(body)
    if body.lstrip().startswith(b"{"):
        read = read_answer(body)
        if read is not None:
            said["finish_reason"] = ", ".join(read.reasons) or None
            said["model"] = read.model
            said["input_tokens"] = read.tokens.read
            said["output_tokens"] = read.tokens.written
    return said


# -- what an answer says -----------------------------------------------------------------------


def answer_of(body: bytes) -> str | None:
    """The text of the answer that is `body`, as `answer_in` has it; None where nothing reads it."""
    try:
        return answer_in(msgspec.json.decode(body))
    except (msgspec.DecodeError, RecursionError):
        return None


def answer_in(body: Any) -> str | None:
    """The text of an answer, of OpenAI's forms, Anthropic's, Gemini's and Cohere's; of several
    choices, and of what is no text (vectors, images, calls of tools), its JSON.
    """
    if not isinstance(body, dict):
        return None if body is None else _text(body)
    for name in ("choices", "candidates", "data", "results", "embeddings", "generations"):
        parts = body.get(name)
        if isinstance(parts, list) and parts:
            texts = [_of_part(part) for part in parts]
            return texts[0] if len(texts) == 1 else _json(texts)
    for name in ("output", "content", "message", "text", "embedding"):
        if body.get(name):
            return _of_part({name: body[name]})
    return _json(body)


def _of_part(part: Any) -> str:
    if not isinstance(part, dict):
        return _text(part)
    message = part.get("message")
    inner = message if isinstance(message, dict) else part
    for name in ("content", "text", "output", "parts"):
        value = inner.get(name)
        if isinstance(value, dict):
            return _of_part(value)
        if isinstance(value, str):
            if value or not inner.get("tool_calls"):
                return value
        elif isinstance(value, list) and (texts := list(_texts(value))):
            return "".join(texts)
    for name in ("tool_calls", "embedding", "url", "b64_json"):
        if inner.get(name):
            return _text(inner[name])
    return _json(inner)


def _texts(parts: Sequence[Any]) -> Iterator[str]:
    for part in parts:
        if not isinstance(part, dict) or part.get("thought") or part.get("type") == "reasoning":
            continue
        if isinstance(part.get("text"), str):
            yield part["text"]
        elif isinstance(part.get("content"), list):
            yield from _texts(part["content"])


def _text(value: object) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


# -- writing -----------------------------------------------------------------------------------


def _write(
    path: Path,
    suffix: str,
    names: Sequence[str],
    records: Iterable[Record],
    kinds: Mapping[str, type],
) -> None:
    """Write `records` to a new file, and bring it to the disk. `kinds` are those of the columns
    that hold one kind of value alone: all others are text, in Parquet.
    """
    with fresh(path) as file:
        if suffix == ".parquet":
            _write_parquet(file, names, records, kinds)
        else:
            text = csv.writer(_Encoded(file), delimiter=_SUFFIXES[suffix], lineterminator="\n")
            text.writerow(names)
            for record in records:
                text.writerow([_cell(record.get(name)) for name in names])
        file.flush()
        os.fsync(file.fileno())


def _cell(value: object) -> str:
    return "" if value is None else _text(value)


class _Encoded:
    """What the csv module writes to."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write `text` as UTF-8."""
        return int(self._file.write(text.encode(errors="replace")))


_COUNTS: Mapping[str, type] = {"input_tokens": int, "output_tokens": int}


def _kind(value: object) -> type:
    """The type of `value` where Parquet has a column for it, else that of text."""
    if isinstance(value, bool | float):
        return type(value)
    return int if isinstance(value, int) and abs(value) < 1 << 63 else str


def _one_kind(kinds: set[type]) -> type:
    """That of a column with values of these `kinds`."""
    if kinds == {int, float}:
        return float
    return kinds.pop() if len(kinds) == 1 else str


def _write_parquet(
    file: Any, names: Sequence[str], records: Iterable[Record], kinds: Mapping[str, type]
) -> None:
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    types = {bool: arrow.bool_(), int: arrow.int64(), float: arrow.float64(), str: arrow.string()}
    schema = arrow.schema([(name, types[kinds.get(name, str)]) for name in names])
    makes = {name: _text if kinds.get(name, str) is str else kinds[name] for name in names}
    with parquet.ParquetWriter(file, schema) as writer:
        batch: list[dict[str, object]] = []
        for record in records:
            values = ((name, record.get(name)) for name in names)
            batch.append({n: None if v is None else makes[n](v) for n, v in values})
            if len(batch) == _BATCH:
                writer.write_table(arrow.Table.from_pylist(batch, schema))
                batch.clear()
        writer.write_table(arrow.Table.from_pylist(batch, schema))
