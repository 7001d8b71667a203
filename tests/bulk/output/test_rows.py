"""A row of the results: what is encoded is what is decoded, and counts for its own run alone."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from cases import each

from headway.bulk.input.formats import Request
from headway.bulk.output.rows import (
    Answer,
    Checks,
    answer_row,
    custom_id_of,
    decode,
    error_row,
    is_answered,
    is_foreign,
    is_json,
    is_row,
    is_torn,
    spent_by,
)
from headway.estimate import USAGE_NAMES, Tokens

REQUEST = Request(7, "q7", "/v1/chat/completions", b"{}", 0)
HEADER = {"input": "f00d", "provider": ["p", "u"], "shape": {}, "shard": None, "lines": 9}
BODY = b'{\r\n"model":"m","usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}\n}'
CHECKS = Checks(HEADER)
ROW = CHECKS.with_check(7, answer_row(REQUEST, Answer(200, "r1", BODY)))
FAILED = CHECKS.with_check(8, error_row(8, None, "http_400", "no", Answer(400, None, b"<p>no")))


def test_an_answer_stands_as_it_came_on_one_line() -> None:
    assert ROW.count(b"\n") == 1
    row = json.loads(ROW)
    assert list(row) == ["id", "check", "custom_id", "response", "error"]
    assert row["id"] == "batch_req_7"
    assert row["response"] == {"status_code": 200, "request_id": "r1", "body": json.loads(BODY)}
    assert BODY.replace(b"\r", b" ").replace(b"\n", b" ") in ROW


def test_what_is_encoded_is_decoded() -> None:
    answered, failed = decode(ROW), decode(FAILED)
    assert (answered.line, answered.custom_id, answered.error) == (7, "q7", None)
    assert (failed.line, failed.custom_id) == (8, None)
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("http_400", "no")
    assert failed.response is not None
    assert bytes(failed.response.body) == b'{"raw":"<p>no"}'  # as all bodies: an object
    assert [custom_id_of(ROW), custom_id_of(FAILED)] == ["q7", None]


def test_half_a_character_is_a_question_mark() -> None:
    row = json.loads(error_row(1, "a\ud800", "c", "m\udfff"))
    assert (row["custom_id"], row["error"]["message"]) == ("a?", "m?")


@pytest.mark.parametrize(
    ("row_id", "line"), [("batch_req_12", 12), ("batch_req_", None), ("x", None), ("²", None)]
)
def test_the_line_that_a_row_names(row_id: str, line: int | None) -> None:
    assert decode(json.dumps({"id": row_id}).encode()).line == line


@each(
    "line, expected",
    [
        (ROW, {is_answered, is_row}),
        (FAILED, {is_row}),
        (answer_row(REQUEST, Answer(200, None, b"{}")), {is_answered}),  # to a device: no check
        (ROW[:60], {is_row, is_torn}),
        (ROW[:10], {is_torn}),
        (b'{"mine":1}\n', {is_foreign}),
        (b'{"mine":1', set()),
        (b"mine\n", set()),
    ],
)
def test_what_a_line_of_a_file_is(line: bytes, expected: set[Callable[[bytes], bool]]) -> None:
    assert {ask for ask in (is_answered, is_row, is_torn, is_foreign) if ask(line)} == expected


def test_a_row_counts_for_its_own_run_and_its_own_line() -> None:
    assert [CHECKS.number(ROW), CHECKS.number(FAILED)] == [7, 8]
    for other in ({"input": "beef"}, {"provider": ["p", "v"]}, {"shard": [0, 2]}):
        assert Checks({**HEADER, **other}).number(ROW) is None
    assert Checks({**HEADER, "lines": 10}).number(ROW) == 7  # what makes no run another
    assert CHECKS.number(ROW.replace(b"batch_req_7", b"batch_req_8")) is None
    assert CHECKS.number(ROW[:-1]) is None


@each("place", range(0, len(ROW) - 1, 3))
def test_a_changed_byte_is_seen(place: int) -> None:
    damaged = bytearray(ROW)
    damaged[place] ^= 1
    assert CHECKS.number(bytes(damaged)) is None


def test_rows_come_with_their_places() -> None:
    found = list(CHECKS.rows([ROW, b"torn", FAILED]))
    assert [(number, at) for number, at, _ in found] == [
        (7, 0),
        (None, len(ROW)),
        (8, len(ROW) + 4),
    ]
    assert [row for _, _, row in found] == [ROW, b"torn", FAILED]


@pytest.mark.parametrize(
    ("body", "whole"),
    [(b"{}", True), (b'"x"', True), (b"1", True), (b"", False), (b"{", False), (b'"\xff"', False),
     (b"[" * 100_000, False)],
)  # fmt: skip
def test_what_is_json(body: bytes, whole: bool) -> None:
    assert is_json(body) is whole


def test_what_answers_were_billed_is_read_from_their_rows() -> None:
    strange = b'{"id":"batch_req_9","response":{"body":"text"},"error":null}\n'
    found = list(spent_by([ROW, FAILED, b"no row", strange, ROW[:-1]]))
    assert found == [(7, "m", Tokens(3, 4, 7)), (9, None, Tokens())]


def test_usage_is_read_under_every_name_of_the_estimates() -> None:
    for name in USAGE_NAMES:
        body = json.dumps({"model": "m", name: {"input_tokens": 3, "output_tokens": 4}}).encode()
        row = answer_row(REQUEST, Answer(200, None, body))
        ((_, model, tokens),) = spent_by([row])
        assert (model, tokens.read, tokens.written) == ("m", 3, 4)
