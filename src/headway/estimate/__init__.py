"""Tokens of an HTTP call: an estimate before it is sent, and what the answer says it used.

The estimate is a plain function of the request's body, so that a user can put another in its place
(a real tokenizer, say). This one needs none: prompts cost about a token for four bytes, images and
sound what their makers say (`headway.estimate._media`), and answers what the model has turned out
to produce, up to the ``max_tokens`` of the request.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from itertools import repeat
from typing import Any, NamedTuple

from headway._words import shown
from headway.errors import InvalidArgument
from headway.estimate._media import Media, media_in
from headway.rates import Cost, is_number

__all__ = [
    "BYTES_PER_TOKEN",
    "CHOICE_NAMES",
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

_PARSED = 32  # objects of one answer that are read for its usage

_USAGE = re.compile(rb'"usage(?:_?[mM]etadata)?"(?=\s*:\s*\{)')

_DECODE = json.JSONDecoder().raw_decode

# All that most answers say: their sum, if it is one, leaves nothing to ask.
_USUAL = {"prompt_tokens", "completion_tokens", "total_tokens"}


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
    get = group.get if isinstance(group, Mapping) else _of_attributes(group)
    return [(name, get(name)) for name in _COUNTS]


def usage_in(answer: bytes) -> Tokens | None:
    """The tokens that a body or an event stream says it used.

    Reads the last usage object that counts something, in any of the spellings of `tokens_of`
    (Anthropic's streams give the prompt's part in the first one); None where there is none that
    can be read, or where one of Anthropic's streams was not read to its last.
    """
    at, last, said = _usage_before(answer, len(answer))
    if last is None:
        last = _object_after(answer, answer.rfind(b'"meta"'), len(b'"meta"'))  # Cohere's
        said = tokens_of(last)
    if last is not None and _first(last.get, _TOTAL) is None:
        begun = answer.find(b'"message_start"', 0, max(at, 0))
        if begun >= 0:
            first_at, first, _ = _usage_before(answer, answer.find(b"\n", begun) + 1)
            if first is None or first_at == at:
                return None  # what follows the beginning, and counts the answer, was not read
            said = tokens_of({**first, **last})
        elif said.read is None:
            first = _object_after(answer, answer.find(b'"usage"'), len(b'"usage"'))
            said = tokens_of({**(first or {}), **last})
    return None if said.used is None else said


class Tokens(NamedTuple):
    """Counts; None where the answer does not say. `cached` are part of `read`, and so are those of
    which nobody says what they are, `either`.
    """

    read: int | None = None
    written: int | None = None
    total: int | None = None
    cached: int = 0
    either: int = 0

    @property
    def used(self) -> int | None:
        """All that was used; what was read alone where nothing is written, as with embeddings."""
        return self.read if self.total is None else self.total

    @property
    def cost(self) -> Cost | None:
        """The same by class, None for not known."""
        used = self.used
        if used is None:
            return None
        read = min(self.read or 0, used)
        either = min(self.either, read)
        cached = min(self.cached, read - either)
        return Cost(input=read - either - cached, cached=cached, output=used - read, either=either)


# One table of spellings: OpenAI's (chat, completions, embeddings, responses) and their like,
# Anthropic's, Bedrock's, Gemini's as JSON and in its SDK, Cohere's, LangChain's, LiteLLM's.
USAGE_NAMES = ("usage", "usage_metadata", "usageMetadata", "meta")  # of a body
_PLACES = (*USAGE_NAMES, "response_metadata", "llm_output")
_INSIDE = ("tokens", "billed_units", "token_usage", "usage")  # one level down
_READ_APART = ("input_tokens", "inputTokens", "promptTokenCount", "prompt_token_count")
_READ = ("prompt_tokens", *_READ_APART)
_WRITTEN = (
    "completion_tokens", "output_tokens", "outputTokens", "candidatesTokenCount",
    "candidates_token_count", "responseTokenCount", "response_token_count",
)  # fmt: skip
_TOTAL = ("total_tokens", "totalTokens", "totalTokenCount", "total_token_count")
# Of those that count these apart: part of no other count.
_READ_TOO = (
    "cache_creation_input_tokens", "cache_read_input_tokens", "cacheReadInputTokens",
    "cacheWriteInputTokens", "toolUsePromptTokenCount", "tool_use_prompt_token_count",
)  # fmt: skip
_THOUGHT = ("thoughtsTokenCount", "thoughts_token_count")  # apart too
_REASONING = ("reasoning_tokens", "thinking_tokens", "thoughts_tokens", "reasoning")
_WRITTEN_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_READ_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_CACHED_INSIDE = ("cached_tokens", "cache_read")
_CACHED = (
    "cache_read_input_tokens", "cacheReadInputTokens", "cachedContentTokenCount",
    "cached_content_token_count",
)  # fmt: skip

_NOTHING = Tokens()
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, set})
_LARGEST = 10**12  # no count of tokens is above this


def used_by(result: object) -> Tokens | None:
    """The tokens that `result`, an answer of any SDK's or the like as a mapping, says it used;
    None where it says nothing.
    """
    kind: Any = type(result)
    if kind in _PLAIN or (_reader_of(kind) is _of_attributes and _has_none(result)):
        return None
    for usage in map(_reader(result), _PLACES):
        if usage is not None:
            tokens = tokens_of(usage)
            if tokens.used is not None or tokens.written is not None:
                return tokens
    return None


def _has_none(result: object) -> bool:
    """Whether it says nothing: most results of no SDK's, each of which is asked."""
    try:
        return not any(map(hasattr, repeat(result), _PLACES))
    except Exception:  # a property of somebody's
        return False


