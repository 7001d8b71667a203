"""What the faces of httpx and httpx2 have to do alike: tests that each of them inherits."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import headway
from headway import InvalidArgument, MissingExtra, Scheduler, sync

URL = "http://server/v1/chat"


async def body() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


class OfAFace:
    """`library` is an HTTP library, `face` the module that puts its clients under a scheduler."""

    library: Any
    face: Any

    def mock(self) -> Any:
        def answer(request: Any) -> Any:
            if request.url.path == "/stream":
                return self.library.Response(200, content=body())
            return self.library.Response(200, json={"path": request.url.path})

        return self.library.MockTransport(answer)

    def client(self, scheduler: Any, **options: Any) -> Any:
        transport = self.face.AsyncTransport(scheduler, self.mock(), **options)
        return self.library.AsyncClient(transport=transport)

    def test_it_is_a_transport_of_its_own_library(self) -> None:
        transport = self.face.AsyncTransport(Scheduler("1/s"))
        assert isinstance(transport, self.library.AsyncBaseTransport)
        assert self.face.__all__ == ["AsyncTransport", "Transport", "client", "sync_client"]

    def test_a_sync_client_has_its_own(self) -> None:
        with sync.Scheduler("1000/s", concurrency=1) as scheduler:
            view = scheduler.with_options(key="chat")
            transport = self.face.Transport(view, self.mock())
            assert isinstance(transport, self.library.BaseTransport)
            with self.library.Client(transport=transport) as own:
                assert own.get(URL).json() == {"path": "/v1/chat"}
            with self.face.sync_client(
                scheduler, transport=self.mock(), tokens=lambda body: 3
            ) as own:
                assert own.get(URL).json() == {"path": "/v1/chat"}
            statistics = scheduler.statistics()
            assert (statistics.succeeded, statistics.keys["chat"].succeeded) == (2, 1)

    @pytest.mark.anyio
    async def test_requests_keep_the_pace_and_answers_are_the_librarys(self) -> None:
        scheduler = Scheduler("60/min")
        async with self.client(scheduler) as own:
            began = anyio.current_time()
            for _ in range(3):
                response = await own.get(URL)
                assert isinstance(response, self.library.Response)
                assert response.json() == {"path": "/v1/chat"}
        assert anyio.current_time() - began == pytest.approx(2, abs=0.1)
        assert scheduler.statistics().succeeded == 3

    @pytest.mark.anyio
    async def test_a_view_gives_requests_its_options_and_a_stream_holds_its_slot(self) -> None:
        scheduler = Scheduler("100/s", concurrency=1)
        view, url = scheduler.with_options(key="chat"), "http://server/stream"
        async with self.client(view) as own, own.stream("GET", url) as reply:
            assert scheduler.statistics().in_flight == 1
            assert isinstance(reply.stream, self.library.AsyncByteStream)
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
    def test_arguments_that_cannot_be_meant(self, scheduler: Any, options: Any, said: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            self.client(scheduler, **options)
        assert str(caught.value).startswith(said)

    def test_without_the_library_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original, needed = builtins.__import__, self.library.__name__
        face = self.face.__name__

        def without(name: str, *args: Any, **kwargs: Any) -> Any:
            if name == needed:
                raise ImportError(name)
            return original(name, *args, **kwargs)

        monkeypatch.delitem(sys.modules, face)
        monkeypatch.setattr(headway, needed, self.face)  # put back as it was
        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(MissingExtra, match=rf"pip install 'headway\[{needed}\]'"):
            importlib.import_module(face)
