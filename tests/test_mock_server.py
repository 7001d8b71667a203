"""The mock server that all tests of a process share."""

from __future__ import annotations

import json
import socket
from contextlib import closing

import pytest
from llmock.pytest_plugin import LLMock
from llmock.testing import LLMockServer

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
HEAD = b"POST /together/v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
HEAD += b"content-type: application/json\r\n"
REQUEST = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY


def connected(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)))


@pytest.fixture
def left(llmock_server: LLMockServer) -> None:
    """Clients of a test before, each killed as soon as it had sent its request."""
    for _ in range(50):
        with closing(connected(llmock_server.url)) as client:
            client.sendall(REQUEST)


def test_nothing_of_the_tests_before_counts(left: None, llmock: LLMock) -> None:
    with closing(connected(llmock.url)) as client:
        client.sendall(REQUEST)
        assert client.recv(12) == b"HTTP/1.1 200"
    assert len(llmock.requests) == 1
