"""Bad input on the public face: each is an error that says what, why and the fix, word by word."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio
import pytest
from aiolimiter import AsyncLimiter

import headway
from headway import (
    InvalidLimit,
    Kind,
    Limits,
    NeverFits,
    QueueFull,
    Retry,
    Scheduler,
    SchedulerClosed,
    WrongLoop,
)
from headway._runtime.calls import kind_of

pytestmark = pytest.mark.anyio


async def ask(question: object = None) -> object:
    await anyio.sleep(1)
    return question


def not_async(question: object = None) -> object:
    return question


async def generator(question: object = None) -> AsyncIterator[int]:
    yield 1


class Client:
    async def ask(self, question: object) -> object:
        return question


async def use(scheduler: Scheduler, way: str, fn: Callable[..., Any] = ask) -> object:
    """Use `scheduler` in one of the ways that its public face has."""

    def call() -> Any:
        return fn("why?")

    if way == "submit":
        return await scheduler.submit(fn, "why?")
    if way == "timeout":
        return await scheduler.with_options(timeout=5).submit(fn, "why?")
    if way == "map":
        return await scheduler.map(fn, ["why?"])
    if way == "stream":
        async with scheduler.map(fn, ["why?"]) as results:
            return [result async for result in results]
    if way == "as_completed":
        async with scheduler.as_completed(fn, ["why?"]) as outcomes:
            return [outcome.result async for outcome in outcomes]
    if way == "gather":
        call.__qualname__ = fn.__qualname__
        return await scheduler.gather(call)
    if way == "coroutines":
        return await scheduler.gather(fn("a"), fn("b"))
    if way == "lease":
        async with scheduler.lease():
            return None
    if way == "lease with a timeout":
        async with scheduler.with_options(timeout=5).lease():
            return None
    if way == "aclose":
        return await scheduler.aclose()
    if way == "set_limits":
        return scheduler.set_limits(concurrency=9)
    return getattr(scheduler, way)()


CALLS = ["submit", "timeout", "map", "stream", "as_completed", "gather"]
WAYS = [*CALLS, "coroutines", "lease", "lease with a timeout"]


# What a Scheduler is made of

RATE = (
    ": a rate is a number and a period. "
    'Fix: "600/min", "10/s", "180k/min", "1M/day", a Rate(600, per=60), or a list of them.'
)
POSITIVE = ' is a finite number above 0. Fix: "600/min", or leave it out for no limit.'
CONCURRENCY = (
    " is not a whole number from 1: it is how many attempts may be in flight at once. "
    "Fix: concurrency=32, or leave it out for no limit."
)
MAX_QUEUE = (
    " is not a whole number from 0: it is how many jobs may wait. "
    "Fix: max_queue=10_000, 0 where none may wait, or leave it out for no bound."
)
TWO_LIMITS = (
    "two limits for key 'a': a key has one Limits, which holds all its rates. "
    'Fix: keys={\'a\': Limits(["10/s", "300/min"])}.'
)


KEYS = (
    " is neither a mapping of keys to limits nor a function of the key. "
    'Fix: keys={"llama-70b": Limits("600/min", concurrency=8)}.'
)
RETRY = (
    " is not a Retry. Fix: retry=Retry(attempts=5), retry=Retry(attempts=1) for no retries, or "
    "leave it out for the default."
)
WEIGHTS = (
    " is not a mapping of keys to weights: keys share in proportion to them. "
    "Fix: weights={'chat': 8}."
)
OWN = (
    "the limits of key 'a' hold an AsyncLimiter, which can be a limit of the whole only. "
    "Fix: state the key's rate as text, keys={'a': Limits(\"600/min\")}."
)


def weight(value: object) -> tuple[dict[str, object], str]:
    return (
        {"weights": {"chat": value}},
        f"the weight of key 'chat' is {value!r}, not a finite number above 0: keys share in "
        "proportion to their weights. Fix: weights={'chat': 8}.",
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"requests": "0/min"}, "'0/min' is not a limit: a rate" + POSITIVE),
        ({"requests": "-1/s"}, "'-1/s' is not a limit: a rate" + POSITIVE),
        ({"requests": "nan/s"}, "'nan/s' is not a limit: a rate" + POSITIVE),
        ({"requests": "inf/s"}, "'inf/s' is not a limit: a rate" + POSITIVE),
        ({"requests": "600/fortnight"}, "unknown unit 'fortnight' in '600/fortnight'" + RATE),
        ({"requests": ""}, "''" + RATE),
        ({"requests": 600}, "600" + RATE),
        ({"tokens": "180k"}, "'180k'" + RATE),
        ({"concurrency": 0}, "concurrency=0" + CONCURRENCY),
        ({"concurrency": True}, "concurrency=True" + CONCURRENCY),
        ({"concurrency": "3"}, "concurrency='3'" + CONCURRENCY),
        ({"max_queue": -1}, "max_queue=-1" + MAX_QUEUE),
        ({"max_queue": True}, "max_queue=True" + MAX_QUEUE),
        ({"max_queue": 1.5}, "max_queue=1.5" + MAX_QUEUE),
        ({"max_queue": "9"}, "max_queue='9'" + MAX_QUEUE),
        weight(0),
        weight(-1),
        weight(math.nan),
        weight(math.inf),
        weight(True),
        weight("8"),
        (
            {"weights": {"chat": 1e300}},
            "the weight of key 'chat' is 1e+300, and weights are between 1e-9 and 1e9: keys share "
            "in proportion to their weights. Fix: weights={'chat': 8}.",
        ),
        (
            {"weights": {"chat": 10**400}},
            "the weight of key 'chat' is 1" + "0" * 76 + "..., not a finite number above 0: keys "
            "share in proportion to their weights. Fix: weights={'chat': 8}.",
        ),
        ({"weights": [("chat", 8)]}, "weights=[('chat', 8)]" + WEIGHTS),
        ({"weights": 5}, "weights=5" + WEIGHTS),
        ({"weights": 0}, "weights=0" + WEIGHTS),
        ({"keys": "abc"}, "keys='abc'" + KEYS),
        ({"keys": [1, 2]}, "keys=[1, 2]" + KEYS),
        ({"keys": ["ab"]}, "keys=['ab']" + KEYS),
        ({"keys": 5}, "keys=5" + KEYS),
        (
            {"keys": [([1], Limits())]},
            "key=[1] cannot name a flow of jobs: unhashable type: 'list', and keys are looked up. "
            "Fix: a string, a number, or a tuple of them.",
        ),
        ({"keys": {"a": Limits(AsyncLimiter(1, 1))}}, OWN),
        ({"keys": [("a", Limits(["1/s", AsyncLimiter(1, 1)]))]}, OWN),
        ({"retry": 5}, "retry=5" + RETRY),
        ({"retry": "x"}, "retry='x'" + RETRY),
        ({"retry": 0}, "retry=0" + RETRY),
        ({"retry": Retry}, f"retry={Retry!r}" + RETRY),
        ({"requests": b"600/min"}, "b'600/min'" + RATE),
        ({"keys": [("a", Limits()), ("a", Limits())]}, TWO_LIMITS),
        ({"keys": {"a": [Limits("10/s"), Limits("300/min")]}}, TWO_LIMITS),
        (
            {"keys": {"a": "600/min"}},
            "keys={'a': '600/min'}: the limits of a key are a Limits. "
            "Fix: keys={'a': Limits(\"600/min\", concurrency=8)}.",
        ),
    ],
)
def test_a_scheduler_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidLimit) as caught:
        Scheduler(**values)
    assert str(caught.value) == message


def test_a_retune_that_is_refused_changes_nothing() -> None:
    scheduler = Scheduler("10/s", tokens="1k/s", concurrency=3, weights={"a": 2})
    before = (scheduler.limits, scheduler.statistics().capacity, scheduler.statistics().pace)
    for values in (
        {"requests": "0/s"},
        {"concurrency": 0},
        {"weights": {"a": 0}},
        {"keys": {"a": 1}},
    ):
        with pytest.raises(InvalidLimit):
            scheduler.set_limits(**({"tokens": "9/s"} | values))
    after = (scheduler.limits, scheduler.statistics().capacity, scheduler.statistics().pace)
    assert after == before


LISTEN = "on_event=print, or a def that hands events on, say to a queue's put_nowait."
REFUSE = "is_refused=lambda reply: ..., or a def that returns True, False or a Kind."
OF_KEY = "a def that returns a Limits, or None for none."


class Listener:
    async def __call__(self, event: object) -> None: ...


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"on_event": "x"}, f"on_event='x' is not a function. Fix: {LISTEN}"),
        ({"is_refused": 5}, f"is_refused=5 is not a function. Fix: {REFUSE}"),
        ({"is_refused": False}, f"is_refused=False is not a function. Fix: {REFUSE}"),
        *(
            (
                {name: fn},
                f"{name}= takes a plain function and {called} is async: it is called where "
                f"nothing can be awaited. Fix: {fix}",
            )
            for name, fix in (("on_event", LISTEN), ("is_refused", REFUSE), ("keys", OF_KEY))
            for fn, called in (
                (ask, "ask"),
                (generator, "generator"),
                (Client().ask, "Client.ask"),
                (partial(ask, 1), "partial"),
                (Listener(), "Listener"),
            )
        ),
    ],
)
def test_functions_that_are_none_or_async(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        Scheduler(**values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            "600/min",
            "keys= returned '600/min' for key 'a': the limits of a key are a Limits. "
            'Fix: return Limits("600/min", concurrency=8), or None where the key has none.',
        ),
        (Limits(AsyncLimiter(1, 1)), OWN),
    ],
)
async def test_a_function_of_the_key_that_returns_no_limits(limits: Any, message: str) -> None:
    scheduler = Scheduler(concurrency=1, keys=lambda key: limits if key == "a" else None)
    with pytest.raises(InvalidLimit) as caught:
        await scheduler.with_options(key="a").submit(ask)
    assert str(caught.value) == message
    assert await scheduler.with_options(key="b").submit(ask, "next") == "next"
    assert (scheduler.statistics().sent, scheduler.statistics().in_flight) == (1, 0)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (None, None),
        (False, None),
        (True, Kind.RATE),
        ("capacity", Kind.CAPACITY),
        *((kind, kind) for kind in Kind),
    ],
)
def test_what_a_predicate_may_answer(answer: object, kind: Kind | None) -> None:
    assert kind_of(answer) is kind


@pytest.mark.parametrize("answer", ["overloaded", "CAPACITY", "", 0, 1, 429, [], {}, b"rate"])
def test_what_a_predicate_may_not_answer(answer: object) -> None:
    with pytest.raises(TypeError) as caught:
        kind_of(answer)
    assert str(caught.value) == (
        f"is_refused= returned {answer!r}, which is no answer. Fix: True (a rate refusal), a Kind "
        "such as Kind.CAPACITY, or False or None for no refusal; bool(...) where any value but an "
        "empty one is a refusal."
    )


def test_a_predicate_that_answers_with_an_awaitable() -> None:
    with pytest.raises(TypeError, match="is_refused= returned <coroutine object ask at "):
        kind_of(ask())  # and closes it: no warning of one that was never awaited


# Options

SECONDS = " is not a time in seconds above 0. Fix: {0}=30, or None for no limit."
PRIORITY = " is not a number: the higher goes first. Fix: priority=10."
NO_NUMBER = (
    " is not a number. Fix: the tokens that one attempt uses, or a function of the call's "
    "arguments that returns them."
)
NO_COUNT = " is not a count. Fix: a finite number from 0, the tokens that one attempt uses."


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"timeout": 0}, InvalidLimit, "timeout=0" + SECONDS.format("timeout")),
        ({"timeout": -1}, InvalidLimit, "timeout=-1" + SECONDS.format("timeout")),
        ({"timeout": math.nan}, InvalidLimit, "timeout=nan" + SECONDS.format("timeout")),
        ({"timeout": "30"}, InvalidLimit, "timeout='30'" + SECONDS.format("timeout")),
        ({"timeout": True}, InvalidLimit, "timeout=True" + SECONDS.format("timeout")),
        (
            {"timeout": 10**400},
            InvalidLimit,
            "timeout=1" + "0" * 76 + "..." + SECONDS.format("timeout"),
        ),
        (
            {"attempt_timeout": 0},
            InvalidLimit,
            "attempt_timeout=0" + SECONDS.format("attempt_timeout"),
        ),
        ({"priority": math.nan}, InvalidLimit, "priority=nan" + PRIORITY),
        ({"priority": "high"}, InvalidLimit, "priority='high'" + PRIORITY),
        ({"priority": True}, InvalidLimit, "priority=True" + PRIORITY),
        ({"priority": None}, InvalidLimit, "priority=None" + PRIORITY),
        ({"tokens": "900"}, TypeError, "tokens='900'" + NO_NUMBER),
        ({"tokens": True}, TypeError, "tokens=True" + NO_NUMBER),
        ({"tokens": -1}, ValueError, "tokens=-1" + NO_COUNT),
        ({"tokens": math.nan}, ValueError, "tokens=nan" + NO_COUNT),
        ({"tokens": math.inf}, ValueError, "tokens=inf" + NO_COUNT),
        ({"tokens": 1e16}, ValueError, "tokens=1e+16" + NO_COUNT),
        ({"tokens": 10**400}, ValueError, "tokens=1" + "0" * 76 + "..." + NO_COUNT),
        ({"tokens": 10**5000}, ValueError, "tokens=<int>" + NO_COUNT),
        ({"priority": 10**400}, InvalidLimit, "priority=1" + "0" * 76 + "..." + PRIORITY),
        (
            {"usage": 5},
            TypeError,
            "usage=5 is not a function. Fix: usage=lambda reply: reply.usage.total_tokens.",
        ),
        (
            {"key": [1]},
            TypeError,
            "key=[1] cannot name a flow of jobs: unhashable type: 'list', and keys are looked up. "
            "Fix: a string, a number, or a tuple of them.",
        ),
    ],
)
def test_options_refuse(values: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        Scheduler().with_options(**values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("tokens", "message"),
    [("900", "tokens='900'" + NO_NUMBER), (None, "tokens=None" + NO_NUMBER),
     (-1, "tokens=-1" + NO_COUNT), (math.nan, "tokens=nan" + NO_COUNT)],
)  # fmt: skip
async def test_tokens_that_are_no_count_leave_nothing_behind(tokens: Any, message: str) -> None:
    scheduler = Scheduler(tokens="1k/s", concurrency=1)
    view = scheduler.with_options(tokens=lambda question: tokens)
    with pytest.raises((TypeError, ValueError)) as caught:
        await view.submit(ask, "why?")
    assert str(caught.value) == message
    async with scheduler.lease(tokens=5) as lease:
        with pytest.raises((TypeError, ValueError)) as caught:
            lease.settle(tokens=tokens)
        assert str(caught.value) == message
    if tokens is not None:
        with pytest.raises((TypeError, ValueError)):
            scheduler.lease(tokens=tokens)
    assert await scheduler.submit(ask, "still works") == "still works"


async def test_more_tokens_than_any_window_can_hold() -> None:
    scheduler = Scheduler(tokens="180k/min", keys={"small": Limits(tokens="1k/s")})
    fix = (
        "it could never start. Fix: make the request smaller (prompt, max_tokens), or state the "
        "limit that the provider really gives."
    )
    with pytest.raises(NeverFits) as caught:
        await scheduler.with_options(tokens=200_000).submit(ask)
    assert str(caught.value) == (
        f"an attempt of 200,000 tokens is larger than the whole limit of 180k/min: {fix}"
    )
    with pytest.raises(NeverFits) as caught:
        async with scheduler.with_options(key="small").lease(tokens=1_001):
            pass
    assert str(caught.value) == (
        f"an attempt of 1,001 tokens is larger than the whole limit of key 'small' of 1000/s: {fix}"
    )
    with pytest.raises(NeverFits):
        await scheduler.with_options(tokens=200_000).map(ask, "abc")
    assert (scheduler.statistics().sent, scheduler.statistics().queued) == (0, 0)


# What is called


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (
            not_async,
            "not_async is not async: it returned str, which cannot be awaited. Fix: pass an async "
            "def function, or give plain functions to a headway.sync.Scheduler.",
        ),
        (
            generator,
            "generator is an async generator: it yields results and cannot be awaited. Fix: pass "
            "an async def function that returns its result.",
        ),
    ],
)
@pytest.mark.parametrize("way", CALLS)
async def test_what_is_not_async(fn: Callable[..., Any], message: str, way: str) -> None:
    scheduler = Scheduler(concurrency=2)
    with pytest.raises(TypeError) as caught:
        await use(scheduler, way, fn)
    assert str(caught.value) == message
    statistics = scheduler.statistics()
    assert (statistics.in_flight, statistics.queued, statistics.sent) == (0, 0, 1)


@pytest.mark.parametrize("way", ["submit", "map", "as_completed"])
@pytest.mark.parametrize("method", [False, True])
async def test_a_coroutine_object(way: str, method: bool) -> None:
    scheduler = Scheduler()
    name = "Client.ask" if method else "ask"
    call: Any = Client().ask("why?") if method else ask("why?")
    with pytest.raises(TypeError) as caught:
        await use(scheduler, way, call)
    assert str(caught.value) == (
        f"{way}() takes a function and got a coroutine object: {name}(...) was called already, so "
        f"it could never be retried. Fix: scheduler.{way}({name}, ...) with the arguments after "
        "it, or scheduler.gather() for coroutine objects."
    )


@pytest.mark.parametrize("way", ["submit", "map", "as_completed", "gather"])
async def test_the_result_of_a_call(way: str) -> None:
    answer: Any = "an answer"
    call = Scheduler().gather(answer) if way == "gather" else use(Scheduler(), way, answer)
    with pytest.raises(TypeError) as caught:
        await call
    assert str(caught.value) == (
        f"{way}() takes an async function and got str: 'an answer'. Fix: pass the function itself "
        "and its arguments after it."
    )


async def test_gather_closes_the_coroutines_of_a_call_that_it_refuses() -> None:
    with pytest.raises(TypeError):
        await Scheduler().gather(ask("a"), "an answer", ask("b"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pack", "name"),
    [(list, "list"), (tuple, "tuple"), (set, "set"), (iter, "tuple_iterator")],
)
async def test_gather_of_a_list(pack: Callable[[Any], Any], name: str) -> None:
    calls = (ask(1), ask(2))
    with pytest.raises(TypeError) as caught:
        await Scheduler().gather(pack(calls))
    assert str(caught.value) == (
        f"gather() takes each call as an argument of its own and got a {name}. Fix: gather(*calls)."
    )
    if name == "tuple_iterator":  # which is not ours to use up
        for call in calls:
            call.close()


async def test_gather_closes_what_any_of_its_arguments_holds() -> None:
    with pytest.raises(TypeError, match=r"got int: 5\."):
        await Scheduler().gather(ask(0), 5, [ask(1), "no call"], (ask(2),))  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["map", "as_completed"])
async def test_gather_of_a_run(way: str) -> None:
    scheduler = Scheduler()
    with pytest.raises(TypeError) as caught:
        await scheduler.gather(getattr(scheduler, way)(ask, [1]))
    fix = {
        "map": "`await scheduler.map(...)` by itself",
        "as_completed": "`async with scheduler.as_completed(fn, items) as outcomes:` and then "
        "`async for outcome in outcomes:`",
    }
    assert str(caught.value) == (
        f"gather() takes calls and got a {way}(), which runs its calls under the limits itself. "
        f"Fix: {fix[way]}."
    )


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_gather_of_a_future() -> None:
    future: Any = asyncio.get_running_loop().create_future()  # can be iterated over, and is no list
    with pytest.raises(TypeError, match=r"gather\(\) takes an async function and got Future: "):
        await Scheduler().gather(future)


@pytest.mark.parametrize("way", ["map", "as_completed"])
async def test_items_that_are_a_coroutine_object(way: str) -> None:
    with pytest.raises(TypeError) as caught:
        getattr(Scheduler(), way)(ask, ask(1))
    assert str(caught.value) == (
        f"{way}() takes items and got a coroutine object: ask(...) was called and not awaited. "
        "Fix: `await ask(...)` where it returns the items; scheduler.gather() runs coroutine "
        "objects."
    )


@pytest.mark.parametrize("way", ["map", "as_completed"])
async def test_items_that_are_no_items(way: str) -> None:
    with pytest.raises(TypeError) as caught:
        getattr(Scheduler(), way)(ask, 5)
    assert str(caught.value) == (
        "items must be an iterable or an async iterable, not int. Fix: a list, a generator, a "
        "range, or an async generator."
    )


@pytest.mark.parametrize(
    ("way", "fix"),
    [
        (
            "map",
            "`async with scheduler.map(fn, items) as results:` and then `async for result in "
            "results:`, or `results = await scheduler.map(fn, items)`",
        ),
        (
            "as_completed",
            "`async with scheduler.as_completed(fn, items) as outcomes:` and then `async for "
            "outcome in outcomes:`",
        ),
    ],
)
async def test_a_bare_loop(way: str, fix: str) -> None:
    with pytest.raises(TypeError) as caught:
        async for _ in getattr(Scheduler(), way)(ask, "abc"):
            pass
    assert str(caught.value) == (
        f"{way}() starts tasks that must end somewhere, so it cannot be looped over as it is. "
        f"Fix: {fix}."
    )


async def test_what_is_used_twice() -> None:
    scheduler = Scheduler()
    run = scheduler.map(ask, "ab")
    await run
    with pytest.raises(RuntimeError) as caught:
        await run
    assert str(caught.value) == "this map() has been used already. Fix: call map() again."
    lease = scheduler.lease()
    async with lease:
        pass
    with pytest.raises(RuntimeError) as caught:
        async with lease:
            pass
    assert str(caught.value) == (
        "this lease has been entered already, and a lease is one attempt. Fix: call "
        "lease() again, once for each attempt."
    )


# When and where it is used


async def test_more_jobs_than_max_queue() -> None:
    scheduler = Scheduler(concurrency=1, max_queue=2)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(scheduler.submit, ask)
        await anyio.sleep(0.1)
        with pytest.raises(QueueFull) as caught:
            await scheduler.submit(ask)
        assert str(caught.value) == (
            "2 jobs are waiting, which is max_queue: more are submitted than the limits let "
            "through. Fix: submit later, use map() (it waits for room), or raise max_queue."
        )
        assert await scheduler.map(ask, range(3)) == [0, 1, 2]  # waits for room


@pytest.mark.parametrize("way", WAYS)
async def test_after_aclose(way: str) -> None:
    scheduler = Scheduler()
    async with scheduler:
        await scheduler.submit(ask)
    with pytest.raises(SchedulerClosed) as caught:
        await use(scheduler, way)
    assert str(caught.value) == (
        "this Scheduler is closed: aclose() was called. Fix: make a new Scheduler, or close it "
        "later."
    )
    await scheduler.aclose()  # again, for nothing


WRONG_LOOP = (
    "this Scheduler is at work on another event loop (1 in flight, 1 queued) and was used from a "
    "second one. Fix: a headway.sync.Scheduler, which many loops and threads may use at once; or "
    "use this one again when its work is done."
)


def in_a_thread(act: Callable[[], object]) -> BaseException | None:
    """What `act` raises in a thread of its own."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


