"""Which kind of refusal an answer is: a table of answers that each provider gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from refusing import (
    GEMINI_DAY,
    GEMINI_MINUTE,
    GEMINI_QUOTA,
    GEMINI_TOKENS,
    NOW,
    OPENAI_RPM,
    OPENAI_TPM,
    error_body,
    gemini,
    refusal,
)

from headway.events import Kind
from headway.hints import LimitHint, limits_from, refusal_from_response

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
