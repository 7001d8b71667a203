"""The error that ends a stream of server-sent events, in every framing and form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headway._http.bodies import error_in_stream
from headway.events import Kind


def failed(error: Any, kind: str = "response.failed") -> dict[str, Any]:
    status = kind.partition(".")[2]
    return {"type": kind, "response": {"id": "r", "status": status, "error": error}}


def stream(name: str, *events: dict[str, Any], end: str = "\n") -> bytes:
    lines = ["event: response.created", 'data: {"type": "response.created"}', ""]
    for event in events:
        lines += [f"event: {name}" if name else ": a comment", f"data: {json.dumps(event)}", ""]
    return (end.join(lines) + end).encode()


RATE = {"code": "rate_limit_exceeded", "message": "Please try again in 20s."}
ends = pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])


@ends
@pytest.mark.parametrize(
    ("name", "event", "kind", "wait"),
    [
        ("error", {"type": "error", "error": {"type": "overloaded_error"}}, Kind.CAPACITY, None),
        ("error", {"type": "error", **RATE}, Kind.RATE, 20),
        ("", {"error": {"message": "no", "code": 502}}, Kind.TRANSIENT, None),
        ("response.failed", failed(RATE), Kind.RATE, 20),
        ("", failed(RATE), Kind.RATE, 20),
        ("response.failed", failed({"code": "server_error", "message": "x"}), Kind.TRANSIENT, None),
        ("response.failed", failed({"code": "vector_store_timeout"}), Kind.TRANSIENT, None),
        ("response.incomplete", failed(RATE, "response.incomplete"), Kind.RATE, 20),
    ],
)
def test_an_error_that_ends_a_stream(
    name: str, event: dict[str, Any], kind: Kind, wait: float | None, end: str
) -> None:
    found = error_in_stream(stream(name, event, end=end))
    assert found is not None
    assert (found.kind, found.wait, found.status) == (kind, wait, None)


@ends
@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("response.completed", failed(None, "response.completed")),
        (
            "response.incomplete",
            failed(None, "response.incomplete"),
        ),  # cut off by max_output_tokens
        ("", {"choices": [{"delta": {"content": '"error": no'}}]}),
    ],
)
def test_an_answer_that_ends_is_no_error(name: str, event: dict[str, Any], end: str) -> None:
    assert error_in_stream(stream(name, event, end=end)) is None


def test_what_comes_after_an_error_counts() -> None:
    assert error_in_stream(stream("", failed(RATE), {"choices": []})) is None
