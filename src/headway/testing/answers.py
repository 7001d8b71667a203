"""What a fake provider is asked, and the answers that it makes up: the forms of known APIs."""

from __future__ import annotations

import json
import math
import re
import struct
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from headway.estimate import BYTES_PER_TOKEN, MAX_NAMES

__all__ = ["FakeAnswer", "FakeRequest", "Reply", "ReplyLike", "answer_to", "tokens_in"]

_TEXT = "This is an answer of the fake provider."
_JSON = "application/json"
_EVENTS = "text/event-stream"
_KEY_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
_PROMPTS = ("system", "messages", "prompt", "input", "instructions", "contents", "inputs")
_MODEL_IN_PATH = re.compile(r"/(?:models?|deployments)/([^/:]+)")
_DIMENSIONS = 8  # of an embedding


@dataclass(frozen=True)
class FakeRequest:
    """One request as a `reply=` function sees it. `body` is its JSON object, empty for another;
    the names of `headers` are in lower case.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)
    body: Mapping[str, Any]

    @classmethod
    def of(cls, method: str, path: str, headers: Mapping[str, str], content: bytes) -> FakeRequest:
        """A request as it came; `content` is its whole body."""
        try:
            body = json.loads(content) if content else {}
        except ValueError:
            body = {}
        named = {name.lower(): value for name, value in headers.items()}
        return cls(method, path, named, content, body if isinstance(body, dict) else {})

    @property
    def key(self) -> str:
        """The key that it shows, "" for none."""
        for name in _KEY_HEADERS:
            if shown := self.headers.get(name):
                return shown.removeprefix("Bearer ")
        return ""

    @property
    def model(self) -> str:
        """The model that it names, "" for none."""
        if isinstance(name := self.body.get("model"), str):
            return name
        found = _MODEL_IN_PATH.search(self.path)
        return "" if found is None else found[1]

    @property
    def streams(self) -> bool:
        """Whether it asks for an event stream."""
        return self.body.get("stream") is True


@dataclass(frozen=True)
class Reply:
    """What a `reply=` function may return: a text in the form that was asked for, a JSON value, or
    bytes; with a status and headers.
    """

    body: str | Mapping[str, Any] | list[Any] | bytes = _TEXT
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


ReplyLike: TypeAlias = str | Mapping[str, Any] | list[Any] | bytes | Reply


class FakeAnswer(NamedTuple):
    """What is sent: the pieces of a stream, or the whole body as one."""

    status: int
    headers: dict[str, str]
    pieces: list[bytes]

    @property
    def streams(self) -> bool:
        """Whether the pieces come one after another."""
        return self.headers["content-type"] == _EVENTS


class _Said(NamedTuple):
    """A text, and what it and its prompt count."""

    asked: FakeRequest
    text: str
    read: int
    written: int
    ended: bool  # by itself; else it was cut at the most that was asked for


def tokens_in(body: Mapping[str, Any]) -> int:
    """The tokens of a request's prompt, one for four characters of its text."""
    return _count(sum(len(text) for name in _PROMPTS for text in _texts(body.get(name))))


def _count(characters: int) -> int:
    return max(1, math.ceil(characters / BYTES_PER_TOKEN))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, Mapping):
        for name in ("content", "text", "parts", "output"):
            yield from _texts(value.get(name))


def answer_to(asked: FakeRequest, reply: ReplyLike | None) -> FakeAnswer:
    """The answer to `asked`: `reply`, or a text of its own, in the form of the address."""
    said = reply if isinstance(reply, Reply) else Reply(_TEXT if reply is None else reply)
    body = said.body
    if isinstance(body, str):
        whole, events = _form_of(asked.path)
        text = _said(asked, body)
        if asked.streams and events is not None and said.status < 400:
            return _answer(said, _EVENTS, list(events(text)))
        body = whole(text)
    if isinstance(body, bytes):
        return _answer(said, "application/octet-stream", [body])
    content = json.dumps(body).encode()
    if asked.streams and said.status < 400:
        return _answer(said, _EVENTS, [b"data: %b\n\n" % content, _DONE])
    return _answer(said, _JSON, [content])


