"""How long the server asks to wait. The first source that can be read holds:

1. ``retry-after-ms`` and its like (``x-ms-retry-after-ms``, ``grpc-retry-pushback-ms``)
2. ``Retry-After`` and its like (``x-retry-after``)
3. a field of the body that says how long to wait: Google's ``RetryInfo``, ``retry_after``
4. a moment: one in the body (``resets_at``), ``x-ratelimit-reset-after`` (Discord), the unsuffixed
   ``x-ratelimit-reset`` (Together, GitHub, OpenRouter, X), the IETF window of a used-up limit
5. the message: "Please try again in 7.66s", "Try again at 2026-11-25T10:00Z"
6. the moment at which a limit is *full* again (OpenAI, Azure, Groq, Anthropic). It comes after
   the message because it overstates: a bucket of 10,000 a minute with one slot free in 6 ms is
   full in a minute.

Within one source the longest of several values holds. For a refusal that is not about a limit
(503, 500) the headers of limits in 4 and 6 are not asked: they speak of something else. Nor are
they for one that says it is about concurrency: a slot comes free when a call ends, and no window's
end brings one. Moments are read against the answer's own ``Date``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from headway.hints._body_waits import BodyWait
from headway.hints._limits import full_limits, other_resets, window_limits
from headway.hints._model import LimitHint
from headway.hints._reply import ErrorBody, Headers, read_body, read_headers
from headway.hints._values import (
    Clock,
    bounded,
    read_duration_at,
    read_moment_at,
    read_number,
    read_wait,
    shown,
)
from headway.kinds import Kind

__all__ = ["find_wait", "says_when", "wait_from", "wait_in_text"]

_BETWEEN = r"[ _:=~\"'-]"
_ASKS = re.compile(
    r"(?:try(?:ing)? again|retry(?:ing)?(?: (?:your|the|this) requests?)?|wait(?:ing)?|again"
    r"|available|resets?|banned|blocked|lifted)"
    rf"(?:{_BETWEEN}{{0,3}}(?P<before>at least|at|on|until|till|in|after|for|about|of|be|time|delay"
    r"|approximately|around|another))"
    rf"{{0,4}}(?P<sign>{_BETWEEN}{{1,4}})(?=[\dA-Za-z.])",
    re.I,
)
_MOMENT_FOLLOWS = frozenset({"at", "on", "until", "till", "time"})
_ONE = re.compile(r"(?:an?|one) (second|minute|hour|day|week)\b", re.I)
_BARE_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?(?=\s{0,2}(?:$|[.;)\]}\"'!(]|,(?!\d)))", re.ASCII)


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
    clock = Clock(wall_time, headers.get("date"))
    about_limits = kind is None or kind.cuts is not None
    limit_hit = kind if typed else None
    of_windows = about_limits and limit_hit is not Kind.CONCURRENCY  # what headers of limits say
    wait = _retry_after(headers, clock, odd)
    if wait is not None:
        return wait, _said(odd)
    said = (error,) if error.upstream is None else (error, error.upstream)
    delays = [delay for each in said for delay in each.waits if delay.unit != "moment"]
    messages = [each.message for each in said]
    if any(map(is_per_day, said)):
        # Gemini sends the delay of its per-minute quota though the day's is used up: believing it
        # burns attempts until midnight. No wait is better than a wrong one.
        for name, text, _ in delays:
            if name == "retryDelay":
                odd.append(f"{name}: {shown(text)} ignored: a per-day quota is used up")
        delays = [delay for delay in delays if delay.name != "retryDelay"]
        messages = []
    wait = _longest(_in_body(delays, clock, odd))
    if wait is None:
        wait = _longest(
            _named_moments(
                headers, said, clock, odd, about_limits=about_limits, of_windows=of_windows
            )
        )
    if wait is None:
        wait = _longest(_in_message(message, clock, odd) for message in messages)
    if wait is None and of_windows and messages:
        wait = _longest(_full_again(headers, limit_hit, clock, odd))
    return wait, _said(odd)


def says_when(headers: Mapping[str, str], error: ErrorBody, wall_time: float) -> bool:
    """Whether a refusal asks to come again, whatever it is about."""
    return find_wait(headers, error, Kind.CAPACITY, wall_time)[0] is not None


def wait_in_text(text: str, wall_time: float) -> float | None:
    """The wait that prose asks for: "retry in 30 seconds"."""
    return _in_message(text, Clock(wall_time, None), [])


def _retry_after(headers: Mapping[str, str], clock: Clock, odd: list[str]) -> float | None:
    if (text := headers.get("retry-after-ms")) is not None:
        several = [read_number(part.strip()) for part in text.split(",", 8)]
        milliseconds = max((each for each in several if each is not None), default=None)
        if milliseconds is not None:
            # Through read_wait, for the rule of bare numbers: 1e12 and more ms are a moment.
            return read_wait("retry-after-ms", repr(milliseconds / 1e3), clock, odd)
        odd.append(f"retry-after-ms: {shown(text)} ignored")
    if (text := headers.get("retry-after")) is not None:
        return read_wait("retry-after", text, clock, odd)
    return None


def is_per_day(error: ErrorBody) -> bool:
    return any("perday" in quota_id for quota_id in error.quota_ids)


def _in_body(waits: Iterable[BodyWait], clock: Clock, odd: list[str]) -> Iterator[float | None]:
    for name, text, unit in waits:
        number = read_number(text.strip())
        if unit == "ms" and number is not None:
            yield read_wait(name, repr(number / 1e3), clock, odd)
        elif unit == "moment" and number is not None and number < 1e9:
            continue  # "reset": 60 may be a period, or a count
        else:
            yield read_wait(name, text, clock, odd)


def _named_moments(
    headers: Mapping[str, str],
    said: Iterable[ErrorBody],
    clock: Clock,
    odd: list[str],
    *,
    about_limits: bool,
    of_windows: bool,
) -> Iterator[float | None]:
    if not about_limits:
        return
    for error in said:
        yield from _in_body((wait for wait in error.waits if wait.unit == "moment"), clock, [])
        if error.headers:
            yield _retry_after(error.headers, clock, odd)
            if of_windows:
                yield _bare_reset(error.headers, clock, odd)
    if not of_windows:
        return
    yield _bare_reset(headers, clock, odd)
    for name, value, remaining in other_resets(headers):
        if not read_number(remaining):
            yield read_wait(name, value, clock, odd)
    for hint in window_limits(headers, clock):
        if not hint.remaining and hint.reset is not None:
            yield bounded("ratelimit", hint.reset, odd)


def _bare_reset(headers: Mapping[str, str], clock: Clock, odd: list[str]) -> float | None:
    """``x-ratelimit-reset``: on Together the wait itself, elsewhere the end of a window.

    An absolute end of a window that has requests left says nothing about this refusal (GitHub's
    secondary limits come with one that is up to an hour away). Of several windows (Brave's
    "1, 1419704") those count that are used up.
    """
    if (text := headers.get("x-ratelimit-reset-after")) is not None:
        return read_wait("x-ratelimit-reset-after", text, clock, odd)
    text = headers.get("x-ratelimit-reset")
    if text is None:
        return None
    remaining = headers.get("x-ratelimit-remaining", "")
    ends, left = text.split(","), remaining.split(",")
    if len(ends) == len(left) > 1:
        used_up = [end for end, rest in zip(ends, left, strict=True) if rest.strip() == "0"]
        return read_wait("x-ratelimit-reset", ",".join(used_up), clock, odd) if used_up else None
    number = read_number(text.strip())
    is_moment = number is None or number >= 1e9
    if is_moment and read_number(remaining.strip()):
        return None
    return read_wait("x-ratelimit-reset", text, clock, odd)


def _in_message(message: str, clock: Clock, odd: list[str]) -> float | None:
    longest = _longest(_asked(message, asks, clock) for asks in _ASKS.finditer(message))
    return None if longest is None else bounded("message", longest, odd)


def _asked(message: str, asks: re.Match[str], clock: Clock) -> float | None:
    """The seconds that `message` asks for where it `asks`; None where something else follows."""
    at = asks.end()
    if (moment := read_moment_at(message, at, clock.ours)) is not None:
        return max(0.0, moment - clock.now)
    before = (asks["before"] or "").lower()
    seconds = read_duration_at(message, at)[0]
    if seconds is None and (one := _ONE.match(message, at)):
        seconds = read_duration_at(f"1 {one[1]}", 0)[0]
    if seconds is not None:
        return None if before in _MOMENT_FOLLOWS - {"time"} else seconds
    bare = _BARE_NUMBER.match(message, at)
    if bare is None or not (before or set("_:=") & set(asks["sign"])):
        return None  # "retry 3" counts
    number = float(bare[0])
    if number >= 1e9:
        return max(0.0, (number if number < 1e12 else number / 1e3) - clock.now)
    return None if before in _MOMENT_FOLLOWS else number


def _full_again(
    headers: Mapping[str, str], kind: Kind | None, clock: Clock, odd: list[str]
) -> Iterator[float | None]:
    for hint in full_limits(headers, clock):
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


def _longest(waits: Iterable[float | None]) -> float | None:
    return max((wait for wait in waits if wait is not None), default=None)


def _said(odd: list[str]) -> str:
    return "; ".join(odd)[:300]
