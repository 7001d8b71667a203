"""Headers and error bodies, of any type and shape, read into one plain shape.

Everything is cut before it is looked at: an error says what it has to say in a few kilobytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from headway.hints._body_waits import BodyWait, waits_in
from headway.hints._dialect import GENERIC, Dialect
from headway.hints._names import MAX_NAME, is_reset, is_wait, known_name, name_in
from headway.hints._values import counted_in_seconds
from headway.kinds._words import redacted

__all__ = [
    "ErrorBody",
    "Headers",
    "message_in",
    "one_line",
    "read_body",
    "read_headers",
]

Headers = Mapping[str, str] | Iterable[tuple[str, str]] | None
"""``httpx.Headers``, a dict, a multidict, a list of pairs; names in any case."""

MAX_HEADERS = 1_000
MAX_HEADER_CHARS = 4_096
MAX_BODY = 65_536
MAX_MESSAGE_CHARS = 4_096
_NESTED = 3  # errors inside each other, as JSON in a string

_TITLE = re.compile(r"<title[^>]{0,100}>([^<]{1,300})", re.I)
_XML = re.compile(r"<(Code|Message)>([^<]{1,1000})</")  # AWS: S3 and EC2


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What an error body says, whatever its shape.

    `message` is one line. `words` are the lower-case values of ``type``, ``code``, ``error_type``,
    ``status``, ``reason`` and the like, the inner error's first. `code` is an HTTP status in the
    body. `quota_ids` and `no_quota` (a quota of 0) are Google's, `headers` OpenRouter's, as is
    `upstream`: the error of the provider behind it. `waits` are the fields that say when to try
    again.
    """

    message: str = ""
    words: tuple[str, ...] = ()
    code: int | None = None
    quota_ids: tuple[str, ...] = ()
    no_quota: bool = False
    waits: tuple[BodyWait, ...] = ()
    headers: Mapping[str, str] | None = None
    upstream: ErrorBody | None = None

    @property
    def prose(self) -> str:
        """The message and that of the provider behind it, in lower case."""
        upstream = "" if self.upstream is None else f" {self.upstream.message}"
        return (self.message + upstream).lower()


def read_headers(headers: Any, dialect: Dialect = GENERIC) -> dict[str, str]:
    """The headers that concern limits, by the names they are known by (`known_name`).

    Repeated ones are joined with commas. Of one limit under two names the usual name holds; of
    waits all count. What a provider of that `dialect` leaves open is said in the names and values.
    """
    find = partial(name_in, dialect) if dialect.headers else known_name
    found: dict[str, str] = {}
    aliases: dict[str, str] = {}
    if headers is None:
        return found
    try:
        pairs = headers.items() if hasattr(headers, "items") else headers
        for name, value in islice(pairs, MAX_HEADERS):
            if type(name) is not str:
                name = _plain(name)
            known = find(name if len(name) <= MAX_NAME else name[:MAX_NAME])
            if known is None:
                continue
            name = name.lower()
            if known != name:
                aliases[name] = known
            value = value[:MAX_HEADER_CHARS] if type(value) is str else _plain(value)
            found[name] = f"{found[name]}, {value}" if name in found else value
    except Exception:  # a foreign object that is no mapping after all: what was read, holds
        pass
    for name, known in aliases.items():
        if name not in found:
            continue
        value = found.pop(name)
        if known in found and is_wait(known):
            value = f"{found.pop(known)}, {value}"
        found.setdefault(known, value)
    if dialect.reset is not None:
        for name in [name for name in found if is_reset(name)]:
            parts = found[name].split(",")
            found[name] = ",".join(counted_in_seconds(part, dialect.reset) for part in parts)
    return found


def read_body(body: Any) -> ErrorBody:
    """What an error body says: ``bytes`` or ``str``, as received, or parsed JSON."""
    return _read_body(body, _NESTED)


def message_in(body: object) -> str:
    """The message of an error's body, parsed JSON; "" where it has none."""
    return read_body(body).message


