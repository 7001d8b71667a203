"""The server of `clients.py`, in a process of its own, which needs none of the SDKs."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MODEL = "a-model"
HEADERS = [
    (b"date", b"Mon, 02 Jun 2025 10:00:00 GMT"),
    (b"content-type", b"application/json"),
    (b"x-request-id", b"req_0123456789abcdef0123456789abcdef"),
    (b"x-ratelimit-limit-requests", b"1000000000"),
    (b"x-ratelimit-limit-tokens", b"1000000000000"),
    (b"x-ratelimit-remaining-requests", b"999999999"),
    (b"x-ratelimit-remaining-tokens", b"999999999000"),
    (b"x-ratelimit-reset-requests", b"1ms"),
    (b"x-ratelimit-reset-tokens", b"6ms"),
]

TEXT = "Air scatters the short waves of sunlight more than the long ones, so that blue comes to us."

COMPLETION = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_750_000_000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 230, "completion_tokens": 20, "total_tokens": 250},
    }
).encode()
MESSAGE = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 230, "output_tokens": 20},
    }
).encode()


class Answers(asyncio.Protocol):
    """HTTP/1.1 with connections that stay open, of which a request's length is all it reads."""

    _length = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

    def __init__(self) -> None:
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            found = self._length.search(head)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            line = head[: head.index(b"\r\n")]
            self._transport.write(MESSAGE_SENT if b"/messages" in line else COMPLETION_SENT)


def sent(body: bytes) -> bytes:
    head = b"".join(b"%s: %s\r\n" % header for header in HEADERS)
    return b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (head, len(body), body)


COMPLETION_SENT, MESSAGE_SENT = sent(COMPLETION), sent(MESSAGE)


def serve() -> None:
    """Print the port, and answer until killed."""
    factory: Any = None
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:
        pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answers, "127.0.0.1", 0, backlog=1024)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@contextmanager
def server() -> Iterator[str]:
    """The address of a server in another process."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    serve()
