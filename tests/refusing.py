"""Refusals as providers word them, and what is read of one."""

from __future__ import annotations

from typing import Any

from headway.hints import Refusal, refusal_from_response

__all__ = [
    "GEMINI_DAY",
    "GEMINI_MINUTE",
    "GEMINI_QUOTA",
    "GEMINI_TOKENS",
    "NOW",
    "OPENAI_RPM",
    "OPENAI_TPM",
    "error_body",
    "gemini",
    "refusal",
]


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
