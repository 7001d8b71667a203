"""How long to wait: which of several sources holds, and what is said of those that cannot."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest

from headway import Kind
from headway.hints import LONGEST_WAIT, refusal_from_response, wait_from

NOW = 1_790_000_000.0
PROSE = {"error": {"message": "Please try again in 7s."}}


@pytest.mark.parametrize(
    ("headers", "body", "wait"),
    [
        # Each source that can be read holds over those below it.
        ({"retry-after-ms": "1500", "retry-after": "9"}, PROSE, 1.5),
        ({"retry-after": "9", "x-ratelimit-reset": "11"}, PROSE, 9.0),
        ({"x-ratelimit-reset": "11", "x-ratelimit-reset-requests": "13s"}, PROSE, 11.0),
        ({"x-ratelimit-reset-requests": "13s"}, PROSE, 7.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "13s"}, None, 13.0),
        ({}, None, None),
        # A moment, in every form.
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, None, 30.0),
        ({"retry-after": str(NOW + 30)}, None, 30.0),
        ({"retry-after": f"{(NOW + 30) * 1e3:.0f}"}, None, 30.0),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, None, 0.0),
        # Two values: the longer.
        ([("retry-after", "3"), ("retry-after", "8")], None, 8.0),
        # The end of a window that has requests left says nothing of this refusal.
        ({"x-ratelimit-reset": str(NOW + 99), "x-ratelimit-remaining": "4"}, None, None),
        ({"x-ratelimit-reset": str(NOW + 99), "x-ratelimit-remaining": "0"}, None, 99.0),
        ({"ratelimit": '"a";r=0;t=17'}, None, 17.0),
        ({"ratelimit": '"a";r=3;t=17'}, None, None),
    ],
)
def test_the_source_that_holds(headers: Any, body: Any, wait: float | None) -> None:
    found, odd = wait_from(headers, body, wall_time=NOW)
    assert found == (None if wait is None else pytest.approx(wait, abs=0.01))
    assert odd == ""


@pytest.mark.parametrize(
    ("text", "wait", "odd"),
    [
        ("banana", None, "retry-after: 'banana' ignored"),
        ("-5", None, "retry-after: '-5' ignored"),
        ("", None, "retry-after: '' ignored"),
        ("700000", LONGEST_WAIT, "retry-after: 700000 s bounded to 7 days"),
    ],
)
def test_what_cannot_be_meant_is_said(text: str, wait: float | None, odd: str) -> None:
    assert wait_from({"retry-after": text}, None, wall_time=NOW) == (wait, odd)


def test_where_one_source_cannot_be_read_the_next_one_holds() -> None:
    headers = {"retry-after-ms": "soon", "retry-after": "4"}
    assert wait_from(headers, None, wall_time=NOW) == (4.0, "retry-after-ms: 'soon' ignored")


@pytest.mark.parametrize(("status", "wait"), [(429, 11.0), (503, None)])
def test_headers_of_limits_say_nothing_of_a_failure(status: int, wait: float | None) -> None:
    found = refusal_from_response(status, {"x-ratelimit-reset": "11"}, None, wall_time=NOW)
    assert found is not None
    assert found.wait == wait
    assert (found.kind is Kind.CAPACITY) == (status == 503)


def test_the_delay_of_a_minute_is_not_believed_where_the_day_is_used_up() -> None:
    details = [{"retryDelay": "22s"}, {"violations": [{"quotaId": "RequestsPerDay"}]}]
    body: dict[str, Any] = {"error": {"code": 429, "message": "Quota", "details": details}}
    assert wait_from({}, body, wall_time=NOW) == (
        None, "retryDelay: '22s' ignored: a per-day quota is used up",
    )  # fmt: skip
    body["error"]["details"] = details[:1]
    assert wait_from({}, body, wall_time=NOW) == (22.0, "")
