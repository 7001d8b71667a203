"""Names of headers -> the one name that the readers of this package know them by.

The same limit comes as ``x-ratelimit-reset-requests`` (OpenAI), ``x-ratelimit-requests-reset``,
``X-Rate-Limit-Request-Reset`` and so on: the words are the same, their order is not.
"""

from __future__ import annotations

import re
from functools import lru_cache

from headway.hints._dialect import Dialect

__all__ = ["HANDED_ON", "MAX_NAME", "PERIODS", "is_reset", "is_wait", "known_name", "name_in"]

PERIODS = {
    "second": 1.0,
    "minute": 60.0,
    "hour": 3_600.0,
    "day": 86_400.0,
    "week": 604_800.0,
    "month": 2_592_000.0,
}
"""Seconds. A month is one of thirty days."""

MAX_NAME = 100
HANDED_ON = "x-headway"
"""The header of a refusal that a transport of ours hands on, with advice of its own."""

_AS_IT_IS = frozenset(
    {
        "date", "x-amzn-errortype", "ratelimit", "ratelimit-policy", "x-envoy-overloaded",
        "x-should-retry", HANDED_ON,
    }
)  # fmt: skip
_RETRY = re.compile(  # grpc-retry-pushback-ms: gRPC's own (proposal A6)
    r"(?:[a-z0-9]{1,30}-){0,6}(?:retry-?after|retry-in|retry-delay|retry-pushback)"
    r"(?:-in)?(?:-(?:(?P<ms>ms|msecs?|millis|milliseconds?)|s|secs?|seconds?))?"
)
_ROLES = {
    "limit": "limit",
    "remaining": "remaining",
    "left": "remaining",
    "reset": "reset",
    "resets": "reset",
}
_SAME = {
    "req": "requests",
    "request": "requests",
    "token": "tokens",
    "prompt": "input",
    "generated": "output",
    "completion": "output",
    "minutes": "minute",
    "seconds": "second",
    "hourly": "hour",
    "daily": "day",
    "weekly": "week",
    "monthly": "month",
}
_ORDER = {
    word: at
    for at, word in enumerate(
        ("project", "input", "output", "requests", "tokens", *PERIODS, "dynamic")
    )
}
_NO_WORDS = frozenset({"per", "in", "at", "time", "timestamp"})


@lru_cache(maxsize=1_024)
def known_name(name: str) -> str | None:
    """The name that header `name` (in any case) is known by; None where no reader wants it.

    ``x-ratelimit-{limit,remaining,reset,reset-after}[-what][-period]`` for limits of any spelling,
    ``retry-after`` and ``retry-after-ms`` for waits. Anthropic's, Together's, Mistral's old names
    and those of the IETF drafts stay as they are.
    """
    name = name.lower().replace("_", "-")
    if name in _AS_IT_IS:
        return name
    if "retry" in name:
        asks = _RETRY.fullmatch(name)
        return None if asks is None else "retry-after-ms" if asks["ms"] else "retry-after"
    if "limit" not in name:
        return None
    words = name.replace("rate-limit", "ratelimit").split("-")
    if "ratelimit" not in words:
        return name  # x-tokenlimit-limit, ratelimitbysize-reset
    at = words.index("ratelimit")
    role, rest = _read(words[at + 1 :])
    if role is None:
        return name
    if at == 0 and not rest and role != "reset-after":
        return f"ratelimit-{role}"  # IETF draft 6
    if words[0] == "anthropic" and set(rest) <= {"input", "output", "requests", "tokens"}:
        return "-".join(("anthropic-ratelimit", *rest, role))
    return "-".join(("x-ratelimit", role, *rest))


@lru_cache(maxsize=1_024)
def name_in(dialect: Dialect, name: str) -> str | None:
    """`known_name` for the headers of a provider with a `dialect` of its own."""
    known = known_name(name)
    said = name.lower()
    for its, meaning in dialect.headers:
        for role in "limit", "remaining", "reset":
            if its.format(role).lower() in (said, known):
                return meaning.format(role)
    return known


def is_reset(name: str) -> bool:
    """Whether the known name is one of a limit's reset."""
    return "reset" in name


def is_wait(name: str) -> bool:
    """Whether the known name is one of a wait."""
    return name.startswith("retry-after")


def _read(words: list[str]) -> tuple[str | None, list[str]]:
    """The role that the words of a name give it, and what it is about, in one order."""
    role: str | None = None
    rest: list[str] = []
    for word in words:
        if role is None and word in _ROLES:
            role = _ROLES[word]
        elif role == "reset" and word == "after":
            role = "reset-after"
        elif word in ("ms", "milliseconds"):
            return None, []  # no reader knows a reset in milliseconds: better none than a wrong one
        elif word not in _NO_WORDS:
            rest.append(_SAME.get(word, word))
    if rest == ["second"] and role is not None and role.startswith("reset"):
        rest = []  # "reset-seconds" states the unit
    return role, sorted(rest, key=lambda word: _ORDER.get(word, -1))
