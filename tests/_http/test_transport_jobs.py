"""What is sent inside a job or a lease: the first send is paid for, further ones pay themselves."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from inject import settle_down
from sites import URL, Site, idle, in_flight

from headway import Limits, Scheduler

pytestmark = [
    pytest.mark.anyio,
    # trio's, of the generators of httpx itself
    pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning"),
]


class Broken(Exception):
    """What a connection breaks with that no library knows."""


async def test_the_first_send_of_a_job_is_paid_for(site: Site) -> None:
    scheduler = Scheduler("1/s", concurrency=1)
    async with site.client(scheduler) as client:
        with anyio.fail_after(20):
            began = anyio.current_time()
            for _ in range(3):
                await scheduler.submit(client.get, URL)
    assert anyio.current_time() - began == pytest.approx(2, abs=0.1)
    assert scheduler.statistics().sent == 3


@pytest.mark.parametrize("how", ["submit", "lease"])
async def test_later_sends_pay_a_request_and_no_slot(how: str, site: Site) -> None:
    scheduler = Scheduler("1/s", concurrency=1)
    most = 0

    async def three() -> None:
        nonlocal most
        for _ in range(3):
            await client.get(URL)
            most = max(most, in_flight(scheduler))

    async with site.client(scheduler) as client:
        with anyio.fail_after(20):
            if how == "submit":
                await scheduler.submit(three)
            else:
                async with scheduler.lease():
                    await three()
    gaps = [b - a for a, b in zip(site.sent, site.sent[1:], strict=False)]
    assert gaps == pytest.approx([1.03, 1.03], abs=0.03)
    assert scheduler.statistics().sent == 3
    assert most == 1
    assert idle(scheduler)


async def test_later_sends_pass_those_who_wait_for_the_slot(site: Site) -> None:
    scheduler = Scheduler("10/s", concurrency=1, keys={"k": Limits("10/s", concurrency=1)})
    order: list[str] = []

    async def two(name: str) -> None:
        for _ in range(2):
            await client.get(URL)
            order.append(name)

    view = scheduler.with_options(key="k")
    async with site.client(view) as client, anyio.create_task_group() as group:
        with anyio.fail_after(20):
            for name in "abc":
                group.start_soon(view.submit, two, name)
                await settle_down()
    assert order == ["a", "a", "b", "b", "c", "c"]
    assert idle(scheduler)


async def test_a_client_that_is_made_inside_a_job(site: Site) -> None:
    scheduler = Scheduler(concurrency=1)

    async def ask() -> str:
        async with site.client(scheduler) as client:
            text: str = (await client.get(URL)).text
            return text

    with anyio.fail_after(10):
        assert await scheduler.submit(ask) == "ok"
        async with scheduler.lease():
            assert await ask() == "ok"


async def test_a_lease_that_has_ended_counts_for_nothing(site: Site) -> None:
    scheduler = Scheduler(concurrency=1)
    seen: list[int] = []
    ended = anyio.Event()

    async def later() -> None:
        await ended.wait()
        site.answers = [site.body()]
        async with client.stream("POST", URL):
            seen.append(in_flight(scheduler))

    async with site.client(scheduler) as client, anyio.create_task_group() as group:
        async with scheduler.lease():
            group.start_soon(later)  # with the context of the lease
            await client.get(URL)
        ended.set()
        await anyio.sleep(1)
    assert seen == [1]  # it waited for a slot of its own
    assert scheduler.statistics().sent == 2
    assert idle(scheduler)


@pytest.mark.parametrize("how", ["submit", "lease"])
async def test_a_stream_takes_the_slot_over(how: str, site: Site) -> None:
    scheduler = Scheduler(concurrency=1)
    site.answers = [site.body()]

    async def create() -> Any:
        return await client.send(client.build_request("POST", URL), stream=True)

    async with site.client(scheduler) as client:
        if how == "submit":
            response = await scheduler.submit(create)
        else:
            async with scheduler.lease():
                response = await create()
        assert in_flight(scheduler) == 1
        with anyio.move_on_after(30) as waited:
            await client.get(URL)
        assert waited.cancelled_caught
        async for _ in response.aiter_raw():
            assert in_flight(scheduler) == 1
        assert idle(scheduler)
        await response.aclose()
        with anyio.fail_after(1):
            await client.get(URL)
    assert scheduler.statistics().sent == 2
    assert scheduler.statistics().succeeded == 2


async def test_a_stream_that_was_handed_over_and_breaks_off(site: Site) -> None:
    scheduler = Scheduler(concurrency=1)
    site.answers = [site.body(error=Broken("gone"))]

    async def create() -> Any:
        return await client.send(client.build_request("POST", URL), stream=True)

    async with site.client(scheduler) as client:
        response = await scheduler.submit(create)
        with pytest.raises(Broken):
            await response.aread()
    assert scheduler.statistics().failed == 1
    assert idle(scheduler)


async def test_a_refusal_inside_a_job_is_retried_by_the_job(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [(429, {"retry-after": "5"}, b""), 200]
    marks: list[str | None] = []

    async def ask() -> str:
        response = await client.get(URL)
        marks.append(response.headers.get("x-should-retry"))
        response.raise_for_status()
        text: str = response.text
        return text

    async with site.client(scheduler) as client:
        assert await scheduler.submit(ask) == "ok"
    assert site.sent[1] - site.sent[0] >= 5
    assert marks == ["false", None]
    assert scheduler.statistics().sent == 2
