"""Servers and lines that misbehave: each line has its row nevertheless."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import SocketStream
from bulk_runs import (
    ANSWER,
    SCRIPTED,
    chat,
    make_scheduler,
    read_rows,
    scripted,
    write_lines,
)
from depth import depth

from headway import bulk
from headway.bulk.record.status import Progress
from headway.bulk.record.trace import read_trace

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]  # sockets know no virtual time


# -- servers that misbehave ---------------------------------------------------------------------


class RawServer:
    """Answers each request with what `replies` yields: bytes as they are, None for nothing."""

    def __init__(self, *replies: bytes | None) -> None:
        self.replies = iter(replies)
        self.asked = 0

    async def _serve(self, stream: SocketStream) -> None:
        async with stream:
            received = b""
            try:
                while b"\r\n\r\n" not in received:
                    received += await stream.receive()
                head, _, body = received.partition(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length:")[1].split()[0])
                while len(body) < size:
                    body += await stream.receive()
                self.asked += 1
                reply = next(self.replies, GOOD)
                if reply is None:
                    await stream.receive()  # until the client goes away
                else:
                    await stream.send(reply)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass

    async def run(
        self, source: Path, *, timeout: float = 30, **options: Any
    ) -> tuple[Progress, dict[str, dict[str, Any]]]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        endpoint = bulk.Endpoint("custom", f"http://127.0.0.1:{port}/v1", None, "HEADWAY_API_KEY")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, self._serve)
            async with httpx.AsyncClient(timeout=timeout) as client:
                report = await bulk.run(
                    source, scheduler=make_scheduler(concurrency=1, **options), client=client,
                    endpoint=endpoint,
                )  # fmt: skip
            group.cancel_scope.cancel()
        assert report.output is not None
        return report, read_rows(report.output)


def reply(body: bytes, *, length: int | None = None, kind: str = "application/json") -> bytes:
    size = len(body) if length is None else length
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + body


GOOD = reply(ANSWER)


@pytest.mark.parametrize(
    "bad",
    [
        b"garbage\r\n\r\n",
        b"",  # the connection is closed without a word
        None,  # nothing, for longer than the client waits
        reply(ANSWER, length=len(ANSWER) + 10),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
        reply(b"", kind="text/plain"),
        reply(b"<html>busy</html>", kind="text/html"),
        b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_tried_again(bad: bytes | None, source: Path) -> None:
    write_lines(source, *(chat(f"q{number}") for number in range(3)))
    server = RawServer(GOOD, bad)
    report, rows = await server.run(source, timeout=0.3 if bad is None else 30)
    assert (report.done, report.failed, server.asked) == (3, {}, 4)
    assert all(row["response"]["body"]["id"] == "x" for row in rows.values())
    assert report.fault is not None


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        (
            reply(b'{"a":"\xff\xfe"}'),
            'the answer is not JSON (application/json): \'{"a":"\ufffd\ufffd"}\'',
        ),
        (reply(b'{"usage":'), "the answer is not JSON (application/json): '{\"usage\":'"),
        (reply(ANSWER, length=20), "the answer is not JSON (application/json): "),
        (reply(b"[" * 100_000), "the answer is not JSON (application/json): '[["),
    ],
)
async def test_a_success_that_is_no_json_is_a_row(bad: bytes, shown: str, source: Path) -> None:
    """It was billed: to ask again would bill it again."""
    write_lines(source, *(chat(f"q{number}") for number in range(3)))
    server = RawServer(GOOD, bad)
    report, rows = await server.run(source)
    assert (report.done, report.failed, server.asked) == (2, {"invalid_answer": 1}, 3)
    assert rows["batch_req_2"]["error"]["message"].startswith(shown)


@pytest.mark.parametrize(
    "usage",
    [
        b'"usage": 5',
        b'"usage": {"total_tokens": -5, "prompt_tokens": "many"}',
        b'"usage": {"completion_tokens": true}',
        b'"usage": {"prompt_tokens_details": 7, "total_tokens": 10000000000000000000000}',
        b'"usage": null',
    ],
)
async def test_an_answer_whose_usage_is_nonsense_is_an_answer(usage: bytes, source: Path) -> None:
    write_lines(source, chat("q0"))
    report, rows = await RawServer(reply(b"{" + usage + b"}")).run(source, tokens="1M/min")
    assert (report.done, report.failed, report.tokens) == (1, {}, 0)
    assert rows["batch_req_1"]["error"] is None


async def test_an_answer_of_20_mb_on_many_lines_is_one_row(source: Path) -> None:
    write_lines(source, chat("q0"), chat("q1"))
    huge = b'{"text":\r\n"' + b"x" * 20_000_000 + b'",\n"usage": {"total_tokens": 3}}'
    report, rows = await RawServer(reply(huge)).run(source)
    assert (report.done, report.tokens) == (2, 14)
    assert len(rows["batch_req_1"]["response"]["body"]["text"]) == 20_000_000


# -- lines that misbehave -----------------------------------------------------------------------


async def test_lines_of_every_kind_of_nonsense_get_their_row(source: Path) -> None:
    body = b'"body": {"model": "m", "messages": []}}'
    write_lines(
        source,
        b'{"custom_id": "a\x00b", ' + body,
        b"\x00" * 40,
        b'{"custom_id": "\\ud800", ' + body,
        b'{"custom_id": "\xed\xa0\x80", ' + body,
        b'{"custom_id": "\\ud83d\\ude00", ' + body,
        b'{"custom_id": "\\u0000", ' + body,
        b"[" * 50_000,
        b"\xff" * 40,
        b'{"custom_id": "ok", ' + body,
    )
    sent: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return httpx.Response(200, content=ANSWER)

    async with scripted(answer) as client:
        report = await bulk.run(
            source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED
        )
    rows = read_rows(report.output)
    assert len(rows) == 9
    codes = [
        row["error"] and row["error"]["code"]
        for _, row in sorted(rows.items(), key=lambda item: item[0])
    ]
    assert codes == [
        "invalid_json", "invalid_json", "invalid_json", "not_utf8", None, None, "invalid_line",
        "not_utf8", None,
    ]  # fmt: skip
    assert {row["custom_id"] for row in rows.values()} == {None, "\U0001f600", "\0", "ok"}
    assert len(sent) == 3


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_line_of_200_mb_costs_its_limit(source: Path) -> None:
    with source.open("wb") as file:
        file.write(json.dumps(chat("q0")).encode() + b'\n{"custom_id": "')
        file.seek(200_000_000, os.SEEK_CUR)  # a hole: it is read as NUL bytes
        file.write(b"\n" + json.dumps(chat("q2")).encode())
    async with scripted(lambda request: httpx.Response(200, content=ANSWER)) as client:
        tracemalloc.start()
        try:
            report = await bulk.run(
                source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED
            )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (report.done, report.failed) == (2, {"line_too_long": 1})
    assert peak < 60_000_000


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_thousands_of_models(source: Path) -> None:
    count = depth(1_000, 4_000)
    lines = (chat(f"q{number}") for number in range(count))
    write_lines(
        source, *({**x, "body": {**x["body"], "model": f"m{n}"}} for n, x in enumerate(lines))
    )
    async with scripted(lambda request: httpx.Response(200, content=ANSWER)) as client:
        report = await bulk.run(
            source, scheduler=make_scheduler(concurrency=64), client=client, endpoint=SCRIPTED
        )
    assert report.done == count
    trace_file = report.output.with_name("in.results.run") / "trace.jsonl"
    assert max(map(len, trace_file.read_bytes().splitlines())) < 200 * count
    models = read_trace(trace_file).models
    assert sum(use.rows for use in models.values()) == count
    assert sum(use.input + use.output for use in models.values()) == 11 * count


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0, 3e7, -3e7])
async def test_a_clock_that_jumps_harms_neither_record_nor_eta(
    jump: float, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, answered = time.time, 0
    monkeypatch.setattr(time, "time", lambda: real() + (jump if answered >= 5 else 0.0))

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal answered
        answered += 1
        await anyio.sleep(0.05)
        return httpx.Response(200, content=ANSWER)

    reports: list[Progress] = []
    with anyio.fail_after(30):
        async with scripted(answer) as client:  # type: ignore[arg-type]
            report = await bulk.run(
                source, scheduler=make_scheduler(concurrency=2), client=client, endpoint=SCRIPTED,
                watch=reports.append,
            )  # fmt: skip
    assert (report.done, report.remaining) == (20, 0)
    assert all(each.eta is None or 0 <= each.eta < 60 for each in reports)
    assert 0 < report.seconds < 60
    trace = read_trace(report.output.with_name("in.results.run") / "trace.jsonl")
    assert trace.ignored == 0
    assert trace.sum("done") == 20
    assert all(sample.span >= 0 for sample in trace.samples)
    assert sum(trace.count("binds").values()) <= trace.sum("span") + 0.01
    (session,) = trace.sessions
    assert session.end is not None
    assert session.end.reason == "done"
