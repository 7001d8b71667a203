"""Planning: the simulation is the shell; the numbers of a plan; what it says."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import anyio
import pytest
from clocks import VIRTUAL
from depth import depth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway import InvalidLimit, Limits, Rate, Scheduler
from headway.bulk.input.formats import BadLine, Request
from headway.bulk.plan import plan as planning
from headway.bulk.plan.calibration import Calibration
from headway.bulk.plan.plan import plan
from headway.bulk.plan.simulation import Simulation, Work, simulate
from headway.bulk.plan.text import as_json, describe
from headway.prices import Price, Prices

LIMITS = {
    "nothing": {},
    "rate": {"requests": "600/min"},
    "slow rate": {"requests": "20/min"},
    "rates": {"requests": ["10/s", "120/min"]},
    "burst": {"requests": Rate(300, burst=20)},
    "window": {"requests": Rate(600, per=60, window=1)},
    "tokens": {"tokens": "60k/min"},
    "tight tokens": {"tokens": "2500/min"},
    "token rates": {"tokens": ["3k/s", "60k/min"]},
    "concurrency": {"concurrency": 5},
    "one": {"concurrency": 1},
    "all": {"requests": "300/min", "tokens": "60k/min", "concurrency": 8},
    "all, windows": {
        "requests": Rate(300, per=60, window=1),
        "tokens": Rate(60_000, per=60, window=5),
        "concurrency": 30,
    },
    "all, burst": {"requests": Rate(300, burst=20), "tokens": "100k/min", "concurrency": 16},
}


async def real(
    limits: Limits, works: Sequence[Work], seconds: Sequence[float]
) -> tuple[float, list[float]]:
    """When the run began, and when each call was made, NaN where it never was."""
    scheduler = Scheduler(
        limits.requests or None, tokens=limits.tokens or None, concurrency=limits.concurrency
    )
    view = scheduler.with_options(tokens=lambda n: works[n].reserved, usage=lambda n: works[n].used)
    starts = [math.nan] * len(works)
    began = anyio.current_time()

    async def call(n: int) -> int:
        starts[n] = anyio.current_time()
        await anyio.sleep(seconds[n])
        return n

    async with view.as_completed(call, range(len(works))) as outcomes:
        async for _ in outcomes:
            pass
    return began, starts


def compare(backend: str, limits: Limits, works: list[Work], seconds: list[float]) -> Simulation:
    name, options = VIRTUAL[backend]()
    began, starts = anyio.run(real, limits, works, seconds, backend=name, backend_options=options)
    left = iter(seconds)
    told = [work._replace(output=next(left)) for work in works]  # the seconds ride along
    found = simulate(told, limits, latency=lambda work: work.output, start=began, trace=True)
    assert found.calls == len(works) == len(found.starts)
    for n, (ours, theirs) in enumerate(zip(found.starts, starts, strict=True)):
        assert math.isnan(ours) == math.isnan(theirs), n
        assert math.isnan(ours) or abs(ours - theirs) <= 1e-9, (n, ours - began, theirs - began)
    return found


@pytest.mark.parametrize("backend", sorted(VIRTUAL))
@pytest.mark.parametrize("name", LIMITS)
def test_the_trace_is_that_of_the_shell(name: str, backend: str) -> None:
    rng = Random(name)
    limits = Limits(**LIMITS[name])  # type: ignore[arg-type]
    works = [
        Work(reserved := rng.randint(1, 2400), rng.uniform(0, 1.2 * reserved))
        for _ in range(depth(50, 400))
    ]
    found = compare(backend, limits, works, [rng.lognormvariate(0, 1.2) for _ in works])
    assert found.seconds > 0


@pytest.mark.parametrize("backend", sorted(VIRTUAL))
@pytest.mark.parametrize("name", LIMITS)
@settings(max_examples=depth(3, 100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_the_calls_the_trace_is_that_of_the_shell(
    name: str, backend: str, data: st.DataObject
) -> None:
    # Calls that end in the very same moment settle in whatever order the event loop likes, so no
    # two of them do: each has microseconds of its own.
    n = data.draw(st.integers(0, 60))
    reserved = data.draw(st.lists(st.integers(0, 3000), min_size=n, max_size=n))
    used = data.draw(st.lists(st.floats(0, 3000), min_size=n, max_size=n))
    seconds = data.draw(st.lists(st.integers(0, 120_000), min_size=n, max_size=n))
    compare(
        backend,
        Limits(**LIMITS[name]),  # type: ignore[arg-type]
        [Work(*both) for both in zip(reserved, used, strict=True)],
        [(one + 1) / 1000 + (number + 1) * math.pi * 1e-6 for number, one in enumerate(seconds)],
    )


@pytest.mark.parametrize(
    ("limits", "backend"),
    [
        (Limits(Rate(3000, per=60, window=1)), "asyncio"),
        (Limits(tokens="3M/min"), "trio"),
        (Limits("6000/min", tokens="2M/min"), "asyncio"),
        (Limits(), "trio"),
    ],
    ids=str,
)
def test_without_a_concurrency_there_are_a_thousand_workers(limits: Limits, backend: str) -> None:
    """Calls take longer than a thousand workers can keep up with: the workers are what binds."""
    rng = Random(4)
    works = [Work(500, rng.uniform(100, 900)) for _ in range(depth(1400, 2000))]
    found = compare(backend, limits, works, [rng.uniform(30, 90) for _ in works])
    assert 1000 <= found.most_in_flight <= 1016
    assert found.binds["concurrency"] > found.seconds / 4


@pytest.mark.parametrize("backend", sorted(VIRTUAL))
def test_one_end_that_lets_many_go_brings_workers_that_stand_by(backend: str) -> None:
    """A large refund starts a thousand, and `Workers.slots` takes those for others' jobs."""
    works = [Work(20_000, 10), *[Work(1, 1)] * 1100]
    seconds = [1.0, *(100 + n * math.pi * 1e-6 for n in range(1100))]
    found = compare(backend, Limits(tokens="60k/min"), works, seconds)
    assert found.most_in_flight == 1016


