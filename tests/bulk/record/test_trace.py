"""A session's lines: what is recorded is what is read."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway import Scheduler
from headway._core.counters import Statistics
from headway.bulk.record.trace import Recorder, read_trace
from headway.events import Kind

IDLE = Scheduler().statistics()


def seen(**changes: Any) -> Statistics:
    return replace(IDLE, **changes)


def answer(recorder: Recorder, **changes: Any) -> None:
    row: dict[str, Any] = {
        "model": "m", "code": None, "attempts": 1, "waited": 0.01, "latency": 1.0, "size": 100,
        "input_tokens": 10, "output_tokens": 5, "cost": 0.5, **changes,
    }  # fmt: skip
    recorder.row(**row)


def test_a_session_is_read_as_it_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    limits = {"requests": ["600/min"], "tokens": ["6k/min", "1k/s"], "concurrency": 8}
    session = {"version": "9", "started": 1000.0, "input": "in", "limits": limits, "total": 3}
    recorder = Recorder(path, session)
    recorder.sample(1000.0, seen())
    answer(recorder, reasons=("stop",))
    answer(recorder, code="http_400", attempts=2, latency=0.0, cost=None, model="n")
    recorder.sample(1000.4, seen(binds="requests"))
    recorder.sample(
        1001.0,
        seen(sent=3, refused={Kind.RATE: 1}, in_flight=2, queued=7, pace=9.5, binds="tokens"),
    )
    recorder.end(1001.5, "stopped", "why")
    recorder.close()
    recorder.close()
    trace = read_trace(path)
    assert trace.ignored == 0
    (one,) = trace.sessions
    assert (one.info.version, one.info.total, one.info.limits.concurrency) == ("9", 3, 8)
    assert one.end is not None
    assert (one.end.t, one.end.reason, one.end.said) == (1001.5, "stopped", "why")
    sample, last = one.samples
    assert (sample.t, sample.span, sample.sent, sample.done) == (1001.0, 1.0, 3, 1)
    assert (sample.failed, sample.refused) == ({"http_400": 1}, {"rate": 1})
    assert (sample.in_flight, sample.queued, sample.limit) == (2, 7, 9.5)
    assert sample.token_limit == 100.0  # the lowest of both
    assert sample.binds == {"requests": 0.4, "tokens": 0.6}
    assert sample.attempts == {1: 1, 2: 1}
    assert (sample.input, sample.output, sample.cost) == (20, 10, 0.5)
    assert (last.span, last.sent, last.done) == (0.5, 0, 0)
    assert {name: use.cost for name, use in trace.models.items()} == {"m": 0.5, "n": None}
    assert (trace.wait.total, trace.latency.total) == (2, 1)
    assert trace.count("reasons") == {"stop": 1}
    assert trace.sum("sent") == 3


def test_a_span_is_counted_from_the_one_before(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "t", {"started": 0.0})
    for second, sent in enumerate((5, 8, 8, 20)):
        recorder.sample(float(second), seen(sent=sent, refused={Kind.RATE: sent // 4}))
    recorder.end(3.0, "done", "")
    recorder.close()
    samples = list(read_trace(tmp_path / "t").samples)
    assert [sample.sent for sample in samples] == [3, 0, 12]
    assert [sample.refused for sample in samples] == [{"rate": 1}, {}, {"rate": 3}]


def test_no_limit_is_no_number(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "t", {"started": 0.0, "limits": {"tokens": ["nonsense", 5]}})
    recorder.sample(0.0, seen())
    recorder.sample(1.0, seen(pace=math.inf))
    recorder.close()
    (sample,) = read_trace(tmp_path / "t").samples
    assert (sample.limit, sample.token_limit) == (None, None)


def test_a_resumption_begins_a_line_of_its_own_after_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "t"
    Recorder(path, {"started": 1.0}).close()
    path.write_bytes(path.read_bytes() + b'{"t":2.0,"sp')
    Recorder(path, {"started": 3.0}).close()
    trace = read_trace(path)
    assert [session.info.started for session in trace.sessions] == [1.0, 3.0]
    assert [session.end for session in trace.sessions] == [None, None]
    assert trace.ignored == 1


@pytest.mark.parametrize(
    ("line", "ignored"),
    [(b"\n", 0), (b"[]\n", 1), (b"{\n", 1), (b'{"t":-1,"span":1}\n', 1),
     (b'{"t":1,"span":1e9}\n', 1),
     (b'{"t":1,"span":1,"reasons":{"\xff":1}}\n', 0)],
)  # fmt: skip
def test_lines_that_cannot_be_read_are_counted(line: bytes, ignored: int, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b'{"end":{"t":1.0}}\n{"t":7,"span":2}\n' + line)
    trace = read_trace(tmp_path / "t")
    assert trace.ignored == ignored
    assert trace.sessions[0].info.started == 5.0  # of a trace whose first line is gone
