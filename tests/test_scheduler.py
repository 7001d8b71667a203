"""The public face, on both backends: submit, lease, views, options, and what surrounds them."""

from __future__ import annotations

import contextvars
import itertools
import re
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import aiolimiter
import anyio
import anyio.lowlevel
import pytest
from inject import Boom, Status, answer, counts, run, settle_down
from mutants import Mutant, nothing, nothing_awaited, table

from headway import (
    DeadlineExceeded,
    InvalidLimit,
    Kind,
    QueueFull,
    Retry,
    Scheduler,
    SchedulerClosed,
    View,
)
from headway._core.limits.port import Port
from headway._core.queue.job import Job
from headway._runtime.lease import Lease
from headway._runtime.shell import Shell

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]

now = anyio.current_time


# submit


REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="nobody's")


async def test_submit_passes_arguments_and_result_through() -> None:
    assert await Scheduler().submit(answer, 1, "b", c=3) == ((1, "b"), {"c": 3})


async def test_submit_runs_in_the_callers_own_task() -> None:
    scheduler = Scheduler("10/s")

    def task() -> object:
        return anyio.get_current_task().id

    async def call() -> object:
        assert REQUEST.get() == "mine"
        REQUEST.set("changed")
        return task()

    for _ in range(2):  # at once, and after waiting
        REQUEST.set("mine")
        assert await scheduler.submit(call) == task()
        assert REQUEST.get() == "changed"


async def test_tracebacks_are_the_callers() -> None:
    scheduler = Scheduler("10/s")

    async def deep() -> None:
        await anyio.sleep(0.1)
        raise Boom

    for _ in range(2):
        with pytest.raises(Boom) as caught:
            await scheduler.submit(deep)
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert names[0] == "test_tracebacks_are_the_callers"
        assert names[-1] == "deep" or "deep" in names
        assert len(names) <= 6
        assert caught.value.__context__ is None


async def test_the_pace_and_the_slots_hold() -> None:
    scheduler, most, inside, starts = Scheduler("600/min", concurrency=2), 0, 0, []

    async def call() -> None:
        nonlocal most, inside
        starts.append(now())
        inside += 1
        most = max(most, inside)
        await anyio.sleep(0.25)
        inside -= 1

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(scheduler.submit, call)
    assert most == 2
    assert min(b - a for a, b in itertools.pairwise(starts)) > 0.08
    assert starts[-1] - starts[0] < 3


async def test_methods_partials_and_callables_are_functions_too() -> None:
    class Client:
        async def ask(self, question: str) -> str:
            return question.upper()

        async def __call__(self, question: str) -> str:
            return question.title()

    scheduler = Scheduler()
    assert await scheduler.submit(Client().ask, "why") == "WHY"
    assert await scheduler.submit(Client(), "why") == "Why"
    assert await scheduler.submit(lambda: answer(1)) == ((1,), {})


# Views


async def test_a_view_is_the_same_scheduler_with_other_options() -> None:
    scheduler = Scheduler("1/s")
    view = scheduler.with_options(key="chat", priority=3, timeout=9)
    other = view.with_options(priority=5)
    assert (other._options.key, other._options.priority, other._options.timeout) == ("chat", 5, 9)
    assert (view._options.priority, scheduler._options.priority) == (3, 0)
    assert other.with_options(timeout=None)._options.timeout is None
    assert type(other) is View
    await other.submit(answer)
    assert scheduler.statistics().sent == 1
    assert scheduler.statistics().binds == "requests"  # for all of its views


# Leases


async def test_a_lease_says_what_it_reserved_and_waited_and_settles() -> None:
    scheduler = Scheduler("1/s", tokens="6000/min")
    budget = scheduler._shell.state.whole.budgets[0]
    async with scheduler.lease(tokens=500) as lease:
        assert (lease.tokens, lease.waited) == (500, 0)
        assert budget.total == 500
        lease.settle(tokens=120)
    assert budget.total == 120
    async with scheduler.lease(tokens=100) as lease:
        assert lease.waited > 0.9
    assert budget.total == 220
    assert counts(scheduler) == (0, 0, 2)
    assert scheduler.statistics().tokens == 120  # of the second nothing is known


