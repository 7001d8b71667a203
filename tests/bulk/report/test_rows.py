"""The sections about rows: attempts, sessions, models, errors."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from headway.bulk.record.measures import End, ModelUse, Sample, SessionInfo
from headway.bulk.record.trace import Session, Trace
from headway.bulk.report.axis import make_axis
from headway.bulk.report.failures import Example, Failures, Group
from headway.bulk.report.measured import Measured
from headway.bulk.report.rows import attempts, errors, models, sessions
from headway.bulk.report.summary import Sums


def measured(trace: Trace, failures: Failures | None = None, *, redact: bool = False) -> Measured:
    sums = Sums(trace, failures)
    return Measured("in", trace, failures, sums, make_axis(trace.sessions, UTC), redact)


def a_trace(**counts: Any) -> Trace:
    return Trace([Session(SessionInfo(started=1e9), [Sample(1e9 + 60, 60.0, **counts)])])


def test_attempts_by_rows() -> None:
    found: Any = attempts(measured(a_trace(attempts={0: 1, 1: 6, 3: 1})))
    assert [(bar.name, bar.text) for bar in found.rows] == [
        ("never sent", "1 · 12%"), ("1 attempt", "6 · 75%"), ("3 attempts", "1 · 12%")
    ]  # fmt: skip
    assert found.rows[1].share == 1.0


def test_very_many_attempts_are_taken_together() -> None:
    found: Any = attempts(measured(a_trace(attempts=dict.fromkeys(range(1, 13), 1))))
    assert [bar.name for bar in found.rows[8:]] == ["9 attempts", "10 and more"]
    assert found.rows[-1].text == "3 · 25%"


def test_sessions_say_how_they_ended() -> None:
    trace = a_trace(done=5, failed={"c": 1})
    trace.sessions[0].end = End(1e9 + 60, "stopped", "the bound")
    trace.sessions.append(Session(SessionInfo(started=2e9)))
    found: Any = sessions(measured(trace))
    first, last = found.rows
    assert (first.worked, first.rows, first.ended) == ("1 min", "6", "stopped: the bound")
    assert (last.rows, last.ended) == ("0", "no end: killed, or still running")
    hidden: Any = sessions(measured(trace, redact=True))
    assert hidden.rows[0].ended == "stopped"


def test_only_the_last_fifty_sessions_are_listed() -> None:
    found: Any = sessions(measured(Trace([Session(SessionInfo()) for _ in range(53)])))
    assert (len(found.rows), found.earlier) == (50, "3")


def test_the_largest_models_come_first_and_the_rest_together() -> None:
    use = {f"m{n:02}": ModelUse(rows=100 - n, cost=1.0) for n in range(22)}
    trace = Trace(models={**use, "": ModelUse(rows=200, cost=None)})
    found: Any = models(measured(trace))
    assert [row.name for row in found.rows[:2]] == ["(no model named)", "m00"]
    assert found.rows[0].cost == "unknown price"
    assert (found.rows[-1].name, found.rows[-1].rows) == ("3 other models", "240")
    assert found.rows[-1].cost == "$3.00"


EXAMPLE = Example(1234, "q1", "a secret", 400, "body")
FAILURES = Failures({"http_400": 3}, [Group("http_400", "a secret N", 400, 3, [EXAMPLE])])


def test_errors_have_their_examples() -> None:
    found: Any = errors(measured(a_trace(), FAILURES))
    (code,) = found.codes
    assert (code.name, code.rows) == ("http_400", "3")
    assert code.groups[0].title == "a secret N (HTTP 400)"
    example = code.groups[0].examples[0]
    assert (example.custom_id, example.where) == ("q1", "line 1,234 · HTTP 400")
    hidden: Any = errors(measured(a_trace(), FAILURES, redact=True))
    assert "secret" not in repr(hidden)


def test_errors_without_their_file_are_counts() -> None:
    found: Any = errors(measured(a_trace(failed={"a": 1, "b": 4})))
    assert [(bar.name, bar.share, bar.text) for bar in found.bars] == [
        ("b", 1, "4"),
        ("a", 0.25, "1"),
    ]
    assert found.notes == ("Examples come from the error file, which is not there.",)


def test_answers_that_were_cut_off_are_told_without_a_failure() -> None:
    found: Any = errors(measured(a_trace(reasons={"length": 2, "stop": 9})))
    assert found.none == "No row failed."
    assert found.early == ("2 answers were cut off by max_tokens.",)
