"""Bodies of requests and answers: what can be sent again, what they say, whom they may be shown."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from headway.hints import Refusal
from headway.hints._kinds import refusal_from_parts, says_limit, status_in_body
from headway.hints._reply import read_body
from headway.kinds._words import with_fix

__all__ = [
    "STREAMED",
    "content_of",
    "error_in_stream",
    "is_text",
    "json_in",
    "json_of",
    "kinds_of",
    "repeatable",
    "size_of",
]

STREAMED = with_fix(
    "the body of this request is a stream or an open file, which cannot be sent again, so it was "
    "not retried",
    "send it as bytes, or retry where the stream can be opened anew.",
)

_TEXTS = frozenset({"", "application/json", "text/plain", "text/html"})
_UNKNOWN_ERROR = 500  # an error inside a stream, of a type that no table knows
_TAIL = 16_384


def repeatable(request: Any) -> bool:
    """Whether the body of `request` can be sent again: it is bytes, or a form of bytes."""
    stream = request.stream
    name = type(stream).__name__
    if name == "MultipartStream":
        return all(
            isinstance(getattr(field, "file", b""), bytes | str)
            for field in getattr(stream, "fields", (None,))
            if field is not None
        )
    return name == "ByteStream"


def content_of(request: Any) -> bytes:
    """The body of `request` where it is bytes, else b"".

    A client that follows a redirect hands on the stream alone: ``request.content`` was never read.
    """
    stream = request.stream
    return b"".join(stream) if type(stream).__name__ == "ByteStream" else b""


def json_of(request: Any) -> Mapping[str, Any]:
    """The JSON object that is the body of `request`, empty where it is something else."""
    return json_in(content_of(request))


def json_in(content: bytes) -> Mapping[str, Any]:
    """The JSON object that `content` is, empty where it is something else."""
    if not content:
        return {}
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def size_of(request: Any) -> int:
    """The bytes of the body of `request`, as its headers state them."""
    stated: str = request.headers.get("content-length", "")
    return int(stated) if stated.isdecimal() and len(stated) < 16 else 0


_STREAMS = (
    b"text/event-stream", b"application/x-ndjson", b"application/ndjson", b"application/jsonl",
    b"application/stream+json", b"application/json-seq", b"application/vnd.amazon.eventstream",
)  # fmt: skip
# An event of AWS's that is an error: a header with its name, and a JSON object.
_AWS_ERROR = re.compile(
    rb":exception-type\x07\x00(?:.)(?P<type>[A-Za-z]{1,100}).{0,400}?(?P<body>\{[^{}]{0,4000}\})",
    re.S,
)


def kinds_of(headers: Any) -> tuple[bool, bool]:
    """Whether an answer with these headers is a stream of events, and whether it is compressed."""
    events = encoded = False
    for name, value in headers.raw:  # to look one up by name decodes them all
        if len(name) in (12, 16):
            name = name.lower()
            if name == b"content-type":
                events = value.lower().startswith(_STREAMS)
            elif name == b"content-encoding":
                encoded = True
    return events, encoded


def is_text(headers: Any) -> bool:
    """Whether an answer with these headers is one whole text: no stream of events, and no file."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in _TEXTS or (kind.endswith("+json") and not kind.endswith("stream+json"))


def error_in_stream(events: bytes) -> Refusal | None:
    """The error that ends a stream of server-sent events, of lines of JSON, or of AWS's events;
    None where it ends without one.
    """
    tail = events[-_TAIL:]
    if (thrown := _AWS_ERROR.search(tail)) is not None:
        message = json_in(thrown["body"]).get("message", "")
        return _refused_in({"type": thrown["type"].decode(), "message": message})
    if b"error" not in tail:
        return None
    name, data = "", b""
    for block in tail.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        lines = [line.partition(b":") for line in block.split(b"\n")]
        found = b"".join(value for key, _, value in lines if key == b"data").strip()
        if found and found != b"[DONE]":
            data = found
            name = (
                b"".join(value for key, _, value in lines if key == b"event")
                .strip()
                .decode("utf-8", "replace")
            )
    if not data and not name:  # a line of JSON is an event
        data = tail.rstrip().rpartition(b"\n")[2].strip(b"\x1e \r")
    if name != "error" and b'"error"' not in data:
        return None
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = None
    if name != "error" and not (isinstance(said, dict) and _error_of(said)):
        return None
    return _refused_in(data)


def _refused_in(said: object) -> Refusal:
    error = read_body(said)
    meaning = status_in_body(error)
    if meaning is None and says_limit(error.message):
        meaning = 429
    if meaning is None or not 400 <= meaning <= 599:
        meaning = _UNKNOWN_ERROR
    return refusal_from_parts(meaning, {}, error, None, time.time())


def _error_of(event: dict[str, Any]) -> Any:
    """The error in an event: its own, or that of OpenAI's ``response.failed``.

    A ``response.incomplete`` without one is an answer that was cut off by its limit of tokens.
    """
    response = event.get("response")
    return event.get("error") or (response.get("error") if isinstance(response, dict) else None)
