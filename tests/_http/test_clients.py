"""Clients all of whose requests are scheduled: proxies, mounts, the environment's proxies."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest
from llmock.pytest_plugin import LLMock
from sites import Site

import headway
from headway import InvalidArgument, Scheduler, sync

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("where", ["plain", "mounted", "not proxied"])
async def test_every_transport_of_a_client_is_under_the_limits(where: str, site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=3)
    plain = site.library.MockTransport(site.handle)
    mounts = {
        "plain": {},
        "mounted": {"https://": site.library.MockTransport(site.handle)},
        "not proxied": {"https://other": None},
    }[where]
    client = site.face.client(scheduler, transport=plain, mounts=mounts, headers={"x-a": "b"})
    async with client:
        for url in ("http://server/", "https://server/", "https://other/"):
            assert (await client.get(url)).status_code == 200
    assert scheduler.statistics().sent == len(site.sent) == 3
    assert site.requests[0].headers["x-a"] == "b"


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])  # on real time: a real socket
@pytest.mark.parametrize("how", ["argument", "environment"])
async def test_a_proxy_is_under_the_limits_too(
    how: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {}
    if how == "argument":
        options["proxy"] = "http://127.0.0.1:9"
    else:
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    scheduler = Scheduler("100/s", retry=headway.Retry(attempts=1))
    async with site.face.client(scheduler, **options) as client:
        with pytest.raises(site.library.ConnectError):
            await client.get("http://server/")
    assert scheduler.statistics().sent == 1


async def test_options_reach_the_transport_and_the_pool(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=300)

    def sign(request: Any) -> None:
        request.headers["x-date"] = "1"

    client = site.face.client(scheduler, prepare=sign)
    inner = client._transport._transport
    assert inner._pool._max_connections == 300
    await client.aclose()
    client = site.face.client(scheduler, limits=site.library.Limits(max_connections=7))
    assert client._transport._transport._pool._max_connections == 7
    await client.aclose()
    with pytest.raises(InvalidArgument, match="scheduler=3 is not a Scheduler"):
        site.face.client(3)
    with pytest.raises(InvalidArgument, match="is headway's already"):
        site.face.client(scheduler, transport=site.face.AsyncTransport(scheduler))


async def test_a_transport_that_saw_nothing_is_told(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    past = site.library.MockTransport(site.handle)
    transport = site.face.AsyncTransport(Scheduler("100/s"))
    async with site.library.AsyncClient(transport=transport, mounts={"all://": past}) as client:
        await client.get("http://server/")
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.getMessage() == (
        "a transport of headway's is closed and has not seen one request: a client with proxy= or "
        f"mounts= sends past it. Fix: build the client with {site.face.__name__}.client(scheduler, "
        "proxy=...)"
    )
    caplog.clear()
    async with site.face.client(Scheduler("100/s"), mounts={"all://": past}) as client:
        await client.get("http://server/")
    assert caplog.records == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_transport_serves_two_loops_after_one_another(site: Site, llmock: LLMock) -> None:
    scheduler = Scheduler("100/s", concurrency=2)
    client = site.library.AsyncClient(transport=site.face.AsyncTransport(scheduler))
    url = f"{llmock.url}/v1/models"

    async def ask(*, last: bool) -> int:
        status = int((await client.get(url)).status_code)
        if last:
            await client.aclose()
        return status

    assert asyncio.run(ask(last=False)) in (200, 404)
    assert asyncio.run(ask(last=True)) in (200, 404)
    assert scheduler.statistics().succeeded + scheduler.statistics().failed == 2
    gc.collect()  # nobody could close what the first loop left


def test_what_is_no_scheduler_is_told_by_the_door(site: Site) -> None:
    with pytest.raises(
        InvalidArgument, match=r"Fix: sync_client\(headway\.sync\.Scheduler\(\.\.\.\)\)"
    ):
        site.face.sync_client(Scheduler())
    with pytest.raises(InvalidArgument, match=r"Fix: client\(Scheduler\(\.\.\.\)\), or a view"):
        site.face.client(None)


def test_every_transport_of_a_sync_client_is_under_the_limits(site: Site) -> None:
    def handle(request: Any) -> Any:
        return site.library.Response(200, content=b"ok")

    inner = site.library.MockTransport(handle)
    with sync.Scheduler("1000/s", concurrency=300) as scheduler:
        mounts = {"https://": site.library.MockTransport(handle), "https://other": None}
        with site.face.sync_client(scheduler, transport=inner, mounts=mounts) as client:
            for url in ("http://server/", "https://server/", "https://other/"):
                assert client.get(url).status_code == 200
        assert scheduler.statistics().sent == 3
        with site.face.sync_client(scheduler, proxy="http://127.0.0.1:9") as client:
            assert {type(each) for each in client._mounts.values()} == {site.face.Transport}
