"""Batch files: lines in, rows out.

A line is a request in the OpenAI batch form, ``{"custom_id", "method", "url", "body"}``, or in the
Together form, ``{"custom_id", "body"}``; they are told apart line by line, by the ``url``. A row is
the OpenAI batch output form, ``{"id", "custom_id", "response", "error"}``, one for each line.

Nothing here reads a clock or a network. Bodies pass through as the bytes they are: what the file
says is what is sent, and what was answered is what is written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from headway.bulk.lines import MAX_LINE, Line, undecodable
from headway.errors import MissingExtra

try:
    import msgspec
except ImportError as error:  # pragma: no cover - needs an environment without the extra
    raise MissingExtra(
        "bulk runs read their files with msgspec, which is not installed. "
        "Install it with: pip install 'headway[cli]'"
    ) from error

__all__ = [
    "DEFAULT_URL",
    "SUPPORTED_URLS",
    "Answer",
    "BadLine",
    "Request",
    "SeenIds",
    "answer_row",
    "error_row",
    "estimate_tokens",
    "parse_line",
    "read_answer",
]

SUPPORTED_URLS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
DEFAULT_URL = "/v1/chat/completions"

# No count of tokens is above this; and what no float can hold, no limiter can count.
_MAX_TOKENS = 10**12


@dataclass(frozen=True, slots=True)
class Request:
    """A line that can be sent. `body` is the JSON object as the file has it."""

    line: int
    custom_id: str
    url: str
    body: bytes
    max_tokens: int


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be sent. `message` names the line, what is wrong and the fix."""

    line: int
    custom_id: str | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider answered: the body as it came, and the tokens it says were used."""

    status: int
    request_id: str | None
    body: bytes
    tokens: int | None


class SeenIds:
    """Which `custom_id` came on which line: about 150 bytes for each, whatever its length.

    Python's own string hash (64 bits, keyed anew in each process) stands for the id: among a
    million ids two different ones are taken for the same once in 37 million runs.
    """

    def __init__(self) -> None:
        self._lines: dict[int, int] = {}

    def first_line(self, custom_id: str, line: int) -> int:
        """The line on which `custom_id` came first, which is `line` itself when it is new."""
        return self._lines.setdefault(hash(custom_id), line)


# -- reading -----------------------------------------------------------------------------------


class _LineForm(msgspec.Struct):
    custom_id: Any = None
    method: Any = "POST"
    url: Any = DEFAULT_URL
    body: msgspec.Raw = msgspec.Raw(b"")


class _BodyForm(msgspec.Struct):
    stream: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None


_decode_line = msgspec.json.Decoder(_LineForm).decode
_decode_body = msgspec.json.Decoder(_BodyForm).decode


def parse_line(line: Line, seen: SeenIds) -> Request | BadLine:
    """The request that `line` holds, or what is wrong with it. Notes its `custom_id` in `seen`."""
    if line.size > MAX_LINE:
        return _bad(
            line,
            None,
            "line_too_long",
            f"is {line.size / 2**20:.1f} MiB long; the limit is {MAX_LINE // 2**20} MiB. "
            "Make the request smaller, or split it",
        )
    if (position := undecodable(line.data)) is not None:
        return _bad(
            line, None, "not_utf8", f"is not UTF-8 (byte {position + 1}). Convert it to UTF-8"
        )
    try:
        form = _decode_line(line.data)
    except msgspec.ValidationError as error:
        return _bad(line, None, "invalid_line", f"is not a JSON object of the batch form: {error}")
    except (msgspec.DecodeError, RecursionError) as error:
        return _bad(line, None, "invalid_json", f"is not valid JSON: {error}. Correct the line")
    return _check_id(line, form, seen) or _check_request(line, form)


def _check_id(line: Line, form: _LineForm, seen: SeenIds) -> BadLine | None:
    custom_id = form.custom_id
    if custom_id is None or custom_id == "":
        return _bad(
            line,
            None,
            "missing_custom_id",
            'has no custom_id. Give each line one of its own, like "custom_id": '
            f'"request-{line.number}"',
        )
    if not isinstance(custom_id, str):
        shown = msgspec.json.encode(custom_id).decode()[:60]
        return _bad(
            line,
            None,
            "invalid_custom_id",
            f"has a custom_id that is not a string: {shown}. Put it in quotes",
        )
    first = seen.first_line(custom_id, line.number)
    if first != line.number:
        return _bad(
            line,
            custom_id,
            "duplicate_custom_id",
            f"has the custom_id {custom_id!r}, which line {first} has too. "
            "Give each line one of its own",
        )
    return None


def _check_request(line: Line, form: _LineForm) -> Request | BadLine:
    custom_id: str = form.custom_id
    if form.method != "POST":
        return _bad(line, custom_id, "invalid_method", f"has the method {form.method!r}. Use POST")
    if form.url not in SUPPORTED_URLS:
        return _bad(
            line,
            custom_id,
            "unsupported_url",
            f"has the url {form.url!r}. Use one of {', '.join(SUPPORTED_URLS)}",
        )
    body = bytes(form.body)
    if not body:
        return _bad(
            line,
            custom_id,
            "missing_body",
            'has no body. Give it one, like "body": {"model": "…", "messages": […]}',
        )
    if not body.startswith(b"{"):
        return _bad(
            line, custom_id, "invalid_body", "has a body that is not a JSON object. Make it one"
        )
    try:
        options = _decode_body(body)
    except (msgspec.DecodeError, RecursionError) as error:
        return _bad(
            line,
            custom_id,
            "invalid_body",
            f"has a body that cannot be read: {error}. Correct it",
        )
    if options.stream not in (None, False):
        return _bad(
            line,
            custom_id,
            "stream_not_supported",
            'has "stream" in its body, and a stream is not one row. Remove it',
        )
    name = "max_completion_tokens" if options.max_completion_tokens else "max_tokens"
    budget = getattr(options, name)
    # Text and numbers below 0 are for the provider to judge: they only count for nothing here.
    budget = max(budget, 0) if isinstance(budget, int | float) else 0
    if budget > _MAX_TOKENS:
        return _bad(
            line,
            custom_id,
            "invalid_max_tokens",
            f"has a {name} that is no count of tokens: it is above {_MAX_TOKENS:,}. Correct it",
        )
    return Request(
        line=line.number,
        custom_id=custom_id,
        url=form.url,
        body=body,
        max_tokens=math.ceil(budget),
    )


def _bad(line: Line, custom_id: str | None, code: str, what: str) -> BadLine:
    return BadLine(line.number, custom_id, code, f"line {line.number} {what}")


def estimate_tokens(request: Request) -> int:
    """The tokens to reserve for `request`: four bytes of its body each, and all it may answer."""
    return len(request.body) // 4 + request.max_tokens


# -- writing -----------------------------------------------------------------------------------


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
    return msgspec.json.encode(row) + b"\n"


def _one_line(body: bytes) -> msgspec.Raw:
    """`body` without line breaks: in JSON they can only stand between tokens, as white space."""
    if b"\n" in body or b"\r" in body:
        body = body.replace(b"\r", b" ").replace(b"\n", b" ")
    return msgspec.Raw(body)
