"""Tables of what is known: each provider's headers, bodies and prose, and what they mean."""

from __future__ import annotations

import email.message
import errno
import json
import socket
import ssl
import urllib.error
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from headway.errors import DeadlineExceeded, Latched
from headway.errors import Refused as RefusedResult
from headway.events import Kind
from headway.hints import (
    LONGEST_WAIT,
    LimitHint,
    Refusal,
    classify,
    limits_from,
    limits_in_message,
    refusal_from_response,
    wait_from,
)

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z


def refusal(status: int, headers: Any = None, body: Any = None) -> Refusal:
    found = refusal_from_response(status, headers or {}, body, wall_time=NOW)
    assert found is not None
    return found


def error_body(message: str = "", **fields: object) -> dict[str, object]:
    return {"error": {"message": message, **fields}}


def gemini(*quota_ids: str, delay: str | None = "22s", message: str = "") -> dict[str, object]:
    details: list[dict[str, object]] = [
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": each} for each in quota_ids],
        }
    ]
    if delay is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return error_body(message, code=429, status="RESOURCE_EXHAUSTED", details=details)


# Kinds ------------------------------------------------------------------------------------------

GEMINI_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
GEMINI_TOKENS = "GenerateContentInputTokensPerModelPerMinute-FreeTier"
GEMINI_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
GEMINI_QUOTA = "You exceeded your current quota, please check your plan and billing details. "
OPENAI_TPM = (
    "Rate limit reached for gpt-4 in organization org-x on tokens per min (TPM): Limit 10000, "
    "Used 9500, Requested 1000. Please try again in 3s. Visit https://x to learn more."
)
OPENAI_RPM = (
    "Rate limit reached for gpt-4 in organization org-x on requests per min (RPM): Limit 3, "
    "Used 3, Requested 1. Please try again in 20s."
)

TYPED_429: list[tuple[str, Any, Kind]] = [
    (
        "together requests",
        error_body(type="rate_limit", error_type="dynamic_request_limited"),
        Kind.RATE,
    ),
    ("together tokens", error_body(type="dynamic_token_limited"), Kind.TOKENS),
    (
        "together outside",
        {"error": {"message": "x"}, "error_type": "dynamic_token_limited"},
        Kind.TOKENS,
    ),
    ("together type", error_body("slow", type="requests", code="rate_limit_exceeded"), Kind.RATE),
    (
        "together model",
        error_body("maximum rate limit for this model is 9.0 queries per minute"),
        Kind.RATE,
    ),
    ("openai type tokens", error_body(type="tokens", code="rate_limit_exceeded"), Kind.TOKENS),
    ("openai tpm", error_body(OPENAI_TPM), Kind.TOKENS),
    ("openai rpm", error_body(OPENAI_RPM), Kind.RATE),
    ("openai inner body", {"message": OPENAI_TPM, "type": "tokens"}, Kind.TOKENS),
    (
        "anthropic tokens",
        error_body("would exceed your limit of 30,000 input tokens per minute"),
        Kind.TOKENS,
    ),
    (
        "anthropic old",
        error_body("Number of request tokens has exceeded your per-minute rate limit"),
        Kind.TOKENS,
    ),
    (
        "anthropic requests",
        error_body("Number of requests has exceeded your per-minute rate limit"),
        Kind.RATE,
    ),
    (
        "anthropic connections",
        error_body("Number of concurrent connections has exceeded"),
        Kind.CONCURRENCY,
    ),
    ("code", error_body(code="concurrency_limit_exceeded"), Kind.CONCURRENCY),
    ("moonshot", error_body("request reached max organization concurrency: 3"), Kind.CONCURRENCY),
    ("simultaneous", "Too many simultaneous requests", Kind.CONCURRENCY),
    ("parallel", b"too many parallel requests", Kind.CONCURRENCY),
    ("in flight", error_body("64 requests in flight"), Kind.CONCURRENCY),
    ("cohere", {"message": "a Trial key, which is limited to 10 API calls / minute"}, Kind.RATE),
    ("gemini requests", gemini(GEMINI_MINUTE), Kind.RATE),
    ("gemini tokens", gemini(GEMINI_TOKENS, message=GEMINI_QUOTA), Kind.TOKENS),
    ("gemini day", gemini(GEMINI_DAY, message=GEMINI_QUOTA), Kind.RATE),
    ("gemini in an array", [gemini(GEMINI_TOKENS)], Kind.TOKENS),
    (
        "bedrock",
        {"__type": "ThrottlingException", "message": "Too many tokens, please wait"},
        Kind.TOKENS,
    ),
]


