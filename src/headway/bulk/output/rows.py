"""A row of the results, encoded and decoded: the OpenAI batch output form, and a check of its own.

A row is ``{"id", "check", "custom_id", "response", "error"}``, its keys always in this order; it
ends with ``"error":null}`` if and only if the line was answered. Bodies are written as they came.

The check is the CRC-32, in hexadecimal, of what follows it, begun with what was run and with the
number of the line. So a row counts for its own run, its own line and its own answer alone. Rows
that go to a device have none.

Nothing else knows the form: a field is added to `Row`, `Response` or `RowError`, and where it is
encoded here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import msgspec

from headway.bulk.input.formats import with_members
from headway.bulk.input.lines import undecodable
from headway.estimate import COUNT_NAMES, USAGE_NAMES, Tokens, said_by

if TYPE_CHECKING:
    from headway.bulk.input.formats import Request

__all__ = [
    "Answer",
    "Checks",
    "Response",
    "Row",
    "RowError",
    "Spent",
    "answer_row",
    "bill_in",
    "custom_id_of",
    "decode",
    "error_row",
    "is_answered",
    "is_foreign",
    "is_json",
    "is_row",
    "is_torn",
    "spent_by",
]

_ID = "batch_req_"
_START = b'{"id":"batch_req_'
_CHECKED = re.compile(rb'\{"id":"batch_req_([1-9]\d{0,17})","check":"([0-9a-f]{8})",')
_WHOLE = 0xFFFFFFFF
_ANSWERED = b'"error":null}\n'
_RUN = ("input", "provider", "shape", "shard")  # what makes a run that run, of its header


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider answered: the body as it came."""

    status: int
    request_id: str | None
    body: bytes


