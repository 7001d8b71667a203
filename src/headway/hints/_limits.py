"""What headers and messages say of the limits: one small reader per dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

from headway.hints._dialect import GENERIC, Dialect
from headway.hints._fields import Date, Item, parse_dictionary, parse_list
from headway.hints._model import LimitHint
from headway.hints._names import PERIODS
from headway.hints._reply import MAX_MESSAGE_CHARS, Headers, read_body, read_headers
from headway.hints._values import Clock, read_number, read_seconds, shown
from headway.kinds._words import duration, number

__all__ = [
    "full_limits",
    "is_no_reset",
    "limits_from",
    "limits_in_message",
    "named_limits",
    "other_resets",
    "window_limits",
]

What = Literal["requests", "tokens", "input_tokens", "output_tokens"]

_LONGEST_LIMIT = 200  # characters
_LONGEST_RESET = 366 * 86_400.0
_LETTERS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def limits_from(
    headers: Headers,
    body: object = None,
    *,
    wall_time: float,
    dialect: Dialect = GENERIC,
    together_unit: Literal["second", "minute"] | None = None,
) -> tuple[LimitHint, ...]:
    """What a response says of each of its limits; () where it says nothing.

    `body` is an error's body (``bytes``, ``str``, parsed JSON) and None for a success: bodies of
    successes say nothing about limits and cost time to parse. `wall_time` is in seconds since the
    epoch. `dialect` is that of the provider which sent it. `together_unit` is the unit of the
    unsuffixed ``x-ratelimit-limit`` in place of the dialect's; with neither such a limit has no
    `per`.
    """
    plain = read_headers(headers, dialect)
    stated = together_unit or dialect.bare_limit_unit
    unit = PERIODS[stated] if stated else None
    hints: list[LimitHint] = []
    clock = Clock(wall_time, plain.get("date"))
    if plain:
        hints += named_limits(plain, clock, unit)
        hints += window_limits(plain, clock)
    if body:
        error = read_body(body)
        if error.headers:
            hints += named_limits(error.headers, clock, None)
        hints += limits_in_message(error.message)
    return tuple(hints)


def named_limits(
    headers: Mapping[str, str], clock: Clock, unit: float | None = None
) -> list[LimitHint]:
    """The limits that have up to three headers each, in the order of the dialects' table.

    `unit` is the period, in seconds, of those without a suffix, which state none.
    """
    found = {_PLACES[name] for name in headers if name in _PLACES}
    hints: list[LimitHint] = []
    for place in sorted(found):
        names = _DIALECTS[place]
        if place in _BARE_PLACES:
            names = names._replace(per=unit)
        if hint := _read(headers, names, clock):
            hint = hint if place else _with_refill_period(hint)
            if hints and not names.dynamic and place not in _PROJECT_PLACES:
                hint = _compared(hint, hints)
            hints.append(hint)
    return hints


def _compared(hint: LimitHint, others: list[LimitHint]) -> LimitHint:
    """With a remark, where one of `others` states the same limit otherwise."""
    if hint.limit is None or hint.per is None:
        return hint
    for other in others:
        alike = (other.what, other.per) == (hint.what, hint.per) and other.limit is not None
        if alike and other.limit != hint.limit:
            one, two = sorted((hint.limit, other.limit or 0.0))
            odd = f"{hint.what} limits of {number(one)} and {number(two)} in {duration(hint.per)} "
            return replace(hint, odd=f"{odd}contradict each other: the lower holds")
    return hint


def full_limits(headers: Mapping[str, str], clock: Clock) -> list[LimitHint]:
    """The limits whose reset is the time until they are *full* again, or that send none."""
    return named_limits(
        {name: headers[name] for name in headers if _PLACES.get(name, len(_FULL)) < len(_FULL)},
        clock,
    )


def window_limits(headers: Mapping[str, str], clock: Clock) -> Iterator[LimitHint]:
    """The IETF drafts, Hugging Face among them: reset is the seconds until the window ends."""
    yield from _ietf_draft(headers, clock)
    if _IETF_DRAFT_6.limit in headers or _IETF_DRAFT_6.reset in headers:
        first = {
            name: re.split("[,;]", headers.get(name, ""), maxsplit=1)[0].strip()
            for name in (_IETF_DRAFT_6.limit, _IETF_DRAFT_6.remaining, _IETF_DRAFT_6.reset)
        }
        if hint := _read(first, _IETF_DRAFT_6, clock):
            yield hint


def other_resets(headers: Mapping[str, str]) -> Iterator[tuple[str, str, str | None]]:
    """Resets of limits of something else (images, searches): name, value and what remains."""
    for name, value in headers.items():
        what = name.removeprefix("x-ratelimit-reset-")
        if what is not name and name not in _PLACES and not name.startswith(_RESET_AFTER):
            yield name, value, headers.get(f"x-ratelimit-remaining-{what}")


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


_FULL = (
    # OpenAI, Azure, Groq: tokens are per minute; requests per minute or per day, unstated.
    _names("requests", "x-ratelimit-{}-requests"),
    _names("tokens", "x-ratelimit-{}-tokens", 60.0),
    # Anthropic
    _names("requests", "anthropic-ratelimit-requests-{}", 60.0),
    _names("tokens", "anthropic-ratelimit-tokens-{}", 60.0),
    _names("input_tokens", "anthropic-ratelimit-input-tokens-{}", 60.0),
    _names("output_tokens", "anthropic-ratelimit-output-tokens-{}", 60.0),
    # Mistral, Cerebras; Kong, whose plain periods are of requests
    *(
        _names(
            "tokens" if unit == "tokens" else "requests",
            "-".join(("x-ratelimit-{}", *filter(None, (unit, period)))),
            per,
        )
        for unit in ("requests", "tokens", "")
        for period, per in PERIODS.items()
    ),
    # Mistral, of old
    _names("tokens", "ratelimitbysize-{}"),
    # Fireworks
    _names("input_tokens", "x-ratelimit-{}-input-tokens", 60.0),
    _names("output_tokens", "x-ratelimit-{}-output-tokens", 60.0),
    # OpenAI, the limits of a project
    _names("requests", "x-ratelimit-{}-project-requests"),
    _names("tokens", "x-ratelimit-{}-project-tokens", 60.0),
)
_BARE = (
    # Together, OpenRouter, GitHub, X: no unit is stated
    _names("requests", "x-ratelimit-{}"),
    _names("tokens", "x-tokenlimit-{}"),
    _names("requests", "x-ratelimit-{}-dynamic", dynamic=True),
    _names("tokens", "x-tokenlimit-{}-dynamic", dynamic=True),
)
_DIALECTS = _FULL + _BARE
_PROJECT_PLACES = range(len(_FULL) - 2, len(_FULL))  # beside the same limits of the organisation
_BARE_PLACES = range(len(_FULL), len(_DIALECTS))
_PLACES = {
    name: place
    for place, names in enumerate(_DIALECTS)
    for name in (names.limit, names.remaining, names.reset)
}
_RESET_AFTER = "x-ratelimit-reset-after"
_IETF_DRAFT_6 = _names("requests", "ratelimit-{}")


def _read(headers: Mapping[str, str], names: _Names, clock: Clock) -> LimitHint | None:
    """One limit from its three headers; None where none of them can be read."""
    limit, odd = read_number(headers.get(names.limit)), ""
    if limit is None and names.limit in headers:
        limit, odd = _misread(names.limit, headers[names.limit])
    remaining = read_number(headers.get(names.remaining))
    reset = None
    if names.reset in headers:
        reset = _bounded(read_seconds(headers[names.reset], clock))
    if limit is None and remaining is None and reset is None:
        return None
    return LimitHint(names.what, limit, remaining, reset, names.per, names.dynamic, odd)


def _misread(name: str, text: str) -> tuple[float | None, str]:
    """The limit in a `text` that is no number, and a remark: of a field that was sent twice, which
    arrives joined with commas, the lower. Servers write -1, or a word, for a limit that is none.
    """
    if text.startswith("-") or not any(character.isdigit() for character in text[:_LONGEST_LIMIT]):
        return None, ""
    several = [read_number(part) for part in text[:_LONGEST_LIMIT].split(", ")]
    lowest = min((each for each in several if each is not None), default=None)
    if lowest is None:
        return None, f"{name}: {shown(text)} ignored"
    return lowest, f"{name}: {shown(text)} are several limits: the lower holds"


def is_no_reset(text: str, clock: Clock) -> bool:
    """Whether a reset cannot be meant: it is negative, unreadable, or more than a year away."""
    return _bounded(read_seconds(text, clock)) is None


def _bounded(reset: float | None) -> float | None:
    return None if reset is None or reset > _LONGEST_RESET else reset


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

_MOST_ITEMS = 64


def _ietf_draft(headers: Mapping[str, str], clock: Clock) -> Iterator[LimitHint]:
    """``RateLimit`` and ``RateLimit-Policy``, in the shapes of drafts 7 to 10.

    A field that is malformed is ignored as a whole, as the drafts demand.
    """
    if "ratelimit" not in headers and "ratelimit-policy" not in headers:
        return
    policies = parse_list(headers.get("ratelimit-policy", ""))[:_MOST_ITEMS]
    for policy in policies:
        if _count(policy.value) is not None:  # draft 7: "100;w=60"
            policy.parameters["q"] = policy.value or 0
            policy.value = None
    text = headers.get("ratelimit", "")
    states = parse_list(text)[:_MOST_ITEMS] or _draft_7(text)
    for state in states:
        found = _policy_of(state, policies)
        if found is None:
            yield from _ietf_hint(state, clock)
            continue
        policies.remove(found)
        both = Item(found.value, found.parameters | state.parameters, found.names)
        yield from _ietf_hint(both, clock)
    for policy in policies:
        yield from _ietf_hint(policy, clock)


def _draft_7(text: str) -> list[Item]:
    """Its state is a dictionary: ``limit=2, remaining=0, reset=5``."""
    said = parse_dictionary(text)
    names = ("q", "limit"), ("r", "remaining"), ("t", "reset")
    found = {short: said[long].value for short, long in names if long in said}
    parameters = {key: value for key, value in found.items() if value is not None}
    return [Item(None, parameters)] if parameters else []


def _policy_of(state: Item, policies: list[Item]) -> Item | None:
    quota = state.parameters.get("q")
    for policy in policies:
        if _name(policy) == _name(state) and quota in (None, policy.parameters.get("q")):
            return policy
    return None


def _name(item: Item) -> str:
    """The last one is the item's: Hugging Face writes ``"fixed window";"api";q=500;w=300``."""
    if item.names:
        return item.names[-1]
    return item.value if isinstance(item.value, str) else ""