@pytest.mark.parametrize(
    ("body", "kind"), [row[1:] for row in TYPED_429], ids=[r[0] for r in TYPED_429]
)
@pytest.mark.parametrize("form", ["parsed", "bytes", "str"])
def test_a_429_that_says_which_limit(body: Any, kind: Kind, form: str) -> None:
    if form != "parsed" and not isinstance(body, str | bytes):
        body = json.dumps(body)
        body = body.encode() if form == "bytes" else body
    found = refusal(429, {}, body)
    assert (found.kind, found.typed, found.status) == (kind, True, 429)


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        "Too Many Requests",
        {},
        [],
        error_body(),
        error_body("Rate limit exceeded", type="rate_limit_error"),
        error_body("You have reached 600 RPM (10 QPS) and 180000 TPM (3000 TPS)"),
        gemini(GEMINI_MINUTE, GEMINI_TOKENS, message=GEMINI_QUOTA),
        {"error": "rate limited"},
        {"errors": [{"message": "rate limited"}]},
        "<html><title>429 Too Many Requests</title></html>",
    ],
)
def test_a_429_that_does_not_say_which_limit(body: Any) -> None:
    found = refusal(429, {}, body)
    assert (found.kind, found.typed) == (Kind.RATE, False)


KINDS: list[tuple[str, int, Any, Any, Kind]] = [
    # capacity
    ("503", 503, {}, None, Kind.CAPACITY),
    ("Envoy", 503, {"x-envoy-overloaded": "true"}, "upstream", Kind.CONCURRENCY),
    ("Envoy, not so", 503, {"x-envoy-overloaded": "false"}, None, Kind.CAPACITY),
    ("Envoy, not a 503", 500, {"x-envoy-overloaded": "true"}, None, Kind.TRANSIENT),
    ("529", 529, {}, error_body("Overloaded", type="overloaded_error"), Kind.CAPACITY),
    ("overloaded, any status", 500, {}, error_body(type="overloaded_error"), Kind.CAPACITY),
    ("engine", 429, {}, error_body("The engine is currently overloaded"), Kind.CAPACITY),
    ("mistral tier", 429, {}, {"type": "service_tier_capacity_exceeded"}, Kind.CAPACITY),
    ("groq flex", 498, {}, error_body(code="capacity_exceeded"), Kind.CAPACITY),
    ("prose of a 400", 400, {}, error_body("operator is overloaded"), Kind.PERMANENT),
    # quota
    ("402", 402, {}, None, Kind.QUOTA),
    ("together credit", 402, {}, error_body(type="credit_limit", code=None), Kind.QUOTA),
    ("credit, any status", 403, {}, error_body(type="credit_limit"), Kind.QUOTA),
    ("openai quota", 429, {}, error_body(GEMINI_QUOTA, code="insufficient_quota"), Kind.QUOTA),
    ("anthropic credit", 400, {}, error_body("Your credit balance is too low"), Kind.QUOTA),
    ("mistral none", 429, {"X-RateLimit-Limit-Req-Minute": "0"}, None, Kind.QUOTA),
    ("mistral some", 429, {"x-ratelimit-limit-req-minute": "60"}, None, Kind.RATE),
    (
        "gemini none",
        429,
        {},
        gemini(GEMINI_DAY, message="Quota exceeded for metric: x/requests, limit: 0, model: m"),
        Kind.QUOTA,
    ),
    (
        "gemini some",
        429,
        {},
        gemini(GEMINI_DAY, message="Quota exceeded for metric: x/requests, limit: 0.5, model: m"),
        Kind.RATE,
    ),
    # auth
    ("401", 401, {}, None, Kind.AUTH),
    ("403 key", 403, {}, error_body("Invalid API key provided"), Kind.AUTH),
    (
        "gemini key",
        400,
        {},
        error_body("API key not valid. Please pass a valid API key."),
        Kind.AUTH,
    ),
    ("xai key", 400, {}, error_body("Incorrect API key provided: xa***"), Kind.AUTH),
    ("key by code", 403, {}, error_body("no", code="invalid_api_key"), Kind.AUTH),
    ("a quoted prompt", 400, {}, error_body("x" * 100 + " invalid api key"), Kind.PERMANENT),
    # 403
    (
        "together context",
        403,
        {"x-ratelimit-remaining": "0"},
        error_body("too long"),
        Kind.PERMANENT,
    ),
    (
        "github primary",
        403,
        {"X-RateLimit-Remaining": "0"},
        {"message": "API rate limit exceeded for user ID 1."},
        Kind.RATE,
    ),
    ("github retry", 403, {"Retry-After": "60"}, {"message": "rate limit"}, Kind.RATE),
    (
        "github secondary",
        403,
        {},
        {"message": "You have exceeded a secondary rate limit."},
        Kind.RATE,
    ),
    ("403 by type", 403, {}, error_body(type="rate_limit_error"), Kind.RATE),
    ("403 of prose", 403, {}, {"message": "see our rate limit page"}, Kind.PERMANENT),
    ("aws", 400, {}, {"__type": "com.amazon#ThrottlingException"}, Kind.RATE),
    # the rest
    (
        "too large",
        429,
        {},
        error_body("Request too large for gpt-4", type="tokens"),
        Kind.PERMANENT,
    ),
    (
        "groq too large",
        413,
        {},
        error_body("tokens per minute (TPM)", type="tokens"),
        Kind.PERMANENT,
    ),
    ("filter", 400, {}, error_body("filtered", code="content_filter"), Kind.PERMANENT),
    *(
        (str(each), each, {}, None, Kind.TRANSIENT)
        for each in (408, 409, 425, 500, 502, 504, 520, 599)
    ),
    *(
        (str(each), each, {}, None, Kind.PERMANENT)
        for each in (400, 403, 404, 405, 413, 422, 451, 999)
    ),
]


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind"), [row[1:] for row in KINDS], ids=[row[0] for row in KINDS]
)
def test_kinds(status: int, headers: Any, body: Any, kind: Kind) -> None:
    found = refusal(status, headers, body)
    assert (found.kind, found.status) == (kind, status)