@pytest.mark.parametrize("backend", sorted(VIRTUAL))
def test_the_first_to_wait_is_polled_for(backend: str) -> None:
    """The queue was empty when an end polled: what waits after it has to be asked about."""
    works = [Work(0, 2111), *[Work(0, 0)] * 5, Work(767, 0), Work(202, 0), *[Work(1, 0)] * 9]
    seconds = [0.001, 1.887, 1.684, 1.483, 1.282, 1.081, 0.688, 0.431, 0.192, *[0.001] * 8]
    spread = [one + n * math.pi * 1e-6 for n, one in enumerate(seconds)]
    compare(backend, Limits("300/min", tokens="60k/min", concurrency=8), works, spread)


@pytest.mark.parametrize("backend", sorted(VIRTUAL))
def test_calls_that_never_fit_are_passed_over(backend: str) -> None:
    rng = Random(5)
    works = [Work(rng.choice([100, 20_000]), 90) for _ in range(300)]
    found = compare(
        backend, Limits(tokens="10k/min", concurrency=7), works, [rng.random() for _ in works]
    )
    assert found.too_large == sum(work.reserved > 10_000 for work in works) > 100


@pytest.mark.parametrize("backend", sorted(VIRTUAL))
@pytest.mark.parametrize("name", ["rate", "burst", "concurrency", "one", "window"])
def test_calls_that_all_take_the_same_time(name: str, backend: str) -> None:
    """What ends in the same moment makes no difference where no tokens are counted."""
    limits = Limits(**LIMITS[name])  # type: ignore[arg-type]
    compare(backend, limits, [Work(0, 0)] * 200, [0.25] * 200)
    compare(backend, limits, [Work(0, 0)] * 200, [0.0] * 200)


