"""What was answered, and the rows that are written of it: the OpenAI batch output form.

A row is ``{"id", "custom_id", "response", "error"}``, its keys always in this order; it ends
with ``"error":null}`` if and only if the line was answered. Bodies are written as they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headway.bulk.lines import undecodable
from headway.errors import MissingExtra

try:
    import msgspec
except ImportError as error:  # pragma: no cover - needs an environment without the extra
    raise MissingExtra(
        "bulk runs read their files with msgspec, which is not installed. "
        "Install it with: pip install 'headway[cli]'"
    ) from error

if TYPE_CHECKING:
    from headway.bulk.formats import Request

__all__ = ["Answer", "answer_row", "error_row", "read_answer", "spent_by"]

_MAX_TOKENS = 10**12  # no count of tokens is above this


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider answered: the body as it came, and the tokens it says were used."""

    status: int
    request_id: str | None
    body: bytes
    tokens: int | None


class _AnswerForm(msgspec.Struct):
    usage: Any = None


_decode_answer = msgspec.json.Decoder(_AnswerForm).decode


def read_answer(status: int, request_id: str | None, body: bytes) -> Answer | None:
    """The answer in a response's `body`, or None when that is not JSON."""
    if undecodable(body) is not None:
        return None
    try:
        return Answer(status, request_id, body, _total_tokens(body))
    except (msgspec.DecodeError, RecursionError):
        return None


def _total_tokens(body: bytes) -> int | None:
    try:
        usage = _decode_answer(body).usage
    except msgspec.ValidationError:
        msgspec.json.decode(body)  # not an object: the rest of it was not looked at
        return None
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) and 0 <= tokens <= _MAX_TOKENS else None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class _SpentBody(msgspec.Struct, gc=False):
    model: str | None = None
    usage: _Usage | None = None


class _SpentResponse(msgspec.Struct, gc=False):
    body: _SpentBody


class _SpentRow(msgspec.Struct, gc=False):
    response: _SpentResponse | None = None


_decode_spent = msgspec.json.Decoder(_SpentRow).decode


def spent_by(rows: Iterable[bytes]) -> Iterator[tuple[str | None, int, int]]:
    """The model, the input and the output tokens of each output row that says what it used."""
    for row in rows:
        try:
            response = _decode_spent(row).response
        except (msgspec.DecodeError, RecursionError):
            continue
        usage = response.body.usage if response is not None else None
        if response is not None and usage is not None:
            read = usage.prompt_tokens or usage.total_tokens - usage.completion_tokens
            yield response.body.model, max(0, read), max(0, usage.completion_tokens)


def answer_row(request: Request, answer: Answer) -> bytes:
    """The output row of a request that was answered, with its line break."""
    response: dict[str, object] = {
        "status_code": answer.status,
        "request_id": answer.request_id,
        "body": _one_line(answer.body),
    }
    return _row(request.line, request.custom_id, response, None)


def error_row(
    line: int, custom_id: str | None, code: str, message: str, response: Answer | None = None
) -> bytes:
    """The output row of a line that failed, with its line break.

    `response` is the provider's last answer, where there was one; a body that is not JSON is
    written as a string.
    """
    shown: dict[str, object] | None = None
    if response is not None:
        parsed = read_answer(response.status, response.request_id, response.body)
        shown = {
            "status_code": response.status,
            "request_id": response.request_id,
            "body": _one_line(parsed.body) if parsed else response.body.decode(errors="replace"),
        }
    return _row(line, custom_id, shown, {"code": code, "message": message})


def _row(
    line: int,
    custom_id: str | None,
    response: dict[str, object] | None,
    error: dict[str, str] | None,
) -> bytes:
    row = {
        "id": f"batch_req_{line}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    try:
        return msgspec.json.encode(row) + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair: a provider's message may hold one
        return msgspec.json.encode(_whole_characters(row)) + b"\n"


def _whole_characters(value: Any) -> Any:
    """`value` with "?" for what UTF-8 cannot hold."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {key: _whole_characters(item) for key, item in value.items()}
    return value


def _one_line(body: bytes) -> msgspec.Raw:
    """`body` without line breaks: in JSON they can only stand between tokens, as white space."""
    if b"\n" in body or b"\r" in body:
        body = body.replace(b"\r", b" ").replace(b"\n", b" ")
    return msgspec.Raw(body)
