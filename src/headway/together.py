"""A ready `together.AsyncTogether`, or `together.Together`, whose calls a scheduler sends.

One place retries, and that is the scheduler: the SDK's own retries are off, unless the scheduler
has none (``Retry(attempts=1)``). The connection pool is
at least as large as the scheduler's concurrency; the SDK's 100 would queue what the scheduler has
let through, and count the wait as a timeout.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from headway._http.arguments import ASYNC, SYNC, check_scheduler
from headway.errors import MissingExtra
from headway.kinds._words import with_fix
from headway.providers import TOGETHER, InvalidSettings, check_key, check_url

try:
    import together

    from headway._http.pool import Pool, sync_pool
    from headway.httpx import AsyncTransport, Transport
except ImportError as error:  # pragma: no cover - needs an environment without the extra
    raise MissingExtra(
        "headway.together wraps Together's SDK, which is not installed",
        fix="install it with: pip install 'headway[together]'",
    ) from error

if TYPE_CHECKING:
    from headway import sync
    from headway.scheduler import View

__all__ = ["KEY_VARIABLE", "URL_VARIABLE", "InvalidSettings", "client", "sync_client"]


KEY_VARIABLE = TOGETHER.key_variable
URL_VARIABLE = TOGETHER.url_variable or ""

_SDK_URL = TOGETHER.base_url.removesuffix("/v1")

logger = logging.getLogger("headway")


def client(
    scheduler: View | sync.View,
    *,
    tokens: Callable[[Mapping[str, Any]], float] | None = None,
    together_unit: Literal["second", "minute"] | None = None,
    **options: Any,
) -> together.AsyncTogether:
    """An `AsyncTogether` whose calls are sent under `scheduler` (or a view), and retried by it.

    A call waits for its permit wherever it is made; inside ``scheduler.submit`` or a lease it is
    what that paid for. `tokens` and `together_unit` are those of `headway.httpx.AsyncTransport`,
    `options` the SDK's own (``api_key``, ``base_url``, ``timeout`` in seconds, …); without them the
    key is read from ``TOGETHER_API_KEY`` and the address from ``TOGETHER_BASE_URL``. Connections
    are aiohttp's where ``httpx-aiohttp`` is installed and the loop is asyncio's. A client given as
    ``http_client`` is used as it is: give it headway's transport, or nothing is scheduled.
    Close it with ``async with`` or ``await client.close()``. It works on asyncio and on trio.

    Raises `InvalidSettings` when there is no key, or one that no header can carry, or an address
    that is not an http one or ends in ``/v1``; `MissingExtra` (at import) without the SDK.
    """
    check_scheduler(scheduler, ASYNC, "client")
    _settle_options(scheduler, AsyncTransport, options)
    if "http_client" not in options:
        pool = Pool(scheduler._shell.connections, options["base_url"] or _SDK_URL)
        transport = AsyncTransport(scheduler, pool, tokens=tokens, together_unit=together_unit)
        transport.lookout.may_be_idle = True  # nothing bypasses it: this client has no mounts
        options["http_client"] = together.DefaultAsyncHttpxClient(transport=transport)
    return together.AsyncTogether(**options)


def sync_client(
    scheduler: sync.View,
    *,
    tokens: Callable[[Mapping[str, Any]], float] | None = None,
    together_unit: Literal["second", "minute"] | None = None,
    **options: Any,
) -> together.Together:
    """A `Together`, the sync client, whose calls are sent under `scheduler`, a
    `headway.sync.Scheduler` or a view of one, from any number of threads.

    The arguments are those of `client`, and so is what it raises; a client given as ``http_client``
    needs a `headway.httpx.Transport`. Close it with ``with`` or ``client.close()``.
    """
    check_scheduler(scheduler, SYNC, "sync_client", "client(scheduler) in async code")
    _settle_options(scheduler, Transport, options)
    if "http_client" not in options:
        pool = sync_pool(scheduler._shell.connections, options["base_url"] or _SDK_URL)
        transport = Transport(scheduler, pool, tokens=tokens, together_unit=together_unit)
        transport.lookout.may_be_idle = True
        options["http_client"] = together.DefaultHttpxClient(transport=transport)
    return together.Together(**options)


def _settle_options(scheduler: View | sync.View, face: type, options: dict[str, Any]) -> None:
    """Settle the key, the address and who retries in `options`, the SDK's; tell `scheduler` whose
    limits they are, and warn of an ``http_client`` whose transport is no `face`. Raises
    `InvalidSettings`.
    """
    given = options.get("api_key")
    options["api_key"] = (
        check_key(os.environ.get(KEY_VARIABLE)) if given is None else _given_key(given)
    )
    url = options.get("base_url") or os.environ.get(URL_VARIABLE)
    options["base_url"] = check_url(url, URL_VARIABLE) if url else None
    if scheduler._shell.state.refusals.retry.attempts > 1:  # else nobody would retry
        options.setdefault("max_retries", 0)
    # At an address of a gateway's, too, which a transport does not know.
    scheduler._shell.introduce(TOGETHER, scheduler._options.key)
    http = options.get("http_client")
    if http is None:
        options.pop("http_client", None)
    elif not isinstance(getattr(http, "_transport", None), face):
        logger.warning(
            with_fix(
                "the http_client= of headway.together.%s has a transport of its own, so its calls "
                "are not scheduled",
                "leave http_client= out, or build it with transport=headway.httpx.%s(scheduler).",
            ),
            "client" if face is AsyncTransport else "sync_client",
            face.__name__,
        )


def _given_key(key: object) -> str:
    """`key`, the argument: what `check_key` says of it names the argument, not the variable."""
    if not isinstance(key, str):
        raise InvalidSettings(f"api_key= is {type(key).__name__}, not a string", fix="the key")
    if not key.strip():
        raise InvalidSettings(
            "api_key= is empty", fix=f"the key, or leave it out for the one in {KEY_VARIABLE}"
        )
    return check_key(key, "api_key=")
