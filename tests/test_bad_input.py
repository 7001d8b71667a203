"""Bad input on the public face: each is an error that says what, why and the fix, word by word."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
from aiolimiter import AsyncLimiter
from misuse import Client, ask, generator

import headway
from headway import (
    InvalidLimit,
    Kind,
    Limits,
    NeverFits,
    Retry,
    Scheduler,
    SchedulerClosed,
    WrongLoop,
)
from headway._runtime.calls import kind_of

pytestmark = pytest.mark.anyio


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


def test_every_error_is_headways_own() -> None:
    errors = [
        getattr(headway, name)
        for name in headway.__all__
        if isinstance(getattr(headway, name), type)
        and issubclass(getattr(headway, name), Exception)
    ]
    assert len(errors) == 15
    assert all(issubclass(error, headway.HeadwayError) for error in errors)
    assert issubclass(InvalidLimit, ValueError)
    assert issubclass(NeverFits, ValueError)
    assert issubclass(WrongLoop, RuntimeError)
    assert issubclass(SchedulerClosed, RuntimeError)
    assert issubclass(headway.DeadlineExceeded, TimeoutError)
    assert issubclass(headway.MissingExtra, ImportError)
    assert issubclass(headway.StoreUnavailable, headway.Unavailable)
