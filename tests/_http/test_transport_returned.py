"""Refusals that a function returns, handles or meets in a further send: each counts once."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from sites import URL, Site, idle

import headway
from headway import Kind, Retry, Scheduler

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("how", ["submit", "map", "streamed"])
async def test_a_refusal_that_is_returned_is_retried(how: str, site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [(429, {"retry-after": "5"}, b""), 200]
    async with site.client(scheduler) as client:

        async def ask(url: str) -> Any:
            if how == "streamed":
                return await client.send(client.build_request("GET", url), stream=True)
            return await client.get(url)

        if how == "map":
            (response,) = await scheduler.map(ask, [URL])
        else:
            response = await scheduler.submit(ask, URL)
        assert (response.status_code, await response.aread()) == (200, b"ok")
    stats = scheduler.statistics()
    assert (stats.refused, stats.succeeded, stats.retried) == ({Kind.RATE: 1}, 1, 1)
    assert site.sent[1] - site.sent[0] >= 5
    assert idle(scheduler)


async def test_the_last_refusal_that_is_returned_can_be_read(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1, retry=Retry(patience=1))
    site.answers = [(429, {"retry-after": "5"}, b"slow down")]
    usage = scheduler.with_options(usage=lambda response: response.json()["usage"])
    async with site.client(scheduler) as client:
        response = await usage.submit(client.get, URL)
    assert (response.status_code, response.text) == (429, "slow down")
    stats = scheduler.statistics()
    assert (stats.refused, stats.failed, stats.succeeded) == ({Kind.RATE: 1}, 1, 0)
    assert idle(scheduler)


@pytest.mark.parametrize("how", ["submit", "lease"])
async def test_a_wrong_key_that_is_returned_latches(how: str, site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [401] * 9
    async with site.client(scheduler) as client:
        if how == "submit":
            assert (await scheduler.submit(client.get, URL)).status_code == 401
        else:
            async with scheduler.lease():
                await client.get(URL)
        with pytest.raises(headway.Latched):
            await scheduler.submit(client.get, URL)
    assert len(site.sent) == 1
    assert scheduler.statistics().refused == {Kind.AUTH: 1}


@pytest.mark.parametrize("ends", ["returns", "raises", "is cancelled"])
async def test_a_refusal_that_a_function_handles_is_learned(ends: str, site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=2)
    site.answers = [(429, {"retry-after": "30"}, b"")]

    async def ask() -> str:
        assert (await client.get(URL)).status_code == 429
        if ends == "raises":
            raise LookupError("nothing there")
        if ends == "is cancelled":
            await anyio.sleep(60)
        return "nothing"

    async with site.client(scheduler) as client:
        if ends == "raises":
            with pytest.raises(LookupError):
                await scheduler.submit(ask)
        else:
            with anyio.move_on_after(5):
                assert await scheduler.submit(ask) == "nothing"
        assert scheduler.statistics().refused == {Kind.RATE: 1}
        assert scheduler.statistics().binds == "gate"
        await scheduler.submit(client.get, URL)
    assert site.sent[1] - site.sent[0] >= 30
    assert idle(scheduler)


@pytest.mark.parametrize("then", ["ends", "raises it", "raises", "sends", "returns it"])
async def test_a_further_send_that_is_refused_counts_once(then: str, site: Site) -> None:
    scheduler = Scheduler("1000/s", tokens="6000/min", concurrency=1)
    site.answers = [200, (429, {"retry-after": "1"}, b"")]

    async def work() -> Any:
        await client.get(URL)
        response = await client.get(URL)
        if then == "raises it":
            response.raise_for_status()
        if then == "raises":
            raise LookupError("nothing there")
        if then == "sends":
            await client.get(URL)
        return response if then == "returns it" else None

    async with site.client(scheduler.with_options(tokens=50)) as client:
        if then == "raises":
            with pytest.raises(LookupError):
                await scheduler.submit(work)
        else:
            await scheduler.submit(work)
    assert scheduler.statistics().refused == {Kind.RATE: 1}
    assert len(site.sent) == {"raises it": 4, "returns it": 4, "sends": 3}.get(then, 2)
    (budget,) = scheduler._shell.state.whole.budgets
    assert budget.total <= 50 * len(site.sent)
    assert idle(scheduler)


async def test_a_function_that_asks_again_by_itself_waits_and_succeeds(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [(429, {"retry-after": "20"}, b"")]

    async def ask() -> int:
        while (response := await client.get(URL)).status_code == 429:
            pass
        status: int = response.status_code
        return status

    async with site.client(scheduler) as client:
        assert await scheduler.submit(ask) == 200
    stats = scheduler.statistics()
    assert (stats.refused, stats.failed) == ({Kind.RATE: 1}, 0)
    assert site.sent[1] - site.sent[0] >= 20
    assert idle(scheduler)


async def test_a_lease_counts_the_refusal_of_a_further_send(site: Site) -> None:
    scheduler = Scheduler("1000/s", concurrency=1)
    site.answers = [200, 429, 200, 429]
    async with site.client(scheduler) as client, scheduler.lease():
        for _ in range(4):
            await client.get(URL)
    assert scheduler.statistics().refused == {Kind.RATE: 2}
    assert idle(scheduler)
