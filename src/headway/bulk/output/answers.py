"""What a success holds: an answer, the lack of one, or an error after all; and what it says of its
tokens, its model and why it ended.

Bodies of OpenAI's form (chat, completions, responses, embeddings, and their like) are read, and
those of Anthropic, Gemini and Cohere, which come through gateways.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import msgspec

from headway.bulk.input.formats import with_members
from headway.bulk.input.lines import undecodable
from headway.bulk.output.rows import bill_in, is_json
from headway.bulk.record.status import CUT_OFF, FILTERED
from headway.estimate import COUNT_NAMES, USAGE_NAMES, Tokens
from headway.hints._kinds import status_in_body
from headway.hints._reply import ErrorBody, one_line, read_body

__all__ = ["Reading", "mended", "read_answer"]

_CALLED_CUT_OFF = frozenset(
    {"length", "max_length", "max_output_tokens", "max_tokens", "model_length", "token_limit"}
)
_LONGEST_REASON = 40

_ABSENT = msgspec.Raw(b"")
_NOTHING = frozenset({b"null", b"[]", b"{}", b'""', b"[null]", b"[{}]"})
_LONGEST_NOTHING = 6
_WAITS = frozenset({"in_progress", "pending", "processing", "queued"})  # of OpenAI's responses
_FAILED = frozenset({"cancelled", "canceled", "failed"})
_MOST_MESSAGE = 300

# An error that has no code says in words what it is about.
_PROSE = (
    (re.compile(r"too many requests|(?:rate|request|concurrency).?limit", re.I), 429),
    (
        re.compile(
            r"overloaded|service (?:is )?(?:temporarily )?unavailable|at capacity"
            r"|capacity (?:temporarily )?exceeded",
            re.I,
        ),
        503,
    ),
    (re.compile(r"internal (?:server )?error|server.error", re.I), 500),
)


class Reading(NamedTuple):
    """What a body holds. `body` is the JSON as it came, or mended.

    `missing` says what is wrong where it is no answer, and `status` the HTTP status that this
    amounts to, where the body says so; `billed` whether it may have been billed nevertheless, and
    `blocked` whether a content filter is why there is no answer.
    """

    body: bytes
    tokens: Tokens
    model: str | None = None
    reasons: tuple[str, ...] = ()
    missing: str = ""
    status: int | None = None
    billed: bool = False
    blocked: bool = False


class _Choice(msgspec.Struct, gc=False):
    finish_reason: Any = None
    finishReason: Any = None  # noqa: N815 - as it comes
    error: Any = None
    message: msgspec.Raw = _ABSENT
    text: msgspec.Raw = _ABSENT


class _Body(msgspec.Struct, gc=False):
    """What is looked at of a body; its parts are not taken apart: an embedding is long."""

    model: Any = None
    modelVersion: Any = None  # noqa: N815 - as it comes
    error: Any = None
    errors: msgspec.Raw = _ABSENT
    detail: msgspec.Raw = _ABSENT
    message: msgspec.Raw = _ABSENT
    msg: msgspec.Raw = _ABSENT
    error_msg: msgspec.Raw = _ABSENT  # Baidu's
    base_resp: msgspec.Raw = _ABSENT  # MiniMax's
    status: Any = None
    incomplete_details: Any = None
    stop_reason: Any = None
    finish_reason: Any = None
    promptFeedback: msgspec.Raw = _ABSENT  # noqa: N815 - as it comes
    choices: msgspec.Raw = _ABSENT
    candidates: msgspec.Raw = _ABSENT
    content: msgspec.Raw = _ABSENT
    data: msgspec.Raw = _ABSENT
    embedding: msgspec.Raw = _ABSENT
    embeddings: msgspec.Raw = _ABSENT
    generations: msgspec.Raw = _ABSENT
    output: msgspec.Raw = _ABSENT
    results: msgspec.Raw = _ABSENT
    text: msgspec.Raw = _ABSENT


_ANSWERS = (
    "choices", "candidates", "content", "data", "embedding", "embeddings", "generations",
    "output", "results", "text",
)  # fmt: skip
_SAID = ("detail", "message", "msg", "errors", "error_msg", "base_resp")
_decode = msgspec.json.Decoder(with_members(_Body, (*USAGE_NAMES, *COUNT_NAMES))).decode
_decode_choices = msgspec.json.Decoder(list[_Choice]).decode


def read_answer(body: bytes) -> Reading | None:
    """What the body of a success holds; None for what is not JSON, and cannot be made it."""
    readable = undecodable(body) is None
    if readable:  # what is skipped is not looked at
        try:
            return _judge(body, _decode(body))
        except (msgspec.DecodeError, RecursionError):
            pass
    whole = mended(body)
    if whole is None:
        return None
    try:
        read = _decode(whole)
    except (msgspec.DecodeError, RecursionError):
        return _of_another_kind(whole)
    # Text that is no UTF-8 is mended where an answer is in it; else it is for people to look at.
    return _judge(whole, read) if readable or _parts(read)[1] else None


def _parts(read: _Body) -> tuple[list[str], bool]:
    """The members that are there for an answer, and whether any of them holds something."""
    there, full = [], False
    for name in _ANSWERS:
        part = getattr(read, name)
        if part is not _ABSENT:
            there.append(name)
            full = full or len(memoryview(part)) > _LONGEST_NOTHING or bytes(part) not in _NOTHING
    if read.message is not _ABSENT and bytes(read.message).startswith(b"{"):  # Cohere's
        there.append("message")
        full = True
    return there, full


def _judge(body: bytes, read: _Body) -> Reading:
    there, full = _parts(read)
    model, tokens = bill_in(read)
    reasons, errors, whole = _ends(read)
    reading = Reading(body, tokens, model, reasons)
    status = read.status if isinstance(read.status, str) else ""
    if errors and not whole:
        return _fault(reading, {"error": errors[0]}, "it has an error for each choice")
    if status in _FAILED and "output" in there:
        said = {"error": read.error} if read.error else {}
        return _fault(reading, said, f"its status is {status!r}")
    if read.error and not full:
        return _fault(reading, {"error": read.error}, "it is an error")
    waits = status in _WAITS and (not full or "output" in there)
    if full and not waits and (whole or read.choices is _ABSENT):
        return reading
    if waits:
        what = (
            f"its status is {status!r}, so that the answer has yet to come. Leave "
            '"background" out of the body'
        )
        return reading._replace(missing=what, billed=True)
    said = {name: part for name in _SAID
            if bytes(part := getattr(read, name)) not in (b"", *_NOTHING)}  # fmt: skip
    if said or body.strip() == b"{}":
        whole_body = msgspec.json.decode(body)
        holder = whole_body.get("base_resp") or whole_body
        fault = _fault(reading, holder, "there is none in it")
        return fault._replace(billed=bool(there))
    if there:
        shown = ", ".join(f"{name}: {bytes(getattr(read, name)).decode()}" for name in there[:3])
        return reading._replace(
            missing=f"there is none in it ({shown})", billed=True,
            blocked=not FILTERED.isdisjoint(reasons),
        )  # fmt: skip
    if read.promptFeedback is not _ABSENT:
        what = f"the prompt was blocked: {bytes(read.promptFeedback)[:_MOST_MESSAGE].decode()}"
        return reading._replace(missing=what, blocked=True)
    return reading


def _ends(read: _Body) -> tuple[tuple[str, ...], list[Any], bool]:
    """Why an answer ended, each reason once; the errors of its choices; whether one has none."""
    reasons = [read.stop_reason, read.finish_reason]
    if read.status == "incomplete":
        details = read.incomplete_details
        said = details.get("reason") if isinstance(details, dict) else None
        reasons.append(said or "incomplete")
    errors, whole = [], False
    for part in (read.choices, read.candidates):
        if part is _ABSENT:
            continue
        try:
            choices = _decode_choices(part)
        except (msgspec.DecodeError, RecursionError):
            whole = True
            continue
        for choice in choices:
            reasons += (choice.finish_reason, choice.finishReason)
            if choice.error:
                errors.append(choice.error)
            elif choice.text is not _ABSENT or bytes(choice.message) != b"null":
                whole = True
    said = dict.fromkeys(_reason(one) for one in reasons if isinstance(one, str))
    return tuple(said), errors, whole


def _reason(said: str) -> str:
    name = one_line(said, _LONGEST_REASON).lower()
    return CUT_OFF if name in _CALLED_CUT_OFF else name


def _fault(reading: Reading, said: object, what: str) -> Reading:
    error = read_body(said)
    message = error.message or (json.dumps(said) if said else "")
    what = f"{what}: {message[:_MOST_MESSAGE]}" if message else what
    return reading._replace(missing=what, status=_status(error))


def _status(error: ErrorBody) -> int | None:
    """The status that an error amounts to, by its code, or else by its words."""
    meant = status_in_body(error)
    if meant is None:
        words = f"{error.message} {' '.join(error.words)}"
        meant = next((status for pattern, status in _PROSE if pattern.search(words)), None)
    return meant if meant is not None and 400 <= meant <= 599 else None


def _of_another_kind(body: bytes) -> Reading:
    """What is no object: some servers answer with a list, of errors too."""
    reading = Reading(body, Tokens())
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):  # a number that no decoder takes
        return reading
    if isinstance(value, list) and value and isinstance(value[0], dict) and value[0].get("error"):
        return _fault(reading, value[0], "it is an error")
    if not isinstance(value, list) or not value:
        shown = body[:_MOST_MESSAGE].decode()
        return reading._replace(missing=f"there is none in it: {shown}", billed=True)
    return reading


# -- what is odd -------------------------------------------------------------------------------

_HALVES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.|([\x00-\x1f])",
    re.S,
)
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?Infinity|NaN', re.S)


def mended(body: bytes) -> bytes | None:
    """`body` as JSON that strict readers take; None where it is none.

    It was billed, so that what can be read of it is kept. A byte order mark is left away, UTF-16
    and UTF-32 become UTF-8; half a surrogate pair, and bytes that are no UTF-8, become U+FFFD; NaN
    and Infinity become null; a control character in a string is escaped. All else stays as it is.
    """
    if is_json(body):
        return body
    try:
        text = body.decode(json.detect_encoding(body), "replace").encode()
    except (UnicodeError, LookupError):  # pragma: no cover - detect_encoding knows its codecs
        return None
    text = _TOKENS.sub(_mend_token, text)
    return text if is_json(text) else None


def _mend_token(found: re.Match[bytes]) -> bytes:
    token = found[0]
    return _HALVES.sub(_mend_half, token) if token.startswith(b'"') else b"null"


def _mend_half(found: re.Match[bytes]) -> bytes:
    if found[1] is not None:
        return b"\\ufffd"
    return b"\\u%04x" % found[2][0] if found[2] is not None else found[0]