def _read_body(body: Any, nested: int) -> ErrorBody:
    if isinstance(body, bytes | bytearray | str):
        body = _parse(body)
    if isinstance(body, list):  # Gemini streams an array of errors; Salesforce sends one
        body = body[0] if body else None
    if isinstance(body, str):
        return _read_text(body)
    if not isinstance(body, dict):
        return ErrorBody()
    inner = _inner(body)
    metadata = inner.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    quota_ids, no_quota, reasons = _google_details(inner.get("details"))
    listed = (detail.get("reason") for detail in _dicts(inner.get("errors")))  # Google, of old
    reasons += [reason[:100].lower() for reason in listed if isinstance(reason, str)]
    return ErrorBody(
        message=_message(inner) or _message(body),
        words=(*_words(inner), *_words(body), *reasons),
        code=_status_code(inner) or _status_code(body),
        quota_ids=quota_ids,
        no_quota=no_quota,
        waits=waits_in(body),
        headers=_openrouter_headers(metadata),
        upstream=_read_body(raw, nested - 1) if raw and nested else None,
    )


def _inner(body: dict[Any, Any]) -> dict[Any, Any]:
    """The object in `body` that is about the error; `body` itself where it holds none."""
    inner = body.get("error") or body.get("Error") or body.get("errors")
    if not inner and isinstance(response := body.get("response"), dict):
        inner = response.get("error")  # OpenAI's event response.failed
    if isinstance(inner, list):  # Cloudflare
        inner = inner[0] if inner else None
    if isinstance(inner, str):  # {"error": "not found"}; OAuth adds an error_description
        return {"code": inner, "message": _message(body) or inner}
    return inner if isinstance(inner, dict) else body


def _read_text(text: str) -> ErrorBody:
    """A text; of AWS's XML the code and the message, of an HTML page the title."""
    text = text[:MAX_BODY].lstrip()[: 4 * MAX_MESSAGE_CHARS]
    if not text.startswith("<"):
        return ErrorBody(message=one_line(text))
    said = dict(_XML.findall(text))
    if "Code" in said:
        return ErrorBody(one_line(said.get("Message", "")), (said["Code"][:100].lower(),))
    title = _TITLE.search(text)
    return ErrorBody(message=one_line(title[1]) if title else "")


def one_line(text: str, length: int = MAX_MESSAGE_CHARS) -> str:
    """`text` on one line, without control characters and secrets, cut to `length` characters."""
    text = redacted(text[: 4 * length])
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


_MESSAGES = (
    "message", "Message", "detail", "error_description", "description", "msg", "error_message",
    "error_msg", "status_msg",
    "errorMessage", "title",
)  # fmt: skip
_WORDS = (
    "type", "code", "Code", "error_type", "status", "__type", "errorCode", "error_code",
    "error_name", "reason",
)  # fmt: skip


def _message(error: dict[Any, Any]) -> str:
    for name in _MESSAGES:
        if isinstance(text := error.get(name), str) and text:
            return one_line(text)
    return ""


def _words(error: dict[Any, Any]) -> Iterable[str]:
    for name in _WORDS:
        if isinstance(word := error.get(name), str):
            yield word[:100].lower()


def _status_code(error: dict[Any, Any]) -> int | None:
    for name in ("code", "status", "status_code", "statusCode", "error_code"):
        value = error.get(name)
        if isinstance(value, str) and re.fullmatch(r"[45]\d\d", value, re.ASCII):
            value = int(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return int(value)
    return None


def _google_details(details: object) -> tuple[tuple[str, ...], bool, list[str]]:
    """The ids of the quotas that were violated, whether one of them is 0, and the reasons."""
    quota_ids: list[str] = []
    reasons: list[str] = []
    no_quota = False
    for detail in _dicts(details):
        if isinstance(reason := detail.get("reason"), str):
            reasons.append(reason[:100].lower())
        metadata = detail.get("metadata")
        violated = [*_dicts(detail.get("violations")), *_dicts([metadata])]
        for quota in violated:
            ids = quota.get("quotaId"), quota.get("quota_limit")  # QuotaFailure, ErrorInfo
            quota_ids += [found[:200].lower() for found in ids if isinstance(found, str)]
            no_quota |= "0" in (quota.get("quotaValue"), quota.get("quota_limit_value"))
    return tuple(quota_ids), no_quota, reasons


def _dicts(values: object) -> list[dict[Any, Any]]:
    if not isinstance(values, list):
        return []
    return [each for each in values[:32] if isinstance(each, dict)]


def _openrouter_headers(metadata: object) -> Mapping[str, str] | None:
    headers = metadata.get("headers") if isinstance(metadata, dict) else None
    return read_headers(headers) if isinstance(headers, dict) else None
