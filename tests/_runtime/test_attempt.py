"""Everything that an attempt can end with: alone, in `submit`, in a lease, as a further send; a
whole answer or a stream. Each leaves nothing behind, and a second end is nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from clocks import VirtualLoop
from inject import BACKENDS, run, settle_down
from sites import URL, Site, idle, in_flight

from headway import Kind, Limits, Retry, Scheduler
from headway._runtime.attempt import ATTEMPT, Attempt

pytestmark = pytest.mark.anyio

ONCE = Retry(attempts=1)


class Quit(BaseException):
    """What is no `Exception`, such as `KeyboardInterrupt`."""


# How a request is made


async def alone(site: Site, scheduler: Scheduler, send: Callable[[Any], Awaitable[None]]) -> None:
    async with site.client(scheduler) as client:
        await send(client)


async def in_submit(
    site: Site, scheduler: Scheduler, send: Callable[[Any], Awaitable[None]]
) -> None:
    async with site.client(scheduler) as client:
        await scheduler.submit(send, client)


async def in_lease(
    site: Site, scheduler: Scheduler, send: Callable[[Any], Awaitable[None]]
) -> None:
    async with site.client(scheduler) as client, scheduler.lease():
        await send(client)


async def further(site: Site, scheduler: Scheduler, send: Callable[[Any], Awaitable[None]]) -> None:
    site.answers.insert(0, 200)
    async with site.client(scheduler) as client, scheduler.lease():
        await client.post(URL)
        await send(client)


HOW = [alone, in_submit, in_lease, further]


async def whole(client: Any) -> None:
    (await client.post(URL)).raise_for_status()


async def streamed(client: Any) -> None:
    async with client.stream("POST", URL) as response:
        response.raise_for_status()
        async for _ in response.aiter_raw():
            pass


# What the server makes of it, and what must be counted: (succeeded, failed, cancelled), refused


def answered(site: Site) -> list[Any]:
    return [site.body()]


def refused(site: Site) -> list[Any]:
    return [(429, {"retry-after": "1"}, b"{}")]


def failed(site: Site) -> list[Any]:
    return [site.library.ConnectError("no")]


def broken(site: Site) -> list[Any]:
    return [site.body(error=site.library.ReadError("gone"))]


def refused_inside(site: Site) -> list[Any]:
    error = b'event: error\ndata: {"error": {"type": "overloaded_error", "code": 503}}\n\n'

    async def answer() -> Any:
        _, _, body = await site.body(1, data=error)()
        return 200, {"content-type": "text/event-stream"}, body

    return [answer]


ENDS = {
    answered: ((1, 0, 0), {}),
    refused: ((0, 1, 0), {Kind.RATE: 1}),
    failed: ((0, 1, 0), {Kind.TRANSIENT: 1}),
    broken: ((0, 1, 0), {Kind.TRANSIENT: 1}),
    refused_inside: ((0, 1, 0), {Kind.CAPACITY: 1}),
}


@pytest.mark.parametrize("send", [whole, streamed], ids=lambda send: send.__name__)
@pytest.mark.parametrize("how", HOW, ids=lambda how: how.__name__)
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_every_end(end: Any, how: Any, send: Any, site: Site) -> None:
    scheduler = Scheduler("1000/s", concurrency=1, retry=ONCE)
    site.answers = end(site)
    with anyio.fail_after(60):
        try:
            await how(site, scheduler, send)
        except site.library.HTTPError:
            assert end is not answered
    assert idle(scheduler)
    assert site.open == 0
    assert ATTEMPT.get() is None
    stats = scheduler.statistics()
    (succeeded, fails, cancels), kinds = ENDS[end]
    if how is further:  # the lease, beside the further send: which one of the two has failed
        assert stats.sent == 2
        assert stats.succeeded + stats.failed + stats.cancelled == 2
        assert stats.failed == fails
    else:
        assert (stats.sent, stats.succeeded, stats.failed, stats.cancelled) == (
            1, succeeded, fails, cancels,
        )  # fmt: skip
    assert stats.refused == kinds
    with anyio.fail_after(60):  # nothing is held that the next one needs
        await scheduler.submit(anyio.sleep, 0)


@pytest.mark.parametrize("when", ["headers", "body"])
@pytest.mark.parametrize("how", HOW, ids=lambda how: how.__name__)
async def test_cancelled(how: Any, when: str, site: Site) -> None:
    scheduler = Scheduler("1000/s", concurrency=1)

    async def slow() -> int:
        await anyio.sleep(100)
        return 200

    site.answers = [slow if when == "headers" else site.body(every=100)]
    with anyio.move_on_after(10) as limit:
        await how(site, scheduler, whole)
    assert limit.cancelled_caught
    assert idle(scheduler)
    stats = scheduler.statistics()
    assert stats.cancelled == stats.sent == (2 if how is further else 1)
    assert (stats.succeeded, stats.failed) == (0, 0)


@pytest.mark.parametrize("how", HOW, ids=lambda how: how.__name__)
async def test_dropped_as_garbage(how: Any, site: Site) -> None:
    scheduler = Scheduler("1000/s", concurrency=1)

    async def drop(client: Any) -> None:
        await client.send(client.build_request("POST", URL), stream=True)

    site.answers = [site.body()]
    await how(site, scheduler, drop)
    gc.collect()
    await settle_down()
    assert idle(scheduler)
    stats = scheduler.statistics()
    assert stats.succeeded == stats.sent == (2 if how is further else 1)


async def test_never_sent(site: Site) -> None:
    class Shared:
        max_rate, time_period = 1000.0, 1.0

        async def acquire(self, amount: float = 1) -> None:
            await anyio.sleep(100)

    for how in (alone, in_submit, in_lease):
        scheduler = Scheduler(["1000/s", Shared()], concurrency=1)  # type: ignore[list-item]
        with anyio.move_on_after(10):
            await how(site, scheduler, whole)
        assert idle(scheduler)
        assert (scheduler.statistics().sent, scheduler.statistics().cancelled) == (0, 1)
    assert not site.sent


# Twice

VERBS: dict[str, Callable[[Attempt], object]] = {
    "succeeded": lambda attempt: attempt.succeeded(5),
    "failed": lambda attempt: attempt.failed(ValueError("no")),
    "cancelled": lambda attempt: attempt.cancelled(),
    "never_sent": lambda attempt: attempt.never_sent(),
}


@pytest.mark.parametrize("second", VERBS)
@pytest.mark.parametrize("first", VERBS)
@pytest.mark.parametrize("once", ["", "it cannot be repeated"])
async def test_a_second_end_is_nothing(first: str, second: str, once: str) -> None:
    scheduler = Scheduler("1000/s", tokens="1M/min", concurrency=2)
    shell = scheduler._shell
    job = shell.new_job(scheduler._options, 10)
    assert shell.enter(job)
    attempt = Attempt(shell, job, once)
    VERBS[first](attempt)
    before = scheduler.statistics()
    charged = shell.state.whole.budgets[0].total
    VERBS[second](attempt)
    assert attempt.ended
    assert not attempt.live
    after = scheduler.statistics()
    assert (after.sent, after.succeeded, after.failed, after.cancelled, after.in_flight) == (
        before.sent, before.succeeded, before.failed, before.cancelled, 0,
    )  # fmt: skip
    assert shell.state.whole.budgets[0].total == charged


async def test_one_that_is_queued_again_is_not_ended_by_its_last_attempt() -> None:
    scheduler = Scheduler("1000/s", concurrency=1)
    shell = scheduler._shell
    job = shell.new_job(scheduler._options, None)
    assert shell.enter(job)
    first = Attempt(shell, job)
    assert first.failed(TimeoutError()) is None
    for verb in VERBS.values():
        verb(first)
    assert scheduler.statistics().queued == 1
    await shell.wait(job)
    for verb in VERBS.values():
        verb(first)
    assert in_flight(scheduler) == 1
    Attempt(shell, job).succeeded(None)
    assert idle(scheduler)


# A transport serves the scheduler that it is given, and no other pays


async def test_a_scheduler_without_a_transport_makes_no_attempts_visible(site: Site) -> None:
    site.client(Scheduler())
    seen: list[Attempt | None] = []

    async def look() -> None:
        seen.append(ATTEMPT.get())

    await Scheduler().submit(look)
    assert seen == [None]


@pytest.mark.parametrize("how", ["submit", "map", "gather", "lease", "retry"])
async def test_a_transport_made_in_a_job_sends_beside_its_slot(how: str, site: Site) -> None:
    """The job began before any transport did: what it sends pays for itself, and needs no slot."""
    scheduler = Scheduler("1000/s", concurrency=1)
    site.answers = [200, (429, {}, b"")] if how == "retry" else []

    async def job(n: int = 0) -> Any:
        async with site.client(scheduler) as client:
            response = await client.post(URL)
            assert in_flight(scheduler) == 1
            return await client.post(URL) if how == "retry" else response

    with anyio.fail_after(60):
        if how == "map":
            await scheduler.map(job, range(2))
        elif how == "gather":
            await scheduler.gather(job())
        elif how == "lease":
            async with scheduler.lease():
                await job()
        else:
            await scheduler.submit(job)
    assert idle(scheduler)
    assert scheduler.statistics().sent == {"map": 3, "retry": 4}.get(how, 2)


@pytest.mark.parametrize("ends", ["returns", "raises", "cancelled"])
async def test_the_first_transport_comes_while_jobs_wait_and_work(ends: str, site: Site) -> None:
    """Nobody waits for a slot that its own attempt holds, and once those have ended all do."""
    scheduler = Scheduler(concurrency=2, retry=ONCE)
    made = anyio.Event()
    clients: list[Any] = []

    async def job() -> None:
        await made.wait()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(clients[0].post, URL)
        if ends == "raises":
            raise ValueError("odd")
        if ends == "cancelled":
            scope.cancel()
            await anyio.sleep(1)

    async def submitted() -> None:
        with contextlib.suppress(ValueError):
            await scheduler.submit(job)

    async def leased() -> None:
        with contextlib.suppress(ValueError):
            async with scheduler.lease():
                await job()

    with anyio.fail_after(60):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                for begin in (submitted, leased, submitted):
                    group.start_soon(begin)
                    await settle_down()
                assert in_flight(scheduler) == 2
                clients.append(site.client(scheduler))
                assert scheduler._shell.unseen == 2
                made.set()
        assert scheduler._shell.unseen == 0
        assert idle(scheduler)

        async def hold() -> None:
            async with scheduler.lease():
                await anyio.sleep(9)

        async with anyio.create_task_group() as group:
            group.start_soon(hold)
            group.start_soon(hold)
            await settle_down()
            with anyio.move_on_after(5) as waiting:
                await clients[0].post(URL)
            assert waiting.cancelled_caught


# Loops, threads, and callbacks that raise what is no Exception


@pytest.mark.parametrize("how", ["aclose", "drop"])
def test_a_response_of_an_earlier_loop_takes_nothing_from_the_new_one(how: str) -> None:
    import httpx

    import headway.httpx

    site = Site(httpx, headway.httpx)
    scheduler = Scheduler(concurrency=2)
    responses: list[Any] = []

    async def begin() -> None:
        client = site.client(scheduler)
        for _ in range(2):
            request = client.build_request("POST", URL)
            responses.append(await client.send(request, stream=True))

    async def later() -> None:
        async with scheduler.lease():
            while responses:
                response = responses.pop()
                if how == "aclose":
                    await response.aclose()
                del response
                gc.collect()
                await settle_down()
            assert in_flight(scheduler) == 1
        assert in_flight(scheduler) == 0
        with anyio.fail_after(10):
            await scheduler.aclose()

    for main, count in ((begin, 2), (later, 0)):
        site.answers = [site.body() for _ in range(count)]
        loop = VirtualLoop()
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    asyncio.set_event_loop(None)
    assert idle(scheduler)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("callback", ["on_event", "is_refused", "usage", "tokens", "on"])
def test_what_a_callback_raises_leaks_no_slot(callback: str, backend: str) -> None:
    async def main(at: int) -> bool:
        count = 0

        def bomb(value: Any = None) -> Any:
            nonlocal count
            count += 1
            if count == at:
                raise Quit
            return {"tokens": 1, "usage": 1, "on": True}.get(callback)

        given = {callback: bomb} if callback in ("on_event", "is_refused") else {}
        retry = Retry(base=0.1, on=bomb if callback == "on" else None)
        scheduler = Scheduler("100/s", concurrency=1, retry=retry, **given)  # type: ignore[arg-type]
        of_calls: Any = {callback: bomb} if callback in ("usage", "tokens") else {}
        view = scheduler.with_options(**of_calls)
        failures = [TimeoutError(), ValueError()]

        async def flaky(n: int) -> int:
            await anyio.sleep(0.1)
            if failures:
                raise failures.pop()
            return n

        async def one(n: int) -> None:
            try:
                await view.submit(flaky, n)
            except (Quit, ValueError):
                pass

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for n in range(4):
                    group.start_soon(one, n)
        try:
            async with view.lease():
                raise ValueError
        except (Quit, ValueError):
            pass
        try:
            await view.gather(flaky(0))
        except (Quit, BaseExceptionGroup):
            pass
        hit = count >= at
        at = 0
        with anyio.fail_after(60):
            try:
                await view.submit(flaky, 0)
            except Quit:  # a sink's, which the next who polls gets
                await view.submit(flaky, 0)
            await scheduler.aclose()
        assert idle(scheduler)
        return hit

    at = 1
    while run(backend, main, at):
        at += 1
    assert at > (1 if callback == "on" else 4)  # it is asked about one failure


def test_statistics_change_nothing() -> None:
    """From a second thread, too: jobs were lost for good that it had taken off the queue's top."""

    async def main() -> None:
        slow = Limits("1/s", tokens="6k/min")
        scheduler = Scheduler("100/s", tokens="60k/min", concurrency=2, keys={"slow": slow})
        state, done = scheduler._shell.state, 0
        stop = threading.Event()

        def watch() -> None:
            while not stop.is_set():
                scheduler.statistics()

        async def job() -> None:
            nonlocal done
            await anyio.sleep(0.01)
            done += 1

        threads = [threading.Thread(target=watch) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            with anyio.fail_after(1000):
                async with anyio.create_task_group() as group:
                    for n in range(200):
                        view = scheduler.with_options(
                            key=("slow", "a", "b")[n % 3], tokens=20, priority=n % 2
                        )
                        group.start_soon(view.submit, job)
                    await settle_down()
                    before = (dict(state.flows), [*state.counters._snapshots], state.waiting.size)
                    picture = scheduler.statistics()
                    assert scheduler.statistics() == picture
                    assert before == (
                        dict(state.flows), [*state.counters._snapshots], state.waiting.size,
                    )  # fmt: skip
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert done == 200
        assert idle(scheduler)

    run("asyncio", main)


def test_statistics_leave_the_queue_as_it_is() -> None:
    async def main() -> None:
        scheduler = Scheduler("1/min", tokens="6k/min")
        shell = scheduler._shell
        jobs = [shell.new_job(scheduler._options, 10) for _ in range(4)]
        for job in jobs:
            shell.enter(job)
        shell.state.cancel(jobs[1], shell.clock())  # the oldest of those that wait
        (line,) = shell.state.waiting.queue._levels[0].key_queues.values()
        slots, snapshots = (
            [*shell.state.whole.budgets[0]._slots],
            [*shell.state.counters._snapshots],
        )
        await anyio.sleep(400)  # all that was charged has left its window, and a snapshot is due
        assert scheduler.statistics().queued == 2
        assert (line.dead, [*line.jobs]) == (1, jobs[1:])
        assert [*shell.state.whole.budgets[0]._slots] == slots
        assert [*shell.state.counters._snapshots] == snapshots
        for job in jobs:
            shell.state.cancel(job, shell.clock())

    run("asyncio", main)
