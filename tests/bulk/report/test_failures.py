"""Failed rows in groups: alike but for numbers and ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headway.bulk.report.failures import normalise, read_failures


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Rate limit of 600 reached", "Rate limit of N reached"),
        ("1,234.5 tokens", "N tokens"),
        ("request 3f2504e0-4f89-11d3-9a0c-0305e82c3301 failed", "request … failed"),
        ("id req_abc123def", "id …"),
        ("  two\n words ", "two words"),
        ("plain-hyphenated-words", "plain-hyphenated-words"),
        ("x" * 400, "x" * 300),
    ],
)
def test_what_differs_from_row_to_row_is_left_out(message: str, expected: str) -> None:
    assert normalise(message) == expected


def a_row(line: int, code: str, message: str, status: int | None = None, body: Any = None) -> bytes:
    response = None if status is None else {"status_code": status, "body": body}
    error = {"code": code, "message": message}
    row = {"id": f"batch_req_{line}", "custom_id": f"q{line}", "response": response, "error": error}
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rows = [a_row(n, "http_500", f"try {n}", 500, {"a": n}) for n in range(1, 6)]
    rows += [a_row(6, "http_500", "other", 502), a_row(7, "timeout", "no answer")]
    (tmp_path / "errors").write_bytes(b"".join(rows) + b"no row\n\n{}\n")
    return tmp_path / "errors"


def test_rows_are_grouped_by_code_message_and_status(path: Path) -> None:
    found = read_failures(path, redact=False)
    assert found.codes == {"http_500": 6, "timeout": 1}
    assert (found.total, found.unreadable) == (7, 2)
    groups = [(one.code, one.message, one.status, one.count) for one in found.groups]
    assert groups[0] == ("http_500", "try N", 500, 5)
    assert sorted(groups[1:]) == [("http_500", "other", 502, 1), ("timeout", "no answer", None, 1)]
    first = found.groups[0].examples[0]
    assert len(found.groups[0].examples) == 3
    assert (first.line, first.custom_id, first.message, first.body) == (1, "q1", "try 1", '{"a":1}')


def test_redacted_rows_have_a_line_and_a_status_alone(path: Path) -> None:
    for group in read_failures(path, redact=True).groups:
        assert group.message == ""
        for one in group.examples:
            assert (one.custom_id, one.message, one.body) == (None, "", None)
            assert one.line is not None


def test_a_long_body_is_cut_and_a_string_is_read(tmp_path: Path) -> None:
    long = a_row(1, "c", "m", 500, "é" * 2100)
    (tmp_path / "errors").write_bytes(long + a_row(2, "c", "m", 500, "<p>\n"))
    first, second = read_failures(tmp_path / "errors", redact=False).groups[0].examples
    assert first.body == "é" * 2000 + " … (100 more)"
    assert second.body == "<p>\n"
