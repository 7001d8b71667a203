"""What a transport is made of, checked where it is made."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from headway.errors import InvalidArgument
from headway.kinds._words import shown
from headway.rates import is_number
from headway.sync._shell import CommonShell

__all__ = [
    "ASYNC",
    "SYNC",
    "Names",
    "check_address",
    "check_connections",
    "check_scheduler",
    "check_transport",
    "check_unit",
]


@dataclass(frozen=True)
class Names:
    """What things are called on one side of a library: that of async clients, or of sync ones."""

    side: str
    face: str  # headway's transport
    base: str  # the class of the library's transports
    http: str  # the one that opens connections
    client: str


ASYNC = Names("async", "AsyncTransport", "AsyncBaseTransport", "AsyncHTTPTransport", "AsyncClient")
SYNC = Names("sync", "Transport", "BaseTransport", "HTTPTransport", "Client")


def check_scheduler(scheduler: Any, names: Names, door: str = "", other: str = "") -> None:
    """Raise `InvalidArgument` for what is neither a scheduler nor a view of one, or of the other
    side: an async one for a sync client. `door` is what it was given to, by default the transport,
    and `other` what async code calls instead.
    """
    made = "Scheduler(...)" if names is ASYNC else "headway.sync.Scheduler(...)"
    if inspect.isclass(scheduler) or not hasattr(scheduler, "_shell"):
        raise InvalidArgument(
            f"scheduler={shown(scheduler)} is not a Scheduler",
            fix=f"{door or names.face}({made}), or a view that its with_options() made.",
        )
    if names is SYNC and not isinstance(scheduler._shell, CommonShell):
        raise InvalidArgument(
            "a headway.Scheduler belongs to one event loop, and a sync client is in none",
            fix=f"{door or names.face}({made}), or {other or 'AsyncTransport for an AsyncClient'}.",
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


def check_transport(transport: Any, library: Any, other: str, face: type, names: Names) -> None:
    """Raise `InvalidArgument` for no transport of that side of `library`, and for headway's own."""
    name = library.__name__
    said = f"{type(transport).__module__}.{type(transport).__qualname__}"
    if isinstance(transport, face):
        raise InvalidArgument(
            f"{said} is headway's already: each request would wait for two permits, one inside the "
            "other",
            fix="wrap a transport once, and give the same one to every client.",
        )
    if isinstance(transport, getattr(library, names.base)):
        return
    others = SYNC if names is ASYNC else ASYNC
    article = "an async" if names is ASYNC else "a sync"
    if inspect.isclass(transport):
        what = f"{transport.__module__}.{transport.__qualname__} is a class"
        fix = f"an instance, {transport.__qualname__}()"
    elif isinstance(transport, library.AsyncClient | library.Client):
        what = f"{said} is a client, not {article} transport of {name}"
        fix = f"the other way round, {names.client}(transport={names.face}(scheduler)); {other} "
        fix += "for a client of the other library"
    elif isinstance(transport, getattr(library, others.base)):
        what = f"{said} is for {others.side} clients, and this is for {names.side} ones"
        fix = f"{name}.{names.http}(), or headway.{name}.{others.face} around it"
    else:
        what = f"{said} is not {article} transport of {name}"
        fix = f"pass one of {name}'s ({names.http}), or use {other} for a client of the other"
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
