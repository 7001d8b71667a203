"""What known providers say of their limits, in headers and refusals: the inverse of
`headway.hints`, which reads them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from types import MappingProxyType
from typing import Any, NamedTuple

from headway.errors import InvalidArgument
from headway.kinds._words import shown
from headway.providers import PROVIDERS
from headway.testing.account import Counted, OverLimit, What
from headway.testing.answers import FakeAnswer

__all__ = ["DIALECTS", "Speech", "headers_of", "refusal_answer", "speech_named", "status_answer"]

_MINUTE, _DAY = 60.0, 86_400.0
_BASE = "https://fake.example/v1"


class _Limit(NamedTuple):
    """The headers of one limit. ``{}`` in `name` stands for limit, remaining and reset; `per` is
    the period that is stated in seconds, None for that of the rate, 0 for that of its window.
    """

    what: What
    name: str
    per: float | None = None


def _go_duration(seconds: float, _: float) -> str:
    """As Go writes it: ``12ms``, ``1.5s``, ``6m0s``."""
    if seconds < 1:
        return f"{_up(seconds * 1000)}ms"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{hours:.0f}h"] * (hours > 0) + [f"{minutes:.0f}m"] * (seconds >= 60)
    return "".join([*parts, f"{_up(rest * 1000) / 1000:g}s"])


def _up(value: float) -> int:
    """The next whole number, unless floats alone lie between."""
    return math.ceil(value - 1e-6)


def _seconds(seconds: float, _: float) -> str:
    return str(_up(seconds))


def _rfc_3339(seconds: float, wall: float) -> str:
    return datetime.fromtimestamp(_up(wall + seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _epoch_milliseconds(seconds: float, wall: float) -> str:
    return str(_up((wall + seconds) * 1000))


# Their errors -----------------------------------------------------------------------------------

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def _openai_error(status: int, what: str, message: str) -> dict[str, Any]:
    """The body of an error as OpenAI and most others write it; `what` is the limit of a 429."""
    if status == 429:
        error = {"message": message, "type": what, "param": None, "code": "rate_limit_exceeded"}
    else:
        kind = _TYPES.get(status, "server_error")
        code = "invalid_api_key" if status == 401 else None
        error = {"message": message, "type": kind, "param": None, "code": code}
    return {"error": error}


def _anthropic_error(status: int, what: str, message: str) -> dict[str, Any]:
    error = {"type": _TYPES.get(status, "api_error"), "message": message}
    return {"type": "error", "error": error, "request_id": "req_fake"}


def _google_error(status: int, what: str, message: str) -> dict[str, Any]:
    names = {401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
    error = {"code": status, "message": message, "status": names.get(status, "INTERNAL")}
    return {"error": error}


def _plain_error(status: int, what: str, message: str) -> dict[str, Any]:
    return {"message": message}


# What each says ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speech:
    """How a provider speaks of limits: their headers, how a reset is written (from the seconds and
    the wall clock; None: not at all), and the body of an error.
    """

    base_url: str
    limits: tuple[_Limit, ...] = ()
    reset: Callable[[float, float], str] | None = None
    error: Callable[[int, str, str], dict[str, Any]] = _openai_error
    wait_ms: bool = False
    ietf: bool = False


def _limits(template: str, *whats: str, per: float | None = None) -> tuple[_Limit, ...]:
    names: dict[str, What] = {
        "requests": "requests",
        "tokens": "tokens",
        "input-tokens": "input_tokens",
        "output-tokens": "output_tokens",
    }
    return tuple(_Limit(names[what], template.replace("*", what), per) for what in whats)


_OPENAI = (
    *_limits("x-ratelimit-{}-*", "requests"),
    *_limits("x-ratelimit-{}-*", "tokens", per=_MINUTE),
)


def _base(name: str) -> str:
    return PROVIDERS[name].base_url


DIALECTS: Mapping[str, Speech] = MappingProxyType(
    {
        # Its documentation says that the numbers are of a second, over which it enforces them.
        "together": Speech(
            _base("together"),
            (
                _Limit("requests", "x-ratelimit-{}", 0.0),
                _Limit("tokens", "x-tokenlimit-{}", 0.0),
            ),
            _seconds,
        ),
        "openai": Speech(_base("openai"), _OPENAI, _go_duration, wait_ms=True),
        "azure": Speech(
            "https://fake.openai.azure.com/openai/v1",
            _OPENAI,
            _seconds,
            wait_ms=True,
        ),
        "anthropic": Speech(
            _base("anthropic"),
            _limits(
                "anthropic-ratelimit-*-{}",
                "requests",
                "tokens",
                "input-tokens",
                "output-tokens",
                per=_MINUTE,
            ),
            _rfc_3339,
            _anthropic_error,
        ),
        # Its requests are those of a day, its tokens of a minute.
        "groq": Speech(
            _base("groq"),
            (
                *_limits("x-ratelimit-{}-*", "requests", per=_DAY),
                *_limits("x-ratelimit-{}-*", "tokens", per=_MINUTE),
            ),
            _go_duration,
        ),
        "mistral": Speech(
            _base("mistral"),
            (
                _Limit("requests", "x-ratelimit-{}-req-minute", _MINUTE),
                _Limit("tokens", "x-ratelimit-{}-tokens-minute", _MINUTE),
            ),
            None,
        ),
        "fireworks": Speech(
            _base("fireworks"),
            (
                _Limit("requests", "x-ratelimit-{}-requests", _MINUTE),
                _Limit("input_tokens", "x-ratelimit-{}-tokens-prompt", _MINUTE),
                _Limit("output_tokens", "x-ratelimit-{}-tokens-generated", _MINUTE),
            ),
            None,
        ),
        "openrouter": Speech(
            _base("openrouter"),
            (_Limit("requests", "x-ratelimit-{}"),),
            _epoch_milliseconds,
        ),
        "huggingface": Speech(_base("huggingface"), ietf=True),
        "ietf": Speech(_BASE, ietf=True),
        "gemini": Speech(_base("gemini"), error=_google_error),
        "deepseek": Speech(_base("deepseek")),
        "xai": Speech(_base("xai"), _OPENAI, _go_duration),
        "bedrock": Speech("https://bedrock-runtime.us-east-1.amazonaws.com", error=_plain_error),
        "none": Speech(_BASE),
    }
)
"""By the names of the providers; ``"ietf"`` is draft 10's, and ``"none"`` says nothing."""


