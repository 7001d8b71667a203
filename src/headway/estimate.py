"""Tokens of an HTTP call: an estimate before it is sent, and what the answer says it used.

The estimate is a plain function of the request's body, so that a user can put another in its place
(a real tokenizer, say). This one needs none: prompts cost about a token for four bytes, and answers
what the model has turned out to produce, up to the ``max_tokens`` of the request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["Estimator", "usage_in"]

_BYTES_PER_TOKEN = 4
_MAX_NAMES = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_UNKNOWN_ANSWER = 500  # tokens, before anything is known and with no maximum stated
_MODELS = 1024

_DECODE = json.JSONDecoder().raw_decode


class Estimator:
    """Tokens that a request will use: its prompt, and a high quantile of the model's answers.

    The quantile (0.9 by default) follows by stochastic approximation (Robbins and Monro, 1951):
    up by q, down by 1 - q of a step that is a tenth of the present value.
    """

    def __init__(self, quantile: float = 0.9) -> None:
        self._quantile = quantile
        self._answers: dict[str, float] = {}  # by model: tokens that 9 of 10 answers stay below

    def __call__(self, body: Mapping[str, Any], size: int | None = None) -> float:
        """An estimate of the tokens of a request with this JSON body, of `size` bytes."""
        if size is None:
            size = len(json.dumps(_prompt(body)))
        prompt = size / _BYTES_PER_TOKEN
        counts = (_count(body.get(name)) for name in _MAX_NAMES)
        stated = next((count for count in counts if count is not None), None)
        learned = self._answers.get(str(body.get("model")))
        if learned is None:
            answer = _UNKNOWN_ANSWER if stated is None else stated
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

    Reads the last ``"usage"`` object: OpenAI's, Together's, Anthropic's (whose streams give the
    prompt's part in the first one) and Gemini's; None where there is none that can be read.
    """
    last = _object_after(answer, answer.rfind(b'"usage"'), len(b'"usage"'))
    if last is None:
        google = _object_after(answer, answer.rfind(b'"usageMetadata"'), len(b'"usageMetadata"'))
        return (
            None
            if google is None
            else _sum(google, "totalTokenCount", "promptTokenCount", "candidatesTokenCount")
        )
    if _count(last.get("total_tokens")) is not None:
        return _sum(last, "total_tokens", "prompt_tokens", "completion_tokens")
    first = _object_after(answer, answer.find(b'"usage"'), len(b'"usage"')) or {}
    return _sum({**first, **last}, "", "input_tokens", "output_tokens")


def _sum(
    usage: Mapping[str, Any], total: str, prompt: str, output: str
) -> tuple[float, float] | None:
    whole, asked, given = (_count(usage.get(name)) for name in (total, prompt, output))
    answer = given or 0.0
    if whole is not None:
        return whole, answer
    return None if asked is None else (asked + answer, answer)


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
