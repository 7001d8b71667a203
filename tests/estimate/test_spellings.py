"""What each API says that it used, whole and streamed: as bytes, and parsed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headway.estimate import usage_in, used_by

Said = tuple[int | None, int | None, int | None, int] | None  # read, written, in all, cached


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + body(event) + b"\n\n" for event in events)


def lines(*parts: Any) -> bytes:
    return b"".join(body(part) + b"\n" for part in parts)


ANSWERS: dict[str, tuple[Any, bytes | None, Said]] = {
    "vertex predict meta": (
        {
            "predictions": [{"content": "a"}],
            "metadata": {
                "tokenMetadata": {
                    "inputTokenCount": {"totalTokens": 10, "totalBillableCharacters": 40},
                    "outputTokenCount": {"totalTokens": 5, "totalBillableCharacters": 20},
                }
            },
        },
        None,
        (10, 5, 15, 0),
    ),
    "vertex embed": (
        {
            "predictions": [
                {
                    "embeddings": {
                        "values": [0.1],
                        "statistics": {"token_count": 4, "truncated": False},
                    }
                },
                {
                    "embeddings": {
                        "values": [0.1],
                        "statistics": {"token_count": 6, "truncated": False},
                    }
                },
            ]
        },
        None,
        (10, None, 10, 0),
    ),
    "gemini stream array": (
        [
            {
                "candidates": [],
                "usageMetadata": {"promptTokenCount": 10, "totalTokenCount": 10},
                "responseId": "r",
            },
            {
                "candidates": [],
                "usageMetadata": {
                    "promptTokenCount": 10,
                    "candidatesTokenCount": 5,
                    "totalTokenCount": 15,
                },
                "responseId": "r",
            },
        ],
        None,
        (10, 5, 15, 0),
    ),
    "gemini sse": (
        None,
        sse(
            {"usageMetadata": {"promptTokenCount": 10, "totalTokenCount": 10}},
            {
                "usageMetadata": {
                    "promptTokenCount": 10,
                    "candidatesTokenCount": 5,
                    "thoughtsTokenCount": 3,
                    "totalTokenCount": 18,
                }
            },
        ),
        (10, 8, 18, 0),
    ),
    "gemini count only prompt": (
        {"usageMetadata": {"promptTokenCount": 10, "totalTokenCount": 10}},
        None,
        (10, None, 10, 0),
    ),
    "tgi stream": (
        None,
        sse(
            {"index": 1, "token": {"id": 1, "text": "a"}, "generated_text": None, "details": None},
            {
                "index": 2,
                "token": {"id": 2, "text": "b"},
                "generated_text": "ab",
                "details": {
                    "finish_reason": "length",
                    "generated_tokens": 5,
                    "input_length": 10,
                    "seed": None,
                },
            },
        ),
        (10, 5, 15, 0),
    ),
    "replicate": (
        {
            "id": "x",
            "output": ["a"],
            "metrics": {"input_token_count": 10, "output_token_count": 5, "predict_time": 1.2},
        },
        None,
        (10, 5, 15, 0),
    ),
    "watsonx": (
        {
            "results": [
                {
                    "generated_text": "x",
                    "generated_token_count": 5,
                    "input_token_count": 10,
                    "stop_reason": "eos",
                }
            ]
        },
        None,
        (10, 5, 15, 0),
    ),
    "watsonx stream": (
        None,
        sse(
            {
                "results": [
                    {"generated_text": "", "generated_token_count": 0, "input_token_count": 10}
                ]
            },
            {
                "results": [
                    {
                        "generated_text": "a",
                        "generated_token_count": 5,
                        "input_token_count": 0,
                        "stop_reason": "eos",
                    }
                ]
            },
        ),
        (10, 5, 15, 0),
    ),
    "ollama": (
        {"message": {"content": "x"}, "done": True, "prompt_eval_count": 10, "eval_count": 5},
        lines(
            {"message": {"content": "x"}, "done": False},
            {"done": True, "prompt_eval_count": 10, "eval_count": 5},
        ),
        (10, 5, 15, 0),
    ),
    "ollama embed": ({"embeddings": [[0.1]], "prompt_eval_count": 10}, None, (10, None, 10, 0)),
    "cloudflare": (
        {
            "result": {
                "response": "x",
                "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            },
            "success": True,
            "errors": [],
            "messages": [],
        },
        sse(
            {"response": "x"},
            {
                "response": "",
                "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            },
        ),
        (10, 5, 15, 0),
    ),
    "sambanova": (
        {
            "usage": {
                "acceptance_rate": 4.05,
                "completion_tokens": 5,
                "completion_tokens_after_first_per_sec": 248.9,
                "end_time": 1736,
                "prompt_tokens": 10,
                "start_time": 173,
                "time_to_first_token": 0.09,
                "total_latency": 0.57,
                "total_tokens": 15,
                "total_tokens_per_sec": 248.1,
            }
        },
        None,
        (10, 5, 15, 0),
    ),
    "deepseek": (
        {
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 15,
                "prompt_cache_hit_tokens": 6,
                "prompt_cache_miss_tokens": 4,
            }
        },
        None,
        (10, 5, 15, 6),
    ),
    "xai": (
        {
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 22,
                "prompt_tokens_details": {
                    "text_tokens": 10,
                    "audio_tokens": 0,
                    "image_tokens": 0,
                    "cached_tokens": 4,
                },
                "completion_tokens_details": {"reasoning_tokens": 7},
                "num_sources_used": 0,
            }
        },
        None,
        (10, 12, 22, 4),
    ),
    "voyage": (
        {"object": "list", "data": [], "model": "rerank-2", "usage": {"total_tokens": 10}},
        None,
        (10, None, 10, 0),
    ),
    "voyage multimodal": (
        {"data": [], "usage": {"text_tokens": 5, "image_pixels": 2000, "total_tokens": 10}},
        None,
        (10, None, 10, 0),
    ),
    "jina": ({"usage": {"total_tokens": 10, "prompt_tokens": 10}}, None, (10, None, 10, 0)),
    "cohere v1": (
        {
            "text": "x",
            "meta": {
                "api_version": {"version": "1"},
                "billed_units": {"input_tokens": 4, "output_tokens": 5},
                "tokens": {"input_tokens": 10, "output_tokens": 5},
            },
        },
        None,
        (10, 5, 15, 0),
    ),
    "cohere v1 stream": (
        None,
        lines(
            {"event_type": "text-generation", "text": "a"},
            {
                "event_type": "stream-end",
                "response": {
                    "text": "a",
                    "meta": {
                        "billed_units": {"input_tokens": 4, "output_tokens": 5},
                        "tokens": {"input_tokens": 10, "output_tokens": 5},
                    },
                },
            },
        ),
        (10, 5, 15, 0),
    ),
    "cohere v2": (
        {
            "message": {},
            "usage": {
                "billed_units": {"input_tokens": 4, "output_tokens": 5},
                "tokens": {"input_tokens": 10, "output_tokens": 5},
            },
        },
        sse(
            {"type": "content-delta"},
            {
                "type": "message-end",
                "delta": {
                    "finish_reason": "COMPLETE",
                    "usage": {
                        "billed_units": {"input_tokens": 4, "output_tokens": 5},
                        "tokens": {"input_tokens": 10, "output_tokens": 5},
                    },
                },
            },
        ),
        (10, 5, 15, 0),
    ),
    "cohere embed": (
        {"embeddings": {}, "meta": {"billed_units": {"input_tokens": 10}}},
        None,
        (10, None, 10, 0),
    ),
    "cohere rerank": (
        {
            "results": [{"index": 0, "relevance_score": 0.9}],
            "meta": {"billed_units": {"search_units": 1}},
        },
        None,
        None,
    ),
    "bedrock titan": (
        {"inputTextTokenCount": 10, "results": [{"tokenCount": 5, "outputText": "x"}]},
        None,
        (10, 5, 15, 0),
    ),
    "bedrock titan embed": (
        {"embedding": [0.1], "inputTextTokenCount": 10},
        None,
        (10, None, 10, 0),
    ),
    "bedrock nova invoke": (
        {
            "output": {},
            "usage": {
                "inputTokens": 10,
                "outputTokens": 5,
                "totalTokens": 15,
                "cacheReadInputTokenCount": 0,
                "cacheWriteInputTokenCount": 0,
            },
        },
        None,
        (10, 5, 15, 0),
    ),
    "openai responses stream": (
        None,
        sse(
            {"type": "response.created", "response": {"usage": None}},
            {
                "type": "response.completed",
                "response": {
                    "usage": {
                        "input_tokens": 10,
                        "input_tokens_details": {"cached_tokens": 4},
                        "output_tokens": 5,
                        "output_tokens_details": {"reasoning_tokens": 2},
                        "total_tokens": 15,
                    }
                },
            },
        ),
        (10, 5, 15, 4),
    ),
    "openai realtime": (
        {
            "type": "response.done",
            "response": {
                "usage": {
                    "total_tokens": 15,
                    "input_tokens": 10,
                    "output_tokens": 5,
                    "input_token_details": {
                        "text_tokens": 6,
                        "audio_tokens": 4,
                        "cached_tokens": 4,
                    },
                    "output_token_details": {"text_tokens": 2, "audio_tokens": 3},
                }
            },
        },
        None,
        (10, 5, 15, 4),
    ),
    "openai batch": (
        {
            "id": "batch_1",
            "object": "batch",
            "usage": {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 15,
            },
        },
        None,
        (10, 5, 15, 0),
    ),
    "openai audio tokens": (
        {
            "text": "x",
            "usage": {
                "type": "tokens",
                "input_tokens": 10,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 10},
                "output_tokens": 5,
                "total_tokens": 15,
            },
        },
        None,
        (10, 5, 15, 0),
    ),
    "openai audio duration": (
        {"text": "x", "usage": {"type": "duration", "seconds": 9}},
        None,
        None,
    ),
    "perplexity": (
        {
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 15,
                "search_context_size": "low",
                "citation_tokens": 100,
                "num_search_queries": 1,
                "cost": {"total_cost": 0.1},
            }
        },
        None,
        (10, 5, 15, 0),
    ),
    "groq stream": (
        None,
        sse(
            {
                "x_groq": {
                    "id": "r",
                    "usage": {
                        "queue_time": 0.1,
                        "prompt_tokens": 10,
                        "prompt_time": 0.0,
                        "completion_tokens": 5,
                        "completion_time": 0.1,
                        "total_tokens": 15,
                        "total_time": 0.1,
                    },
                },
                "choices": [],
            }
        ),
        (10, 5, 15, 0),
    ),
    "llamacpp": (
        {"content": "x", "tokens_predicted": 5, "tokens_evaluated": 10, "timings": {}},
        sse(
            {"content": "x", "stop": False},
            {"content": "", "stop": True, "tokens_predicted": 5, "tokens_evaluated": 10},
        ),
        (10, 5, 15, 0),
    ),
    "aleph": (
        {"completions": [], "num_tokens_prompt_total": 10, "num_tokens_generated": 5},
        None,
        (10, 5, 15, 0),
    ),
}


def test_every_spelling_is_read_whole_and_streamed() -> None:
    read: dict[str, Said] = {}
    for name, (whole, stream, _) in ANSWERS.items():
        forms = [] if whole is None else [usage_in(body(whole)), used_by(whole)]
        for said in [*forms, *([usage_in(stream)] if stream else [])]:
            counts = None if said is None else (said.read, said.written, said.used, said.cached)
            if counts != read.setdefault(name, counts):
                read[name] = (-1, -1, -1, -1)  # the forms differ
    assert read == {name: expected for name, (_, _, expected) in ANSWERS.items()}


@pytest.mark.parametrize(
    "answer",
    [
        {"input_length": 5000},  # of a text
        {"metadata": {"tokenMetadata": {}}, "predictions": [None, {"embeddings": 1}]},
        {"metadata": None, "predictions": "none", "details": [], "metrics": "none"},
        {"generated_text": "x", "details": {"generated_tokens": True}},
    ],
)
def test_what_counts_nothing_is_no_usage(answer: Any) -> None:
    assert usage_in(body(answer)) is None
    assert used_by(answer) is None


def test_an_answer_that_counts_its_output_alone_says_so_parsed() -> None:
    said = used_by({"generated_text": "x", "details": {"generated_tokens": 5, "prefill": []}})
    assert said is not None
    assert (said.read, said.written, said.used) == (None, 5, None)
