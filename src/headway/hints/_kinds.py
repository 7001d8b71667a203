"""A response -> the kind of refusal, from its status, its type and code, and its message.

Types and codes come first: they are a contract. Messages are prose, and are only believed where
the status already says that a limit was hit, or in phrases at their start that nothing else would
use. A limit may stand behind another status (Google's and GitHub's 403, AWS's 400), and behind a
429 may stand what no wait will mend: a request larger than the limit, a model that the plan lacks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus

from headway.hints._dialect import GENERIC, Dialect
from headway.hints._limits import is_no_reset, named_limits, window_limits
from headway.hints._model import LimitHint, Refusal
from headway.hints._names import HANDED_ON, PERIODS, is_reset
from headway.hints._reply import ErrorBody, Headers, one_line, read_body, read_headers
from headway.hints._values import Clock, read_number, shown
from headway.hints._waits import find_wait, says_when
from headway.kinds import Kind

__all__ = [
    "is_limit_word",
    "refusal_from_parts",
    "refusal_from_response",
    "says_limit",
    "status_in_body",
]

MAX_MESSAGE = 300

_NOT_AGAIN = "the server says not to try again (x-should-retry: false)"

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
        "exceeded_current_quota_error",  # Moonshot
        "arrearage",  # Alibaba
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_funds",
    }
)
_WRONG_KEY = frozenset({"invalid_api_key", "authentication_error", "unauthenticated"})
_NO_CAPACITY = frozenset(
    {
        "overloaded_error",  # Anthropic, in streams too
        "capacity_exceeded",  # Groq's flex tier, status 498
        "service_tier_capacity_exceeded",  # Mistral, a 429
        "resource_unavailable",  # OpenAI's flex tier, a 429
        "modelnotreadyexception",  # Bedrock, a 429
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
    "internalserverexception": 500,  # Bedrock, in streams
    "modelstreamerrorexception": 500,
    "serviceunavailableexception": 503,
    "modeltimeoutexception": 504,
    **dict.fromkeys(_LIMIT_OF_WORD, Kind.RATE.status),
    **dict.fromkeys(_NO_CAPACITY, Kind.CAPACITY.status),
    **dict.fromkeys(_NO_MONEY, Kind.QUOTA.status),
    **dict.fromkeys(_WRONG_KEY, Kind.AUTH.status),
}

# Words of limits behind any status, without what is no letter or digit. AWS's are those that
# botocore retries as throttling; Google's are the reasons of its older APIs.
_LIMIT_WORDS = frozenset(
    {
        "bandwidthlimitexceeded", "dailylimitexceeded", "dailylimitexceededunreg",
        "concurrentlimitexceeded", "floodwait", "limitexceededexception", "overlimit",
        "priorrequestnotcomplete", "provisionedthroughputexceeded",
        "provisionedthroughputexceededexception", "quotaexceeded", "requestlimitexceeded",
        "resourceexhausted", "servinglimitexceeded", "slowdown",
        "transactioninprogressexception", "variabletermlimitexceeded",
    }
)  # fmt: skip
_LIMIT_WORD = re.compile(
    r"ratelimit(?:s|ed)?(?:error|exceeded|reached|violation)?(?:error|exception)?$"
    r"|throttl|toomanyrequests"
)
_DAILY_WORDS = frozenset({"dailylimitexceeded", "dailylimitexceededunreg", "quotaexceeded"})

_LIMIT_STATUSES = frozenset({420, 430, 509})  # X and Telegram, Shopify, gateways: no standard's
_STANDARD = frozenset(status.value for status in HTTPStatus) - {418}  # 418 is Binance's ban
_PLAIN_STATUSES = frozenset({401, 402, 404, 407, 413, 422})
"""They mean what they say, whatever the body adds: Groq's 413 is `rate_limit_exceeded`."""

_UNABLE = frozenset({501, 505, 506, 510})
"""The server cannot do what is asked, and does not say when it could."""

_CONCURRENCY = re.compile(
    r"concurren(?:t|cy)|(?:simultaneous|parallel) (?:requests?|connections?|calls?)|in[ -]?flight"
)
_PER_PERIOD = r" ?/ ?(?:s|sec|second|m|min|minute|h|hour|day|month)\b"
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
_NO_CREDIT = re.compile(
    r"(?:credit |account )?balance (?:is )?(?:too low|insufficient|not enough)"
    r"|(?:insufficient|not enough) (?:account )?(?:balance|credits?|funds)|余额不足|欠费"
    r"|(?:doesn't|does not|don't|do not) have (?:any|enough) credits?"
    r"|account (?:\S+ ){0,3}suspended.{0,60}(?:spending limit|invoice|billing|balance)"
    r"|metric: \S{1,200} limit: 0(?![\d.])"
)
_LIMIT_OF_NONE = re.compile(
    r"(?<!remaining )(?<!current )\blimit(?: of| is)?:? ?=? ?0(?![\d.,/]*\d)(?! remaining)"
)

