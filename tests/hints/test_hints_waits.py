"""Waits and limits under the names that providers give them, and the clock they are read against.

The ids name the provider or the library that says so.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from cases import each

from headway.events import Kind
from headway.hints import LimitHint, Refusal, limits_from, refusal_from_response, wait_from
from headway.hints._names import known_name

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z


def refusal(headers: Any = None, body: Any = None, status: int = 429, now: float = NOW) -> Refusal:
    found = refusal_from_response(status, headers or {}, body, wall_time=now)
    assert found is not None
    return found


def openrouter(raw: object) -> dict[str, object]:
    metadata = {"raw": raw, "provider_name": "P"}
    return {"error": {"message": "Provider returned error", "code": 429, "metadata": metadata}}


OPENAI = {"error": {"message": "tokens per min (TPM). Please try again in 20s.", "type": "tokens"}}

BODIES: list[tuple[str, Any, float | None]] = [
    (
        "Telegram",
        {"ok": False, "error_code": 429, "description": "x", "parameters": {"retry_after": 14}},
        14,
    ),
    ("Telegram, in words alone", {"description": "Too Many Requests: retry after 14"}, 14),
    ("Discord", {"message": "rate limited", "retry_after": 64.57, "global": False}, 64.57),
    ("Discord, all of it", {"message": "rate limited", "retry_after": 0.3, "global": True}, 0.3),
    ("camel case", {"retryAfter": 3}, 3),
    ("milliseconds", {"retry_after_ms": 1500}, 1.5),
    ("camel milliseconds", {"retryAfterMs": "250"}, 0.25),
    ("Cosmos's SDK", {"error": {"retryAfterInMilliseconds": 9}}, 0.009),
    ("seconds as text", {"error": {"retryAfterSeconds": "9"}}, 9),
    ("a duration", {"error": {"retryAfter": "1m20s"}}, 80),
    ("a moment", {"retry_after": "2026-09-21T14:13:50Z"}, 30),
    ("Codex", {"error": {"resets_in_seconds": 1234, "resets_at": 1790009999}}, 1234),
    ("Codex, a moment alone", {"error": {"type": "x", "resets_at": 1790000100}}, 100),
    ("a reset that counts something", {"reset": 60}, None),
    ("Gemini Code Assist", {"error": {"details": [{"metadata": {"quotaResetDelay": "2m"}}]}}, 120),
    ("protobuf as JSON", {"error": {"details": [{"retryDelay": {"seconds": 22}}]}}, 22),
    ("OpenRouter, an error as a string", openrouter(json.dumps(OPENAI)), 20),
    ("OpenRouter, an error as an object", openrouter(OPENAI), 20),
    ("OpenRouter, prose", openrouter("slow down, retry in 5 seconds"), 5),
    ("OpenRouter, a field", openrouter('{"error": {"retry_after": 7}}'), 7),
    ("OpenRouter, nothing", openrouter("x is temporarily rate-limited upstream"), None),
    ("the longest of several", {"retry_after": 1, "error": {"retry_after": 4}}, 4),
    ("true is no number", {"retry_after": True}, None),
    ("nothing", {"retry_after": None}, None),
    ("an echo of the request", {"input": {"retry_after": 9}, "message": "no"}, None),
    # prose
    ("resets in", "resets in 40 seconds", 40),
    ("wait", "Please wait 23571 seconds", 23571),
    ("wait, in thousands", "Please wait 23,571 seconds", 23571),
    ("try again in", "try again in 1m20s", 80),
    ("retry in", "retry in 30 seconds", 30),
    ("try again at", "Try again at 2026-09-21T14:14:00Z", 40),
    ("try again at, briefly", "try again at 2026-09-21t14:15z.", 100),
    ("LiteLLM", "Limit type: tokens. Limit resets at: 2026-09-21 14:14:00 UTC", 40),
    ("LiteLLM's error of Vertex's", 'VertexAIException - {"retryDelay": "22s"}', 22),
    ("Gemini CLI", "Your quota will reset after 18h31m10s.", 66_670),
    ("Telethon", "A wait of 23571 seconds is required (caused by X)", 23571),
    ("Telegram's MTProto", "FLOOD_WAIT_30", 30),
    ("Django REST framework", "Request was throttled. Expected available in 40 seconds.", 40),
    ("Stack Exchange", "too many requests, more requests available in 82391 seconds", 82391),
    ("Binance", "Way too much request weight used; IP banned until 1790000060000.", 60),
    ("Cognitive Services", "Try your request again in 4 seconds.", 4),
    ("an HTTP date", "retry after Mon, 21 Sep 2026 14:13:30 GMT", 10),
    ("one", "Please try again in a minute", 60),
    ("unsure of the plural", "Retry in 5 minute(s)", 300),
    ("key and value", "rate limited (retry_after=5)", 5),
    ("a count", "gave up: retry 3", None),
    ("another count", "try again after 3 attempts", None),
    ("a range", "wait 2-3 minutes", None),
    ("an hour of the day", "resets at 10:30", None),
    ("a place in a list", "available at 5 seconds", None),
]


@each("body, wait", [r[1:] for r in BODIES])
@each("form", ["parsed", "bytes"])
def test_a_wait_in_a_body(body: Any, wait: float | None, form: str) -> None:
    if form == "bytes":
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    found = refusal({}, body)
    assert found.wait == (None if wait is None else pytest.approx(wait))
    assert found.odd == ""


def test_an_error_of_the_provider_behind_is_said_and_tells_which_limit() -> None:
    found = refusal({}, openrouter(json.dumps(OPENAI)))
    assert (found.kind, found.typed) == (Kind.TOKENS, True)
    assert found.message.startswith("Provider returned error: tokens per min (TPM).")


def test_an_account_of_the_provider_behind_is_not_ours() -> None:
    raw = json.dumps({"error": {"message": "no", "code": "insufficient_quota"}})
    assert refusal({}, openrouter(raw)).kind is Kind.RATE


def test_what_cannot_be_read_in_a_body_is_said() -> None:
    found = refusal({}, {"retry_after": "soon"})
    assert (found.wait, found.odd) == (None, "retry_after: 'soon' ignored")


HEADERS: list[tuple[str, dict[str, str], float | None]] = [
    ("X", {"x-rate-limit-reset": "1790000060", "x-rate-limit-remaining": "0"}, 60),
    ("X, some left", {"x-rate-limit-reset": "1790000060", "x-rate-limit-remaining": "3"}, None),
    ("Cosmos", {"x-ms-retry-after-ms": "57"}, 0.057),
    ("Discord", {"X-RateLimit-Reset-After": "1.5", "X-RateLimit-Remaining": "0"}, 1.5),
    (
        "Discord, all of it",
        {"X-RateLimit-Reset": "1790000099.5", "X-RateLimit-Reset-After": "1.5"},
        1.5,
    ),
    ("turned", {"x-ratelimit-requests-reset": "30", "x-ratelimit-requests-remaining": "0"}, 30),
    ("in the singular", {"X-Rate-Limit-Token-Reset": "9", "X-Rate-Limit-Token-Left": "0"}, 9),
    ("of searches", {"x-ratelimit-search-reset": "30", "x-ratelimit-search-remaining": "0"}, 30),
    (
        "of images, left",
        {"x-ratelimit-reset-images": "30", "x-ratelimit-remaining-images": "2"},
        None,
    ),
    ("Anthropic's plans", {"anthropic-ratelimit-unified-reset": "1790000030"}, 30),
    ("x-", {"X-Retry-After": "4"}, 4),
    ("ms", {"X-Retry-After-Ms": "40"}, 0.04),
    ("bucket4j", {"X-Rate-Limit-Retry-After-Seconds": "7"}, 7),
    ("Perforce", {"RetryAfter": "3"}, 3),
    ("gRPC's pushback", {"grpc-retry-pushback-ms": "250"}, 0.25),
    ("two names, the longer", {"retry-after": "2", "x-retry-after": "5"}, 5),
    ("two names of ms", {"x-ms-retry-after-ms": "2", "retry-after-ms": "5"}, 0.005),
    ("Brave", {"x-ratelimit-remaining": "0, 100", "x-ratelimit-reset": "1, 1419704"}, 1),
    ("Brave, none used up", {"x-ratelimit-remaining": "1, 9", "x-ratelimit-reset": "1, 99"}, None),
    ("Jira", {"x-ratelimit-reset": "2026-09-21T14:14Z", "x-ratelimit-remaining": "0"}, 40),
    ("in lower case", {"retry-after": "2026-09-21t14:14z"}, 40),
    ("with a space and an offset", {"retry-after": "2026-09-21 16:14:00 +0200"}, 40),
    ("Go's time", {"retry-after": "2026-09-21 14:14:00.123456789 +0000 UTC"}, 40.123456),
    ("RFC 2822's zone", {"retry-after": "Mon, 21 Sep 2026 16:13:30 +0200"}, 10),
    ("half a second", {"retry-after": ".5s"}, 0.5),
    ("Go's most", {"retry-after": "1h2m3.456789012s"}, 3723.456789012),
    ("microseconds", {"retry-after": "500us"}, 0.0005),
    ("micro sign", {"retry-after": "500µs"}, 0.0005),
    ("Greek mu", {"retry-after": "500μs"}, 0.0005),
    ("Java's duration", {"retry-after": "PT1M30S"}, 90),
    ("no retry", {"x-should-retry": "false", "x-retry-count": "9"}, None),
]


@each("headers, wait", [r[1:] for r in HEADERS])
def test_a_wait_in_a_header(headers: dict[str, str], wait: float | None) -> None:
    assert wait_from(headers, None, wall_time=NOW) == (
        None if wait is None else pytest.approx(wait, abs=1e-5),
        "",
    )


@each(
    "name, known",
    [
        ("X-Rate-Limit-Limit", "x-ratelimit-limit"),
        ("x-ratelimit-limit-req-minute", "x-ratelimit-limit-requests-minute"),
        ("x-ratelimit-minute-tokens-limit", "x-ratelimit-limit-tokens-minute"),
        ("x-ratelimit-limit-tokens-prompt", "x-ratelimit-limit-input-tokens"),
        ("X-RateLimit-Daily-Remaining", "x-ratelimit-remaining-day"),
        ("x-hubspot-ratelimit-daily-remaining", "x-ratelimit-remaining-day"),
        ("x_ratelimit_reset", "x-ratelimit-reset"),
        ("x-ratelimit-reset-seconds", "x-ratelimit-reset"),
        ("x-ratelimit-reset-ms", "x-ratelimit-reset-ms"),
        ("anthropic-ratelimit-input-tokens-limit", "anthropic-ratelimit-input-tokens-limit"),
        ("RateLimit-Reset", "ratelimit-reset"),
        ("Rate-Limit-Reset", "ratelimit-reset"),
        ("x-tokenlimit-limit", "x-tokenlimit-limit"),
        ("x-should-retry", "x-should-retry"),  # no wait, but advice
        ("content-type", None),
        ("Date", "date"),
    ],
)
def test_the_words_of_a_name_come_in_any_order(name: str, known: str | None) -> None:
    assert known_name(name) == known


LIMITS: list[tuple[str, dict[str, str], LimitHint]] = [
    (
        "X",
        {"x-rate-limit-limit": "15", "x-rate-limit-remaining": "3", "x-rate-limit-reset": "60"},
        LimitHint("requests", 15, 3, 60, None),
    ),
    (
        "turned",
        {"x-ratelimit-tokens-limit": "900", "x-ratelimit-tokens-remaining": "9"},
        LimitHint("tokens", 900, 9, None, 60),
    ),
    ("Kong", {"X-RateLimit-Limit-Hour": "500"}, LimitHint("requests", 500, None, None, 3600)),
    (
        "Cerebras, a month",
        {"x-ratelimit-limit-tokens-month": "9"},
        LimitHint("tokens", 9, None, None, 2_592_000),
    ),
    (
        "OpenAI's project",
        {"x-ratelimit-limit-project-tokens": "30"},
        LimitHint("tokens", 30, None, None, 60),
    ),
]


@pytest.mark.parametrize(("headers", "hint"), [r[1:] for r in LIMITS], ids=[r[0] for r in LIMITS])
def test_a_limit_in_headers(headers: dict[str, str], hint: LimitHint) -> None:
    assert limits_from(headers, wall_time=NOW) == (hint,)


def test_of_a_limit_under_two_names_the_usual_name_holds() -> None:
    headers = [
        ("X-Rate-Limit-Limit", "9"),
        ("X-RateLimit-Limit", "15"),
        ("x-rate-limit-limit", "8"),
    ]
    assert limits_from(headers, wall_time=NOW) == (LimitHint("requests", 15, None, None, None),)


# The server's clock -----------------------------------------------------------------------------

AN_HOUR_BEHIND = "Mon, 21 Sep 2026 13:13:20 GMT"
CLOCKS: list[tuple[str, dict[str, str], Any]] = [
    ("Retry-After", {"retry-after": "Mon, 21 Sep 2026 13:13:30 GMT"}, None),
    ("epoch", {"x-ratelimit-reset": "1789996410", "x-ratelimit-remaining": "0"}, None),
    ("epoch ms", {"retry-after": "1789996410000"}, None),
    ("x-rate-limit-reset", {"x-rate-limit-reset": "1789996410"}, None),
    (
        "Anthropic",
        {
            "anthropic-ratelimit-tokens-reset": "2026-09-21T13:13:30Z",
            "anthropic-ratelimit-tokens-remaining": "0",
        },
        None,
    ),
    ("a structured date", {"ratelimit": '"a";r=0;t=@1789996410'}, None),
    ("a body", {}, {"reset_at": "2026-09-21T13:13:30Z"}),
    ("a message", {}, "Try again at 2026-09-21T13:13:30Z"),
    (
        "OpenRouter",
        {},
        {"error": {"metadata": {"headers": {"x-ratelimit-reset": "1789996410000"}}}},
    ),
]


@each("headers, body", [r[1:] for r in CLOCKS])
def test_a_moment_is_read_against_the_clock_of_who_names_it(headers: Any, body: Any) -> None:
    assert refusal(headers | {"Date": AN_HOUR_BEHIND}, body).wait == 10
    assert refusal(headers, body).wait == 0  # by ours it is past
    assert refusal(headers | {"Date": "banana"}, body).wait == 0


def test_an_hour_ahead_is_no_wait_of_an_hour() -> None:
    headers = {"date": "Mon, 21 Sep 2026 15:13:20 GMT", "x-ratelimit-reset": "1790003605"}
    assert refusal(headers).wait == 5
    (hint,) = limits_from(headers, wall_time=NOW)
    assert hint.reset == 5


def test_a_delay_needs_no_clock() -> None:
    assert refusal({"date": AN_HOUR_BEHIND, "retry-after": "7"}).wait == 7


@pytest.mark.parametrize("reset", ["-50", "nan", "inf", "soon", "1e30"])
def test_a_reset_of_a_days_quota_that_cannot_be_meant_closes_nothing(reset: str) -> None:
    headers = {
        "x-ratelimit-limit-requests-day": "1000", "x-ratelimit-remaining-requests-day": "0",
        "x-ratelimit-reset-requests-day": reset,
    }  # fmt: skip
    refusal = refusal_from_response(429, headers, None, wall_time=1.8e9)
    assert refusal is not None
    assert refusal.per is None
    if reset != "1e30":
        assert f"{reset}' ignored" in refusal.odd
    del headers["x-ratelimit-reset-requests-day"]
    refusal = refusal_from_response(429, headers, None, wall_time=1.8e9)
    assert refusal is not None
    assert refusal.per == 86_400
