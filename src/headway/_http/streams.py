"""Response streams that know when they end, and refusals of which the beginning has been read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any

from anyio.lowlevel import checkpoint

__all__ = ["PAUSE_EVERY", "HeldStream", "PeekedStream"]

# What is kept of an answer to find its usage.
_KEEP = 262_144
_ENDS = 16_384  # of a longer one: so much of its beginning, and of its end

# Chunks that are there already are read without a pause: after so many there is one, in which a
# deadline may pass.
PAUSE_EVERY = 64


class HeldStream:
    """A response's stream that gives the slot back when it ends, in whatever way.

    The faces derive from it and from their library's ``AsyncByteStream``. It is its own iterator:
    one generator less that a garbage collector has to end.
    """

    def __init__(
        self,
        stream: Any,
        end: Callable[[bytes, BaseException | None], None],
        abandon: Callable[[], None],
        limit: Callable[[], AbstractContextManager[Any, bool | None]] | None = None,
    ) -> None:
        self._stream = stream
        self._next: Any = None
        self._end: Callable[[bytes, BaseException | None], None] | None = end
        self._abandon = abandon
        self._limit = limit  # bounds the reading of each chunk
        self._kept = bytearray()
        self._read = 0  # chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        # Once: openai iterates anew to drain what follows [DONE], and an inner iterator that is
        # dropped closes the connection under it.
        if self._next is None:
            self._next = self._stream.__aiter__().__anext__
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk: bytes
            self._read += 1
            if not self._read % PAUSE_EVERY:
                await checkpoint()
            if self._limit is None:
                chunk = await self._next()
            else:
                with self._limit():
                    chunk = await self._next()
        except StopAsyncIteration:
            self._finish(None)
            raise
        except BaseException as error:
            self._finish(error)
            raise
        kept = self._kept
        kept += chunk
        if len(kept) > _KEEP:
            self._shorten()
        return chunk

    def _shorten(self) -> None:
        del self._kept[_ENDS:-_ENDS]  # usage stands at the beginning or at the end

    async def aclose(self) -> None:
        """Close the inner stream, and give the slot back."""
        try:
            await self._stream.aclose()
        finally:
            self._finish(None)

    def _finish(self, error: BaseException | None) -> None:
        end, self._end = self._end, None
        if end is not None:
            end(bytes(self._kept), error)

    def __del__(self) -> None:
        if getattr(self, "_end", None) is not None:
            self._abandon()


class PeekedStream:
    """The stream of a refusal of which the beginning has been read; it still gives all of it.

    `failure` is what reading the beginning ended with, and what reading all of it ends with.
    """

    def __init__(
        self, chunks: list[bytes], rest: Any, stream: Any, failure: Exception | None
    ) -> None:
        self._chunks = chunks
        self._rest = rest
        self._stream = stream
        self._failure = failure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._failure is not None:
            raise self._failure
        async for chunk in self._rest:
            yield chunk

    async def aclose(self) -> None:
        """Close the inner stream."""
        if isinstance(self._rest, AsyncGenerator):
            await self._rest.aclose()
        await self._stream.aclose()
