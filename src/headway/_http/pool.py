"""The connections of the clients that headway makes itself.

aiohttp's transport where it is installed and the event loop is asyncio's: a request costs it less
than half of what httpx's own costs. httpx's everywhere else.
"""

from __future__ import annotations

import socket
import sys
from asyncio import get_running_loop
from contextlib import suppress
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from anyio.lowlevel import current_token

from headway.kinds._words import redacted
from headway.providers import InvalidSettings

__all__ = ["Pool", "sync_pool"]

# A model may think for minutes, while whatever stands between forgets a silent connection.
_KEEP_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]


def _is_mocked() -> bool:
    """Whether a mock (respx, pytest-httpx, VCR.py) stands in for what sends for httpx.

    What nobody has imported nobody has mocked: the import of httpcore, and of trio by it, takes
    as long as that of httpx, and aiohttp's transport needs none of it.
    """
    httpcore = sys.modules.get("httpcore")
    return not _is_its_own(httpx.AsyncHTTPTransport) or (
        httpcore is not None and not _is_its_own(httpcore.AsyncConnectionPool)
    )


def _is_its_own(sends: Any) -> bool:
    """Whether the class `sends` by the method that was written in it."""
    code = getattr(sends.handle_async_request, "__code__", None)
    return getattr(code, "co_qualname", "") == f"{sends.__name__}.handle_async_request"


class Pool(httpx.AsyncBaseTransport):
    """A transport with at most `connections` (None: no limit), made when the loop is known, and
    anew on another: a client at module level works under `asyncio.run` twice. While somebody stands
    in for what sends for httpx, a mock of a test's, requests go there.

    It goes through the proxy that the environment names for `url`: httpx's clients ask for that
    only where they are given no transport.
    """

    def __init__(self, connections: int | None, url: str) -> None:
        self._connections = connections
        self.proxy = _proxy_of(url)
        self._inner: httpx.AsyncBaseTransport | None = None
        self._loop: object = None
        self._mocked: httpx.AsyncBaseTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`. Raises what the transport inside raises."""
        if _is_mocked():
            if self._mocked is None:
                self._mocked = self._plain()
            return await self._mocked.handle_async_request(request)
        return await self.ready().handle_async_request(request)

    def ready(self) -> httpx.AsyncBaseTransport:
        """What sends in this event loop, made where there is none: that takes 0.1 to 0.3 s."""
        loop = current_token()
        if self._inner is None or loop != self._loop:
            _let_go(self._inner)
            self._inner, self._loop = self._open(), loop
        return self._inner

    async def aclose(self) -> None:
        """Close the connections."""
        for inner in (self._inner, self._mocked):
            if inner is not None:
                await inner.aclose()

    def __del__(self) -> None:
        _let_go(getattr(self, "_inner", None))

    def _open(self) -> httpx.AsyncBaseTransport:
        most = self._connections
        try:
            get_running_loop()
            if self.proxy is not None and self.proxy.startswith("socks"):
                raise ImportError  # aiohttp would speak HTTP to it
            return _aiohttp(most, self.proxy)
        except (RuntimeError, ImportError):  # trio's loop; not installed
            return self._plain()

    def _plain(self) -> httpx.AsyncHTTPTransport:
        most = self._connections
        limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
        return httpx.AsyncHTTPTransport(limits=limits, proxy=self.proxy, socket_options=_KEEP_ALIVE)


def sync_pool(connections: int | None, url: str) -> httpx.BaseTransport:
    """The same for threads: httpx's own transport, through the same proxy."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.HTTPTransport(limits=limits, proxy=_proxy_of(url), socket_options=_KEEP_ALIVE)


def _aiohttp(connections: int | None, proxy: str | None) -> httpx.AsyncBaseTransport:
    from aiohttp import ClientSession, DummyCookieJar, TCPConnector
    from httpx_aiohttp import AiohttpTransport

    context = httpx.create_ssl_context()
    # 0 is no limit; None would be aiohttp's own 100.
    connector = TCPConnector(limit=connections or 0, ssl=context, keepalive_timeout=30)
    session = ClientSession(connector=connector, cookie_jar=DummyCookieJar())
    return AiohttpTransport(client=session, proxy=None if proxy is None else httpx.Proxy(proxy))


def _let_go(transport: Any) -> None:
    """Close the connections of aiohttp at once, where nobody can await that any more: it would
    complain on standard error, in the name of a class that its user has never heard of.
    """
    session: Any = getattr(transport, "client", None)
    connector: Any = getattr(session, "connector", None)
    if connector is not None:
        session.detach()
        with suppress(Exception):  # their event loop may be closed
            connector._close(abort_ssl=True)


def _proxy_of(url: str) -> str | None:
    """The proxy for `url` that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name.

    Raises `InvalidSettings` for one of a kind that cannot be spoken to.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    scheme, _, rest = proxy.partition("://")
    scheme = scheme.lower()
    if scheme not in ("http", "https", "socks5", "socks5h"):
        raise InvalidSettings(
            f"the proxy {redacted(proxy)} of the environment is of the kind {scheme}, which is not "
            "spoken here",
            fix="name one of the kinds http, https, socks5 or socks5h in ALL_PROXY and its like, "
            "or except this server by NO_PROXY.",
        )
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise InvalidSettings(
            f"the proxy {redacted(proxy)} of the environment speaks SOCKS, for which socksio is "
            "not installed",
            fix="pip install 'httpx[socks]', or unset ALL_PROXY and its like.",
        )
    return f"{scheme}://{rest}"