CHANGES = ["pause", "resume", "reset", "set_limits"]


@pytest.mark.parametrize("way", [*WAYS, "aclose", *CHANGES])
async def test_from_a_second_loop_or_thread_with_work_pending(way: str) -> None:
    scheduler = Scheduler(concurrency=1)
    acts: list[Callable[[], object]] = [lambda: asyncio.run(use(scheduler, way))]
    if way in CHANGES:  # in a thread with no loop at all, too
        acts.append(lambda: use(scheduler, way).send(None))
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(scheduler.submit, ask)
        await anyio.sleep(0.1)
        for act in acts:
            error = in_a_thread(act)
            assert isinstance(error, WrongLoop)
            assert str(error) == WRONG_LOOP
        # Nothing has changed, and the work goes on.
        assert scheduler.limits.concurrency == 1
        assert scheduler.statistics().binds == "concurrency"
    assert scheduler.statistics().succeeded == 2


async def test_from_a_second_loop_while_idle() -> None:
    scheduler = Scheduler(concurrency=1)
    assert await scheduler.submit(ask, 1) == 1
    answers: list[object] = []

    async def use() -> None:
        answers.append(await scheduler.with_options(timeout=9).submit(anyio.sleep, 0))

    assert in_a_thread(lambda: asyncio.run(use())) is None
    assert answers == [None]
    assert await scheduler.submit(ask, 2) == 2


