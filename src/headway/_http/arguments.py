"""What a transport is made of, checked where it is made."""

from __future__ import annotations

import inspect
from typing import Any

from headway.errors import InvalidArgument
from headway.kinds._words import shown
from headway.rates import is_number

__all__ = ["check_address", "check_connections", "check_scheduler", "check_transport", "check_unit"]


def check_scheduler(scheduler: object) -> None:
    """Raise `InvalidArgument` for what is neither a scheduler nor a view of one."""
    if inspect.isclass(scheduler) or not hasattr(scheduler, "_shell"):
        raise InvalidArgument(
            f"scheduler={shown(scheduler)} is not a Scheduler",
            fix="AsyncTransport(Scheduler(...)), or a view that its with_options() made.",
        )


def check_address(url: Any, library: Any) -> None:
    """Raise `InvalidArgument` for what is no address that requests of `library` can go to."""
    try:
        parsed = library.URL(url)
        usable = parsed.scheme in ("http", "https") and bool(parsed.host)
    except (TypeError, library.InvalidURL):
        usable = False
    if not usable:
        raise InvalidArgument(
            f"url={shown(url)} is not a web address", fix='"https://api.together.ai".'
        )


def check_unit(unit: object) -> None:
    """Raise `InvalidArgument` for a unit that Together does not count by."""
    if unit not in (None, "second", "minute"):
        raise InvalidArgument(
            f"together_unit={shown(unit)} is no unit that Together counts by",
            fix='together_unit="second" or "minute", or leave it out.',
        )


def check_transport(transport: Any, library: Any, other: str, face: type) -> None:
    """Raise `InvalidArgument` for no async transport of `library`, and for headway's own."""
    name = library.__name__
    said = f"{type(transport).__module__}.{type(transport).__qualname__}"
    if isinstance(transport, face):
        raise InvalidArgument(
            f"{said} is headway's already: each request would wait for two permits, one inside the "
            "other",
            fix="wrap a transport once, and give the same one to every client.",
        )
    if isinstance(transport, library.AsyncBaseTransport):
        return
    if inspect.isclass(transport):
        what = f"{transport.__module__}.{transport.__qualname__} is a class"
        fix = f"an instance, {transport.__qualname__}()"
    elif isinstance(transport, library.AsyncClient | library.Client):
        what = f"{said} is a client, not an async transport of {name}"
        fix = f"the other way round, AsyncClient(transport=AsyncTransport(scheduler)); {other} "
        fix += "for a client of the other library"
    elif isinstance(transport, library.BaseTransport):
        what = f"{said} is a sync transport, and headway schedules async calls"
        fix = f"{name}.AsyncHTTPTransport(), in an AsyncClient"
    else:
        what = f"{said} is not an async transport of {name}"
        fix = f"pass one of {name}'s (AsyncHTTPTransport), or use {other} for a client of the other"
        fix += " library"
    raise InvalidArgument(what, fix=f"{fix}.")


def check_connections(connections: object, timeout: object) -> None:
    """Raise `InvalidArgument` for connections that nobody can open, or not in that time."""
    if isinstance(connections, bool) or not isinstance(connections, int) or connections < 1:
        raise InvalidArgument(
            f"connections={shown(connections)} cannot be opened", fix="a whole number from 1."
        )
    if not (is_number(timeout) and timeout > 0):
        raise InvalidArgument(
            f"timeout={shown(timeout)} is not a time in seconds above 0", fix="timeout=10."
        )
