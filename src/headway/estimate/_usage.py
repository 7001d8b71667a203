"""What an answer says it used: the bytes of one, or the result of any SDK."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from inspect import iscoroutinefunction
from itertools import islice
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from headway.kinds._words import number, plural, shown
from headway.rates import Cost

__all__ = [
    "COUNT_NAMES",
    "USAGE_NAMES",
    "Tokens",
    "of_attributes",
    "said_by",
    "said_by_headers",
    "said_in",
    "tokens_of",
    "usage_in",
    "used_by",
]

_PARSED = 32  # objects of one answer that are read for its usage

_USAGE = re.compile(rb'"usage(?:_?[mM]etadata)?"(?=\s*:\s*\{)')

_EVENT = re.compile(rb'"bytes"\s*:\s*"([A-Za-z0-9+/=]+)"')
_NUMBER = re.compile(rb"\s*:\s*(-?\d{1,20})(?![\d.eE])")
_STATISTICS = re.compile(rb'"statistics"\s*:\s*\{[^{}]*"token_count"\s*:\s*(\d{1,12})(?![\d.eE])')
_PART = re.compile(rb'"tokenCount"\s*:\s*(-?\d{1,20})(?![\d.eE])')

_DECODE = json.JSONDecoder().raw_decode

# All that most answers say: their sum, if it is one, leaves nothing to ask.
_USUAL = {"prompt_tokens", "completion_tokens", "total_tokens"}


def usage_in(answer: bytes) -> Tokens | None:
    """The tokens that a body or an event stream says it used.

    Reads the last usage object that counts something, in any of the spellings of `tokens_of`
    (Anthropic's streams give the prompt's part in the first one); None where there is none that
    can be read, or where one of Anthropic's streams was not read to its last.
    """
    said = said_in(answer)
    return None if said.used is None else said


def said_in(answer: bytes) -> Tokens:
    """`usage_in`, and what it says that cannot be meant."""
    at, last, said = _usage_before(answer, len(answer))
    if last is None:
        last, said = _meta_in(answer)
        if last is None:
            return _metrics_in(answer) or _bare_in(answer)
    if last is not None and _first(last.get, _TOTAL) is None:
        begun = answer.find(b'"message_start"', 0, max(at, 0))
        if begun >= 0:
            first_at, first, _ = _usage_before(answer, answer.find(b"\n", begun) + 1)
            if first is None or first_at == at:
                return _NOTHING  # what follows the beginning, and counts the answer, was not read
            said = tokens_of({**first, **last})
        elif said.read is None:
            first = _object_after(answer, answer.find(b'"usage"'), len(b'"usage"'))
            said = tokens_of({**(first or {}), **last})
    return said


def said_by_headers(headers: Mapping[str, str]) -> Tokens:
    """What the headers of an answer of Bedrock's say, of whose bodies some say nothing."""
    if headers.get(_HEADERS["inputTokens"]) is None:
        return _NOTHING
    said = {name: _whole(headers.get(header)) for name, header in _HEADERS.items()}
    return tokens_of(said)


def _whole(text: str | None) -> int | None:
    try:
        return None if text is None else int(text[:20])
    except ValueError:
        return None


class Tokens(NamedTuple):
    """Counts; None where the answer does not say. `cached` are part of `read`, and so are those of
    which nobody says what they are, `either`. `odd` says what of it cannot be meant.
    """

    read: int | None = None
    written: int | None = None
    total: int | None = None
    cached: int = 0
    either: int = 0
    odd: str = ""

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
        if not (self.either or self.cached):  # as most say
            return Cost.of_parts(read, 0, used - read, 0)
        either = min(self.either, read)
        cached = min(self.cached, read - either)
        return Cost.of_parts(read - either - cached, cached, used - read, either)


