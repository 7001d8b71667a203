"""What was answered, and the rows that are written of it: the OpenAI batch output form.

A row is ``{"id", "custom_id", "response", "error"}``, its keys always in this order; it ends
with ``"error":null}`` if and only if the line was answered. Bodies are written as they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from headway.bulk.input.lines import undecodable
from headway.errors import MissingExtra

try:
    import msgspec
except ImportError as error:  # pragma: no cover - needs an environment without the extra
    raise MissingExtra(
        "bulk runs read their files with msgspec, which is not installed. "
        "Install it with: pip install 'headway[cli]'"
    ) from error

if TYPE_CHECKING:
    from headway.bulk.input.formats import Request

__all__ = [
    "Answer",
    "Spent",
    "Tokens",
    "answer_row",
    "bill_in",
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
    """Counts; None where the answer does not say. `cached` are part of `read`, and so are those of
    which nobody says what they are, `either`.
    """

    read: int | None = None
    written: int | None = None
    total: int | None = None
    cached: int = 0
    either: int = 0


_READ = ("prompt_tokens", "input_tokens", "promptTokenCount")
_WRITTEN = ("completion_tokens", "output_tokens", "candidatesTokenCount", "responseTokenCount")
_TOTAL = ("total_tokens", "totalTokenCount", "totalTokens")
# Anthropic's and Gemini's are beside the others: part of no other count.
_READ_TOO = frozenset(
    {"cache_creation_input_tokens", "cache_read_input_tokens", "toolUsePromptTokenCount"}
)
_REASONING = ("reasoning_tokens", "thinking_tokens", "thoughts_tokens")


def tokens_of(usage: object) -> Tokens:
    """The counts of a ``usage`` object: OpenAI's of chat, completions, embeddings and responses,
    Anthropic's, Gemini's ``usageMetadata``, Cohere's. What is no count is not there.

    What is written is what the total holds beyond what is read, where that is more: some providers
    leave reasoning out of ``completion_tokens``.
    """
    if not isinstance(usage, dict):
        return Tokens()
    read, written, total = (_first(usage, names) for names in (_READ, _WRITTEN, _TOTAL))
    if read is None and written is None and total is None:  # Cohere's are one level down
        inner = (tokens_of(part) for part in _details(usage, "tokens", "billed_units"))
        return max(inner, key=lambda each: each.total or 0, default=Tokens())
    if read is not None:
        read += sum(_first(usage, (name,)) or 0 for name in _READ_TOO & usage.keys())
    thought = _first(usage, ("thoughtsTokenCount",))
    if thought is not None:
        written = (written or 0) + thought
    elif written is not None:
        # Where no total tells, they are taken to be left out: too much rather than too little.
        reasoned = _reasoning(usage)
        written += reasoned if reasoned > written or total is None else 0
    either = 0
    if total is not None:
        if read is None:
            read = max(0, total - (written or 0))
            either = read
        elif total - read > (written or 0):
            written = total - read
        total = max(total, read + (written or 0))
    elif read is not None and written is not None:
        total = read + written
    return Tokens(read, written, total, min(_cached(usage), read or 0), either)


def _first(usage: Mapping[str, Any], names: Iterable[str]) -> int | None:
    for name in names:
        value = usage.get(name)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and 0 <= value <= _MOST:
            return value
    return None


def _details(usage: Mapping[str, Any], *names: str) -> Iterator[Mapping[str, Any]]:
    for name in names:
        if isinstance(details := usage.get(name), dict):
            yield details


def _reasoning(usage: Mapping[str, Any]) -> int:
    found = [usage, *_details(usage, "completion_tokens_details", "output_tokens_details")]
    return max(_first(each, _REASONING) or 0 for each in found)


def _cached(usage: Mapping[str, Any]) -> int:
    for details in _details(usage, "prompt_tokens_details", "input_tokens_details"):
        if (count := _first(details, ("cached_tokens",))) is not None:
            return count
    return _first(usage, ("cache_read_input_tokens", "cachedContentTokenCount")) or 0


class _SpentBody(msgspec.Struct):
    model: Any = None
    modelVersion: Any = None  # noqa: N815 - as it comes
    usage: Any = None
    usageMetadata: Any = None  # noqa: N815 - as it comes
    meta: Any = None


class _SpentResponse(msgspec.Struct):
    body: msgspec.Raw


class _SpentRow(msgspec.Struct):
    id: str
    response: _SpentResponse


_decode_spent = msgspec.json.Decoder(_SpentRow).decode
_decode_spent_body = msgspec.json.Decoder(_SpentBody).decode
_ID = "batch_req_"


class Spent(NamedTuple):
    """What the row of an answer says of its bill: the line, the model that answered, the tokens."""

    line: int
    model: str | None
    tokens: Tokens


def spent_by(rows: Iterable[bytes]) -> Iterator[Spent]:
    """What each row of `rows` says that its answer used. What failed is in the `Ledger`."""
    for row in rows:
        if not row.endswith(b'"error":null}\n'):
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
    usage = next((u for u in (body.usage, body.usageMetadata, body.meta) if u is not None), None)
    return model, tokens_of(usage)


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
        "id": f"{_ID}{line}",
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
