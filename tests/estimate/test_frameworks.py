"""What results of frameworks, and of servers with spellings of their own, say that they used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from cases import each

from headway.estimate import Tokens, usage_in, used_by
from headway.rates import Cost

CHAT = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
RESPONSES = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


def objects(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{name: objects(part) for name, part in value.items()})
    return [objects(part) for part in value] if isinstance(value, list) else value


OLLAMA = {"model": "m", "message": {"content": "a"}, "prompt_eval_count": 10, "eval_count": 5}
TITAN = {"inputTextTokenCount": 10, "results": [{"tokenCount": 2}, {"tokenCount": 3}]}
LLAMA = {"generation": "a", "prompt_token_count": 10, "generation_token_count": 5}
LLAMA_CPP = {"content": "a", "tokens_evaluated": 10, "tokens_predicted": 5}
WATSONX = {"results": [{"input_token_count": 10, "generated_token_count": 5}]}


@each("made", [dict, objects])
@each(
    "result, cost",
    [
        (OLLAMA, Cost(input=10, output=5)),
        ({"embeddings": [[0.5]], "prompt_eval_count": 8}, Cost(input=8)),
        (TITAN, Cost(input=10, output=5)),
        ({"embedding": [0.5], "inputTextTokenCount": 8}, Cost(input=8)),
        (LLAMA, Cost(input=10, output=5)),
        (LLAMA_CPP, Cost(input=10, output=5)),
        (WATSONX, Cost(input=10, output=5)),
        # Pydantic AI's, of both its spellings.
        ({"usage": {"request_tokens": 10, "response_tokens": 5, "total_tokens": 15}},
         Cost(input=10, output=5)),
        ({"usage": {"input_tokens": 10, "output_tokens": 5, "cache_read_tokens": 4}},
         Cost(input=6, cached=4, output=5)),
        # OpenAI Agents': the sum, or that of its calls where it was not kept.
        ({"context_wrapper": {"usage": RESPONSES}, "raw_responses": [{"usage": RESPONSES}] * 2},
         Cost(input=10, output=5)),
        ({"context_wrapper": {"usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}},
          "raw_responses": [{"usage": RESPONSES}, {"usage": None}, {"usage": RESPONSES}]},
         Cost(input=20, output=10)),
        # LlamaIndex's and instructor's.
        ({"message": "a", "raw": {"usage": CHAT}, "additional_kwargs": {}},
         Cost(input=10, output=5)),
        ({"text": "a", "raw": None, "additional_kwargs": CHAT}, Cost(input=10, output=5)),
        ({"text": "a", "raw": OLLAMA}, Cost(input=10, output=5)),
        ({"name": "a", "_raw_response": {"usage": CHAT}}, Cost(input=10, output=5)),
        # CrewAI's and smolagents', AutoGen's.
        ({"raw": "text", "token_usage": CHAT}, Cost(input=10, output=5)),
        ({"content": "a", "models_usage": {"prompt_tokens": 10, "completion_tokens": 5}},
         Cost(input=10, output=5)),
        # What a cache held, as Cohere, DeepSeek and Moonshot say it.
        ({"usage": {"tokens": {"input_tokens": 10, "output_tokens": 5}, "cached_tokens": 4}},
         Cost(input=6, cached=4, output=5)),
        ({"usage": {**CHAT, "prompt_cache_hit_tokens": 4}}, Cost(input=6, cached=4, output=5)),
        ({"usage": {**CHAT, "cached_tokens": 4}}, Cost(input=6, cached=4, output=5)),
    ],
)  # fmt: skip
def test_results_of_frameworks(made: Any, result: dict[str, Any], cost: Cost) -> None:
    said = used_by(made(result))
    assert said is not None
    assert said.cost == cost


@each("made", [dict, objects])
@each(
    "result",
    [
        {"raw": "text"}, {"raw": {"raw": {"usage": CHAT}}}, {"raw_responses": []}, {"results": []},
        {"results": [{"text": "a"}, {"tokenCount": 5}]}, {"results": ["a"]},
        {"context_wrapper": {"usage": {"total_tokens": 0}}}, {"additional_kwargs": {"n": 1}},
        {"eval_count": "5"}, {"input_tokens": 5},  # a count of tokens that nothing was sent with
    ],
)  # fmt: skip
def test_what_looks_like_it_and_says_nothing(made: Any, result: dict[str, Any]) -> None:
    assert used_by(made(result)) is None


class Agent:
    """As Pydantic AI's results were: usage is asked for."""

    def usage(self) -> object:
        return SimpleNamespace(request_tokens=10, response_tokens=5, total_tokens=15)