async def test_a_lease_is_entered_once() -> None:
    scheduler = Scheduler("1/s")
    lease = scheduler.lease()
    async with lease:
        with pytest.raises(RuntimeError, match="entered already, and a lease is one attempt"):
            await lease.__aenter__()
    waiting = scheduler.lease()
    with anyio.move_on_after(0.1):
        await waiting.__aenter__()
    with pytest.raises(RuntimeError, match="entered already"):
        await waiting.__aenter__()
    assert counts(scheduler) == (0, 0, 1)


async def test_a_lease_is_not_retried_but_teaches() -> None:
    scheduler, began = Scheduler("100/s"), now()
    with pytest.raises(Status) as caught:
        async with scheduler.lease():
            raise Status(429, 3)
    assert not hasattr(caught.value, "__notes__")
    stats = scheduler.statistics()
    assert (stats.binds, stats.refused) == ("gate", {Kind.RATE: 1})
    assert 3 <= stats.seconds < 3.4
    await scheduler.submit(answer)
    assert 3 <= now() - began < 3.4


@pytest.mark.parametrize("how", ["raises", "cancelled"])
async def test_what_a_lease_settled_counts_even_where_its_body_fails(how: str) -> None:
    scheduler = Scheduler(tokens="6000/min")
    budget = scheduler._shell.state.whole.budgets[0]
    with anyio.CancelScope() as scope:
        try:
            async with scheduler.lease(tokens=500) as lease:
                lease.settle(tokens=800)
                if how == "raises":
                    raise Boom
                scope.cancel()
                await anyio.sleep(1)
        except Boom:
            pass
    assert budget.total == 800
    assert scheduler.statistics().tokens == 800


async def test_a_leases_timeout_does_not_reach_into_its_body() -> None:
    scheduler = Scheduler(concurrency=1)
    timed = scheduler.with_options(timeout=1)
    async with timed.lease():
        await anyio.sleep(5)
        began = now()
        with pytest.raises(
            DeadlineExceeded, match="waited 1 s for its permits and was never tried"
        ):
            async with timed.lease():
                pytest.fail("there is but one slot")
        assert now() - began == pytest.approx(1)
    assert counts(scheduler) == (0, 0, 1)


# Timeouts


async def test_a_timeout_covers_waiting_and_all_attempts() -> None:
    scheduler, attempts = Scheduler(retry=Retry(attempts=100, base=0.1, cap=0.1)), 0

    async def failing() -> None:
        nonlocal attempts
        attempts += 1
        await anyio.sleep(0.5)
        raise Status(500)

    began = now()
    with pytest.raises(DeadlineExceeded, match=r"timeout=2 seconds are over.*was tried \d times"):
        await scheduler.with_options(timeout=2).submit(failing)
    assert now() - began == pytest.approx(2)
    assert attempts in (4, 5)
    assert counts(scheduler) == (0, 0, attempts)


async def test_an_attempt_timeout_covers_one_attempt_which_is_retried() -> None:
    scheduler, seconds = Scheduler(), [10.0, 10.0, 0.5]

    async def call() -> str:
        await anyio.sleep(seconds.pop(0))
        return "ok"

    assert await scheduler.with_options(attempt_timeout=1).submit(call) == "ok"
    seconds[:] = [10.0] * 9
    with pytest.raises(TimeoutError) as caught:
        await scheduler.with_options(attempt_timeout=1).submit(call)
    assert "tried 5 times" in caught.value.__notes__[0]