@pytest.mark.parametrize("status", [100, 200, 204, 302, 399])
def test_a_success_is_no_refusal_whatever_its_headers(status: int) -> None:
    headers = {"retry-after": "30", "x-ratelimit-over-limit": "yes", "x-ratelimit-remaining": "0"}
    assert refusal_from_response(status, headers, None, wall_time=NOW) is None
    assert limits_from(headers, wall_time=NOW) == (LimitHint("requests", None, 0, None, None),)


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


# Limits -----------------------------------------------------------------------------------------

Unit = Literal["second", "minute"] | None

LIMITS: list[tuple[str, Any, Unit, list[LimitHint]]] = [
    ("nothing", {"content-type": "text/html"}, None, []),
    (
        "together",
        {
            "x-ratelimit-limit": "10",
            "x-ratelimit-remaining": "9",
            "x-ratelimit-reset": "1",
            "x-tokenlimit-limit": "3000",
            "x-tokenlimit-remaining": "2000",
            "x-ratelimit-limit-dynamic": "20",
            "x-ratelimit-remaining-dynamic": "19",
        },
        None,
        [
            LimitHint("requests", 10, 9, 1, None),
            LimitHint("tokens", 3000, 2000, None, None),
            LimitHint("requests", 20, 19, None, None, dynamic=True),
        ],
    ),
    (
        "together a second",
        {"x-ratelimit-limit": "10"},
        "second",
        [LimitHint("requests", 10, None, None, 1)],
    ),
    (
        "together a minute",
        {"x-tokenlimit-limit": "9"},
        "minute",
        [LimitHint("tokens", 9, None, None, 60)],
    ),
    (
        "openai per minute",
        {
            "x-ratelimit-limit-requests": "500",
            "x-ratelimit-remaining-requests": "499",
            "x-ratelimit-reset-requests": "120ms",
            "x-ratelimit-limit-tokens": "30000",
            "x-ratelimit-remaining-tokens": "29996",
            "x-ratelimit-reset-tokens": "8ms",
        },
        None,
        [LimitHint("requests", 500, 499, 0.12, 60), LimitHint("tokens", 30000, 29996, 0.008, 60)],
    ),
    (
        "openai per day",
        {
            "x-ratelimit-limit-requests": "10000",
            "x-ratelimit-remaining-requests": "9999",
            "x-ratelimit-reset-requests": "8.64s",
        },
        None,
        [LimitHint("requests", 10_000, 9_999, 8.64, 86_400)],
    ),
    (
        "groq per day",
        {
            "x-ratelimit-limit-requests": "14400",
            "x-ratelimit-remaining-requests": "14370",
            "x-ratelimit-reset-requests": "2m59.56s",
        },
        None,
        [LimitHint("requests", 14_400, 14_370, 179.56, 86_400)],
    ),
    (
        "no period can be told",
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "60",
            "x-ratelimit-reset-requests": "1s",
        },
        None,
        [LimitHint("requests", 60, 60, 1, None)],
    ),
    (
        "no period fits",
        {
            "x-ratelimit-limit-requests": "100",
            "x-ratelimit-remaining-requests": "90",
            "x-ratelimit-reset-requests": "1s",
        },
        None,
        [LimitHint("requests", 100, 90, 1, None)],
    ),
    (
        "azure unknown",
        {
            "x-ratelimit-limit-tokens": "-1",
            "x-ratelimit-remaining-tokens": "-1",
            "x-ratelimit-reset-tokens": "42",
        },
        None,
        [LimitHint("tokens", None, None, 42, 60)],
    ),
    (
        "a limit sent twice, one that is none, and one of words",
        {
            "x-ratelimit-limit-requests": "200, 100",
            "x-ratelimit-limit-input-tokens": "1O0",
            "x-ratelimit-remaining-input-tokens": "5",
            "x-ratelimit-limit-tokens": "unlimited",
            "x-ratelimit-remaining-tokens": "7",
        },
        None,
        [
            LimitHint(
                "requests",
                100,
                None,
                None,
                None,
                odd="x-ratelimit-limit-requests: '200, 100' are several limits: the lower holds",
            ),
            LimitHint("tokens", None, 7, None, 60),
            LimitHint(
                "input_tokens",
                None,
                5,
                None,
                60,
                odd="x-ratelimit-limit-input-tokens: '1O0' ignored",
            ),
        ],
    ),
    (
        "two of one class, and those of a project",
        {
            "x-ratelimit-limit-tokens": "30000",
            "anthropic-ratelimit-tokens-limit": "90000",
            "x-ratelimit-limit-project-tokens": "10000",
        },
        None,
        [
            LimitHint("tokens", 30_000, None, None, 60),
            LimitHint(
                "tokens",
                90_000,
                None,
                None,
                60,
                odd="tokens limits of 30,000 and 90,000 in 1 min contradict each other: "
                "the lower holds",
            ),
            LimitHint("tokens", 10_000, None, None, 60),
        ],
    ),
    (
        "a reset of the past",
        {
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-reset": "2026-09-21T14:13:00Z",
        },
        None,
        [LimitHint("requests", 50, None, 0, 60)],
    ),
    (
        "anthropic",
        {
            "anthropic-ratelimit-input-tokens-limit": "50000",
            "anthropic-ratelimit-input-tokens-remaining": "49000",
            "anthropic-ratelimit-input-tokens-reset": "2026-09-21T14:13:21.5Z",
            "anthropic-ratelimit-output-tokens-limit": "8000",
        },
        None,
        [
            LimitHint("input_tokens", 50_000, 49_000, 1.5, 60),
            LimitHint("output_tokens", 8_000, None, None, 60),
        ],
    ),
    (
        "mistral",
        {
            "x-ratelimit-limit-req-minute": "60",
            "x-ratelimit-remaining-req-minute": "59",
            "x-ratelimit-limit-tokens-minute": "500000",
            "x-ratelimit-tokens-query-cost": "9",
        },
        None,
        [LimitHint("requests", 60, 59, None, 60), LimitHint("tokens", 500_000, None, None, 60)],
    ),
    (
        "mistral by size",
        {"ratelimitbysize-limit": "9", "ratelimitbysize-reset": "20"},
        None,
        [LimitHint("tokens", 9, None, 20, None)],
    ),
    (
        "cerebras",
        {"x-ratelimit-limit-requests-day": "14400"},
        None,
        [LimitHint("requests", 14_400, None, None, 86_400)],
    ),
    (
        "fireworks",
        {
            "x-ratelimit-limit-tokens-prompt": "60000",
            "x-ratelimit-limit-tokens-generated": "6000",
            "x-ratelimit-over-limit": "yes",
        },
        None,
        [
            LimitHint("input_tokens", 60_000, None, None, 60),
            LimitHint("output_tokens", 6_000, None, None, 60),
        ],
    ),
    (
        "hugging face",
        {"ratelimit": '"api";r=3;t=55', "ratelimit-policy": '"fixed window";"api";q=500;w=300'},
        None,
        [LimitHint("requests", 500, 3, 55, 300)],
    ),
    (
        "draft 10",
        {
            "RateLimit-Policy": '"burst";q=100;w=60,"daily";q=1000;w=86400',
            "RateLimit": '"burst";r=50;t=30',
        },
        None,
        [LimitHint("requests", 100, 50, 30, 60), LimitHint("requests", 1000, None, None, 86_400)],
    ),
    (
        "draft 10 with units",
        {"RateLimit-Policy": '"a";q=65535;qu="content-bytes";w=9;pk=:sdf==:,"tokens";q=9;w=1'},
        None,
        [LimitHint("tokens", 9, None, None, 1)],
    ),
    (
        "draft 8 token",
        {"ratelimit": "default;r=50;t=30"},
        None,
        [LimitHint("requests", None, 50, 30, None)],
    ),
    (
        "draft 7",
        {"ratelimit": "limit=100, remaining=50, reset=5", "ratelimit-policy": "100;w=60, 9;w=1"},
        None,
        [LimitHint("requests", 100, 50, 5, 60), LimitHint("requests", 9, None, None, 1)],
    ),
    (
        "draft 6",
        {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "50", "ratelimit-reset": "50"},
        None,
        [LimitHint("requests", 100, 50, 50, None)],
    ),
    ("malformed", {"ratelimit": '"a";r=;t=1', "ratelimit-policy": "!"}, None, []),
    ("beyond reason", {"x-ratelimit-reset": "999999999"}, None, []),
]


