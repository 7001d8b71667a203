"""How long the server asks to wait. The first source that can be read holds:

1. ``retry-after-ms``
2. ``Retry-After``
3. a field that says when to try again: Google's ``RetryInfo``, the unsuffixed
   ``x-ratelimit-reset`` (Together, GitHub, OpenRouter), the IETF window of a used-up limit
4. the message: "Please try again in 7.66s"
5. the moment at which a limit is *full* again (OpenAI, Azure, Groq, Anthropic). It comes after
   the message because it overstates: a bucket of 10,000 a minute with one slot free in 6 ms is
   full in a minute.

Within one source the longest of several values holds. For a refusal that is not about a limit
(503, 500) the headers of limits in 3 and 5 are not asked: they speak of something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from headway.hints._limits import full_limits, window_limits
from headway.hints._model import LimitHint
from headway.hints._reply import ErrorBody, Headers, read_body, read_headers
from headway.hints._values import bounded, read_duration_at, read_number, read_wait, shown
from headway.kinds import Kind

__all__ = ["find_wait", "wait_from"]

_ASKS = re.compile(
    r"(?:try again|retry|wait|again|available) (?:(?:in|after|for|at least|about) ){0,3}(?=\d)",
    re.I,
)


def wait_from(headers: Headers, body: object, *, wall_time: float) -> tuple[float | None, str]:
    """The seconds that a refusal asks to wait (None: it does not say), and what was odd.

    `body` is ``bytes``, ``str``, parsed JSON or None; `wall_time` is in seconds since the epoch.
    """
    return find_wait(read_headers(headers), read_body(body), None, wall_time)


def find_wait(
    headers: Mapping[str, str],
    error: ErrorBody,
    kind: Kind | None,
    wall_time: float,
    *,
    typed: bool = True,
) -> tuple[float | None, str]:
    """The wait and what was odd. Without `kind` or `typed`, any limit may have been hit."""
    odd: list[str] = []
    about_limits = kind is None or kind.cuts is not None
    limit_hit = kind if typed else None
    wait = _retry_after(headers, wall_time, odd)
    if wait is None and _is_per_day(error):
        # Gemini sends the delay of its per-minute quota though the day's is used up: believing it
        # burns attempts until midnight. No wait is better than a wrong one.
        if error.retry_delay:
            odd.append(
                f"retryDelay: {shown(error.retry_delay)} ignored: a per-day quota is used up"
            )
        return None, _said(odd)
    if wait is None:
        wait = _longest(_named_moments(headers, error, about_limits, wall_time, odd))
    if wait is None:
        wait = _in_message(error.message, odd)
    if wait is None and about_limits:
        wait = _longest(_full_again(headers, limit_hit, wall_time, odd))
    return wait, _said(odd)


def _retry_after(headers: Mapping[str, str], wall_time: float, odd: list[str]) -> float | None:
    if (text := headers.get("retry-after-ms")) is not None:
        milliseconds = read_number(text.strip())
        if milliseconds is not None:
            # Through read_wait, for the rule of bare numbers: 1e12 and more ms are a moment.
            return read_wait("retry-after-ms", repr(milliseconds / 1e3), wall_time, odd)
        odd.append(f"retry-after-ms: {shown(text)} ignored")
    if (text := headers.get("retry-after")) is not None:
        return read_wait("retry-after", text, wall_time, odd)
    return None


def _is_per_day(error: ErrorBody) -> bool:
    return any("perday" in quota_id for quota_id in error.quota_ids)


def _named_moments(
    headers: Mapping[str, str],
    error: ErrorBody,
    about_limits: bool,
    wall_time: float,
    odd: list[str],
) -> Iterator[float | None]:
    if error.retry_delay is not None:
        yield read_wait("retryDelay", error.retry_delay, wall_time, odd)
    if not about_limits:
        return
    yield _bare_reset(headers, wall_time, odd)
    if error.headers:
        yield _bare_reset(error.headers, wall_time, odd)
    for hint in window_limits(headers, wall_time):
        if not hint.remaining and hint.reset is not None:
            yield bounded("ratelimit", hint.reset, odd)


def _bare_reset(headers: Mapping[str, str], wall_time: float, odd: list[str]) -> float | None:
    """``x-ratelimit-reset``: on Together the wait itself, elsewhere the end of a window.

    An absolute end of a window that has requests left says nothing about this refusal (GitHub's
    secondary limits come with one that is up to an hour away).
    """
    text = headers.get("x-ratelimit-reset")
    if text is None:
        return None
    number = read_number(text.strip())
    is_moment = number is None or number >= 1e9
    if is_moment and read_number(headers.get("x-ratelimit-remaining")):
        return None
    return read_wait("x-ratelimit-reset", text, wall_time, odd)


def _in_message(message: str, odd: list[str]) -> float | None:
    durations = (read_duration_at(message, asks.end())[0] for asks in _ASKS.finditer(message))
    longest = _longest(durations)
    return None if longest is None else bounded("message", longest, odd)


def _full_again(
    headers: Mapping[str, str], kind: Kind | None, wall_time: float, odd: list[str]
) -> Iterator[float | None]:
    for hint in full_limits(headers, wall_time):
        if hint.reset is not None and _binds(hint, kind):
            yield bounded(f"reset of {hint.what}", hint.reset, odd)


def _binds(hint: LimitHint, kind: Kind | None) -> bool:
    """Whether this limit may be the one that refused: used up, or of the kind that was hit.

    A limit of requests that has some left refused nothing. One of tokens may have: the request
    was larger than what remained.
    """
    if hint.remaining == 0:
        return True
    cuts = None if kind is None else kind.cuts
    if hint.what == "requests":
        return cuts == "requests" and hint.remaining is None
    return cuts == "tokens"


def _longest(waits: Iterator[float | None]) -> float | None:
    return max((wait for wait in waits if wait is not None), default=None)


def _said(odd: list[str]) -> str:
    return "; ".join(odd)[:300]
