"""A server that answers each prompt with itself in capitals, and counts when it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from answering import Answering, Handler

REFUSED = "refuse"  # a prompt that holds this is a bad request


class Echo(Answering):
    """`asked` holds the bodies, `keys` who asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.takes = 0.0  # seconds for each answer
        self.peak = 0  # the most that were in flight at once
        self._in_flight = 0
        self._lock = threading.Lock()
        echo = self

        class Echoing(Handler):
            def asked(self, body: dict[str, Any]) -> None:
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
                    return self._say(400, {"error": {"message": f"no {said}"}})
                usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
                choice = {"message": {"content": said.upper()}, "finish_reason": "stop"}
                return self._say(200, {"id": "x", "choices": [choice], "usage": usage})

            def _say(self, status: int, body: object) -> None:
                self.answer(status, json.dumps(body).encode())

        super().__init__(Echoing)
        self.gate.set()  # shut where a test wants rows in flight


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()
