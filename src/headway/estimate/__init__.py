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
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from headway.errors import InvalidArgument
from headway.estimate._media import Media, media_in
from headway.estimate._usage import (
    COUNT_NAMES,
    USAGE_NAMES,
    Tokens,
    of_attributes,
    said_by,
    said_by_headers,
    said_in,
    tokens_of,
    usage_in,
    used_by,
)
from headway.kinds._words import shown
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
    "Estimate",
    "Estimator",
    "Likeness",
    "Media",
    "Tokens",
    "counts_in",
    "is_plausible",
    "is_prompt_alone",
    "likeness_of",
    "media_in",
    "said_by",
    "said_by_headers",
    "said_in",
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
WITHOUT_ANSWER = (  # ends of urls; what is billed by its input alone
    "/embeddings", "/embed", ":embedContent", ":batchEmbedContents", "/rerank", "/moderations",
)  # fmt: skip
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
        self._cached: dict[Likeness, deque[float]] = {}  # shares of prompts that the cache held

    def __call__(self, body: Mapping[str, Any], size: int | None = None) -> Cost:
        """An estimate of the tokens of a request with this JSON body, of `size` bytes."""
        return self.estimate(body, size)()

    def estimate(
        self, body: Mapping[str, Any], size: int | None = None, like: Likeness | None = None
    ) -> Estimate:
        """The same, to be asked again when more is known; it does not keep the body. `like` is what
        `likeness_of` says, where that is known.
        """
        groups = [body, *[body[name] for name in GROUP_NAMES if name in body]]
        maxima, choices = counts_in(groups)
        counts = [most for _, most in maxima if most < _MOST_STATED]
        stated = max(counts) * choices if counts else None
        return Estimate(self, like or likeness_of(body), _reads(body, size), stated, choices)

    def estimate_prompt(
        self, body: Mapping[str, Any], size: int | None = None, like: Likeness | None = None
    ) -> Estimate:
        """The same of a request that is answered without tokens: see `is_prompt_alone`."""
        return Estimate(self, like or likeness_of(body), _reads(body, size), 0.0, 1)

    def hear(self, like: Likeness, said: Tokens) -> None:
        """Follow what an answer to a request like `like` says that it used."""
        self._learn_answer(like.model, said.written or 0)
        if said.read and (said.cached or like in self._cached):
            shares = self._cached.pop(like, None)
            if shares is None:
                shares = deque(maxlen=_SHARES)
                while len(self._cached) >= _MODELS:
                    del self._cached[next(iter(self._cached))]
            shares.append(said.cached / said.read)
            self._cached[like] = shares  # the newest last: the oldest is forgotten first

    def learn(self, body: Mapping[str, Any], answer: float) -> None:
        """Follow an answer of `answer` tokens to a request with this JSON body."""
        self._learn_answer(str(body.get("model")), answer)

    def _learn_answer(self, model: str, answer: float) -> None:
        present = self._answers.get(model)
        if present is None:
            if len(self._answers) < _MODELS:
                self._answers[model] = max(1.0, answer)
            return
        step = 0.1 * present
        above = answer > present
        present += step * self._quantile if above else -step * (1 - self._quantile)
        self._answers[model] = max(1.0, present)

    def answer_of(self, model: str) -> float | None:
        """What the answers of `model` stay below, 9 of 10; None before the first."""
        return self._answers.get(model)

    def share_of(self, like: Likeness) -> float:
        """The share of its prompt that the provider's cache will hold, on the low side."""
        shares = self._cached.get(like)
        if not shares:
            return 0.0
        return max(0.0, 1.0 - _CACHE_MARGIN * (1.0 - min(shares)))


class Estimate:
    """What a request will use, by what its `Estimator` knows when it is called."""

    __slots__ = ("_choices", "_estimator", "_prompt", "_stated", "like")

    def __init__(
        self,
        estimator: Estimator,
        like: Likeness,
        prompt: float,
        stated: float | None,
        choices: int,
    ) -> None:
        self.like = like
        self._estimator = estimator
        self._prompt = prompt
        self._stated = stated
        self._choices = choices

    def __call__(self) -> Cost:
        """The tokens, by class."""
        stated, prompt = self._stated, self._prompt
        learned = self._estimator.answer_of(self.like.model)
        if learned is None:
            answer = UNKNOWN_ANSWER * self._choices if stated is None else stated
        else:
            answer = learned if stated is None else min(stated, learned)
        cached = prompt * self._estimator.share_of(self.like)
        return Cost.of_parts(prompt - cached, cached, answer, 0.0)


class Likeness(NamedTuple):
    """What a request has in common with others, whose answers are like its own, and whose prompts
    are in a provider's cache when its own is: the model, and a hash of how the prompt begins.
    """

    model: str
    beginning: int


def likeness_of(body: Mapping[str, Any]) -> Likeness:
    """What a request with this JSON body has in common with others."""
    beginning, size = [], 0
    rest: list[Any] = [_prompt(body), body.get("system")]
    while rest and size < _PREFIX:
        value = rest.pop()
        kind = type(value)  # as a reader of JSON makes them
        if kind is str:
            beginning.append(value[:_PREFIX])
            size += len(value)
        elif kind is dict:
            rest += reversed(value.values())
        elif kind is list:
            rest += reversed(value[:_PREFIX])
    return Likeness(str(body.get("model")), hash("\n".join(beginning)[:_PREFIX]))


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


def is_prompt_alone(url: str) -> bool:
    """Whether requests to `url`, or its path, are answered without tokens, as embeddings are: all
    that they use are of the prompt.
    """
    return url.endswith(WITHOUT_ANSWER)


def is_plausible(used: float, reserved: float, size: int) -> bool:
    """Whether a call that reserved `reserved` tokens, and of which `size` bytes of the request and
    the answer are known, can have used `used`. One absurd number would stop everything for hours.
    """
    return used <= _MOST and (used <= 1_000 * reserved or used <= 100 * size)


def _reads(body: Mapping[str, Any], size: int | None) -> float:
    """The tokens of the prompt of a request with this JSON body, of `size` bytes."""
    if size is None:
        size = len(json.dumps(_prompt(body)))
    media = media_in(body)
    return max(0, size - media.size) / BYTES_PER_TOKEN + media.tokens


def _prompt(body: Mapping[str, Any]) -> object:
    for name in ("messages", "prompt", "input", "contents", "query"):
        if name in body:
            return body[name]
    return body


def _count(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return None
    return float(value)
