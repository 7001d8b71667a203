"""Reports for machines, and the log above a display."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from headway.bulk.record.status import Progress, Stop
from headway.cli.display import live
from headway.kinds import Kind

INFINITY = float("inf")
REPORT = Progress(
    input="in", output=Path("out"), total=9, done=5, failed={"http_400": 1}, before=2, ambiguous=1,
    in_flight=3, sent=8, refused={Kind.RATE: 2}, tokens=30, input_tokens=10, output_tokens=20,
    cost=0.12345678, unpriced=1, limit=10.0, pace=9.5, concurrency=32.0, binds="requests",
    seconds=2.00049, eta=4.26, stopped=Stop(None, "why"), fault="http_500", reasons={"stop": 5},
)  # fmt: skip


def test_a_report_for_machines() -> None:
    assert live.as_json(REPORT) == {
        "input": "in", "output": "out", "total": 9, "done": 5, "failed": {"http_400": 1},
        "before": 2, "ambiguous": 1, "remaining": 3, "in_flight": 3, "sent": 8,
        "refused": {"rate": 2}, "input_tokens": 10, "output_tokens": 20, "tokens": 30,
        "cost": 0.123457, "unpriced": 1, "reasons": {"stop": 5}, "limit": 10.0, "pace": 9.5,
        "concurrency": 32.0, "binds": "requests", "seconds": 2.0, "eta": 4.3, "stopped": "why",
        "fault": "http_500",
    }  # fmt: skip


def test_what_is_not_known_or_unlimited_is_null() -> None:
    unknown = replace(
        REPORT, output=None, total=None, limit=None, pace=INFINITY, concurrency=INFINITY, eta=None,
        stopped=None, fault=None,
    )  # fmt: skip
    found = live.as_json(unknown)
    names = (
        "output",
        "total",
        "remaining",
        "limit",
        "pace",
        "concurrency",
        "eta",
        "stopped",
        "fault",
    )
    assert [found[name] for name in names] == [None] * len(names)
    json.dumps(found, allow_nan=False)


def test_lines_of_json_come_once_a_second_and_at_the_end() -> None:
    file = io.StringIO()
    with live.display(Console(file=io.StringIO()), as_lines=file) as shown:
        for seconds in (0.0, 0.25, 0.99, 1.0, 1.5, 2.2):
            shown(replace(REPORT, seconds=seconds))
    told = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [(one["event"], one["seconds"]) for one in told] == [
        ("progress", 0.0), ("progress", 1.0), ("progress", 2.2), ("end", 2.2)
    ]  # fmt: skip


def test_a_run_without_a_report_has_no_end() -> None:
    file = io.StringIO()
    with live.display(Console(file=io.StringIO()), as_lines=file) as shown:
        assert shown.last is None
    assert file.getvalue() == ""


def test_the_log_is_on_the_console_as_long_as_the_run() -> None:
    console = Console(file=io.StringIO(), width=200)
    logger = logging.getLogger("headway")
    handlers = list(logger.handlers)
    with live.logging_to(console):
        logger.warning("a limit is lower")
    logger.warning("after the run")
    assert logger.handlers == handlers
    assert "a limit is lower" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "after the run" not in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("failed", [{}, {"http_400": 2}])
def test_a_summary_says_only_what_there_is(failed: dict[str, int]) -> None:
    console = Console(file=io.StringIO(), width=100)
    bare = replace(REPORT, failed=failed, before=0, ambiguous=0, reasons={}, cost=0.0, refused={})
    console.print(live.summary(bare))
    names = [line.split("  ")[0].strip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    optional = ["failed"] if failed else []
    assert names == ["done", *optional, "not answered", "refused", "tokens", "time", "rate", "rows"]
