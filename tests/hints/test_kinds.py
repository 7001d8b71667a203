"""Limits behind other statuses than 429, 429s behind which is something else, quotas of a day."""

from __future__ import annotations

from typing import Any

from cases import each

from headway.events import Kind
from headway.hints import Refusal, refusal_from_response

NOW = 1_790_000_000.0
DAY, MONTH = 86_400.0, 2_592_000.0


def refusal(status: int, headers: Any = None, body: Any = None) -> Refusal:
    found = refusal_from_response(status, headers or {}, body, wall_time=NOW)
    assert found is not None
    return found


def message(text: str, **fields: object) -> dict[str, object]:
    return {"error": {"message": text, **fields}}


def google(reason: str, text: str = "") -> dict[str, object]:
    return {"error": {"errors": [{"domain": "usageLimits", "reason": reason}], "message": text}}


HIDDEN: list[tuple[str, int, Any, Any, Kind, float | None]] = [
    ("Google, a user's rate", 403, {}, google("userRateLimitExceeded"), Kind.RATE, None),
    ("Google, a rate", 403, {"retry-after": "9"}, google("rateLimitExceeded"), Kind.RATE, 9),
    ("Google, a day", 403, {}, google("dailyLimitExceeded"), Kind.RATE, None),
    ("YouTube", 403, {}, google("quotaExceeded", "you have exceeded your quota"), Kind.RATE, None),
    ("Drive, sharing", 403, {}, google("sharingRateLimitExceeded"), Kind.RATE, None),
    ("concurrent", 403, {}, google("concurrentLimitExceeded"), Kind.CONCURRENCY, None),
    ("Drive is full", 403, {}, google("storageQuotaExceeded"), Kind.PERMANENT, None),
    (
        "Google's ErrorInfo",
        403,
        {},
        message("no", details=[{"reason": "RATE_LIMIT_EXCEEDED"}, {"retryDelay": "3s"}]),
        Kind.RATE,
        3,
    ),
    (
        "GitHub, prose",
        403,
        {},
        {"message": "You have exceeded a secondary rate limit."},
        Kind.RATE,
        None,
    ),
    (
        "GitHub, of old",
        403,
        {},
        {"message": "You have triggered an abuse detection mechanism."},
        Kind.RATE,
        None,
    ),
    ("GitHub, a wait alone", 403, {"retry-after": "60"}, None, Kind.RATE, 60),
    (
        "GitHub, none left",
        403,
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000030"},
        None,
        Kind.RATE,
        30,
    ),
    (
        "a wait and a reason that is another",
        403,
        {"retry-after": "60"},
        message("no"),
        Kind.PERMANENT,
        60,
    ),
    (
        "DynamoDB",
        400,
        {},
        {"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"},
        Kind.RATE,
        None,
    ),
    ("AWS", 400, {}, {"__type": "ThrottlingException"}, Kind.RATE, None),
    (
        "AWS, by header",
        400,
        {"x-amzn-ErrorType": "ThrottlingException:http://x/"},
        {"message": "Rate exceeded"},
        Kind.RATE,
        None,
    ),
    (
        "AWS Lambda",
        400,
        {},
        {"code": "TooManyRequestsException", "retryAfterSeconds": "2"},
        Kind.RATE,
        2,
    ),
    (
        "EC2",
        503,
        {},
        "<Response><Errors><Error><Code>RequestLimitExceeded</Code></Error>",
        Kind.RATE,
        None,
    ),
    (
        "S3",
        503,
        {},
        "<Error><Code>SlowDown</Code><Message>Please reduce your rate.</Message>",
        Kind.RATE,
        None,
    ),
    ("a plain 503", 503, {}, "<Error><Code>ServiceUnavailable</Code></Error>", Kind.CAPACITY, None),
    ("no such method", 501, {}, message("Not Implemented"), Kind.PERMANENT, None),
    ("no such HTTP", 505, {}, "HTTP Version Not Supported", Kind.PERMANENT, None),
    ("no such variant", 506, {}, "", Kind.PERMANENT, None),
    ("no such extension", 510, {}, "", Kind.PERMANENT, None),
    ("not yet", 501, {"retry-after": "9"}, "", Kind.TRANSIENT, 9),
    ("once more", 501, {"x-should-retry": "true"}, "", Kind.TRANSIENT, None),
    ("a full disk", 507, {}, "", Kind.TRANSIENT, None),
    ("overloaded", 501, {}, message("the model is overloaded"), Kind.CAPACITY, None),
    ("OpenAI's 503", 503, {}, message("Slow down", code="slow_down"), Kind.RATE, None),
    (
        "Salesforce",
        403,
        {},
        [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}],
        Kind.RATE,
        None,
    ),
    (
        "Atlassian",
        403,
        {"RateLimit-Reason": "jira-burst-based", "retry-after": "4"},
        message("no"),
        Kind.RATE,
        4,
    ),
    ("Atlassian, prose", 400, {}, message("Rate limit exceeded."), Kind.RATE, None),
    (
        "Stack Exchange",
        400,
        {},
        {
            "error_name": "throttle_violation",
            "error_message": "more requests available in 82 seconds",
        },
        Kind.RATE,
        82,
    ),
    ("Meta", 400, {}, message("(#4) Application request limit reached", code=4), Kind.RATE, None),
    ("Binance", 418, {"retry-after": "120"}, {"code": -1003, "msg": "banned"}, Kind.RATE, 120),
    ("Binance, in the body", 418, {}, {"msg": "IP banned until 1790000120000."}, Kind.RATE, 120),
    ("a teapot", 418, {}, "I'm a teapot", Kind.PERMANENT, None),
    ("X, of old", 420, {}, None, Kind.RATE, None),
    ("X, with a wait", 420, {"retry-after": "30"}, "Enhance Your Calm", Kind.RATE, 30),
    ("Telegram's MTProto", 420, {}, "FLOOD_WAIT_31", Kind.RATE, 31),
    ("Shopify", 430, {"retry-after": "2"}, None, Kind.RATE, 2),
    ("bandwidth", 509, {"retry-after": "5"}, None, Kind.RATE, 5),
    ("Anthropic", 529, {"retry-after": "5"}, None, Kind.CAPACITY, 5),
    ("Groq's flex tier", 498, {}, message("Flex tier capacity exceeded"), Kind.CAPACITY, None),
    ("ArcGIS", 498, {}, message("Invalid Token"), Kind.PERMANENT, None),
    ("Cosmos, retry with", 449, {"x-ms-retry-after-ms": "20"}, None, Kind.RATE, 0.02),
    ("a status of their own", 439, {"retry-after": "20"}, None, Kind.RATE, 20),
    (
        "a prompt that is quoted",
        400,
        {},
        message("bad value: " + "x" * 120 + " rate limit exceeded"),
        Kind.PERMANENT,
        None,
    ),
    (
        "Groq's 413",
        413,
        {},
        message("Request too large", code="rate_limit_exceeded"),
        Kind.PERMANENT,
        None,
    ),
]