# -- what a simulation tells --


def test_nothing_to_do() -> None:
    found = simulate([], Limits("600/min"), latency=lambda work: 1.0)
    assert (found.calls, found.seconds, dict(found.binds)) == (0, 0.0, {})


def test_what_binds_adds_up_to_the_time() -> None:
    rng = Random(6)
    for name in LIMITS:
        limits = Limits(**LIMITS[name])  # type: ignore[arg-type]
        works = [Work(rng.randint(1, 2000), rng.uniform(1, 2000)) for _ in range(300)]
        found = simulate(works, limits, latency=lambda work: rng.expovariate(0.3))
        assert sum(found.binds.values()) == pytest.approx(found.seconds)
        assert found.tokens == pytest.approx(sum(work.used for work in works))
        assert not found.starts


@pytest.mark.parametrize(
    ("limits", "what", "seconds"),
    [
        (Limits("60/min", concurrency=50), "requests", 1000 / (60 / 60.31)),
        (Limits(tokens="60k/min", concurrency=50), "tokens", 1000 * 600 / (60_000 / 60.31)),
        (Limits("6000/min", concurrency=4), "concurrency", 1000 * 2.0 / 4),
    ],
)
def test_the_limit_that_binds_sets_the_time(limits: Limits, what: str, seconds: float) -> None:
    works = [Work(600, 600) for _ in range(1000)]
    found = simulate(works, limits, latency=lambda work: 2.0)
    assert found.binds[what] > 0.95 * found.seconds
    assert found.seconds == pytest.approx(seconds, rel=0.02)


def test_items_are_taken_as_they_are_needed() -> None:
    taken = 0
    lead = 0

    def works() -> Iterator[Work]:
        nonlocal taken
        for _ in range(2000):
            taken += 1
            yield Work(1, 1)

    started = 0

    def latency(work: Work) -> float:
        nonlocal started, lead
        started += 1
        lead = max(lead, taken - started)
        return 1.0

    simulate(works(), Limits("600/min", concurrency=16), latency=latency)
    assert started == 2000
    assert lead <= 32


def test_what_nothing_can_simulate() -> None:
    class Bucket:
        max_rate = 1.0
        time_period = 1.0

        async def acquire(self, amount: float = 1) -> None: ...

    with pytest.raises(InvalidLimit) as caught:
        simulate([], Limits(Bucket()), latency=lambda work: 1.0)
    assert str(caught.value) == (
        "an AsyncLimiter cannot be simulated: only awaiting it tells what it does. "
        'Fix: state its rate, as requests="600/min".'
    )


# -- plans --


def a_line(
    body: bytes,
    max_tokens: int = 100,
    url: str = "/v1/chat/completions",
    model: str | None = "m",
) -> Request:
    return Request(1, "a", url, body, max_tokens, model)


def a_bad_line() -> BadLine:
    return BadLine(1, None, "invalid_json", "line 1 is not valid JSON")


def lines(count: int, **options: Any) -> list[Any]:
    return [a_line(b"x" * 400, **options) for _ in range(count)]


def test_tokens_without_a_calibration() -> None:
    found = plan([*lines(10), a_bad_line(), *lines(5, max_tokens=0)], Limits(concurrency=4))
    assert (found.simulation.calls, found.bad) == (15, 1)
    assert found.input_tokens == 15 * 100
    assert found.output_tokens == 10 * 100 + 5 * 500
    assert found.cost is None
    # 0.5 s, and 60 tokens a second
    assert found.simulation.busy == pytest.approx(15 * 0.5 + found.output_tokens / 60)
    assert found.assumed == (
        "The input is estimated: a token for 4 bytes of the request.",
        "Answers count as long as their max_tokens: the cost and the time are at most so.",
        "5 requests state no max_tokens: 500 a piece.",
        "For better numbers run some of it first: headway run … --limit 100.",
        "A call takes 500 ms and 1 s more for every 60 tokens of its answer.",
        "No call is refused or fails.",
    )