# Read at the start of a message: what comes later may be quoted.
_LIMIT_PROSE = re.compile(
    r"rate[ -]?limit(?:s|ed|ing)? (?:has been |was |is )?(?:exceeded|reached|hit)"
    r"|rate[ -]limited"
    r"|(?:exceed(?:ed|ing|s)?|hit|reached|triggered|over) (?:\w+ ){0,3}rate[ -]?limit"
    r"|too many (?:\w+ )?(?:requests|calls)\b"
    r"|request limit (?:was |has been )?(?:reached|exceeded)"
    r"|abuse detection|throttled|enhance your calm|slow down"
)
_LIMIT_HINTED = re.compile(r"rate limit|quota|limit exceeded|limit reached|too many")

# What no wait will mend.
_TOO_LARGE = re.compile(
    r"(?:request|prompt|input|message|payload)s? (?:is |was |are )?too (?:large|long|big)"
    r"|(?:required|needed) for long context|maximum context length|context window"
)
_ASKED = re.compile(
    r"\blimit:? ?=?(\d[\d,]{0,20})\b.{0,80}?\brequested:? ?=?(?:up to )?(\d[\d,]{0,20})"
)
_NO_SUCH_MODEL = re.compile(
    r"(?:does not|doesn't|do not|don't) (?:\w+ ){0,3}(?:have )?(?:access to|include|support) "
    r"(?:\w+ ){0,3}(?:model|plan|tier)"
    r"|(?:plan|tier|subscription|account) (?:does not|doesn't|do not|don't) (?:\w+ ){0,2}"
    r"(?:include|support|allow|have access|offer)"
    r"|(?:not|isn't|only) (?:available|included|supported|offered|allowed) (?:\w+ ){0,2}"
    r"(?:in|on|for|with|to|under) (?:\w+ ){0,4}(?:plan|tier|subscription|accounts?|users?)"
    r"|(?:requires?|upgrade to) (?:\w+ ){0,3}(?:plan|tier|subscription)"
    r" (?:\w+ ){0,2}(?:to (?:use|access)|for (?:this|access))"
)
_ONE_REQUEST = frozenset(
    {
        "request_too_large", "context_length_exceeded", "model_not_found", "model_not_available",
        "string_above_max_length",
    }
)  # fmt: skip
_AFFORDABLE = re.compile(r"can only afford (-?\d[\d,]{0,20})|prompt tokens limit exceeded: \d")
_FEWER = re.compile(r"(?:fewer|lower|reduce|decrease|smaller) .{0,20}\bmax_\w{0,20}tokens")
_DECLINED = frozenset({"card_error", "card_declined"})  # Stripe's 402 is about one payment

_LONG_PERIOD = re.compile(
    r"(?:\bper|-per|\ban?|/)[ -]?(day|week|month)s?\b|\b(daily|weekly|monthly)\b|\b[rtq]p(d)\b"
    r"|\b(totalrequests) limit"  # Salesforce: of 24 hours
)
_SHORT_PERIOD = re.compile(
    r"(?:\bper|-per|\ban?|/)[ -]?(?:second|sec|minute|min|hour)s?\b|\b[rtq]p[smh]\b"
)
_LONG_PERIODS = {
    "day": "day", "daily": "day", "d": "day", "week": "week", "weekly": "week", "month": "month",
    "monthly": "month", "totalrequests": "day",
}  # fmt: skip


def refusal_from_response(
    status: int,
    headers: Headers,
    body: object,
    *,
    wall_time: float,
    dialect: Dialect = GENERIC,
) -> Refusal | None:
    """The refusal in a response; None when `status` is below 400.

    `body` is ``bytes`` or ``str`` as received, parsed JSON, or None; `wall_time` is in seconds
    since the epoch, `dialect` that of the provider which sent it. Never raises, whatever that sent.
    """
    if status < 400:
        return None
    plain = read_headers(headers, dialect)
    return refusal_from_parts(status, plain, read_body(body), status, wall_time)


