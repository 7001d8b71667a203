"""Tokens of an HTTP call: an estimate before it is sent, and what the answer says it used.

The estimate is a plain function of the request's body, so that a user can put another in its place
(a real tokenizer, say). This one needs none: prompts cost about a token for four bytes, and answers
what the model has turned out to produce, up to the ``max_tokens`` of the request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from headway._words import shown
from headway.errors import InvalidArgument
from headway.rates import is_number

__all__ = [
    "BYTES_PER_TOKEN",
    "UNKNOWN_ANSWER",
    "WITHOUT_ANSWER",
    "Estimator",
    "is_plausible",
    "usage_in",
]

BYTES_PER_TOKEN = 4
_MAX_NAMES = ("max_tokens", "max_completion_tokens", "max_output_tokens")
WITHOUT_ANSWER = ("/embeddings", "/rerank", "/moderations")  # what is billed by its input alone
UNKNOWN_ANSWER = 500  # tokens, before anything is known and with no maximum stated
_MODELS = 1024

# Images and sound are sent as base64, and cost by their size in pixels or seconds, not in bytes.
_MEDIA_FROM = 20_000  # bytes of a body; smaller ones are not looked through
_MEDIUM = 4_096  # characters of one, at least
_MEDIUM_TOKENS = 1_000
_MEDIA_NAMES = frozenset(
    {"audio", "b64_json", "bytes", "data", "file_data", "image", "image_url", "input_audio", "url"}
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\r\n]{256}")

_MOST = 1e9  # tokens that one answer can have used

_COUNTS = ("total_tokens", "input_tokens", "output_tokens", "prompt_tokens", "completion_tokens")
_PROMPT_PARTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_PARSED = 32  # objects of one answer that are read for its usage

_DECODE = json.JSONDecoder().raw_decode


class Estimator:
    """Tokens that a request will use: its prompt, and a high quantile of the model's answers.

    The quantile (0.9 by default) follows by stochastic approximation (Robbins and Monro, 1951):
    up by q, down by 1 - q of a step that is a tenth of the present value.

    Raises `InvalidArgument` for a `quantile` that is not between 0 and 1.
    """

    def __init__(self, quantile: float = 0.9) -> None:
        if not (is_number(quantile) and 0 < quantile < 1):
            raise InvalidArgument(
                f"quantile={shown(quantile)} is not between 0 and 1: it is the share of a model's "
                "answers that use no more tokens than are reserved",
                fix="0.9, or leave it out.",
            )
        self._quantile = quantile
        self._answers: dict[str, float] = {}  # by model: tokens that 9 of 10 answers stay below

    def __call__(self, body: Mapping[str, Any], size: int | None = None) -> float:
        """An estimate of the tokens of a request with this JSON body, of `size` bytes."""
        asked: object = body
        if size is None:
            asked = _prompt(body)
            size = len(json.dumps(asked))
        prompt = size / BYTES_PER_TOKEN
        if size > _MEDIA_FROM:
            prompt += _media(asked)
        stated = None
        for name in _MAX_NAMES:
            if name in body and (stated := _count(body[name])) is not None:
                break
        learned = self._answers.get(str(body.get("model")))
        if learned is None:
            answer = UNKNOWN_ANSWER if stated is None else stated
        else:
            answer = learned if stated is None else min(stated, learned)
        return float(prompt + answer)

    def learn(self, body: Mapping[str, Any], answer: float) -> None:
        """Follow an answer of `answer` tokens to a request with this JSON body."""
        model = str(body.get("model"))
        present = self._answers.get(model)
        if present is None:
            if len(self._answers) < _MODELS:
                self._answers[model] = max(1.0, answer)
            return
        step = 0.1 * present
        above = answer > present
        present += step * self._quantile if above else -step * (1 - self._quantile)
        self._answers[model] = max(1.0, present)


def usage_in(answer: bytes) -> tuple[float, float] | None:
    """The tokens (in all, and of the answer alone) that a body or an event stream says it used.

    Reads the last ``"usage"`` object that counts something: OpenAI's, Together's, Anthropic's
    (whose streams give the prompt's part in the first one) and Gemini's; None where there is none
    that can be read, or where one of Anthropic's streams was not read to its last.
    """
    at, last = _usage_before(answer, len(answer))
    if last is None:
        google = _object_after(answer, answer.rfind(b'"usageMetadata"'), len(b'"usageMetadata"'))
        if google is None:
            return None
        whole, asked = _count(google.get("totalTokenCount")), _count(google.get("promptTokenCount"))
        return _sum(whole, asked, _count(google.get("candidatesTokenCount")))
    whole = _count(last.get("total_tokens"))
    given = _first_count(last, "completion_tokens", "output_tokens")
    if whole is not None:
        return _sum(whole, None, given)
    begun = answer.find(b'"message_start"', 0, at)
    if begun >= 0:
        first_at, first = _usage_before(answer, answer.find(b"\n", begun) + 1)
        if first is None or first_at == at:
            return None  # what follows the beginning, and counts the answer, was not read
        last = {**first, **last}
    elif "input_tokens" not in last:
        first = _object_after(answer, answer.find(b'"usage"'), len(b'"usage"'))
        last = {**(first or {}), **last}
    asked = _first_count(last, "input_tokens", "prompt_tokens")
    if asked is not None and "input_tokens" in last:
        asked = sum(_count(last.get(name)) or 0.0 for name in _PROMPT_PARTS)
    return _sum(None, asked, given)


def is_plausible(used: float, reserved: float, size: int) -> bool:
    """Whether a call that reserved `reserved` tokens, and of which `size` bytes of the request and
    the answer are known, can have used `used`. One absurd number would stop everything for hours.
    """
    return used <= _MOST and (used <= 1_000 * reserved or used <= 100 * size)


def _usage_before(text: bytes, end: int) -> tuple[int, dict[str, Any] | None]:
    """The last usage object before `end` that counts anything, and where its name stands."""
    for _ in range(_PARSED):
        while (at := text.rfind(b'"usage"', 0, end)) >= 0:
            end = at
            if text[at + 7 : at + 32].lstrip(b" \t\r\n:").startswith(b"{"):
                break
        if at < 0:
            break
        found = _object_after(text, at, len(b'"usage"'))
        if found is not None and _first_count(found, *_COUNTS) is not None:
            return at, found
    return -1, None


def _first_count(usage: Mapping[str, Any], *names: str) -> float | None:
    for name in names:
        if (count := _count(usage.get(name))) is not None:
            return count
    return None


def _sum(
    whole: float | None, asked: float | None, given: float | None
) -> tuple[float, float] | None:
    answer = given or 0.0
    if whole is not None:
        return whole, answer
    return None if asked is None else (asked + answer, answer)


def _media(body: object) -> float:
    """What to add to an estimate by the size of `body` for the images and the sound in it."""
    more = 0.0
    rest: list[tuple[str, object]] = [("", body)]
    while rest:
        name, value = rest.pop()
        if isinstance(value, dict):
            rest.extend(value.items())
        elif isinstance(value, list):
            rest.extend((name, each) for each in value)
        elif isinstance(value, str) and len(value) > _MEDIUM:
            encoded = name in _MEDIA_NAMES and _BASE64.match(value)
            if encoded or value.startswith("data:"):
                more += _MEDIUM_TOKENS - len(value) / BYTES_PER_TOKEN
    return more


def _object_after(text: bytes, start: int, length: int) -> dict[str, Any] | None:
    if start < 0:
        return None
    rest = text[start + length : start + length + 4096].lstrip(b" \t\r\n:")
    if not rest.startswith(b"{"):
        return None
    try:
        found, _ = _DECODE(rest.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _prompt(body: Mapping[str, Any]) -> object:
    for name in ("messages", "prompt", "input", "contents", "query"):
        if name in body:
            return body[name]
    return body


def _count(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return None
    return float(value)
