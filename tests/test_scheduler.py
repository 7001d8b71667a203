"""The public face, on both backends: submit, lease, views, options, and what surrounds them."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import re
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import aiolimiter
import anyio
import anyio.lowlevel
import pytest
import trio
from inject import Boom, Status, run, settle_down
from mutants import Mutant, nothing, nothing_awaited, table
from packages import of_dev

from headway import (
    DeadlineExceeded,
    InvalidLimit,
    Kind,
    Latched,
    Limits,
    NeverFits,
    QueueFull,
    Rate,
    Retry,
    Scheduler,
    SchedulerClosed,
    Unavailable,
    View,
    WrongLoop,
)
from headway._core.limits.port import Port
from headway._core.queue.job import Job
from headway._runtime.calls import Options
from headway._runtime.lease import Lease
from headway._runtime.shell import Shell
from headway.events import Event, Finished, LimitChanged, Queued, Refused, Retrying, Started

pytestmark = pytest.mark.anyio

now = anyio.current_time

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", logger="headway")


async def answer(*args: Any, **kwargs: Any) -> Any:
    await anyio.lowlevel.checkpoint()
    return args, kwargs


def counts(scheduler: Scheduler) -> tuple[int, int, int]:
    stats = scheduler.statistics()
    return stats.queued, stats.in_flight, stats.sent


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


# Live changes


async def test_set_limits_keeps_what_is_left_out() -> None:
    scheduler = Scheduler("60/min", tokens="90k/min", concurrency=4, weights={"a": 2})
    scheduler.set_limits(concurrency=8)
    assert scheduler.limits == Limits("60/min", tokens="90k/min", concurrency=8)
    scheduler.set_limits(Rate(5, per=1), tokens=None)
    assert scheduler.limits == Limits("5/s", concurrency=8)
    assert scheduler.statistics().capacity == 8
    with pytest.raises(InvalidLimit):
        scheduler.set_limits("7/s", concurrency=0)
    assert scheduler.limits == Limits("5/s", concurrency=8)
    assert scheduler.statistics().pace == pytest.approx(Rate(5, per=1).pace)


async def test_what_was_sent_still_counts_after_set_limits() -> None:
    scheduler = Scheduler("10/s", tokens="1000/min")
    budget = scheduler._shell.state.whole.budgets
    async with scheduler.lease(tokens=400) as lease:
        scheduler.set_limits(tokens="2000/min")
        assert budget is not scheduler._shell.state.whole.budgets
        assert scheduler._shell.state.whole.budgets[0].total == 400
        lease.settle(tokens=150)
    assert scheduler._shell.state.whole.budgets[0].total == pytest.approx(150)


async def test_limits_of_keys_and_weights_are_live() -> None:
    scheduler, began = Scheduler(concurrency=1000), now()
    scheduler.set_limits(keys={"slow": Limits("1/s")}, weights={"fast": 3})
    slow = scheduler.with_options(key="slow")
    await slow.map(answer, range(4))
    assert 3 < now() - began < 3.2
    scheduler.set_limits(keys=lambda key: Limits("10/s") if key == "slow" else None)
    began = now()
    await slow.map(answer, range(4))
    assert now() - began < 0.5


async def test_a_pause_lets_what_is_in_flight_go_on() -> None:
    scheduler = Scheduler(concurrency=5)
    async with anyio.create_task_group() as group:
        group.start_soon(scheduler.submit, anyio.sleep, 1)
        await settle_down()
        scheduler.pause()
        group.start_soon(scheduler.submit, anyio.sleep, 1)
        await anyio.sleep(3)
        assert counts(scheduler) == (1, 0, 1)
        assert scheduler.statistics().binds == "paused"
        scheduler.resume()
        await settle_down()
        assert counts(scheduler) == (0, 1, 2)


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


# Loops


def test_a_scheduler_moves_between_loops_while_idle() -> None:
    scheduler = Scheduler("1/min", tokens="600/min")

    async def once() -> None:
        async with scheduler.lease(tokens=100):
            pass

    def seconds() -> float:
        stats = scheduler.statistics()
        assert stats.binds == "requests"
        return stats.seconds

    asyncio.run(once())
    assert 59 < seconds() <= 61.5
    for loop in ("trio", "asyncio", "trio"):

        async def again() -> None:
            with anyio.move_on_after(0):
                await once()
            # What was sent on the other loop still counts on this one's clock.
            assert 58 < seconds() <= 61.5
            assert scheduler._shell.state.whole.budgets[0].total == 100

        anyio.run(again, backend=loop)
    assert counts(scheduler) == (0, 0, 1)


def test_on_clocks_that_jump_it_moves_too() -> None:
    scheduler = Scheduler("1/s")
    for backend in ("asyncio", "trio", "asyncio"):
        run(backend, scheduler.submit, answer)
    assert counts(scheduler) == (0, 0, 3)


async def test_a_second_loop_with_work_pending_is_an_error() -> None:
    scheduler, errors = Scheduler("1/s"), []

    def elsewhere() -> None:
        uses: list[Callable[[], Any]] = [
            lambda: scheduler.submit(answer),
            lambda: scheduler.with_options(timeout=1).submit(answer),
            lambda: scheduler.map(answer, [1])._collect(),
            lambda: scheduler.gather(answer()),
            scheduler.aclose,
        ]
        for use in uses:
            for go in (asyncio.run, lambda call: trio.run(lambda: call)):
                with pytest.raises(WrongLoop) as caught:
                    go(use())
                errors.append(str(caught.value))
        for act in (scheduler.pause, scheduler.resume, scheduler.reset):
            with pytest.raises(WrongLoop):
                act()
        with pytest.raises(WrongLoop):
            scheduler.set_limits("9/s")
        assert scheduler.limits == Limits("1/s")

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(scheduler.submit, anyio.sleep, 1)
        await settle_down()
        with ThreadPoolExecutor() as threads:
            threads.submit(elsewhere).result()
    assert len(errors) == 10
    assert "at work on another event loop (1 in flight, 1 queued)" in errors[0]
    assert "Fix: a headway.sync.Scheduler" in errors[0]
    await scheduler.submit(answer)  # and it is as it was, not closed
    assert counts(scheduler) == (0, 0, 3)


async def test_an_idle_scheduler_may_be_set_from_any_thread() -> None:
    scheduler = Scheduler("1/hour")
    await scheduler.submit(answer)
    with ThreadPoolExecutor() as threads:
        threads.submit(scheduler.set_limits, "10/s").result()
    began = now()
    await scheduler.submit(answer)
    assert now() - began < 0.2


def test_uvloop() -> None:
    uvloop = of_dev("uvloop")
    scheduler = Scheduler("6000/min", concurrency=4)

    async def main() -> None:
        assert len(await scheduler.map(answer, range(8))) == 8
        with pytest.raises(DeadlineExceeded):
            await scheduler.with_options(timeout=0.5).submit(anyio.sleep, 60)

    anyio.run(main, backend_options={"use_uvloop": True})
    assert uvloop
    assert counts(scheduler) == (0, 0, 9)


def test_under_pytest_asyncio(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio
        import pytest, pytest_asyncio
        from headway import Scheduler

        shared = Scheduler("60000/min", concurrency=4)  # of a module, for all tests

        async def ask(n):
            await asyncio.sleep(0)
            return n

        @pytest_asyncio.fixture
        async def scheduler():
            async with Scheduler("60000/min") as scheduler:
                yield scheduler

        @pytest.mark.asyncio
        @pytest.mark.parametrize("n", range(3))
        async def test_shared(n):
            assert await shared.map(ask, range(10)) == list(range(10))
            assert await shared.submit(ask, n) == n

        @pytest.mark.asyncio
        async def test_fixture(scheduler):
            async with scheduler.map(ask, range(5)) as results:
                assert [r async for r in results] == list(range(5))

        @pytest.mark.asyncio
        async def test_cancelled():
            task = asyncio.create_task(shared.submit(asyncio.sleep, 60))
            await asyncio.sleep(0.02)
            assert shared.statistics().in_flight == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert shared.statistics().in_flight == 0

        @pytest.mark.asyncio
        async def test_left_behind():
            task = asyncio.create_task(shared.submit(asyncio.sleep, 60))
            shared.left = task
            await asyncio.sleep(0.02)  # the end of the loop cancels it

        @pytest.mark.asyncio
        async def test_after_that():
            assert await shared.gather(ask(1), ask(2)) == [1, 2]
        """
    )
    done = pytester.runpytest_inprocess(
        "-q", "-W", "error", "-p", "no:cov", "-p", "no:langsmith_plugin",
        "-o", "asyncio_default_fixture_loop_scope=function",
    )  # fmt: skip
    done.assert_outcomes(passed=7)


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


