"""A fast HTTP server in a process of its own, that injects faults, or refuses what comes beyond a
limit, and counts every request.

It speaks HTTP/1.1 with keep-alive over bare asyncio (uvloop where installed) and answers each POST
with the same chat completion. Whose request it is stands in the body, as ``user``: a custom_id is
not sent. A GET returns what was counted.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil, exp
from typing import Any

from headway import Rate
from headway.testing.algorithms import Algorithm, SlidingLog

__all__ = ["Counted", "serving"]

RESET = "reset"  # the fault that is no status: the connection is cut

_USER = re.compile(rb'"user": ?"([^"]*)"')
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_REASONS = {429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


@dataclass
class Counted:
    """What the server saw: requests by the id in them, the faults that it injected, when those came
    that it let in, how many it refused, the seconds from the first request to the last answer.
    """

    requests: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    arrivals: list[float] = field(default_factory=list)  # where there is a limit
    refused: int = 0
    first: float | None = None
    last: float = 0.0

    @property
    def seconds(self) -> float:
        return 0.0 if self.first is None else self.last - self.first


@contextmanager
def serving(
    answer: bytes,
    *,
    latency: float = 0.0,
    sigma: float = 0.0,
    faults: Mapping[str, float] | None = None,
    limit: Rate | None = None,
    seed: int = 1,
) -> Iterator[Server]:
    """A server that answers after a lognormal `latency` (its median, in seconds).

    `faults` are the shares of requests that get a status, such as "503", or whose connection is
    cut ("reset") in place of an answer. What comes beyond `limit`, in any window of its length,
    gets a 429 that says when there is room again.
    """
    settings = {
        "answer": answer.decode(),
        "latency": latency,
        "sigma": sigma,
        "faults": dict(faults or {}),
        "limit": None if limit is None else [limit.share, limit.span],
        "seed": seed,
    }
    with subprocess.Popen(
        [sys.executable, __file__, json.dumps(settings)],
        stdin=subprocess.PIPE,  # it ends when this process does
        stdout=subprocess.PIPE,
    ) as child:
        try:
            assert child.stdout is not None
            yield Server(f"http://127.0.0.1:{int(child.stdout.readline())}/v1")
        finally:
            child.kill()


@dataclass(frozen=True)
class Server:
    """A server that runs; `url` stands for ``/v1``."""

    url: str

    def counted(self) -> Counted:
        """What it saw until now."""
        with urllib.request.urlopen(self.url) as response:
            found: dict[str, Any] = json.load(response)
        counts = {name: Counter(found.pop(name)) for name in ("requests", "faults")}
        return Counted(**counts, **found)


# The process


def _response(status: int, reason: str, body: bytes, wait: int = 0) -> bytes:
    head = (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n"
        f"x-request-id: req-1\r\ncontent-length: {len(body)}\r\n"
    )
    return f"{head}{f'retry-after: {wait}' if status == 429 else 'x: y'}\r\n\r\n".encode() + body


class _Connection(asyncio.Protocol):
    def __init__(
        self, settings: Mapping[str, Any], counted: Counted, limiter: Algorithm | None
    ) -> None:
        self._counted = counted
        self._limiter = limiter
        self._random = random.random
        self._faults: list[tuple[str, float]] = list(settings["faults"].items())
        self._latency, self._sigma = settings["latency"], settings["sigma"]
        self._answer = _response(200, "OK", settings["answer"].encode())
        self._data = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._data, 0, end + 2)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._data) < whole:
                return
            request, self._data = self._data[:whole], self._data[whole:]
            if request.startswith(b"GET"):
                told = json.dumps(vars(self._counted)).encode()
                self._transport.write(_response(200, "OK", told))
            else:
                self._count(request)

    def _count(self, request: bytes) -> None:
        now = time.monotonic()
        if self._counted.first is None:
            self._counted.first = now
        user = _USER.search(request)
        self._counted.requests[user[1].decode() if user else ""] += 1
        if self._limiter is not None:
            if not self._limiter.admit(now):
                self._refuse(self._limiter.fits_in(now))
                return
            self._counted.arrivals.append(now)
        fault = self._draw()
        if self._latency:
            delay = self._latency * exp(random.gauss(0, self._sigma))
            asyncio.get_running_loop().call_later(delay, self._reply, fault)
        else:
            self._reply(fault)

    def _refuse(self, seconds: float) -> None:
        self._counted.refused += 1
        body = b'{"error": {"message": "Rate limit exceeded", "type": "rate_limit"}}'
        self._transport.write(_response(429, _REASONS[429], body, max(1, ceil(seconds))))

    def _draw(self) -> str | None:
        if not self._faults:
            return None
        at = self._random()
        for fault, share in self._faults:
            at -= share
            if at < 0:
                return fault
        return None

    def _reply(self, fault: str | None) -> None:
        if self._transport.is_closing():
            return
        self._counted.last = time.monotonic()
        if fault is None:
            self._transport.write(self._answer)
            return
        self._counted.faults[fault] += 1
        if fault == RESET:
            # With nothing to linger for, closing sends RST.
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
            return
        body = json.dumps({"error": {"message": f"injected {fault}", "type": "fault"}}).encode()
        self._transport.write(_response(int(fault), _REASONS[int(fault)], body))


async def _serve(settings: Mapping[str, Any]) -> None:
    random.seed(settings["seed"])
    counted = Counted()
    limiter = SlidingLog(*settings["limit"]) if settings["limit"] else None
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(settings, counted, limiter), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait_for_end, daemon=True).start()
    await ended.wait()


def _main() -> None:
    try:
        import uvloop

        run: Any = uvloop.run
    except ImportError:
        run = asyncio.run
    run(_serve(json.loads(sys.argv[1])))


if __name__ == "__main__":
    _main()