def _answer(said: Reply, content_type: str, pieces: list[bytes]) -> FakeAnswer:
    headers = {"content-type": content_type}
    headers.update((name.lower(), value) for name, value in said.headers.items())
    return FakeAnswer(said.status, headers, pieces)


def _said(asked: FakeRequest, text: str) -> _Said:
    written = _count(len(text))
    maxima = [asked.body[name] for name in MAX_NAMES if isinstance(asked.body.get(name), int)]
    most = max(1, min(maxima, default=written))
    if written > most:
        return _Said(asked, text[: most * BYTES_PER_TOKEN], tokens_in(asked.body), most, False)
    return _Said(asked, text, tokens_in(asked.body), written, True)


# Whole answers ----------------------------------------------------------------------------------


def _usage(said: _Said) -> dict[str, int]:
    return {
        "prompt_tokens": said.read,
        "completion_tokens": said.written,
        "total_tokens": said.read + said.written,
    }


def _usage_apart(said: _Said) -> dict[str, int]:
    return {"input_tokens": said.read, "output_tokens": said.written}


def _head(said: _Said, kind: str, name: str) -> dict[str, Any]:
    return {"id": f"{kind}-fake", "object": name, "created": 0, "model": said.asked.model}


def _chat(said: _Said) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": said.text, "refusal": None},
        "logprobs": None,
        "finish_reason": _reason(said),
    }
    return {
        **_head(said, "chatcmpl", "chat.completion"),
        "choices": [choice],
        "usage": _usage(said),
    }


def _reason(said: _Said) -> str:
    return "stop" if said.ended else "length"


def _completion(said: _Said) -> dict[str, Any]:
    choice = {"index": 0, "text": said.text, "logprobs": None, "finish_reason": _reason(said)}
    return {**_head(said, "cmpl", "text_completion"), "choices": [choice], "usage": _usage(said)}


def _response(said: _Said) -> dict[str, Any]:
    part = {"type": "output_text", "text": said.text, "annotations": []}
    message = {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "status": "completed" if said.ended else "incomplete",
        "content": [part],
    }
    return {
        "id": "resp_fake",
        "object": "response",
        "created_at": 0,
        "model": said.asked.model,
        "status": message["status"],
        "error": None,
        "incomplete_details": None if said.ended else {"reason": "max_output_tokens"},
        "instructions": None,
        "metadata": {},
        "output": [message],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            **_usage_apart(said),
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": said.read + said.written,
        },
    }


def _message(said: _Said) -> dict[str, Any]:
    return {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": said.asked.model,
        "content": [{"type": "text", "text": said.text}],
        "stop_reason": "end_turn" if said.ended else "max_tokens",
        "stop_sequence": None,
        "usage": _usage_apart(said),
    }


def _embeddings(said: _Said) -> dict[str, Any]:
    given = said.asked.body.get("input", "")
    # A list of numbers is one text that has been turned into tokens.
    several = isinstance(given, list) and not all(isinstance(each, int) for each in given)
    texts = given if several else [given]
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(said.asked, text)}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": said.read, "total_tokens": said.read}
    return {"object": "list", "model": said.asked.model, "data": data, "usage": usage}


def _vector(asked: FakeRequest, text: object) -> list[float] | str:
    """The same for the same text."""
    letters = json.dumps(text)
    vector = [
        sum(map(ord, letters[at::_DIMENSIONS])) % 997 / 997 - 0.5 for at in range(_DIMENSIONS)
    ]
    if asked.body.get("encoding_format") == "base64":
        return b64encode(struct.pack(f"<{_DIMENSIONS}f", *vector)).decode()
    return vector


def _gemini(said: _Said) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": said.text}]}
    reason = "STOP" if said.ended else "MAX_TOKENS"
    usage = {
        "promptTokenCount": said.read,
        "candidatesTokenCount": said.written,
        "totalTokenCount": said.read + said.written,
    }
    candidate = {"content": content, "finishReason": reason, "index": 0}
    return {"candidates": [candidate], "usageMetadata": usage}