@each(
    "status, headers, body, kind, wait",
    [r[1:] for r in HIDDEN],
)
def test_a_limit_behind_another_status(
    status: int, headers: Any, body: Any, kind: Kind, wait: float | None
) -> None:
    found = refusal(status, headers, body)
    assert (found.kind, found.status, found.wait) == (kind, status, wait)


FOR_GOOD: list[tuple[str, int, Any, Any, Kind]] = [
    (
        "OpenAI, too large",
        429,
        {},
        message("Request too large for gpt-4o: Limit 30000, Requested 45000.", type="tokens"),
        Kind.PERMANENT,
    ),
    (
        "OpenAI, of old",
        429,
        {},
        message("Limit: 40000 / min. Current: 0 / min. Requested: 45,000"),
        Kind.PERMANENT,
    ),
    (
        "OpenAI, what fits later",
        429,
        {},
        message("Limit 10000, Used 9500, Requested 1000"),
        Kind.RATE,
    ),
    (
        "Anthropic, long context",
        429,
        {},
        message("Extra usage is required for long context requests."),
        Kind.PERMANENT,
    ),
    (
        "an upstream's, too large",
        429,
        {},
        message("Provider returned error", metadata={"raw": "Request too large"}),
        Kind.PERMANENT,
    ),
    (
        "Z.ai",
        429,
        {},
        message("Your current plan does not include access to GLM-5"),
        Kind.PERMANENT,
    ),
    (
        "a model of another tier",
        429,
        {},
        message("This model is not available on your current tier."),
        Kind.PERMANENT,
    ),
    ("a model by code", 429, {}, message("no", code="model_not_found"), Kind.PERMANENT),
    (
        "an advertisement",
        429,
        {},
        message("Rate limit reached. Upgrade to a paid plan for higher limits."),
        Kind.RATE,
    ),
    (
        "OpenAI, a limit of none",
        429,
        {},
        message("on requests per day (RPD): Limit 0, Used 0, Requested 1."),
        Kind.QUOTA,
    ),
    (
        "Gemini, no quota",
        429,
        {},
        message("Quota exceeded for metric: x, limit: 0, model: m"),
        Kind.QUOTA,
    ),
    (
        "Vertex, no quota",
        429,
        {},
        message(
            "no",
            details=[{"reason": "RATE_LIMIT_EXCEEDED", "metadata": {"quota_limit_value": "0"}}],
        ),
        Kind.QUOTA,
    ),
    ("some quota", 429, {}, message("limit: 0.5 a second"), Kind.RATE),
    ("a counter", 429, {}, message("rate limit 0/60"), Kind.RATE),
    ("Mistral", 429, {"x-ratelimit-limit-req-minute": "0"}, None, Kind.QUOTA),
    ("OpenAI's names", 429, {"x-ratelimit-limit-requests": "0"}, None, Kind.QUOTA),
    ("IETF", 429, {"ratelimit-policy": '"default";q=0;w=60'}, None, Kind.QUOTA),
    (
        "one of none, another used up",
        429,
        {
            "x-ratelimit-limit-tokens": "0",
            "x-ratelimit-limit-requests": "5",
            "x-ratelimit-remaining-requests": "0",
        },
        None,
        Kind.RATE,
    ),
    (
        "OpenRouter, one request",
        402,
        {},
        message(
            "You requested up to 4096 tokens, but can only afford 1234. To increase, visit x",
            code=402,
        ),
        Kind.PERMANENT,
    ),
    (
        "OpenRouter, one prompt",
        402,
        {},
        message("Prompt tokens limit exceeded: 9000 > 1000."),
        Kind.PERMANENT,
    ),
    (
        "OpenRouter, nothing left",
        402,
        {},
        message("Requires more credits, or fewer max_tokens. You can only afford 0."),
        Kind.QUOTA,
    ),
    ("a gateway, one request", 402, {}, message("Add credit or lower max_completion_tokens."),
     Kind.PERMANENT),
    (
        "Stripe, one card",
        402,
        {},
        message("Your card was declined.", type="card_error"),
        Kind.PERMANENT,
    ),
    ("DeepSeek", 402, {}, message("Insufficient Balance"), Kind.QUOTA),
    ("Zhipu", 429, {}, message("Insufficient balance or no resource package.", code="1113"),
     Kind.QUOTA),
    ("Zhipu, in Chinese", 429, {}, message("您的账户已欠费", code="1113"), Kind.QUOTA),
    ("Moonshot", 429, {}, message("no", type="exceeded_current_quota_error"), Kind.QUOTA),
    ("Alibaba", 400, {}, {"code": "Arrearage", "message": "Access denied"}, Kind.QUOTA),
    ("xAI", 403, {}, {"code": "x", "error": "Your team doesn't have any credits yet."}, Kind.QUOTA),
    ("Fireworks", 412, {}, {"error": "Account a is suspended, possibly due to reaching the monthly "
                                     "spending limit"}, Kind.QUOTA),
    ("a quoted one", 400, {}, message(f"cannot read: {'x' * 600} insufficient balance"),
     Kind.PERMANENT),
    ("Bedrock, later", 429, {"x-amzn-errortype": "ModelNotReadyException"}, None, Kind.CAPACITY),
]  # fmt: skip


