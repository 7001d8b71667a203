"""What headers and messages say of the limits: one small reader per dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

from headway.hints._model import LimitHint
from headway.hints._reply import MAX_MESSAGE_CHARS, Headers, read_body, read_headers
from headway.hints._values import read_number, read_seconds

__all__ = ["bare_limits", "full_limits", "limits_from", "limits_in_message", "window_limits"]

What = Literal["requests", "tokens", "input_tokens", "output_tokens"]

_LONGEST_RESET = 366 * 86_400.0
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3_600.0, "day": 86_400.0}
_LETTERS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def limits_from(
    headers: Headers,
    body: object = None,
    *,
    wall_time: float,
    together_unit: Literal["second", "minute"] | None = None,
) -> tuple[LimitHint, ...]:
    """What a response says of each of its limits; () where it says nothing.

    `body` is an error's body (``bytes``, ``str``, parsed JSON) and None for a success: bodies of
    successes say nothing about limits and cost time to parse. `wall_time` is in seconds since the
    epoch. `together_unit` resolves the unit of the unsuffixed ``x-ratelimit-limit``, which
    Together does not state; with None such a limit has no `per`.
    """
    plain = read_headers(headers)
    unit = _SECONDS[together_unit] if together_unit else None
    hints: list[LimitHint] = []
    if plain:
        hints += full_limits(plain, wall_time)
        hints += bare_limits(plain, wall_time, unit)
        hints += window_limits(plain, wall_time)
    if body:
        error = read_body(body)
        if error.headers:
            hints += bare_limits(error.headers, wall_time, None)
        hints += limits_in_message(error.message)
    return tuple(hints)


def full_limits(headers: Mapping[str, str], wall_time: float) -> Iterator[LimitHint]:
    """Dialects whose reset is the time until the limit is *full* again, or that send none."""
    for names in _FULL:
        if hint := _read(headers, names, wall_time):
            yield hint if names is not _OPENAI_REQUESTS else _with_refill_period(hint)


def bare_limits(
    headers: Mapping[str, str], wall_time: float, per: float | None
) -> Iterator[LimitHint]:
    """Together, OpenRouter, GitHub: ``x-ratelimit-limit`` without a suffix; no unit is stated."""
    for names in _BARE:
        if hint := _read(headers, names._replace(per=per), wall_time):
            yield hint


def window_limits(headers: Mapping[str, str], wall_time: float) -> Iterator[LimitHint]:
    """The IETF drafts, Hugging Face among them: reset is the seconds until the window ends."""
    yield from _ietf_draft(headers, wall_time)
    if _IETF_DRAFT_6.limit in headers or _IETF_DRAFT_6.reset in headers:
        first = {
            name: re.split("[,;]", headers.get(name, ""), maxsplit=1)[0].strip()
            for name in (_IETF_DRAFT_6.limit, _IETF_DRAFT_6.remaining, _IETF_DRAFT_6.reset)
        }
        if hint := _read(first, _IETF_DRAFT_6, wall_time):
            yield hint


# Three headers a limit --------------------------------------------------------------------------


class _Names(NamedTuple):
    """The three headers of one limit, and what the dialect says of it."""

    what: What
    limit: str
    remaining: str
    reset: str
    per: float | None = None
    dynamic: bool = False


def _names(what: What, template: str, per: float | None = None, *, dynamic: bool = False) -> _Names:
    limit, remaining, reset = map(template.format, ("limit", "remaining", "reset"))
    return _Names(what, limit, remaining, reset, per, dynamic)


# OpenAI, Azure, Groq: tokens are per minute; requests per minute or per day, unstated.
_OPENAI_REQUESTS = _names("requests", "x-ratelimit-{}-requests")
_FULL = (
    _OPENAI_REQUESTS,
    _names("tokens", "x-ratelimit-{}-tokens", 60.0),
    # Anthropic
    _names("requests", "anthropic-ratelimit-requests-{}", 60.0),
    _names("tokens", "anthropic-ratelimit-tokens-{}", 60.0),
    _names("input_tokens", "anthropic-ratelimit-input-tokens-{}", 60.0),
    _names("output_tokens", "anthropic-ratelimit-output-tokens-{}", 60.0),
    # Mistral ("req-minute", "tokens-minute"), Cerebras ("requests-day", "tokens-minute")
    *(
        _names(
            "tokens" if unit == "tokens" else "requests", f"x-ratelimit-{{}}-{unit}-{period}", per
        )
        for unit in ("req", "requests", "tokens")
        for period, per in _SECONDS.items()
    ),
    # Mistral, of old
    _names("tokens", "ratelimitbysize-{}"),
    # Fireworks
    _names("input_tokens", "x-ratelimit-{}-tokens-prompt"),
    _names("output_tokens", "x-ratelimit-{}-tokens-generated"),
)
_BARE = (
    _names("requests", "x-ratelimit-{}"),
    _names("tokens", "x-tokenlimit-{}"),
    _names("requests", "x-ratelimit-{}-dynamic", dynamic=True),
    _names("tokens", "x-tokenlimit-{}-dynamic", dynamic=True),
)
_IETF_DRAFT_6 = _names("requests", "ratelimit-{}")
_IETF_ITEM = _Names("requests", "q", "r", "t")


def _read(headers: Mapping[str, str], names: _Names, wall_time: float) -> LimitHint | None:
    """One limit from its three headers; None where none of them can be read."""
    limit = read_number(headers.get(names.limit))
    remaining = read_number(headers.get(names.remaining))
    reset = None
    if names.reset in headers:
        reset = read_seconds(headers[names.reset], wall_time)
        if reset is not None and reset > _LONGEST_RESET:
            reset = None
    if limit is None and remaining is None and reset is None:
        return None
    return LimitHint(names.what, limit, remaining, reset, names.per, names.dynamic)


def _with_refill_period(hint: LimitHint) -> LimitHint:
    """With the period, where the three numbers agree on a minute or a day to half a percent.

    ``limit`` refills in ``per`` seconds and what is used refills in ``reset``. So 500, 499, 120ms
    is 500 a minute and 14400, 14370, 2m59.56s is 14,400 a day (Groq; OpenAI's lowest tiers).
    """
    if hint.limit is None or hint.remaining is None or not hint.reset:
        return hint
    used = hint.limit - hint.remaining
    if used <= 0:
        return hint
    refill = hint.reset * hint.limit / used
    for per in (60.0, 86_400.0):
        if abs(refill - per) <= per * 0.005:
            return replace(hint, per=per)
    return hint


# The IETF drafts --------------------------------------------------------------------------------

_ITEM_PIECE = re.compile(
    r'\s{0,8}(?:"(?P<name>[^"]{0,200})"'
    r"|(?P<key>[a-z*][a-z0-9_.*-]{0,40})\s?=\s?(?P<value>\"[^\"]{0,200}\"|:[^:]{0,400}:|[\d.]{1,20})"
    r"|(?P<number>\d{1,15})|(?P<token>[a-z*][a-z0-9_.*-]{0,40}))\s{0,8}(?P<end>[;,]|$)",
    re.I,
)
_Item = dict[str, str]


def _ietf_draft(headers: Mapping[str, str], wall_time: float) -> Iterator[LimitHint]:
    """``RateLimit`` and ``RateLimit-Policy``, in the shapes of drafts 7 to 10.

    A field that is malformed is ignored as a whole, as the drafts demand.
    """
    if "ratelimit" not in headers and "ratelimit-policy" not in headers:
        return
    policies = _items(headers.get("ratelimit-policy", ""))
    states = _items(headers.get("ratelimit", ""))
    if states and "limit" in states[0]:  # draft 7: "limit=2, remaining=0, reset=5" is one item
        merged = {key: value for state in states for key, value in state.items()}
        names = ("q", "limit"), ("r", "remaining"), ("t", "reset")
        states = [{short: merged[long] for short, long in names if long in merged}]
    for state in states:
        policy = _policy_of(state, policies)
        if policy is not None:
            policies.remove(policy)
        yield from _ietf_hint((policy or {}) | state, wall_time)
    for policy in policies:
        yield from _ietf_hint(policy, wall_time)


def _policy_of(state: _Item, policies: list[_Item]) -> _Item | None:
    for policy in policies:
        if policy.get("name") == state.get("name") and ("q" not in state or _same_q(policy, state)):
            return policy
    return None


def _same_q(one: _Item, other: _Item) -> bool:
    return read_number(one.get("q")) == read_number(other.get("q"))


def _ietf_hint(item: _Item, wall_time: float) -> Iterator[LimitHint]:
    unit = item.get("qu", "requests").lower()
    if unit not in ("requests", "tokens"):  # content-bytes, concurrent-requests
        return
    what: What = "tokens" if "token" in unit + item.get("name", "").lower() else "requests"
    names = _IETF_ITEM._replace(what=what, per=read_number(item.get("w")) or None)
    if hint := _read(item, names, wall_time):
        yield hint


def _items(field: str) -> list[_Item]:
    """The items of a structured field, each a dict of its parameters; [] when malformed.

    The last quoted name is the item's: Hugging Face writes ``"fixed window";"api";q=500;w=300``.
    """
    items: list[_Item] = [{}]
    at = 0
    while at < len(field) and len(items) <= 16:
        piece = _ITEM_PIECE.match(field, at)
        if piece is None:
            return []
        item = items[-1]
        if piece["key"]:
            item[piece["key"].lower()] = piece["value"].strip('"')
        elif piece["number"]:
            item["q"] = piece["number"]  # draft 7's policy: "100;w=60"
        else:
            item["name"] = piece["name"] or piece["token"] or ""
        if piece["end"] == ",":
            items.append({})
        at = piece.end()
    return [item for item in items if item]


# Prose ------------------------------------------------------------------------------------------

_SHORT = re.compile(r"(?<![\d.,])(\d[\d,]{0,20}(?:\.\d{1,9})?)\s?([RQT])P([SMHD])\b", re.I)
_LONG = re.compile(
    r"(?<![\d.,])(\d[\d,]{0,20}(?:\.\d{1,9})?)\s"
    r"(input tokens?|output tokens?|tokens?|requests?|queries|query|(?:api )?calls?)"
    r"(?: per | an? |\s?/\s?)(sec|min|hour|day)",
    re.I,
)


def limits_in_message(message: str) -> tuple[LimitHint, ...]:
    """The limits that a message states: "600 RPM (10 QPS) and 180000 TPM (3000 TPS)"."""
    hints: list[LimitHint] = []
    message = message[:MAX_MESSAGE_CHARS]
    for number, unit, period in _SHORT.findall(message):
        what: What = "tokens" if unit in "tT" else "requests"
        hints += _stated(what, number, period)
    for number, unit, period in _LONG.findall(message):
        words = unit.lower()
        side = "input_" if "input" in words else "output_" if "output" in words else ""
        hints += _stated(
            _PROSE[side + ("tokens" if "token" in words else "requests")], number, period
        )
    return tuple(hints)


_PROSE: dict[str, What] = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
}


def _stated(what: What, number: str, period: str) -> Iterator[LimitHint]:
    limit = read_number(number.replace(",", ""))
    if limit:
        yield LimitHint(what, limit, None, None, _LETTERS[period[0].lower()])
