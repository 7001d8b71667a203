"""What results of every SDK say that they used, and that a result which says nothing is told."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections import UserDict
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import pytest
import sdks
from pydantic import BaseModel, ConfigDict

from headway import Scheduler
from headway.estimate import Tokens, tokens_of, usage_in, used_by

pytestmark = pytest.mark.anyio

CHAT = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
REASONED = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115,
            "completion_tokens_details": {"reasoning_tokens": 100},
            "prompt_tokens_details": {"cached_tokens": 8}}  # fmt: skip
CLAUDE = {"input_tokens": 10, "output_tokens": 5}
CACHED = {**CLAUDE, "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 200}
RESPONSES = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15,
             "input_tokens_details": {"cached_tokens": 4},
             "output_tokens_details": {"reasoning_tokens": 3}}  # fmt: skip


def in_bytes(name: str, usage: object) -> tuple[float | None, int]:
    said = usage_in(json.dumps({name: usage}).encode())
    assert said is not None
    return said.used, said.written or 0


@pytest.mark.parametrize(
    ("form", "usage", "tokens"),
    [
        ("openai.chat.ChatCompletion", CHAT, Tokens(10, 5, 15)),
        ("openai.chat.ChatCompletion", REASONED, Tokens(10, 105, 115, 8)),
        ("together.chat.ChatCompletion", CHAT, Tokens(10, 5, 15)),
        (
            "openai.CreateEmbeddingResponse",
            {"prompt_tokens": 9, "total_tokens": 9},
            Tokens(9, None, 9),
        ),
        ("openai.responses.Response", RESPONSES, Tokens(10, 5, 15, 4)),
        ("anthropic.Message", CLAUDE, Tokens(10, 5, 15)),
        ("anthropic.Message", CACHED, Tokens(1210, 5, 1215, 200)),
    ],
)
def test_results_of_real_sdks(form: str, usage: dict[str, Any], tokens: Tokens) -> None:
    sdk, _, name = form.partition(".")
    result = attrgetter(f"types.{name}")(getattr(sdks, sdk))
    assert used_by(result.construct(usage=usage)) == tokens
    assert used_by({"usage": usage}) == tokens
    assert in_bytes("usage", usage) == (tokens.used, tokens.written or 0)


BEDROCK = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 115, "cacheReadInputTokens": 100}
REST = {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 7,
        "totalTokenCount": 22}  # fmt: skip
GENAI = {"prompt_token_count": 10, "candidates_token_count": 5, "thoughts_token_count": 7,
         "total_token_count": 22, "cached_content_token_count": 3}  # fmt: skip
COHERE = {"billed_units": {"input_tokens": 4.0, "output_tokens": 5.0},
          "tokens": {"input_tokens": 10.0, "output_tokens": 5.0}}  # fmt: skip
LANGCHAIN = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15,
             "input_token_details": {"cache_read": 6},
             "output_token_details": {"reasoning": 2}}  # fmt: skip
LITELLM = {**CHAT, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 0}


def objects(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{name: objects(part) for name, part in value.items()})
    return value


@pytest.mark.parametrize("made", [dict, objects])
@pytest.mark.parametrize(
    ("result", "tokens"),
    [
        ({"usage": BEDROCK}, Tokens(110, 5, 115, 100)),
        ({"usage": {"inputTokens": 10, "outputTokens": 5}}, Tokens(10, 5, 15)),
        ({"usageMetadata": REST}, Tokens(10, 12, 22)),
        ({"usage_metadata": GENAI}, Tokens(10, 12, 22, 3)),
        ({"meta": COHERE}, Tokens(10, 5, 15)),
        ({"usage": COHERE}, Tokens(10, 5, 15)),
        ({"meta": {"billed_units": {"input_tokens": 5}}}, Tokens(5)),
        ({"usage_metadata": LANGCHAIN}, Tokens(10, 5, 15, 6)),
        ({"usage_metadata": None, "response_metadata": {"token_usage": CHAT}}, Tokens(10, 5, 15)),
        ({"response_metadata": {"usage": CLAUDE}}, Tokens(10, 5, 15)),
        ({"llm_output": {"token_usage": CHAT}}, Tokens(10, 5, 15)),
        ({"usage": LITELLM}, Tokens(10, 5, 15, 8)),
        ({"usage": {"total_tokens": 9}}, Tokens(9, None, 9, 0, 9)),
    ],
)
def test_results_of_other_sdks(made: Any, result: dict[str, Any], tokens: Tokens) -> None:
    assert used_by(made(result)) == tokens


class Raises:
    @property
    def usage(self) -> object:
        raise RuntimeError


@pytest.mark.parametrize(
    "result",
    [None, 5, "usage", b"", [1], (), {}, {"usage": None}, {"usage": "9"}, {"usage": {"a": 1}},
     {"usage": {"total_tokens": True}}, {"usage": [CHAT]}, object(), Raises()],
)  # fmt: skip
def test_results_that_say_nothing(result: object) -> None:
    assert used_by(result) is None


class Model(BaseModel):
    """Pydantic's own ``__getattr__`` is not asked for what a model has not."""

    model_config = ConfigDict(extra="allow")
    text: str = ""