def refusal_from_parts(
    meaning: int, headers: Mapping[str, str], error: ErrorBody, status: int | None, wall_time: float
) -> Refusal:
    """The refusal of a reply that means status `meaning`, and was sent with `status` or none."""
    error_type = headers.get("x-amzn-errortype")  # "ThrottlingException:http://..."
    if error_type:
        error = replace(error, words=(*error.words, error_type.partition(":")[0].lower()))
    limits: list[LimitHint] = []
    if meaning == 429:
        clock = Clock(wall_time, headers.get("date"))
        limits = [*named_limits(headers, clock), *window_limits(headers, clock)]
    kind, typed = _kind(meaning, headers, error, limits, wall_time)
    advice = headers.get("x-should-retry")  # of Stainless, whose SDKs obey it
    if advice == "true" and kind is Kind.PERMANENT:
        kind = Kind.TRANSIENT
    final = _NOT_AGAIN if advice == "false" and HANDED_ON not in headers else ""
    wait, odd = find_wait(headers, error, kind, wall_time, typed=typed)
    of_windows = kind.cuts is not None and not (typed and kind is Kind.CONCURRENCY)
    per = _long_period(error, limits) if kind is Kind.QUOTA or of_windows else None
    if per is not None and wait is None and _long_period(error, []) is None:
        # Headers alone say so. Where they name an end that cannot be meant, the rest is no fact.
        clock = Clock(wall_time, headers.get("date"))
        for name in filter(is_reset, headers):
            if is_no_reset(headers[name], clock):
                remark = f"{name}: {shown(headers[name])} ignored"
                per, odd = None, f"{odd}; {remark}" if odd else remark
    message = one_line(error.message, MAX_MESSAGE) or f"HTTP {meaning}"
    if error.upstream is not None and error.upstream.message:
        message = one_line(f"{message}: {error.upstream.message}", MAX_MESSAGE)
    return Refusal(kind, wait, status, message, typed, odd, per=per, final=final)


def status_in_body(error: ErrorBody) -> int | None:
    """The status that an error without one amounts to; None where it is not recognised."""
    if error.code is not None:
        return error.code
    for word in error.words:
        if word in _STATUS_OF_WORD:
            return _STATUS_OF_WORD[word]
    return 429 if _has_limit_word(error) else None


def says_limit(text: str) -> bool:
    """Whether prose says at its start that a limit was hit."""
    return _LIMIT_PROSE.search(text[:_START].lower()) is not None


def is_limit_word(word: str) -> bool:
    """Whether a word (a type, a code, the name of a class) says that a limit was hit."""
    last = word.lower().rpartition("#")[2]  # AWS: com.amazonaws.dynamodb.v20120810#Throttling
    squeezed = _NO_LETTER.sub("", last)
    return squeezed in _LIMIT_WORDS or _LIMIT_WORD.search(squeezed) is not None


_START = 120
_QUOTED = 600  # characters: what comes later may quote the request
_NO_LETTER = re.compile(r"[^a-z0-9]")


def _kind(
    status: int,
    headers: Mapping[str, str],
    error: ErrorBody,
    limits: list[LimitHint],
    wall_time: float,
) -> tuple[Kind, bool]:
    """The kind, and whether a refusal by a limit says which limit it was."""
    prose = error.message.lower()
    limited = status not in _PLAIN_STATUSES and _has_limit_word(error)
    if status == 503 and headers.get("x-envoy-overloaded", "").strip().lower() == "true":
        return Kind.CONCURRENCY, True  # its circuit breaker counts what is in flight
    if _is_overloaded(status, error, prose) and not (limited and status != 429):
        return Kind.CAPACITY, True
    if status in (402, 429) and _is_about_one_request(status, error):
        return Kind.PERMANENT, True
    if _is_out_of_quota(status, error, prose, limits):
        return Kind.QUOTA, True
    if _is_wrong_key(status, error, prose):
        return Kind.AUTH, True
    if status == 429 or limited or _is_hidden_limit(status, headers, error, prose, wall_time):
        return _which_limit(error)
    if status in _UNABLE and not says_when(headers, error, wall_time):
        return Kind.PERMANENT, True
    if status in (408, 409, 425, 449) or 500 <= status <= 599:  # 449: Cosmos, "retry with"
        return Kind.TRANSIENT, True
    return Kind.PERMANENT, True


def _has_limit_word(error: ErrorBody) -> bool:
    return any(map(is_limit_word, error.words))


def _is_overloaded(status: int, error: ErrorBody, prose: str) -> bool:
    if status in (503, 529) or not _NO_CAPACITY.isdisjoint(error.words):
        return True
    if status == 498:  # Groq's flex tier; ArcGIS calls an invalid token that
        return "token" not in prose
    return "overloaded" in prose and (status == 429 or status >= 500)


def _is_about_one_request(status: int, error: ErrorBody) -> bool:
    """A limit that no wait will make this request fit, and that says nothing about another one."""
    prose = error.prose
    if status == 402:
        affordable = _AFFORDABLE.search(prose[:600])  # OpenRouter: fewer max_tokens would do
        if affordable is not None:
            return affordable[1] is None or (read_number(affordable[1].replace(",", "")) or 0) > 0
        return _FEWER.search(prose[:600]) is not None or not _DECLINED.isdisjoint(error.words)
    if not _ONE_REQUEST.isdisjoint(error.words):
        return True
    asked = _ASKED.search(prose[:1_000])
    if asked is not None:
        limit, requested = (float(number.replace(",", "")) for number in asked.groups())
        if limit and requested > limit:
            return True
    said = prose[:300]
    return _TOO_LARGE.search(said) is not None or _NO_SUCH_MODEL.search(said) is not None