# One table of spellings: OpenAI's (chat, completions, embeddings, responses) and their like,
# Anthropic's, Bedrock's, Gemini's as JSON and in its SDK, Cohere's, LangChain's, LiteLLM's,
# Pydantic AI's, CrewAI's and smolagents' (`token_usage`), AutoGen's (`models_usage`).
USAGE_NAMES = ("usage", "usage_metadata", "usageMetadata", "meta")  # of a body
_HEADERS = {  # of `InvokeModel`, whatever the model; what is cached is counted apart
    "inputTokens": "x-amzn-bedrock-input-token-count",
    "outputTokens": "x-amzn-bedrock-output-token-count",
    "cacheReadInputTokens": "x-amzn-bedrock-cache-read-input-token-count",
    "cacheWriteInputTokens": "x-amzn-bedrock-cache-write-input-token-count",
}
_VERTEX, _PREDICTIONS = "metadata", "predictions"  # of `:predict`
_METADATA = "ResponseMetadata"  # of boto3, with the headers
_METRICS = "amazon-bedrock-invocationMetrics"  # of the last event of a stream of Bedrock's
_PLACES = (
    *USAGE_NAMES, _METRICS, "response_metadata", "llm_output", "token_usage", "models_usage",
    "details", "metrics",
)  # fmt: skip
# Of answers that say it themselves: Ollama's, Titan's, Llama's on Bedrock, llama.cpp's; and in
# bytes, wherever they stand: watsonx's, Replicate's (`metrics`), TGI's (`details`), Aleph Alpha's.
COUNT_NAMES = ("prompt_eval_count", "eval_count", "prompt_token_count", "generation_token_count")
_BARE_READ = (
    "prompt_eval_count", "inputTextTokenCount", "prompt_token_count", "tokens_evaluated",
    "input_token_count", "num_tokens_prompt_total",
)  # fmt: skip
_BARE_WRITTEN = (
    "eval_count", "totalOutputTextTokenCount", "generation_token_count", "tokens_predicted",
    "generated_token_count", "output_token_count", "generated_tokens", "num_tokens_generated",
)  # fmt: skip
_TGI_READ = "input_length"
_PARTS = "results"  # Titan's and watsonx's, each with counts of its own
_PARTS_READ = ("input_token_count",)
_PARTS_WRITTEN = ("tokenCount", "generated_token_count")
_OF_PARTS = (*_PARTS_READ, *_PARTS_WRITTEN)
# What holds the answer of a provider: LlamaIndex's, instructor's, OpenAI Agents', Cloudflare's,
# an event of OpenAI's responses or realtime API.
_HOLDERS = ("raw", "_raw_response", "context_wrapper", "result", "response")
_ANSWERS = "raw_responses"  # OpenAI Agents', one for each call
_FLAT = "additional_kwargs"  # LlamaIndex's
_NAMES = frozenset(
    {
        *_PLACES,
        *_BARE_READ,
        *_BARE_WRITTEN,
        _PARTS,
        *_HOLDERS,
        _ANSWERS,
        _FLAT,
        _METADATA,
        _VERTEX,
        _PREDICTIONS,
    }
)
_INSIDE = ("tokens", "billed_units", "token_usage", "usage")  # one level down
_READ_APART = (
    "input_tokens", "inputTokens", "promptTokenCount", "prompt_token_count", "inputTokenCount",
    "total_input_tokens", "input_token_count", "input_length",
)  # fmt: skip
_READ = ("prompt_tokens", *_READ_APART, "request_tokens")
_WRITTEN = (
    "completion_tokens", "output_tokens", "outputTokens", "candidatesTokenCount",
    "candidates_token_count", "responseTokenCount", "response_token_count", "response_tokens",
    "outputTokenCount", "total_output_tokens", "output_token_count", "generated_tokens",
)  # fmt: skip
_TOTAL = ("total_tokens", "totalTokens", "totalTokenCount", "total_token_count")
# Of those that count these apart: part of no other count.
_READ_TOO = (
    "cache_creation_input_tokens", "cache_read_input_tokens", "cacheReadInputTokens",
    "cacheWriteInputTokens", "cacheReadInputTokenCount", "cacheWriteInputTokenCount",
    "toolUsePromptTokenCount", "tool_use_prompt_token_count", "total_tool_use_tokens",
)  # fmt: skip
_THOUGHT = ("thoughtsTokenCount", "thoughts_token_count", "total_thought_tokens")  # apart too
_REASONING = ("reasoning_tokens", "thinking_tokens", "thoughts_tokens", "reasoning")
_WRITTEN_DETAILS = (
    "completion_tokens_details", "output_tokens_details", "output_token_details",
    "completion_token_details",
)  # fmt: skip
_READ_DETAILS = (
    "prompt_tokens_details", "input_tokens_details", "input_token_details", "prompt_token_details",
)  # fmt: skip
_CACHED_INSIDE = ("cached_tokens", "cache_read", "num_cached_tokens")
_CACHED = (
    "cache_read_input_tokens", "cacheReadInputTokens", "cachedContentTokenCount",
    "cached_content_token_count", "cache_read_tokens", "prompt_cache_hit_tokens", "cached_tokens",
    "cacheReadInputTokenCount", "num_cached_tokens", "total_cached_tokens",
)  # fmt: skip

