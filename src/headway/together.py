"""A ready `together.AsyncTogether` whose calls a scheduler sends.

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

from headway._http.arguments import check_scheduler
from headway.errors import MissingExtra
from headway.kinds._words import with_fix
from headway.providers import TOGETHER, InvalidSettings, check_key, check_url

try:
    import together

    from headway._http.pool import Pool
    from headway.httpx import AsyncTransport
except ImportError as error:  # pragma: no cover - needs an environment without the extra
    raise MissingExtra(
        "headway.together wraps Together's SDK, which is not installed",
        fix="install it with: pip install 'headway[together]'",
    ) from error

if TYPE_CHECKING:
    from headway.scheduler import View

__all__ = ["KEY_VARIABLE", "URL_VARIABLE", "InvalidSettings", "client"]


KEY_VARIABLE = TOGETHER.key_variable
URL_VARIABLE = TOGETHER.url_variable or ""

_SDK_URL = TOGETHER.base_url.removesuffix("/v1")

logger = logging.getLogger("headway")


def client(
    scheduler: View,
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
    check_scheduler(scheduler)
    given = options.pop("api_key", None)
    key = check_key(os.environ.get(KEY_VARIABLE)) if given is None else _given_key(given)
    given_url = options.pop("base_url", None) or os.environ.get(URL_VARIABLE)
    url = check_url(given_url, URL_VARIABLE) if given_url else None
    if scheduler._shell.state.refusals.retry.attempts > 1:  # else nobody would retry
        options.setdefault("max_retries", 0)
    http = options.get("http_client")
    if http is not None:
        if not isinstance(getattr(http, "_transport", None), AsyncTransport):
            logger.warning(
                with_fix(
                    "the http_client= of headway.together.client has a transport of its own, so "
                    "its calls are not scheduled",
                    "leave http_client= out, or build it with "
                    "transport=headway.httpx.AsyncTransport(scheduler).",
                )
            )
    else:
        transport = AsyncTransport(
            scheduler,
            Pool(scheduler._shell.connections, url or _SDK_URL),
            tokens=tokens,
            together_unit=together_unit,
        )
        options["http_client"] = together.DefaultAsyncHttpxClient(transport=transport)
    return together.AsyncTogether(api_key=key, base_url=url, **options)


def _given_key(key: object) -> str:
    """`key`, the argument: what `check_key` says of it names the argument, not the variable."""
    if not isinstance(key, str):
        raise InvalidSettings(f"api_key= is {type(key).__name__}, not a string", fix="the key")
    if not key.strip():
        raise InvalidSettings(
            "api_key= is empty", fix=f"the key, or leave it out for the one in {KEY_VARIABLE}"
        )
    return check_key(key, "api_key=")
