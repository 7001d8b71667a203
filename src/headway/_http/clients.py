"""A client all of whose requests are scheduled, those through proxies and mounts too."""

from __future__ import annotations

from typing import Any

from headway._http.arguments import SYNC, check_scheduler

__all__ = ["scheduled_client"]


def scheduled_client(face: Any, scheduler: Any, scheduling: Any, options: Any) -> Any:
    """A client of the library and the side of `face`, a transport's class, made with `options`;
    each transport that it has is wrapped in one `face` with the options `scheduling`.
    """
    names = face._names
    if names is SYNC:
        check_scheduler(scheduler, names, "sync_client", "client(scheduler) in async code")
    else:
        check_scheduler(scheduler, names, "client")
    library = face._library
    most = scheduler._shell.connections
    options.setdefault(
        "limits", library.Limits(max_connections=most, max_keepalive_connections=most)
    )
    client = getattr(library, names.client)(**options)
    wrapped: dict[int, Any] = {}

    def under(transport: Any) -> Any:
        if transport is None:  # a pattern that no proxy is used for
            return None
        if id(transport) not in wrapped:
            wrapped[id(transport)] = face(scheduler, transport, **scheduling)
            wrapped[id(transport)].lookout.may_be_idle = True
        return wrapped[id(transport)]

    client._transport = under(client._transport)
    client._mounts = {pattern: under(each) for pattern, each in client._mounts.items()}
    return client
