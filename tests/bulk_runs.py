"""Bulk runs of tests: what is asked, who answers, and a rest that is run to its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from headway import Retry, Scheduler, bulk
from headway.bulk.output.paths import default_output
from headway.bulk.record.status import Progress

# On trio, httpx leaves the body of a request that is cancelled while it is sent to the collector.
cancels_requests = pytest.mark.filterwarnings(
    "ignore:.*ByteStream.__aiter__:pytest.PytestUnraisableExceptionWarning"
)

ANSWER = b'{"id": "x", "usage": {"total_tokens": 11}, "n": 1.50}'


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


def question(request: httpx.Request) -> str:
    """The custom_id of the line that `request` was made of."""
    return str(json.loads(request.content)["messages"][0]["content"]).split()[1]


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
