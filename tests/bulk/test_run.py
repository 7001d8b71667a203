"""Bulk runs: real files, the real SDK, and llmock or a scripted transport as the server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from bulk_runs import (
    ANSWER,
    SCRIPTED,
    chat,
    finish,
    make_scheduler,
    question,
    read_rows,
    scripted,
    write_lines,
)
from llmock.pytest_plugin import LLMock

from headway import InvalidLimit, Retry, Scheduler, bulk
from headway.bulk.record.status import Progress
from headway.events import Kind
from headway.prices import Price, Prices

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]  # sockets know no virtual time


# -- a run --------------------------------------------------------------------------------------


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


# -- order and bounds ---------------------------------------------------------------------------


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


# -- the client ---------------------------------------------------------------------------------


def test_a_limit_that_cannot_be_meant_is_the_schedulers_error() -> None:
    with pytest.raises(InvalidLimit):
        make_scheduler(concurrency=0)