@each("status, headers, body, kind", [r[1:] for r in FOR_GOOD])
def test_what_no_wait_will_mend(status: int, headers: Any, body: Any, kind: Kind) -> None:
    assert refusal(status, headers, body).kind is kind


def gemini(*quota_ids: str) -> dict[str, object]:
    violations = [{"quotaId": each} for each in quota_ids]
    return message("daily or not", details=[{"violations": violations}, {"retryDelay": "22s"}])


PERIODS: list[tuple[str, int, Any, Any, float | None]] = [
    ("Gemini, a day", 429, {}, gemini("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), DAY),
    ("Gemini, both", 429, {}, gemini("XPerMinute", "XPerDayPerProject"), DAY),
    ("Gemini, a minute", 429, {}, gemini("GenerateRequestsPerMinutePerProject"), None),
    ("Cohere, a month", 429, {}, {"message": "limited to 1000 API calls / month."}, MONTH),
    ("Cohere, a minute", 429, {}, {"message": "limited to 10 API calls / minute"}, None),
    ("OpenRouter", 429, {}, message("Rate limit exceeded: free-models-per-day. Add 10"), DAY),
    (
        "OpenAI",
        429,
        {},
        message("on requests per day (RPD): Limit 200, Used 200, Requested 1"),
        DAY,
    ),
    ("Groq", 429, {}, message("on tokens per day (TPD): Limit 100000, Used 99000"), DAY),
    ("in one word", 429, {}, message("Daily limit reached"), DAY),
    ("weekly", 429, {}, message("You hit your weekly limit"), 604_800),
    ("Hugging Face", 402, {}, {"error": "exceeded your monthly included credits"}, MONTH),
    ("Google", 403, {}, google("dailyLimitExceeded"), DAY),
    (
        "Salesforce",
        403,
        {},
        [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}],
        DAY,
    ),
    ("Cerebras", 429, {"x-ratelimit-remaining-requests-day": "0"}, None, DAY),
    ("Mistral", 429, {"x-ratelimit-remaining-tokens-month": "0"}, None, MONTH),
    ("IETF", 429, {"ratelimit": '"d";r=0;t=9', "ratelimit-policy": '"d";q=9;w=86400'}, None, DAY),
    ("some left", 429, {"x-ratelimit-remaining-requests-day": "7"}, None, None),
    ("which of two", 429, {}, message("10 requests per minute, 500 per day"), None),
    ("a day's, of an overload", 503, {}, message("see our daily report"), None),
]


@each("status, headers, body, per", [r[1:] for r in PERIODS])
def test_the_period_of_a_quota_of_a_day_or_more(
    status: int, headers: Any, body: Any, per: float | None
) -> None:
    assert refusal(status, headers, body).per == per


def test_a_quota_of_a_day_keeps_the_wait_that_belongs_to_it() -> None:
    rolling = message("on requests per day (RPD): Limit 200. Please try again in 7m12s.")
    assert refusal(429, {}, rolling).wait == 432
    assert refusal(429, {}, gemini("XPerDay")).wait is None