def is_json(body: bytes) -> bool:
    """Whether `body` is JSON, of whatever kind."""
    if undecodable(body) is not None:
        return False
    try:
        _decode_any(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


# -- the form ----------------------------------------------------------------------------------


class Response(msgspec.Struct):
    """What the provider answered. `body` is JSON: a string where it came as none."""

    status_code: int | None = None
    request_id: str | None = None
    body: msgspec.Raw = msgspec.Raw(b"")


class RowError(msgspec.Struct):
    """Why a line failed."""

    code: str = ""
    message: str = ""


class Row(msgspec.Struct):
    """What became of one line; without an `error` it was answered."""

    id: str = ""
    custom_id: Any = None
    response: Response | None = None
    error: RowError | None = None

    @property
    def line(self) -> int | None:
        """The number of the line, None where the row names none."""
        number = self.id.removeprefix(_ID)
        plain = number.isascii() and number.isdigit() and len(number) < 19
        return int(number) if plain else None


decode = msgspec.json.Decoder(Row).decode
"""A row that somebody has written. Raises `msgspec.MsgspecError`, `UnicodeError` and
`RecursionError` for what is none.
"""


class _Named(msgspec.Struct):
    custom_id: Any = None


_decode_named = msgspec.json.Decoder(_Named).decode


def custom_id_of(row: bytes) -> str | None:
    """The `custom_id` of a row that its run has written: a third less work than `decode`."""
    found = _decode_named(row).custom_id
    return found if isinstance(found, str) else None


_encode = msgspec.json.Encoder().encode


def answer_row(request: Request, answer: Answer) -> bytes:
    """The output row of a request that was answered, with its line break."""
    response = Response(answer.status, answer.request_id, _one_line(answer.body))
    return _encoded(Row(f"{_ID}{request.line}", request.custom_id, response))


def error_row(
    line: int, custom_id: str | None, code: str, message: str, response: Answer | None = None
) -> bytes:
    """The output row of a line that failed, with its line break.

    `response` is the provider's last answer, where there was one. What reads tables of JSON takes
    a column of one type alone: a body that is no object, or whose `error` is neither one nor null,
    is written as ``{"raw": "…"}``.
    """
    shown: Response | None = None
    if response is not None:
        body = response.body
        if not _is_alike(body):
            body = _encode({"raw": body.decode(errors="replace")})
        shown = Response(response.status, response.request_id, _one_line(body))
    return _encoded(Row(f"{_ID}{line}", custom_id, shown, RowError(code, message)))


class _FailedBody(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw(b"")


_decode_body = msgspec.json.Decoder(_FailedBody).decode


def _is_alike(body: bytes) -> bool:
    """Whether `body` is an object whose `error` is one, null or not there."""
    if not is_json(body):
        return False
    try:
        error = bytes(_decode_body(body).error)
    except (msgspec.DecodeError, RecursionError):
        return False
    return error[:1] in (b"", b"{", b"n")


def _encoded(row: Row) -> bytes:
    try:
        return _encode(row) + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair: a provider's message may hold one
        return _encode(_whole_characters(row)) + b"\n"


def _whole_characters(value: Any) -> Any:
    """`value` with "?" for what UTF-8 cannot hold."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, msgspec.Struct):
        return type(value)(*(_whole_characters(getattr(value, n)) for n in value.__struct_fields__))
    return value


def _one_line(body: bytes) -> msgspec.Raw:
    """`body` without line breaks: in JSON they can only stand between tokens, as white space."""
    if b"\n" in body or b"\r" in body:
        body = body.replace(b"\r", b" ").replace(b"\n", b" ")
    return msgspec.Raw(body)


# -- what a line of a file is ------------------------------------------------------------------


def is_answered(row: bytes) -> bool:
    """Whether `row` is that of a line that was answered."""
    return row.endswith(_ANSWERED)


def is_row(line: bytes) -> bool:
    """Whether `line` looks like a row of some run of headway's, damaged or not."""
    return _CHECKED.match(line) is not None


def is_torn(line: bytes) -> bool:
    """Whether `line` is what a kill has left of a row."""
    return not line.endswith(b"\n") and line.startswith(_START[: len(line)])


def is_foreign(line: bytes) -> bool:
    """Whether `line` is somebody's JSON, and none of a row."""
    ours = _ID.encode() in line[:64] or b'"check":"' in line[:128]
    return not ours and line.lstrip().startswith(b"{") and is_json(line)


class Checks:
    """The checks of the run with this header."""

    def __init__(self, header: Mapping[str, Any]) -> None:
        run = [header.get(name) for name in _RUN]
        self._seed = crc32(json.dumps(run, sort_keys=True).encode())

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
        match, seed, at = _CHECKED.match, self._seed, 0  # for a million rows each name counts
        for line in lines:
            number = None
            if (found := match(line)) is not None and line.endswith(b"\n"):
                claimed = int(found[1])
                if crc32(line[found.end() :], (seed + claimed) & _WHOLE) == int(found[2], 16):
                    number = claimed
            yield number, at, line
            at += len(line)


# -- what a row was billed ---------------------------------------------------------------------


class _SpentResponse(msgspec.Struct):
    body: msgspec.Raw


class _SpentRow(msgspec.Struct):
    id: str
    response: _SpentResponse


class _SpentBody(msgspec.Struct):
    model: Any = None
    modelVersion: Any = None  # noqa: N815 - as it comes


_decode_spent = msgspec.json.Decoder(_SpentRow).decode
_decode_spent_body = msgspec.json.Decoder(
    with_members(_SpentBody, (*USAGE_NAMES, *COUNT_NAMES))
).decode


class Spent(NamedTuple):
    """What the row of an answer says of its bill: the line, the model that answered, the tokens."""

    line: int
    model: str | None
    tokens: Tokens


def spent_by(rows: Iterable[bytes]) -> Iterator[Spent]:
    """What each row of `rows` says that its answer used. What failed is in the `Bills`."""
    for row in rows:
        if not row.endswith(_ANSWERED):
            continue
        try:
            found = _decode_spent(row)
            line = int(found.id.removeprefix(_ID))
        except (msgspec.DecodeError, RecursionError, ValueError):
            continue
        try:
            body = _decode_spent_body(found.response.body)
        except (msgspec.DecodeError, RecursionError):
            body = _SpentBody()
        yield Spent(line, *bill_in(body))


def bill_in(body: Any) -> tuple[str | None, Tokens]:
    """The model that answered and the tokens it used, by the members of a body."""
    named = (body.model, body.modelVersion)
    model = next((name for name in named if isinstance(name, str)), None)
    return model, said_by(body) or Tokens()