def _count(value: object) -> float | None:
    """A number from 0; what is of another type says nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    return value


def _ietf_hint(item: Item, clock: Clock) -> Iterator[LimitHint]:
    said = item.parameters
    unit = str(said.get("qu", "requests")).lower()
    if unit not in ("requests", "tokens"):  # content-bytes, concurrent-requests
        return
    limit, remaining, end = _count(said.get("q")), _count(said.get("r")), said.get("t")
    reset = max(0.0, end.seconds - clock.now) if isinstance(end, Date) else _count(end)
    reset = _bounded(reset)
    if limit is None and remaining is None and reset is None:
        return
    what: What = "tokens" if "token" in unit + _name(item).lower() else "requests"
    yield LimitHint(what, limit, remaining, reset, _count(said.get("w")) or None)


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
    for limit, unit, period in _SHORT.findall(message):
        what: What = "tokens" if unit in "tT" else "requests"
        hints += _stated(what, limit, period)
    for limit, unit, period in _LONG.findall(message):
        words = unit.lower()
        side = "input_" if "input" in words else "output_" if "output" in words else ""
        hints += _stated(
            _PROSE[side + ("tokens" if "token" in words else "requests")], limit, period
        )
    return tuple(hints)


_PROSE: dict[str, What] = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
}


def _stated(what: What, text: str, period: str) -> Iterator[LimitHint]:
    limit = read_number(text.replace(",", ""))
    if limit:
        yield LimitHint(what, limit, None, None, _LETTERS[period[0].lower()])
