"""Headers and error bodies, of any type and shape, read into one plain shape.

Everything is cut before it is looked at: an error says what it has to say in a few kilobytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

__all__ = ["ErrorBody", "Headers", "one_line", "read_body", "read_headers"]

Headers = Mapping[str, str] | Iterable[tuple[str, str]] | None
"""``httpx.Headers``, a dict, a multidict, a list of pairs; names in any case."""

MAX_HEADERS = 1_000
MAX_HEADER_CHARS = 4_096
MAX_BODY = 65_536
MAX_MESSAGE_CHARS = 4_096

_TITLE = re.compile(r"<title[^>]{0,100}>([^<]{1,300})", re.I)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What an error body says, whatever its shape.

    `message` is one line. `words` are the lower-case values of ``type``, ``code``, ``error_type``
    and ``status``, the inner error's first. `code` is an HTTP status in the body. `quota_ids` and
    `retry_delay` are Google's, `headers` OpenRouter's.
    """

    message: str = ""
    words: tuple[str, ...] = ()
    code: int | None = None
    quota_ids: tuple[str, ...] = ()
    retry_delay: str | None = None
    headers: Mapping[str, str] | None = None


def read_headers(headers: Any) -> dict[str, str]:
    """The headers that concern limits, names in lower case, repeated ones joined with commas."""
    found: dict[str, str] = {}
    if headers is None:
        return found
    try:
        pairs = headers.items() if hasattr(headers, "items") else headers
        for pair in islice(pairs, MAX_HEADERS):
            name, value = map(_plain, pair)
            name = name.lower()
            if "limit" in name or name.startswith("retry-after"):
                found[name] = f"{found[name]}, {value}" if name in found else value
    except Exception:  # a foreign object that is no mapping after all: what was read, holds
        pass
    return found


def read_body(body: Any) -> ErrorBody:
    """What an error body says: ``bytes`` or ``str``, as received, or parsed JSON."""
    if isinstance(body, bytes | bytearray | str):
        body = _parse(body)
    if isinstance(body, list):  # Gemini streams an array of errors
        body = body[0] if body else None
    if isinstance(body, str):
        return ErrorBody(message=one_line(_text_of_page(body)))
    if not isinstance(body, dict):
        return ErrorBody()
    inner = body.get("error") or body.get("Error") or body.get("errors") or body
    if isinstance(inner, list):  # Cloudflare
        inner = inner[0]
    if isinstance(inner, str):  # {"error": "not found"}; OAuth adds an error_description
        inner = {"code": inner, "message": _message(body) or inner}
    elif not isinstance(inner, dict):
        inner = body
    quota_ids, retry_delay = _google_details(inner.get("details"))
    return ErrorBody(
        message=_message(inner) or _message(body),
        words=(*_words(inner), *_words(body)),
        code=_status_code(inner) or _status_code(body),
        quota_ids=quota_ids,
        retry_delay=retry_delay,
        headers=_openrouter_headers(inner.get("metadata")),
    )


def one_line(text: str, length: int = MAX_MESSAGE_CHARS) -> str:
    """`text` on one line, without control characters, cut to `length` characters."""
    text = text[: 4 * length]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.split())[:length]


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value[:MAX_HEADER_CHARS]
    if isinstance(value, bytes):
        return value[:MAX_HEADER_CHARS].decode("latin-1")
    return str(value)[:MAX_HEADER_CHARS] if isinstance(value, int | float) else ""


def _parse(body: bytes | bytearray | str) -> object:
    """The parsed JSON, or the text; what is larger than MAX_BODY is cut, so hardly JSON to us."""
    body = body[:MAX_BODY]
    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _text_of_page(text: str) -> str:
    """The title of an HTML page (a proxy's or a CDN's), any other text as it is."""
    text = text[:MAX_BODY].lstrip()[: 4 * MAX_MESSAGE_CHARS]
    if not text.startswith("<"):
        return text
    title = _TITLE.search(text)
    return title[1] if title else ""


def _message(error: dict[Any, Any]) -> str:
    for name in ("message", "Message", "detail", "error_description", "msg"):
        if isinstance(text := error.get(name), str) and text:
            return one_line(text)
    return ""


def _words(error: dict[Any, Any]) -> Iterable[str]:
    for name in ("type", "code", "Code", "error_type", "status", "__type"):
        if isinstance(word := error.get(name), str):
            yield word[:100].lower()


def _status_code(error: dict[Any, Any]) -> int | None:
    for name in ("code", "status", "status_code"):
        value = error.get(name)
        if isinstance(value, str) and re.fullmatch(r"[45]\d\d", value, re.ASCII):
            value = int(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return int(value)
    return None


def _google_details(details: object) -> tuple[tuple[str, ...], str | None]:
    """The ids of the quotas that were violated, and ``RetryInfo.retryDelay`` ("22s")."""
    quota_ids: list[str] = []
    retry_delay: str | None = None
    for detail in _dicts(details):
        if isinstance(delay := detail.get("retryDelay"), str):
            retry_delay = delay[:MAX_HEADER_CHARS]
        ids = (violation.get("quotaId") for violation in _dicts(detail.get("violations")))
        quota_ids += [found[:200].lower() for found in ids if isinstance(found, str)]
    return tuple(quota_ids), retry_delay


def _dicts(values: object) -> list[dict[Any, Any]]:
    if not isinstance(values, list):
        return []
    return [each for each in values[:32] if isinstance(each, dict)]


def _openrouter_headers(metadata: object) -> Mapping[str, str] | None:
    headers = metadata.get("headers") if isinstance(metadata, dict) else None
    return read_headers(headers) if isinstance(headers, dict) else None
