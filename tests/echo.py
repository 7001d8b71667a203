"""A server that answers each prompt with itself in capitals, and counts when it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

REFUSED = "refuse"  # a prompt that holds this is a bad request


class Echo:
    """`asked` holds the bodies, `keys` who asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.gate = threading.Event()  # shut where a test wants rows in flight
        self.gate.set()
        self.arrived = threading.Semaphore(0)
        self.takes = 0.0  # seconds for each answer
        self.peak = 0  # the most that were in flight at once
        self._in_flight = 0
        self._lock = threading.Lock()
        echo = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                echo.asked.append(body)
                echo.keys.add(self.headers["authorization"])
                echo.arrived.release()
                with echo._lock:
                    echo._in_flight += 1
                    echo.peak = max(echo.peak, echo._in_flight)
                time.sleep(echo.takes)
                echo.gate.wait(10)
                with echo._lock:
                    echo._in_flight -= 1
                said = body["messages"][-1]["content"]
                if REFUSED in said:
                    return self._answer(400, {"error": {"message": f"no {said}"}})
                usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
                choice = {"message": {"content": said.upper()}, "finish_reason": "stop"}
                return self._answer(200, {"id": "x", "choices": [choice], "usage": usage})

            def _answer(self, status: int, body: object) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: Any) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    pass  # a client that stopped at once

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()
