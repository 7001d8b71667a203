"""What was answered, and the rows that are written of it: the OpenAI batch output form.

A row is ``{"id", "custom_id", "response", "error"}``, its keys always in this order; it ends
with ``"error":null}`` if and only if the line was answered. Bodies are written as they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

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

__all__ = [
    "Answer",
    "Tokens",
    "Usage",
    "answer_row",
    "error_row",
    "is_json",
    "spent_by",
    "tokens_of",
]


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


_MOST = 10**12  # no count of tokens is above this


class Tokens(NamedTuple):
    """Counts; None where the answer does not say. `cached` are part of `read`."""

    read: int | None = None
    written: int | None = None
    total: int | None = None
    cached: int = 0


class _Details(msgspec.Struct, gc=False):
    cached_tokens: Any = None


class Usage(msgspec.Struct):
    """The ``usage`` of a body: chat and completions, embeddings, and OpenAI's responses."""

    total_tokens: Any = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None


def tokens_of(usage: Usage | None) -> Tokens:
    """The counts of `usage`; what is no count is not there."""
    if usage is None:
        return Tokens()
    read = _count(usage.prompt_tokens)
    if read is None:
        read = _count(usage.input_tokens)
    written = _count(usage.completion_tokens)
    if written is None:
        written = _count(usage.output_tokens)
    total = _count(usage.total_tokens)
    if total is None and not (read is None and written is None):
        total = (read or 0) + (written or 0)
    if total is not None and read is None:
        read = max(0, total - (written or 0))  # an embedding has no answer to count
    details = usage.prompt_tokens_details or usage.input_tokens_details
    cached = None if details is None else _count(details.cached_tokens)
    return Tokens(read, written, total, min(cached or 0, read or 0))


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST else None


class _SpentBody(msgspec.Struct):
    model: str | None = None
    usage: Usage | None = None


class _SpentResponse(msgspec.Struct):
    body: _SpentBody


class _SpentRow(msgspec.Struct):
    response: _SpentResponse | None = None


_decode_spent = msgspec.json.Decoder(_SpentRow).decode


def spent_by(rows: Iterable[bytes]) -> Iterator[tuple[str | None, Tokens]]:
    """The model and the tokens of each output row that says what it used."""
    for row in rows:
        try:
            response = _decode_spent(row).response
        except (msgspec.DecodeError, RecursionError):
            continue
        if response is not None and response.body.usage is not None:
            yield response.body.model, tokens_of(response.body.usage)


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
        whole = is_json(response.body)
        shown = {
            "status_code": response.status,
            "request_id": response.request_id,
            "body": _one_line(response.body) if whole else response.body.decode(errors="replace"),
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