def _is_out_of_quota(status: int, error: ErrorBody, prose: str, limits: list[LimitHint]) -> bool:
    """Nothing is left until somebody pays.

    "You exceeded your current quota, please check your plan and billing details" is no sign of
    it: Gemini says so of a limit per minute. ``limit: 0`` is: the plan has no such model.
    """
    if status == 402 or not _NO_MONEY.isdisjoint(error.words):
        return True
    if status == 429 and (_is_of_none(limits) or error.no_quota or _LIMIT_OF_NONE.search(prose)):
        return True
    return status in (400, 403, 412, 429) and _NO_CREDIT.search(prose[:_QUOTED]) is not None


def _is_of_none(limits: list[LimitHint]) -> bool:
    """A limit of 0 (Mistral), and no other one that is used up and would explain the refusal."""
    stated = [hint for hint in limits if not hint.dynamic and hint.limit is not None]
    used_up = any(hint.limit and hint.remaining == 0 for hint in stated)
    return not used_up and any(hint.limit == 0 for hint in stated)


def _is_wrong_key(status: int, error: ErrorBody, prose: str) -> bool:
    """A 401; or a 400 (Gemini, xAI) or 403 that says so, at its start: later text may be quoted."""
    if status in (400, 403):
        said = _WRONG_KEY_PROSE.search(prose[:100])
        return said is not None or not _WRONG_KEY.isdisjoint(error.words)
    return status == 401


def _is_hidden_limit(
    status: int, headers: Mapping[str, str], error: ErrorBody, prose: str, wall_time: float
) -> bool:
    """A limit behind another status, that no word of the body's tells: GitHub's 403, Binance's 418.

    A wait alone is no sign of it under a standard's status: `Retry-After` comes with any.
    """
    if status in _LIMIT_STATUSES:
        return True
    if status in _PLAIN_STATUSES or status >= 500:
        return False
    if _LIMIT_PROSE.search(prose[:_START]) or "ratelimit-reason" in headers:  # Atlassian
        return True
    if status not in _STANDARD:
        return says_when(headers, error, wall_time)
    if status not in (400, 403):
        return False
    used_up = read_number(headers.get("x-ratelimit-remaining")) == 0
    hinted = used_up or says_when(headers, error, wall_time)
    silent = status == 403 and not error.message and not error.words
    return hinted and (silent or _LIMIT_HINTED.search(prose[:300]) is not None)


def _which_limit(error: ErrorBody) -> tuple[Kind, bool]:
    words, quota_ids = error.words, error.quota_ids
    if error.upstream is not None:
        words, quota_ids = words + error.upstream.words, quota_ids + error.upstream.quota_ids
    for word in words:
        if word in _LIMIT_OF_WORD:
            return _LIMIT_OF_WORD[word], True
    said = " ".join((*words, *quota_ids, error.prose)).replace("_", " ")
    if _CONCURRENCY.search(said):
        return Kind.CONCURRENCY, True
    tokens, requests = _TOKENS.search(said), _REQUESTS.search(said)
    if bool(tokens) == bool(requests):  # neither, or both: "600 RPM and 180000 TPM"
        return Kind.RATE, False
    return (Kind.TOKENS if tokens else Kind.RATE), True


def _long_period(error: ErrorBody, limits: list[LimitHint]) -> float | None:
    """The period of the quota that is used up, where it is a day or more.

    What is stated exactly comes first: Google's ids of quotas, then headers of limits without a
    rest, then words. Prose that names a shorter period too does not say which one it was.
    """
    said = (error,) if error.upstream is None else (error, error.upstream)
    quota_ids = " ".join(quota_id for each in said for quota_id in each.quota_ids)
    if quota_ids:
        return _longest(period for period in _LONG if f"per{period}" in quota_ids)
    used_up = [hint.per for hint in limits if hint.remaining == 0 and hint.per]
    if used_up:
        longest = max(used_up)
        return longest if longest >= PERIODS["day"] else None
    words = {_NO_LETTER.sub("", word) for each in said for word in each.words}
    if not _DAILY_WORDS.isdisjoint(words):
        return PERIODS["day"]
    prose = error.prose
    if _SHORT_PERIOD.search(prose):
        return None
    found = ("".join(groups) for groups in _LONG_PERIOD.findall(prose))
    return _longest(_LONG_PERIODS[word] for word in found)


_LONG = ("day", "week", "month")


def _longest(periods: Iterable[str]) -> float | None:
    return max((PERIODS[period] for period in periods), default=None)