@pytest.mark.parametrize("url", ["/v1/embeddings", "/v1/rerank"])
def test_what_has_no_answer_has_no_output(url: str) -> None:
    found = plan(lines(10, url=url, max_tokens=0), Limits(concurrency=4))
    assert (found.input_tokens, found.output_tokens) == (1000, 0)


def test_tokens_as_earlier_runs_used_them() -> None:
    known = Calibration.from_models(
        {
            "m": {"rows": 10, "bytes": 4000, "input": 800, "output": 300},
            "other": {"rows": 30, "bytes": 4000, "input": 1200, "output": 1700},
            "empty": {"rows": 0, "bytes": 0},
        },
        [3.0, 1.0, 2.0, math.inf],
    )
    found = plan(lines(1000), Limits(concurrency=4), calibration=known)
    assert found.input_tokens == pytest.approx(1000 * 80)
    assert found.output_tokens == pytest.approx(1000 * 30)
    assert 1.0 <= found.simulation.busy / 1000 <= 3.0
    assert found.simulation.busy / 1000 == pytest.approx(2.0, rel=0.05)
    assert found.assumed[0] == "Tokens are as earlier runs used them (40 answers)."
    assert "Calls take as long as in earlier runs, 2 s in the middle." in found.assumed
    # of a model that is new: as the others, and never more than max_tokens
    found = plan(lines(10, model="new", max_tokens=20), Limits(concurrency=4), calibration=known)
    assert found.input_tokens == pytest.approx(10 * 400 * 2000 / 8000)
    assert found.output_tokens == pytest.approx(10 * 20)
    assert found.assumed[1] == "1 model is new: it counts as the others, on average."


def test_costs_and_what_has_no_price() -> None:
    prices = Prices({"m": Price(1.0, 2.0)})
    found = plan(
        [*lines(10), *lines(3, model="no-such"), *lines(2, model=None)],
        Limits(concurrency=4), prices=prices,
    )  # fmt: skip
    assert found.cost == pytest.approx(10 * (100 * 1.0 + 100 * 2.0) / 1e6)
    assert found.unpriced == 5
    assert "$0.003, and 5 requests of models without a price (--prices FILE)" in describe(found)
    assert plan(lines(3, model="no-such"), Limits(), prices=prices).cost is None


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_latencies_that_cannot_be_meant(seconds: float) -> None:
    with pytest.raises(InvalidLimit, match=r"latency_seconds=.* Fix: 2.5, or leave it out\."):
        plan([], Limits(), latency_seconds=seconds)


@pytest.mark.parametrize(
    ("limits", "best", "flags"),
    [
        (Limits("600/min", concurrency=100), "requests", "--rate 1200/min"),
        (Limits("600/min", concurrency=4), "concurrency", "--concurrency 8"),
        (Limits("6000/min", tokens="30k/min"), "tokens", "--tokens 60k/min"),
        (Limits(["20/s", "600/min"], concurrency=99), "requests", "--rate 40/s --rate 1200/min"),
    ],
)
def test_a_change_takes_the_time_that_it_says(limits: Limits, best: str, flags: str) -> None:
    found = plan(lines(800), limits, latency_seconds=2.0)
    change = found.changes[0]
    assert (change.what, change.flags) == (best, flags)
    assert change.seconds == pytest.approx(found.seconds / 2, rel=0.05)
    # the others are no better, and what is said is what a plan under those limits finds
    assert all(one.seconds > 0.95 * found.seconds for one in found.changes
               if one.what not in (best, "all"))  # fmt: skip
    words = flags.split()
    rates = [words[n + 1] for n, word in enumerate(words) if word == "--rate"]
    tokens = [words[n + 1] for n, word in enumerate(words) if word == "--tokens"]
    slots = [int(words[n + 1]) for n, word in enumerate(words) if word == "--concurrency"]
    other = Limits(
        rates or limits.requests, tokens=tokens or limits.tokens,
        concurrency=slots[0] if slots else limits.concurrency,
    )  # fmt: skip
    again = plan(lines(800), other, latency_seconds=2.0)
    assert again.seconds == pytest.approx(change.seconds)


