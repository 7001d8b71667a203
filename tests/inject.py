"""Acting at the n-th step of an event loop, on both backends, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import trio
from clocks import VirtualLoop

from headway import Limits, Scheduler, SchedulerClosed

BACKENDS = ("asyncio", "trio")


class Status(Exception):
    """An SDK's error: a status, and headers on its response."""

    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(f"status {status}")
        headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
        self.status_code = status
        self.response = SimpleNamespace(status_code=status, headers=headers)


class Boom(Exception):
    """What an injected failure raises."""


async def answer(*args: Any, **kwargs: Any) -> Any:
    """What it was called with, one turn of the loop later."""
    await anyio.lowlevel.checkpoint()
    return args, kwargs


def counts(scheduler: Scheduler) -> tuple[int, int, int]:
    """Queued, in flight, sent."""
    stats = scheduler.statistics()
    return stats.queued, stats.in_flight, stats.sent


class Steps:
    """Counts the steps of an event loop while armed, and acts before the one numbered `at`.

    Whenever the loop has nothing more to do at a moment, `scheduler` is looked at: the loop must
    wake by the moment at which a waiting job could start, or a wake-up was lost.
    """

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.count = 0
        self.act: Callable[[], object] | None = None
        self.scheduler: Scheduler | None = None
        self.lost: list[str] = []

    def tick(self) -> None:
        if self.act is None:
            return
        self.count += 1
        if self.count == self.at:
            self.act()

    def idle(self, now: float, wakes_at: float) -> None:
        if self.scheduler is None:
            return
        state = self.scheduler._shell.state
        if state.waiting.size <= state.waiting.delayed:  # nobody waits for a permit
            return
        stats = state.statistics(now)
        if now + stats.seconds < wakes_at - 1e-6:
            self.lost.append(
                f"at {now:.4f} nothing is to happen until {wakes_at:.4f}, and a job could start "
                f"in {stats.seconds:.4f} s: {stats}"
            )

    @property
    def hit(self) -> bool:
        return self.count >= self.at


class _SteppingLoop(VirtualLoop):
    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        super().__init__()

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        return super().call_soon(self._step, callback, *args, context=context)

    def _step(self, callback: Any, *args: Any) -> None:
        self._steps.tick()
        callback(*args)

    def _run_once(self) -> None:
        timers = self._scheduled  # type: ignore[attr-defined]
        wakes_at = timers[0]._when if timers else float("inf")
        if wakes_at > self.now + 1e-9 and not self._ready:  # type: ignore[attr-defined]
            self._steps.idle(self.now, wakes_at)
        super()._run_once()  # type: ignore[misc]


class _Stepping(trio.abc.Instrument):
    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._steps.tick()

    def before_io_wait(self, timeout: float) -> None:
        stats = trio.lowlevel.current_statistics()
        if not stats.tasks_runnable and stats.seconds_to_next_deadline > 1e-9:
            now = trio.current_time()
            self._steps.idle(now, now + stats.seconds_to_next_deadline)


def run(
    backend: str, fn: Callable[..., Awaitable[Any]], *args: Any, steps: Steps | None = None
) -> Any:
    """`anyio.run` on a clock that jumps; `steps` watches the loop. Fails for a lost wake-up."""
    options: dict[str, Any]
    if backend == "asyncio":
        options = {"loop_factory": VirtualLoop if steps is None else lambda: _SteppingLoop(steps)}
    else:
        options = {
            "clock": trio.testing.MockClock(autojump_threshold=0),
            "instruments": [] if steps is None else [_Stepping(steps)],
        }
    result = anyio.run(fn, *args, backend=backend, backend_options=options)
    assert steps is None or not steps.lost, steps.lost[0]
    return result


async def attack(steps: Steps, victim: Callable[[], Awaitable[object]], *, native: bool) -> bool:
    """Run `victim` and cancel it at `steps.at`; whether it was cancelled before its end.

    By its task's own `cancel` (asyncio's alone), or by a cancel scope around it.
    """
    if native:
        accepted = False

        def cancel() -> None:
            nonlocal accepted
            accepted = task.cancel()

        task = asyncio.ensure_future(victim())
        steps.act = cancel
        await asyncio.wait([task])
        steps.act = None
        assert task.cancelled() or not accepted, "the cancellation was swallowed"
        if not task.cancelled():
            task.result()
        return task.cancelled()
    with anyio.CancelScope() as scope:
        steps.act = scope.cancel
        await victim()
        steps.act = None
    steps.act = None
    return scope.cancelled_caught


