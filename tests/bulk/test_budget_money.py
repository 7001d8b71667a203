"""The bounds of money and tokens hold, whatever comes back; and what is no answer is no answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from headway import Retry, Scheduler, bulk
from headway.bulk.record.status import Progress
from headway.bulk.record.trace import read_trace
from headway.bulk.report.page import write_report
from headway.cli.display.live import as_json, summary
from headway.events import Kind
from headway.prices import Price, Prices

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]  # what waits here is real

ENDPOINT = bulk.Endpoint("custom", "http://test/v1", "a-key", "HEADWAY_API_KEY")
PRICES = Prices({"m": Price(1.0, 1.0)})  # a dollar for a million tokens, read or written
Handler = Callable[[httpx.Request], httpx.Response]


def lines_of(path: Path, *bodies: dict[str, Any], url: str = "/v1/chat/completions") -> Path:
    texts = (
        json.dumps({"custom_id": f"q{n}", "method": "POST", "url": url, "body": body})
        for n, body in enumerate(bodies)
    )
    path.write_text("".join(text + "\n" for text in texts))
    return path


def chats(path: Path, count: int, **options: Any) -> Path:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 40}
    return lines_of(path, *[{**body, **options}] * count)


async def run(source: Path, answer: Handler, **options: Any) -> Progress:
    # A rate that is stated: after a refusal nothing is sent for two intervals of it.
    scheduler: Scheduler = Scheduler(
        "60k/min", concurrency=options.pop("concurrency", 8), retry=Retry(base=0.001)
    )
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        return await bulk.run(
            source,
            scheduler=scheduler,
            client=client,
            endpoint=ENDPOINT,
            options=bulk.RunOptions(prices=PRICES, **options),
        )


def rows_of(report: Progress) -> list[dict[str, Any]]:
    assert report.output is not None
    return [json.loads(line) for line in report.output.read_bytes().splitlines()]


class Server:
    """Answers with `usage`, and adds up what it bills."""

    def __init__(self, used: int, usage: dict[str, Any] | None, **body: Any) -> None:
        self.used = used
        self.billed = 0
        self.body = {"model": "m", "choices": [{"text": "x"}], **body}
        if usage is not None:
            self.body["usage"] = usage

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.billed += self.used
        return httpx.Response(200, json=self.body)


PLAIN = {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60}
OUTSIDE = {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 260}
ONLY_DETAILS = {
    "prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60,
    "completion_tokens_details": {"reasoning_tokens": 200},
}  # fmt: skip
GEMINI = {"promptTokenCount": 20, "candidatesTokenCount": 40, "thoughtsTokenCount": 200}


@pytest.mark.parametrize("bound", [{"max_tokens": 1000}, {"max_cost": 0.001}])
@pytest.mark.parametrize(
    "server",
    [
        Server(60, PLAIN),
        Server(260, OUTSIDE),
        Server(260, ONLY_DETAILS),
        Server(260, None, usageMetadata=GEMINI),
        Server(60, PLAIN, model="m-2026-11-25"),
        Server(60, PLAIN, model=None),
        Server(60, None),  # it does not say what it used
        Server(60, PLAIN, choices=[]),  # failed, and billed
        Server(60, PLAIN, choices=[], error={"code": "x", "message": "no"}),
        Server(60, PLAIN, choices=[], error={"code": "server_error", "message": "no"}),
    ],
)
async def test_a_bound_holds_over_sessions(
    bound: dict[str, Any], server: Server, tmp_path: Path
) -> None:
    server.billed = 0
    source = chats(tmp_path / "in.jsonl", 30)
    for _ in range(3):
        report = await run(source, server, **bound)
        assert report.stopped is not None
        assert "is reached" in report.stopped.reason
        assert 0 < server.billed <= 1000
    again = server.billed
    assert (await run(source, server, retry_failed=True, **bound)).stopped is not None
    assert again <= server.billed <= 1000


@pytest.mark.parametrize(
    ("body", "url", "answers"),
    [
        ({"n": 5, "max_tokens": 40}, "/v1/chat/completions", 5),
        ({"prompt": "x", "n": 2, "best_of": 5, "max_tokens": 40}, "/v1/completions", 5),
        ({"prompt": ["x"] * 5, "max_tokens": 40}, "/v1/completions", 5),
        ({"prompt": [[1, 2], [3]], "n": 3, "max_tokens": 40}, "/v1/completions", 6),
        ({"prompt": [1, 2, 3], "max_tokens": 40}, "/v1/completions", 1),
        ({"num_completions": 4, "max_new_tokens": 40}, "/v1/chat/completions", 4),
        ({"candidate_count": 4, "max_tokens": 40}, "/v1/chat/completions", 4),
        (
            {"generationConfig": {"candidateCount": 4, "maxOutputTokens": 40}},
            "/v1/chat/completions",
            4,
        ),
        ({"max_tokens": 5, "max_completion_tokens": 40}, "/v1/chat/completions", 1),
        ({"max_completion_tokens": 5, "max_tokens": 40}, "/v1/chat/completions", 1),
        ({"max_tokens": 40, "max_output_tokens": 5}, "/v1/responses", 1),
    ],
)
async def test_several_answers_of_one_request_stay_in_the_bound(
    body: dict[str, Any], url: str, answers: int, tmp_path: Path
) -> None:
    server = Server(20 + 40 * answers, {"prompt_tokens": 20, "completion_tokens": 40 * answers})
    source = lines_of(tmp_path / "in.jsonl", *[{"model": "m", **body}] * 40, url=url)
    report = await run(source, server, max_tokens=1500)
    assert report.stopped is not None
    assert 750 < server.billed == report.tokens <= 1500


async def test_an_embedding_reads_all_its_texts(tmp_path: Path) -> None:
    ids = [[7] * 100] * 3
    server = Server(300, {"prompt_tokens": 300, "total_tokens": 300}, data=[{"embedding": [1]}])
    source = lines_of(
        tmp_path / "in.jsonl", *[{"model": "m", "input": ids}] * 20, url="/v1/embeddings"
    )
    report = await run(source, server, max_tokens=1400)
    assert (report.done, server.billed) == (4, 1200)


async def test_what_a_killed_run_had_in_flight_is_counted(tmp_path: Path) -> None:
    source = chats(tmp_path / "in.jsonl", 4)
    began = anyio.Event()

    async def never(request: httpx.Request) -> httpx.Response:
        began.set()
        await anyio.sleep_forever()
        raise AssertionError

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: run(source, never, concurrency=1))  # type: ignore[arg-type]
            await began.wait()
            await anyio.sleep(0.05)
            group.cancel_scope.cancel()
    server = Server(60, PLAIN)
    report = await run(source, server, max_tokens=250, concurrency=1)
    # 80 or so for what nobody has seen, and 60 for each of two answers.
    assert (report.done, server.billed) == (2, 120)
    again = await run(source, server, max_tokens=250, concurrency=1)
    assert (again.sent, server.billed) == (0, 120)


async def test_an_answer_that_came_too_late_is_counted(tmp_path: Path) -> None:
    source = chats(tmp_path / "in.jsonl", 3)
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise httpx.ReadTimeout("", request=request)
        return httpx.Response(200, json={"choices": [{"text": "x"}], "usage": PLAIN})

    report = await run(source, answer, max_tokens=250, concurrency=1)
    assert (report.done, asked) == (2, 3)
    refused = httpx.Response(503, json={"error": "no"})
    left = [refused, refused]

    def busy(request: httpx.Request) -> httpx.Response:
        return left.pop() if left else httpx.Response(200, json={"choices": [1], "usage": PLAIN})

    source = chats(tmp_path / "other.jsonl", 3)
    report = await run(source, busy, max_tokens=250, concurrency=1)
    assert report.done == 3  # what was refused was not billed


async def test_a_run_without_a_bound_leaves_its_bill_to_the_next(tmp_path: Path) -> None:
    source = chats(tmp_path / "in.jsonl", 4)
    server = Server(60, PLAIN, choices=[])
    report = await run(source, server)
    assert (report.done, report.failed) == (0, {"invalid_answer": 4})
    assert report.cost == pytest.approx(240e-6)
    good = Server(60, PLAIN)
    again = await run(source, good, retry_failed=True, max_tokens=400, concurrency=1)
    assert (again.done, good.billed) == (2, 120)
    last = await run(source, good, max_tokens=400)
    assert (last.sent, good.billed) == (0, 120)


async def test_a_model_that_nobody_asked_for_and_nobody_prices(tmp_path: Path) -> None:
    source = lines_of(
        tmp_path / "in.jsonl",
        *({"model": model, "max_tokens": 40, "messages": []} for model in ("other", "m")),
    )
    await run(source, Server(60, PLAIN, model="strange"), limit=1)
    report = await run(source, Server(60, PLAIN), max_cost=1.0)
    assert (report.done, report.remaining) == (1, 1)
    assert report.stopped is not None
    assert report.stopped.reason == (
        "no price is known for the model 'other', which was paid for already, so --max-cost "
        "cannot be kept. Give one with --prices, or leave --max-cost away"
    )


# -- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"choices": []}, "invalid_answer",
         "the answer is none: there is none in it (choices: [])"),
        ({"choices": None}, "invalid_answer",
         "the answer is none: there is none in it (choices: null)"),
        ({"output": [], "status": "queued"}, "invalid_answer",
         "the answer is none: its status is 'queued', so that the answer has yet to come. Leave "
         '"background" out of the body'),
        ({"detail": "Not Found"}, "invalid_answer", "the answer is none: there is none in it: Not "
         "Found"),
        ({"message": "no"}, "invalid_answer", "the answer is none: there is none in it: no"),
        ({"error": "no"}, "invalid_answer", "the answer is none: it is an error: no"),
        ({"error": {"code": 404, "message": "no"}}, "http_404", "no"),
    ],
)  # fmt: skip
async def test_no_answer_is_a_row_with_the_status_that_came(
    body: dict[str, Any], code: str, message: str, tmp_path: Path
) -> None:
    source = chats(tmp_path / "in.jsonl", 2)
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return httpx.Response(201, json=body)

    report = await run(source, answer)
    (row, _) = rows_of(report)
    assert (report.done, report.failed, asked) == (0, {code: 2}, 2)
    shown = {"raw": json.dumps(body, separators=(",", ":"))} if body == {"error": "no"} else body
    assert row["response"] == {"status_code": 201, "request_id": None, "body": shown}
    assert row["error"] == {"code": code, "message": message}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"code": "rate_limit_exceeded", "message": "no"}}, Kind.RATE),
        ({"error": {"code": 503}}, Kind.CAPACITY),
        ({"error": {"code": "429", "message": "no"}, "choices": []}, Kind.RATE),
        ({"error": {"type": "server_error", "message": "no"}, "choices": None}, Kind.TRANSIENT),
        ({"status": "failed", "output": [], "error": {"code": "server_error"}}, Kind.TRANSIENT),
        ({"detail": "Rate limit exceeded"}, Kind.RATE),
        ({"message": "The model is overloaded"}, Kind.CAPACITY),
        ([{"error": {"code": 503, "status": "UNAVAILABLE"}}], Kind.CAPACITY),
        ({"choices": [{"error": {"code": 502, "message": "no"}}]}, Kind.TRANSIENT),
    ],
)
async def test_an_error_that_may_pass_is_tried_again(
    body: object, kind: Kind, tmp_path: Path
) -> None:
    source = chats(tmp_path / "in.jsonl", 2)
    bad: list[object] = [body]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=bad.pop() if bad else {"choices": [{"text": "x"}]})

    with anyio.fail_after(30):
        report = await run(source, answer, concurrency=1)
    assert (report.done, report.failed) == (2, {})
    assert report.refused[kind] == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"choices":[{"text":"half \\ud83d"}],"usage":{"total_tokens":7}}', "half \ufffd"),
        (b'\xef\xbb\xbf{"choices":[{"text":"x"}],"usage":{"total_tokens":7}}', "x"),
        (b'{"choices":[{"text":"x","logprob":-Infinity}],"usage":{"total_tokens":7},"s":NaN}', "x"),
        (b'{"choices":[{"text":"one\ntwo"}],"usage":{"total_tokens":7}}', "one two"),
        (b'{"choices":[{"text":"x\xf0\x9f"}],"usage":{"total_tokens":7}}', "x\ufffd"),
        (b'{"choices":[],"choices":[{"text":"x"}],"usage":{"total_tokens":7}}', "x"),
    ],
)
async def test_what_is_odd_is_kept(body: bytes, text: str, tmp_path: Path) -> None:
    source = chats(tmp_path / "in.jsonl", 1)
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return httpx.Response(200, content=body, headers={"content-type": "application/json"})

    report = await run(source, answer)
    assert (report.done, report.tokens, asked) == (1, 7, 1)
    assert report.output is not None
    (row,) = report.output.read_bytes().splitlines()
    found = json.loads(row, parse_constant=pytest.fail)
    assert found["response"]["body"]["choices"][0]["text"].replace("\n", " ") == text
    str(found).encode()  # no half a pair is left
    assert (await run(source, answer)).sent == 0


async def test_answers_that_were_cut_off_are_counted(tmp_path: Path) -> None:
    source = chats(tmp_path / "in.jsonl", 5)
    reasons = ["length", "MAX_TOKENS", "stop", "content_filter", "stop"]

    def answer(request: httpx.Request) -> httpx.Response:
        choice = {"message": {"content": "x"}, "finish_reason": reasons.pop()}
        return httpx.Response(200, json={"choices": [choice], "usage": PLAIN})

    report = await run(source, answer)
    assert report.reasons == {"length": 2, "stop": 2, "content_filter": 1}
    assert as_json(report)["reasons"] == report.reasons
    cells = [[str(cell) for cell in column.cells] for column in summary(report).columns]
    said = dict(zip(*cells, strict=True))
    assert said["cut off"] == "2 answers were cut off by max_tokens"
    assert said["filtered"] == "1 answer was stopped by a content filter"
    trace = read_trace(tmp_path / "in.results.run" / "trace.jsonl")
    assert trace.count("reasons") == report.reasons
    assert report.output is not None
    write_report(report.output, tmp_path / "report.html")
    assert "2 answers were cut off by max_tokens" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("usage", [PLAIN, OUTSIDE])
async def test_lines_without_a_maximum_go_one_at_a_time_near_the_bound(
    usage: dict[str, Any], tmp_path: Path
) -> None:
    server = Server(usage["total_tokens"], usage)
    report = await run(chats(tmp_path / "in.jsonl", 30, max_tokens=None), server, max_tokens=1500)
    assert report.stopped is not None
    assert 1000 < server.billed == report.tokens <= 1500
