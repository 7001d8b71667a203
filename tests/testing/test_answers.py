"""Answers in the forms of known APIs, as their SDKs read them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headway.estimate import usage_in
from headway.testing.answers import FakeRequest, Reply, answer_to, tokens_in

TEXT = "This is an answer of the fake provider."
MESSAGES = [{"role": "user", "content": "abcdefgh"}]


def asked(path: str, **body: Any) -> FakeRequest:
    return FakeRequest.of("POST", path, {}, json.dumps(body).encode())


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": MESSAGES}),
    "chat, in parts": (
        "/v1/chat/completions",
        {"messages": [{"content": [{"type": "text", "text": "abcdefgh"}]}]},
    ),
    "completions": ("/v1/completions", {"prompt": "abcdefgh"}),
    "responses": ("/v1/responses", {"input": "abcdefgh"}),
    "messages": ("/v1/messages", {"messages": MESSAGES}),
    "gemini": (
        "/v1beta/models/m:generateContent", {"contents": [{"parts": [{"text": "abcdefgh"}]}]},
    ),
    "converse": ("/model/m/converse", {"messages": [{"content": [{"text": "abcdefgh"}]}]}),
    "another": ("/anything", {"prompt": "abcdefgh"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_each_form_has_its_text_and_its_usage(name: str) -> None:
    path, body = FORMS[name]
    answer = answer_to(asked(path, **body), None)
    assert answer.status == 200
    assert answer.headers == {"content-type": "application/json"}
    assert TEXT in answer.pieces[0].decode()
    used = usage_in(answer.pieces[0])
    assert used is not None
    assert (used.read, used.written) == (2, 10)


@pytest.mark.parametrize("name", ["chat", "completions", "responses", "messages"])
def test_a_stream_says_the_same_in_pieces(name: str) -> None:
    path, body = FORMS[name]
    answer = answer_to(asked(path, **body, stream=True), "one two three")
    assert answer.streams
    assert len(answer.pieces) > 4
    used = usage_in(b"".join(answer.pieces))
    assert used is not None
    assert (used.read, used.written) == (2, 4)


def test_embeddings_are_one_a_text_and_the_same_for_the_same() -> None:
    answer = answer_to(asked("/v1/embeddings", input=["a", "b", "a"]), None)
    data = json.loads(answer.pieces[0])["data"]
    assert [each["index"] for each in data] == [0, 1, 2]
    assert data[0]["embedding"] == data[2]["embedding"] != data[1]["embedding"]
    one = json.loads(answer_to(asked("/v1/embeddings", input=[1, 2]), None).pieces[0])
    assert len(one["data"]) == 1
    packed = answer_to(asked("/v1/embeddings", input="a", encoding_format="base64"), None)
    assert isinstance(json.loads(packed.pieces[0])["data"][0]["embedding"], str)


def test_an_answer_ends_where_it_was_told_to() -> None:
    cut = answer_to(asked("/v1/chat/completions", max_tokens=2), None)
    choice = json.loads(cut.pieces[0])["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("This is ", "length")


@pytest.mark.parametrize(
    ("reply", "status", "kind", "content"),
    [
        ({"a": 1}, 200, "application/json", b'{"a": 1}'),
        ([1], 200, "application/json", b"[1]"),
        (b"raw", 200, "application/octet-stream", b"raw"),
        (Reply({"e": 1}, 418, {"X-A": "b"}), 418, "application/json", b'{"e": 1}'),
        (Reply(b"x", headers={"Content-Type": "text/plain"}), 200, "text/plain", b"x"),
    ],
)
def test_replies_of_ones_own(reply: Any, status: int, kind: str, content: bytes) -> None:
    answer = answer_to(asked("/v1/chat/completions"), reply)
    assert (answer.status, answer.headers["content-type"]) == (status, kind)
    assert answer.pieces == [content]
    if isinstance(reply, Reply) and "X-A" in reply.headers:
        assert answer.headers["x-a"] == "b"


def test_a_value_in_a_stream_is_its_one_event() -> None:
    answer = answer_to(asked("/v1/chat/completions", stream=True), {"a": 1})
    assert answer.pieces == [b'data: {"a": 1}\n\n', b"data: [DONE]\n\n"]


@pytest.mark.parametrize(
    ("header", "value"),
    [("Authorization", "Bearer k"), ("X-Api-Key", "k"), ("api-key", "k"), ("x-goog-api-key", "k")],
)
def test_who_asks_and_for_what(header: str, value: str) -> None:
    request = FakeRequest.of(
        "POST", "/openai/deployments/gpt/chat/completions", {header: value}, b"{"
    )
    assert (request.key, request.model, request.body, request.streams) == ("k", "gpt", {}, False)
    assert "Bearer" not in repr(request)
    assert asked("/v1/x", model="m").model == "m"
    assert asked("/v1/x").model == ""


def test_tokens_of_a_prompt() -> None:
    assert tokens_in({}) == 1
    assert tokens_in({"system": "abcd", "messages": [{"content": "abcdefgh"}, {"content": 3}]}) == 3
