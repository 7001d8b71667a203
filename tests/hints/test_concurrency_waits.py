"""A refusal about concurrency waits for a call to end, and not for the end of a rate's window."""

from __future__ import annotations

from typing import Any

import pytest

from headway import Kind
from headway.hints import GENERIC, Dialect, refusal_from_response
from headway.providers import PROVIDERS

WALL = 1_800_000_000.0
TYPED = {"error": {"code": "concurrency_limit_exceeded", "message": "too many concurrent requests"}}
RATE = {"error": {"code": "rate_limit_exceeded", "message": "too many requests"}}

# Each names the end of a window, a minute or an hour away, of which nothing is left.
RESETS: list[tuple[str, dict[str, str]]] = [
    ("together", {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "0",
                  "x-ratelimit-reset": "60"}),
    ("openai", {"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1m0s"}),
    ("openai's tokens", {"x-ratelimit-limit-tokens": "500", "x-ratelimit-remaining-tokens": "0",
                         "x-ratelimit-reset-tokens": "1m0s"}),
    ("anthropic", {"anthropic-ratelimit-requests-limit": "50",
                   "anthropic-ratelimit-requests-remaining": "0",
                   "anthropic-ratelimit-requests-reset": "2027-01-15T08:01:00Z"}),
    ("github", {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "0",
                "x-ratelimit-reset": str(int(WALL) + 3600)}),
    ("discord", {"x-ratelimit-reset-after": "60"}),
    ("ietf", {"ratelimit-policy": '"burst";q=100;w=60', "ratelimit": '"burst";r=0;t=60'}),
    ("ietf draft 6", {"ratelimit-limit": "100", "ratelimit-remaining": "0",
                      "ratelimit-reset": "60"}),
    ("cerebras", {"x-ratelimit-limit-requests-day": "100",
                  "x-ratelimit-remaining-requests-day": "0",
                  "x-ratelimit-reset-requests-day": "3600"}),
]  # fmt: skip
DIALECTS = {GENERIC, *(each.dialect for each in PROVIDERS.values())}


def asked(body: Any, headers: dict[str, str], dialect: Dialect) -> tuple[Kind, float | None]:
    found = refusal_from_response(429, headers, body, wall_time=WALL, dialect=dialect)
    assert found is not None
    assert found.kind is not Kind.CONCURRENCY or found.per is None  # no day's quota is used up
    return found.kind, found.wait


@pytest.mark.parametrize("headers", [r[1] for r in RESETS], ids=[r[0] for r in RESETS])
def test_the_end_of_a_window_is_no_wait_for_a_slot(headers: dict[str, str]) -> None:
    for dialect in DIALECTS:
        assert asked(TYPED, headers, dialect) == (Kind.CONCURRENCY, None)
    assert any(asked(RATE, headers, dialect)[1] for dialect in DIALECTS)  # where it is about one


@pytest.mark.parametrize(
    ("headers", "body", "wait"),
    [
        ({"retry-after": "7"}, TYPED, 7.0),
        ({"retry-after-ms": "7000"}, TYPED, 7.0),
        ({}, {"error": {**TYPED["error"], "retry_after": 7}}, 7.0),
        ({}, {"error": {**TYPED["error"], "resets_at": WALL + 7}}, 7.0),
        ({}, {"error": {**TYPED["error"], "message": "concurrency limit: try again in 7s"}}, 7.0),
    ],
)
def test_what_the_server_asks_for_is_obeyed(
    headers: dict[str, str], body: Any, wait: float
) -> None:
    for _, resets in RESETS:
        for dialect in DIALECTS:
            assert asked(body, {**resets, **headers}, dialect) == (Kind.CONCURRENCY, wait)


def test_what_the_provider_behind_a_router_says_of_its_windows_is_no_wait_either() -> None:
    metadata = {
        "headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{WALL + 60:.0f}000"}
    }
    for body, kind, wait in ((TYPED, Kind.CONCURRENCY, None), (RATE, Kind.RATE, 60.0)):
        error = {"error": {**body["error"], "metadata": metadata}}
        assert asked(error, {}, GENERIC) == (kind, wait)
