"""A sync transport, as the one implementation awaits it, and as a sync client reads it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from headway._http.blocking import BlockingStream, BlockingTransport, BothStream
from headway.httpx import Transport
from headway.sync import Scheduler
from headway.sync._driving import drive


class Inner(httpx.SyncByteStream):
    closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield b"one"
        yield b"two"

    def close(self) -> None:
        self.closed += 1


class Both(BlockingStream, httpx.AsyncByteStream, httpx.SyncByteStream):
    pass


REQUEST = httpx.Request("GET", "http://server/")


async def read(stream: BothStream) -> list[bytes]:
    return [chunk async for chunk in stream.__aiter__()]


def test_a_stream_is_read_from_both_sides_and_goes_on_where_it_was() -> None:
    assert drive(read(Both(Inner(), REQUEST))) == [b"one", b"two"]
    stream = Both(inner := Inner(), REQUEST)
    for chunk in stream:
        assert chunk == b"one"
        break
    assert list(stream) == [b"two"]
    stream.close()
    drive(stream.aclose())
    assert inner.closed == 2


def test_answers_get_streams_of_both_sides() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, stream=Inner())
        return httpx.Response(200, content=b"whole")

    transport = BlockingTransport(httpx.MockTransport(answer), Both)
    response = drive(transport.handle_async_request(REQUEST))
    assert isinstance(response.stream, Both)
    whole = drive(transport.handle_async_request(httpx.Request("POST", "http://server/")))
    assert isinstance(whole.stream, httpx.ByteStream)


def test_the_end_of_an_iterator_that_a_mock_raises_is_its_clients() -> None:
    answers = iter([httpx.Response(200)])
    with Scheduler() as scheduler:
        transport = Transport(scheduler, httpx.MockTransport(lambda _: next(answers)))
        with httpx.Client(transport=transport) as http:
            assert http.get("http://server/").status_code == 200
            with pytest.raises(StopIteration):
                http.get("http://server/")
        assert scheduler.statistics().in_flight == 0
