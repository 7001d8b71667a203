"""What an account may do: a few of the cheapest calls, and what their headers say.

Nothing is guessed. What no header states is not known, and `describe` says so.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import anyio
import httpx

from headway.errors import HeadwayError
from headway.hints import GENERIC, LimitHint, limits_from, message_in, refusal_from_response
from headway.kinds import Kind, Moves
from headway.kinds._words import counted, duration, stated
from headway.providers import provider_named

__all__ = ["Found", "ProbeFailed", "describe", "probe"]

Unit = Literal["second", "minute"]

_CALLS = 3
_PERIODS = {1.0: "s", 60.0: "min", 3_600.0: "h", 86_400.0: "day"}
_NAMES = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
}
# What is allowed a second is there again after this, what is allowed a minute mostly is not.
_FULL_AFTER = 1.2  # seconds
_BURST = 4
_LONGEST_TEXT = 200


class ProbeFailed(HeadwayError):
    """The calls were not answered; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the headers of `calls` said. Limits without a period have `per` None; `unit` is the
    period of Together's unsuffixed limits where it turned out, and `unit_from` how.
    """

    provider: str
    model: str
    calls: int
    limits: tuple[LimitHint, ...]
    unit: Unit | None = None
    unit_from: str = ""
    refused: str = ""  # the message of a refusal for the rate, where there was one


@dataclass(frozen=True, slots=True)
class _Reply:
    sent: float
    at: float
    limits: tuple[LimitHint, ...]
    refused: str = ""


async def probe(
    client: httpx.AsyncClient,
    *,
    model: str,
    provider: str,
    url: str = "/v1/chat/completions",
    together_unit: Unit | None = None,
) -> Found:
    """Ask `model` for one token a few times (at most eleven), and read the limits from the headers.

    `client` has the address and the key. `together_unit` says what Together's unsuffixed
    ``x-ratelimit-limit`` is per; without it the refill of what remains tells, where it can. A
    refusal for the rate tells as much as an answer. Raises `ProbeFailed`.
    """
    ask = partial(_call, client, model, provider, url, together_unit)
    replies = [await ask(0)]
    unit, unit_from = together_unit, "as stated" if together_unit else ""
    if unit is None and _open(replies):
        unit, unit_from = await _watch(ask, replies)
    while len(replies) < _CALLS and not replies[-1].refused:
        replies.append(await ask(len(replies)))
    unsuffixed = together_unit is not None or _open(replies)
    return Found(
        provider=provider,
        model=model,
        calls=len(replies),
        limits=tuple(_with_unit(hint, unit) for hint in _merged(replies)),
        unit=unit if unsuffixed else None,
        unit_from=unit_from if unsuffixed else "",
        refused=next((reply.refused for reply in replies if reply.refused), ""),
    )


async def _watch(
    ask: Callable[[int], Awaitable[_Reply]], replies: list[_Reply]
) -> tuple[Unit | None, str]:
    """Take some at once, and see whether it is back a second later: twice where it is, for the
    first may have been the end of a minute.
    """
    for reply in replies:
        if found := _unit_by_reset(reply):
            return found
    verdict: Unit | None = None
    for _ in range(2):
        burst: list[_Reply] = []
        errors: list[ProbeFailed] = []

        async def one(number: int, burst: list[_Reply] = burst, errors: Any = errors) -> None:
            try:
                burst.append(await ask(number))
            except ProbeFailed as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            for number in range(_BURST):
                group.start_soon(one, len(replies) + number)
        if errors:
            raise errors[0]
        replies += burst
        if any(reply.refused for reply in burst):
            return None, ""
        await anyio.sleep(_FULL_AFTER)
        replies.append(await ask(len(replies)))
        if found := _unit_by_reset(replies[-1]):
            return found
        seen = _refill(burst, replies[-1])
        if seen is None:
            return None, ""
        if seen == "minute":
            return seen, "a second later what remains was not full again"
        verdict = seen
    return verdict, "a second later what remains was full again, twice"


async def _call(
    client: httpx.AsyncClient,
    model: str,
    provider: str,
    url: str,
    unit: Unit | None,
    number: int,
) -> _Reply:
    # Each call asks something else, so that no cache answers.
    body: dict[str, Any] = {"model": model, "max_tokens": 1}
    if url.endswith("/embeddings"):
        body = {"model": model, "input": f"probe {number}"}
    elif url.endswith("/completions") and not url.endswith("/chat/completions"):
        body["prompt"] = f"probe {number}"
    else:
        body["messages"] = [{"role": "user", "content": f"probe {number}"}]
    sent = anyio.current_time()
    try:
        response = await client.post(url, json=body)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        what = str(error) or type(error).__name__
        raise ProbeFailed(
            f"{provider} could not be reached: {what}", fix="check the network and the address."
        ) from error
    at, wall_time = anyio.current_time(), time.time()
    status = response.status_code
    known = provider_named(provider)
    dialect = GENERIC if known is None else known.dialect
    refusal = refusal_from_response(
        status, response.headers, response.content, wall_time=wall_time, dialect=dialect
    )
    limited = refusal is not None and refusal.kind.cuts is not None
    if not limited:
        _check(response, provider, model, url, None if refusal is None else refusal.kind)
    limits = limits_from(
        response.headers,
        response.content if limited else None,
        wall_time=wall_time,
        dialect=dialect,
        together_unit=unit,
    )
    return _Reply(sent, at, limits, _text(response) if limited else "")


# -- what went wrong ---------------------------------------------------------------------------


def _check(
    response: httpx.Response, provider: str, model: str, url: str, kind: Kind | None
) -> None:
    """Raise `ProbeFailed` for what is no answer of a model."""
    status = response.status_code
    text = _text(response)
    if "html" in response.headers.get("content-type", "").lower() or text.startswith("<"):
        raise ProbeFailed(
            f"{response.url} answered a web page (status {status}), not JSON: it is not the API",
            fix="the address of the API (--base-url).",
        )
    if 200 <= status < 300:
        try:
            if isinstance(json.loads(response.content), dict):
                return
        except (ValueError, RecursionError):
            pass
        raise ProbeFailed(
            f"{response.url} answered {text!r}, which is not a JSON object",
            fix="the address of the API (--base-url).",
        )
    says = f"{provider} says: {text}" if text else f"{provider} says no more than that"
    if kind is not None and kind.moves is Moves.LATCH:
        raise ProbeFailed(f"{kind.problem} (status {status}). {says}", fix=f"{kind.fix}.")
    if status in (400, 404, 422) and _names(model, text):
        raise ProbeFailed(
            f"the model {model!r} cannot be used (status {status}). {says}",
            fix="--model with a name that the provider lists.",
        )
    if status in (404, 405):
        raise ProbeFailed(
            f"there is no {response.url} (status {status}). {says}",
            fix="the address of the API (--base-url), or another --endpoint.",
        )
    if status >= 500 or status == 408:
        raise ProbeFailed(f"{provider} is down or busy (status {status}). {says}", fix="try later.")
    raise ProbeFailed(f"the call was refused (status {status}). {says}", fix="what it says.")


def _names(model: str, text: str) -> bool:
    named = rf"(?<![\w./-]){re.escape(model)}(?![\w/-])|\bmodel\b"
    return re.search(named, text, re.IGNORECASE) is not None


def _text(response: httpx.Response) -> str:
    """What an answer says, in one short line."""
    text = response.text.strip()
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    text = message_in(body) or text
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 1]}…"


# -- what the headers said ---------------------------------------------------------------------


def _key(hint: LimitHint) -> tuple[str, float | None, bool]:
    return hint.what, hint.per, hint.dynamic


def _merged(replies: Sequence[_Reply]) -> list[LimitHint]:
    """One of each limit: the last that was said of it, and with its period where one said that."""
    found: dict[tuple[str, float | None, bool], LimitHint] = {}
    for reply in replies:
        for hint in reply.limits:
            if hint.limit:
                found[_key(hint)] = hint
    known = {(hint.what, hint.limit) for hint in found.values() if hint.per is not None}
    return [
        hint
        for hint in found.values()
        if hint.per is not None or hint.dynamic or (hint.what, hint.limit) not in known
    ]


def _loose(reply: _Reply) -> LimitHint | None:
    """The limit of requests that states no period."""
    for hint in reply.limits:
        if hint.what == "requests" and hint.limit and hint.per is None and not hint.dynamic:
            return hint
    return None


def _open(replies: Sequence[_Reply]) -> bool:
    """Whether a period is to be found out."""
    stated = {hint.limit for reply in replies for hint in reply.limits
              if hint.what == "requests" and hint.per is not None}  # fmt: skip
    loose = [hint for reply in replies if (hint := _loose(reply)) is not None]
    return bool(loose) and not any(hint.limit in stated for hint in loose)


def _unit_by_reset(reply: _Reply) -> tuple[Unit, str] | None:
    """What a second allows is there again within the second; on a refusal reset is a wait."""
    hint = _loose(reply)
    if hint is None or reply.refused or hint.reset is None or not 2.0 <= hint.reset <= 61.0:
        return None
    return "minute", f"they reset {duration(hint.reset)} later"


def _refill(burst: Sequence[_Reply], last: _Reply) -> Unit | None:
    """Whether what a burst took was back at the `last` call, which took one itself."""
    low = [hint for reply in burst if (hint := _loose(reply)) and hint.remaining is not None]
    high = _loose(last)
    if not low or high is None or high.limit is None or high.remaining is None:
        return None
    left = min(hint.remaining for hint in low if hint.remaining is not None)
    if any(hint.limit != high.limit for hint in low):
        return None
    # As a limit a minute would have filled up: what is above that, and full, is per second.
    slow = left + high.limit / 60 * (last.at - min(reply.sent for reply in burst)) - 1
    full = high.limit - 1
    if full - slow < 1.5:
        return None  # there is too little to tell it by
    if high.remaining >= full:
        return "second"
    return "minute" if high.remaining <= slow + 1 else None


def _with_unit(hint: LimitHint, unit: Unit | None) -> LimitHint:
    if unit is None or hint.per is not None or hint.dynamic:
        return hint
    return replace(hint, per=1.0 if unit == "second" else 60.0)


# -- telling it --------------------------------------------------------------------------------


_LANES = {
    "model": "They are limits of this model: other models have their own (keys=).",
    "account": "They are limits of the account: all its models share them.",
}


def describe(found: Found) -> str:
    """`found` as text: the limits, the `Scheduler(...)` and the flags that fit, what is unknown."""
    lines = [f"{found.model} at {found.provider}, {counted(found.calls, 'call')} of one token:", ""]
    if not found.limits:
        lines.append("  No header states a limit.")
    lines += [f"  {_NAMES[hint.what]:<13}  {_limit(hint)}" for hint in found.limits]
    if found.refused:
        lines.append(f"  A call was refused: {found.refused}")
    requests, tokens = _rates(found, "requests"), _rates(found, "tokens")
    arguments = [*_argument("", requests), *_argument("tokens=", tokens)]
    flags = [f"--rate {rate}" for rate in requests] + [f"--tokens {rate}" for rate in tokens]
    lines += ["", f"  Scheduler({', '.join(arguments)})"]
    lines.append(f"  headway run requests.jsonl {' '.join(flags)}".rstrip())
    return "\n".join([*lines, "", *_notes(found, requests, tokens)])


def _notes(found: Found, requests: Sequence[str], tokens: Sequence[str]) -> list[str]:
    notes = []
    loose = sorted({hint.what for hint in found.limits if hint.per is None and not hint.dynamic})
    if loose:
        names = " and ".join(_NAMES[what] for what in loose)
        notes.append(
            f"The limit of {names} states no period, and a few calls did not show whether it is "
            "per second or per minute: it is left out. If you know it, state it."
        )
    if found.unit and found.unit_from:
        notes.append(f"The limits are per {found.unit}: {found.unit_from}.")
    if any(hint.what in ("input_tokens", "output_tokens") for hint in found.limits) and not tokens:
        notes.append(
            "Input and output tokens have limits of their own; headway counts both together, so "
            "no --tokens is given: a refusal for tokens slows it down."
        )
    if any(hint.dynamic for hint in found.limits):
        notes.append("A dynamic limit moves with your traffic: headway follows it as it goes.")
    missing = [name for name, rates in (("requests", requests), ("tokens", tokens)) if not rates]
    if len(missing) == 2:
        notes.append(
            "With no limit stated headway finds it by itself: it starts slowly, goes faster as "
            "long as nothing is refused, and slows down where something is."
        )
    elif missing:
        notes.append(
            f"No limit of {missing[0]} is known: headway sends as the other limits allow, and "
            "slows down where something is refused."
        )
    provider = provider_named(found.provider)
    if found.limits and provider is not None:
        notes.append(_LANES[provider.lane])
    notes.append("No header states how many calls may be in flight: --concurrency is yours.")
    return notes


def _rates(found: Found, what: str) -> list[str]:
    rates = {
        stated(hint.limit, hint.per): hint.limit / hint.per
        for hint in found.limits
        if hint.what == what and hint.limit and hint.per and not hint.dynamic
    }
    return list(rates)


def _argument(name: str, rates: Sequence[str]) -> list[str]:
    if not rates:
        return []
    quoted = ", ".join(f'"{rate}"' for rate in rates)
    return [f"{name}[{quoted}]" if len(rates) > 1 else f"{name}{quoted}"]


def _limit(hint: LimitHint) -> str:
    limit = f"{hint.limit or 0:,.15g}"
    per = "" if hint.per is None else f" per {_PERIODS.get(hint.per) or duration(hint.per)}"
    moves = ", dynamic" if hint.dynamic else ""
    left = "" if hint.remaining is None else f", {hint.remaining:,.15g} remain"
    return f"{limit}{per}{moves}{left}"
