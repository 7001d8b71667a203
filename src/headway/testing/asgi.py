"""A fake provider as an ASGI application: for uvicorn, httpx's ASGITransport, or a mount."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import anyio

from headway.testing.answers import FakeRequest
from headway.testing.arrivals import Entrance, Visit

__all__ = ["Application", "Dropped", "application"]

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
Application: TypeAlias = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class Dropped(ConnectionError):
    """A connection that the fake provider drops: an ASGI server does that for an application that
    fails after it has begun to answer.
    """


def application(entrance: Entrance) -> Application:
    """An application that carries requests to `entrance`."""

    async def app(scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await _answer(entrance, scope, receive, send)
        else:
            raise ValueError(f"the fake provider does not speak {scope['type']}")

    return app


async def _live(receive: _Receive, send: _Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


async def _answer(entrance: Entrance, scope: _Message, receive: _Receive, send: _Send) -> None:
    content = b""
    more = True
    while more:
        message = await receive()
        content += message.get("body", b"")
        more = message.get("more_body", False)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    visit = entrance.begin(FakeRequest.of(scope["method"], scope["path"], headers, content))
    whole = False
    try:
        await _send_answer(visit, receive, send)
        whole = True
    finally:
        entrance.end(visit, visit.answer.status if whole else None)


async def _send_answer(visit: Visit, receive: _Receive, send: _Send) -> None:
    answer, broken = visit.answer, visit.broken
    if broken == "timeout":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    if not answer.streams:
        await anyio.sleep(visit.takes)
    if broken in ("connect", "disconnect"):
        await _begin(visit, send, length=1)
        raise Dropped("the fake provider drops the connection")
    pieces = answer.pieces
    length = None if answer.streams else len(pieces[0])
    if broken == "malformed":
        pieces = [b"data: {\n\n"] if answer.streams else [pieces[0][: len(pieces[0]) // 2]]
        length = None if answer.streams else len(pieces[0])
    await _begin(visit, send, length)
    if broken == "cut":
        half = pieces[: len(pieces) // 2] if answer.streams else [pieces[0][: len(pieces[0]) // 2]]
        for piece in half:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        raise Dropped("the fake provider ends an answer in its middle")
    for piece in pieces:
        if answer.streams:
            await anyio.sleep(visit.takes / len(pieces))
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _begin(visit: Visit, send: _Send, length: int | None) -> None:
    headers = [(name.encode(), value.encode()) for name, value in visit.answer.headers.items()]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": visit.answer.status, "headers": headers})