async def test_a_job_fails_early_where_it_is_certain_to_be_late() -> None:
    scheduler = Scheduler("100/s")
    with pytest.raises(Status):
        async with scheduler.lease():
            raise Status(429, 60)
    began = now()
    with pytest.raises(DeadlineExceeded, match=r"nothing can be sent for 1 min"):
        await scheduler.with_options(timeout=5).submit(answer)
    assert now() - began < 0.1

    async def refused() -> None:
        raise Status(429, 60)

    scheduler.reset()
    with pytest.raises(Status) as caught:  # its own, for it says what happened
        await scheduler.with_options(timeout=5).submit(refused)
    assert now() - began < 0.1
    (note,) = caught.value.__notes__
    assert re.match(r"headway: tried once in [\d.]+ m?s, and not again: ", note)
    assert " and not again: nothing can be sent for 1 min" in note
    assert "Fix" not in note


async def test_a_job_that_a_refusal_makes_hopeless_fails_while_it_waits() -> None:
    scheduler, began = Scheduler("1/s", concurrency=2), now()

    async def refused() -> None:
        await anyio.sleep(0.5)
        raise Status(429, 60)

    async def hopeless() -> None:
        with pytest.raises(DeadlineExceeded, match="nothing can be sent"):
            await scheduler.with_options(timeout=10).submit(answer)
        assert now() - began == pytest.approx(0.5)

    with anyio.move_on_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(scheduler.submit, refused)
            await settle_down()
            group.start_soon(hopeless)
    assert counts(scheduler)[:2] == (0, 0)


async def test_a_job_that_its_limits_keep_beyond_its_timeout_fails_at_once() -> None:
    scheduler, began = Scheduler("1/min"), now()
    await scheduler.submit(answer)
    with pytest.raises(DeadlineExceeded, match="the limit of requests lets this job start in 1 mi"):
        await scheduler.with_options(timeout=30).submit(answer)
    assert now() == began


async def test_no_job_fails_on_a_forecast() -> None:
    scheduler, began = Scheduler(concurrency=1), now()
    async with scheduler.lease():
        with pytest.raises(DeadlineExceeded, match="timeout=30 seconds are over"):
            await scheduler.with_options(timeout=30).submit(answer)
        assert now() - began == pytest.approx(30)  # it might have ended any moment


# The end


async def test_aclose_drains() -> None:
    scheduler, began = Scheduler("1/s"), now()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(scheduler.submit, anyio.sleep, 5)
        await settle_down()
        for _ in range(2):  # twice at once
            group.start_soon(scheduler.aclose)
        await settle_down()
        with pytest.raises(SchedulerClosed, match=r"aclose\(\) was called. Fix: make a new"):
            await scheduler.submit(answer)
        with pytest.raises(SchedulerClosed):
            async with scheduler.lease():
                pass
        await scheduler.aclose()
        assert 7 < now() - began < 7.2
        assert counts(scheduler) == (0, 0, 3)
    await scheduler.aclose()


async def test_async_with_closes_and_drains() -> None:
    began = now()
    async with anyio.create_task_group() as group, Scheduler("1/s") as scheduler:
        group.start_soon(scheduler.submit, anyio.sleep, 2)
        await settle_down()
        assert await scheduler.submit(answer, 1) == ((1,), {})
    assert now() - began == pytest.approx(2)
    with pytest.raises(SchedulerClosed):
        await scheduler.submit(answer)


async def test_max_queue() -> None:
    scheduler = Scheduler("1/s", max_queue=2)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(scheduler.submit, answer)
        await settle_down()
        with pytest.raises(QueueFull, match="2 jobs are waiting, which is max_queue"):
            await scheduler.submit(answer)
        with pytest.raises(QueueFull):
            async with scheduler.lease():
                pass
        await anyio.sleep(1.1)
        await scheduler.submit(answer)


# A limiter that the application shares


