"""Those who decide limits elsewhere: asked while a job waits for them, and no longer."""

from __future__ import annotations

import anyio
import pytest

from headway import Scheduler
from headway._core.limits.port import Port


class Elsewhere:
    """An owner that grants `batch` starts every ten seconds."""

    def __init__(self, batch: int) -> None:
        self.port = Port()
        self.batch = batch
        self.asked: list[float] = []
        self.cancelled = 0

    @property
    def wanted(self) -> bool:
        return self.port.wanted > 0

    def nudge(self) -> bool:
        return self.wanted

    async def ask(self) -> None:
        self.asked.append(anyio.current_time())
        try:
            await anyio.sleep(10)
        except BaseException:
            self.cancelled += 1
            raise
        self.port.grant(self.batch)


@pytest.mark.anyio
async def test_another_owner_in_the_place_of_a_limiter() -> None:
    owner, starts = Elsewhere(3), []
    scheduler = Scheduler(concurrency=10)
    scheduler._shell.connect([owner])
    began = anyio.current_time()

    async def call(n: int) -> int:
        starts.append(anyio.current_time() - began)
        return n

    assert await scheduler.map(call, range(7)) == list(range(7))
    assert starts == pytest.approx([10, 10, 10, 20, 20, 20, 30], abs=0.1)
    assert [at - began for at in owner.asked] == pytest.approx([0, 10, 20], abs=0.1)
    assert owner.port.allowance == 2
    assert await scheduler.submit(call, 8) == 8  # of what is left, at once
    assert len(owner.asked) == 3


@pytest.mark.anyio
async def test_nobody_is_asked_for_a_job_that_was_cancelled() -> None:
    owner = Elsewhere(1)
    scheduler = Scheduler()
    scheduler._shell.connect([owner])

    async def call() -> None:
        raise AssertionError("it has no permit")

    with anyio.move_on_after(5):
        await scheduler.submit(call)
    await anyio.sleep(1)
    assert (len(owner.asked), owner.cancelled, owner.port.allowance) == (1, 1, 0)
    assert scheduler.statistics().queued == 0


@pytest.mark.anyio
async def test_an_owner_that_fails_fails_the_job_that_waits_for_it() -> None:
    class Broken(Elsewhere):
        async def ask(self) -> None:
            await super().ask()
            raise OSError("the ledger is away")

    scheduler = Scheduler()
    scheduler._shell.connect([Broken(0)])

    async def call() -> None:
        raise AssertionError("it has no permit")

    for _ in range(2):
        with pytest.raises(OSError, match="the ledger is away"):
            await scheduler.submit(call)
    statistics = scheduler.statistics()
    assert (statistics.queued, statistics.in_flight, statistics.sent, statistics.failed) == (
        0,
        0,
        0,
        2,
    )


@pytest.mark.anyio
async def test_other_limits_leave_the_owners_connected() -> None:
    owner = Elsewhere(1)
    scheduler = Scheduler("600/min")
    scheduler._shell.connect([owner])
    scheduler.set_limits("1200/min")
    assert scheduler._shell.state.whole.ports == (owner.port,)