class Answer(Model):
    usage: dict[str, Any] = {}


class Computed(Model):
    @property
    def usage_metadata(self) -> dict[str, Any]:
        return GENAI


class Proxy:
    """Stands for what it wraps, a mapping too."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value, name)


@pytest.mark.parametrize(
    ("with_it", "without"),
    [
        (lambda: SimpleNamespace(usage=CHAT), SimpleNamespace),
        (lambda: Answer(usage=CHAT), lambda: Answer.model_construct()),
        (lambda: Model(usage=CHAT), Model),  # a field that only this one has
        (Computed, Model),
        (lambda: Proxy({"usage": CHAT}), lambda: Proxy({})),
        (lambda: UserDict(usage=CHAT), UserDict),
    ],
)
def test_what_one_value_of_a_type_says_is_not_what_all_say(with_it: Any, without: Any) -> None:
    """How a type is read is remembered, not what one of its values says."""
    for _ in range(2):
        assert used_by(without()) is None
        said = used_by(with_it())
        assert said is not None
        assert said.used


def test_gemini_and_cohere_in_bytes() -> None:
    assert in_bytes("usage_metadata", GENAI) == (22, 12)
    assert in_bytes("usageMetadata", REST) == (22, 12)
    assert in_bytes("meta", COHERE) == (15, 5)
    assert in_bytes("usage", BEDROCK) == (115, 5)


async def give(value: object) -> object:
    return value


async def test_tokens_of_a_message_of_anthropic_are_counted() -> None:
    scheduler = Scheduler(tokens="1k/s")
    await scheduler.submit(give, sdks.anthropic.types.Message.construct(usage=CLAUDE))
    assert scheduler.statistics().tokens == 15


async def test_a_result_without_usage_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "headway"):
        free = Scheduler(concurrency=2)
        await free.submit(give, "no limit of tokens")
        limited = Scheduler(tokens="1k/s")
        await limited.submit(give, {"usage": CHAT})
        await limited.with_options(usage=lambda result: None).submit(give, "x")
        assert not caplog.records
        await limited.submit(give, "x")
        await limited.submit(give, "x")
    assert [record.getMessage() for record in caplog.records] == [
        "a limit of tokens holds, and a str does not say how many it used: attempts count as what "
        "they reserved. This is told once. Fix: with_options(usage=...), a function of the result "
        "that returns the tokens it used"
    ]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"inputTokenCount": 9, "outputTokenCount": 4, "invocationLatency": 51}, (9, 4, 13, 0)),
        (
            {"inputTokenCount": 9, "outputTokenCount": 4, "cacheReadInputTokenCount": 100},
            (109, 4, 113, 100),
        ),
        ({"prompt_tokens": 50, "completion_tokens": 2, "num_cached_tokens": 40}, (50, 2, 52, 40)),
        (
            {
                "prompt_tokens": 50, "completion_tokens": 2,
                "prompt_token_details": {"cached_tokens": 40},
            },
            (50, 2, 52, 40),
        ),
        (
            {
                "total_input_tokens": 50, "total_output_tokens": 2, "total_thought_tokens": 7,
                "total_cached_tokens": 40, "total_tokens": 59,
            },
            (50, 9, 59, 40),
        ),
    ],
)  # fmt: skip
def test_spellings_of_bedrocks_streams_vllm_and_geminis_interactions(
    usage: dict[str, Any], expected: tuple[int, int, int, int]
) -> None:
    said = tokens_of(usage)
    assert (said.read, said.written, said.total, said.cached) == expected


def test_the_events_of_a_binary_stream_of_bedrocks_hold_their_json_as_base64() -> None:
    metrics = {"inputTokenCount": 9, "outputTokenCount": 4, "cacheReadInputTokenCount": 0}
    events = [
        {"type": "content_block_delta", "delta": {"text": "x"}},
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics},
    ]
    frames = [
        b'\x00\x00\x01\x02:event-type\x07\x00\x05chunk{"bytes":"%s","p":"abc"}\x00\x9f'
        % b64encode(json.dumps(event).encode())
        for event in events
    ]
    assert usage_in(b"".join(frames)) == Tokens(9, 4, 13)
    assert usage_in(frames[0]) is None
    assert usage_in(b'{"bytes":"abc"}') is None
