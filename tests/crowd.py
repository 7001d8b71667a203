"""Workers that share limits through a store in memory, on one virtual clock, with its faults."""

from __future__ import annotations

import marshal
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any
from unittest import mock

import anyio

from headway import Limits, Scheduler
from headway.shared import Shared
from headway.shared.ledger import step_all
from headway.shared.stores import Calls, Replies, StoreAway
from headway.testing.arrivals import worst_window

__all__ = ["Crowd", "Hub", "Line", "Worker", "check", "most_in_flight", "rate_of"]

_GIVES_UP = 0.25  # seconds after which a call has failed


class Hub:
    """A store in memory. `lost`, `repeated` and `slow` are how often a call, or its reply, is lost,
    made twice, or takes longer.
    """

    def __init__(
        self, seed: int = 0, *, lost: float = 0.0, repeated: float = 0.0, slow: float = 0.0
    ) -> None:
        self.random = Random(seed)
        self.faults = (lost, repeated, slow)
        self.kept: dict[str, tuple[bytes, dict[str, bytes]]] = {}  # and each worker's last reply
        self.away = False
        self.offset = self.random.uniform(-1e5, 1e5)  # of its clock
        self.calls: list[tuple[float, str]] = []  # when, and by which worker

    def step(self, calls: Calls) -> Replies:
        """Step ledgers, as a store that keeps bytes does. Of the replies, which are most of a
        state, it reads and writes the caller's alone.
        """
        before: list[Any] = []
        for name, call in calls.items():
            kept, replies = self.kept.get(name, (None, {}))
            before.append(None if kept is None else marshal.loads(kept))
            if (old := replies.get(call["id"])) is not None:
                before[-1]["workers"][call["id"]]["reply"] = marshal.loads(old)
        now = anyio.current_time() + self.offset
        states, answers = step_all(before, [*calls.values()], now)
        for (name, call), state in zip(calls.items(), states, strict=True):
            workers = state["workers"]
            replies = self.kept.get(name, (None, {}))[1]
            replies = {worker: old for worker, old in replies.items() if worker in workers}
            if call["id"] in workers:
                replies[call["id"]] = marshal.dumps(workers[call["id"]].pop("reply"))
            self.kept[name] = marshal.dumps(state), replies
        return dict(zip(calls, answers, strict=True))

    def state(self, name: str = "limits") -> Any:
        """The state of a ledger."""
        kept, replies = self.kept[name]
        state = marshal.loads(kept)
        for worker, reply in replies.items():
            state["workers"][worker]["reply"] = marshal.loads(reply)
        return state


class Line:
    """What one worker has of a `Hub`: it is a `Store`. `frozen_until` is when the worker, which is
    stalled, hears anything again.
    """

    where = "a store of the tests"

    def __init__(self, hub: Hub, name: str = "") -> None:
        self.hub = hub
        self.name = name
        self.dead = False
        self.cut = False  # from the store, which the others reach
        self.frozen_until = 0.0
        self.offset = hub.random.uniform(-1e5, 1e5)  # of the clock of its worker
        self.opened = 1

    async def call(self, calls: Calls) -> Replies:
        """Step ledgers."""
        hub, random = self.hub, self.hub.random
        lost, repeated, slow = hub.faults
        await self._thaw()
        hub.calls.append((anyio.current_time(), self.name))
        if self.dead:
            await anyio.sleep_forever()
        await anyio.sleep(self._delay(slow))
        if hub.away or self.cut or random.random() < lost:
            await anyio.sleep(_GIVES_UP)
            raise StoreAway("it was stopped")
        calls = {name: {**call, "sent": call["sent"] + self.offset} for name, call in calls.items()}
        replies = hub.step(calls)
        if random.random() < repeated:
            assert hub.step(calls) == replies
        await anyio.sleep(self._delay(slow))
        if random.random() < lost:
            await anyio.sleep(_GIVES_UP)
            raise StoreAway("its reply was lost")
        await self._thaw()
        return replies

    def _delay(self, slow: float) -> float:
        random = self.hub.random
        return random.uniform(0.02, 0.2) if random.random() < slow else random.expovariate(2000)

    async def _thaw(self) -> None:
        if self.frozen_until <= anyio.current_time():
            return
        with anyio.CancelScope(shield=True):  # no timer of a process that stands still goes off
            await anyio.sleep(max(0.0, self.frozen_until - anyio.current_time()))

    async def read(self, name: str) -> dict[str, Any] | None:
        """A state."""
        return self.hub.state(name) if name in self.hub.kept else None

    async def names(self) -> list[str]:
        """The names."""
        return sorted(self.hub.kept)

    async def reset(self, name: str) -> bool:
        """Forget a ledger."""
        return self.hub.kept.pop(name, None) is not None

    def again(self) -> Line:
        """The same, for a process that was forked."""
        self.opened += 1
        return self

    async def aclose(self) -> None:
        """Nothing is open."""