# What is told


async def test_statistics() -> None:
    scheduler = Scheduler("600/min", tokens="60k/min", concurrency=2)
    ask = scheduler.with_options(tokens=100)
    failures = [Status(503, 0.5)]

    async def call() -> Any:
        await anyio.sleep(0.01)
        if failures:
            raise failures.pop()
        return {"usage": {"total_tokens": 40}}

    await ask.submit(call)
    stats = scheduler.statistics()
    assert (stats.sent, stats.succeeded, stats.failed, stats.retried) == (2, 1, 0, 1)
    assert (stats.refused, stats.tokens) == ({Kind.CAPACITY: 1}, 40)
    assert stats.recent.share() == 0.5
    assert stats.recent.share(Kind.CAPACITY) == 0.5
    assert (stats.capacity, stats.binds) == (2, "requests")
    assert stats.why.startswith("refused (capacity): ")
    with pytest.raises(Boom):
        await ask.submit(partial_raise)
    with anyio.move_on_after(0.15):
        await ask.submit(anyio.sleep, 9)
    stats = scheduler.statistics()
    assert (stats.sent, stats.failed, stats.cancelled) == (4, 1, 1)
    with pytest.raises(AttributeError):
        stats.sent = 0  # type: ignore[misc]
    stats.refused[Kind.RATE] = stats.keys["None"].refused[Kind.RATE] = 7  # a copy, nobody's else
    stats = scheduler.statistics()
    assert stats.refused == stats.keys["None"].refused == {Kind.CAPACITY: 1}