def _converse(said: _Said) -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": said.text}]}},
        "stopReason": "end_turn" if said.ended else "max_tokens",
        "usage": {
            "inputTokens": said.read,
            "outputTokens": said.written,
            "totalTokens": said.read + said.written,
        },
        "metrics": {"latencyMs": 1},
    }


def _anything(said: _Said) -> dict[str, Any]:
    return {"message": said.text, "usage": _usage(said)}


# Streams ----------------------------------------------------------------------------------------

_DONE = b"data: [DONE]\n\n"


def _event(data: object, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*$|\s*\S+", text) or [text]


def _chat_events(said: _Said) -> Iterator[bytes]:
    head = _head(said, "chatcmpl", "chat.completion.chunk")
    role: dict[str, str] = {"role": "assistant"}
    for word in _words(said.text):
        choice = {"index": 0, "delta": {**role, "content": word}, "finish_reason": None}
        yield _event({**head, "choices": [choice]})
        role = {}
    last = {"index": 0, "delta": {}, "finish_reason": _reason(said)}
    yield _event({**head, "choices": [last], "usage": _usage(said)})
    yield _DONE


def _completion_events(said: _Said) -> Iterator[bytes]:
    head = _head(said, "cmpl", "text_completion")
    for word in _words(said.text):
        choice = {"index": 0, "text": word, "logprobs": None, "finish_reason": None}
        yield _event({**head, "choices": [choice]})
    last = {"index": 0, "text": "", "logprobs": None, "finish_reason": _reason(said)}
    yield _event({**head, "choices": [last], "usage": _usage(said)})
    yield _DONE


def _message_events(said: _Said) -> Iterator[bytes]:
    whole = _message(said)
    begun = {
        **whole,
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": said.read, "output_tokens": 1},
    }
    block = {"type": "text", "text": ""}
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield _named("message_start", message=begun)
    yield _named("content_block_start", index=0, content_block=block)
    for word in _words(said.text):
        delta = {"type": "text_delta", "text": word}
        yield _named("content_block_delta", index=0, delta=delta)
    yield _named("content_block_stop", index=0)
    yield _named("message_delta", delta=stop, usage={"output_tokens": said.written})
    yield _named("message_stop")


def _response_events(said: _Said) -> Iterator[bytes]:
    whole = _response(said)
    message = whole["output"][0]
    part = message["content"][0]
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    item = {**message, "status": "in_progress", "content": []}
    in_item = {"item_id": message["id"], "output_index": 0}
    in_part = {**in_item, "content_index": 0}
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": item}),
        ("response.content_part.added", {**in_part, "part": {**part, "text": ""}}),
        *[
            ("response.output_text.delta", {**in_part, "delta": word, "logprobs": []})
            for word in _words(said.text)
        ],
        ("response.output_text.done", {**in_part, "text": said.text, "logprobs": []}),
        ("response.content_part.done", {**in_part, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": message}),
        (f"response.{whole['status']}", {"response": whole}),
    ]
    for number, (name, data) in enumerate(events):
        yield _named(name, sequence_number=number, **data)


def _named(name: str, **data: object) -> bytes:
    return _event({"type": name, **data}, name)


_Whole: TypeAlias = Callable[[_Said], dict[str, Any]]
_Streamed: TypeAlias = Callable[[_Said], Iterator[bytes]]

_FORMS: tuple[tuple[str, _Whole, _Streamed | None], ...] = (
    ("/chat/completions", _chat, _chat_events),
    ("/completions", _completion, _completion_events),
    ("/responses", _response, _response_events),
    ("/messages", _message, _message_events),
    ("/embeddings", _embeddings, None),
    (":generateContent", _gemini, None),
    ("/converse", _converse, None),
)
"""How addresses end, and what is said there: a whole body, a stream."""


def _form_of(path: str) -> tuple[_Whole, _Streamed | None]:
    for ending, whole, events in _FORMS:
        if path.rstrip("/").endswith(ending):
            return whole, events
    return _anything, None