@pytest.mark.parametrize("options", [{}, {"timeout": 5}])
def test_with_no_event_loop_at_all(options: dict[str, Any]) -> None:
    scheduler = Scheduler("1/min")
    scheduler.set_limits("2/min")
    scheduler.pause()
    scheduler.resume()
    scheduler.reset()
    assert scheduler.statistics().queued == 0
    with pytest.raises(RuntimeError, match="Not currently running on any asynchronous event loop"):
        scheduler.with_options(**options).submit(ask).send(None)  # type: ignore[attr-defined]
    assert scheduler.statistics().in_flight == 0


# Whatever is wrong, the slot comes back


class Broken:
    """A limiter of the application's that fails."""

    max_rate = 1.0
    time_period = 1.0

    def __init__(self) -> None:
        self.calls = 0

    async def acquire(self, amount: float = 1) -> None:
        self.calls += 1
        if self.calls % 2:
            raise ValueError("Can't acquire more than the maximum capacity")


@pytest.mark.parametrize("way", WAYS)
async def test_a_shared_limiter_that_fails(way: str) -> None:
    limiter = Broken()
    scheduler = Scheduler(limiter, concurrency=1)
    with pytest.raises(ValueError, match="maximum capacity"):
        await use(scheduler, way)
    statistics = scheduler.statistics()
    assert (statistics.in_flight, statistics.queued, statistics.sent) == (0, 0, 0)
    assert await scheduler.submit(ask, "next") == "next"
    assert scheduler.statistics().in_flight == 0