class Worker:
    """A scheduler of `limits`, which are shared in `hub`, and what it has started."""

    def __init__(
        self, hub: Hub, name: str = "", *, weight: float = 1.0, away: Any = "share", **limits: Any
    ) -> None:
        self.name = name
        self.line = Line(hub, name)
        self.events: list[Any] = []
        with mock.patch("headway.shared.sharing.open_store", return_value=(self.line, "limits")):
            self.scheduler = Scheduler(
                on_event=self.events.append, shared=Shared("x", weight, away), **limits
            )
        self.starts: list[tuple[float, float]] = []  # when, tokens used
        self.spans: list[tuple[float, float]] = []  # from when until when each was in flight
        self.failed = 0
        self.scope: anyio.CancelScope | None = None

    @property
    def port(self) -> Any:
        """Its port for the whole."""
        return self.scheduler._shell.state.whole.ports[-1]

    async def call(self, seconds: float, tokens: float = 0.0) -> float:
        """A call that takes `seconds`, and uses `tokens`."""
        began = anyio.current_time()
        self.starts.append((began, tokens))
        try:
            await anyio.sleep(seconds)
        finally:
            self.spans.append((began, anyio.current_time()))
        return tokens

    async def backlog(
        self, seconds: float, job: tuple[float, float] = (0.1, 0.3), seed: int = 0,
        tokens: tuple[int, int] | None = None, used: float = 1.0, cancels: float = 0.0,
    ) -> None:  # fmt: skip
        """Work for so long, with more jobs waiting than can start."""
        random = Random(seed)
        end = anyio.current_time() + seconds

        def items() -> Iterator[tuple[float, int]]:
            while anyio.current_time() < end:
                yield random.uniform(*job), random.randint(*tokens) if tokens else 0

        async def one(item: tuple[float, int]) -> Any:
            took, cost = item
            if random.random() < cancels:
                with anyio.move_on_after(took * random.random()):
                    return await self.call(took, cost * used)
                return cost * used
            return await self.call(took, cost * used)

        view: Any = self.scheduler
        if tokens:
            view = self.scheduler.with_options(tokens=lambda item: item[1], usage=float)
        with anyio.CancelScope() as self.scope:
            async with view.as_completed(one, items()) as outcomes:
                async for outcome in outcomes:
                    if outcome.error is not None:
                        raise outcome.error
                    if anyio.current_time() >= end:
                        break

    def die(self) -> None:
        """Be killed: nothing is given back, nobody hears of it again."""
        self.line.dead = True
        if self.scope is not None:
            self.scope.cancel()

    def stall(self, seconds: float) -> None:
        """Do nothing for so long, as a process that gets no processor."""
        shell = self.scheduler._shell
        poll = type(shell).poll
        until = self.line.frozen_until = anyio.current_time() + seconds

        def late() -> None:
            if anyio.current_time() < until:
                shell._wake_at = until
            else:
                del shell.poll  # type: ignore[method-assign]
                poll(shell)

        shell.poll = late  # type: ignore[method-assign]

        async def wake() -> None:
            await anyio.sleep(max(0.0, until - anyio.current_time()))
            if shell.poll is late:
                late()

        shell.spawn(wake)


class Crowd:
    """`n` workers of the same `limits` and one `hub`."""

    def __init__(self, n: int = 8, hub: Hub | None = None, **limits: Any) -> None:
        self.hub = hub or Hub()
        self.limits = Limits(**limits)
        self.workers = [Worker(self.hub, f"w{i}", **limits) for i in range(n)]

    async def backlogged(self, seconds: float, **options: Any) -> None:
        """All work for so long."""
        async with anyio.create_task_group() as group:
            for index, worker in enumerate(self.workers):
                group.start_soon(lambda w=worker, i=index: w.backlog(seconds, seed=i, **options))

    def starts(self) -> list[tuple[float, float]]:
        """What all of them started, in order."""
        return sorted(each for worker in self.workers for each in worker.starts)

    def in_flight(self) -> int:
        """The most that was in flight at once."""
        return most_in_flight([span for worker in self.workers for span in worker.spans])

    def calls_a_second(self, seconds: float) -> dict[str, float]:
        """Of each worker."""
        return {
            name: n / seconds for name, n in Counter(name for _, name in self.hub.calls).items()
        }


def most_in_flight(spans: list[tuple[float, float]]) -> int:
    """The most of `spans` that overlap."""
    edges = sorted([(end, -1) for _, end in spans] + [(start, 1) for start, _ in spans])
    now = most = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most


def check(crowd: Crowd) -> None:
    """Assert that no window and no slots are exceeded."""
    starts, limits = crowd.starts(), crowd.limits
    for rate in limits.requests:
        worst = worst_window([(at, 1.0) for at, _ in starts], rate.span + rate.delay_bound)
        assert worst <= rate.share
    for _, rate in limits.token_rates:
        assert worst_window(starts, rate.span + rate.delay_bound) <= rate.share
    if limits.concurrency:
        assert crowd.in_flight() <= limits.concurrency


def rate_of(crowd: Crowd, begin: float, end: float) -> float:
    """Starts a second between two moments."""
    return sum(begin <= at < end for at, _ in crowd.starts()) / (end - begin)