def speech_named(name: object) -> Speech:
    """The dialect of that name. Raises `InvalidArgument`."""
    if not isinstance(name, str) or name not in DIALECTS:
        raise InvalidArgument(
            f"dialect={shown(name)} is none that a fake provider speaks",
            fix=f"one of {', '.join(DIALECTS)}.",
        )
    return DIALECTS[name]


def headers_of(speech: Speech, counted: list[Counted], now: float, wall: float) -> dict[str, str]:
    """What an answer says of the limits. `now` is on the provider's clock, `wall` is in seconds
    since the epoch; the headers have the moment in ``date``.
    """
    headers = {"date": formatdate(wall, usegmt=True)}
    for limit in speech.limits:
        rates = [each for each in counted if each.what == limit.what]
        # A limit of a day and one of a minute are two: a header is about the one of its period.
        rates = [each for each in rates if _same_order(each.rate.per, limit.per)]
        if rates:
            headers.update(_three(speech, limit, rates[0], now, wall))
    if speech.ietf:
        headers.update(_ietf(counted, now))
    return headers


def _same_order(per: float, stated: float | None) -> bool:
    return not stated or (per > 3600) is (stated > 3600)


def _three(
    speech: Speech, limit: _Limit, each: Counted, now: float, wall: float
) -> Iterator[tuple[str, str]]:
    rate, algorithm = each.rate, each.algorithm
    per = rate.per if limit.per is None else limit.per or rate.span
    most = rate.limit * per / rate.per
    yield limit.name.format("limit"), f"{math.floor(most)}"
    yield limit.name.format("remaining"), f"{_remaining(each, most, now)}"
    if speech.reset is not None:
        full_in = algorithm.full_in(now)
        yield limit.name.format("reset"), speech.reset(full_in, wall)


def _remaining(each: Counted, most: float, now: float) -> int:
    """What is left of a limit stated as `most`; of a smaller bucket no more than it holds."""
    algorithm, share = each.algorithm, max(1.0, each.rate.share)
    left = max(0.0, algorithm.limit - algorithm.used(now))
    return math.floor(min(most, left * most / share) + 1e-6)


def _ietf(counted: list[Counted], now: float) -> dict[str, str]:
    policies, states = [], []
    for each in counted:
        rate, algorithm = each.rate, each.algorithm
        unit = "" if each.what == "requests" else ';qu="tokens"'
        name = f'"{each.what}-{rate.span:g}"'
        # Of a bucket too the policy is its rate: what it holds at once is no limit of a window.
        most = max(1.0, rate.share)
        window = max(1, round(most * rate.per / rate.limit))
        policies.append(f"{name};q={math.floor(most)}{unit};w={window}")
        states.append(f"{name};r={_remaining(each, most, now)};t={_up(algorithm.full_in(now))}")
    if not policies:
        return {}
    return {"ratelimit-policy": ", ".join(policies), "ratelimit": ", ".join(states)}


def refusal_answer(speech: Speech, refusal: OverLimit, retry_after: bool | float) -> FakeAnswer:
    """A 429 for `refusal`. `retry_after` is the seconds that it names; True for those after which
    the request would fit, False for none.
    """
    what = refusal.what.replace("_", " ")
    if refusal.what == "concurrency":
        message = f"Too many concurrent requests: {refusal.used:g} of {refusal.limit:g} in flight."
    elif math.isinf(refusal.wait):
        message = (
            f"Request too large: the {what} limit is {refusal.limit:g}, and {refusal.asked:g} were "
            "asked for."
        )
    else:
        message = (
            f"Rate limit reached: the {what} limit is {refusal.limit:g} in {refusal.per:g} s, "
            f"{refusal.used:g} are used, and {refusal.asked:g} more were asked for."
        )
    wait: float | None = None
    if retry_after is not True:
        wait = None if retry_after is False else retry_after
    elif 0 < refusal.wait < math.inf:
        wait = refusal.wait
    return status_answer(speech, 429, message, what=refusal.what, wait=wait)


def status_answer(
    speech: Speech, status: int, message: str, *, what: str = "requests", wait: float | None = None
) -> FakeAnswer:
    """An answer with that status in the provider's words; `wait` is the seconds to name."""
    headers = {"content-type": "application/json"}
    if wait is not None:
        headers["retry-after"] = _seconds(wait, 0.0)
        if speech.wait_ms:
            headers["retry-after-ms"] = str(_up(wait * 1000))
    body = speech.error(status, what, message)
    if speech.error is _google_error and wait is not None:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        body["error"]["details"] = [{"@type": kind, "retryDelay": f"{wait:g}s"}]
    if speech.error is _plain_error:
        headers["x-amzn-errortype"] = (
            "ThrottlingException" if status == 429 else "ServiceUnavailableException"
        )
    return FakeAnswer(status, headers, [json.dumps(body).encode()])
