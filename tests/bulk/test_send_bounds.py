"""What one answer may take: seconds in all, and bytes, however they come; garbage in its place."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import zstandard
from depth import depth

from headway import Retry, Scheduler, bulk
from headway.bulk import Progress, RunOptions
from headway.bulk.output.journal import Journal

pytestmark = pytest.mark.anyio

ENDPOINT = bulk.Endpoint("custom", "http://test/v1", "a-key", "HEADWAY_API_KEY")
ANSWER = b'{"choices": [{"finish_reason": "stop"}], "usage": {"total_tokens": 11}}'


class Body(httpx.AsyncByteStream):
    """`data` again and again, `times` in all, every so many seconds."""

    def __init__(self, data: bytes, times: int = 1, every: float = 0.0) -> None:
        self.data, self.times, self.every = data, times, every
        self.given = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        self.given = 0
        return self

    async def __anext__(self) -> bytes:
        await anyio.sleep(self.every)
        if self.given >= self.times * len(self.data):
            raise StopAsyncIteration
        self.given += len(self.data)
        return self.data


class Server(httpx.AsyncBaseTransport):
    def __init__(self, *answers: Callable[[], httpx.Response]) -> None:
        self.answers = list(answers)
        self.sent = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        return self.answers.pop(0)() if self.answers else httpx.Response(200, content=ANSWER)


def streamed(body: Body, status: int = 200, **headers: str) -> Callable[[], httpx.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: httpx.Response(status, headers=named, stream=body)


Run = Callable[..., Awaitable[tuple[Progress, Server, dict[str, Any]]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    async def run_one(*answers: Callable[[], httpx.Response], **options: Any) -> Any:
        source = tmp_path / "in.jsonl"
        source.write_text('{"model": "m", "messages": [], "max_tokens": 5}\n')
        server = Server(*answers)
        async with httpx.AsyncClient(transport=server) as client:
            progress = await bulk.run(
                source,
                scheduler=Scheduler("100/s", retry=Retry(attempts=2)),
                endpoint=ENDPOINT,
                client=client,
                options=RunOptions(**options),
            )
        assert progress.output is not None
        return progress, server, json.loads(progress.output.read_bytes())

    return run_one


async def test_an_answer_that_trickles_has_its_time_and_no_more(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trickle = streamed(Body(b" ", times=10_000, every=1.0))
    progress, server, row = await run(trickle, trickle, timeout=30, max_tokens=1000)
    assert (server.sent, progress.failed) == (2, {"timeout": 1})
    assert row["error"]["message"].startswith("the whole answer took more than 30 s (--timeout)")
    synced, sync = [], Journal.sync
    monkeypatch.setattr(Journal, "sync", lambda journal: synced.append(journal) or sync(journal))
    _, server, row = await run(trickle, overwrite=True)
    assert (server.sent, row["error"]) == (2, None)
    assert len(synced) <= 3  # each in a thread: not while nothing is written


async def test_a_stall_has_its_time(run: Run) -> None:
    stall = streamed(Body(b"{", times=2, every=1e6))
    progress, server, _ = await run(stall, timeout=5)
    assert (server.sent, progress.done) == (2, 1)


LARGE = {
    "plain": (Body(bytes(1000), times=100), {}),
    "gzip": (Body(gzip.compress(bytes(1 << 20))), {"content_encoding": "gzip"}),
    "deflate": (Body(zlib.compress(bytes(1 << 20))), {"content_encoding": "deflate"}),
    "zstd": (Body(zstandard.compress(bytes(64 << 20))), {"content_encoding": "zstd"}),
    "nested": (
        Body(gzip.compress(gzip.compress(bytes(1 << 20)))),
        {"content_encoding": "gzip, gzip"},
    ),
}


@pytest.mark.parametrize("kind", sorted(LARGE))
async def test_an_answer_that_is_too_large_is_a_row_and_not_sent_again(run: Run, kind: str) -> None:
    body, headers = LARGE[kind]
    progress, server, row = await run(
        streamed(body, content_type="application/json", **headers),
        max_answer=50_000,
        max_tokens=1000,
    )
    assert (server.sent, progress.failed) == (1, {"invalid_answer": 1})
    assert row["error"]["message"].startswith(
        "the answer is larger than 50,000 bytes. Allow more with --max-answer"
    )
    assert row["response"]["status_code"] == 200
    assert body.given <= 52_000
    assert progress.output is not None
    billed = progress.output.parent / "in.results.run" / "billed.jsonl"
    assert b'"written":5' in billed.read_bytes()  # nobody knows: what was reserved


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate", "gzip, gzip"])
async def test_a_compressed_answer_is_an_answer(run: Run, encoding: str) -> None:
    raw = ANSWER
    for name in encoding.split(", "):
        raw = {"gzip": gzip.compress, "zstd": zstandard.compress, "deflate": zlib.compress}[name](
            raw
        )
    progress, _, row = await run(streamed(Body(raw), content_encoding=encoding))
    assert (progress.done, row["response"]["body"]) == (1, json.loads(ANSWER))


async def test_an_answer_may_be_as_large_as_that(run: Run) -> None:
    progress, _, _ = await run(streamed(Body(ANSWER)), max_answer=len(ANSWER))
    assert progress.done == 1


async def test_an_answer_that_a_client_has_read_is_bounded_too(run: Run) -> None:
    progress, server, _ = await run(
        lambda: httpx.Response(200, content=bytes(1000)), max_answer=999
    )
    assert (server.sent, progress.failed) == (1, {"invalid_answer": 1})


@pytest.mark.parametrize("encoding", ["zstd", "gzip", ""])
async def test_a_refusal_that_is_a_bomb_is_a_refusal(run: Run, encoding: str) -> None:
    raw = {
        "zstd": zstandard.compress(bytes(depth(16, 64) << 20)),
        "gzip": b"no gzip",
        "": b"no gzip" * depth(1000, 1),
    }[encoding]
    body = Body(raw, times=1 if encoding else 1_000_000)
    refusal = streamed(body, 429, content_encoding=encoding, retry_after="1")
    progress, server, _ = await run(refusal)
    assert (server.sent, progress.done) == (2, 1)
    assert body.given <= 2 << 20


async def test_what_cannot_be_decoded_is_a_row(run: Run) -> None:
    progress, server, row = await run(streamed(Body(b"no gzip"), content_encoding="gzip"))
    assert (server.sent, progress.failed) == (1, {"invalid_answer": 1})
    assert row["error"]["message"].startswith("the answer cannot be decompressed: ")


async def test_a_usage_that_cannot_be_meant_is_told(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    usage = b'{"choices": [{"finish_reason": "stop"}], "usage": {"total_tokens": -11}}'
    with caplog.at_level(logging.WARNING, "headway"):
        _, _, row = await run(lambda: httpx.Response(200, content=usage))
    assert row["error"] is None
    assert "an answer says of its usage: total_tokens is -11" in caplog.text
