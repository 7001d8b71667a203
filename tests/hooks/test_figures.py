"""What statistics say, as metrics: the names, and which keys have some of their own."""

from __future__ import annotations

import logging
import math
from collections import Counter
from typing import Any

import anyio
import pytest
from hook import Failed, refuse_once

import headway
from headway import Cost, InvalidArgument, Kind, Scheduler
from headway.hooks.figures import FIGURES, Figure, Keys, Schedulers, version

pytestmark = pytest.mark.anyio


def figure(name: str) -> Figure:
    (found,) = [each for each in FIGURES if each.name == name]
    return found


def of(scheduler: Any, name: str, max_keys: int = 100) -> dict[tuple[str, ...], float]:
    schedulers = Schedulers({})
    schedulers.put("one", scheduler, max_keys)
    return dict(figure(name).samples(schedulers.read()))


def test_names_are_unique_and_none_is_the_namespace_of_another() -> None:
    names = [each.name for each in FIGURES]
    assert max(Counter(names).values()) == 1
    assert [a for a in names for b in names if b.startswith(f"{a}.")] == []


def test_every_figure_says_what_it_is_and_counters_alone_count() -> None:
    assert all(each.about.endswith(".") for each in FIGURES)
    assert {each.name for each in FIGURES if each.counts} == {
        f"{prefix}{name}"
        for prefix in ("", "key.")
        for name in ("requests", "jobs", "retries", "refusals", "tokens")
    }


async def test_they_say_what_statistics_say() -> None:
    scheduler = Scheduler(["600/min", "1000/day"], tokens="90k/min", concurrency=4)

    for n in range(3):
        async with scheduler.with_options(key="a", tokens=40).lease() as lease:
            lease.settle(tokens=Cost(input=10, cached=20, output=n))
    with pytest.raises(Failed):
        await scheduler.submit(refuse_once(400), 1)
    async with scheduler.lease() as lease:
        lease.settle(tokens=7)
    now = scheduler.statistics()
    assert of(scheduler, "requests") == {("one",): now.sent} == {("one",): 5}
    assert of(scheduler, "jobs")["one", "failed"] == now.failed == 1
    refused = of(scheduler, "refusals")
    assert {kind for _, kind in refused} == {*Kind}
    assert refused["one", "permanent"] == 1
    tokens = of(scheduler, "tokens")
    assert tokens == {
        ("one", "input"): 30, ("one", "cached_input"): 60, ("one", "output"): 3,
        ("one", "unknown"): now.tokens - 93,
    }  # fmt: skip
    binding = of(scheduler, "binding")
    assert sum(binding.values()) == 1
    assert binding["one", now.binds.value or "nothing"] == 1
    assert of(scheduler, "limit.stated") == {
        ("one", "requests", "60", "60"): 600, ("one", "requests", "86400", "86400"): 1000,
        ("one", "tokens", "60", "60"): 90_000,
    }  # fmt: skip
    assert of(scheduler, "limit.frees_in") == {("one", "requests", "86400", "86400"): 0}
    assert of(scheduler, "key.requests") == {("one", "a"): 3, ("one", "None"): 2}
    assert of(scheduler, "keys") == {("one",): 2}
    assert of(scheduler, "shared.workers") == {}


async def test_what_is_infinite_is_left_out() -> None:
    scheduler = Scheduler("10/s")
    assert math.isinf(scheduler.statistics().capacity)
    assert of(scheduler, "concurrency.limit") == {}
    scheduler.pause()
    assert of(scheduler, "next_start") == {}
    assert of(scheduler, "binding")["one", "paused"] == 1


async def test_two_limits_of_one_name_are_one_sample() -> None:
    assert len(of(Scheduler(["10/s", "10/s"]), "limit.stated")) == 1


async def test_the_first_keys_have_metrics_and_keep_them() -> None:
    scheduler = Scheduler()
    keys = Keys(2)
    for name in "abc":
        async with scheduler.with_options(key=name).lease():
            await anyio.sleep(0.1)
        assert set(keys.of(scheduler.statistics())) <= {"a", "b"}
    assert set(keys.of(scheduler.statistics())) == {"a", "b"}
    assert of(scheduler, "key.requests", max_keys=0) == {}
    assert of(scheduler, "requests", max_keys=0) == {("one",): 3}


@pytest.mark.parametrize("most", [-1, 2.5, True, "9", None])
def test_what_is_no_number_of_keys(most: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"max_keys=.* is not a whole number from 0"):
        Keys(most)


@pytest.mark.parametrize("thing", [None, Scheduler, object(), "https://x"])
def test_what_is_no_scheduler(thing: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"is no scheduler: it has no statistics\(\)"):
        Schedulers({}).put("one", thing, 100)


@pytest.mark.parametrize("name", ["", None, 3])
async def test_what_is_no_name(name: Any) -> None:
    with pytest.raises(InvalidArgument, match="is no name of a scheduler"):
        Schedulers({}).put(name, Scheduler(), 100)


async def test_one_whose_statistics_raise_is_told_once_and_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def statistics(self) -> Any:
            raise KeyError("a bug")

    schedulers = Schedulers({})
    schedulers.put("good", Scheduler(), 100)
    schedulers.put("bad", Broken(), 100)
    with caplog.at_level(logging.ERROR, "headway"):
        for _ in range(3):
            assert [measurement.name for measurement in schedulers.read()] == ["good"]
    (record,) = caplog.records
    assert record.getMessage() == (
        "the statistics of the scheduler bad cannot be had: its metrics are left out; this is told "
        "once"
    )


def test_what_is_removed_must_be_there() -> None:
    with pytest.raises(InvalidArgument, match="there is no scheduler called 'x' here"):
        Schedulers({}).remove("x")


def test_the_version_is_that_of_the_package() -> None:
    assert version() == headway.__version__


async def test_a_key_that_looks_like_a_credential_is_hidden_and_told_apart() -> None:
    first, second = f"sk-{'a' * 20}", f"sk-{'b' * 20}"
    scheduler = Scheduler()
    for key, jobs in ((first, 1), (second, 2), (("tenant", first), 3)):
        for _ in range(jobs):
            await scheduler.with_options(key=key).submit(anyio.sleep, 0)
    assert of(scheduler, "key.requests") == {
        ("one", "***"): 1, ("one", "*** (2)"): 2, ("one", "('tenant', '***')"): 3,
    }  # fmt: skip
    keys = Keys(3)
    assert [keys.name_of(key) for key in (second, first, "chat", second)] == [
        "***", "*** (2)", "chat", "***",
    ]  # fmt: skip
    assert keys.name_of("another") is None