@pytest.mark.parametrize(
    ("headers", "unit", "hints"), [row[1:] for row in LIMITS], ids=[row[0] for row in LIMITS]
)
def test_limits(headers: Any, unit: Unit, hints: list[LimitHint]) -> None:
    found = limits_from(headers, wall_time=NOW, together_unit=unit)
    assert [_pairs(hint) for hint in hints] == [
        pytest.approx(_pairs(hint), abs=1e-6) for hint in found
    ]


def _pairs(hint: LimitHint) -> dict[str, object]:
    fields = "limit", "remaining", "reset", "per"
    return {name: getattr(hint, name) for name in fields} | {"what": hint.what, "dyn": hint.dynamic}


@pytest.mark.parametrize(
    ("message", "limits"),
    [
        (
            "You have reached 600 RPM (10 QPS) and 180000 TPM (3000 TPS).",
            [
                ("requests", 600, 60),
                ("requests", 10, 1),
                ("tokens", 180_000, 60),
                ("tokens", 3000, 1),
            ],
        ),
        ("maximum rate limit for this model is 9.0 queries per minute", [("requests", 9, 60)]),
        ("limit of 30,000 input tokens per minute", [("input_tokens", 30_000, 60)]),
        ("8,000 output tokens per minute", [("output_tokens", 8_000, 60)]),
        ("limited to 10 API calls / minute", [("requests", 10, 60)]),
        (
            "1000 requests per day, 5 requests a second",
            [("requests", 1000, 86_400), ("requests", 5, 1)],
        ),
        ("0 RPM", []),
        ("version 3.5 is not RPM", []),
    ],
)
def test_limits_in_prose(message: str, limits: list[tuple[str, float, float]]) -> None:
    assert [(hint.what, hint.limit, hint.per) for hint in limits_in_message(message)] == limits
    assert limits_from({}, error_body(message), wall_time=NOW) == limits_in_message(message)


