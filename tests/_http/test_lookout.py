"""A client above that repeats by itself, or sends past its transport, is told of once."""

from __future__ import annotations

import logging

import httpx
import pytest

from headway._http.lookout import Lookout

REPEATS = (
    "the SDK above headway's transport repeats requests by itself, in its caller's slot and "
    "without the others' knowledge. Fix: build its client with max_retries=0."
)


def request(count: str | None) -> httpx.Request:
    headers = {} if count is None else {"x-stainless-retry-count": count}
    return httpx.Request("GET", "http://server", headers=headers)


@pytest.mark.parametrize(
    ("counts", "retries", "told"),
    [
        (["1", "2"], True, [REPEATS]),
        (["0", None], True, []),
        (["1"], False, []),
    ],
)
def test_repeats_are_told_once(
    counts: list[str | None], retries: bool, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    lookout = Lookout()
    for count in counts:
        lookout.sees(request(count), retries=retries)
    assert caplog.record_tuples == [("headway", logging.WARNING, text) for text in told]


@pytest.mark.parametrize(
    ("used", "may_be_idle", "told"), [(False, False, 1), (True, False, 0), (False, True, 0)]
)
def test_a_transport_that_saw_nothing_is_told_when_it_is_closed(
    used: bool, may_be_idle: bool, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    lookout = Lookout()
    lookout.may_be_idle = may_be_idle
    if used:
        lookout.sees(request(None), retries=True)
    lookout.closes("headway.httpx")
    assert len(caplog.records) == told
