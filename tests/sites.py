"""A scripted server behind a client of either library, whose transport is under a scheduler."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import anyio
import httpx
import httpx2
import pytest

import headway.httpx
import headway.httpx2
from headway import Scheduler

URL = "http://server/v1/chat"
LIBRARIES = {"httpx": (httpx, headway.httpx), "httpx2": (httpx2, headway.httpx2)}


class Site:
    """A client of one library on a transport under a scheduler, and the server behind it."""

    def __init__(self, library: ModuleType, face: ModuleType) -> None:
        self.library = library
        self.face = face
        self.answers: list[Any] = []  # of the first requests; 200 and "ok" after them
        self.sent: list[float] = []
        self.requests: list[Any] = []
        self.open = 0  # bodies that were begun and not closed
        self.opened = 0

    def client(self, scheduler: Any, **options: Any) -> Any:
        inner = self.library.MockTransport(self.handle)
        transport = self.face.AsyncTransport(scheduler, inner, **options)
        return self.library.AsyncClient(transport=transport)

    async def handle(self, request: Any) -> Any:
        self.sent.append(anyio.current_time())
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = await answer()
        if isinstance(answer, int):
            return self.library.Response(answer, content=b"ok")
        status, headers, content = answer
        if isinstance(content, bytes):
            return self.library.Response(status, headers=headers, content=content)
        return self.library.Response(status, headers=headers, stream=content)

    def body(
        self,
        chunks: int = 3,
        *,
        every: float = 1.0,
        error: BaseException | None = None,
        data: bytes = b"data: {}\n\n",
    ) -> Any:
        """A streamed body: `chunks` times `data`, then `error`."""
        site = self

        class Body(self.library.AsyncByteStream):  # type: ignore[name-defined, misc]
            def __init__(self) -> None:
                self.left = chunks
                site.open += 1
                site.opened += 1
                self.closed = False

            def __aiter__(self) -> Any:
                return self

            async def __anext__(self) -> bytes:
                await anyio.sleep(every)
                if not self.left:
                    if error is not None:
                        raise error
                    raise StopAsyncIteration
                self.left -= 1
                return data

            async def aclose(self) -> None:
                if not self.closed:
                    self.closed = True
                    site.open -= 1

        async def answer() -> tuple[int, dict[str, str], Any]:
            return 200, {}, Body()

        return answer


@pytest.fixture(params=sorted(LIBRARIES))
def site(request: pytest.FixtureRequest) -> Site:
    return Site(*LIBRARIES[request.param])


def in_flight(scheduler: Scheduler) -> int:
    return scheduler.statistics().in_flight


def idle(scheduler: Scheduler) -> bool:
    stats = scheduler.statistics()
    return (stats.queued, stats.in_flight, len(scheduler._shell.parked)) == (0, 0, 0)
