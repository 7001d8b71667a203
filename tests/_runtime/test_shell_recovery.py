"""After refusals for a while, whatever they were for: how soon the rate is what it was."""

from __future__ import annotations

import anyio
import httpx
import pytest

from headway import Scheduler

pytestmark = pytest.mark.anyio


class TooMany(Exception):
    status_code = 429
    response = httpx.Response(429, headers={"retry-after": "0.2"})


@pytest.mark.parametrize("before", [0, 3, 20], ids=lambda count: f"after {count}")
@pytest.mark.parametrize("refusals", [2, 3, 4, 6], ids=lambda count: f"{count} refused")
async def test_a_stated_rate_is_back_within_a_minute(before: int, refusals: int) -> None:
    scheduler = Scheduler("10/s", concurrency=20)
    sent: list[float] = []

    async def call(_: int) -> None:
        sent.append(anyio.current_time())
        if before < len(sent) <= before + refusals:
            raise TooMany
        await anyio.sleep(0.05)

    began = anyio.current_time()
    with anyio.move_on_after(60):
        await scheduler.map(call, range(700))
    assert sum(began + 50 <= at < began + 60 for at in sent) > 90
    assert scheduler.statistics().sent == len(sent)
