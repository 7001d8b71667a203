"""The wait of a refusal, in every form in which servers state one."""

from __future__ import annotations

from typing import Any

import pytest
from refusing import (
    GEMINI_DAY,
    GEMINI_MINUTE,
    NOW,
    OPENAI_RPM,
    error_body,
    gemini,
    refusal,
)

from headway.hints import LONGEST_WAIT, wait_from

# Waits ------------------------------------------------------------------------------------------

WAITS: list[tuple[str, Any, Any, float | None]] = [
    ("nothing", {}, None, None),
    # Retry-After
    ("seconds", {"Retry-After": "20"}, None, 20),
    ("float", {"retry-after": "2.5"}, None, 2.5),
    ("space", {"retry-after": " 7 "}, None, 7),
    ("zero", {"retry-after": "0"}, None, 0),
    ("duration", {"retry-after": "1m30s"}, None, 90),
    ("IMF-fixdate", {"retry-after": "Mon, 21 Sep 2026 14:13:30 GMT"}, None, 10),
    ("RFC 850", {"retry-after": "Monday, 21-Sep-26 14:13:30 GMT"}, None, 10),
    ("asctime", {"retry-after": "Mon Sep 21 14:13:30 2026"}, None, 10),
    ("past date", {"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, None, 0),
    ("epoch", {"retry-after": "1790000012"}, None, 12),
    ("milliseconds first", {"retry-after": "2", "retry-after-ms": "1234"}, None, 1.234),
    ("bad milliseconds", {"retry-after": "2", "retry-after-ms": "soon"}, None, 2),
    ("repeated", [("Retry-After", "5"), ("retry-after", "7")], None, 7),
    ("bytes", [(b"Retry-After", b"5")], None, 5),
    ("int", {"retry-after": 5}, None, 5),
    ("before reset", {"retry-after": "3", "x-ratelimit-reset": "9"}, None, 3),
    # the unsuffixed reset
    ("together", {"x-ratelimit-reset": "4", "x-ratelimit-remaining": "3"}, None, 4),
    ("github", {"x-ratelimit-reset": "1790000060", "x-ratelimit-remaining": "0"}, None, 60),
    (
        "github secondary",
        {"x-ratelimit-reset": "1790003000", "x-ratelimit-remaining": "9"},
        None,
        None,
    ),
    ("float epoch", {"x-ratelimit-reset": "1790000000.75"}, None, 0.75),
    ("epoch ms", {"x-ratelimit-reset": "1790000001500"}, None, 1.5),
    ("past epoch", {"x-ratelimit-reset": "1700000000"}, None, 0),
    (
        "openrouter",
        {},
        error_body(
            metadata={
                "headers": {"X-RateLimit-Reset": "1790000030000", "X-RateLimit-Remaining": "0"}
            }
        ),
        30,
    ),
    # windows
    (
        "hugging face",
        {"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"fixed window";"api";q=500;w=300'},
        None,
        55,
    ),
    ("draft 10", {"ratelimit": '"a";r=0;t=30, "b";r=0;t=40, "c";r=9;t=999'}, None, 40),
    ("draft 7", {"RateLimit": "limit=2, remaining=0, reset=5"}, None, 5),
    (
        "draft 6",
        {"ratelimit-limit": "10, 10;w=60", "ratelimit-remaining": "0", "ratelimit-reset": "50"},
        None,
        50,
    ),
    ("window with some left", {"ratelimit": '"default";r=50;t=30'}, None, None),
    ("malformed window", {"ratelimit": '"default;r=0;t=30'}, None, None),
    # full again
    (
        "openai used up",
        {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "6m0s",
            "x-ratelimit-remaining-tokens": "9",
            "x-ratelimit-reset-tokens": "9h",
        },
        None,
        360,
    ),
    (
        "both used up",
        {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "12ms",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "1h2m3s",
        },
        None,
        3723,
    ),
    (
        "none used up",
        {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"},
        None,
        None,
    ),
    (
        "tokens by type",
        {
            "x-ratelimit-remaining-tokens": "500",
            "x-ratelimit-reset-tokens": "8s",
            "x-ratelimit-remaining-requests": "5",
            "x-ratelimit-reset-requests": "7h",
        },
        error_body(type="tokens"),
        8,
    ),
    (
        "requests by type, some left",
        {"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "7h"},
        error_body(type="requests"),
        None,
    ),
    (
        "azure",
        {"x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "42"},
        error_body(type="tokens"),
        42,
    ),
    (
        "anthropic",
        {
            "anthropic-ratelimit-tokens-remaining": "0",
            "anthropic-ratelimit-tokens-reset": "2026-09-21T14:13:35Z",
            "anthropic-ratelimit-requests-remaining": "5",
            "anthropic-ratelimit-requests-reset": "2026-09-21T15:00:00Z",
        },
        None,
        15,
    ),
    (
        "groq",
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2m59.56s"},
        None,
        179.56,
    ),
    (
        "message before full",
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "59s"},
        error_body(OPENAI_RPM),
        20,
    ),
    # bodies and prose
    ("gemini", {}, gemini(GEMINI_MINUTE), 22),
    ("gemini fraction", {}, gemini(GEMINI_MINUTE, delay="22.378416s"), 22.378416),
    ("gemini day", {}, gemini(GEMINI_DAY, message="Please retry in 22s."), None),
    ("try again in", {}, error_body("Please try again in 7.66s. Visit"), 7.66),
    ("in 6m0s", {}, error_body("Please try again in 6m0s."), 360),
    ("in ms", {}, error_body("Please try again in 150ms."), 0.15),
    ("after seconds", {}, "Please retry after 20 seconds.", 20),
    ("1 second", {}, "Retry after 1 second", 1),
    ("minutes", {}, "try again in 2 minutes and 5 seconds", 125),
    ("wait", {}, "wait for 3 minutes", 180),
    ("longest of two", {}, "try again in 3s or retry after 5s", 5),
    ("no unit", {}, "try again after 3 attempts", None),
    ("message after reset", {"x-ratelimit-reset": "2"}, error_body("try again in 9s"), 2),
]


@pytest.mark.parametrize(
    ("headers", "body", "wait"), [row[1:] for row in WAITS], ids=[row[0] for row in WAITS]
)
def test_waits(headers: Any, body: Any, wait: float | None) -> None:
    found = refusal(429, headers, body)
    assert found.wait == (None if wait is None else pytest.approx(wait, abs=1e-3))


def test_wait_from_knows_no_kind_and_asks_only_what_is_used_up() -> None:
    headers = {"x-ratelimit-remaining-tokens": "500", "x-ratelimit-reset-tokens": "8s"}
    assert wait_from(headers, error_body(type="tokens"), wall_time=NOW) == (None, "")
    headers["x-ratelimit-remaining-tokens"] = "0"
    assert wait_from(headers, None, wall_time=NOW) == (8.0, "")


def test_a_reset_alone_is_believed_only_for_the_limit_that_was_named() -> None:
    headers = {"x-ratelimit-reset-requests": "59s"}
    assert refusal(429, headers, error_body(type="requests")).wait == 59
    assert refusal(429, headers, error_body(type="tokens")).wait is None
    assert refusal(429, headers).wait is None


def test_the_reset_of_a_limit_is_no_hint_for_an_overload() -> None:
    headers = {"x-ratelimit-reset": "40", "x-ratelimit-remaining-tokens": "0"}
    headers["x-ratelimit-reset-tokens"] = "60s"
    assert refusal(503, headers).wait is None
    assert refusal(503, headers | {"retry-after": "3"}).wait == 3
    assert refusal(503, {"ratelimit": '"a";r=0;t=9'}).wait is None
    assert refusal(500, {}, gemini(delay="5s")).wait == 5


@pytest.mark.parametrize(
    ("headers", "wait", "odd"),
    [
        ({"retry-after": "5"}, 5, ""),
        ({"retry-after": "banana"}, None, "retry-after: 'banana' ignored"),
        ({"retry-after": ""}, None, "retry-after: '' ignored"),
        ({"retry-after": "-1"}, None, "retry-after: '-1' ignored"),
        ({"retry-after": "nan"}, None, "retry-after: 'nan' ignored"),
        ({"retry-after": "inf"}, None, "retry-after: 'inf' ignored"),
        ({"retry-after": "1e999"}, None, "retry-after: '1e999' ignored"),
        ({"retry-after": "1_0"}, None, "retry-after: '1_0' ignored"),
        ({"retry-after": "٣"}, None, "retry-after: '\\u0663' ignored"),
        ({"retry-after": "99" * 40}, None, f"retry-after: '{'9' * 37}...' ignored"),
        (
            {"retry-after": "Mon, 31 Feb 2026 00:00:00 GMT"},
            None,
            "retry-after: 'Mon, 31 Feb 2026 00:00:00 GMT' ignored",
        ),
        (
            {"retry-after": "Mon, 21 Foo 2026 00:00:00 GMT"},
            None,
            "retry-after: 'Mon, 21 Foo 2026 00:00:00 GMT' ignored",
        ),
        (
            {"retry-after": "2026-13-01T00:00:00Z"},
            None,
            "retry-after: '2026-13-01T00:00:00Z' ignored",
        ),
        ({"retry-after": "700000"}, LONGEST_WAIT, "retry-after: 700000 s bounded to 7 days"),
        ({"retry-after": "604800"}, LONGEST_WAIT, ""),
        (
            {"retry-after-ms": "x", "retry-after": "y"},
            None,
            "retry-after-ms: 'x' ignored; retry-after: 'y' ignored",
        ),
        ({"x-ratelimit-reset": "soon"}, None, "x-ratelimit-reset: 'soon' ignored"),
        ({"ratelimit": '"a";r=0;t=999999'}, LONGEST_WAIT, "ratelimit: 999999 s bounded to 7 days"),
        (
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "200h"},
            LONGEST_WAIT,
            "reset of tokens: 720000 s bounded to 7 days",
        ),
    ],
)
def test_what_is_odd_is_ignored_or_bounded_and_said(
    headers: dict[str, str], wait: float | None, odd: str
) -> None:
    assert wait_from(headers, None, wall_time=NOW) == (wait, odd)


def test_an_odd_body_is_said_too() -> None:
    assert refusal(429, {}, gemini(GEMINI_DAY)).odd == (
        "retryDelay: '22s' ignored: a per-day quota is used up"
    )
    assert refusal(429, {"retry-after": "9"}, gemini(GEMINI_DAY)).wait == 9
    assert refusal(429, {}, gemini(delay="?")).odd == "retryDelay: '?' ignored"
    bounded = refusal(429, {}, "try again in 9 days")
    assert (bounded.wait, bounded.odd) == (LONGEST_WAIT, "message: 777600 s bounded to 7 days")
