"""A sync transport and its streams, as the one implementation awaits them: they block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from headway._http.times import bounded
from headway._runtime.calls import Stopped
from headway.sync._driving import drive

__all__ = ["BlockingStream", "BlockingTransport", "BothStream"]


class BothStream:
    """A stream whose async half never yields, with the sync half that a sync client reads."""

    def __aiter__(self) -> Any:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the inner stream."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[bytes]:
        chunks = self.__aiter__()
        while True:
            try:
                chunk: bytes = drive(chunks.__anext__())
            except StopAsyncIteration:
                return
            yield chunk

    def close(self) -> None:
        """Close the inner stream."""
        drive(self.aclose())


class BlockingStream(BothStream):
    """The stream of the answer to `request`, which a sync transport gave."""

    def __init__(self, stream: Any, request: Any) -> None:
        self._stream = stream
        self._request = request
        self._parts: Iterator[bytes] | None = None

    def __aiter__(self) -> BlockingStream:
        return self

    async def __anext__(self) -> bytes:
        with bounded(self._request):
            if self._parts is None:
                self._parts = iter(self._stream)
            try:
                return next(self._parts)
            except StopIteration:
                raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Close the inner stream."""
        self._stream.close()


class BlockingTransport:
    """`transport`, a sync one, whose answers have streams of the class `both`."""

    def __init__(self, transport: Any, both: Callable[[Any, Any], Any]) -> None:
        self.inner = transport
        self._both = both

    async def handle_async_request(self, request: Any) -> Any:
        """Send `request`. Raises what the transport raises."""
        with bounded(request):
            try:
                response = self.inner.handle_request(request)
            except StopIteration as error:
                raise Stopped(error) from error
        if not hasattr(response.stream, "__aiter__"):
            response.stream = self._both(response.stream, request)
        return response
