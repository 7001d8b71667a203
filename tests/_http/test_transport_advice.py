"""What a server says of repeating, what is told to the SDK above, and what the user chooses."""

from __future__ import annotations

from typing import Any

import pytest
from sites import URL, Site, idle

from headway import Kind, Retry, Scheduler

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_says_not_to_is_not_asked_again(status: int, site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [(status, {"x-should-retry": "false"}, b"")] * 2
    async with site.client(scheduler) as client:

        async def ask() -> None:
            (await client.get(URL)).raise_for_status()

        assert (await client.get(URL)).status_code == status
        with pytest.raises(site.library.HTTPStatusError) as caught:
            await scheduler.submit(ask)
    assert len(site.sent) == 2
    (note,) = caught.value.__notes__
    assert note.endswith("not again: the server says not to try again (x-should-retry: false).")
    assert idle(scheduler)


async def test_a_server_that_says_so_is_asked_again(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [(400, {"x-should-retry": "true"}, b""), 200]
    async with site.client(scheduler) as client:
        assert (await client.get(URL)).status_code == 200


async def test_the_advice_of_a_transport_is_for_the_sdk_alone(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1, retry=Retry(base=0.1))
    site.answers = [500, 500]
    async with site.client(scheduler) as client:

        async def ask() -> int:
            response = await client.get(URL)
            response.raise_for_status()
            return int(response.status_code)

        assert await scheduler.submit(ask) == 200
    assert len(site.sent) == 3


async def test_with_attempts_of_one_whoever_is_above_may_repeat(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = Scheduler("100/s", concurrency=1, retry=Retry(attempts=1))
    site.answers = [500, 200]
    async with site.client(scheduler) as client:
        first = await client.get(URL)
        assert "x-should-retry" not in first.headers
        repeat = {"x-stainless-retry-count": "1"}
        assert (await client.get(URL, headers=repeat)).status_code == 200
    assert not [record for record in caplog.records if "repeats" in record.getMessage()]


CHOICES: list[tuple[Any, int]] = [
    ({Kind.RATE}, 1),
    ({504}, 5),
    ({Kind.TRANSIENT}, 5),
    ({"transient"}, 5),
    ([Kind.RATE, 503], 1),
    (lambda failure: failure.status != 504, 1),
    (lambda failure: failure.method == "GET", 1),
    (lambda failure: failure.method == "POST", 5),
    (lambda failure: "no answer" in failure.message, 5),
    (lambda failure: failure.kind is Kind.TRANSIENT, 5),
    (lambda failure: 1 / 0, 5),
]


@pytest.mark.parametrize("how", ["alone", "submit", "elsewhere"])
@pytest.mark.parametrize(("on", "sends"), CHOICES)
async def test_what_is_tried_again_can_be_chosen(
    on: Any, sends: int, how: str, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    retry = Retry(on=on, base=0.1)
    scheduler = Scheduler("100/s", concurrency=1, retry=retry)
    site.answers = [(504, {"content-type": "text/plain"}, b"no answer")] * 9
    bare = site.library.AsyncClient(transport=site.library.MockTransport(site.handle))
    async with bare if how == "elsewhere" else site.client(scheduler) as client:

        async def ask() -> None:
            (await client.post(URL, content=b"{}")).raise_for_status()

        if how == "alone":
            await client.post(URL, content=b"{}")
        else:
            with pytest.raises(site.library.HTTPStatusError) as caught:
                await scheduler.submit(ask)
            if sends == 1:
                assert caught.value.__notes__[0].endswith("Retry(on=) leaves it out.")
    assert len(site.sent) == sends
    told = [record for record in caplog.records if "Retry(on=) raised" in record.getMessage()]
    assert len(told) == (CHOICES[-1][0] is on)
