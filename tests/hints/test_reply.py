"""Headers and error bodies of any type and shape, read into one plain shape."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.hints._reply import one_line, read_body, read_headers

STATED = {"retry-after": "5", "x-ratelimit-limit": "9"}


class Foreign:
    """No mapping after all."""

    def items(self) -> Any:
        yield "retry-after", "5"
        raise RuntimeError


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (None, {}),
        ({}, {}),
        ({"Retry-After": "5", "X-RateLimit-Limit": "9", "content-type": "a"}, STATED),
        ([("retry-after", "5"), ("x-ratelimit-limit", "9")], STATED),
        ([(b"Retry-After", b"5"), (b"x-ratelimit-limit", b"9")], STATED),
        (httpx.Headers({"RETRY-AFTER": "5", "x-ratelimit-limit": "9"}), STATED),
        ({"retry-after": 5, "x-ratelimit-limit": "9"}, STATED),
        ([("retry-after", "5"), ("Retry-After", "7")], {"retry-after": "5, 7"}),
        (Foreign(), {"retry-after": "5"}),
        (3, {}),
        ([("retry-after",)], {}),
    ],
)
def test_headers(headers: Any, found: dict[str, str]) -> None:
    assert read_headers(headers) == found


@pytest.mark.parametrize(
    ("body", "message", "words", "code"),
    [
        ({"error": {"message": "slow", "type": "rate_limit", "code": 429}},
         "slow", {"rate_limit"}, 429),  # OpenAI
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
         "Overloaded", {"overloaded_error", "error"}, None),  # Anthropic
        ([{"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}],
         "slow", {"resource_exhausted"}, 429),  # Gemini's stream
        ({"errors": [{"code": 3040, "message": "no room"}]}, "no room", set(), None),  # Cloudflare
        ({"error": "not found"}, "not found", {"not found"}, None),
        ({"detail": "slow"}, "slow", set(), None),
        ({"message": "slow", "code": "429"}, "slow", {"429"}, 429),
        ("plain   words\n of it", "plain words of it", set(), None),
        ("<html><title>502 Bad Gateway</title></html>", "502 Bad Gateway", set(), None),
        ("<html>no title", "", set(), None),
        (None, "", set(), None),
        (3, "", set(), None),
        ([], "", set(), None),
    ],
)  # fmt: skip
def test_bodies(body: Any, message: str, words: set[str], code: int | None) -> None:
    forms = [body]
    if isinstance(body, dict | list):
        text = json.dumps(body)
        forms += [text, text.encode(), bytearray(text.encode())]
    for form in forms:
        said = read_body(form)
        assert (said.message, said.code) == (message, code)
        assert words <= set(said.words)


def test_quotas_of_google() -> None:
    violations = [{"quotaId": "RequestsPerDay-Free"}, {"quotaId": 3}, "odd"]
    error = {"details": [{"violations": violations}, 7]}
    assert read_body({"error": error}).quota_ids == ("requestsperday-free",)


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b"\xff\xfe\xfd", b'{"error": ' * 9, b"{" * 99_999]
)
def test_a_hostile_body_is_text(body: bytes) -> None:
    assert len(read_body(body).message) <= 4096


@given(st.text(max_size=200), st.integers(1, 50))
def test_one_line_is_one_line(text: str, length: int) -> None:
    line = one_line(text, length)
    assert len(line) <= length
    assert not line or line.isprintable()
    assert line.split() == one_line(line, length).split()


def test_one_line_keeps_the_words() -> None:
    assert one_line(" a\tb\r\n\x00c  d ") == "a b c d"
    assert one_line("abcdef", 3) == "abc"