class Waits:
    async def usage(self) -> object:
        raise AssertionError


class Wants:
    def usage(self, period: str) -> object:
        raise AssertionError


def test_usage_that_is_a_method_is_called() -> None:
    assert used_by(Agent()) == Tokens(10, 5, 15)
    assert used_by(Waits()) is None
    assert used_by(Wants()) is None


class Broken(Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        raise OSError

    def __iter__(self) -> Iterator[str]:
        return iter(["usage"])

    def __len__(self) -> int:
        return 1


class Slots:
    __slots__ = ("usage",)


class Lazy:
    def __getattribute__(self, name: str) -> Any:
        return CHAT if name == "usage" else object.__getattribute__(self, name)


def test_every_type_is_asked_where_its_members_are() -> None:
    slots = Slots()
    assert used_by(slots) is None
    slots.usage = CHAT
    assert used_by(slots) == used_by(Lazy()) == Tokens(10, 5, 15)
    assert used_by(Broken()) is None  # a call that was answered does not fail so


def chunk(name: str | None, written: int) -> dict[str, Any]:
    usage = {"promptTokenCount": 10, "candidatesTokenCount": written}
    return {"candidates": [{}], "usageMetadata": usage, "responseId": name}


def test_the_stream_of_gemini_as_an_array() -> None:
    stream = [chunk("a", 2), chunk("a", 4), chunk("a", 5)]
    assert used_by(stream) == Tokens(10, 5, 15)
    for indent in (None, 2):
        assert usage_in(json.dumps(stream, indent=indent).encode()) == Tokens(10, 5, 15)
    assert used_by([chunk("a", 2), chunk("b", 4)]) is None  # two answers
    assert used_by([chunk(None, 2), chunk(None, 4)]) is None
    assert used_by([]) is None


COHERE = {"billed_units": {"input_tokens": 4, "output_tokens": 5},
          "tokens": {"input_tokens": 10, "output_tokens": 5}}  # fmt: skip


def lines(*parts: Any) -> bytes:
    return b"".join(json.dumps(part).encode() + b"\n" for part in parts)


@each(
    "answer",
    [
        json.dumps(OLLAMA).encode(),
        json.dumps(OLLAMA, indent=2).encode(),
        lines({"message": {"content": '"eval_count": 9'}, "done": False}, OLLAMA),
        json.dumps(TITAN).encode(),
        lines({"inputTextTokenCount": 10}, {"totalOutputTextTokenCount": 5, "index": 0}),
        json.dumps(LLAMA).encode(),
        lines({"generation": "a", "prompt_token_count": 10, "generation_token_count": 1},
              {"generation": "b", "prompt_token_count": None, "generation_token_count": 5}),
        b"data: " + json.dumps(LLAMA_CPP).encode() + b"\n\n",
        lines({"event_type": "text-generation"},
              {"event_type": "stream-end", "response": {"text": "a", "meta": COHERE}}),
        b'data: {"type": "message-end", "delta": {"usage": %s}}' % json.dumps(COHERE).encode(),
        json.dumps({"meta": COHERE, "documents": [{"meta": {"page": 1}}]}).encode(),
    ],
)  # fmt: skip
def test_answers_in_bytes(answer: bytes) -> None:
    assert usage_in(answer) == Tokens(10, 5, 15)


@pytest.mark.parametrize(
    "answer",
    [b'{"eval_count": 5}', b'{"eval_count": "5", "prompt_eval_count": 1.5}', b'{"meta": {"a": 1}}',
     b'{"text": "\\"eval_count\\": 5, \\"prompt_eval_count\\": 10"}'],
)  # fmt: skip
def test_bytes_that_say_nothing(answer: bytes) -> None:
    assert usage_in(answer) is None
