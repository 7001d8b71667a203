"""Limits as the ledger takes them: the numbers that it counts by, and the text that states them."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from headway.errors import InvalidLimit
from headway.rates import LATENESS, TOKEN_CLASSES, Limits, Rate, TokenRate
from headway.shared.ledger import GRID

__all__ = ["Terms", "in_words", "limits_of", "stated", "terms_of"]

Terms: TypeAlias = tuple[list[dict[str, Any]], list[dict[str, Any]], int]
"""Rates of requests, budgets, and slots (0 for no limit), as `ledger.step` counts them."""

# What the pace of tokens lets all workers run ahead together, as a share of the window. A scheduler
# by itself lets twice as much (`TokenBudget`): here it is what one worker may have before others.
# Of 8 with 100k/10s each gets within 1.5% of the mean, and all 92%; with 4% within 3.4%, and 91%.
_AHEAD_TOGETHER = 0.02

_MARGIN = 1e-6  # seconds
_FIELDS = ("limit", "per", "window", "burst", "jitter", "resets")
_BURST = _FIELDS.index("burst")
_WEIGHTS = ("input", "cached", "output")
_BESIDE = ("window", "burst", "jitter", "resets")


def stated(limits: Limits) -> str:
    """The text by which workers compare what they state; "" for no limits."""
    if not limits:
        return ""
    said: dict[str, Any] = {"requests": [_fields(rate) for rate in limits.requests]}
    for name in TOKEN_CLASSES:
        said[name] = [_fields(rate) for rate in limits.of_tokens(name)]
    said["concurrency"] = limits.concurrency
    return json.dumps(said, separators=(",", ":"), sort_keys=True)


def limits_of(text: str) -> Limits:
    """The limits that `stated` wrote down. Raises `InvalidLimit` for any other text."""
    try:
        said = json.loads(text) if text else {}
        requests = [_rate(each) for each in said.get("requests", [])]
        tokens = {name: [_rate(each) for each in said.get(name, [])] for name in TOKEN_CLASSES}
        return Limits(
            requests or None,
            tokens=tokens["tokens"] or None,
            input_tokens=tokens["input_tokens"] or None,
            output_tokens=tokens["output_tokens"] or None,
            concurrency=said.get("concurrency"),
        )
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise InvalidLimit(
            f"what is stored as shared limits cannot be read: {text[:80]!r}",
            fix="`headway limits NAME --reset`, and let the workers state them anew.",
        ) from error


def in_words(limits: Limits) -> str:
    """The limits for people: whoever is told that two differ sees in what."""
    parts = [_in_full(rate) for rate in limits.requests]
    parts += [
        f"{kind.replace('_', ' ')} {_in_full(rate, kind)}" for kind, rate in limits.token_rates
    ]
    if limits.concurrency:
        parts.append(f"{limits.concurrency} at once")
    return ", ".join(parts) or "no limits"


def _in_full(rate: Rate, kind: str = "requests") -> str:
    """`rate` of `kind`, with what is said of it beside the number and the period."""
    given = {name: getattr(rate, name) for name in _BESIDE}
    if kind == "tokens" and isinstance(rate, TokenRate):  # a class of its own has no weights
        given |= {name: getattr(rate, name) for name in _WEIGHTS}
    said = [
        f"{name}={value if isinstance(value, str) else format(value, 'g')}"
        for name, value in given.items()
        if value is not None and (value != 1 or name == "window")  # 1 burst, and 1 a token
    ]
    return f"{rate} ({', '.join(said)})" if said else str(rate)


def terms_of(limits: Limits) -> Terms:
    """What the ledger counts `limits` by."""
    rates = [
        {
            "name": f"{rate} over {rate.span:g}",
            "span": rate.span,
            "clearance": rate.span + rate.delay_bound + LATENESS + _MARGIN,
            "units": rate.share - rate.burst + 1,
            "burst": rate.burst - 1,
        }
        for rate in limits.requests
        if not rate.is_quota
    ]
    budgets = [_budget(kind, rate) for kind, rate in limits.token_rates if not rate.is_quota]
    budgets += [_quota(rate, each=1) for rate in limits.requests if rate.is_quota]
    budgets += [_quota(rate, each=0) for _, rate in limits.token_rates if rate.is_quota]
    return rates, budgets, limits.concurrency or 0


def _budget(kind: str, rate: Rate) -> dict[str, Any]:
    return {
        "name": f"{kind} {rate}",
        "kind": kind,
        "limit": rate.limit,
        "share": rate.share,
        "width": (rate.span + rate.delay_bound) / GRID,
        "interval": 1.0 / rate.pace,
        "ahead": _AHEAD_TOGETHER * rate.span,
        "each": 0,
    }


def _quota(rate: Rate, each: int) -> dict[str, Any]:
    return {
        "name": f"quota {rate} {each}",
        "kind": "quota",
        "limit": rate.limit,
        "share": rate.share,
        "width": (rate.span + rate.delay_bound) / GRID,
        "interval": 0.0,
        "ahead": 0.0,
        "each": each,
    }


def _fields(rate: Rate) -> list[Any]:
    names = (*_FIELDS, *_WEIGHTS) if isinstance(rate, TokenRate) else _FIELDS
    return [rate.burst if name == "burst" else _plain(getattr(rate, name)) for name in names]


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) else value


def _rate(fields: list[Any]) -> Rate:
    fields[_BURST] = int(fields[_BURST])
    if len(fields) == len(_FIELDS):
        return Rate(*fields)
    return TokenRate(*fields)
