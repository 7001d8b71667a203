"""Bulk runs: real files, the real SDK, and llmock or a scripted transport as the server."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import SocketStream
from depth import depth
from llmock.pytest_plugin import LLMock

from headway import InvalidLimit, Retry, Scheduler, bulk
from headway.bulk.output.paths import default_output
from headway.bulk.record.status import Progress
from headway.bulk.record.trace import read_trace
from headway.events import Kind
from headway.prices import Price, Prices
from headway.providers import InvalidSettings

pytestmark = pytest.mark.anyio

# On trio, httpx leaves the body of a request that is cancelled while it is sent to the collector.
cancels_requests = pytest.mark.filterwarnings(
    "ignore:.*ByteStream.__aiter__:pytest.PytestUnraisableExceptionWarning"
)

ANSWER = b'{"id": "x", "usage": {"total_tokens": 11}, "n": 1.50}'


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Sockets know nothing of virtual time: these tests run on the real clock."""
    return request.param


@pytest.fixture
def server(llmock: LLMock, monkeypatch: pytest.MonkeyPatch) -> LLMock:
    monkeypatch.setenv("TOGETHER_API_KEY", "a-key")
    monkeypatch.setenv("TOGETHER_BASE_URL", llmock.url + "/together")
    return llmock


def make_scheduler(**options: Any) -> Scheduler:
    return Scheduler(**{"concurrency": 8, "retry": Retry(base=0.001), **options})


def scripted(handler: Callable[[httpx.Request], httpx.Response]) -> httpx.AsyncClient:
    """A client over a transport that answers by `handler`."""
    return httpx.AsyncClient(transport=httpx.MockTransport(handler))


SCRIPTED = bulk.Endpoint("custom", "http://test/v1", "a-key", "HEADWAY_API_KEY")


def chat(custom_id: str, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"question {custom_id}"}]
    return {"custom_id": custom_id, "body": {"model": "m", "messages": messages, **body}}


def write_lines(path: Path, *lines: dict[str, Any] | bytes) -> Path:
    texts = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    path.write_bytes(b"".join(text + b"\n" for text in texts))
    return path


def read_rows(path: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows)
    return by_id


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "in.jsonl", *(chat(f"q{number}") for number in range(20)))


async def test_limits_are_what_the_provider_means_however_it_is_named(tmp_path: Path) -> None:
    for name, url, window in (
        (None, "https://api.together.xyz/v1", 1.0),
        ("together", "http://gateway/v1", 1.0),
        (None, "http://gateway/v1", 60.0),
    ):
        scheduler = Scheduler("600/min")
        with pytest.raises(bulk.InvalidInput):
            await bulk.run(
                tmp_path / "none", tmp_path / "rows", scheduler=scheduler,
                endpoint=bulk.find_endpoint(name, url, "k"),
            )  # fmt: skip
        assert scheduler.statistics().limits[0].window == window


# -- a run -------------------------------------------------------------------------------------


async def test_every_line_gets_one_row(server: LLMock, source: Path) -> None:
    report = await bulk.run(source, scheduler=make_scheduler())
    rows = read_rows(source.with_name("in.results.jsonl"))
    assert {row["custom_id"] for row in rows.values()} == {f"q{number}" for number in range(20)}
    assert all(row["error"] is None for row in rows.values())
    assert all(row["response"]["status_code"] == 200 for row in rows.values())
    used = sum(row["response"]["body"]["usage"]["total_tokens"] for row in rows.values())
    assert (report.total, report.done, report.failed, report.rows) == (20, 20, {}, 20)
    assert (report.tokens, report.sent, report.remaining) == (used, 20, 0)
    assert report.stopped is None


async def test_a_quota_is_remembered_over_sessions(server: LLMock, source: Path) -> None:
    reports = [
        await bulk.run(source, scheduler=Scheduler(["7/day", "100/s"], concurrency=1))
        for _ in range(2)
    ]
    assert [report.done for report in reports] == [7, 7]
    assert [report.sent for report in reports] == [7, 0]
    for report in reports:
        assert report.stopped is not None
        assert re.match(
            "the quota of 7/day requests is spent, and has room again in", report.stopped.reason
        )


