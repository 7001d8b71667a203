"""A fake provider as a transport: one object for clients of httpx and httpx2, sync and async."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

import anyio

from headway.errors import MissingExtra
from headway.testing.answers import FakeRequest
from headway.testing.arrivals import Entrance, Visit

__all__ = ["transport_of"]

_LIBRARIES = ("httpx", "httpx2")
_PATIENCE = 600.0  # seconds for which a client that has no timeout waits for an answer
_DROPPED = "Server disconnected without sending a response."
_CUT = "peer closed connection without sending complete message body"

_Steps: TypeAlias = Generator[Any, None, None]
"""Seconds to sleep, each a float, and what comes between or after them: the same for sync and async
clients, which sleep in their own ways.
"""


def transport_of(entrance: Entrance) -> Any:
    """A transport that carries requests to `entrance`. Raises `MissingExtra`."""
    installed = tuple(name for name in _LIBRARIES if name in sys.modules or find_spec(name))
    if not installed:
        raise MissingExtra(
            "a transport is one of httpx or httpx2, and neither is installed",
            fix="install one with: pip install 'headway[httpx]', or use the app= of the fake "
            "provider.",
        )
    return _transport_class(installed)(entrance)


class _Carrier:
    """What a transport of any library does."""

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance

    def handle_request(self, request: Any) -> Any:
        """Send `request`, from the thread that calls."""
        request.read()
        with closing(_exchange(self._entrance, request)) as steps:
            step = None
            for step in steps:
                if isinstance(step, float):
                    time.sleep(step)
            return step

    async def handle_async_request(self, request: Any) -> Any:
        """Send `request`."""
        await request.aread()
        with closing(_exchange(self._entrance, request)) as steps:
            step = None
            for step in steps:
                if isinstance(step, float):
                    await anyio.sleep(step)
            return step


@cache
def _transport_class(installed: tuple[str, ...]) -> type[Any]:
    """A subclass of both transports of each library."""
    bases = [
        getattr(import_module(name), base)
        for name in installed
        for base in ("AsyncBaseTransport", "BaseTransport")
    ]
    made: type[Any] = type("FakeTransport", (_Carrier, *bases), {"__module__": __name__})
    return made


@cache
def _body_class(library: Any) -> type[Any]:
    """A stream of `library` over the steps of a body."""
    bases = library.AsyncByteStream, library.SyncByteStream

    class Body(*bases):  # type: ignore[misc] # - of the library that the user has
        def __init__(self, steps: _Steps, end: Callable[[], None]) -> None:
            self._steps = steps
            self._end = end

        def __iter__(self) -> Iterator[bytes]:
            for step in self._steps:
                if isinstance(step, bytes):
                    yield step
                else:
                    time.sleep(step)

        def __aiter__(self) -> Any:
            return self  # a generator that nobody closes would be the event loop's business

        async def __anext__(self) -> bytes:
            for step in self._steps:
                if isinstance(step, bytes):
                    return step
                await anyio.sleep(step)
            raise StopAsyncIteration

        def close(self) -> None:
            self._steps.close()
            self._end()  # where it was never begun

        async def aclose(self) -> None:
            self.close()

        def __del__(self) -> None:
            self.close()

    return Body


def _exchange(entrance: Entrance, request: Any) -> _Steps:
    """The waits of `request`, and its response at last; it raises what the library would."""
    library = sys.modules[type(request).__module__.partition(".")[0]]
    timeout = request.extensions.get("timeout", {}).get("read")
    url = request.url
    visit = entrance.begin(
        FakeRequest.of(request.method, url.path, request.headers, request.content)
    )
    answer, broken = visit.answer, visit.broken
    headed = False
    try:
        if broken == "connect":
            raise library.ConnectError("All connection attempts failed", request=request)
        streams = answer.streams or broken == "cut"
        takes = math.inf if broken == "timeout" else 0.0 if answer.streams else visit.takes
        yield from _waiting(library, request, takes, timeout)
        if broken == "disconnect":
            raise library.RemoteProtocolError(_DROPPED, request=request)
        headed = True
        if streams:
            pieces = _pieces(entrance, visit, library, request, timeout)
            body = _body_class(library)(pieces, lambda: entrance.end(visit))
            yield library.Response(answer.status, headers=answer.headers, stream=body)
            return
        content = b"".join(answer.pieces)
        if broken == "malformed":
            content = content[: len(content) // 2]
        entrance.end(visit, answer.status)
        yield library.Response(answer.status, headers=answer.headers, content=content)
    finally:
        if not headed:
            entrance.end(visit)


def _waiting(library: Any, request: Any, seconds: float, timeout: float | None) -> _Steps:
    """Sleep for `seconds`; where the client waits for less, raise as it does."""
    patience = _PATIENCE if timeout is None and math.isinf(seconds) else timeout
    if patience is not None and seconds > patience:
        yield float(patience)
        raise library.ReadTimeout("The read operation timed out", request=request)
    yield float(seconds)


def _pieces(
    entrance: Entrance, visit: Visit, library: Any, request: Any, timeout: float | None
) -> _Steps:
    """The pieces of a body and the sleeps between them."""
    pieces = visit.answer.pieces
    if not visit.answer.streams:  # a whole body, of which a part comes
        pieces = [pieces[0][: len(pieces[0]) // 2], b""]
    every = visit.takes / len(pieces) if visit.answer.streams else 0.0
    whole = False
    try:
        for number, piece in enumerate(pieces):
            if visit.broken == "cut" and number >= len(pieces) / 2:
                raise library.RemoteProtocolError(_CUT, request=request)
            yield from _waiting(library, request, every, timeout)
            yield b"data: {\n\n" if visit.broken == "malformed" else piece
        whole = True
    finally:
        entrance.end(visit, visit.answer.status if whole else None)
