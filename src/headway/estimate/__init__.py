"""Tokens of an HTTP call: an estimate before it is sent, and what the answer says it used.

The estimate is a plain function of the request's body, so that a user can put another in its place
(a real tokenizer, say). This one needs none: prompts cost about a token for four bytes, images and
sound what their makers say (`headway.estimate._media`), and answers what the model has turned out
to produce, up to the ``max_tokens`` of the request.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from headway._words import shown
from headway.errors import InvalidArgument
from headway.estimate._media import Media, media_in
from headway.estimate._usage import (
    COUNT_NAMES,
    USAGE_NAMES,
    Tokens,
    of_attributes,
    tokens_of,
    usage_in,
    used_by,
)
from headway.rates import Cost, is_number

__all__ = [
    "BYTES_PER_TOKEN",
    "CHOICE_NAMES",
    "COUNT_NAMES",
    "GROUP_NAMES",
    "MAX_NAMES",
    "UNKNOWN_ANSWER",
    "USAGE_NAMES",
    "WITHOUT_ANSWER",
    "Estimator",
    "Media",
    "Tokens",
    "counts_in",
    "is_plausible",
    "media_in",
    "tokens_of",
    "usage_in",
    "used_by",
]

BYTES_PER_TOKEN = 4
MAX_NAMES = (
    "max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens",
    "max_tokens_to_sample", "maxOutputTokens",
)  # fmt: skip
CHOICE_NAMES = (
    "n", "best_of", "num_completions", "num_generations", "num_return_sequences",
    "candidate_count", "candidateCount",
)  # fmt: skip
GROUP_NAMES = ("generationConfig", "generation_config")  # objects that hold more of them
_COUNTS = frozenset({*MAX_NAMES, *CHOICE_NAMES})
_NUMBER = (int, float)
_MOST_STATED = 1e12  # beyond it nothing is a count of tokens
WITHOUT_ANSWER = ("/embeddings", "/rerank", "/moderations")  # what is billed by its input alone
UNKNOWN_ANSWER = 500  # tokens, before anything is known and with no maximum stated
_MODELS = 1024
_SHARES = 32  # of the cache, remembered of each prefix: the least of them is taken
_PREFIX = 1024  # characters
_CACHE_MARGIN = 1.5  # what is taken for uncached is so much more than it was

_MOST = 1e9  # tokens that one answer can have used


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
        self._cached: dict[tuple[str, int], deque[float]] = {}  # by model and prefix: shares

    def __call__(self, body: Mapping[str, Any], size: int | None = None) -> Cost:
        """An estimate of the tokens of a request with this JSON body, of `size` bytes."""
        if size is None:
            size = len(json.dumps(_prompt(body)))
        media = media_in(body)
        prompt = max(0, size - media.size) / BYTES_PER_TOKEN + media.tokens
        groups = [body, *[body[name] for name in GROUP_NAMES if name in body]]
        maxima, choices = counts_in(groups)
        counts = [most for _, most in maxima if most < _MOST_STATED]
        stated = max(counts) * choices if counts else None
        learned = self._answers.get(str(body.get("model")))
        if learned is None:
            answer = UNKNOWN_ANSWER * choices if stated is None else stated
        else:
            answer = learned if stated is None else min(stated, learned)
        cached = prompt * self._share(body) if self._cached else 0.0
        return Cost(input=prompt - cached, cached=cached, output=answer)

    def _share(self, body: Mapping[str, Any]) -> float:
        """The share of its prompt that the provider's cache will hold, on the low side."""
        shares = self._cached.get(_prefix_of(body))
        if not shares:
            return 0.0
        return max(0.0, 1.0 - _CACHE_MARGIN * (1.0 - min(shares)))

    def learn_cached(self, body: Mapping[str, Any], said: Tokens) -> None:
        """Follow what an answer to a request with this JSON body says of the provider's cache."""
        if not said.read:
            return
        prefix = _prefix_of(body)
        shares = self._cached.pop(prefix, None)
        if shares is None:
            if not said.cached:
                return
            shares = deque(maxlen=_SHARES)
            while len(self._cached) >= _MODELS:
                del self._cached[next(iter(self._cached))]
        shares.append(said.cached / said.read)
        self._cached[prefix] = shares  # the newest last: the oldest is forgotten first

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


def _prefix_of(body: Mapping[str, Any]) -> tuple[str, int]:
    """What decides whether a prompt is in a provider's cache: the model, and how it begins."""
    beginning, size = [], 0
    for text in _texts([body.get("system"), _prompt(body)]):
        beginning.append(text[:_PREFIX])
        size += len(text)
        if size >= _PREFIX:
            break
    return str(body.get("model")), hash("\n".join(beginning)[:_PREFIX])


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def counts_in(groups: Iterable[object]) -> tuple[list[tuple[str, float]], int]:
    """What a request states of its answers: the maxima of tokens of one, each with its name; and
    how many it asks for to one prompt, the largest number that it states, or 1.

    `groups` are the JSON objects (or values of their form) that hold its options. Which of several
    maxima a provider obeys is not known: whoever reserves takes the largest. What is no number, or
    below 0, is for the provider to judge.
    """
    maxima: list[tuple[str, float]] = []
    choices = 1
    for group in groups:
        for name, value in _stated_in(group):
            if (
                name in _COUNTS
                and isinstance(value, _NUMBER)
                and not isinstance(value, bool)
                and value >= 0
            ):
                value = min(value, _MOST_STATED + 1)  # some have no float
                if name in MAX_NAMES:
                    maxima.append((name, value))
                else:
                    choices = max(choices, math.ceil(value))
    return maxima, choices


def _stated_in(group: object) -> Iterable[tuple[str, Any]]:
    if isinstance(group, dict):
        return group.items()
    if group is None:
        return ()
    get = group.get if isinstance(group, Mapping) else of_attributes(group)
    return [(name, get(name)) for name in _COUNTS]


def is_plausible(used: float, reserved: float, size: int) -> bool:
    """Whether a call that reserved `reserved` tokens, and of which `size` bytes of the request and
    the answer are known, can have used `used`. One absurd number would stop everything for hours.
    """
    return used <= _MOST and (used <= 1_000 * reserved or used <= 100 * size)


def _prompt(body: Mapping[str, Any]) -> object:
    for name in ("messages", "prompt", "input", "contents", "query"):
        if name in body:
            return body[name]
    return body


def _count(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return None
    return float(value)
