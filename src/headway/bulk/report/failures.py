"""The failed rows of a run, grouped: by code, and inside by message without its numbers.

The file is streamed; what is kept is bounded, however many rows and messages there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from headway.bulk.output.rows import Response, Row, decode
from headway.bulk.record.measures import mend

__all__ = ["Example", "Failures", "Group", "read_failures"]

EXAMPLES = 3
_GROUPS = 1000  # kept while reading: further messages of a code are counted together
_BODY = 2000  # characters of a response's body
_MESSAGE = 1000
_KEY = 300
_LONGEST = 64 * 1024 * 1024  # bytes of a row

OTHER = "(other messages)"


@dataclass(frozen=True, slots=True)
class Example:
    """A row that failed. `body` is the provider's last answer, cut short."""

    line: int | None
    custom_id: str | None
    message: str
    status: int | None
    body: str | None


@dataclass(slots=True)
class Group:
    """Rows that failed in the same way; `message` has N for numbers and … for ids."""

    code: str
    message: str
    status: int | None
    count: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class Failures:
    """All failed rows: `codes` counts them, `groups` are in order of size.

    `unreadable` counts lines that are no rows.
    """

    codes: dict[str, int] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    unreadable: int = 0

    @property
    def total(self) -> int:
        """How many rows failed."""
        return sum(self.codes.values())


_UUID = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
_ID = re.compile(r"\b(?=[A-Za-z_-]*\d)(?=[\d_-]*[A-Za-z])[\w-]{8,}\b")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def normalise(message: str) -> str:
    """`message` without what differs from row to row: its numbers and its ids."""
    text = _UUID.sub("…", message[:_KEY])
    return " ".join(_NUMBER.sub("N", _ID.sub("…", text)).split())


def read_failures(path: Path, *, redact: bool) -> Failures:
    """The rows of an error file; with `redact` their codes, status and line numbers alone.

    Raises `OSError` when the file cannot be read.
    """
    failures = Failures()
    groups: dict[tuple[str, str, int | None], Group] = {}
    with path.open("rb") as file:
        while line := file.readline(_LONGEST):
            row = _read(line)
            if row is None or row.error is None:
                failures.unreadable += not line.isspace()
                continue
            code = row.error.code[:80]
            if len(failures.codes) >= _GROUPS and code not in failures.codes:
                code = "(other codes)"
            failures.codes[code] = failures.codes.get(code, 0) + 1
            status = row.response.status_code if row.response else None
            key = (code, "" if redact else normalise(row.error.message), status)
            if key not in groups and len(groups) >= _GROUPS:
                key = (code, "" if redact else OTHER, None)
            group = groups.setdefault(key, Group(*key))
            group.count += 1
            if len(group.examples) < EXAMPLES:
                group.examples.append(_example(row, redact=redact))
    failures.groups = sorted(groups.values(), key=lambda group: -group.count)
    return failures


def _read(line: bytes) -> Row | None:
    try:
        return decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    try:
        return decode(mend(line))
    except (msgspec.MsgspecError, RecursionError):
        return None


def _example(row: Row, *, redact: bool) -> Example:
    status = row.response.status_code if row.response else None
    if redact:
        return Example(row.line, None, "", status, None)
    message = row.error.message[:_MESSAGE] if row.error else ""
    custom_id = None if row.custom_id is None else str(row.custom_id)[:200]
    return Example(row.line, custom_id, message, status, _body(row.response))


def _body(response: Response | None) -> str | None:
    raw = bytes(response.body) if response else b""
    if not raw or raw == b"null":
        return None
    text = raw.decode(errors="replace")
    if raw.startswith(b'"'):
        try:
            text = msgspec.json.decode(mend(raw), type=str)
        except msgspec.MsgspecError:
            pass  # shown as it is
    return text if len(text) <= _BODY else f"{text[:_BODY]} … ({len(text) - _BODY:,} more)"