async def test_the_urls_reach_the_server(server: LLMock, tmp_path: Path) -> None:
    form = {"method": "POST", "url": "/v1/chat/completions"}
    embed = {"method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}}
    source = write_lines(tmp_path / "in.jsonl", {**chat("a"), **form}, {"custom_id": "b", **embed})
    scheduler = make_scheduler()
    endpoint = bulk.find_endpoint(base_url=server.url)
    report = await bulk.run(source, scheduler=scheduler, endpoint=endpoint)
    assert report.done == 2
    assert {request.path for request in server.requests} == {
        "/v1/chat/completions",
        "/v1/embeddings",
    }


async def test_bytes_pass_through_as_they_are(tmp_path: Path) -> None:
    body = b'{ "model":"m", "prompt" : "\\u00e9", "temperature": 1.0e-2 }'
    line = b'{"custom_id":"a","method":"POST","url":"/v1/completions","body":' + body + b"}"
    source = write_lines(tmp_path / "in.jsonl", line)
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, content=ANSWER, headers={"x-request-id": "req-1"})

    scheduler = make_scheduler()
    async with scripted(answer) as client:
        report = await bulk.run(source, scheduler=scheduler, client=client, endpoint=SCRIPTED)
    (request,) = sent
    assert (request.method, str(request.url)) == ("POST", "http://test/v1/completions")
    assert request.content == body
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == "Bearer a-key"
    assert ANSWER in report.output.read_bytes()
    assert read_rows(report.output)["batch_req_1"]["response"]["request_id"] == "req-1"
    assert report.tokens == 11


async def test_refusals_are_retried_by_the_scheduler_alone(server: LLMock, source: Path) -> None:
    server.rate_limit(times=2, retry_after=0.01)
    scheduler = make_scheduler(
        requests="1000/s", concurrency=2
    )  # where none is stated it is sought
    report = await bulk.run(source, scheduler=scheduler)
    assert (report.done, report.failed) == (20, {})
    assert sum(report.refused.values()) == 2
    assert report.sent == 22
    assert len(server.requests) == 22


async def test_a_bad_line_gets_a_row_and_the_rest_is_sent(server: LLMock, tmp_path: Path) -> None:
    long = {"custom_id": "long", "body": {"pad": "x" * 20_000_000}}
    source = write_lines(
        tmp_path / "in.jsonl", chat("a"), b"{oops", b"", long, chat("a"), chat("b")
    )
    report = await bulk.run(source, scheduler=make_scheduler())
    rows = read_rows(report.output)
    errors = {name: row["error"] and row["error"]["code"] for name, row in rows.items()}
    assert errors == {
        "batch_req_1": None,
        "batch_req_2": "invalid_json",
        "batch_req_4": "line_too_long",
        "batch_req_5": "duplicate_custom_id",
        "batch_req_6": None,
    }
    assert report.failed == {"invalid_json": 1, "line_too_long": 1, "duplicate_custom_id": 1}
    assert (report.total, report.done, report.remaining) == (5, 2, 0)
    assert rows["batch_req_5"]["error"]["message"] == (
        "line 5 has the custom_id 'a', which line 1 has too. Give each line one of its own"
    )


async def test_a_request_that_is_refused_for_good_keeps_the_answer(
    server: LLMock, source: Path
) -> None:
    server.fail(400, times=1, message="no such model")
    report = await bulk.run(source, scheduler=make_scheduler(concurrency=1))
    row = read_rows(report.output)["batch_req_1"]
    assert row["response"]["status_code"] == 400
    assert row["response"]["body"]["error"]["message"] == "no such model"
    assert row["error"] == {"code": "http_400", "message": "no such model"}
    assert (report.done, report.failed) == (19, {"http_400": 1})


async def test_an_answer_that_is_not_json_is_a_failure(source: Path) -> None:
    write_lines(source, *(chat(f"q{number}") for number in range(3)))
    scheduler = make_scheduler(retry=Retry(attempts=1))
    page = httpx.Response(200, html="<html>busy</html>")
    async with scripted(lambda request: page) as client:
        report = await bulk.run(source, scheduler=scheduler, client=client, endpoint=SCRIPTED)
    row = read_rows(report.output)["batch_req_1"]
    assert row["response"]["body"] == {"raw": "<html>busy</html>"}
    assert row["error"]["code"] == "invalid_answer"
    assert row["error"]["message"].startswith(
        "the answer is not JSON (text/html; charset=utf-8): '<html>busy</html>'. headway: tried"
    )
    assert report.failed == {"invalid_answer": 3}