class TestSharedLimiter:
    """aiolimiter's, which knows asyncio alone."""

    pytestmark = [pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)]

    async def test_both_limits_hold(self) -> None:
        limiter = aiolimiter.AsyncLimiter(5, 10)  # bursts of 5, then one in 2 s
        scheduler, starts, began = Scheduler([limiter, "10/s"], concurrency=3), [], now()

        async def call() -> None:
            starts.append(now() - began)

        assert scheduler.limits.shared == (limiter,)
        async with anyio.create_task_group() as group:
            group.start_soon(limiter.acquire, 3)  # the application's own use
            await settle_down()
            for _ in range(4):
                group.start_soon(scheduler.submit, call)
        assert starts == pytest.approx([0, 0.103, 2, 4], abs=0.05)
        assert counts(scheduler) == (0, 0, 4)

    async def test_it_is_awaited_for_each_attempt(self) -> None:
        limiter = aiolimiter.AsyncLimiter(100, 1)
        taken = 0

        async def acquire(amount: float = 1) -> None:
            nonlocal taken
            taken += 1

        limiter.acquire = acquire  # type: ignore[method-assign]
        scheduler, failures = Scheduler(limiter), [Status(500), Status(429, 1)]

        async def call() -> None:
            if failures:
                raise failures.pop()

        await scheduler.submit(call)
        assert taken == 3
        async with scheduler.lease():
            assert taken == 4
        scheduler.set_limits("10/s")
        await scheduler.submit(call)
        assert taken == 4
        assert scheduler.limits.shared == ()

    async def test_one_that_can_never_give_a_permit(self) -> None:
        scheduler = Scheduler(aiolimiter.AsyncLimiter(0.5, 1), concurrency=1)
        for _ in range(2):
            with pytest.raises(ValueError, match="maximum capacity"):
                await scheduler.submit(answer)
            with pytest.raises(ValueError, match="maximum capacity"):
                async with scheduler.lease():
                    pass
        assert counts(scheduler) == (0, 0, 0)

    async def test_it_is_no_limit_of_tokens(self) -> None:
        with pytest.raises(InvalidLimit, match="tokens= takes rates, not an AsyncLimiter"):
            Scheduler(tokens=aiolimiter.AsyncLimiter(100))


@pytest.mark.parametrize("how", ["await", "stream"])
async def test_an_exit_in_a_map_is_raised_as_it_is(how: str) -> None:
    class Exit(BaseException):
        pass

    async def leave(n: int) -> int:
        await anyio.sleep(0.01)
        if n == 1:
            raise Exit
        return n

    scheduler = Scheduler(concurrency=2)
    with pytest.raises(Exit):  # noqa: PT012
        if how == "await":
            await scheduler.map(leave, range(5))
        else:
            async with scheduler.map(leave, range(5)) as results:
                async for _ in results:
                    pass
    assert scheduler.statistics().in_flight == 0


async def test_an_attempt_timeout_bounds_the_body_of_a_lease() -> None:
    scheduler = Scheduler(concurrency=1)
    with pytest.raises(TimeoutError):
        async with scheduler.with_options(attempt_timeout=0.2).lease():
            await anyio.sleep(1)
    assert scheduler.statistics().refused == {Kind.TRANSIENT: 1}
    assert scheduler.statistics().in_flight == 0


# The tests above must catch these


async def ends_a_second_late(
    self: Shell, job: Job, timeout: float, call: Coroutine[Any, Any, Any]
) -> Any:
    with anyio.move_on_after(timeout + 1):
        return await call
    raise DeadlineExceeded(f"timeout={timeout:g} seconds are over: was tried 5 times", fix="")


@pytest.mark.parametrize(
    ("where", "name", "mutant", "test", "args"),
    table(
        ("a port that is asked once for all", Port, "take", nothing,
         TestSharedLimiter.test_it_is_awaited_for_each_attempt, (None,)),
        ("a close that does not wait", Shell, "drained", nothing_awaited, test_aclose_drains, ()),
        ("a timeout that is late", Shell, "within", ends_a_second_late,
         test_a_timeout_covers_waiting_and_all_attempts, ()),
        ("a lease that settles nothing", Lease, "settle", nothing,
         test_a_lease_says_what_it_reserved_and_waited_and_settles, ()),
    ),
)  # fmt: skip
def test_mutants_are_caught(
    where: type, name: str, mutant: Mutant, test: Callable[..., Any],
    args: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run("asyncio", test, *args)
    monkeypatch.setattr(where, name, mutant)
    with pytest.raises((Exception, pytest.fail.Exception)):
        run("asyncio", test, *args)