async def partial_raise() -> None:
    raise Boom


async def test_what_binds_a_key_is_told() -> None:
    keys = {"one": Limits(concurrency=1), "slow": Limits("1/min"), "t": Limits(tokens="100/min")}
    for key, binds in (("one", "concurrency"), ("slow", "requests"), ("t", "tokens")):
        scheduler = Scheduler(keys=keys)
        view = scheduler.with_options(key=key, tokens=80)
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(view.submit, anyio.sleep, 1000)
            await settle_down()
            stats = scheduler.statistics()
            assert (stats.binds, stats.queued) == (binds, 1)
            assert stats.seconds > 40
            group.cancel_scope.cancel()


async def test_events_in_their_order() -> None:
    events: list[Event] = []
    scheduler = Scheduler("10/s", on_event=events.append)
    failures = [Status(429, 1)]

    async def call() -> None:
        if failures:
            raise failures.pop()

    await scheduler.with_options(key="k", priority=2).submit(call)
    with anyio.move_on_after(0.01):
        await scheduler.submit(answer)
    await settle_down()  # events are handed on, and told at the next turn of the loop
    kinds = [type(event) for event in events if type(event) is not LimitChanged]
    assert kinds[:5] == [Queued, Started, Refused, Retrying, Started]
    finished = [event for event in events if isinstance(event, Finished)]
    assert [(one.job, one.attempts, one.outcome) for one in finished] == [
        (1, 2, "ok"), (2, 0, "cancelled"),
    ]  # fmt: skip
    queued = events[0]
    assert isinstance(queued, Queued)
    assert (queued.job, queued.key, queued.priority) == (1, "k", 2)
    assert sorted(events, key=lambda event: event.at) == events


async def test_a_listener_may_use_the_scheduler() -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, Refused):
            scheduler.pause()
            scheduler.set_limits("5/s")
        scheduler.statistics()
        scheduler.resume()

    scheduler = Scheduler("10/s", on_event=on_event)
    failures = [Status(429, 1)]

    async def call(n: int) -> None:
        if failures:
            raise failures.pop()

    with anyio.fail_after(100):
        await scheduler.map(call, range(20))
    assert scheduler.limits == Limits("5/s")


# Tokens


async def test_jobs_reserve_what_their_key_uses_on_average() -> None:
    scheduler = Scheduler(tokens="60k/min")

    async def ask(tokens: float) -> Any:
        return SimpleNamespace(usage=SimpleNamespace(total_tokens=tokens))

    async def reserved(key: str | None) -> float:
        async with scheduler.with_options(key=key).lease() as lease:
            return lease.tokens

    assert await reserved("a") == 600  # nothing is known: 1% of the limit
    for _ in range(30):
        await scheduler.with_options(key="a").submit(ask, 50)
        await scheduler.with_options(key="b").submit(ask, 2000)
    assert await reserved("a") == pytest.approx(50)
    assert await reserved("b") == pytest.approx(2000)
    await scheduler.with_options(key="a").submit(ask, 150)
    assert await reserved("a") == pytest.approx(60)
    assert await reserved("c") == 600