async def settle_down() -> None:
    """Let everything that is ready run."""
    for _ in range(30):
        await anyio.lowlevel.checkpoint()


class World:
    """A scheduler under test and the ledger of what its attempts must have cost.

    It allows 20 requests a second, 3 at once, and tokens that do not bind; the key "slow" is
    held to 5 a second, one at once.
    """

    COST = 100

    def __init__(self, tokens: Any = COST, usage: Any = None, **options: Any) -> None:
        slow = Limits("300/min", tokens="600k/min", concurrency=1)
        self.scheduler = Scheduler(
            "1200/min", tokens="6M/min", concurrency=3, keys={"slow": slow}, **options
        )
        self.view = self.scheduler.with_options(tokens=tokens, usage=usage)
        self.spent = 0
        self.calls = 0

    async def call(self, seconds: float = 0.1) -> float:
        """An attempt that costs what it reserves, even if it is cancelled."""
        self.calls += 1
        self.spent += self.COST
        await anyio.sleep(seconds)
        return seconds

    def flaky(self, *statuses: int) -> Callable[..., Awaitable[float]]:
        """`call`, whose first attempts fail with `statuses` after a while."""
        left = list(statuses)

        async def call(seconds: float = 0.1) -> float:
            if not left:
                return await self.call(seconds)
            self.spent += self.COST
            await anyio.sleep(seconds)
            status = left.pop(0)
            if status == 429:  # the server counted nothing
                self.spent -= self.COST
            raise Status(status, 0.2)

        return call

    async def load(self, key: str | None, priority: float, seconds: float, at: float = 0) -> None:
        await anyio.sleep(at)
        others = self.scheduler.with_options(tokens=self.COST, key=key, priority=priority)
        with contextlib.suppress(Boom, SchedulerClosed):  # where a callback fails for this one
            await others.submit(self.call, seconds)

    def start_load(self, group: anyio.abc.TaskGroup) -> None:
        """Jobs of others, which compete with the victim and must all be done."""
        for n in range(10):
            key = "slow" if n % 3 == 2 else None
            group.start_soon(self.load, key, n % 2, 0.1 * (n % 4 + 1), n // 3 * 0.1)

    async def check(self) -> None:
        """Nothing is left behind, nothing is owed, and the scheduler works at its full rate."""
        scheduler, shell = self.scheduler, self.scheduler._shell
        await settle_down()
        self.check_idle()
        for limits in shell.state._scopes():
            # The ledger does not tell the keys apart: theirs are checked to hold no more.
            for budget in limits.budgets:
                if limits.key is None:
                    assert abs(budget.total - self.spent) < 1e-3, (
                        f"{budget.total} tokens are charged and {self.spent} were spent"
                    )
                else:
                    assert -1e-3 < budget.total <= self.spent + 1e-3
        shell.closed = False  # for a victim that was to close it
        quick = scheduler.with_options(tokens=0, usage=lambda result: 0)
        await anyio.sleep(10)
        await quick.submit(anyio.sleep, 0)  # the probe, where the gate is still shut
        began = anyio.current_time()
        full = anyio.Event()
        inside = 0

        async def job() -> None:
            nonlocal inside
            inside += 1
            if inside == 3:
                full.set()
            await full.wait()  # all slots must be free

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(quick.submit, job)
        took, due = anyio.current_time() - began, 3 / scheduler.statistics().pace
        assert took < due + 0.01, f"three jobs took {took:.3f} s to start instead of {due:.3f}"
        await quick.with_options(key="slow").submit(anyio.sleep, 0)
        self.check_idle()

    def check_idle(self) -> None:
        scheduler, shell = self.scheduler, self.scheduler._shell
        stats = scheduler.statistics()
        assert (stats.queued, stats.delayed, stats.in_flight) == (0, 0, 0), stats
        assert not shell.parked
        assert shell._leader is None
        assert not shell.state.waiting.jobs()
        for limits in shell.state._scopes():
            assert limits.in_flight == 0
        ended = stats.succeeded + stats.failed + stats.cancelled
        assert ended >= stats.sent - stats.retried, stats