async def test_a_usage_that_fails_is_the_callers_error() -> None:
    scheduler = Scheduler(concurrency=1)
    view = scheduler.with_options(usage=lambda reply: reply.usage.total_tokens)
    with pytest.raises(AttributeError):
        await view.submit(ask, "no usage here")
    assert scheduler.statistics().in_flight == 0
    assert await scheduler.submit(ask, "next") == "next"


@pytest.mark.parametrize("used", ["12", -1, math.nan, math.inf, True, 1e16])
async def test_a_usage_that_is_no_count_is_charged_to_nobody(used: Any) -> None:
    scheduler = Scheduler(tokens="1k/s", concurrency=1)
    view = scheduler.with_options(tokens=100, usage=lambda reply: used)
    with pytest.raises(TypeError) as caught:
        await view.submit(ask)
    assert str(caught.value) == (
        f"usage= returned {used!r}, which is no count of tokens. Fix: a finite number from 0, or "
        "None where it is not known."
    )
    assert (scheduler.statistics().in_flight, scheduler.statistics().tokens) == (0, 0.0)
    assert await scheduler.with_options(tokens=900).submit(ask, "next") == "next"


@pytest.mark.parametrize("used", ["12", -1, math.nan, math.inf, 1e16, 10**400])
async def test_a_result_that_states_no_usable_usage_states_none(used: Any) -> None:
    async def answer() -> object:
        return {"usage": {"total_tokens": used}}

    scheduler = Scheduler(tokens="1k/s", concurrency=1)
    await scheduler.with_options(tokens=100).submit(answer)
    assert scheduler.statistics().tokens == 0.0
    assert await scheduler.with_options(tokens=900).submit(ask, "next") == "next"


async def as_completed(scheduler: Scheduler, items: Any) -> None:
    async with scheduler.as_completed(ask, items) as outcomes:
        async for _ in outcomes:
            pass


async def test_a_source_that_fails() -> None:
    def source() -> Any:
        yield 1
        raise KeyError("row 2")

    scheduler = Scheduler(concurrency=2)
    with pytest.raises(KeyError, match="row 2"):
        await scheduler.map(ask, source())
    with pytest.raises(KeyError, match="row 2"):
        await as_completed(scheduler, source())
    assert scheduler.statistics().in_flight == 0


def test_every_error_is_headways_own() -> None:
    errors = [
        getattr(headway, name)
        for name in headway.__all__
        if isinstance(getattr(headway, name), type)
        and issubclass(getattr(headway, name), Exception)
    ]
    assert len(errors) == 14
    assert all(issubclass(error, headway.HeadwayError) for error in errors)
    assert issubclass(InvalidLimit, ValueError)
    assert issubclass(NeverFits, ValueError)
    assert issubclass(WrongLoop, RuntimeError)
    assert issubclass(SchedulerClosed, RuntimeError)
    assert issubclass(headway.DeadlineExceeded, TimeoutError)
    assert issubclass(headway.MissingExtra, ImportError)
