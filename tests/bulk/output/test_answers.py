"""What a success holds: an answer, or the lack of one, and what it says of tokens and its end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cases import each

from headway.bulk.output.answers import mended, read_answer
from headway.bulk.record.status import early_ends
from headway.estimate import Tokens, tokens_of

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}


def read(body: object) -> Any:
    found = read_answer(json.dumps(body).encode())
    assert found is not None
    return found


@each(
    "body",
    [
        {"choices": [CHOICE]},
        {"choices": [{"text": "x"}], "error": {"message": "a partial answer was paid for"}},
        {"choices": [CHOICE, {"error": {"code": 502}}]},
        {"data": [{"embedding": [0.1]}]},
        {"output": [{"type": "message"}], "status": "completed", "error": None},
        {"output": [{"type": "reasoning"}], "status": "incomplete"},
        {"content": [{"type": "text", "text": "x"}], "type": "message"},
        {"candidates": [{"content": {"parts": []}, "finishReason": "STOP"}]},
        {"message": {"role": "assistant", "content": []}, "finish_reason": "COMPLETE"},
        {"choices": [CHOICE], "base_resp": {"status_code": 0, "status_msg": ""}},
        {"choices": [CHOICE], "status": "queued", "message": "ok"},
        {"results": [{"index": 0}]},
        {"id": "x", "usage": {"total_tokens": 3}},
        [[0.1, 0.2]],
    ],
)
def test_an_answer_is_an_answer(body: object) -> None:
    assert read(body).missing == ""


@each(
    "body, missing, status, billed",
    [
        ({"choices": []}, "there is none in it (choices: [])", None, True),
        ({"choices": None, "id": "x"}, "there is none in it (choices: null)", None, True),
        ({"choices": [{}]}, "there is none in it (choices: [{}])", None, True),
        ({"output": [], "status": "incomplete"}, "there is none in it (output: [])", None, True),
        ({"data": []}, "there is none in it (data: [])", None, True),
        ({"candidates": []}, "there is none in it (candidates: [])", None, True),
        ([], "there is none in it: []", None, True),
        (
            {"choices": [{"message": None}]}, 'there is none in it (choices: [{"message": null}])',
            None, True,
        ),
        (
            {"status": "in_progress", "output": [{"type": "message"}]},
            "its status is 'in_progress', so that the answer has yet to come. Leave \"background\" "
            "out of the body",
            None, True,
        ),
        # Baidu's, MiniMax's, Cloudflare's, and a form that many have
        (
            {"error_code": 18, "error_msg": "Open api qps request limit reached"},
            "there is none in it: Open api qps request limit reached", 429, False,
        ),
        (
            {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None},
            "there is none in it: rate limit", 429, True,
        ),
        (
            {"success": False, "errors": [{"code": 3040, "message": "Capacity exceeded"}]},
            "there is none in it: Capacity exceeded", 503, False,
        ),
        (
            {"code": 1302, "msg": "concurrency limit", "data": None},
            "there is none in it: concurrency limit", 429, True,
        ),
        ("busy", 'there is none in it: "busy"', None, True),
        (
            {"status": "queued", "background": True, "output": []},
            "its status is 'queued', so that the answer has yet to come. Leave \"background\" out "
            "of the body",
            None, True,
        ),
        (
            {"status": "in_progress"},
            "its status is 'in_progress', so that the answer has yet to come. Leave \"background\" "
            "out of the body",
            None, True,
        ),
        (
            {"promptFeedback": {"blockReason": "SAFETY"}},
            'the prompt was blocked: {"blockReason": "SAFETY"}', None, False,
        ),
        ({"error": "no such model"}, "it is an error: no such model", None, False),
        ({"error": {"message": "no", "code": "x"}}, "it is an error: no", None, False),
        ({"error": {"message": "no", "code": 404}}, "it is an error: no", 404, False),
        ({"error": {"message": "no", "code": "429"}}, "it is an error: no", 429, False),
        ({"error": {"message": "no", "code": "rate_limit_exceeded"}}, "it is an error: no", 429,
         False),
        ({"error": {"message": "no", "type": "overloaded_error"}}, "it is an error: no", 503,
         False),
        ([{"error": {"message": "no", "status": "RESOURCE_EXHAUSTED"}}], "it is an error: no", 429,
         False),
        (
            {"status": "failed", "output": [], "error": {"code": "server_error", "message": "no"}},
            "its status is 'failed': no", 500, False,
        ),
        ({"status": "cancelled", "output": []}, "its status is 'cancelled'", None, False),
        (
            {"choices": [{"error": {"code": 502, "message": "no"}, "finish_reason": "error"}]},
            "it has an error for each choice: no", 502, False,
        ),
        ({"detail": "Not Found"}, "there is none in it: Not Found", None, False),
        ({"detail": "Too many requests"}, "there is none in it: Too many requests", 429, False),
        ({"detail": [{"loc": ["body"]}]}, 'there is none in it: {"detail": [{"loc": ["body"]}]}',
         None, False),
        ({"message": "The service is unavailable"},
         "there is none in it: The service is unavailable", 503, False),
        ({"message": "no", "code": 503}, "there is none in it: no", 503, False),
        ({}, "there is none in it", None, False),
    ],
)  # fmt: skip
def test_what_is_no_answer_says_why(
    body: object, missing: str, status: int | None, billed: bool
) -> None:
    found = read(body)
    assert (found.missing, found.status, found.billed) == (missing, status, billed)


@each(
    "body, reasons",
    [
        ({"choices": [CHOICE]}, ("stop",)),
        ({"choices": [{**CHOICE, "finish_reason": "length"}, CHOICE]}, ("length", "stop")),
        ({"choices": [{**CHOICE, "finish_reason": "max_tokens"}]}, ("length",)),
        ({"candidates": [{"content": {}, "finishReason": "MAX_TOKENS"}]}, ("length",)),
        ({"content": [{"type": "text"}], "stop_reason": "max_tokens"}, ("length",)),
        (
            {
                "output": [{}, 1],
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
            },
            ("length",),
        ),
        ({"output": [1], "status": "incomplete", "incomplete_details": None}, ("incomplete",)),
        ({"choices": [{**CHOICE, "finish_reason": "content_filter"}]}, ("content_filter",)),
        ({"choices": [{**CHOICE, "finish_reason": "a\x1b[31mb" + "x" * 99}]}, None),
        ({"choices": [{**CHOICE, "finish_reason": 7}]}, ()),
        ({"choices": "text"}, ()),
    ],
)
def test_why_an_answer_ended(body: object, reasons: tuple[str, ...] | None) -> None:
    found = read(body).reasons
    if reasons is None:
        assert len(found[0]) == 40
        assert found[0].isprintable()
    else:
        assert found == reasons


def test_early_ends_are_said() -> None:
    counts = {"length": 1120, "stop": 5, "content_filter": 1, "safety": 1, "error": 1}
    assert list(early_ends(counts)) == [
        ("cut off", "1,120 answers were cut off by max_tokens"),
        ("filtered", "2 answers were stopped by a content filter"),
        ("ended", "1 answer was ended by 'error'"),
    ]
    assert list(early_ends({"stop": 5, "end_turn": 2, "tool_calls": 1})) == []


@each(
    "body, whole",
    [
        (b'{"a": 1.50}', b'{"a": 1.50}'),
        (b'\xef\xbb\xbf{"a": 1.50}', b'{"a": 1.50}'),
        ('{"a": "é"}'.encode("utf-16"), '{"a": "é"}'.encode()),
        (b'{"a": "\\ud83d"}', b'{"a": "\\ufffd"}'),
        (b'{"a": "\\uDE00x"}', b'{"a": "\\ufffdx"}'),
        (b'{"a": "\\ud83d\\ude00 \\ud83d"}', b'{"a": "\\ud83d\\ude00 \\ufffd"}'),
        (b'{"a": "\\\\ud83d \\ud83d"}', b'{"a": "\\\\ud83d \\ufffd"}'),  # a backslash, and text
        (b'{"a": NaN, "b": -Infinity, "c": Infinity, "d": "NaN"}',
         b'{"a": null, "b": null, "c": null, "d": "NaN"}'),
        (b'{"a": "one\ntwo\x01"}', b'{"a": "one\\u000atwo\\u0001"}'),
        (b'{"a": "\xff\xfe"}', '{"a": "\ufffd\ufffd"}'.encode()),
        (b'{"a": 1, "a": 2}', b'{"a": 1, "a": 2}'),
        (b'{"a": ', None),
        (b"<html>", None),
        (b"", None),
    ],
)  # fmt: skip
def test_what_is_odd_is_mended_and_all_else_stays(body: bytes, whole: bytes | None) -> None:
    assert mended(body) == whole
    if whole is not None:
        str(json.loads(whole, parse_constant=pytest.fail)).encode()  # no half a pair is left


def test_text_that_is_no_utf8_is_mended_around_an_answer_alone() -> None:
    answer = read_answer(b'{"choices": [{"text": "half \xf0\x9f"}]}')
    assert answer is not None
    assert json.loads(answer.body) == {"choices": [{"text": "half \ufffd"}]}
    assert read_answer(b'{"a": "\xff"}') is None


@each(
    "usage, tokens",
    [
        # Reasoning inside the completion (OpenAI), and outside of it (xAI, Gemini under OpenAI's).
        ({"prompt_tokens": 10, "completion_tokens": 50, "total_tokens": 60,
          "completion_tokens_details": {"reasoning_tokens": 40}}, Tokens(10, 50, 60)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115,
          "completion_tokens_details": {"reasoning_tokens": 100}}, Tokens(10, 105, 115)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
          "completion_tokens_details": {"reasoning_tokens": 100}}, Tokens(10, 105, 115)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "reasoning_tokens": 3}, Tokens(10, 8, 18)),
        ({"input_tokens": 10, "output_tokens": 5, "total_tokens": 115}, Tokens(10, 105, 115)),
        ({"prompt_tokens": 10, "total_tokens": 115}, Tokens(10, 105, 115)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 9},
         Tokens(10, 5, 15, odd="9 in all is less than its parts")),
        ({"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 100,
          "totalTokenCount": 115}, Tokens(10, 105, 115)),
        ({"promptTokenCount": 10, "thoughtsTokenCount": 100, "toolUsePromptTokenCount": 7,
          "cachedContentTokenCount": 4}, Tokens(17, 100, 117, 4)),
        ({"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 115},
         Tokens(10, 105, 115)),
        ({"input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100,
          "output_tokens": 5}, Tokens(123, 5, 128, 100)),
        ({"billed_units": {"input_tokens": 3, "output_tokens": 5},
          "tokens": {"input_tokens": 70, "output_tokens": 5}}, Tokens(70, 5, 75)),
        ({"prompt_tokens": 3.0, "completion_tokens": 4.0}, Tokens(3, 4, 7)),
        ({"prompt_tokens": 3}, Tokens(3, None, None)),
        ({"completion_tokens": 3}, Tokens(None, 3, None)),
        ("many", Tokens()),
        (None, Tokens()),
    ],
)  # fmt: skip
def test_reasoning_is_written_whatever_it_is_called(usage: object, tokens: Tokens) -> None:
    assert tokens_of(usage) == tokens


@pytest.mark.parametrize("reason", ["refusal", "end_turn"])
def test_an_empty_answer_that_a_filter_made(reason: str) -> None:
    """Anthropic's: a filter's work is a result, and no sign that nothing works."""
    found = read({"type": "message", "content": [], "stop_reason": reason})
    assert (found.missing, found.billed) == ("there is none in it (content: [])", True)
    assert found.blocked is (reason == "refusal")