def test_limits_of_openrouter_are_in_the_body() -> None:
    body = error_body(
        metadata={"headers": {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0"}}
    )
    assert limits_from({}, json.dumps(body), wall_time=NOW) == (
        LimitHint("requests", 20, 0, None, None),
    )


# Messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (error_body("slow\n\tdown\x1b[31m"), "slow down [31m"),
        ({"detail": "no such model"}, "no such model"),
        ({"error": "not found"}, "not found"),
        ({"error": "invalid_client", "error_description": "why"}, "why"),
        ("plain   text", "plain text"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("<!doctype html><html><title>502 Bad\nGateway</title>", "502 Bad Gateway"),
        ("<html><body>nothing</body>", "HTTP 418"),
        (None, "HTTP 418"),
        ({"detail": [{"loc": ["body"]}]}, "HTTP 418"),
        (error_body("x" * 1000), "x" * 300),
    ],
)
def test_the_message_is_one_short_line(body: Any, message: str) -> None:
    assert refusal(418, {}, body).message == message


# Exceptions -------------------------------------------------------------------------------------


class Carrier(Exception):
    """An error of some SDK: what it carries, and nothing else."""

    def __init__(self, text: str = "boom", **fields: object) -> None:
        super().__init__(text)
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    ("error", "kind", "status", "wait"),
    [
        (Carrier(status_code=429), Kind.RATE, 429, None),
        (Carrier(status=503), Kind.CAPACITY, 503, None),
        (Carrier(code=401), Kind.AUTH, 401, None),
        (Carrier(http_status=402), Kind.QUOTA, 402, None),
        (Carrier(code="429"), Kind.PERMANENT, None, None),
        (Carrier(code=True), Kind.PERMANENT, None, None),
        (Carrier(status_code=200), Kind.PERMANENT, None, None),
        (Carrier(status_code=1006), Kind.PERMANENT, None, None),
        (Carrier(status_code=429, headers=[("Retry-After", "3")]), Kind.RATE, 429, 3),
        (Carrier("tokens per min: try again in 2s", status_code=429), Kind.TOKENS, 429, 2),
        (Carrier(response=SimpleNamespace(status=500)), Kind.TRANSIENT, 500, None),
        (
            Carrier(
                response=SimpleNamespace(
                    status_code=429, headers={"RETRY-AFTER": "4"}, content=b'{"type":"tokens"}'
                )
            ),
            Kind.TOKENS,
            429,
            4,
        ),
        (
            Carrier(  # botocore
                response={
                    "Error": {"Code": "ThrottlingException", "Message": "Too many tokens"},
                    "ResponseMetadata": {
                        "HTTPStatusCode": 400,
                        "HTTPHeaders": {"retry-after": "1"},
                    },
                }
            ),
            Kind.TOKENS,
            400,
            1,
        ),
        (  # google.genai
            Carrier(code=429, status="RESOURCE_EXHAUSTED", details=gemini(GEMINI_TOKENS)),
            Kind.TOKENS,
            429,
            22,
        ),
        # errors inside a stream: no status
        (Carrier(body={"type": "overloaded_error"}), Kind.CAPACITY, None, None),
        (Carrier(body=error_body("in 2s", type="rate_limit_error")), Kind.RATE, None, None),
        (Carrier(body=error_body("try again in 2s", type="tokens")), Kind.TOKENS, None, 2),
        (Carrier(body=error_body(code=502)), Kind.TRANSIENT, None, None),
        (Carrier(body=error_body(code="429")), Kind.RATE, None, None),
        (Carrier(body={"type": "server_error"}), Kind.TRANSIENT, None, None),
        (Carrier(body={"code": "insufficient_quota"}), Kind.QUOTA, None, None),
        (Carrier(body={"code": "invalid_api_key"}), Kind.AUTH, None, None),
        (Carrier(body={"type": "invalid_request_error"}), Kind.PERMANENT, None, None),
        (Carrier(body="text"), Kind.PERMANENT, None, None),
        # the network
        (ConnectionResetError(), Kind.TRANSIENT, None, None),
        (TimeoutError(), Kind.TRANSIENT, None, None),
        (socket.gaierror(-2, "Name or service not known"), Kind.TRANSIENT, None, None),
        (ssl.SSLError(1, "record layer failure"), Kind.TRANSIENT, None, None),
        (ssl.SSLCertVerificationError(1, "expired"), Kind.PERMANENT, None, None),
        *(
            (OSError(number, "x"), Kind.TRANSIENT, None, None)
            for number in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)
        ),
        # not recognised
        (OSError(errno.ENOSPC, "x"), Kind.PERMANENT, None, None),
        (OSError("x"), Kind.PERMANENT, None, None),
        (FileNotFoundError(2, "x"), Kind.PERMANENT, None, None),
        (ValueError("x"), Kind.PERMANENT, None, None),
        (KeyboardInterrupt(), Kind.PERMANENT, None, None),
        (SystemExit(429), Kind.PERMANENT, None, None),
        # our own
        (DeadlineExceeded("x"), Kind.PERMANENT, None, None),
        (Latched("x", Kind.AUTH), Kind.PERMANENT, None, None),
    ],
)
def test_exceptions(
    error: BaseException, kind: Kind, status: int | None, wait: float | None
) -> None:
    found = classify(error, wall_time=NOW)
    assert (found.kind, found.status, found.wait, found.odd) == (kind, status, wait, "")


