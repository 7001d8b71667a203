"""Streams of responses: they end once, in whatever way, and what was peeked at is given whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from headway._http.streams import HeldStream, PeekedStream

pytestmark = pytest.mark.anyio

Ended = list[tuple[bytes, BaseException | None]]


class Inner:
    """A stream of `chunks`, after which `error` is raised."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.chunks, self.error, self.closed, self.begun = [*chunks], error, 0, 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun += 1
        return self

    async def __anext__(self) -> bytes:
        await anyio.sleep(1)
        if self.chunks:
            return self.chunks.pop(0)
        raise self.error or StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


class Held(HeldStream):
    """One that says how it ended, and whether it was abandoned."""

    def __init__(self, inner: Inner, **more: Any) -> None:
        self.ends: Ended = []
        self.abandoned: list[None] = []
        ends, abandoned = self.ends, self.abandoned
        super().__init__(
            inner, lambda kept, error: ends.append((kept, error)), lambda: abandoned.append(None),
            **more,
        )  # fmt: skip


async def test_what_is_read_to_its_end_ends_once_with_all_of_it() -> None:
    held = Held(Inner(b"a", b"b"))
    assert [chunk async for chunk in held] == [b"a", b"b"]
    await held.aclose()
    assert held.ends == [(b"ab", None)]


async def test_a_second_loop_goes_on_where_the_first_was_left() -> None:
    held = Held(inner := Inner(b"a", b"b", b"c"))
    async for _ in held:
        break
    assert [chunk async for chunk in held] == [b"b", b"c"]
    assert inner.begun == 1


async def test_what_is_closed_early_ends_with_what_was_read() -> None:
    held = Held(inner := Inner(b"a", b"b"))
    assert await anext(aiter(held)) == b"a"
    await held.aclose()
    assert held.ends == [(b"a", None)]
    assert inner.closed == 1


async def test_what_breaks_off_ends_with_the_error() -> None:
    error = OSError("gone")
    held = Held(Inner(b"a", error=error))
    with pytest.raises(OSError, match="gone"):
        [chunk async for chunk in held]
    assert held.ends == [(b"a", error)]


async def test_what_is_not_read_by_its_last_moment_ends_in_a_timeout() -> None:
    end = anyio.current_time() + 1.5
    held = Held(Inner(b"a", b"b", b"c"), limit=lambda: anyio.fail_after(end - anyio.current_time()))
    with pytest.raises(TimeoutError):
        [chunk async for chunk in held]
    assert [(kept, type(error)) for kept, error in held.ends] == [(b"a", TimeoutError)]


async def test_of_a_long_answer_the_beginning_and_the_end_are_kept() -> None:
    held = Held(Inner(b"first" + bytes(300_000), b"last"))
    assert [len(chunk) async for chunk in held] == [300_005, 4]
    ((kept, _),) = held.ends
    assert kept.startswith(b"first")
    assert kept.endswith(b"last")
    assert len(kept) < 40_000


async def test_what_nobody_ends_is_abandoned_and_what_ended_is_not() -> None:
    dropped, read = Held(Inner(b"a")), Held(Inner(b"a"))
    assert [chunk async for chunk in read] == [b"a"]
    lost, kept = dropped.abandoned, read.abandoned
    del dropped, read
    assert (len(lost), len(kept)) == (1, 0)


async def test_what_was_peeked_at_is_given_whole_and_closed() -> None:
    inner = Inner(b"a", b"b", b"c")
    rest = aiter(inner)
    peeked = PeekedStream([await anext(rest)], rest, inner, None)
    assert [chunk async for chunk in peeked] == [b"a", b"b", b"c"]
    await peeked.aclose()
    assert inner.closed == 1


async def test_a_beginning_that_could_not_be_read_ends_in_its_error() -> None:
    inner = Inner()
    peeked = PeekedStream([b"a"], aiter(inner), inner, OSError("gone"))
    given = aiter(peeked)
    assert await anext(given) == b"a"
    with pytest.raises(OSError, match="gone"):
        await anext(given)
