"""Every async client of httpx and httpx2 sends through headway's transport, without being told.

The transport is put between a client and its own one where the client looks that up: what a test
reads of a client (its pool, its mounts) is what it would be. In each test a client has its own
scheduler, without limits that bind, and `Retry(attempts=1)`: the SDK above retries.
"""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest
from counted import UNDER_HEADWAY, _reached, reached

import headway.httpx
import headway.httpx2
from headway import Retry, Scheduler

__all__ = ["_fresh", "_reached"]

# By the id of the transport below, which each keeps alive.
_faces: dict[int, Any] = {}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """No test waits for what a server said in another one, to a client that all of them share."""
    _faces.clear()


def put_under(library: Any, face: Any) -> None:
    """Have the clients of `library` send through `face`, its transport of headway's."""
    look_up = library.AsyncClient._transport_for_url

    def transport_for_url(client: Any, url: Any) -> Any:
        reached()
        inner = look_up(client, url)
        if not UNDER_HEADWAY:
            return inner
        if id(inner) not in _faces:
            scheduler = Scheduler("1000000/s", concurrency=1000, retry=Retry(attempts=1))
            _faces[id(inner)] = face(scheduler, inner)
        return _faces[id(inner)]

    library.AsyncClient._transport_for_url = transport_for_url


put_under(httpx, headway.httpx.AsyncTransport)
if httpx is not httpx2:  # a suite may have made one name stand for the other
    put_under(httpx2, headway.httpx2.AsyncTransport)
