"""Bulk runs: real files, the real SDK, and llmock or a scripted transport as the server."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import together
from llmock.pytest_plugin import LLMock

import headway.together
from headway import InvalidLimit, Retry, Scheduler, bulk
from headway.bulk.output import default_output
from headway.bulk.run import Report
from headway.events import Kind
from headway.together import InvalidSettings

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


def scripted(
    scheduler: Scheduler, handler: Callable[[httpx.Request], httpx.Response]
) -> together.AsyncTogether:
    """A client of the real SDK over a transport that answers by `handler`."""
    return headway.together.client(
        scheduler,
        api_key="a-key",
        base_url="http://test",
        http_client=httpx.AsyncClient(transport=httpx.MockTransport(handler)),
    )


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


async def test_both_forms_and_the_urls_reach_the_server(server: LLMock, tmp_path: Path) -> None:
    embed = {"method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}}
    source = write_lines(tmp_path / "in.jsonl", chat("a"), {"custom_id": "b", **embed})
    scheduler = make_scheduler()
    async with headway.together.client(scheduler, base_url=server.url) as client:
        report = await bulk.run(source, scheduler=scheduler, client=client)
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
    async with scripted(scheduler, answer) as client:
        report = await bulk.run(source, scheduler=scheduler, client=client)
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
    report = await bulk.run(source, scheduler=make_scheduler(concurrency=2))
    assert (report.done, report.failed) == (20, {})
    assert sum(report.refused.values()) == 2
    assert report.sent == 22
    assert {request.sdk_retry_count for request in server.requests} == {0}


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
    scheduler = make_scheduler()
    page = httpx.Response(200, html="<html>busy</html>")
    async with scripted(scheduler, lambda request: page) as client:
        report = await bulk.run(source, scheduler=scheduler, client=client)
    row = read_rows(report.output)["batch_req_1"]
    assert row["response"]["body"] == "<html>busy</html>"
    assert row["error"] == {
        "code": "invalid_answer",
        "message": "the answer is not JSON (text/html; charset=utf-8): '<html>busy</html>'",
    }
    assert report.failed == {"invalid_answer": 20}


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
    async with scripted(scheduler, fail_the_first) as client:
        report = await bulk.run(source, scheduler=scheduler, client=client)
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

    reports: list[Report] = []
    scheduler = make_scheduler(concurrency=1)
    async with scripted(scheduler, answer) as client:
        await bulk.run(source, scheduler=scheduler, client=client, watch=reports.append)
    assert reports[0].fault is None
    assert reports[-1].fault == "http_500"
    assert reports[-1].refused[Kind.TRANSIENT] == 2
    assert reports[-1].done == 20


async def test_a_connection_fault_has_its_own_name(source: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away")

    scheduler = make_scheduler(retry=Retry(attempts=1, patience=0.01))
    async with scripted(scheduler, answer) as client:
        report = await bulk.run(source, scheduler=scheduler, client=client)
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
    source = write_lines(tmp_path / "in.jsonl", *(chat(str(number)) for number in range(2000)))
    answered = 0
    ahead = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal answered, ahead
        number = int(json.loads(request.content)["messages"][0]["content"].split()[1])
        ahead = max(ahead, number - answered)
        answered += 1
        return httpx.Response(200, content=ANSWER)

    scheduler = make_scheduler(concurrency=4)
    async with scripted(scheduler, answer) as client:  # type: ignore[arg-type]
        report = await bulk.run(source, scheduler=scheduler, client=client)
    assert report.done == 2000
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
    async with scripted(scheduler, answer) as client:
        report = await bulk.run(source, scheduler=scheduler, client=client)
    assert report.stopped == bulk.Stop(
        Kind.QUOTA,
        "the account has no credit left (402: credit limit exceeded). Top it up, then run the rest",
    )
    assert sent == 6
    assert (report.done, report.remaining) == (5, 15)
    assert len(read_rows(report.output)) == 5


@cancels_requests
async def test_a_cancelled_run_tells_its_watch_how_far_it_is(server: LLMock, source: Path) -> None:
    reports: list[Report] = []
    with anyio.CancelScope() as scope:

        def watch(report: Report) -> None:
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
        await bulk.run(source, "/dev/full", scheduler=make_scheduler(), overwrite=True)


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
    assert await refused(missing) == f"{missing} does not exist. Check the path"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, Path(), Path("/dev/null"), pipe):
        assert await refused(path) == (
            f"{path} is not a regular file. Write the requests to a file first"
        )
    utf16 = tmp_path / "utf16.jsonl"
    utf16.write_text("{}", "utf-16")
    assert (await refused(utf16)).startswith(f"{utf16} is UTF-16, not UTF-8 text.")
    assert not server.requests
    assert not [name for name in os.listdir(tmp_path) if "results" in name]


async def test_outputs_that_cannot_be_written(server: LLMock, source: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    results.write_text("precious\n")
    assert await refused(source, results) == (
        f"{results} exists already, and may hold results. "
        "Give another file with -o, or replace it with --overwrite"
    )
    assert results.read_text() == "precious\n"
    nowhere = tmp_path / "no" / "out.jsonl"
    assert await refused(source, nowhere) == (
        f"cannot write {nowhere}: the folder {nowhere.parent} does not exist. "
        f"Make it first: mkdir -p {nowhere.parent}"
    )
    long = tmp_path / ("x" * 300)
    assert await refused(source, long) == (
        f"cannot write {long}: File name too long. Give another file with -o"
    )
    dangling = tmp_path / "link.jsonl"
    dangling.symlink_to("nothing.jsonl")
    with pytest.raises(bulk.InvalidOutput) as raised:
        await bulk.run(source, dangling, scheduler=make_scheduler(), overwrite=True)
    assert str(raised.value) == (
        f"the output {dangling} is a link to nothing.jsonl, which does not exist. "
        "Remove the link, or give another file with -o"
    )
    inside = source / "out.jsonl"
    assert await refused(source, inside) == (
        f"cannot write {inside}: Not a directory. Give another file with -o"
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
        await bulk.run(source, output, scheduler=make_scheduler(), overwrite=True)
    assert str(raised.value) == (
        f"the output {output} is the input itself, which would be lost. Give another file with -o"
    )
    with source.open("rb") as kept:
        assert len(kept.readlines()) == 20


async def test_overwrite_replaces_a_file_once_there_is_a_row(
    server: LLMock, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("precious\n")
    server.fail(401, times=1)
    await bulk.run(source, output, scheduler=make_scheduler(concurrency=1), overwrite=True)
    assert output.read_text() == "precious\n"
    await bulk.run(source, output, scheduler=make_scheduler(), overwrite=True)
    assert len(read_rows(output)) == 20


@pytest.mark.parametrize("key", [None, "", "  "])
async def test_a_missing_key_is_found_before_anything_is_sent(
    key: str | None, server: LLMock, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key is None:
        monkeypatch.delenv("TOGETHER_API_KEY")
    else:
        monkeypatch.setenv("TOGETHER_API_KEY", key)
    assert await refused(source) == (
        "no API key. Set it first: export TOGETHER_API_KEY=… "
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
        "a key cannot have. Copy it again, without what stands around it"
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "localhost:8000",
            "TOGETHER_BASE_URL='localhost:8000' is not a web address. "
            "Use one like https://api.together.ai, or unset it",
        ),
        (
            "http://localhost:8000/together/v1/",
            "TOGETHER_BASE_URL='http://localhost:8000/together/v1/' ends in /v1, which the SDK "
            "adds by itself. Use http://localhost:8000/together",
        ),
    ],
)
async def test_an_address_that_the_sdk_cannot_use(
    url: str, message: str, server: LLMock, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_BASE_URL", url)
    assert await refused(source) == message


# -- the client --------------------------------------------------------------------------------


def test_a_limit_that_cannot_be_meant_is_the_schedulers_error() -> None:
    with pytest.raises(InvalidLimit):
        make_scheduler(concurrency=0)