async def test_a_job_that_waited_reserves_what_is_known_when_it_starts() -> None:
    scheduler, reserved = Scheduler(tokens="60k/min", concurrency=1), []
    state = scheduler._shell.state

    async def ask() -> Any:
        reserved.append(next(iter(state.whole.budgets)).total - sum(used))
        used.append(10)
        await anyio.sleep(1)
        return {"usage": {"total_tokens": 10}}

    used: list[float] = []
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(scheduler.submit, ask)
    assert reserved == pytest.approx([600, 10, 10, 10, 10])


async def test_tokens_and_usage_are_functions_of_the_call_and_its_result() -> None:
    scheduler = Scheduler(tokens="60k/min")
    budget = scheduler._shell.state.whole.budgets[0]
    view = scheduler.with_options(
        tokens=lambda text, *, more=0: len(text) + more, usage=lambda reply: reply[0]
    )

    async def ask(text: str, *, more: int = 0) -> tuple[int]:
        assert budget.total - before == len(text) + more
        return (3,)

    for more in (0, 100):
        before = budget.total
        await view.submit(ask, "twelve chars", more=more)
        assert budget.total - before == 3
    assert scheduler.statistics().tokens == 6


@pytest.mark.parametrize("usage", [lambda reply: "12", lambda reply: -1, lambda reply: 1 / 0])
async def test_a_usage_that_makes_no_sense_holds_nobody_up(usage: Any) -> None:
    scheduler = Scheduler(tokens="60k/min", concurrency=1)
    waiting = scheduler.with_options(tokens=5)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            with pytest.raises((TypeError, ZeroDivisionError)):  # noqa: PT012
                group.start_soon(scheduler.submit, anyio.sleep, 1)
                await settle_down()
                group.start_soon(waiting.submit, anyio.sleep, 1)
                await scheduler.with_options(usage=usage, tokens=5).submit(answer)
    assert counts(scheduler) == (0, 0, 3)


async def test_is_refused_is_asked_about_results_and_exceptions() -> None:
    asked: list[Any] = []

    def is_refused(value: Any) -> bool | Kind:
        asked.append(value)
        if isinstance(value, Boom):
            return Kind.CAPACITY
        return value == "slow down"

    scheduler, replies = Scheduler(is_refused=is_refused), ["slow down", Boom(), "ok"]

    async def call() -> Any:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    assert await scheduler.submit(call) == "ok"
    assert [type(value) for value in asked] == [str, Boom, str]
    assert scheduler.statistics().refused == {Kind.RATE: 1, Kind.CAPACITY: 1}


async def test_a_job_that_no_longer_fits_fails_when_the_limit_is_lowered() -> None:
    scheduler = Scheduler(tokens="1000/min", concurrency=1)
    view = scheduler.with_options(tokens=800)
    async with scheduler.lease(tokens=100), anyio.create_task_group() as group:

        async def large() -> None:
            with pytest.raises(NeverFits, match="larger than the whole limit of 100/min"):
                await view.submit(answer)

        group.start_soon(large)
        await anyio.sleep(0.1)
        scheduler.set_limits(tokens="100/min")
    assert scheduler.statistics().queued == 0


async def test_a_keys_function_that_raises_changes_nothing() -> None:
    scheduler = Scheduler("10/s")
    await scheduler.with_options(key="a").submit(answer)

    def keys(key: object) -> Limits:
        raise LookupError(key)

    before = scheduler.statistics().pace
    with pytest.raises(LookupError):
        scheduler.set_limits("999/s", keys=keys)
    assert scheduler.statistics().pace == before
    assert scheduler.limits.requests[0].limit == 10


async def test_limits_that_a_key_gets_count_what_is_in_flight() -> None:
    scheduler = Scheduler(concurrency=100)
    view = scheduler.with_options(key="a")
    running = most = 0

    async def call() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(view.submit, call)
        await anyio.sleep(0.5)
        scheduler.set_limits(keys={"a": Limits(concurrency=2)})
        for _ in range(8):
            group.start_soon(view.submit, call)
    assert most == 4
    assert scheduler.statistics().in_flight == 0


async def test_what_is_stated_as_before_goes_on_as_it_is() -> None:
    scheduler = Scheduler("100/s", concurrency=4)
    stated = scheduler.statistics().pace
    with pytest.raises(Status):
        async with scheduler.lease():
            raise Status(429, 0.1)
    cut = scheduler.statistics().pace
    scheduler.set_limits(concurrency=5)
    assert scheduler.statistics().pace == cut < stated
    scheduler.reset()
    assert scheduler.statistics().pace == stated  # what refusals taught is forgotten