def tokens_of(usage: object) -> Tokens:
    """The counts of a ``usage`` object, read as a mapping or by its attributes, whoever's it is.
    What is no count is not there.

    What is written is what the total holds beyond what is read, where that is more: some providers
    leave reasoning out of ``completion_tokens``.
    """
    if type(usage) in _PLAIN:
        return Tokens()
    if type(usage) is dict and usage.keys() == _USUAL:
        read, written = usage["prompt_tokens"], usage["completion_tokens"]
        total = usage["total_tokens"]
        if type(read) is type(written) is int and read >= 0 <= written and total == read + written:
            return Tokens(read, written, total)
    get = _reader(usage)
    read, written, total = _first(get, _READ), _first(get, _WRITTEN), _first(get, _TOTAL)
    if read is None and written is None and total is None:
        inner = (get(name) for name in _INSIDE)
        found = [_flat(part) for part in inner if type(part) not in _PLAIN]
        return max(found, key=lambda each: each.used or 0, default=Tokens())
    return _counted(get, read, written, total)


def _flat(usage: object) -> Tokens:
    get = _reader(usage)
    read, written, total = _first(get, _READ), _first(get, _WRITTEN), _first(get, _TOTAL)
    return _counted(get, read, written, total)


def _counted(
    get: Callable[[str], Any], read: int | None, written: int | None, total: int | None
) -> Tokens:
    if read is not None:
        beside = 0
        if _first(get, _READ_TOO) is not None:
            beside = sum(_first(get, (name,)) or 0 for name in _READ_TOO)
        if beside and (beside > read or _first(get, ("prompt_tokens",)) is None):
            read += beside
    thought = _first(get, _THOUGHT)
    if thought is not None:
        written = (written or 0) + thought
    elif written is not None:
        # Where no total tells, they are taken to be left out: too much rather than too little.
        reasoned = max(
            _first(get, _REASONING[:-1]) or 0, _inside(get, _WRITTEN_DETAILS, _REASONING) or 0
        )
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
    cached = _inside(get, _READ_DETAILS, _CACHED_INSIDE)
    if cached is None:
        cached = _first(get, _CACHED) or 0
    return Tokens(read, written, total, min(cached, read or 0), either)


_Read = Callable[[str], Any]


def _reader(value: Any) -> _Read:
    """Reads a member of `value` by its name: None where there is none, or it cannot be read."""
    kind: Any = type(value)
    return _reader_of(kind)(value)


@lru_cache(maxsize=256)
def _reader_of(kind: type) -> Callable[[Any], _Read]:
    """What makes the reader of a value of type `kind`."""
    if issubclass(kind, Mapping):
        return _of_mapping
    classes = kind.__mro__
    asks = [vars(each)["__getattr__"] for each in classes if "__getattr__" in vars(each)]
    if not asks:
        return _of_attributes
    if getattr(asks[0], "__module__", None) != "pydantic.main":
        return _of_either  # a proxy may stand for a mapping
    return partial(_of_model, frozenset(name for each in classes for name in vars(each)))


def _of_mapping(value: Any) -> _Read:
    get: _Read = value.get
    return get


def _of_attributes(value: object) -> _Read:
    def get(name: str) -> Any:
        try:
            return getattr(value, name, None)
        except Exception:  # a property of somebody's: a call that was answered must not fail so
            return None

    return get


def _of_either(value: object) -> _Read:
    return _of_mapping(value) if isinstance(value, Mapping) else _of_attributes(value)


def _of_model(of_class: frozenset[str], model: Any) -> _Read:
    """For a model of pydantic's, whose ``__getattr__`` takes ten microseconds and more to say that
    there is no such member: only what is there is asked for.
    """
    get = _of_attributes(model)
    own, extra = model.__dict__, model.__pydantic_extra__ or {}
    return lambda name: get(name) if name in own or name in extra or name in of_class else None


def _first(get: Callable[[str], Any], names: Iterable[str]) -> int | None:
    for value in map(get, names):
        if value is None:  # as most are
            continue
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and 0 <= value <= _LARGEST:
            return value
    return None


def _inside(get: Callable[[str], Any], places: Iterable[str], names: Iterable[str]) -> int | None:
    for details in map(get, places):
        if type(details) not in _PLAIN and (count := _first(_reader(details), names)) is not None:
            return count
    return None


def is_plausible(used: float, reserved: float, size: int) -> bool:
    """Whether a call that reserved `reserved` tokens, and of which `size` bytes of the request and
    the answer are known, can have used `used`. One absurd number would stop everything for hours.
    """
    return used <= _MOST and (used <= 1_000 * reserved or used <= 100 * size)


def _usage_before(text: bytes, end: int) -> tuple[int, dict[str, Any] | None, Tokens]:
    """Where the last usage object before `end` that counts anything has its name, the object, and
    what it counts.
    """
    for _ in range(_PARSED):
        name = None
        while (at := text.rfind(b'"usage', 0, end)) >= 0:
            end = at
            if (name := _USAGE.match(text, at)) is not None:
                break
        if name is None:
            break
        found = _object_after(text, at, name.end() - at)
        if found is not None and (said := tokens_of(found)) != _NOTHING:
            return at, found, said
    return -1, None, _NOTHING


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
