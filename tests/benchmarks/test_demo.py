"""The demo, small: it runs, it counts what the server counts, and it ends its server."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import forks
import pytest
from rich.console import Console

from headway.bulk.input import formats, lines
from headway.bulk.input.seen import SeenIds

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", BENCHMARKS / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module
    spec.loader.exec_module(module)
    return module


def test_the_prompts_are_a_few_hundred_different_requests() -> None:
    seen = SeenIds()
    with (BENCHMARKS / "data" / "prompts.jsonl").open("rb") as file:
        parse = formats.RequestReader().parse
        parsed = [parse(line, seen) for line in lines.read_lines(file)]
    requests = [request for request in parsed if isinstance(request, formats.Request)]
    assert len(requests) == len(parsed) == 300
    assert len({json.dumps(json.loads(request.body)["messages"]) for request in requests}) == 300


def test_both_ways_are_measured_and_the_server_is_gone(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    servers: list[forks.Popen] = []

    class Popen(forks.Popen):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if "serve" in args[0]:
                servers.append(self)

    monkeypatch.setattr(demo.subprocess, "Popen", Popen)
    console = Console(record=True, width=80)
    arguments = ["--rpm", "240", "--latency-ms", "100", "--prompts", "10", "--concurrency", "8"]
    arguments += ["--report", str(tmp_path / "report.html")]
    measured = demo.main(arguments, console)
    today, ours = measured["gather + semaphore"], measured["headway"]
    assert today.answered + today.lost == 10
    assert today.refused > 0
    assert (ours.answered, ours.lost, ours.refused) == (10, 0, 0)
    assert 10 <= ours.attempts <= 10 + 8  # those in flight at the kill were sent again
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "10 of 10" in page
    text = console.export_text()
    assert "refused with 429" in text
    assert "verdict" not in text
    assert "killed after" in text
    assert (
        "10 prompts, 240 requests a minute, 100 ms an answer, 8 at once.\n"
        "The first way retries 2 times, as the SDK does.\n"
        "The minute of credit that the server starts with is spent before each run.\n"
        "The report of the run, for any browser: "
    ) in text
    (server,) = servers
    assert server.returncode is not None