async def test_what_a_job_raised_before_it_failed_in_the_queue_is_not_lost() -> None:
    async def down() -> None:
        await anyio.sleep(0.01)
        raise ConnectionError("down")

    scheduler = Scheduler(concurrency=8, retry=Retry(patience=1))
    errors = await scheduler.map(lambda _: down(), range(20), return_exceptions=True)
    tried = [error for error in errors if isinstance(error, ConnectionError)]
    never = [error for error in errors if isinstance(error, Unavailable)]
    assert len(tried) >= 8
    assert len(tried) + len(never) == 20
    for error in tried:
        (note,) = error.__notes__
        assert "down" in note
        assert "patience=1 second is over" in note
    assert all("down" in str(error) for error in never)

    async def wrong_key() -> None:
        raise Status(401)

    async def flaky() -> None:
        raise Status(500)

    scheduler = Scheduler(retry=Retry(base=10))
    async with anyio.create_task_group() as group:

        async def backing_off() -> None:
            with pytest.raises(Latched) as caught:
                await scheduler.submit(flaky)
            assert isinstance(caught.value.__cause__, Status)

        group.start_soon(backing_off)
        await anyio.sleep(0.001)
        with pytest.raises(Status):
            await scheduler.submit(wrong_key)


async def test_a_refusal_without_a_hint_does_not_end_a_job_of_little_patience() -> None:
    answers = iter(["busy", "busy", "well"])

    async def ask() -> str:
        return next(answers)

    scheduler = Scheduler("100/s", is_refused=lambda r: r == "busy", retry=Retry(patience=0.5))
    assert await scheduler.submit(ask) == "well"


async def test_a_predicate_that_raises_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError

    caplog.set_level("ERROR", logger="headway")
    scheduler = Scheduler(is_refused=lambda reply: reply.status == 429)
    await scheduler.map(lambda _: fail(), range(5), return_exceptions=True)
    assert len(caplog.records) == 1


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


def test_a_loop_that_was_closed_with_jobs_pending_does_not_hold_the_scheduler() -> None:
    scheduler = Scheduler(concurrency=1)
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(scheduler.submit(asyncio.sleep, 100)) for _ in range(3)]
    loop.run_until_complete(asyncio.sleep(0.01))
    assert (scheduler.statistics().in_flight, scheduler.statistics().queued) == (1, 2)
    loop.close()
    assert asyncio.run(scheduler.submit(asyncio.sleep, 0, "alive")) == "alive"
    for task in tasks:  # what a garbage collector would do, in its own time
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()  # type: ignore[union-attr]
    assert (scheduler.statistics().in_flight, scheduler.statistics().queued) == (0, 0)
    assert asyncio.run(scheduler.submit(asyncio.sleep, 0, "alive")) == "alive"


def test_tenants_that_came_once_are_forgotten_with_limits_of_their_own_too() -> None:
    own = Limits("1000/s", concurrency=1)
    scheduler = Scheduler(keys=lambda key: own)

    async def main() -> None:
        for number in range(6_000):
            await scheduler.with_options(key=number).submit(answer)

    anyio.run(main)
    assert len(scheduler._shell.state.flows) < 5_000


# The tests above must catch these


async def ends_a_second_late(
    self: Shell, job: Job, timeout: float, call: Coroutine[Any, Any, Any]
) -> Any:
    with anyio.move_on_after(timeout + 1):
        return await call
    raise DeadlineExceeded(f"timeout={timeout:g} seconds are over: was tried 5 times", fix="")


new_job = Shell.new_job


def guesses_once(self: Shell, options: Options, tokens: float | None) -> Job:
    job = new_job(self, options, tokens)
    job.guessed = False
    return job


@pytest.mark.parametrize(
    ("where", "name", "mutant", "test", "args"),
    table(
        ("a port that is asked once for all", Port, "take", nothing,
         TestSharedLimiter.test_it_is_awaited_for_each_attempt, (None,)),
        ("a close that does not wait", Shell, "drained", nothing_awaited, test_aclose_drains, ()),
        ("a timeout that is late", Shell, "within", ends_a_second_late,
         test_a_timeout_covers_waiting_and_all_attempts, ()),
        ("a guess that stands", Shell, "new_job", guesses_once,
         test_a_job_that_waited_reserves_what_is_known_when_it_starts, ()),
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
