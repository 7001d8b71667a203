"""The types of the public face, an executable spec for mypy --strict and pyright."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, assert_type

from headway import (
    Advance,
    Cost,
    Kind,
    Lease,
    Limits,
    Outcome,
    Rate,
    Recent,
    Retry,
    Scheduler,
    Statistics,
    View,
    Wait,
    sync,
)
from headway.events import Event
from headway.kinds import Binds


async def ask(question: str, *, model: str = "a") -> int:
    return len(question)


async def several(a: int, b: str) -> tuple[int, str]:
    return a, b


async def questions() -> AsyncIterator[str]:
    yield "why?"


class Client:
    async def ask(self, question: str) -> bytes:
        return question.encode()


def on_event(event: Event) -> None:
    assert_type(event.at, float)


def own_limits(key: str) -> Limits | None:
    return Limits("10/s") if key else None


def is_refused(value: object) -> bool | Kind | None:
    return Kind.CAPACITY if value == "busy" else None


async def constructors() -> None:
    assert_type(Scheduler("600/min"), Scheduler)
    Scheduler(["10/s", Rate(14_400, per=86_400)], tokens="180k/min", concurrency=32)
    Scheduler(Rate(600, per=60, window=1, burst=2, jitter=0.05), retry=Retry(attempts=3))
    Scheduler(keys={"a": Limits("10/s")}, weights={"a": 8}, max_queue=10, on_event=on_event)
    Scheduler(keys=own_limits, is_refused=is_refused)
    assert_type(Rate.parse("10/s"), Rate)
    assert_type(Scheduler().limits, Limits)
    Scheduler(concurrency="3")  # type: ignore[arg-type]
    Scheduler(600)  # type: ignore[arg-type]


async def calls(scheduler: Scheduler) -> None:
    assert_type(await scheduler.submit(ask, "why?"), int)
    assert_type(await scheduler.submit(ask, "why?", model="b"), int)
    assert_type(await scheduler.submit(several, 1, b="x"), tuple[int, str])
    assert_type(await scheduler.submit(Client().ask, "why?"), bytes)
    await scheduler.submit(ask, 5)  # type: ignore[arg-type]
    await scheduler.submit(ask, "why?", other=1)  # type: ignore[call-arg]
    await scheduler.submit(ask)  # type: ignore[call-arg]
    await scheduler.submit(ask("why?"))  # type: ignore[arg-type]
    await scheduler.submit(len, "why?")  # type: ignore[arg-type]


async def maps(scheduler: Scheduler) -> None:
    assert_type(await scheduler.map(ask, ["a", "b"]), list[int])
    assert_type(await scheduler.map(ask, questions()), list[int])
    assert_type(await scheduler.map(ask, ["a"], return_exceptions=True), list[int | Exception])
    async with scheduler.map(ask, ["a"]) as results:
        assert_type(results, AsyncIterator[int])
        async for result in results:
            assert_type(result, int)
    async with scheduler.map(ask, questions(), return_exceptions=True) as all_of_them:
        async for one in all_of_them:
            assert_type(one, int | Exception)
    assert_type(asyncio.run(scheduler.map(ask, ["a"])), list[int])
    task = asyncio.create_task(scheduler.map(ask, ["a"], progress=show))
    assert_type(await task, list[int])
    assert_type(scheduler.map(ask, ["a"], progress=True).results_so_far, dict[int, int])
    scheduler.map(ask, ["a"], progress=ask)  # type: ignore[arg-type]
    scheduler.map(ask, [1, 2])  # type: ignore[arg-type]
    scheduler.map(ask, 5)  # type: ignore[call-overload]


def show(advance: Advance) -> None:
    assert_type(advance.done, int)
    assert_type(advance.total, int | None)
    assert_type(advance.failed, int)


async def batched(scheduler: Scheduler) -> None:
    assert_type(scheduler.batches(["a"], 5, tokens=10), Iterator[list[str]])
    assert_type(scheduler.batches(questions(), 5, estimate=len), AsyncIterator[list[str]])
    assert_type(await scheduler.map(embed, scheduler.batches(["a"], 5)), list[list[float]])
    assert_type(await scheduler.map(embed, scheduler.batches(questions(), 5)), list[list[float]])
    scheduler.batches(["a"], "5")  # type: ignore[call-overload]


async def embed(texts: list[str]) -> list[float]:
    return [0.0] * len(texts)


async def limited(scheduler: Scheduler) -> None:
    fn = scheduler.with_options(key="a").limit(ask)
    assert_type(await fn("why?", model="b"), int)
    assert_type(await Limited().ask("why?"), bytes)
    await fn(5)  # type: ignore[arg-type]
    await fn()  # type: ignore[call-arg]
    scheduler.limit(len)  # type: ignore[arg-type]


class Limited:
    @Scheduler().limit
    async def ask(self, question: str) -> bytes:
        return question.encode()


async def outcomes(scheduler: Scheduler) -> None:
    async with scheduler.as_completed(ask, ["a"]) as stream:
        assert_type(stream, AsyncIterator[Outcome[str, int]])
        async for outcome in stream:
            assert_type(outcome.item, str)
            assert_type(outcome.result, int)
            assert_type(outcome.error, Exception | None)
            assert_type(outcome.attempts, int)
            assert_type(outcome.waited, float)


async def gathers(scheduler: Scheduler) -> None:
    assert_type(await scheduler.gather(ask("a"), lambda: ask("b")), list[Any])
    call: Coroutine[Any, Any, int] = ask("c")
    assert_type(await scheduler.gather(call, return_exceptions=True), list[Any])


async def leases(scheduler: Scheduler) -> None:
    async with scheduler.lease(tokens=1_200) as lease:
        assert_type(lease, Lease)
        assert_type(lease.settle(tokens=900), None)
        assert_type(lease.tokens, float)
        assert_type(lease.waited, float)
    async with scheduler.with_options(key="a").lease() as other:
        assert_type(other, Lease)
    scheduler.lease(tokens="many")  # type: ignore[arg-type]
    assert_type(scheduler.try_lease(tokens=5), Lease | None)
    if held := scheduler.with_options(key="a").try_lease():
        async with held as entered:
            assert_type(entered, Lease)


async def views(scheduler: Scheduler) -> None:
    view = scheduler.with_options(
        priority=10,
        key=("a", 1),
        timeout=30,
        attempt_timeout=None,
        tokens=lambda question: len(question),
        usage=lambda reply: reply.usage.total_tokens,
    )
    assert_type(view, View)
    assert_type(view.with_options(tokens=900, usage=None, timeout=None), View)
    assert_type(await view.submit(ask, "why?"), int)
    assert_type(await view.map(ask, ["why?"]), list[int])
    view.with_options(priority="high")  # type: ignore[arg-type]
    view.with_options(timeout="30")  # type: ignore[arg-type]
    view.with_options(color="red")  # type: ignore[call-arg]


async def control(scheduler: Scheduler) -> None:
    async with scheduler as same:
        assert_type(same, Scheduler)
    assert_type(scheduler.set_limits("10/s", tokens=None, concurrency=5), None)
    assert_type(scheduler.pause(), None)
    assert_type(scheduler.resume(), None)
    assert_type(scheduler.reset(), None)
    assert_type(scheduler.clear(), int)
    assert_type(scheduler.clear(key=None), int)
    assert_type(await scheduler.idle(), None)
    assert_type(scheduler.record(tokens=5), None)
    wait = scheduler.with_options(priority=1).would_wait(tokens=5, key="a")
    assert_type(wait, Wait)
    assert_type(wait.seconds, float)
    assert_type(wait.binds, Binds)
    assert_type(scheduler.with_options(key="a").record(tokens=Cost(input=5), requests=0), None)
    assert_type(await scheduler.aclose(), None)
    statistics = scheduler.statistics()
    assert_type(statistics, Statistics)
    assert_type(statistics.queued, int)
    assert_type(statistics.refused, dict[Kind, int])
    assert_type(statistics.recent, Recent)
    assert_type(statistics.recent.share(Kind.RATE), float)
    assert_type(statistics.binds, Binds)
    statistics.queued = 5  # type: ignore[misc]


def count(question: str) -> int:
    return len(question)


def threads(scheduler: sync.Scheduler) -> None:
    with scheduler as same:
        assert_type(same, sync.Scheduler)
    assert_type(scheduler.submit(count, "why?"), int)
    scheduler.submit(count, 3)  # type: ignore[arg-type]
    assert_type(list(scheduler.map(count, ["why?"])), list[int])
    for outcome in scheduler.as_completed(count, ["why?"]):
        assert_type(outcome, Outcome[str, int])
    with scheduler.with_options(key="a").lease() as lease:
        assert_type(lease, sync.Lease)
    assert_type(scheduler.aio, View)
