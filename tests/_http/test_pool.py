"""The connections of headway's own clients: made when the loop is known, and anew on another."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import anyio
import httpx
import pytest
import respx
from httpx_aiohttp import AiohttpTransport

from headway._http import pool as module
from headway._http.pool import Pool
from headway.providers import InvalidSettings


class Inner(httpx.AsyncBaseTransport):
    """A transport that sends nothing."""

    def __init__(self) -> None:
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=request.url.path.encode())

    async def aclose(self) -> None:
        self.closed = True


class Opening(Pool):
    """A pool whose transports can be looked at."""

    def __init__(self) -> None:
        super().__init__(7, "http://server")
        self.opened: list[Inner] = []

    def _open(self) -> httpx.AsyncBaseTransport:
        self.opened.append(Inner())
        return self.opened[-1]


@pytest.mark.anyio
async def test_nothing_is_opened_before_the_first_request_and_one_serves_them_all() -> None:
    pool = Opening()
    await pool.aclose()
    assert pool.opened == []
    for path in (b"/a", b"/b"):
        response = await pool.handle_async_request(httpx.Request("GET", f"http://s{path.decode()}"))
        assert await response.aread() == path
    assert len(pool.opened) == 1
    await pool.aclose()
    assert pool.opened[0].closed


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_another_loop_has_connections_of_its_own(backend: str) -> None:
    pool = Opening()

    async def ask() -> None:
        await pool.handle_async_request(httpx.Request("GET", "http://server"))

    for number in (1, 2):
        anyio.run(ask, backend=backend)
        assert len(pool.opened) == number


@pytest.mark.parametrize(("connections", "limit"), [(7, 7), (None, 0)])
def test_on_asyncio_they_are_aiohttps(connections: int | None, limit: int) -> None:
    pool = Pool(connections, "http://server")

    async def look() -> None:
        inner: Any = pool._open()
        assert isinstance(inner, AiohttpTransport)
        client: Any = inner.client
        assert client.connector.limit == limit
        await inner.aclose()

    asyncio.run(look())


@pytest.mark.parametrize("connections", [7, None])
def test_on_trio_they_are_httpxs(connections: int | None) -> None:
    pool = Pool(connections, "http://server")

    async def look() -> None:
        inner: Any = pool._open()
        assert isinstance(inner, httpx.AsyncHTTPTransport)
        most: Any = inner._pool
        assert most._max_connections == (connections or sys.maxsize)
        await inner.aclose()

    anyio.run(look, backend="trio")


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "https://api.server", None),
        ({"https_proxy": "http://proxy:1"}, "https://api.server", "http://proxy:1"),
        ({"https_proxy": "http://proxy:1"}, "http://api.server", None),
        ({"all_proxy": "HTTPS://proxy:1"}, "http://api.server", "https://proxy:1"),
        ({"http_proxy": "proxy:1"}, "http://api.server", "http://proxy:1"),
        ({"http_proxy": "proxy:1", "no_proxy": "server"}, "http://api.server", None),
        ({"http_proxy": "proxy:1", "no_proxy": "other"}, "http://api.server", "http://proxy:1"),
    ],
)
def test_the_proxy_that_the_environment_names(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert module._proxy_of(url) == proxy


def named(proxy: str, monkeypatch: pytest.MonkeyPatch, *, socksio: bool) -> Pool:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setattr(module, "find_spec", lambda name: object() if socksio else None)
    return Pool(None, "http://api.server")


@pytest.mark.parametrize("kind", ["socks5", "socks5h", "SOCKS5"])
def test_socks_without_its_package_is_refused_by_name(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidSettings) as refused:
        named(f"{kind}://me:pass-word@proxy:1080", monkeypatch, socksio=False)
    assert str(refused.value) == (
        f"the proxy {kind}://***@proxy:1080 of the environment speaks SOCKS, for which socksio is "
        "not installed. Fix: pip install 'httpx[socks]', or unset ALL_PROXY and its like."
    )


@pytest.mark.parametrize("kind", ["socks4", "socks4a", "socks", "ftp"])
def test_a_proxy_of_a_kind_that_nobody_speaks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSettings, match=f"is of the kind {kind}, which is not spoken here"):
        named(f"{kind}://proxy:1080", monkeypatch, socksio=True)


def test_aiohttp_is_given_no_socks_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(httpx, "AsyncHTTPTransport", lambda **options: opened.append(options))

    async def look() -> None:
        named("socks5://proxy:1080", monkeypatch, socksio=True)._open()

    anyio.run(look)
    assert [options["proxy"] for options in opened] == ["socks5://proxy:1080"]


@pytest.mark.anyio
async def test_a_mock_of_what_httpx_sends_by_is_heeded_while_it_lasts() -> None:
    pool = Opening()
    request = httpx.Request("GET", "http://server/a")
    with respx.mock as router:
        router.get("http://server/a").respond(418)
        assert (await pool.handle_async_request(request)).status_code == 418
        assert (await pool.handle_async_request(request)).status_code == 418
    assert pool.opened == []
    assert (await pool.handle_async_request(request)).status_code == 200
    with respx.mock as router:
        router.get("http://server/a").respond(418)
        assert (await pool.handle_async_request(request)).status_code == 418
    await pool.aclose()


@pytest.mark.anyio
async def test_a_mock_of_httpxs_transport_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handle(self: object, request: httpx.Request) -> httpx.Response:
        return httpx.Response(418)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", handle)
    pool = Opening()
    assert (await pool.handle_async_request(httpx.Request("GET", "http://s/"))).status_code == 418
