"""Whole schedulers that share limits through a store with faults, on one virtual clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import anyio
import pytest
from crowd import Crowd, Hub, Worker, check, most_in_flight, rate_of
from depth import depth

from headway import Rate

pytestmark = pytest.mark.usefixtures("drawn_names", "few_wait")

Run = Callable[[Callable[[], Awaitable[None]]], None]


# Faults


def test_faults_exceed_nothing_and_lose_nothing(both: Run) -> None:
    async def main() -> None:
        hub = Hub(3, lost=0.02, repeated=0.05, slow=0.1)
        crowd = Crowd(8, hub, requests="100/s", tokens="30000/s", concurrency=16)

        async def trouble() -> None:
            for worker in crowd.workers[:4]:
                await anyio.sleep(0.7)
                worker.stall(hub.random.uniform(0.1, 0.5))
            crowd.workers[6].die()
            await anyio.sleep(1.1)
            crowd.workers[7].die()

        async with anyio.create_task_group() as group:
            group.start_soon(trouble)
            await crowd.backlogged(6, tokens=(50, 600), used=0.7, cancels=0.1)
        check(crowd)
        assert rate_of(crowd, anyio.current_time() - 5, anyio.current_time() - 1) > 25

    both(main)


@pytest.mark.parametrize("fault", ["emptied", "rolled back", "restarted"])
def test_a_store_that_forgets(run: Run, fault: str) -> None:
    async def main() -> None:
        hub = Hub(4)
        crowd = Crowd(8, hub, requests="50/s", tokens="20000/s", concurrency=12)

        async def trouble() -> None:
            await anyio.sleep(2)
            before = dict(hub.kept)
            await anyio.sleep(1)
            if fault == "restarted":
                hub.offset -= 1e6
            else:
                hub.kept.clear()
                hub.kept.update(before if fault == "rolled back" else {})

        async with anyio.create_task_group() as group:
            group.start_soon(trouble)
            await crowd.backlogged(8, job=(0.2, 0.5), tokens=(50, 400), used=0.8)
        check(crowd)
        assert rate_of(crowd, anyio.current_time() - 3, anyio.current_time() - 1) > 24

    run(main)


@pytest.mark.parametrize("emptied", [False, True], ids=["kept", "emptied"])
def test_a_store_that_is_away(run: Run, emptied: bool) -> None:
    async def main() -> None:
        hub = Hub(5)
        crowd = Crowd(8, hub, requests="100/s", tokens="90000/s", concurrency=40)
        back = 0.0

        async def trouble() -> None:
            nonlocal back
            await anyio.sleep(3)
            hub.away = True
            await anyio.sleep(5)
            if emptied:
                hub.kept.clear()
            hub.away = False
            back = anyio.current_time()

        async with anyio.create_task_group() as group:
            group.start_soon(trouble)
            await crowd.backlogged(12.5, tokens=(50, 400))
        check(crowd)
        assert rate_of(crowd, back - 4, back) > 30  # half of an equal part each
        assert rate_of(crowd, back + 2, back + 4) > 90
        told = [event.what for event in crowd.workers[0].events if hasattr(event, "what")]
        assert told == ["lost", *["emptied"] * emptied, "back"]

    run(main)


@pytest.mark.parametrize(("away", "least", "most"), [("closed", 0, 0), ("open", 18, 21)])
def test_what_happens_while_it_is_away_is_a_choice(
    run: Run, away: str, least: float, most: float
) -> None:
    async def main() -> None:
        hub = Hub(5)
        worker = Worker(hub, "a", requests="20/s", away=away)
        crowd = Crowd(0, hub)
        crowd.workers = [worker]

        async def trouble() -> None:
            await anyio.sleep(2)
            hub.away = True

        async with anyio.create_task_group() as group:
            group.start_soon(trouble)
            with anyio.move_on_after(7):
                await worker.backlog(6)
        end = anyio.current_time()
        assert least <= rate_of(crowd, end - 4, end - 1.5) <= most

    run(main)


def test_lost_calls_cost_their_repeats(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd(8, Hub(1, lost=0.02), requests="100/s", concurrency=100)
        began = anyio.current_time()
        await crowd.backlogged(9)
        check(crowd)
        assert rate_of(crowd, began + 1, began + 9) > 92  # 95 with none lost

    run(main)


def test_one_that_is_cut_off_uses_no_slot_that_others_have_got(both: Run) -> None:
    async def main() -> None:
        crowd = Crowd(4, concurrency=8)
        cut = anyio.current_time() + 3

        async def trouble() -> None:
            line = crowd.workers[0].line
            await anyio.sleep(3)
            line.cut = True
            await anyio.sleep(10)
            line.cut = False

        async with anyio.create_task_group() as group:
            group.start_soon(trouble)
            await crowd.backlogged(16)
        check(crowd)
        others = [span for worker in crowd.workers[1:] for span in worker.spans]
        assert most_in_flight([each for each in others if each[0] < cut + 6]) == 8
        own = [at for at, _ in crowd.workers[0].starts]
        assert sum(cut + 1 < at < cut + 3 for at in own) > 10  # it goes on for as long as it may
        assert not any(cut + 5 < at < cut + 10 for at in own)
        assert sum(cut + 11 < at < cut + 13 for at in own) > 10

    both(main)


def test_slots_that_nobody_lacked_are_no_reason_to_stop(run: Run) -> None:
    async def main() -> None:
        hub = Hub(5)
        crowd = Crowd(4, hub, requests="20/s", concurrency=100)
        end = anyio.current_time() + 14

        async def trouble() -> None:
            await anyio.sleep(2)
            hub.away = True

        async with anyio.create_task_group() as group:
            group.start_soon(trouble)
            await crowd.backlogged(14)
        check(crowd)
        assert rate_of(crowd, end - 6, end) > 8  # half of an equal part each

    run(main)


def test_no_request_is_larger_than_the_part_of_one_that_goes_on_alone(run: Run) -> None:
    async def main() -> None:
        hub = Hub(5)
        crowd = Crowd(6, hub, tokens="10k/10s")

        async def trouble() -> None:
            await anyio.sleep(2)
            hub.away = True
            await anyio.sleep(5)
            hub.away = False

        async with anyio.create_task_group() as group:
            group.start_soon(trouble)
            await crowd.backlogged(20, tokens=(2900, 3000))
        check(crowd)
        assert len(crowd.starts()) >= 4

    run(main)


def test_what_is_in_flight_over_an_outage_keeps_its_slots(run: Run) -> None:
    async def main() -> None:
        hub = Hub(5)
        crowd = Crowd(3, hub, concurrency=6)

        async def trouble() -> None:
            await anyio.sleep(2)
            hub.away = True
            await anyio.sleep(7)
            hub.away = False

        async with anyio.create_task_group() as group:
            group.start_soon(trouble)
            await crowd.backlogged(25, job=(6, 9))
        assert crowd.in_flight() == 6
        assert len(crowd.starts()) > 14

    run(main)


def test_what_was_said_while_it_was_away_is_said_again(run: Run) -> None:
    async def main() -> None:
        hub = Hub(5)
        crowd = Crowd(2, hub, requests="10/s")

        async def trouble() -> None:
            await anyio.sleep(2)
            hub.away = True
            crowd.workers[0].scheduler.set_limits("50/s")
            await anyio.sleep(11)
            hub.away = False

        async with anyio.create_task_group() as group:
            group.start_soon(trouble)
            await crowd.backlogged(16)
        assert crowd.workers[1].scheduler.limits.requests == (Rate(50, per=1),)

    run(main)


def test_a_crashed_worker_s_slots_return(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd(4, concurrency=8)
        died = 0.0

        async def trouble() -> None:
            nonlocal died
            await anyio.sleep(3)
            for worker in crowd.workers[:3]:
                worker.die()
            died = anyio.current_time()

        async with anyio.create_task_group() as group:
            group.start_soon(trouble)
            await crowd.backlogged(10)
        check(crowd)
        spans = crowd.workers[3].spans
        assert most_in_flight([each for each in spans if each[0] < died + 4]) == 2
        assert most_in_flight([each for each in spans if each[0] < died + 6]) == 8

    run(main)


def test_one_that_was_frozen_for_long_is_a_new_one(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd(2, requests="20/s", concurrency=4)

        async def trouble() -> None:
            await anyio.sleep(1)
            crowd.workers[0].stall(8)

        async with anyio.create_task_group() as group:
            group.start_soon(trouble)
            await crowd.backlogged(14)
        check(crowd)
        end = anyio.current_time()
        assert 25 < sum(end - 4 < at for at, _ in crowd.workers[0].starts) < 50

    run(main)


# Fairness, priority and cost


def counts(crowd: Crowd, begin: float, end: float) -> list[int]:
    return [sum(begin <= at < end for at, _ in worker.starts) for worker in crowd.workers]


@pytest.mark.parametrize(
    ("limits", "options", "least"),
    [
        ({"requests": "100/s", "concurrency": 100}, {}, 94),  # more than are ever in flight
        ({"concurrency": 16}, {"job": (0.2, 0.2)}, 76),
        ({"requests": "6000/min", "tokens": "6M/min", "concurrency": 64}, {"tokens": (50, 99)}, 94),
    ],
    ids=["requests", "concurrency", "all"],
)
def test_workers_are_served_alike(
    run: Run, limits: dict[str, Any], options: dict[str, Any], least: float
) -> None:
    async def main() -> None:
        crowd = Crowd(8, **limits)
        began = anyio.current_time()
        seconds = depth(7, 12)
        await crowd.backlogged(seconds, **options)
        check(crowd)
        got = counts(crowd, began + 2, began + seconds)
        mean = sum(got) / 8
        assert mean * 8 / (seconds - 2) > least
        assert max(abs(each - mean) for each in got) <= 0.05 * mean
        assert max(crowd.calls_a_second(seconds).values()) <= 10.3  # some may run ahead

    run(main)


def test_tokens_are_shared_alike_and_used(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd(8, Hub(3), tokens="100k/10s", concurrency=100)  # more than are ever in flight
        began = anyio.current_time()
        await crowd.backlogged(27, tokens=(100, 600), used=0.5, job=(0.5, 0.5))
        check(crowd)
        used = [
            sum(tokens for at, tokens in worker.starts if began + 12 <= at < began + 27)
            for worker in crowd.workers
        ]
        mean = sum(used) / 8
        assert mean * 8 > 0.9 * 150_000  # what is in flight is reserved twice
        assert max(abs(each - mean) for each in used) <= 0.05 * mean
        assert max(crowd.calls_a_second(27).values()) <= 10

    run(main)


def test_who_has_no_slot_keeps_no_tokens_from_others(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd(6, tokens="10k/s", concurrency=2)
        began = anyio.current_time()
        await crowd.backlogged(6, tokens=(500, 900))
        check(crowd)
        assert rate_of(crowd, began + 1, began + 6) > 7.4  # of 10: two slots, 0.2 s a job

    run(main)


def test_what_was_sent_elsewhere_takes_the_starts_that_are_held(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd(2, requests="100/s")
        first, other = crowd.workers
        began = anyio.current_time()
        sent: list[float] = []
        took = 0

        async def elsewhere() -> None:
            nonlocal took
            while anyio.current_time() < began + 7:
                await anyio.sleep(0.3)
                granted = first.port._granted
                held, owed = granted.outstanding(), granted.owed
                first.scheduler.record(requests=5, tokens=0)
                took += min(held, 5)
                assert granted.outstanding() == max(0, held - 5)
                assert granted.owed == max(0, owed + 5 - held)
                sent.extend([anyio.current_time()] * 5)

        async with anyio.create_task_group() as group:
            group.start_soon(elsewhere)
            await crowd.backlogged(8)
        every = [*(at for at, _ in crowd.starts()), *sent]
        assert took > 60
        assert 93 < sum(began + 1 <= at < began + 8 for at in every) / 7 < 97  # as with none
        own = len(first.starts) + len(sent)
        assert abs(own - len(other.starts)) < 0.05 * own  # who sent them pays for them

    run(main)


def test_what_would_wait_for_a_slot_is_foreseen(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd(2, requests="10/s", concurrency=1)
        one, other = (worker.scheduler for worker in crowd.workers)
        await one.submit(anyio.sleep, 0.1)
        await anyio.sleep(1)  # it has given back its slot
        assert one.would_wait() == 0
        async with other.lease(), anyio.create_task_group() as group:
            group.start_soon(one.submit, anyio.sleep, 0)
            await anyio.sleep(0.1)
            wait = one.would_wait()
            assert wait.binds == "concurrency"
            assert 0 < wait < 60
            group.cancel_scope.cancel()

    run(main)


def test_few_slots_go_round(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd(16, concurrency=4)
        began = anyio.current_time()
        seconds = 61
        await crowd.backlogged(seconds, job=(0.4, 0.6))
        check(crowd)
        busy = [
            sum(end - max(start, began + 1) for start, end in worker.spans if end > began + 1)
            for worker in crowd.workers
        ]
        mean = sum(busy) / 16
        assert mean * 16 > 0.92 * 4 * (seconds - 1)
        assert max(abs(each - mean) for each in busy) <= 0.25 * mean

    run(main)


def test_weights_are_kept(run: Run) -> None:
    async def main() -> None:
        for limits in ({"requests": "100/s"}, {"concurrency": 12}):
            hub = Hub()
            crowd = Crowd(0, hub, **limits)
            crowd.workers = [Worker(hub, "a", weight=2.0, **limits), Worker(hub, "b", **limits)]
            await crowd.backlogged(8)
            first, second = (len(worker.starts) for worker in crowd.workers)
            assert 1.85 < first / second < 2.15

    run(main)


def test_the_share_of_an_idle_one_is_taken(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd(4, requests="100/s", concurrency=40)
        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for worker, seconds in zip(crowd.workers, (3, 3, 3, 8), strict=True):
                group.start_soon(worker.backlog, seconds)
        check(crowd)
        alone = sum(began + 4 < at <= began + 7 for at, _ in crowd.workers[3].starts)
        assert alone / 3 > 90

    run(main)


def test_the_urgent_goes_first_wherever_it_waits(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd(4, requests="60/min")
        waited = []

        async def urgent() -> None:
            view = crowd.workers[0].scheduler.with_options(priority=10)
            for _ in range(8):
                await anyio.sleep(5)
                asked = anyio.current_time()
                await view.submit(anyio.sleep, 0)
                waited.append(anyio.current_time() - asked)
            for worker in crowd.workers:
                assert worker.scope is not None
                worker.scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(urgent)
            group.start_soon(lambda: crowd.backlogged(100, job=(0.01, 0.01)))
        assert median(waited) < 1.2
        assert max(waited) < 2.5

    run(main)


def test_calls_are_few(run: Run) -> None:
    async def main() -> None:
        slow = Crowd(4, requests="10/min")
        await slow.backlogged(60)
        assert len(slow.hub.calls) / 4 / 60 <= 1.05
        both = Crowd(4, requests="10/min", concurrency=100)
        await both.backlogged(60)
        assert len(both.hub.calls) / 4 / 60 <= 1.25  # some after each start, for its slot
        alone = Crowd(1, concurrency=64)
        await alone.backlogged(5)
        assert len(alone.hub.calls) <= 0.1 * len(alone.starts())
        hub = Hub()
        worker = Worker(hub, "a", requests="1000/s", concurrency=64)
        await worker.scheduler.submit(anyio.sleep, 0)
        idle = len(hub.calls)
        await anyio.sleep(100)
        assert len(hub.calls) - idle <= 4  # it gives back what it holds, and is silent

    run(main)
