"""How a stream of an answer ends, and that its slot comes back each time."""

from __future__ import annotations

import gc
from typing import Any

import anyio
import pytest
from inject import settle_down
from sites import URL, Site, idle, in_flight

from headway import Kind, Scheduler

pytestmark = [
    pytest.mark.anyio,
    # trio's, of the generators of httpx itself
    pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning"),
]


async def read_to_the_end(site: Site, client: Any, scheduler: Scheduler) -> None:
    async with client.stream("POST", URL) as response:
        count = 0
        async for _ in response.aiter_raw():
            count += 1
            assert in_flight(scheduler) == 1
        assert count == 3
        assert in_flight(scheduler) == 0  # at its end, not when it is closed


async def close_early(site: Site, client: Any, scheduler: Scheduler) -> None:
    response = await client.send(client.build_request("POST", URL), stream=True)
    await anyio.sleep(10)
    assert in_flight(scheduler) == 1
    await response.aclose()
    assert in_flight(scheduler) == 0


async def close_half_read(site: Site, client: Any, scheduler: Scheduler) -> None:
    response = await client.send(client.build_request("POST", URL), stream=True)
    chunks = response.aiter_raw()
    await anext(chunks)
    assert in_flight(scheduler) == 1
    await chunks.aclose()
    await response.aclose()


async def read_at_once(site: Site, client: Any, scheduler: Scheduler) -> None:
    response = await client.post(URL)
    assert response.content == b"data: {}\n\n" * 3


async def abandon(site: Site, client: Any, scheduler: Scheduler) -> None:
    response = await client.send(client.build_request("POST", URL), stream=True)
    assert in_flight(scheduler) == 1
    del response
    gc.collect()
    await anyio.lowlevel.checkpoint()
    await settle_down()
    site.open = 0  # nobody can close it


async def abandon_half_read(site: Site, client: Any, scheduler: Scheduler) -> None:
    response = await client.send(client.build_request("POST", URL), stream=True)
    chunks = response.aiter_raw()
    await anext(chunks)
    assert in_flight(scheduler) == 1
    del response, chunks
    for _ in range(3):
        gc.collect()
        await settle_down()
    site.open = 0


async def cancel(site: Site, client: Any, scheduler: Scheduler) -> None:
    with anyio.move_on_after(1.5):
        async with client.stream("POST", URL) as response:
            async for _ in response.aiter_raw():
                pass
    assert scheduler.statistics().cancelled == 1


WAYS = [
    read_to_the_end,
    close_early,
    close_half_read,
    read_at_once,
    abandon,
    abandon_half_read,
    cancel,
]


@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_holds_one_slot_until_it_ends(way: Any, site: Site) -> None:
    scheduler = Scheduler(concurrency=1)
    async with site.client(scheduler) as client:
        for n in range(1, 4):  # one that leaked would hold up the next for ever
            site.answers = [site.body()]
            with anyio.fail_after(60):
                if way is cancel and n > 1:
                    break
                await way(site, client, scheduler)
            assert site.open == 0
            assert idle(scheduler)
            assert scheduler.statistics().sent == n


async def test_an_error_inside_a_stream_is_passed_on_and_counted(site: Site) -> None:
    scheduler = Scheduler(concurrency=1)
    error = site.library.ReadError("gone")
    site.answers = [site.body(error=error)]
    async with site.client(scheduler) as client:
        with pytest.raises(site.library.ReadError) as caught:
            await client.post(URL)
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert len(site.sent) == 1  # it had begun: it cannot be repeated
    stats = scheduler.statistics()
    assert (stats.failed, stats.succeeded, stats.refused) == (1, 0, {Kind.TRANSIENT: 1})
    assert idle(scheduler)


async def test_an_abandoned_stream_of_a_loop_that_is_gone_holds_nothing(site: Site) -> None:
    scheduler = Scheduler(concurrency=1)
    site.answers = [site.body()]
    client = site.client(scheduler)
    response = await client.send(client.build_request("POST", URL), stream=True)

    class Gone:
        def call_soon_threadsafe(self, callback: object) -> None:
            raise RuntimeError("Event loop is closed")

    scheduler._shell._loop = Gone()
    del response
    gc.collect()
    with anyio.fail_after(10):
        assert (await client.post(URL)).status_code == 200
    assert idle(scheduler)


async def test_slots_bound_what_is_open(site: Site) -> None:
    scheduler, most = Scheduler(concurrency=3), 0
    site.answers = [site.body() for _ in range(12)]

    async def one() -> None:
        nonlocal most
        async with client.stream("POST", URL) as response:
            async for _ in response.aiter_raw():
                most = max(most, site.open)

    async with site.client(scheduler) as client, anyio.create_task_group() as group:
        for _ in range(12):
            group.start_soon(one)
    assert most == 3
    assert site.opened == 12
    assert idle(scheduler)
