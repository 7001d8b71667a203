"""A response -> the kind of refusal, from its status, its type and code, and its message.

Types and codes come first: they are a contract. Messages are prose, and are only believed where
the status already says that a limit was hit, or in phrases that nothing else would use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from headway.hints._model import Refusal
from headway.hints._reply import ErrorBody, Headers, one_line, read_body, read_headers
from headway.hints._values import read_number
from headway.hints._waits import find_wait
from headway.kinds import Kind

__all__ = ["refusal_from_parts", "refusal_from_response", "status_in_body"]

MAX_MESSAGE = 300

_LIMIT_OF_WORD = {
    "dynamic_request_limited": Kind.RATE,  # Together
    "dynamic_token_limited": Kind.TOKENS,
    "requests": Kind.RATE,  # OpenAI, Groq
    "tokens": Kind.TOKENS,
    "input_tokens": Kind.TOKENS,
    "output_tokens": Kind.TOKENS,
}
_NO_MONEY = frozenset(
    {
        "insufficient_quota",  # OpenAI, a 429
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_limit",  # Together
        "billing_error",  # Anthropic
    }
)
_WRONG_KEY = frozenset({"invalid_api_key", "authentication_error", "unauthenticated"})
_NO_CAPACITY = frozenset(
    {
        "overloaded_error",  # Anthropic, in streams too
        "capacity_exceeded",  # Groq's flex tier, status 498
        "service_tier_capacity_exceeded",  # Mistral, a 429
        "resource_unavailable",  # OpenAI's flex tier, a 429
    }
)
_STATUS_OF_WORD = {  # for an error inside a stream, which has no status of its own
    "rate_limit": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "rate_limited": 429,
    "resource_exhausted": 429,
    "service_unavailable": 503,
    "unavailable": 503,
    "server_error": 500,
    "internal_server_error": 500,
    "internal_error": 500,
    "api_error": 500,
    "internal": 500,
    "timeout": 504,
    "timeout_error": 504,
    "deadline_exceeded": 504,
    **dict.fromkeys(_LIMIT_OF_WORD, Kind.RATE.status),
    **dict.fromkeys(_NO_CAPACITY, Kind.CAPACITY.status),
    **dict.fromkeys(_NO_MONEY, Kind.QUOTA.status),
    **dict.fromkeys(_WRONG_KEY, Kind.AUTH.status),
}

_CONCURRENCY = re.compile(
    r"concurren(?:t|cy)|(?:simultaneous|parallel) (?:requests?|connections?|calls?)|in[ -]?flight"
)
_PER_PERIOD = r" ?/ ?(?:s|sec|second|m|min|minute|h|hour|day)\b"
_TOKENS = re.compile(
    r"tokens? ?(?:per|rate|limit|quota|count)|(?:request|too many) tokens|\btp[smd]\b"
    rf"|tokens?{_PER_PERIOD}"
)
_REQUESTS = re.compile(
    r"(?:requests?|queries|calls?) ?(?:per|rate|limit|quota)|number of requests|\b[rq]p[smd]\b"
    rf"|(?:requests?|queries|calls?){_PER_PERIOD}"
)
_WRONG_KEY_PROSE = re.compile(
    r"(?:invalid|incorrect|wrong) (?:api|authentication) ?-?key"
    r"|api ?-?key (?:is )?(?:invalid|not valid|incorrect|expired)"
)
_NO_QUOTA_PROSE = re.compile(r"credit balance is too low|metric: \S{1,200} limit: 0(?![\d.])")


def refusal_from_response(
    status: int, headers: Headers, body: object, *, wall_time: float
) -> Refusal | None:
    """The refusal in a response; None when `status` is below 400.

    `body` is ``bytes`` or ``str`` as received, parsed JSON, or None; `wall_time` is in seconds
    since the epoch. Never raises, whatever the server sent.
    """
    if status < 400:
        return None
    return refusal_from_parts(status, read_headers(headers), read_body(body), status, wall_time)


def refusal_from_parts(
    meaning: int, headers: Mapping[str, str], error: ErrorBody, status: int | None, wall_time: float
) -> Refusal:
    """The refusal of a reply that means status `meaning`, and was sent with `status` or none."""
    kind, typed = _kind(meaning, headers, error)
    wait, odd = find_wait(headers, error, kind, wall_time, typed=typed)
    message = one_line(error.message, MAX_MESSAGE) or f"HTTP {meaning}"
    return Refusal(kind, wait, status, message, typed, odd)


def status_in_body(error: ErrorBody) -> int | None:
    """The status that an error without one amounts to; None where it is not recognised."""
    if error.code is not None:
        return error.code
    return next((_STATUS_OF_WORD[word] for word in error.words if word in _STATUS_OF_WORD), None)


def _kind(status: int, headers: Mapping[str, str], error: ErrorBody) -> tuple[Kind, bool]:
    """The kind, and whether a refusal by a limit says which limit it was."""
    prose = error.message.lower()
    if _is_overloaded(status, error, prose):
        return Kind.CAPACITY, True
    if _is_out_of_quota(status, headers, error, prose):
        return Kind.QUOTA, True
    if _is_wrong_key(status, error, prose):
        return Kind.AUTH, True
    if status == 429 and prose.startswith("request too large"):
        # OpenAI: larger than the whole limit of a minute. No wait makes it fit.
        return Kind.PERMANENT, True
    if status == 429 or _is_hidden_limit(status, headers, error, prose):
        return _which_limit(error, prose)
    if status in (408, 409, 425) or 500 <= status <= 599:
        return Kind.TRANSIENT, True
    return Kind.PERMANENT, True


def _is_overloaded(status: int, error: ErrorBody, prose: str) -> bool:
    if status in (503, 529) or not _NO_CAPACITY.isdisjoint(error.words):
        return True
    return "overloaded" in prose and (status == 429 or status >= 500)


def _is_out_of_quota(status: int, headers: Mapping[str, str], error: ErrorBody, prose: str) -> bool:
    """Nothing is left until somebody pays.

    "You exceeded your current quota, please check your plan and billing details" is no sign of
    it: Gemini says so of a limit per minute. ``limit: 0`` is: the plan has no such model.
    """
    if status == 402 or not _NO_MONEY.isdisjoint(error.words):
        return True
    if status == 429 and read_number(headers.get("x-ratelimit-limit-req-minute")) == 0:  # Mistral
        return True
    return status in (400, 403, 429) and _NO_QUOTA_PROSE.search(prose) is not None


def _is_wrong_key(status: int, error: ErrorBody, prose: str) -> bool:
    """A 401; or a 400 (Gemini, xAI) or 403 that says so, at its start: later text may be quoted."""
    if status in (400, 403):
        said = _WRONG_KEY_PROSE.search(prose[:100])
        return said is not None or not _WRONG_KEY.isdisjoint(error.words)
    return status == 401


def _is_hidden_limit(status: int, headers: Mapping[str, str], error: ErrorBody, prose: str) -> bool:
    """A limit behind another status: GitHub's 403, AWS's 400 ``ThrottlingException``."""
    if status in (400, 403) and any("throttling" in word for word in error.words):
        return True
    if status != 403:
        return False
    if any(word.startswith("rate_limit") for word in error.words):
        return True
    if "secondary rate limit" in prose:
        return True
    used_up = read_number(headers.get("x-ratelimit-remaining")) == 0
    return "rate limit" in prose and (used_up or "retry-after" in headers)


def _which_limit(error: ErrorBody, prose: str) -> tuple[Kind, bool]:
    for word in error.words:
        if word in _LIMIT_OF_WORD:
            return _LIMIT_OF_WORD[word], True
    said = " ".join((*error.words, *error.quota_ids, prose)).replace("_", " ")
    if _CONCURRENCY.search(said):
        return Kind.CONCURRENCY, True
    tokens, requests = _TOKENS.search(said), _REQUESTS.search(said)
    if bool(tokens) == bool(requests):  # neither, or both: "600 RPM and 180000 TPM"
        return Kind.RATE, False
    return (Kind.TOKENS if tokens else Kind.RATE), True
