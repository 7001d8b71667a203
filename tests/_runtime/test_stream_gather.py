"""What `gather` takes: functions, coroutine objects, and what becomes of each."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from inject import Boom, Status
from streamed import double, idle

from headway import Refused, Scheduler, SchedulerClosed

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]


async def test_gather_takes_functions_and_coroutine_objects() -> None:
    scheduler = Scheduler(concurrency=2)
    calls = [double(3), partial(double, 2), double(1), lambda: double(0)]
    assert await scheduler.gather(*calls) == [6, 4, 2, 0]
    stats = scheduler.statistics()
    assert (stats.sent, stats.succeeded, stats.in_flight) == (4, 4, 0)


async def test_gather_retries_functions_alone_and_says_so() -> None:
    scheduler = Scheduler("10/s")
    failures = [Status(429, 0.1)]

    async def once() -> str:
        if failures:
            raise failures.pop()
        return "ok"

    assert await scheduler.gather(once) == ["ok"]
    failures.append(Status(429, 0.1))
    with pytest.raises(Status) as caught:
        await scheduler.gather(once())
    (note,) = caught.value.__notes__
    assert "a coroutine object cannot be run again" in note
    assert "Fix: pass the function (functools.partial(ask, question))" in note
    failures.append(Status(404))
    with pytest.raises(Status) as caught:
        await scheduler.gather(once())
    assert not hasattr(caught.value, "__notes__")
    refused, ok = Status(503), "ok"
    failures.append(refused)
    assert await scheduler.gather(once(), once(), return_exceptions=True) == [refused, ok]


async def test_is_refused_is_asked_about_results_of_coroutine_objects_too() -> None:
    scheduler = Scheduler(is_refused=lambda value: value == "slow down")

    async def call(answer: str) -> str:
        return answer

    with pytest.raises(Refused, match="slow down") as caught:
        await scheduler.gather(call("fine"), call("slow down"))
    assert caught.value.result == "slow down"
    assert "cannot be run again" in caught.value.__notes__[0]
    assert scheduler.statistics().refused == {"rate": 1}


@pytest.mark.parametrize("how", ["fails", "bad argument", "cancelled", "full", "closed"])
@pytest.mark.filterwarnings("error")
async def test_gather_closes_coroutines_that_never_started(how: str) -> None:
    scheduler = Scheduler("1/s", max_queue=1 if how == "full" else None)

    async def fail() -> None:
        raise Boom

    calls: list[Any] = [double(n) for n in range(20)]
    with anyio.move_on_after(1.5 if how == "cancelled" else 1000):
        if how == "fails":
            with pytest.raises(Boom):
                await scheduler.gather(*calls[:2], fail(), *calls[2:])
        elif how == "bad argument":
            with pytest.raises(TypeError, match=r"gather\(\) takes an async function and got int"):
                await scheduler.gather(*calls, 7)  # type: ignore[arg-type]
        elif how == "closed":
            await scheduler.aclose()
            with pytest.raises(SchedulerClosed):
                await scheduler.gather(*calls)
        else:
            await scheduler.gather(*calls)
    assert all(call.cr_frame is None for call in calls)
    del calls
    gc.collect()
    assert idle(scheduler)
