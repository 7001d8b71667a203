"""The limits that headers, sentences and bodies state."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from refusing import (
    NOW,
    error_body,
)

from headway.hints import LimitHint, limits_from, limits_in_message

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
