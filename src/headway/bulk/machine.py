"""What this machine has for a run: descriptors for its connections, and whatever would otherwise
be imported or opened at the worst moment.
"""

from __future__ import annotations

import codecs
import os
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import anyio

from headway.errors import HeadwayError
from headway.kinds._words import agreed, counted
from headway.prices import Prices

resource: Any
try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None

__all__ = ["TooFewDescriptors", "connections_for", "prepare", "starved"]

# Descriptors beside those of the connections in use: connections on their way out, or to a second
# address, lookups of names, a summary.
_SPARE = 16

_UNKNOWN = 32  # open already, where no system tells

# What answers are decoded with; others than these are rare, and there are spare descriptors.
_CODECS = ("ascii", "cp1252", "idna", "latin-1", "utf-8", "utf-16", "utf-32")


class TooFewDescriptors(HeadwayError):
    """This process may not open the files and connections of a single request: nothing was sent."""


def connections_for(wanted: int) -> int:
    """How many connections this process may have open, `wanted` at most.

    The soft limit of descriptors is raised as far as that takes it, and the hard limit allows.
    Raises `TooFewDescriptors` where there is not even one.
    """
    if resource is None:
        return wanted
    used = _open_now()
    needed = used + wanted + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(OSError, ValueError):  # macOS has a limit below the one that it states
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    if soft <= used + _SPARE:
        raise TooFewDescriptors(
            f"this process may open {counted(soft, 'file')}, {used:,} of them "
            f"{agreed(used, 'are')} open, and a run needs {_SPARE + 1} more",
            fix=f"raise the limit: ulimit -n {used + wanted + _SPARE}",
        )
    return int(soft) - used - _SPARE


def _open_now() -> int:
    """How many descriptors this process has."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return len(os.listdir(folder)) - 1  # without the one that lists them
    return _UNKNOWN


def starved() -> OSError | None:
    """Why no file can be opened now, or None where one can be: a name that was not found for want
    of a descriptor looks as one that is not there.
    """
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error
    return None


async def prepare(prices: Prices, provider: str, url: str) -> None:
    """Import what a run may need, and look the address up once, which loads the resolver and
    starts the thread that it works in. What fails here is for the first request to meet.
    """
    for name in _CODECS:
        codecs.lookup(name)
    await anyio.to_thread.run_sync(prices.cost, provider, "gpt-4o", 1, 1)
    parts = urlsplit(url)
    with suppress(Exception):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        await anyio.getaddrinfo(parts.hostname or "", port, type=socket.SOCK_STREAM)
