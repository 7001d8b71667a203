"""Fields of a body that say when to try again, wherever they stand in it.

Telegram's ``parameters.retry_after``, Discord's ``retry_after``, Google's ``retryDelay``, Codex's
``resets_in_seconds`` and ``resets_at``: the name tells the unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal, NamedTuple

__all__ = ["BodyWait", "unit_of", "waits_in"]

Unit = Literal["s", "ms", "moment"]


class BodyWait(NamedTuple):
    """A field that says when to try again: its name, its value as text, and its unit."""

    name: str
    text: str
    unit: Unit


_MOST_NODES = 500
_DEEPEST = 6
_MAX_TEXT = 64
_ECHOED = frozenset({"input", "messages", "prompt", "request", "body", "content"})
"""What a server repeats of the request says nothing about its limits."""

_DELAY = (
    r"(?:(?:quota|ratelimit)?reset(?:s)?(?:after|in|delay)"
    r"|(?:suggested)?retry(?:after|in|delay|wait)|wait(?:time|for)?|backoff|cooldown|secondstowait"
    r"|estimatedtime)"  # Hugging Face's, of a model that is being loaded
)
_NAMES: tuple[tuple[re.Pattern[str], Unit], ...] = (
    (re.compile(rf"{_DELAY}(?:in)?(?:ms|msecs?|millis|milliseconds?)"), "ms"),
    (re.compile(rf"{_DELAY}(?:in)?(?:s|secs?|seconds?)?"), "s"),
    (
        re.compile(
            r"(?:quota|ratelimit|limit)?resets?(?:at|on|time|date|timestamp|time?stamp)?"
            r"|(?:next)?retry(?:after)?(?:at|time|timestamp)|availableat"
        ),
        "moment",
    ),
)


def unit_of(name: str) -> Unit | None:
    """What the field `name`, in any spelling, counts by; None where it is about no wait."""
    squeezed = re.sub(r"[^a-z]", "", name[:40].lower())
    return next((unit for pattern, unit in _NAMES if pattern.fullmatch(squeezed)), None)


def waits_in(body: object) -> tuple[BodyWait, ...]:
    """The waits that parsed JSON states, to a depth of six and five hundred values."""
    return tuple(_walk(body))


def _walk(body: object) -> Iterator[BodyWait]:
    level: list[Any] = [body]
    left = _MOST_NODES
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for node in level:
            for name, value in _fields(node, left):
                left -= 1
                unit = unit_of(name)
                text = None if unit is None else _text(value)
                if unit is not None and text is not None:
                    yield BodyWait(name[:40], text, unit)
                elif isinstance(value, dict | list):
                    below.append(value)
        level = below


def _fields(node: object, most: int) -> Iterator[tuple[str, object]]:
    if most <= 0:
        return
    if isinstance(node, dict):
        for name in islice(node, most):
            if isinstance(name, str) and name not in _ECHOED:
                yield name, node[name]
    elif isinstance(node, list):
        for value in node[: min(most, 32)]:
            yield "", value


def _text(value: object) -> str | None:
    """A number or a short text; None for what can be neither a wait nor a moment."""
    if isinstance(value, dict):  # protobuf's Duration
        seconds = _text(value.get("seconds"))
        return seconds if {"seconds", "nanos"}.issuperset(value) else None
    if isinstance(value, str) and 0 < len(value) <= _MAX_TEXT:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value) if abs(value) < 1e15 else "inf"
    return None
