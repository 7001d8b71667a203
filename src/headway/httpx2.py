"""The scheduler under every client that is built on httpx2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from headway.errors import MissingExtra

try:
    import httpx2
except ImportError as error:  # pragma: no cover - needs an environment without the extra
    raise MissingExtra(
        "headway.httpx2 wraps httpx2, which is not installed",
        fix="install it with: pip install 'headway[httpx2]'",
    ) from error

from headway._http.blocking import BlockingStream, BothStream
from headway._http.clients import scheduled_client
from headway._http.faces import AsyncFace, SyncFace
from headway._http.streams import HeldStream, PeekedStream

if TYPE_CHECKING:
    from headway import sync
    from headway.kinds import Kind
    from headway.scheduler import View

__all__ = ["AsyncTransport", "Transport", "client", "sync_client"]


class _Held(HeldStream, httpx2.AsyncByteStream):
    pass


class _Peeked(PeekedStream, httpx2.AsyncByteStream):
    pass


class _HeldByThread(HeldStream, BothStream, httpx2.AsyncByteStream, httpx2.SyncByteStream):
    pass


class _PeekedByThread(PeekedStream, BothStream, httpx2.AsyncByteStream, httpx2.SyncByteStream):
    pass


class _Blocking(BlockingStream, httpx2.AsyncByteStream, httpx2.SyncByteStream):
    pass


class AsyncTransport(AsyncFace, httpx2.AsyncBaseTransport):
    """An httpx2 transport whose requests are sent under a scheduler's limits, and retried by it.

    ``httpx2.AsyncClient(transport=AsyncTransport(scheduler))`` puts a client, and every SDK that
    takes one, under the limits; `transport` is the one to wrap, by default httpx2's own with a pool
    as large as the concurrency. A view (`Scheduler.with_options`) gives requests its options.
    `tokens` is a function of a request's JSON body that says what to reserve. `together_unit` says
    what Together's ``x-ratelimit-limit`` counts by; without it that header is not relied on.
    `is_refused` is asked about each whole success that is JSON or text (an `httpx2.Response` that
    has been read; event streams, sound, images and files are not read for it): true or a `Kind`
    makes it the refusal that it is, status and all. The `attempt_timeout` of a view covers the
    headers, and the body of an answer that is JSON or text; not a stream or a file, which are read
    for as long as they take. A body that comes too late is not asked for again.

    `prepare` is called with each request right before each time that it is sent, once its wait is
    over, and changes it or returns another: a fresh token, a signature, a date. It is a function,
    plain or async, or an ``Auth`` of the same library, whose first step is taken.

    Raises `InvalidArgument` for arguments that cannot be meant.
    """

    _library = httpx2
    _held = _Held
    _peeked = _Peeked
    _other = "headway.httpx"


class Transport(SyncFace, httpx2.BaseTransport):
    """`AsyncTransport` for sync clients, in any number of threads.

    ``httpx2.Client(transport=Transport(scheduler))`` puts a client, and every SDK that takes one,
    under the limits of a `headway.sync.Scheduler`, or of a view of one. The arguments are those of
    `AsyncTransport`; `transport`, `prepare` and an ``Auth`` are sync ones. In a thread
    the `attempt_timeout` of a view bounds each blocking step of the request, and so the whole
    about, for nothing can be cancelled.

    Raises `InvalidArgument` for arguments that cannot be meant.
    """

    _library = httpx2
    _held = _HeldByThread
    _peeked = _PeekedByThread
    _both = _Blocking
    _other = "headway.httpx"


def client(
    scheduler: View | sync.View,
    *,
    tokens: Callable[[Mapping[str, Any]], float] | None = None,
    together_unit: Literal["second", "minute"] | None = None,
    is_refused: Callable[[Any], bool | Kind | None] | None = None,
    prepare: Any = None,
    **options: Any,
) -> httpx2.AsyncClient:
    """An ``httpx2.AsyncClient`` whose requests are all sent under `scheduler` (or a view).

    `options` are the client's own: ``proxy=`` and ``mounts=`` too, and the proxies that the
    environment names, which would bypass a transport that is only handed to the client. Its pool
    is as large as the concurrency, unless ``limits=`` says otherwise. The other arguments are
    those of `AsyncTransport`. Raises `InvalidArgument`, and what httpx2 raises.
    """
    scheduling = {
        "tokens": tokens,
        "together_unit": together_unit,
        "is_refused": is_refused,
        "prepare": prepare,
    }
    made: httpx2.AsyncClient = scheduled_client(AsyncTransport, scheduler, scheduling, options)
    return made


def sync_client(
    scheduler: sync.View,
    *,
    tokens: Callable[[Mapping[str, Any]], float] | None = None,
    together_unit: Literal["second", "minute"] | None = None,
    is_refused: Callable[[Any], bool | Kind | None] | None = None,
    prepare: Any = None,
    **options: Any,
) -> httpx2.Client:
    """An ``httpx2.Client`` whose requests are all sent under `scheduler`, a
    `headway.sync.Scheduler` or a view of one; the arguments are those of `client`. Raises
    `InvalidArgument`, and what httpx2 raises.
    """
    scheduling = {
        "tokens": tokens,
        "together_unit": together_unit,
        "is_refused": is_refused,
        "prepare": prepare,
    }
    made: httpx2.Client = scheduled_client(Transport, scheduler, scheduling, options)
    return made