def test_changes_are_tried_on_a_sample_of_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_SAMPLE", 200)
    limits = Limits("600/min", tokens="500k/min", concurrency=8)
    rising = [a_line(b"x" * (4 * (1 + n // 3)), max_tokens=1 + n // 3) for n in range(1500)]
    found = plan(rising, limits, latency_seconds=1.0)
    for change in found.changes:
        one = {"requests": limits.requests, "tokens": limits.tokens, "concurrency": 8}
        if change.what in ("requests", "all"):
            one["requests"] = "1200/min"  # type: ignore[assignment]
        if change.what in ("tokens", "all"):
            one["tokens"] = "1M/min"  # type: ignore[assignment]
        if change.what in ("concurrency", "all"):
            one["concurrency"] = 16
        real_seconds = plan(rising, Limits(**one), latency_seconds=1.0).seconds  # type: ignore[arg-type]
        assert change.seconds == pytest.approx(real_seconds, rel=0.05), change.what


def test_memory_does_not_grow_with_the_input() -> None:
    def many(count: int) -> Iterator[Request]:
        for n in range(count):
            yield a_line(b"x" * 40, max_tokens=1, model=f"model-{n}")

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            plan(many(count), Limits(concurrency=4), latency_seconds=1.0)  # type: ignore[arg-type]
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    planning._SAMPLE, sample = 200, planning._SAMPLE
    try:
        few, more = peak(1500), peak(4000)
    finally:
        planning._SAMPLE = sample
    assert more < few + 100_000


def test_how_a_plan_reads() -> None:
    known = Calibration.from_models({"m": {"rows": 9, "bytes": 3600, "input": 900, "output": 450}})
    found = plan(
        [*lines(1200), a_bad_line()],
        Limits("600/min", tokens="1M/min", concurrency=64),
        calibration=known,
        prices=Prices({"m": Price(1.0, 2.0)}),
        latency_seconds=2.0,
    )
    assert (
        describe(found)
        == """\
1,200 requests would take 2 min 5 s.

  rate       574/min
  in flight  20 at most, 19.1 on average
  tokens     120k in, 60k out
  cost       $0.24
  bad lines  1, which are not sent: headway run --check

What binds
   98%  the limit on requests
  1.6%  nothing: what is in flight is all there is left

To be faster
  --rate 1200/min    1 min 4 s
  --tokens 2M/min    no change
  --concurrency 128  no change

Assumed
  Tokens are as earlier runs used them (9 answers).
  A call takes 2 s.
  600/min is 10 in 1 s: so together enforces it.
  No call is refused or fails."""
    )
    told = json.loads(json.dumps(as_json(found)))
    assert told["requests"] == 1200
    assert told["seconds"] == found.seconds
    assert [one["what"] for one in told["changes"]] == ["requests", "all", "tokens", "concurrency"]


def test_a_plan_without_limits_says_so() -> None:
    found = plan(lines(50), Limits(), latency_seconds=100.0)
    text = describe(found)
    assert "No limit is stated: a run finds it, and this is as if the server had none." in text
    assert "To be faster" not in text
    assert not found.changes


def test_where_the_calls_themselves_take_the_time() -> None:
    text = describe(plan(lines(10), Limits("600/min", concurrency=64), latency_seconds=1000.0))
    assert "No limit is in the way: the calls themselves take this long." in text
    assert "nothing: what is in flight is all there is left" in text


def test_nothing_in_the_file() -> None:
    assert describe(plan([], Limits("600/min"))).startswith("0 requests would take 0 s.\n")