async def test_a_beginning_without_hope_ends_the_run(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", *(chat(f"q{number}") for number in range(500)))
    refusal = httpx.Response(404, json={"error": {"message": "no such model"}})
    async with scripted(lambda request: refusal) as client:
        report = await bulk.run(
            source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED
        )
    assert report.stopped == bulk.Stop(
        None,
        "the first 20 requests all failed alike, and none was answered (http_404: no such model). "
        "Check the address, the names of the models and the lines, then run the rest, and those "
        "again with --retry-failed. Where they are meant to fail, go on with --keep-going",
    )
    assert 20 <= report.rows < 40


async def test_an_error_in_a_success_is_no_answer(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", *(chat(f"q{number}") for number in range(3)))
    answers = [
        {"error": {"message": "overloaded", "type": "overloaded_error"}},
        {"error": {"message": "no such model", "code": 404}},
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=answers.pop(0) if answers else {"id": "x"})

    scheduler = make_scheduler(concurrency=1)
    async with scripted(answer) as client:
        report = await bulk.run(source, scheduler=scheduler, client=client, endpoint=SCRIPTED)
    assert (report.done, report.failed) == (2, {"http_404": 1})
    assert report.refused[Kind.CAPACITY] == 1


async def test_what_was_refused_is_not_ambiguous(source: Path) -> None:
    """A run that is stopped while the server refuses has nothing in flight that was billed."""
    drain = anyio.Event()
    busy = True

    def answer(request: httpx.Request) -> httpx.Response:
        if busy:
            drain.set()
            return httpx.Response(503)
        return httpx.Response(200, content=ANSWER)

    async with scripted(answer) as client:
        options: Any = {"client": client, "endpoint": SCRIPTED}
        await bulk.run(source, scheduler=make_scheduler(), drain=drain, **options)
        busy = False
        report = await bulk.run(
            source,
            scheduler=make_scheduler(),
            **options,
            options=bulk.RunOptions(ambiguous="report"),
        )
    assert (report.done, report.failed) == (20, {})


async def test_an_input_that_grew_is_told(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        with source.open("ab") as file:
            file.write(b"{}\n")
        return httpx.Response(200, content=ANSWER)

    async with scripted(answer) as client:
        report = await bulk.run(
            source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED
        )
    assert report.done == report.total == 20
    assert "has grown by 60 bytes since the run began" in caplog.text


@pytest.mark.parametrize(
    ("error", "code"),
    [(httpx.ReadTimeout("slow"), "timeout"), (httpx.ConnectError("away"), "connection_error")],
)
async def test_what_fails_without_an_answer_has_a_code(
    error: Exception, code: str, source: Path
) -> None:
    def fail_the_first(request: httpx.Request) -> httpx.Response:
        if b"question q0" in request.content:
            raise error
        return httpx.Response(200, content=ANSWER)

    scheduler = make_scheduler(retry=Retry(attempts=1))
    async with scripted(fail_the_first) as client:
        report = await bulk.run(source, scheduler=scheduler, client=client, endpoint=SCRIPTED)
    row = read_rows(report.output)["batch_req_1"]
    assert row["response"] is None
    assert row["error"]["code"] == code
    assert report.failed == {code: 1}


async def test_a_report_names_the_last_fault(source: Path) -> None:
    answers = iter([httpx.ConnectError("away"), httpx.Response(500), httpx.Response(429)])

    def answer(request: httpx.Request) -> httpx.Response:
        answer = next(answers, httpx.Response(200, content=ANSWER))
        if isinstance(answer, Exception):
            raise answer
        return answer

    reports: list[Progress] = []
    scheduler = make_scheduler(requests="1000/s", concurrency=1)
    async with scripted(answer) as client:
        await bulk.run(
            source, scheduler=scheduler, client=client, endpoint=SCRIPTED, watch=reports.append
        )
    assert reports[0].fault is None
    assert reports[-1].fault == "http_500"
    assert reports[-1].refused[Kind.TRANSIENT] == 2
    assert reports[-1].done == 20


async def test_a_connection_fault_has_its_own_name(source: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away")

    scheduler = make_scheduler(retry=Retry(attempts=1, patience=0.01))
    async with scripted(answer) as client:
        report = await bulk.run(source, scheduler=scheduler, client=client, endpoint=SCRIPTED)
    assert report.fault == "ConnectError"


async def test_a_count_of_tokens_that_cannot_be_meant_is_a_row(
    server: LLMock, tmp_path: Path
) -> None:
    source = write_lines(tmp_path / "in.jsonl", chat("a", max_tokens=10**399), chat("b"))
    report = await bulk.run(source, scheduler=make_scheduler(tokens="1M/min"))
    assert (report.done, report.failed) == (1, {"invalid_max_tokens": 1})


async def test_a_device_holds_nothing_to_protect(server: LLMock, source: Path) -> None:
    report = await bulk.run(source, "/dev/null", scheduler=make_scheduler())
    assert report.done == 20
    assert report.output.is_char_device()


async def test_a_name_that_is_empty(server: LLMock, source: Path) -> None:
    with pytest.raises(bulk.InvalidInput, match="the input's name is empty"):
        await bulk.run("", scheduler=make_scheduler())
    with pytest.raises(bulk.InvalidOutput, match="the output's name is empty"):
        await bulk.run(source, "", scheduler=make_scheduler())


async def test_a_request_above_the_token_limit_is_a_row(server: LLMock, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", chat("a", max_tokens=2000), chat("b"))
    report = await bulk.run(source, scheduler=make_scheduler(tokens="1000/min"))
    assert read_rows(report.output)["batch_req_1"]["error"]["code"] == "never_fits"
    assert report.done == 1


async def test_the_file_is_not_read_ahead_of_what_is_answered(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", *(chat(str(number)) for number in range(400)))
    answered = 0
    ahead = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal answered, ahead
        number = int(json.loads(request.content)["messages"][0]["content"].split()[1])
        ahead = max(ahead, number - answered)
        answered += 1
        return httpx.Response(200, content=ANSWER)

    scheduler = make_scheduler(concurrency=4)
    async with scripted(answer) as client:  # type: ignore[arg-type]
        report = await bulk.run(source, scheduler=scheduler, client=client, endpoint=SCRIPTED)
    assert report.done == 400
    assert ahead < 100


# -- what ends a run ---------------------------------------------------------------------------


async def test_a_wrong_key_ends_the_run_at_once(server: LLMock, source: Path) -> None:
    server.fail(401, times=None, message="Invalid API key provided")
    report = await bulk.run(source, scheduler=make_scheduler(concurrency=2))
    assert report.stopped == bulk.Stop(
        Kind.AUTH,
        "the provider refuses the key (401: Invalid API key provided). "
        "Set TOGETHER_API_KEY to a valid one",
    )
    assert len(server.requests) <= 2
    assert (report.rows, report.remaining) == (0, 20)
    assert not report.output.exists()


async def test_an_empty_account_ends_the_run_and_keeps_what_is_done(source: Path) -> None:
    sent = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        if sent <= 5:
            return httpx.Response(200, content=ANSWER)
        return httpx.Response(402, json={"error": {"message": "credit limit exceeded"}})

    scheduler = make_scheduler(concurrency=1)
    async with scripted(answer) as client:
        report = await bulk.run(source, scheduler=scheduler, client=client, endpoint=SCRIPTED)
    assert report.stopped == bulk.Stop(
        Kind.QUOTA,
        "the account has no credit left (402: credit limit exceeded). Top it up, then run the rest",
    )
    assert sent == 6
    assert (report.done, report.remaining) == (5, 15)
    assert len(read_rows(report.output)) == 5


@cancels_requests
async def test_a_cancelled_run_tells_its_watch_how_far_it_is(server: LLMock, source: Path) -> None:
    reports: list[Progress] = []
    with anyio.CancelScope() as scope:

        def watch(report: Progress) -> None:
            reports.append(report)
            if len(reports) == 1:
                scope.cancel()

        await bulk.run(source, scheduler=make_scheduler(), watch=watch)
    assert scope.cancelled_caught
    assert len(reports) == 2
    assert not default_output(source).exists()


@cancels_requests
async def test_a_full_disk_ends_the_run_with_its_own_error(server: LLMock, source: Path) -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        await bulk.run(
            source, "/dev/full", scheduler=make_scheduler(), options=bulk.RunOptions(overwrite=True)
        )


@cancels_requests
async def test_a_row_that_does_not_fit_on_the_disk_is_cut_off(
    server: LLMock, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            await bulk.run(source, output, scheduler=make_scheduler())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 0 < len(read_rows(output)) < 20  # each of them whole


# -- what is refused before anything is sent ---------------------------------------------------


async def refused(source: Path, output: Path | None = None) -> str:
    with pytest.raises((bulk.InvalidInput, bulk.InvalidOutput, InvalidSettings)) as raised:
        await bulk.run(source, output, scheduler=make_scheduler())
    return str(raised.value)


async def test_inputs_that_cannot_be_read(server: LLMock, tmp_path: Path) -> None:
    missing = tmp_path / "missing.jsonl"
    assert await refused(missing) == f"{missing} does not exist. Fix: check the path"
    for path in (tmp_path, Path("/dev")):
        assert await refused(path) == f"{path} is a folder. Fix: give the path of a file"
    utf16 = tmp_path / "utf16.jsonl"
    utf16.write_text("{}", "utf-16-le")
    assert (await refused(utf16)).startswith(f"{utf16} is binary, or UTF-16 without a byte order")
    assert not server.requests
    assert not [name for name in os.listdir(tmp_path) if "results" in name]


async def test_outputs_that_cannot_be_written(server: LLMock, source: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    results.write_text("precious\n")
    assert await refused(source, results) == (
        f"{results} exists already, and no run that could be resumed has left it. "
        "Fix: move it away, or give another file with -o"
    )
    assert results.read_text() == "precious\n"
    nowhere = tmp_path / "no" / "out.jsonl"
    assert await refused(source, nowhere) == (
        f"cannot write {nowhere}: the folder {nowhere.parent} does not exist. "
        f"Fix: make it first: mkdir -p {nowhere.parent}"
    )
    long = tmp_path / ("x" * 300)
    assert await refused(source, long) == (
        f"cannot write {long}: File name too long. Fix: give another file with -o"
    )
    dangling = tmp_path / "link.jsonl"
    dangling.symlink_to("nothing.jsonl")
    with pytest.raises(bulk.InvalidOutput) as raised:
        await bulk.run(
            source, dangling, scheduler=make_scheduler(), options=bulk.RunOptions(overwrite=True)
        )
    assert str(raised.value) == (
        f"the output {dangling} is a link to nothing.jsonl, which does not exist. "
        "Fix: remove the link, or give another file with -o"
    )
    inside = source / "out.jsonl"
    assert await refused(source, inside) == (
        f"cannot write {inside}: Not a directory. Fix: give another file with -o"
    )
    assert not server.requests


@pytest.mark.parametrize("link", [os.symlink, os.link, None])
async def test_the_output_is_not_the_input(
    link: Callable[[Path, Path], None] | None, server: LLMock, source: Path, tmp_path: Path
) -> None:
    output = source
    if link is not None:
        output = tmp_path / "link.jsonl"
        link(source, output)
    with pytest.raises(bulk.InvalidOutput) as raised:
        await bulk.run(
            source, output, scheduler=make_scheduler(), options=bulk.RunOptions(overwrite=True)
        )
    assert str(raised.value) == (
        f"the output {output} is the input itself, which would be lost. Fix: give another file "
        f"with -o"
    )
    with source.open("rb") as kept:
        assert len(kept.readlines()) == 20


async def test_overwrite_replaces_a_run_once_there_is_a_row(
    server: LLMock, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    await bulk.run(source, output, scheduler=make_scheduler())
    before = output.read_bytes()
    write_lines(source, *(chat(f"new{number}") for number in range(20)))
    server.fail(401, times=1)
    await bulk.run(
        source,
        output,
        scheduler=make_scheduler(concurrency=1),
        options=bulk.RunOptions(overwrite=True),
    )
    assert output.read_bytes() == before
    await bulk.run(
        source, output, scheduler=make_scheduler(), options=bulk.RunOptions(overwrite=True)
    )
    assert {row["custom_id"] for row in read_rows(output).values()} == {
        f"new{number}" for number in range(20)
    }


@pytest.mark.parametrize("key", [None, "", "  "])
async def test_a_missing_key_is_found_before_anything_is_sent(
    key: str | None, server: LLMock, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key is None:
        monkeypatch.delenv("TOGETHER_API_KEY")
    else:
        monkeypatch.setenv("TOGETHER_API_KEY", key)
    assert await refused(source) == (
        "no API key. Fix: set it first: export TOGETHER_API_KEY=… "
        "(https://api.together.ai/settings/api-keys)"
    )
    assert not server.requests


@pytest.mark.parametrize("key", ["a key", "key\n", "k\u00e9y", "key\t"])
async def test_a_key_that_no_header_can_carry(
    key: str, server: LLMock, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", key)
    assert await refused(source) == (
        "the API key in TOGETHER_API_KEY holds a space, a line break or another character that "
        "a key cannot have. Fix: copy it again, without what stands around it"
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "localhost:8000",
            "TOGETHER_BASE_URL='localhost:8000' is not a web address. "
            "Fix: use one like https://api.together.ai, or unset it",
        ),
        (
            "http://localhost:8000/together/v1/",
            "TOGETHER_BASE_URL='http://localhost:8000/together/v1/' ends in /v1, which the SDK "
            "adds by itself. Fix: use http://localhost:8000/together",
        ),
    ],
)
async def test_an_address_that_the_sdk_cannot_use(
    url: str, message: str, server: LLMock, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_BASE_URL", url)
    assert await refused(source) == message


# -- draining ----------------------------------------------------------------------------------


def question(request: httpx.Request) -> str:
    """The custom_id of the line that `request` was made of."""
    return str(json.loads(request.content)["messages"][0]["content"]).split()[1]


async def test_a_drain_keeps_what_is_in_flight_and_sends_nothing_more(source: Path) -> None:
    drain, all_here, release = anyio.Event(), anyio.Event(), anyio.Event()
    asked: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(question(request))
        if len(asked) == 8:
            all_here.set()
        await release.wait()
        if asked.index(question(request)) == 3:
            return httpx.Response(400, json={"error": {"message": "no"}})
        return httpx.Response(200, content=ANSWER)

    async def end() -> None:
        await all_here.wait()
        drain.set()
        await anyio.wait_all_tasks_blocked()
        release.set()  # all of them answer in one turn of the loop

    with anyio.fail_after(20):
        async with scripted(answer) as client, anyio.create_task_group() as group:  # type: ignore[arg-type]
            group.start_soon(end)
            report = await bulk.run(
                source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED, drain=drain
            )
    assert len(asked) == 8
    assert (report.done, report.failed, report.remaining) == (7, {"http_400": 1}, 12)
    assert (report.tokens, report.stopped, report.in_flight) == (77, None, 0)
    assert len(read_rows(report.output)) == 8
    again = await finish(source)
    assert again.asked == 12
    assert again.report.before == 8


@pytest.mark.parametrize(
    ("status", "options"),
    [
        (429, {}),  # the gate is closed for an hour
        (200, {"tokens": "60/min"}),  # all of it is used: they wait for more
        (200, {"requests": "1/day"}),
    ],
)
async def test_a_drain_ends_at_once_where_nothing_may_be_sent(
    status: int, options: dict[str, str], source: Path
) -> None:
    drain = anyio.Event()
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        drain.set()
        return httpx.Response(
            status, content=b'{"usage":{"total_tokens":60}}', headers={"retry-after": "3600"}
        )

    options = dict(options)
    rate = options.pop("requests", None)
    scheduler = Scheduler(rate, concurrency=1, retry=Retry(base=0.001, patience=9000), **options)
    with anyio.fail_after(20):
        async with scripted(answer) as client:
            report = await bulk.run(
                source, scheduler=scheduler, client=client, endpoint=SCRIPTED, drain=drain
            )
    assert asked == 1
    assert report.remaining == (20 if status == 429 else 19)


class Late(anyio.Event):
    """An event that is set at once, and of which those who wait are not told, as on a busy loop."""

    def __new__(cls) -> Late:
        return object.__new__(cls)

    def __init__(self) -> None:
        self._set = False
        self.told = anyio.Event()

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set

    async def wait(self) -> None:
        await self.told.wait()


async def test_a_drain_sends_nothing_a_second_time(source: Path) -> None:
    drain, asked = Late(), list[str]()

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(question(request))
        if len(asked) == 2:
            drain.set()
            return httpx.Response(429, headers={"retry-after": "0"})
        with anyio.move_on_after(0.3):  # in which the other would be tried again
            await drain.told.wait()
        return httpx.Response(200, content=ANSWER)

    def watch(progress: Progress) -> None:
        if progress.done:
            drain.told.set()

    with anyio.fail_after(20):
        async with scripted(answer) as client:  # type: ignore[arg-type]
            report = await bulk.run(
                source, scheduler=make_scheduler(concurrency=2), client=client, endpoint=SCRIPTED,
                drain=drain, watch=watch,
            )  # fmt: skip
    assert asked == ["q0", "q1"]
    assert (report.done, report.failed, report.remaining) == (1, {}, 19)


async def test_a_drain_before_anything_was_sent(source: Path) -> None:
    drain = anyio.Event()
    drain.set()
    async with scripted(lambda request: httpx.Response(500)) as client:
        report = await bulk.run(
            source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED, drain=drain
        )
    assert (report.sent, report.remaining) == (0, 20)
    assert os.listdir(source.parent) == ["in.jsonl"]


# -- resuming ----------------------------------------------------------------------------------


@dataclass
class Finished:
    report: Progress
    asked: int


async def finish(source: Path, **options: Any) -> Finished:
    """Run the rest of `source` against a server that answers, and check that nothing is amiss."""
    output = default_output(source)
    rows = read_rows(output).values() if output.exists() else ()
    there = {row["custom_id"] for row in rows if row["error"] is None}
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(question(request))
        return httpx.Response(200, content=ANSWER)

    async with scripted(answer) as client:
        report = await bulk.run(
            source,
            scheduler=make_scheduler(),
            client=client,
            endpoint=SCRIPTED,
            options=bulk.RunOptions(**options),
        )
    assert (report.remaining, report.stopped) == (0, None)
    assert len(set(asked)) == len(asked)
    assert not there & set(asked)  # what has its row is not sent again
    ids = [row["custom_id"] for row in read_rows(output).values()]
    assert sorted(ids) == sorted(f"q{number}" for number in range(len(ids)))
    assert len(ids) == report.total
    return Finished(report, len(asked))


@cancels_requests
@pytest.mark.parametrize("moment", [*range(1, 30, 3), 50, 63])
async def test_a_cancellation_at_any_moment_loses_nothing(
    moment: int, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moment is a write to the disk, of a mark or of a row, or a request on its way."""
    real, left = os.write, moment
    scope = anyio.CancelScope()
    answered: set[str] = set()

    def count() -> None:
        nonlocal left
        left -= 1
        if not left:
            scope.cancel()

    def write(fd: int, data: bytes) -> int:
        count()
        return real(fd, data)

    async def answer(request: httpx.Request) -> httpx.Response:
        count()
        await anyio.lowlevel.checkpoint()
        answered.add(question(request))
        return httpx.Response(200, content=ANSWER)

    with monkeypatch.context() as patch, scope:
        patch.setattr(os, "write", write)
        async with scripted(answer) as client:  # type: ignore[arg-type]
            await bulk.run(source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED)
    again = await finish(source)
    assert again.report.before == 20 - again.asked
    assert again.report.before >= len(answered) - 8  # in flight at most, in the way of their row


@cancels_requests
@pytest.mark.parametrize("nth", [*range(1, 12), *range(12, 44, 4)])
async def test_a_disk_that_fills_up_loses_nothing(
    nth: int, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.write, nth

    def write(fd: int, data: bytes) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if not left:
            return real(fd, data[: len(data) // 2])  # a part of it has room
        return real(fd, data)

    def answer(request: httpx.Request) -> httpx.Response:
        if question(request) in ("q2", "q11"):
            return httpx.Response(400)
        return httpx.Response(200, content=ANSWER)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        async with scripted(answer) as client:
            with pytest.raises(OSError, match="No space left on device"):
                await bulk.run(source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED)
    output = default_output(source)
    assert not output.exists() or output.read_bytes()[-1:] in (b"", b"\n")  # whole rows
    again = await finish(source, retry_failed=True)
    assert again.report.done == 20
    assert not output.with_name("in.results.errors.jsonl").exists()


async def test_a_disk_that_cannot_be_synced_ends_the_run(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def answer(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(600 if question(request) == "q9" else 0)
        return httpx.Response(200, content=ANSWER)

    with monkeypatch.context() as patch:
        patch.setattr("headway.bulk.output.paths._sync", sync)
        patch.setattr(import_module("headway.bulk.run"), "_FAILING_DISK", 0.1)
        async with scripted(answer) as client:  # type: ignore[arg-type]
            with pytest.raises(OSError, match="Input/output error"), anyio.fail_after(20):
                await bulk.run(source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED)
    await finish(source)


async def test_an_error_of_the_watch_is_itself(source: Path) -> None:
    first = True

    def watch(report: Progress) -> None:
        nonlocal first
        if first:
            first = False
            raise BrokenPipeError("nobody looks")

    async with scripted(lambda request: httpx.Response(200, content=ANSWER)) as client:
        with pytest.raises(BrokenPipeError, match="nobody looks"):
            await bulk.run(
                source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED, watch=watch
            )
    await finish(source)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (httpx.Response(401), Kind.AUTH),
        (httpx.Response(402), Kind.QUOTA),
        (httpx.ConnectError("away"), Kind.TRANSIENT),
        (httpx.Response(429, headers={"retry-after": "3600"}), Kind.TRANSIENT),
    ],
)
async def test_what_ends_a_run_leaves_the_rest_to_the_next(
    failure: httpx.Response | Exception, kind: Kind, source: Path
) -> None:
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked <= 6:
            return httpx.Response(200, content=ANSWER)
        if isinstance(failure, Exception):
            raise failure
        return httpx.Response(failure.status_code, headers=failure.headers)

    scheduler = make_scheduler(concurrency=4, retry=Retry(base=0.001, patience=0.05))
    with anyio.fail_after(30):
        async with scripted(answer) as client:
            report = await bulk.run(source, scheduler=scheduler, client=client, endpoint=SCRIPTED)
    assert report.stopped is not None
    assert report.stopped.kind is kind
    assert (report.done, report.failed, report.remaining) == (6, {}, 14)
    again = await finish(source)
    assert again.asked == 14


async def test_two_runs_of_one_process_one_after_the_other(source: Path) -> None:
    assert (await finish(source, limit=7)).asked == 7
    assert (await finish(source)).asked == 13
    assert (await finish(source)).asked == 0


# -- order and bounds --------------------------------------------------------------------------


async def test_in_the_order_of_the_input_whatever_comes_first(source: Path) -> None:
    """Each answer waits for that of the line after it, in groups of eight."""
    answered = [anyio.Event() for _ in range(21)]

    async def answer(request: httpx.Request) -> httpx.Response:
        number = int(question(request)[1:])
        if number % 8 != 7 and number != 19:
            await answered[number + 1].wait()
        answered[number].set()
        return httpx.Response(200, content=ANSWER)

    with anyio.fail_after(20):
        async with scripted(answer) as client:  # type: ignore[arg-type]
            report = await bulk.run(
                source,
                scheduler=make_scheduler(),
                client=client,
                endpoint=SCRIPTED,
                options=bulk.RunOptions(ordered=True),
            )
    spool = report.output.with_name("in.results.run") / "rows"
    expected = [f"batch_req_{number}" for number in range(1, 21)]
    assert list(read_rows(spool)) != expected
    assert list(read_rows(report.output)) == expected


@pytest.mark.parametrize("bound", [{"max_tokens": 500}, {"max_cost": 0.0005}])
async def test_a_bound_is_never_passed(bound: dict[str, Any], source: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        usage = {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60}
        return httpx.Response(200, json={"model": "m", "usage": usage})

    prices = Prices({"m": Price(1.0, 1.0)})  # dollars per million tokens: 60 µ$ an answer
    lines = (chat(f"q{number}", max_tokens=40) for number in range(20))
    write_lines(source, *lines)
    options = bulk.RunOptions(prices=prices, **bound)
    spent = 0
    async with scripted(answer) as client:
        report = await bulk.run(
            source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED, options=options
        )
        spent = report.tokens
        assert report.stopped is not None
        assert report.stopped.kind is None
        assert 5 <= report.done <= 8
        assert spent == 60 * report.done <= 500
        again = await bulk.run(
            source, scheduler=make_scheduler(), client=client, endpoint=SCRIPTED, options=options
        )
    assert (again.sent, again.remaining) == (0, report.remaining)
    await finish(source)


# -- servers that misbehave --------------------------------------------------------------------


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


# -- lines that misbehave ----------------------------------------------------------------------


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


# -- the client --------------------------------------------------------------------------------


def test_a_limit_that_cannot_be_meant_is_the_schedulers_error() -> None:
    with pytest.raises(InvalidLimit):
        make_scheduler(concurrency=0)
