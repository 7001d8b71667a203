"""What a user states, checked: keys, weights, retries and options, with the fix in every error."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias, cast

from headway._core.refusals.retry import Retry
from headway._runtime.calls import check_plain_function, checked_tokens
from headway.errors import InvalidArgument, InvalidLimit
from headway.events import Event
from headway.hooks.sinks import Sink, stated_wants
from headway.kinds._words import shown
from headway.rates import Limits, is_number

__all__ = [
    "KeyLimits",
    "check_aging",
    "check_count",
    "check_eager",
    "check_flag",
    "check_key",
    "check_max_queue",
    "check_options",
    "check_shared",
    "read_keys",
    "read_retry",
    "read_sinks",
    "read_weights",
]

KeyLimits: TypeAlias = (
    Mapping[Any, Limits] | Iterable[tuple[Any, Limits]] | Callable[[Any], Limits | None]
)


def check_shared(*, eager: bool) -> None:
    """Raise `InvalidArgument` for `eager` with limits that are shared."""
    if eager:
        raise InvalidArgument(
            "eager=True spends what a server says remains at once, and of shared limits others "
            "spend it too",
            fix="leave out eager=, or shared=.",
        )


def read_retry(retry: object) -> Retry:
    """`retry`, or the default. Raises `InvalidLimit`."""
    if retry is None:
        return Retry()
    if not isinstance(retry, Retry):
        raise InvalidLimit(
            f"retry={shown(retry)} is not a Retry",
            fix="retry=Retry(attempts=5), "
            "retry=Retry(attempts=1) for no retries, or leave it out for the default.",
        )
    return retry


def read_keys(keys: KeyLimits | None) -> Callable[[Hashable], Limits | None]:
    """The limits of a key's own, as a function of the key. Raises `InvalidLimit`."""
    if keys is None:
        return lambda key: None
    if callable(keys):
        check_plain_function(keys, "keys", "a def that returns a Limits, or None for none")
        return partial(_limits_of, keys)
    given: object = keys
    pairs = given.items() if isinstance(given, Mapping) else given
    table: dict[Hashable, Limits] = {}
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Iterable):
        raise _no_keys(keys)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise _no_keys(keys)
        key, limits = pair
        _check_hashable(key, InvalidLimit)
        if key in table or isinstance(limits, list | tuple):
            raise InvalidLimit(
                f"two limits for key {shown(key)}: a key has one Limits, which holds all its rates",
                fix=f'keys={{{shown(key)}: Limits(["10/s", "300/min"])}}.',
            )
        if not isinstance(limits, Limits):
            raise InvalidLimit(
                f"keys={{{shown(key)}: {limits!r}}}: the limits of a key are a Limits",
                fix=f'keys={{{shown(key)}: Limits("600/min", concurrency=8)}}.',
            )
        table[key] = _check_own(key, limits)
    return table.get


def _no_keys(keys: object) -> InvalidLimit:
    return InvalidLimit(
        f"keys={shown(keys)} is neither a mapping of keys to limits nor a function of the key",
        fix='keys={"llama-70b": Limits("600/min", concurrency=8)}.',
    )


def _limits_of(keys: Callable[[Any], object], key: Hashable) -> Limits | None:
    """What the user's function says of `key`."""
    limits = keys(key)
    if limits is None:
        return None
    if not isinstance(limits, Limits):
        raise InvalidLimit(
            f"keys= returned {shown(limits)} for key {shown(key)}: the limits of a key are a "
            "Limits",
            fix='return Limits("600/min", concurrency=8), or None where the key has none.',
        )
    return _check_own(key, limits)


def _check_own(key: Hashable, limits: Limits) -> Limits:
    if limits.shared:
        raise InvalidLimit(
            f"the limits of key {shown(key)} hold an AsyncLimiter, which can be a limit of the "
            "whole only",
            fix=f'state the key\'s rate as text, keys={{{shown(key)}: Limits("600/min")}}.',
        )
    return limits


def read_weights(weights: Mapping[Any, float] | None) -> Mapping[Hashable, float]:
    """`weights`, or none. Raises `InvalidLimit`."""
    if weights is None:
        return {}
    given: object = weights
    if not isinstance(given, Mapping):
        raise InvalidLimit(
            f"weights={shown(given)} is not a mapping of keys to weights: keys share in "
            "proportion to them",
            fix="weights={'chat': 8}.",
        )
    for key, weight in given.items():
        if not (is_number(weight) and 0 < weight < math.inf):
            raise InvalidLimit(
                f"the weight of key {shown(key)} is {shown(weight)}, not a finite number above 0: "
                "keys share in proportion to their weights",
                fix="weights={'chat': 8}.",
            )
        if not 1e-9 <= weight <= 1e9:
            raise InvalidLimit(
                f"the weight of key {shown(key)} is {weight:g}, and weights are between 1e-9 and "
                "1e9: keys share in proportion to their weights",
                fix="weights={'chat': 8}.",
            )
    return dict(given)


