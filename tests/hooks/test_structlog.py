"""The lines of the log, for structlog: the same ones, with fields."""

from __future__ import annotations

import logging
import sys
from types import MappingProxyType

import pytest
from hook import refuse_once
from packages import of_dev

from headway import Kind, MissingExtra, Scheduler
from headway.events import Closed, Recovered, SharedChanged
from headway.hooks.structlog import StructLog

testing = of_dev("structlog.testing")


@pytest.mark.anyio
async def test_a_refusal_is_one_line_with_its_fields_and_the_standard_logger_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
    with testing.capture_logs() as lines, caplog.at_level(logging.DEBUG, "headway"):
        scheduler = Scheduler("600/min", on_event=StructLog())
        assert await scheduler.submit(refuse_once(429, f"slow down, {secret}"), 3) == 3
    (line,) = lines
    assert line["event"].startswith("refused (rate, status 429, no hint); what binds here: ")
    assert (line["log_level"], line["kind"], line["status"], line["job"]) == (
        "warning", "rate", 429, 1,
    )  # fmt: skip
    assert caplog.records == []


def test_texts_hold_no_secret_and_no_line_break_and_mappings_are_plain() -> None:
    secret = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
    with testing.capture_logs() as lines:
        log = StructLog()
        log(Closed(5.0, Kind.AUTH, None, f"wrong key: {secret}\nnext line"))
        log(Recovered(12.5, 5.0, MappingProxyType({Kind.RATE: 7})))
    assert secret not in repr(lines)
    assert [line["log_level"] for line in lines] == ["error", "info"]
    assert lines[0]["reason"] == lines[0]["event"] == "wrong key: ***\\nnext line"
    assert lines[1]["event"] == "recovered after 7.5 s: refused 7 rate"
    assert type(lines[1]["refused"]) is dict


def test_a_key_that_looks_like_a_credential_is_hidden() -> None:
    secret = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
    with testing.capture_logs() as lines:
        log = StructLog()
        for key in (secret, ("tenant", 3, secret), 7, None):
            log(SharedChanged(5.0, key, "memory", "away", "no reply"))
    assert [line["key"] for line in lines] == ["***", ("tenant", 3, "***"), 7, None]


@pytest.mark.anyio
async def test_it_costs_no_job_an_event() -> None:
    scheduler = Scheduler("600/min", on_event=StructLog())
    state = scheduler._shell.state
    assert not state._traces_starts
    assert not state._traces_ends


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "structlog", None)
    monkeypatch.delitem(sys.modules, "headway.hooks.structlog")
    with pytest.raises(MissingExtra) as raised:
        __import__("headway.hooks.structlog")
    assert str(raised.value) == (
        "lines for structlog need the package structlog, which is not installed. Fix: install it "
        "with: pip install 'headway[structlog]'"
    )
