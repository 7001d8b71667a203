"""Rows as they are written of answers and of errors, and what they say was spent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headway.bulk.input.formats import Request
from headway.bulk.output import rows
from headway.bulk.output.rows import Answer
from headway.estimate import Tokens, tokens_of

REQUEST = Request(7, "a", "/v1/chat/completions", b"{}", 0)


def test_an_answer_is_written_as_it_came_on_one_line() -> None:
    body = b'{\r\n  "usage": {"total_tokens": 12},\n  "x": 1.50, "s": "a\\nb"\n}\n'
    row = rows.answer_row(REQUEST, Answer(200, "req-1", body))
    assert row.count(b"\n") == 1
    assert row.endswith(b"\n")
    assert b'"x": 1.50, "s": "a\\nb"' in row
    assert json.loads(row) == {
        "id": "batch_req_7",
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": "req-1", "body": json.loads(body)},
        "error": None,
    }


@pytest.mark.parametrize("body", [b"[]", b"3", b"{}", b' {"a": [1.5e3, null]} ', b'{"a": 1e400}'])
def test_json_is_an_answer(body: bytes) -> None:
    assert rows.is_json(body)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"a":', b"[{}, oops]", b'{"a": "\xff"}', b"[" * 100_000]
)
def test_what_is_not_json_is_no_answer(body: bytes) -> None:
    assert not rows.is_json(body)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, Tokens(3, 4, 7)),
        ({"prompt_tokens": 3, "completion_tokens": 4}, Tokens(3, 4, 7)),
        ({"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}, Tokens(10, 20, 30)),
        ({"input_tokens": 10, "output_tokens": 20}, Tokens(10, 20, 30)),
        ({"prompt_tokens": 5, "total_tokens": 5, "completion_tokens": None}, Tokens(5, None, 5)),
        ({"total_tokens": 12}, Tokens(12, None, 12, 0, 12)),
        ({"total_tokens": 12, "completion_tokens": 4}, Tokens(8, 4, 12, 0, 8)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 8},
            },
            Tokens(9, 1, 10, 8),
        ),
        ({"total_tokens": "12"}, Tokens()),
        ({"total_tokens": -1}, Tokens(odd="total_tokens is -1")),
        ({"total_tokens": True}, Tokens()),
        ({"total_tokens": 10**13}, Tokens(odd="total_tokens is 10000000000000")),
        ({}, Tokens()),
    ],
)
def test_what_an_answer_says_it_used(usage: dict[str, Any], tokens: Tokens) -> None:
    assert tokens_of(usage) == tokens
    body = json.dumps({"model": "m", "usage": usage}).encode()
    row = rows.answer_row(REQUEST, Answer(200, None, body))
    assert list(rows.spent_by([row])) == [(7, "m", tokens)]  # a resumed run counts the same


def test_an_error_row_says_what_failed() -> None:
    row = rows.error_row(3, None, "invalid_json", "line 3 is not valid JSON")
    assert json.loads(row) == {
        "id": "batch_req_3",
        "custom_id": None,
        "response": None,
        "error": {"code": "invalid_json", "message": "line 3 is not valid JSON"},
    }


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"error": {"code": 1}}', {"error": {"code": 1}}),
        (b'{"error": 1}', {"raw": '{"error": 1}'}),  # one form in all rows: tables are made of them
        (b"<html>\xff", {"raw": "<html>\ufffd"}),
    ],
)
def test_an_error_row_keeps_the_last_answer(body: bytes, shown: object) -> None:
    row = rows.error_row(3, "a", "http_400", "no", Answer(400, None, body))
    assert json.loads(row)["response"] == {"status_code": 400, "request_id": None, "body": shown}


def test_a_row_with_half_a_surrogate_pair_is_written() -> None:
    row = json.loads(rows.error_row(3, "a\ud800", "http_400", "no \udc00"))
    assert (row["custom_id"], row["error"]["message"]) == ("a?", "no ?")


def test_what_rows_have_spent() -> None:
    body = b'{"model":"m","usage":{"prompt_tokens":3,"completion_tokens":4}}'
    found = [
        rows.answer_row(REQUEST, Answer(200, None, body)),
        rows.answer_row(REQUEST, Answer(200, None, b"[]")),
        rows.error_row(3, None, "x", "y"),
        b"{torn",
    ]
    assert list(rows.spent_by(found)) == [(7, "m", Tokens(3, 4, 7)), (7, None, Tokens())]
