"""The face of httpx2: a transport of its own classes, under a scheduler's limits."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx2
import pytest

import headway.httpx2
from headway import InvalidArgument, MissingExtra, Scheduler, sync
from headway.httpx2 import AsyncTransport, Transport

URL = "http://server/v1/chat"


async def body() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


def answer(request: httpx2.Request) -> httpx2.Response:
    if request.url.path == "/stream":
        return httpx2.Response(200, content=body())
    return httpx2.Response(200, json={"path": request.url.path})


def client(scheduler: Any, **options: Any) -> httpx2.AsyncClient:
    transport = AsyncTransport(scheduler, httpx2.MockTransport(answer), **options)
    return httpx2.AsyncClient(transport=transport)


def test_it_is_a_transport_of_its_own_library() -> None:
    transport = AsyncTransport(Scheduler("1/s"))
    assert isinstance(transport, httpx2.AsyncBaseTransport)
    assert headway.httpx2.__all__ == ["AsyncTransport", "Transport", "client", "sync_client"]


def test_a_sync_client_has_its_own() -> None:
    with sync.Scheduler("1000/s", concurrency=1) as scheduler:
        view = scheduler.with_options(key="chat")
        transport = Transport(view, httpx2.MockTransport(answer))
        assert isinstance(transport, httpx2.BaseTransport)
        with httpx2.Client(transport=transport) as own:
            assert own.get(URL).json() == {"path": "/v1/chat"}
        with headway.httpx2.sync_client(
            scheduler, transport=httpx2.MockTransport(answer), tokens=lambda body: 3
        ) as own:
            assert own.get(URL).json() == {"path": "/v1/chat"}
        statistics = scheduler.statistics()
        assert (statistics.succeeded, statistics.keys["chat"].succeeded) == (2, 1)


@pytest.mark.anyio
async def test_requests_keep_the_pace_and_answers_are_the_librarys() -> None:
    scheduler = Scheduler("60/min")
    async with client(scheduler) as own:
        began = anyio.current_time()
        for _ in range(3):
            response = await own.get(URL)
            assert isinstance(response, httpx2.Response)
            assert response.json() == {"path": "/v1/chat"}
    assert anyio.current_time() - began == pytest.approx(2, abs=0.1)
    assert scheduler.statistics().succeeded == 3


@pytest.mark.anyio
async def test_a_view_gives_requests_its_options_and_a_stream_holds_its_slot() -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    view, url = scheduler.with_options(key="chat"), "http://server/stream"
    async with client(view) as own, own.stream("GET", url) as reply:
        assert scheduler.statistics().in_flight == 1
        assert isinstance(reply.stream, httpx2.AsyncByteStream)
        assert await reply.aread() == b"onetwo"
        assert scheduler.statistics().in_flight == 0
    assert scheduler.statistics().keys["chat"].succeeded == 1


@pytest.mark.parametrize(
    ("scheduler", "options", "said"),
    [
        (None, {}, "scheduler=None is not a Scheduler"),
        (Scheduler("1/s"), {"together_unit": "hour"}, "together_unit='hour' is no unit"),
        (Scheduler("1/s"), {"tokens": 3}, "tokens=3 is not a function"),
    ],
)
def test_arguments_that_cannot_be_meant(scheduler: Any, options: Any, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client(scheduler, **options)
    assert str(caught.value).startswith(said)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "httpx2":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "headway.httpx2")
    monkeypatch.setattr(headway, "httpx2", headway.httpx2)  # put back as it was
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"pip install 'headway\[httpx2\]'"):
        importlib.import_module("headway.httpx2")