_NOTHING = Tokens()
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, set})
_METHODS = (MethodType, FunctionType)
_NO_MEMBERS: frozenset[str] = frozenset()
_LARGEST = 10**12  # no count of tokens is above this


def used_by(result: object) -> Tokens | None:
    """The tokens that `result`, an answer of any SDK's or the like as a mapping, says it used;
    None where it says nothing. Of a list, Gemini's stream alone is read.
    """
    said = said_by(result)
    return None if said is None or (said.used is None and said.written is None) else said


def said_by(result: object) -> Tokens | None:
    """`used_by`, and what it says that cannot be meant."""
    kind: Any = type(result)
    if kind in _PLAIN:
        return _by_chunks(result) if kind is list else None
    try:
        members = _members_of(kind)
        if members is not None and members(result).isdisjoint(_NAMES):
            return None
        return _said_by(_reader(result))
    except Exception:  # somebody's mapping: a call that was answered must not fail so
        return None


def _by_chunks(result: Any) -> Tokens | None:
    """Of Gemini's stream as an array, whose last chunk counts the whole."""
    if not result or type(result[-1]) is not dict or "usageMetadata" not in result[-1]:
        return None
    name, first = result[-1].get("responseId"), result[0]
    whole = name is not None and type(first) is dict and first.get("responseId") == name
    return said_by(result[-1]) if whole else None


def _said_by(get: _Read) -> Tokens | None:
    return _said_openly(get) or _said_inside(get)


def _said_openly(get: _Read) -> Tokens | None:
    for name in _PLACES:
        usage = get(name)
        if usage is None:
            continue
        tokens = _says(tokens_of(usage))
        if tokens is None and type(usage) in _METHODS:
            tokens = _says(tokens_of(_called(usage)))
        if tokens is not None:
            return tokens
    return _says(_bare(get)) or _says(_of_vertex(get))


def _said_inside(get: _Read) -> Tokens | None:
    """What is held says; a count of nothing is none there, for frameworks begin at 0."""
    held = [value for value in map(get, _HOLDERS) if type(value) not in _PLAIN]
    for value in held:
        tokens = _said_openly(_reader(value))
        if tokens is not None and tokens.used:
            return tokens
    answers = get(_ANSWERS)
    if type(answers) is list and answers:
        said = [_said_openly(_reader(each)) or _NOTHING for each in answers]
        read, written, used = (_sum(column) for column in list(zip(*said, strict=True))[:3])
        if used:
            odd = "; ".join(filter(None, (each.odd for each in said)))
            return Tokens(read, written, used, sum(each.cached for each in said), odd=odd)
    metadata = get(_METADATA)
    if type(metadata) is dict and isinstance(headers := metadata.get("HTTPHeaders"), Mapping):
        return _says(said_by_headers(headers))
    return _says(tokens_of(get(_FLAT)))


def _says(tokens: Tokens) -> Tokens | None:
    nothing = tokens.used is None and tokens.written is None and not tokens.odd
    return None if nothing else tokens


def _called(method: Any) -> object:
    """What a ``usage()`` returns, as Pydantic AI's; None for one that has to be awaited."""
    return None if iscoroutinefunction(method) else method()


def _bare(get: _Read) -> Tokens:
    """The counts that stand in an answer itself, or in each of its parts."""
    odd: list[str] = []
    read, written = _first(get, _BARE_READ, odd), _first(get, _BARE_WRITTEN, odd)
    parts = get(_PARTS)
    if type(parts) is list and parts and _first(_reader(parts[0]), _OF_PARTS) is not None:
        readers = [_reader(part) for part in parts]
        if read is None:
            read = _sum(_first(each, _PARTS_READ, odd) for each in readers)
        if written is None:
            written = _sum(_first(each, _PARTS_WRITTEN, odd) for each in readers)
    total = None if read is None or written is None else read + written
    return Tokens(read, written, total, odd="; ".join(odd))


