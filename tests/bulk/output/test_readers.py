"""What a run writes is read whole by what people read tables of JSON with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from packages import of_dev

from headway import Retry, Scheduler, bulk

pytestmark = pytest.mark.anyio

ENDPOINT = bulk.Endpoint("custom", "http://server/v1", "a-key", "HEADWAY_API_KEY")
LINES = 9


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


def answers(request: httpx.Request) -> httpx.Response:
    """Each line another kind of row."""
    which = json.loads(request.content)["prompt"]
    failed: dict[str, Callable[[], httpx.Response]] = {
        "1": lambda: httpx.Response(500, text="<html>oops"),
        "2": lambda: httpx.Response(400, json={"error": {"message": "no", "code": None}}),
        "3": lambda: httpx.Response(400, json={"error": "bad"}),
        "4": lambda: httpx.Response(400, json=[{"error": "bad"}]),
        "5": lambda: httpx.Response(404, text=""),
        "6": lambda: httpx.Response(200, content=b'{"choices": [], "id": "x"}'),
    }
    if which in failed:
        return failed[which]()
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    choices = [{"index": 0, "text": "half \ud83d", "finish_reason": "stop"}]
    return httpx.Response(
        200, content=json.dumps({"id": "x", "model": "m", "choices": choices, "usage": usage})
    )


async def test_every_file_of_a_run_is_read(tmp_path: Path) -> None:
    pandas = of_dev("pandas")
    arrow = of_dev("pyarrow.json")
    polars = of_dev("polars")
    duckdb = of_dev("duckdb")

    source = tmp_path / "in.jsonl"
    lines = [{"custom_id": f"id{n}", "url": "/v1/completions",
              "body": {"model": "m", "prompt": f"{n}"}} for n in range(LINES - 1)]  # fmt: skip
    source.write_text("".join(json.dumps(line) + "\n" for line in lines) + "no json\n")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answers)) as client:
        progress = await bulk.run(
            source, scheduler=Scheduler("1000/s", retry=Retry(attempts=1)), endpoint=ENDPOINT,
            client=client, options=bulk.RunOptions(max_tokens=10**9),
        )  # fmt: skip
    assert progress.output is not None
    assert (progress.done, sum(progress.failed.values())) == (2, 7)
    folder = tmp_path / "in.results.run"
    files = {
        progress.output: LINES, tmp_path / "in.results.errors.jsonl": 7,
        folder / "billed.jsonl": None, folder / "trace.jsonl": None,
    }  # fmt: skip
    for path, rows in files.items():
        name = str(path)
        read = {
            "pandas": lambda name=name: pandas.read_json(name, lines=True),
            "pandas on pyarrow": lambda name=name: pandas.read_json(
                name, lines=True, engine="pyarrow"
            ),
            "pyarrow": lambda name=name: arrow.read_json(name),
            "polars": lambda name=name: polars.read_ndjson(name),
            "duckdb": lambda name=name: duckdb.sql(
                f"select * from read_json_auto('{name}')"
            ).fetchall(),
        }
        counts = {reader: len(table()) for reader, table in read.items()}
        assert set(counts.values()) == {rows or counts["pandas"]}, path
    table = pandas.read_json(str(progress.output), lines=True)
    bodies = {row["id"]: row["response"] and row["response"]["body"]
              for row in table.to_dict("records")}  # fmt: skip
    assert bodies["batch_req_2"] == {"raw": "<html>oops"}
    assert bodies["batch_req_4"] == {"raw": '{"error":"bad"}'}
    assert bodies["batch_req_5"] == {"raw": '[{"error":"bad"}]'}
    assert bodies["batch_req_6"] == {"raw": ""}
