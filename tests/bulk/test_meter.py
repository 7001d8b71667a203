"""What a run counts of itself, its bounds, and when it has no hope."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from headway import Scheduler, bulk
from headway.bulk.budget import Budget
from headway.bulk.input.formats import Request
from headway.bulk.meter import Meter
from headway.bulk.output.answers import Reading
from headway.bulk.output.bills import Bills, Unanswered
from headway.bulk.output.pipe import Pipe
from headway.bulk.output.rows import Answer
from headway.bulk.send import UNTOLD, Answered
from headway.estimate import Tokens

ENDPOINT = bulk.Endpoint("custom", "http://test/v1", None, "HEADWAY_API_KEY")
REQUEST = Request(1, "q", "/v1/chat/completions", b"x" * 30, 50, "m")


class Lines:
    """An input of nine lines."""

    name, lines = "in.jsonl", 9


def a_meter(folder: Path, bills: Bills | None = None, max_tokens: int | None = None) -> Meter:
    def cost(model: str, read: int, written: int, cached: int) -> float | None:
        return float(read + written) if model == "m" else None

    rows, source = Pipe(folder / "out"), Lines()
    budget = Budget(cost, None, max_tokens)
    return Meter(source, None, Scheduler("600/min"), rows, budget, ENDPOINT, bills)  # type: ignore[arg-type]


def answered(tokens: Tokens = Tokens(), **changes: Any) -> Answered:  # noqa: B008 - a constant
    return Answered(Answer(200, None, b"{}"), tokens, 1.0, **changes)


@pytest.fixture
def meter(tmp_path: Path) -> Meter:
    return a_meter(tmp_path)


def test_tokens_money_and_reasons_are_summed(meter: Meter) -> None:
    meter.answered(REQUEST, answered(Tokens(3, 4, 7), model="m", reasons=("stop",)), 1, 0.0)
    meter.answered(REQUEST, answered(Tokens(1, None, 1), model="m", reasons=("length",)), 1, 0.0)
    meter.answered(REQUEST, answered(), 1, 0.0)  # says nothing, and nothing is bounded
    report = meter.progress()
    assert meter.sample() == replace(report, seconds=ANY, eta=ANY)
    assert (report.input_tokens, report.output_tokens, report.tokens) == (4, 4, 8)
    assert (report.cost, report.unpriced) == (8.0, 1)
    assert report.reasons == {"stop": 1, "length": 1}
    assert (report.limit, report.total, report.input) == (10.0, 9, "in.jsonl")


def test_reasons_beyond_fifty_are_others(meter: Meter) -> None:
    for number in range(60):
        meter.answered(REQUEST, answered(reasons=(f"r{number}",)), 1, 0.0)
    meter.answered(REQUEST, answered(reasons=("r0",)), 1, 0.0)
    reasons = meter.progress().reasons
    assert (len(reasons), reasons["(other reasons)"], reasons["r0"]) == (51, 10, 2)


@pytest.mark.parametrize("max_tokens", [None, 10_000])
def test_what_was_billed_without_an_answer_is_written_down(
    max_tokens: int | None, tmp_path: Path
) -> None:
    with Bills(tmp_path) as bills:
        meter = a_meter(tmp_path, bills, max_tokens)
        meter.billed(REQUEST, UNTOLD)
        assert meter.progress().cost == (0.0 if max_tokens is None else 11.0 + 50.0)
        meter.billed(REQUEST, Reading(b"", Tokens(2, 3, 5), "other"))
        assert list(bills) == [
            Unanswered(1, [None, "m"], 11, 50), Unanswered(1, ["other", "m"], 2, 3)
        ]  # fmt: skip


def test_twenty_failures_alike_and_no_answer_are_hopeless(meter: Meter) -> None:
    assert [meter.hopeless("http_404", "gone") for _ in range(19)] == [None] * 19
    stop = meter.hopeless("http_404", "gone")
    assert stop is not None
    assert stop.kind is None
    assert stop.reason.startswith("the first 20 requests all failed alike")
    assert "(http_404: gone)" in stop.reason


def test_another_failure_or_an_answer_is_hope(meter: Meter) -> None:
    for code in ["a"] * 19 + ["b"] + ["a"] * 19:
        assert meter.hopeless(code, "") is None
    meter.answered(REQUEST, answered(), 1, 0.0)
    assert meter.hopeless("a", "") is None