def test_urllib_carries_its_code_and_headers() -> None:
    headers = email.message.Message()
    headers["Retry-After"] = "6"
    error = urllib.error.HTTPError("https://x", 429, "Too Many Requests", headers, None)
    found = classify(error, wall_time=NOW)
    assert (found.kind, found.wait, found.typed) == (Kind.RATE, 6, False)
    error.close()


def test_a_result_that_was_refused_is_a_limit_of_unknown_type() -> None:
    result = SimpleNamespace(headers={"retry-after": "5"})
    found = classify(RefusedResult("too fast", result), wall_time=NOW)
    assert found == Refusal(Kind.RATE, 5, None, "too fast", typed=False)
    assert classify(RefusedResult("too fast", {"a": 1}), wall_time=NOW).wait is None


def test_messages_of_exceptions_name_the_class() -> None:
    assert classify(ValueError("bad\nvalue"), wall_time=NOW).message == "ValueError: bad value"
    assert classify(TimeoutError(), wall_time=NOW).message == "TimeoutError"


def test_content_is_taken_only_where_it_is_held_already() -> None:
    class Unread:
        status_code = 429

        @property
        def content(self) -> bytes:
            raise AssertionError("read from the network")

        text = content

    assert classify(Carrier(response=Unread()), wall_time=NOW).kind is Kind.RATE


def test_hostile_exceptions_never_raise() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        @property
        def status_code(self) -> int:
            raise RuntimeError("no status")

        response = body = status_code

    assert classify(Hostile(), wall_time=NOW) == Refusal(Kind.PERMANENT, message="Hostile")

    class Liar(dict[str, object]):
        def get(self, *_: object) -> object:
            raise RuntimeError("no items")

    assert classify(Carrier(status_code=429, body=Liar(a=1)), wall_time=NOW) == Refusal(
        Kind.PERMANENT, message="Carrier", odd="could not be read"
    )


def test_a_ring_of_causes_ends() -> None:
    one, two = ConnectionError("one"), ConnectionError("two")
    one.__cause__, two.__cause__ = two, one
    found = classify(one, wall_time=NOW)
    assert found.message == "ConnectionError: one (ConnectionError: two)"