_HOW_TO_LISTEN = "on_event=print, or a def that hands events on, say to a queue's put_nowait"


def read_sinks(on_event: object) -> tuple[Sink, ...]:
    """The sinks of `on_event`: none, one or several. Raises `InvalidArgument` for what is none, and
    for one that wants what is no event.
    """
    if on_event is None:
        return ()
    several = isinstance(on_event, Iterable) and not (
        callable(on_event) or isinstance(on_event, str)
    )
    sinks = tuple(cast("Iterable[Sink]", on_event)) if several else (cast("Sink", on_event),)
    for sink in sinks:
        check_plain_function(sink, "on_event", _HOW_TO_LISTEN)
        for kind in stated_wants(sink) or ():
            if not (isinstance(kind, type) and issubclass(kind, Event)):
                raise InvalidArgument(
                    f"on_event={shown(sink)} has {shown(kind)} in its wants, which is no event",
                    fix="wants = {events.Finished}, of the classes of headway.events.",
                )
    return sinks


def check_max_queue(value: object) -> int:
    """`value` as a number of jobs that may wait. Raises `InvalidLimit`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidLimit(
            f"max_queue={shown(value)} is not a whole number from 0: it is how many jobs may wait",
            fix="max_queue=10_000, 0 where none may wait, or leave it out for no bound.",
        )
    return value


def check_aging(value: object) -> float:
    """`value` as seconds that a job may be passed over. Raises `InvalidLimit`."""
    if not is_number(value) or not 0 < value < math.inf:
        raise InvalidLimit(
            f"aging={shown(value)} is no time: it is the seconds after which a job that waits goes "
            "before those of every priority",
            fix="aging=60, or leave it out for strict priority.",
        )
    return float(value)


def check_eager(value: object) -> bool:
    """`value`, which says yes or no. Raises `InvalidArgument`."""
    return check_flag("eager", value, "spend at once what the headers say remains")


def check_flag(name: str, value: object, purpose: str) -> bool:
    """`value`, which says yes or no to that `purpose`. Raises `InvalidArgument`."""
    if not isinstance(value, bool):
        raise InvalidArgument(
            f"{name}={shown(value)} says neither yes nor no",
            fix=f"{name}=True to {purpose}, or leave it out.",
        )
    return value


def check_count(name: str, value: object, least: int, what: str) -> int:
    """`value`, a whole number from `least` of `what`. Raises `InvalidArgument`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgument(
            f"{name}={shown(value)} is not a whole number from {least}: it is how many {what}",
            fix=f"{name}={max(least, 1)}.",
        )
    return value


def check_key(key: object) -> None:
    """Raise `InvalidArgument` for what cannot name a flow of jobs."""
    _check_hashable(key, InvalidArgument)


def _check_hashable(key: object, error: type[InvalidArgument]) -> None:
    try:
        hash(key)
    except TypeError as reason:
        raise error(
            f"key={shown(key)} cannot name a flow of jobs: {reason}, and keys are looked up",
            fix="a string, a number, or a tuple of them.",
        ) from None


def check_options(changes: Mapping[str, Any]) -> None:
    """Raise `InvalidArgument` for options that cannot be meant."""
    for name in ("timeout", "attempt_timeout"):
        value = changes.get(name)
        if value is not None and not (is_number(value) and value > 0):
            raise InvalidLimit(
                f"{name}={shown(value)} is not a time in seconds above 0",
                fix=f"{name}=30, or None for no limit.",
            )
    priority = changes.get("priority", 0)
    if not is_number(priority) or priority != priority:
        raise InvalidLimit(
            f"priority={shown(priority)} is not a number: the higher goes first", fix="priority=10."
        )
    if "key" in changes:
        check_key(changes["key"])
    tokens = changes.get("tokens")
    if callable(tokens):
        check_plain_function(tokens, "tokens", "tokens=lambda *args: ..., or a number")
    elif tokens is not None:
        checked_tokens(tokens)
    usage = changes.get("usage")
    if usage is not None:
        check_plain_function(usage, "usage", "usage=lambda reply: reply.usage.total_tokens")
