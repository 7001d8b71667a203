"""A server in a process of its own that counts, and refuses what comes beyond its limit."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection

__all__ = ["LIMIT", "PER", "serve"]

LIMIT, PER = 600, 60.0  # requests in any so many seconds


class Counting(BaseHTTPRequestHandler):
    """Answers as OpenAI does, and with a 429 what comes beyond `LIMIT` in any `PER` seconds."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    lock = threading.Lock()
    times: list[float] = []
    lately: deque[float] = deque()
    refused = 0

    def do_POST(self) -> None:
        """Count a request, and answer it."""
        self.rfile.read(int(self.headers["content-length"]))
        with self.lock:
            now = time.monotonic()
            while self.lately and self.lately[0] <= now - PER:
                self.lately.popleft()
            status = 200 if len(self.lately) < LIMIT else 429
            if status == 200:
                self.lately.append(now)
                self.times.append(now)
            else:
                Counting.refused += 1
        message = {"role": "assistant", "content": "blue"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"id": "x", "object": "chat.completion", "choices": [choice]}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def serve(pipe: Connection) -> None:
    """Serve until the other end says so, and send what was counted."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pipe.send(server.server_port)
        pipe.recv()
        pipe.send((Counting.times, Counting.refused))
        server.shutdown()
