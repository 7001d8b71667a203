"""A fake provider as an ASGI application: under httpx's transport, a mount, and a real server."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from headway.testing import FakeProvider
from headway.testing.asgi import Dropped

pytestmark = pytest.mark.anyio

BODY = {"model": "m", "messages": [{"role": "user", "content": "why?"}]}
PATH = "/v1/chat/completions"


def client(app: Any, **options: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, **options)
    return httpx.AsyncClient(transport=transport, base_url="http://fake")


async def test_it_answers_counts_and_refuses() -> None:
    provider = FakeProvider("1/min", latency=3, dialect="anthropic")
    async with client(provider.app) as http:
        began = anyio.current_time()
        first = await http.post("/v1/messages", json=BODY, headers={"x-api-key": "k"})
        assert anyio.current_time() - began == pytest.approx(3)
        second = await http.post("/v1/messages", json=BODY, headers={"x-api-key": "k"})
    assert first.json()["content"][0]["text"]
    assert first.headers["anthropic-ratelimit-requests-limit"] == "1"
    assert (second.status_code, second.headers["retry-after"]) == (429, "57")
    assert [each.key for each in provider.arrivals] == ["k", "k"]
    assert len(provider.answered) == len(provider.refusals) == 1


async def test_streams_faults_and_mounts() -> None:
    provider = FakeProvider(faults=[None, "malformed", 503, "disconnect", "cut"])
    async with client(Starlette(routes=[Mount("/fake", provider.app)])) as http:
        stream = await http.post(f"/fake{PATH}", json={**BODY, "stream": True})
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.text.endswith("data: [DONE]\n\n")
        malformed = await http.post(f"/fake{PATH}", json=BODY)
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            malformed.json()
        assert (await http.post(f"/fake{PATH}", json=BODY)).status_code == 503
        with pytest.raises(Dropped):
            await http.post(f"/fake{PATH}", json=BODY)
        with pytest.raises(Dropped):
            await http.post(f"/fake{PATH}", json=BODY)
    assert [each.answered for each in provider.arrivals] == [True] + [False] * 4


async def test_no_answer_until_the_client_goes() -> None:
    provider = FakeProvider(faults=["timeout"])
    messages = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.request", "body": b"}"},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(_: object) -> None:
        raise AssertionError

    await provider.app(
        {"type": "http", "method": "POST", "path": PATH, "headers": []}, receive, send
    )
    assert not messages
    assert not provider.answered


async def test_what_it_does_not_speak() -> None:
    with pytest.raises(ValueError, match="does not speak websocket"):
        await FakeProvider().app({"type": "websocket"}, None, None)


def test_a_real_server_drops_what_is_dropped() -> None:
    """On real time, for its sockets are real."""
    provider = FakeProvider(faults=["disconnect", "cut", None])
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(provider.app, log_level="critical", lifespan="on", ws="none")
    server = uvicorn.Server(config)

    async def main() -> None:
        serving = asyncio.create_task(server.serve([listening]))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}{PATH}"
        async with httpx.AsyncClient() as http:
            for _ in range(2):
                with pytest.raises(httpx.RemoteProtocolError):
                    await http.post(url, json=BODY)
            assert (await http.post(url, json=BODY)).json()["usage"]["total_tokens"] == 11
        server.should_exit = True
        await serving

    asyncio.run(main())
    assert len(provider.answered) == 1
