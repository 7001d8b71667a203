"""A ready `together.AsyncTogether` for use under a scheduler.

One place retries, and that is the scheduler: the SDK's own retries are off. Its connection pool is
at least as large as the scheduler's concurrency; the SDK's 100 would queue what the scheduler has
let through, and count the wait as a timeout.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headway.errors import HeadwayError, MissingExtra

try:
    import httpx
    import together
except ImportError as error:  # pragma: no cover - needs an environment without the extra
    raise MissingExtra(
        "headway.together wraps Together's SDK, which is not installed. "
        "Install it with: pip install 'headway[together]'"
    ) from error

if TYPE_CHECKING:
    from headway.scheduler import Scheduler

__all__ = ["KEY_VARIABLE", "URL_VARIABLE", "InvalidSettings", "client"]

KEY_VARIABLE = "TOGETHER_API_KEY"
URL_VARIABLE = "TOGETHER_BASE_URL"

# The SDK's own defaults: below them nothing is gained.
_MIN_CONNECTIONS = 100
_KEEP_ALIVE = 20


class InvalidSettings(HeadwayError, ValueError):
    """A key or an address that cannot be used; the message names the variable to set."""


def client(scheduler: Scheduler, **options: Any) -> together.AsyncTogether:
    """An `AsyncTogether` whose retries are off and whose pool fits `scheduler`.

    `options` are the SDK's own (``api_key``, ``base_url``, ``timeout`` in seconds, …); without
    them the key is read from ``TOGETHER_API_KEY`` and the address from ``TOGETHER_BASE_URL``.
    Close it with ``async with`` or ``await client.close()``. It works on asyncio and on trio.

    Raises `InvalidSettings` when there is no key, or one that no header can carry, or an address
    that is not an http one or ends in ``/v1``; `MissingExtra` (at import) without the SDK.
    """
    key = options.pop("api_key", None) or os.environ.get(KEY_VARIABLE)
    url = options.pop("base_url", None) or os.environ.get(URL_VARIABLE) or None
    options.setdefault("max_retries", 0)
    if "http_client" not in options:
        options["http_client"] = together.DefaultAsyncHttpxClient(limits=_pool(scheduler))
    return together.AsyncTogether(api_key=check_key(key), base_url=check_url(url), **options)


def _pool(scheduler: Scheduler) -> httpx.Limits:
    concurrency = scheduler.limits.concurrency
    if concurrency is None:
        return httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.Limits(
        max_connections=max(concurrency, _MIN_CONNECTIONS),
        max_keepalive_connections=max(concurrency, _KEEP_ALIVE),
    )


def check_key(key: str | None) -> str:
    """`key`, or `InvalidSettings` when there is none or no request could carry it."""
    if not key or not key.strip():
        raise InvalidSettings(
            f"no API key. Set it first: export {KEY_VARIABLE}=… "
            "(https://api.together.ai/settings/api-keys)"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidSettings(
            f"the API key in {KEY_VARIABLE} holds a space, a line break or another character that "
            "a key cannot have. Copy it again, without what stands around it"
        )
    return key


def check_url(url: str | httpx.URL | None) -> str | None:
    """`url`, or `InvalidSettings` when the SDK could not use it; None is the SDK's default."""
    if url is None:
        return None
    text = str(url)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidSettings(
            f"{URL_VARIABLE}={text!r} is not a web address. "
            "Use one like https://api.together.ai, or unset it"
        )
    if parts.path.rstrip("/").endswith("/v1"):
        fixed = text.rstrip("/").removesuffix("/v1")
        raise InvalidSettings(
            f"{URL_VARIABLE}={text!r} ends in /v1, which the SDK adds by itself. Use {fixed}"
        )
    return text
