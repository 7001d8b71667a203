"""What workers share beside the limits: gates, what is learned, other limits, and who they are."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from crowd import Crowd, Hub, Worker, check, most_in_flight, rate_of

from headway import InvalidLimit, Limits, Rate, Unavailable
from headway.shared.sharing import _name_of
from headway.testing.arrivals import worst_window

pytestmark = pytest.mark.usefixtures("drawn_names", "few_wait")

Run = Callable[[Callable[[], Awaitable[None]]], None]


# What is learned


def refusing(worker: Worker, until: float) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        worker.starts.append((anyio.current_time(), 0.0))
        if anyio.current_time() < until:
            raise Refused

    return call


class Refused(Exception):
    """A 429 that says how long to wait."""

    status_code = 429
    headers = {"retry-after": "3"}


def test_a_gate_holds_for_all(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd(4, requests="40/s")
        at = anyio.current_time() + 2

        async def refuse() -> None:
            await anyio.sleep(2)
            view = crowd.workers[0].scheduler.with_options(priority=1)
            await view.submit(refusing(crowd.workers[0], at + 0.5))

        async with anyio.create_task_group() as group:
            group.start_soon(refuse)
            group.start_soon(lambda: crowd.backlogged(7, job=(0.01, 0.01)))
        assert rate_of(crowd, at + 0.3, at + 2.9) * 2.6 <= 1
        assert rate_of(crowd, at + 4, at + 6) > 5

    run(main)


def test_learned_factors_are_shared_and_outlive_the_chief(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd(4, requests="40/s")
        at = anyio.current_time()

        async def refuse() -> None:
            for _ in range(3):
                await anyio.sleep(1.5)
                until = anyio.current_time() + 0.1
                worker = crowd.workers[0]

                async def call(until: float = until) -> None:
                    if anyio.current_time() < until:
                        raise Short

                await worker.scheduler.with_options(priority=1).submit(call)
            await anyio.sleep(1)
            factors = [numbers(each) for each in crowd.workers]
            assert max(factors) < 1
            assert max(factors) == pytest.approx(min(factors), rel=0.05)
            assert crowd.hub.state()["chief"] == crowd.workers[0].port.conversation.id
            crowd.workers[0].die()

        async with anyio.create_task_group() as group:
            group.start_soon(refuse)
            group.start_soon(lambda: crowd.backlogged(16, job=(0.01, 0.01)))
        others = [each.port.conversation.id for each in crowd.workers[1:]]
        assert crowd.hub.state()["chief"] in others
        assert rate_of(crowd, at + 14, at + 16) > 10

    run(main)


class Short(Exception):
    """A 429 for a moment."""

    status_code = 429
    headers = {"retry-after": "0.2"}


def numbers(worker: Worker) -> float:
    return worker.scheduler._shell.state.whole.request_rate.factor


# Limits that are stated


def test_new_limits_reach_all(both: Run) -> None:
    async def main() -> None:
        crowd = Crowd(4, requests="10/s", concurrency=4)
        at = anyio.current_time()

        async def change() -> None:
            await anyio.sleep(3)
            crowd.workers[1].scheduler.set_limits("100/s", concurrency=40)

        async with anyio.create_task_group() as group:
            group.start_soon(change)
            await crowd.backlogged(8)
        assert rate_of(crowd, at + 1, at + 3) < 11
        assert rate_of(crowd, at + 5, at + 7) > 90
        for worker in crowd.workers:
            assert worker.scheduler.limits.requests == (Rate(100, per=1),)
            assert worker.scheduler.limits.concurrency == 40

    both(main)


def test_limits_that_contradict(run: Run) -> None:
    async def main() -> None:
        hub = Hub()
        first, other = Worker(hub, requests="10/s"), Worker(hub, requests="20/s", concurrency=3)
        await first.scheduler.submit(anyio.sleep, 0)
        with pytest.raises(InvalidLimit) as raised:
            await other.scheduler.submit(anyio.sleep, 0)
        assert str(raised.value) == (
            "the limits shared at a store of the tests are stated already, and differ: 10/s there, "
            "20/s, 3 at once here. Fix: state the same, or none (to take those that are "
            "there); set_limits() changes them for all workers, and `headway limits NAME --reset` "
            "forgets them."
        )
        with pytest.raises(InvalidLimit):
            await other.scheduler.submit(anyio.sleep, 0)
        # The way out that the error names.
        other.scheduler.set_limits("20/s", concurrency=3)
        await other.scheduler.submit(anyio.sleep, 0)
        await anyio.sleep(2)
        await first.scheduler.submit(anyio.sleep, 0)
        assert first.scheduler.limits.requests == (Rate(20, per=1),)

    run(main)


def test_limits_are_set_by_one_that_has_no_jobs(both: Run) -> None:
    async def main() -> None:
        hub = Hub()
        first, other, last = (Worker(hub, requests=each) for each in ("10/s", "10/s", None))
        await first.scheduler.submit(anyio.sleep, 0)
        await anyio.sleep(10)
        other.scheduler.set_limits("20/s")
        await other.scheduler.aclose()
        other.line.cut = True  # it has closed the store
        await anyio.sleep(2)
        await first.scheduler.submit(anyio.sleep, 0)
        assert first.scheduler.limits.requests == (Rate(20, per=1),)
        await anyio.sleep(10)
        first.scheduler.set_limits("30/s")
        await anyio.sleep(1)
        await last.scheduler.submit(anyio.sleep, 0)
        assert last.scheduler.limits.requests == (Rate(30, per=1),)
        Worker(hub, requests="30/s").scheduler.set_limits("40/s")
        await anyio.sleep(2)
        await last.scheduler.submit(anyio.sleep, 0)
        assert last.scheduler.limits.requests == (Rate(40, per=1),)

    both(main)


def test_one_that_states_none_joins(both: Run) -> None:
    async def main() -> None:
        hub = Hub()
        early = Worker(hub)
        with pytest.raises(InvalidLimit, match="nobody has stated limits"):
            await early.scheduler.submit(anyio.sleep, 0)
        first, other = Worker(hub, requests="10/s", tokens="1M/min", concurrency=2), Worker(hub)
        await first.scheduler.submit(anyio.sleep, 0)
        began = anyio.current_time()
        await other.backlog(3, job=(0.05, 0.1))
        assert 15 < len(other.starts) <= 30
        assert most_in_flight(other.spans) <= 2
        assert anyio.current_time() - began < 4
        assert other.scheduler.limits == first.scheduler.limits

    both(main)


def test_keys_share_limits_of_their_own_alone(both: Run) -> None:
    async def main() -> None:
        hub, sent = Hub(), list[float]()

        async def call() -> None:
            sent.append(anyio.current_time())

        workers = [Worker(hub, name, keys={"a": Limits("10/s")}) for name in "12"]
        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for worker in workers:
                await worker.scheduler.submit(anyio.sleep, 0)  # of no key: nothing limits it
                for _ in range(15):
                    group.start_soon(worker.scheduler.with_options(key="a").submit, call)
        assert 2.9 < sent[-1] - began < 4.5
        assert min(b - a for a, b in zip(sent, sent[10:], strict=False)) > 1
        workers[0].scheduler.set_limits("5/s")
        workers[0].scheduler.set_limits(None)
        await workers[0].scheduler.submit(anyio.sleep, 0)

    both(main)


def test_a_store_that_was_never_reached(run: Run) -> None:
    async def main() -> None:
        hub = Hub()
        hub.away = True
        worker = Worker(hub, requests="10/s")
        began = anyio.current_time()
        with pytest.raises(Unavailable, match="were not reached in 10 s: it was stopped"):
            await worker.scheduler.submit(anyio.sleep, 0)
        assert anyio.current_time() - began < 12

    run(main)


def test_a_quota_is_shared_and_kept(run: Run) -> None:
    async def main() -> None:
        hub = Hub()
        day: dict[str, Any] = {"requests": ["100/s", Rate(100, per=86_400)]}
        crowd = Crowd(2, hub, **day)

        async def work(worker: Worker) -> None:
            with pytest.raises(Unavailable):
                await worker.backlog(5, job=(0.01, 0.01))

        async with anyio.create_task_group() as group:
            for worker in crowd.workers:
                group.start_soon(work, worker)
        assert 90 <= len(crowd.starts()) <= 100
        later = Worker(hub, **day)
        with pytest.raises(Unavailable):
            await later.scheduler.submit(later.call, 0)
        assert not later.starts

    run(main)


def test_keys_with_limits_of_their_own_are_shared(both: Run) -> None:
    async def main() -> None:
        hub = Hub()
        limits: dict[str, Any] = {
            "requests": "1000/s",
            "keys": {"a": Limits("10/s"), "b": Limits("20/s")},
        }
        workers = [Worker(hub, f"w{i}", **limits) for i in range(3)]
        began = anyio.current_time()
        got: dict[str, list[float]] = {"a": [], "b": []}

        async def work(worker: Worker, key: str) -> None:
            async def note() -> None:
                got[key].append(anyio.current_time())

            view = worker.scheduler.with_options(key=key)
            while anyio.current_time() < began + 6:
                await view.submit(note)

        async with anyio.create_task_group() as group:
            for worker in workers:
                for key in ("a", "b"):
                    group.start_soon(work, worker, key)
        for key, rate in (("a", 10), ("b", 20)):
            assert worst_window([(at, 1.0) for at in got[key]], 1.02) <= rate
            assert sum(at >= began + 1 for at in got[key]) / 5 > 0.92 * rate
        assert len(hub.calls) / 3 <= 10 * (anyio.current_time() - began) + 6  # some may run ahead
        assert sorted(hub.kept) == ["limits", "limits/str:'a'", "limits/str:'b'"]

    both(main)


@pytest.mark.parametrize(
    ("whole", "rate", "least"), [("1000/s", 50, 46), ("100/s", 50, 46)], ids=["key", "whole"]
)
def test_a_keys_limit_is_reached_beside_one_of_the_whole(
    run: Run, whole: str, rate: int, least: float
) -> None:
    async def main() -> None:
        hub = Hub(2)
        limits: dict[str, Any] = {"requests": whole, "keys": {"a": Limits(f"{rate}/s")}}
        workers = [Worker(hub, f"w{i}", **limits) for i in range(3)]
        began = anyio.current_time()
        got: dict[str, list[float]] = {"a": [], "b": []}

        async def work(worker: Worker, key: str) -> None:
            async def note() -> None:
                got[key].append(anyio.current_time())
                await anyio.sleep(0.05)

            view = worker.scheduler.with_options(key=key)
            while anyio.current_time() < began + 4:
                await view.submit(note)

        async with anyio.create_task_group() as group:
            for worker in workers:
                for key in "aaaabbbb":
                    group.start_soon(work, worker, key)
        all_starts = sorted(got["a"] + got["b"])
        assert worst_window([(at, 1.0) for at in all_starts], 1.02) <= int(whole[:-2])
        assert worst_window([(at, 1.0) for at in got["a"]], 1.02) <= rate
        assert sum(at >= began + 1 for at in got["a"]) / 3 > least
        assert len(hub.calls) / 3 <= 10 * (anyio.current_time() - began) + 6  # some may run ahead

    run(main)


def test_a_key_whose_limits_differ_fails_alone(run: Run) -> None:
    async def main() -> None:
        hub = Hub()
        first = Worker(hub, requests="1000/s", keys={"a": Limits("10/s")})
        await first.scheduler.with_options(key="a").submit(anyio.sleep, 0)
        other = Worker(hub, requests="1000/s", keys={"a": Limits("20/s"), "b": Limits("5/s")})
        with pytest.raises(InvalidLimit, match=r"/str:'a' are stated already, and differ: 10/s"):
            await other.scheduler.with_options(key="a").submit(anyio.sleep, 0)
        await other.scheduler.with_options(key="b").submit(anyio.sleep, 0)
        await other.scheduler.submit(anyio.sleep, 0)

    run(main)


def test_no_credential_is_in_the_name_of_a_keys_limits() -> None:
    first, second = f"sk-{'a' * 20}", f"sk-{'b' * 20}"
    one, other = _name_of(first), _name_of(("tenant", second))
    assert one.startswith("str:'***'")
    assert other.startswith("tuple:('tenant', '***')")
    assert one != _name_of(second)
    assert one == _name_of(first)
    assert _name_of("chat") == "str:'chat'"


# Who it is


def test_a_fork_is_another_worker(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        worker = Worker(Hub(), requests="10/s", concurrency=2)
        await worker.scheduler.submit(anyio.sleep, 0)
        before = worker.port.conversation.id
        pid = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)
        await worker.scheduler.submit(anyio.sleep, 0)
        assert worker.port.conversation.id != before
        assert worker.line.opened == 2

    run(main)


def test_two_that_call_themselves_the_same(run: Run) -> None:
    async def main() -> None:
        crowd = Crowd(2, requests="20/s", concurrency=4)
        crowd.workers[1].port.conversation.id = crowd.workers[0].port.conversation.id
        await crowd.backlogged(6)
        check(crowd)
        assert crowd.workers[0].port.conversation.id != crowd.workers[1].port.conversation.id
        told = [e.what for w in crowd.workers for e in w.events if hasattr(e, "what")]
        assert "twin" in told
        assert rate_of(crowd, anyio.current_time() - 3, anyio.current_time() - 1) > 13

    run(main)


def test_one_that_leaves_gives_back(both: Run) -> None:
    async def main() -> None:
        hub = Hub()
        first = Worker(hub, concurrency=2)
        second = Worker(hub, concurrency=2)
        await first.scheduler.submit(anyio.sleep, 0)
        await first.scheduler.aclose()
        assert hub.state()["workers"] == {}
        began = anyio.current_time()
        await second.scheduler.gather(second.call(0), second.call(0))
        assert anyio.current_time() - began < 0.1

    both(main)
