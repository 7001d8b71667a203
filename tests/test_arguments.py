"""What is public and given a wrong argument raises one family of errors, with the fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import sdks

import headway
from headway import InvalidArgument, InvalidLimit, Limits, Rate, Recent, Retry, Scheduler
from headway.bulk import RunOptions, Shape, Shard, check, find_endpoint, open_source, run
from headway.estimate import Estimator
from headway.httpx import AsyncTransport
from headway.prices import InvalidPrices, Price, Prices
from headway.providers import InvalidSettings

pytestmark = pytest.mark.anyio

Call = Callable[[Any], Any]


async def ask(item: object = None) -> object:
    return item


async def submitted(*args: Any, **options: Any) -> Any:
    return await Scheduler().with_options(**options).submit(*args)


async def settled(tokens: Any) -> None:
    async with Scheduler().lease() as lease:
        lease.settle(tokens=tokens)


async def warmed(url: Any = "http://test", **options: Any) -> None:
    transport = AsyncTransport(Scheduler(), httpx.MockTransport(lambda request: None))
    await transport.warm(url, **options)


async def ran(**given: Any) -> None:
    await run("nowhere.jsonl", **{"scheduler": Scheduler(), **given})


RATES: list[Any] = ["600", "600/fortnight", "-1/min", "", 600, 2.5, True, b"600/min", {}, object(),
                    ["600/min", None], "nan/min", "1e400/min"]  # fmt: skip
WHOLE: list[Any] = [0, -1, 2.5, True, "8", [], object(), float("nan")]
SECONDS: list[Any] = [0, -1, True, "30", [], object(), float("nan")]
COUNTS: list[Any] = [-1, True, "8", [], object(), float("nan"), float("inf"), 1e300]
FUNCTIONS: list[Any] = [1, "print", [], object(), ask]
TEXTS: list[Any] = [3, b"text", ["text"], True]
UNHASHABLE: list[Any] = [[], {}, {1}, ([],)]

LIMITS: dict[str, tuple[Call, list[Any]]] = {
    "requests=": (lambda bad: Scheduler(bad), RATES),
    "tokens=": (lambda bad: Scheduler(tokens=bad), RATES),
    "concurrency=": (lambda bad: Scheduler(concurrency=bad), WHOLE),
    "max_queue=": (lambda bad: Scheduler(max_queue=bad), [each for each in WHOLE if each != 0]),
    "retry=": (lambda bad: Scheduler(retry=bad), [5, "5", False, {}, Retry]),
    "keys=": (
        lambda bad: Scheduler(keys=bad),
        [1, "a", {"a": 1}, {"a": "600/min"}, [("a",)], [([], Limits())], [1]],
    ),
    "weights=": (
        lambda bad: Scheduler(weights=bad),
        [1, "a", [("a", 1)], {"a": 0}, {"a": "1"}, {"a": True}, {"a": 1e99}],
    ),
    "set_limits(requests=)": (lambda bad: Scheduler().set_limits(bad), RATES),
    "set_limits(concurrency=)": (lambda bad: Scheduler().set_limits(concurrency=bad), WHOLE),
    "Limits(requests=)": (lambda bad: Limits(bad), RATES),
    "Limits(tokens=)": (lambda bad: Limits(tokens=bad), RATES),
    "Limits(concurrency=)": (lambda bad: Limits(concurrency=bad), WHOLE),
    "Rate.parse": (Rate.parse, [*RATES, Rate(1)]),
    "Rate(limit)": (lambda bad: Rate(bad), SECONDS),
    "Rate(per=)": (lambda bad: Rate(1, per=bad), SECONDS),
    "Rate(window=)": (lambda bad: Rate(1, window=bad), [*SECONDS, 61]),
    "Rate(burst=)": (lambda bad: Rate(10, burst=bad), [*WHOLE, 11]),
    "Rate(jitter=)": (lambda bad: Rate(10, jitter=bad), [-1, "1", True, [], float("inf")]),
    "Retry(attempts=)": (lambda bad: Retry(attempts=bad), WHOLE),
    "Retry(on=)": (
        lambda bad: Retry(on=bad),
        [5, "rate", [[]], [{}], [{1}], [None], [True], [99], ["fast"], [b"rate"], [object()]],
    ),
    "Retry(latch=)": (lambda bad: Retry(latch=bad), [0, None, "no", []]),
    "Retry(wait_out=)": (lambda bad: Retry(wait_out=bad), [0, None, "no", []]),
    "Retry(base=)": (lambda bad: Retry(base=bad), [-1, "1", True, [], float("nan")]),
    "Retry(cap=)": (lambda bad: Retry(cap=bad), [-1, "1", True, [], float("nan")]),
    "Retry(patience=)": (lambda bad: Retry(patience=bad), [-1, "1", True, float("nan")]),
    "Retry(budget=)": (lambda bad: Retry(budget=bad), [-1, "1", True, [], float("nan")]),
    "timeout=": (lambda bad: Scheduler().with_options(timeout=bad), SECONDS),
    "attempt_timeout=": (lambda bad: Scheduler().with_options(attempt_timeout=bad), SECONDS),
    "priority=": (
        lambda bad: Scheduler().with_options(priority=bad),
        [None, "1", True, [], float("nan")],
    ),
}

ARGUMENTS: dict[str, tuple[Call, list[Any]]] = {
    "on_event=": (lambda bad: Scheduler(on_event=bad), [1, "print", object(), ask, [1], [ask]]),
    "is_refused=": (lambda bad: Scheduler(is_refused=bad), FUNCTIONS),
    "eager=": (lambda bad: Scheduler(eager=bad), [1, "yes", None, []]),
    "key=": (lambda bad: Scheduler().with_options(key=bad), UNHASHABLE),
    "tokens= of options": (lambda bad: Scheduler().with_options(tokens=bad), [*COUNTS, ask]),
    "usage=": (lambda bad: Scheduler().with_options(usage=bad), FUNCTIONS),
    "lease(tokens=)": (lambda bad: Scheduler().lease(tokens=bad), COUNTS),
    "try_lease(tokens=)": (lambda bad: Scheduler().try_lease(tokens=bad), COUNTS),
    "would_wait(tokens=)": (lambda bad: Scheduler().would_wait(tokens=bad), COUNTS),
    "would_wait(key=)": (lambda bad: Scheduler().would_wait(key=bad), UNHASHABLE),
    "record(tokens=)": (lambda bad: Scheduler().record(tokens=bad), [None, *COUNTS]),
    "record(requests=)": (lambda bad: Scheduler().record(requests=bad), [None, 0.5, *COUNTS]),
    "record(key=)": (lambda bad: Scheduler().record(key=bad), UNHASHABLE),
    "clear(key=)": (lambda bad: Scheduler().clear(key=bad), UNHASHABLE),
    "settle(tokens=)": (settled, [None, *COUNTS]),
    "submit(fn)": (submitted, [1, "ask", None, [], object(), print]),
    "tokens= function": (lambda bad: submitted(ask, tokens=lambda: bad), [None, *COUNTS]),
    "usage= function": (lambda bad: submitted(ask, usage=lambda reply: bad), COUNTS),
    "map(fn)": (lambda bad: Scheduler().map(bad, [1]), [1, "ask", None, [], object()]),
    "map(progress=)": (
        lambda bad: Scheduler().map(ask, [1], progress=bad),
        [1, None, "bar", ask],
    ),
    "limit(fn)": (lambda bad: Scheduler().limit(bad), [1, "ask", None, [], object(), print]),
    "batches(items)": (lambda bad: Scheduler().batches(bad, 5), [1, None, "text", object()]),
    "batches(size)": (lambda bad: Scheduler().batches([1], bad), WHOLE),
    "batches(tokens=)": (lambda bad: Scheduler().batches([1], 5, tokens=bad), [0, *COUNTS[:-1]]),
    "map(items)": (lambda bad: Scheduler().map(ask, bad), [1, None, object(), print]),
    "as_completed(fn)": (lambda bad: Scheduler().as_completed(bad, [1]), [1, None, object()]),
    "as_completed(items)": (lambda bad: Scheduler().as_completed(ask, bad), [1, None, object()]),
    "gather(call)": (lambda bad: Scheduler().gather(bad), [1, None, "ask", [ask], object()]),
    "AsyncTransport(scheduler)": (
        lambda bad: AsyncTransport(bad),
        [None, 1, "s", object(), Scheduler, httpx.AsyncClient],
    ),
    "AsyncTransport(transport)": (
        lambda bad: AsyncTransport(Scheduler(), bad),
        [1, "t", object(), httpx.AsyncHTTPTransport, httpx.HTTPTransport()],
    ),
    "AsyncTransport(tokens=)": (
        lambda bad: AsyncTransport(Scheduler(), tokens=bad),
        FUNCTIONS,
    ),
    "AsyncTransport(together_unit=)": (
        lambda bad: AsyncTransport(Scheduler(), together_unit=bad),
        [1, "hour", [], True, {}],
    ),
    "AsyncTransport(is_refused=)": (
        lambda bad: AsyncTransport(Scheduler(), is_refused=bad),
        FUNCTIONS,
    ),
    "warm(connections=)": (lambda bad: warmed(connections=bad), WHOLE),
    "warm(timeout=)": (lambda bad: warmed(timeout=bad), SECONDS),
    "client(scheduler)": (lambda bad: sdks.ours.client(bad), [None, 1, object(), Scheduler]),
    "warm(url)": (lambda bad: warmed(bad), [1, None, b"http://test", "test", "ftp://test", ""]),
    "map(return_exceptions=)": (
        lambda bad: Scheduler().map(ask, [1], return_exceptions=bad),
        ["x", 1, None],
    ),
    "gather(return_exceptions=)": (
        lambda bad: Scheduler().gather(return_exceptions=bad),
        ["x", 1, None],
    ),
    "Recent.share": (Recent(1.0, 1, {}).share, ["x", 1, [], object()]),
    "run(scheduler=)": (
        lambda bad: ran(scheduler=bad),
        [None, 1, Scheduler, Scheduler().with_options()],
    ),
    "run(endpoint=)": (lambda bad: ran(endpoint=bad), ["openai", 1, object()]),
    "run(client=)": (lambda bad: ran(client=bad), [1, httpx.AsyncClient, object()]),
    "run(watch=)": (lambda bad: ran(watch=bad), FUNCTIONS),
    "run(drain=)": (lambda bad: ran(drain=bad), [1, True, object()]),
    "run(source)": (lambda bad: run(bad, scheduler=Scheduler()), [1, None, []]),
    "run(output)": (lambda bad: run("in.jsonl", bad, scheduler=Scheduler()), [1, []]),
    "run(options=)": (lambda bad: ran(options=bad), [1, {}, RunOptions]),
    "Estimator(quantile=)": (Estimator, [0, 1, -1, 2, True, "0.9", None, float("nan")]),
}

SETTINGS: dict[str, tuple[Call, list[Any]]] = {
    "client(api_key=)": (
        lambda bad: sdks.ours.client(Scheduler(), api_key=bad),
        [1, "", " ", "a b", b"k"],
    ),
    "client(base_url=)": (
        lambda bad: sdks.ours.client(Scheduler(), api_key="k", base_url=bad),
        [1, "x", "ftp://x", "https://x/v1", object()],
    ),
    "find_endpoint(provider)": (find_endpoint, ["nobody", 1, [], object()]),
    "find_endpoint(base_url=)": (lambda bad: find_endpoint(base_url=bad), ["x", "ftp://x", 1, []]),
    "find_endpoint(key=)": (lambda bad: find_endpoint(key=bad), [1, "a b", " ", []]),
}

PRICES: dict[str, tuple[Call, list[Any]]] = {
    "Price(input)": (lambda bad: Price(bad, 1), [None, -1, "1", True, float("inf")]),
    "Price(cached=)": (lambda bad: Price(1, 1, bad), [-1, "1", True, float("nan")]),
    "Prices(table)": (Prices, [1, "prices.toml", [1], {"m": 1}, {"m": {"input": 1}}]),
    "Prices(wall_time=)": (lambda bad: Prices(wall_time=bad), [1, None, "now"]),
    "Prices.read": (Prices.read, ["nowhere.toml", "prices.txt", 1, None]),
}

SHARDS: dict[str, tuple[Call, list[Any]]] = {
    "Shard": (lambda bad: Shard(bad, 2), [-1, 2, "0", None, 0.5, True]),
    "Shard.parse": (Shard.parse, ["1", "a/b", "2/2", "", 1, None]),
    "open_source(limit=)": (lambda bad: open_source("-", Shape(), limit=bad), WHOLE),
    "open_source(shape)": (lambda bad: open_source("-", bad), [None, {}, Shape]),
    "open_source(shard=)": (lambda bad: open_source("-", Shape(), shard=bad), ["0/2", 1]),
    "open_source(trust_ids=)": (lambda bad: open_source("-", Shape(), trust_ids=bad), [1, None]),
    "open_source(spool=)": (lambda bad: open_source("-", Shape(), spool=bad), ["folder", 1]),
    "check(source)": (check, ["in.jsonl", None]),
    "Shape(endpoint=)": (lambda bad: Shape(endpoint=bad), TEXTS),
    "Shape(model=)": (lambda bad: Shape(model=bad), TEXTS),
    "Shape(prompt_column=)": (lambda bad: Shape(prompt_column=bad), TEXTS),
    "Shape(id_column=)": (lambda bad: Shape(id_column=bad), TEXTS),
    "Shape(template=)": (lambda bad: Shape(template=bad), TEXTS),
    "Shape(system=)": (lambda bad: Shape(system=bad), TEXTS),
    "Shape(parameters=)": (lambda bad: Shape(parameters=bad), [None, 1, "a=1", [1], {1: 2}]),
    "open_source(path)": (lambda bad: open_source(bad, Shape()), [1, None, [], "/no/where"]),
}


async def others(
    table: dict[str, tuple[Call, list[Any]]], kind: type[InvalidArgument], fix: str = "Fix: "
) -> list[str]:
    """Of all that is wrong in `table`, what is taken, or raises another error than a `kind` with a
    fix, which both `except` clauses of old catch.
    """
    found = []
    for name, (call, values) in table.items():
        for bad in values:
            try:
                made = call(bad)
                if hasattr(made, "__await__"):
                    await made
            except Exception as error:
                old = isinstance(error, TypeError) and isinstance(error, ValueError)
                ours = isinstance(error, headway.HeadwayError) and type(error) is kind
                if not (old and ours and fix in str(error)):
                    found.append(f"{name}: {bad!r} raises {error!r}")
            else:
                found.append(f"{name}: {bad!r} is taken")
    return found


def check(found: list[str]) -> None:
    assert not found, "\n".join(found)


async def test_a_wrong_limit() -> None:
    check(await others(LIMITS, InvalidLimit))


async def test_a_wrong_argument() -> None:
    check(await others(ARGUMENTS, InvalidArgument))


async def test_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", "k")
    check(await others(SETTINGS, InvalidSettings, fix=""))


async def test_a_wrong_price() -> None:
    check(await others(PRICES, InvalidPrices))


async def test_a_wrong_shard_or_input() -> None:
    check(await others(SHARDS, headway.bulk.InvalidInput, fix=""))


async def test_what_is_used_twice_says_so() -> None:
    scheduler = Scheduler()
    lease = scheduler.lease()
    async with lease:
        pass
    results = scheduler.map(ask, [1])
    assert await results == [1]
    for again in (lease.__aenter__, results.__aenter__):
        with pytest.raises(headway.AlreadyUsed, match="Fix: ") as caught:
            await again()
        assert isinstance(caught.value, RuntimeError)


async def test_a_plain_loop_over_a_run_says_how() -> None:
    with pytest.raises(InvalidArgument, match="Fix: "):
        async for _ in Scheduler().map(ask, [1]):  # type: ignore[attr-defined]
            pass