def _sum(counts: Iterable[int | None]) -> int | None:
    said = [count for count in counts if count is not None]
    return sum(said) if said else None


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
    said = _flat(get)
    if said.read is None and said.written is None and not said.odd:
        inner = (get(name) for name in _INSIDE)
        found = [_flat(_reader(part)) for part in inner if type(part) not in _PLAIN]
        most = max(found, key=lambda each: each.used or 0, default=_NOTHING)
        cached = most.cached or min(_first(get, _CACHED) or 0, most.read or 0)  # Cohere's, beside
        return most._replace(cached=cached) if cached else most
    return said


def _flat(get: _Read) -> Tokens:
    odd: list[str] = []
    read = _first(get, _READ, odd)
    written, total = _first(get, _WRITTEN, odd), _first(get, _TOTAL, odd)
    if total is not None and total < (read or 0) + (written or 0):
        odd.append(f"{number(total)} in all is less than its parts")
    if read is not None:
        read += _beside(get, read, odd)
    thought = _first(get, _THOUGHT, odd)
    if thought is not None:
        written = (written or 0) + thought
    elif written is not None:
        # Where no total tells, they are taken to be left out: too much rather than too little.
        reasoned = max(
            _first(get, _REASONING[:-1], odd) or 0,
            _inside(get, _WRITTEN_DETAILS, _REASONING, odd) or 0,
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
    cached = _inside(get, _READ_DETAILS, _CACHED_INSIDE, odd)
    if cached is None:
        cached = _first(get, _CACHED, odd) or 0
    if cached > (read or 0):  # then nothing is taken to be free
        if read is not None:
            odd.append(f"{number(cached)} of {number(read)} {plural(read, 'token')} were cached")
        cached = 0
    return Tokens(read, written, total, cached, either, "; ".join(dict.fromkeys(odd)))


def _beside(get: _Read, read: int, odd: list[str]) -> int:
    """What was read beyond the `read` that is stated."""
    if _first(get, _READ_TOO, odd) is None:
        return 0
    beside = sum(_first(get, (name,)) or 0 for name in _READ_TOO)
    return beside if beside > read or _first(get, ("prompt_tokens",)) is None else 0


_Read = Callable[[str], Any]


@lru_cache(maxsize=256)
def _members_of(kind: Any) -> Callable[[Any], Any] | None:
    """What gives the names of those members of a value of type `kind` that its class does not
    tell; None where each has to be asked for.
    """
    if issubclass(kind, Mapping):
        keys: Callable[[Any], Any] = kind.keys
        return keys
    if _reader_of(kind) is _of_either or kind.__getattribute__ is not object.__getattribute__:
        return None
    if any(not _NAMES.isdisjoint(vars(each)) for each in kind.__mro__):
        return None
    if any("__pydantic_extra__" in vars(each) for each in kind.__mro__):
        return _of_model_and_extra
    return _of_instance if kind.__dictoffset__ else _of_none


def _of_instance(value: Any) -> Any:
    return value.__dict__.keys()


def _of_model_and_extra(model: Any) -> Any:
    extra = model.__pydantic_extra__
    return model.__dict__.keys() | extra.keys() if extra else model.__dict__.keys()


def _of_none(value: object) -> Any:
    return _NO_MEMBERS


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
        return of_attributes
    if getattr(asks[0], "__module__", None) != "pydantic.main":
        return _of_either  # a proxy may stand for a mapping
    return partial(_of_model, frozenset(name for each in classes for name in vars(each)))


def _of_mapping(value: Any) -> _Read:
    get: _Read = value.get
    return get


def of_attributes(value: object) -> _Read:
    """Reads `value` by its attributes; None for what it has not, or cannot be read."""

    def get(name: str) -> Any:
        try:
            return getattr(value, name, None)
        except Exception:  # a property of somebody's: a call that was answered must not fail so
            return None

    return get


def _of_either(value: object) -> _Read:
    return _of_mapping(value) if isinstance(value, Mapping) else of_attributes(value)


def _of_model(of_class: frozenset[str], model: Any) -> _Read:
    """For a model of pydantic's, whose ``__getattr__`` takes ten microseconds and more to say that
    there is no such member: only what is there is asked for.
    """
    get = of_attributes(model)
    own, extra = model.__dict__, model.__pydantic_extra__ or {}
    return lambda name: get(name) if name in own or name in extra or name in of_class else None


def _first(
    get: Callable[[str], Any], names: Sequence[str], odd: list[str] | None = None
) -> int | None:
    """The first of these that is a count; a number that is none is a remark in `odd`."""
    for name in names:
        value = get(name)
        if value is None:  # as most are
            continue
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and 0 <= value <= _LARGEST:
            return value
        if odd is not None and (type(value) is int or type(value) is float):
            odd.append(f"{name} is {shown(value)}")
    return None


def _inside(
    get: Callable[[str], Any], places: Sequence[str], names: Sequence[str], odd: list[str]
) -> int | None:
    for details in map(get, places):
        if type(details) in _PLAIN:
            continue
        if (count := _first(_reader(details), names, odd)) is not None:
            return count
    return None


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


def _meta_in(answer: bytes) -> tuple[dict[str, Any] | None, Tokens]:
    """Cohere's usage: the last ``"meta"`` that counts; those of documents do not."""
    end = len(answer)
    for _ in range(_PARSED):
        end = answer.rfind(b'"meta"', 0, end)
        if end < 0:
            break
        found = _object_after(answer, end, len(b'"meta"'))
        if found is not None and (said := tokens_of(found)) != _NOTHING:
            return found, said
    return None, _NOTHING


def _metrics_in(answer: bytes) -> Tokens | None:
    """What the last event of a stream of Bedrock's says: each holds its JSON as base64."""
    for piece in islice(reversed(_EVENT.findall(answer)), _PARSED):
        try:
            event = b64decode(piece)
        except ValueError:
            continue
        name = f'"{_METRICS}"'.encode()
        found = _object_after(event, event.rfind(name), len(name))
        if found is not None and (said := _says(tokens_of(found))) is not None:
            return said
    return None


def _bare_in(answer: bytes) -> Tokens:
    """The counts that stand in an answer itself, or in the last part of a stream."""
    counts: dict[str, Any] = {}
    for name in (*_BARE_READ, *_BARE_WRITTEN, _TGI_READ):
        quoted = b'"%s"' % name.encode()
        # Llama counts a prompt in the first part alone, watsonx in the first as 0 what is written.
        ends = [_NUMBER.match(answer, at + len(quoted))
                for at in {answer.rfind(quoted), answer.find(quoted)} - {-1}]  # fmt: skip
        if numbers := [int(end[1]) for end in ends if end is not None]:
            counts[name] = max(numbers)
    length = counts.pop(_TGI_READ, None)
    if length is not None and "generated_tokens" in counts:  # else it is that of something else
        counts["input_token_count"] = length
    if not counts:
        return _vertex_in(answer)
    counts[_PARTS] = [{"tokenCount": int(each)} for each in _PART.findall(answer)]
    return _bare(counts.get)


def _vertex_in(answer: bytes) -> Tokens:
    """What an answer of Vertex AI's ``:predict`` says: of a model for text, or of embeddings."""
    found = _object_after(answer, answer.rfind(b'"tokenMetadata"'), len(b'"tokenMetadata"'))
    if found is not None:
        return _of_vertex({"metadata": {"tokenMetadata": found}}.get)
    counted = [int(each) for each in _STATISTICS.findall(answer)]
    return Tokens(sum(counted)) if counted else _NOTHING


def _of_vertex(get: _Read) -> Tokens:
    """The same of what was parsed already."""
    odd: list[str] = []
    metadata = get(_VERTEX)
    if type(metadata) is dict and type(said := metadata.get("tokenMetadata")) is dict:
        read, written = (
            _first(_reader(said.get(name) or {}), _TOTAL, odd)
            for name in ("inputTokenCount", "outputTokenCount")
        )
        return tokens_of({"input_tokens": read, "output_tokens": written})._replace(
            odd="; ".join(odd)
        )
    parts = get(_PREDICTIONS)
    if type(parts) is not list:
        return _NOTHING
    counts = None
    for part in parts:
        for name in ("embeddings", "statistics"):
            part = part.get(name) if type(part) is dict else None
        if part is not None and (count := _first(_reader(part), ("token_count",), odd)) is not None:
            counts = (counts or 0) + count
    return Tokens(counts, odd="; ".join(odd))


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
