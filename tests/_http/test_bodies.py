"""Bodies: what can be sent again, what they say, and the error that ends a stream."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any
from zlib import crc32

import httpx
import httpx2
import pytest

from headway import Kind
from headway._http.bodies import (
    error_in_stream,
    is_text,
    json_of,
    kinds_of,
    repeatable,
    size_of,
)


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


async def _chunks() -> AsyncIterator[bytes]:
    yield b"{}"


@pytest.mark.parametrize(
    ("body", "again"),
    [
        (dict, True),
        (lambda: {"content": b"abc"}, True),
        (lambda: {"json": {"model": "m"}}, True),
        (lambda: {"data": {"a": "b"}}, True),
        (lambda: {"content": _chunks()}, False),
        (lambda: {"files": {"f": b"bytes"}}, True),
        (lambda: {"files": {"f": io.BytesIO(b"read once")}}, False),
        (lambda: {"files": [("f", b"bytes"), ("g", io.BytesIO(b"x"))]}, False),
    ],
)
def test_a_body_can_be_sent_again_if_it_is_bytes(library: Any, body: Any, again: bool) -> None:
    request = library.Request("POST", "http://server", **body())
    assert repeatable(request) is again


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"model": "m", "n": 2}', {"model": "m", "n": 2}),
        (b"", {}),
        (b"[1]", {}),
        (b"no json", {}),
        (b"\xff\xfe\x00", {}),
        (b"[" * 200_000, {}),  # deeper than can be read
    ],
)
def test_the_json_object_of_a_request(library: Any, content: bytes, said: Any) -> None:
    request = library.Request("POST", "http://server", content=content)
    assert json_of(request) == said
    assert size_of(request) == len(content)


def test_a_stream_is_not_read(library: Any) -> None:
    request = library.Request("POST", "http://server", content=_chunks())
    assert (json_of(request), size_of(request)) == ({}, 0)


@pytest.mark.parametrize("stated", ["-1", "1e3", "9" * 16, "many"])
def test_a_size_that_is_none(library: Any, stated: str) -> None:
    headers = {"content-length": stated.encode()}
    assert size_of(library.Request("GET", "http://server", headers=headers)) == 0


@pytest.mark.parametrize(
    ("headers", "events", "encoded", "text"),
    [
        ({}, False, False, True),
        ({"Content-Type": "application/json; charset=utf-8"}, False, False, True),
        ({"content-type": "APPLICATION/PROBLEM+JSON"}, False, False, True),
        ({"content-type": "text/html"}, False, False, True),
        ({"CONTENT-TYPE": "Text/Event-Stream; charset=utf-8"}, True, False, False),
        ({"content-type": "application/stream+json"}, True, False, False),
        ({"content-type": "application/x-ndjson"}, True, False, False),
        ({"content-type": "application/vnd.amazon.eventstream"}, True, False, False),
        ({"content-type": "audio/mpeg"}, False, False, False),
        ({"Content-Encoding": "gzip"}, False, True, True),
        ({"x-header-16-char": "text/event-stream"}, False, False, True),
    ],
)
def test_what_the_headers_say_of_a_body(
    library: Any, headers: dict[str, str], events: bool, encoded: bool, text: bool
) -> None:
    answer = library.Headers(headers)
    assert kinds_of(answer) == (events, encoded)
    assert is_text(answer) is text


def aws(kind: str, name: str, body: str) -> bytes:
    """A message of AWS's streams: its length, headers, a JSON object and their checks."""
    headers = b"".join(
        bytes([len(key)]) + key.encode() + b"\x07" + len(value).to_bytes(2, "big") + value.encode()
        for key, value in (
            (f":{kind}-type", name), (":content-type", "application/json"), (":message-type", kind),
        )
    )  # fmt: skip
    size = 16 + len(headers) + len(body)
    start = size.to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    start += crc32(start).to_bytes(4, "big")
    whole = start + headers + body.encode()
    return whole + crc32(whole).to_bytes(4, "big")


OVERLOADED = b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        (b"", None),
        (b'data: {"choices": []}\n\ndata: [DONE]\n\n', None),
        (b'data: {"text": "an error occurred"}\n\n', None),  # speaks of one
        (b'data: {"error": null}\n\n', None),
        (b'data: "\\"error\\""\n\n', None),
        (b'data: {"error": {"message": "no", "type": "no such"}}\n\n', Kind.TRANSIENT),
        (b'data: {"error": {"message": "slow", "code": 429}}\n\ndata: [DONE]\n\n', Kind.RATE),
        (b"event: error\ndata: " + OVERLOADED + b"\n\n", Kind.CAPACITY),
        (b"event: error\r\ndata: " + OVERLOADED + b"\r\n\r\n", Kind.CAPACITY),
        (b"event: error\ndata: plain words\n\n", Kind.TRANSIENT),
        (b'{"response": "a"}\n{"error": "too many concurrent requests"}\n', Kind.CONCURRENCY),
        (b'{"response": "error"}\n{"done": true}\n', None),
        (b'\x1e{"a": 1}\n\x1e{"error": {"code": 503}}\r\n', Kind.CAPACITY),
        (b'{"error": {"code": 503}}\n{"done": true}\n', None),
        (aws("exception", "throttlingException", '{"message": "Too many"}'), Kind.RATE),
        (aws("exception", "internalServerException", "{}"), Kind.TRANSIENT),
        (aws("event", "chunk", '{"bytes": "error"}'), None),
        # An error that others followed did not end the stream.
        (b"event: error\ndata: " + OVERLOADED + b'\n\ndata: {"choices": []}\n\n', None),
        (b"data: {}\n\n" * 9999 + b"event: error\ndata: " + OVERLOADED + b"\n\n", Kind.CAPACITY),
    ],
)
def test_the_error_that_ends_a_stream(events: bytes, kind: Kind | None) -> None:
    found = error_in_stream(events)
    assert (None if found is None else found.kind) is kind
    assert found is None or found.status is None  # the status was that of a success
