"""The picture of one moment: what binds the next job, and the figures of each key."""

from __future__ import annotations

from typing import Any

import pytest

from headway import Cost, Latched, Limits, Retry
from headway._core import picture as module
from headway._core.counters import Counters, Statistics
from headway._core.limits.scope import Scope
from headway._core.picture import picture
from headway._core.queue.credentials import Credential
from headway._core.queue.job import QUEUED, Flow, Job
from headway._core.queue.waiting import Waiting
from headway._core.refusals.refusals import Refusals
from headway._core.state import SchedulerState
from headway.kinds import Binds, Kind

INFINITY = float("inf")


class Bench:
    """What a picture is taken of."""

    def __init__(self, limits: Limits, *flows: Flow) -> None:
        self.counters = Counters(0.0)
        self.whole = Scope(limits, counts=self.counters)
        self.waiting = Waiting()
        self.flows = flows
        self.refusals = Refusals(Retry(), self.whole, self.waiting, self.counters, [], 0.0)

    def queue(self, flow: Flow, cost: float = 0.0) -> Job:
        job = Job(flow, 0, cost)
        job.number = self.waiting.size + 1
        job.status = QUEUED
        self.waiting.push(job)
        return job

    def take(self, now: float = 0.0, paused: bool = False) -> Statistics:
        return picture(
            self.counters, self.whole, self.waiting, self.flows, self.refusals, now, paused=paused
        )


def test_of_nothing() -> None:
    found = Bench(Limits()).take()
    assert (found.binds, found.seconds, found.queued, found.keys) == (Binds.NOTHING, 0.0, 0, {})
    assert found.capacity == found.pace == INFINITY


def test_what_the_next_job_waits_for_and_how_long() -> None:
    flow = Flow("a", 1.0, None)
    bench = Bench(Limits("6/min", tokens="600/min"), flow)
    bench.whole.take(Job(flow, 0, 600.0), 0.0)
    found = bench.take(3.0)  # nobody waits: who comes next will use some
    assert found.binds is Binds.TOKENS
    assert found.seconds > 50
    bench.queue(flow, 0.0)  # this one uses none
    found = bench.take(3.0)
    assert found.binds is Binds.REQUESTS
    assert found.seconds == pytest.approx(7, abs=0.2)
    assert (found.queued, found.keys["a"].queued) == (1, 1)


def test_a_latch_comes_before_a_pause_and_that_before_a_limit() -> None:
    bench = Bench(Limits("6/min"))
    bench.whole.take(Job(Flow("a", 1.0, None)), 0.0)
    found = bench.take(paused=True)
    assert (found.binds, found.seconds) == (Binds.PAUSED, INFINITY)
    bench.refusals.credentials.latch(Credential(None), Latched("a wrong key", Kind.AUTH))
    bench.refusals.why = "the key is refused"
    found = bench.take(paused=True)
    assert (found.binds, found.seconds) == (Binds.CLOSED, INFINITY)
    assert found.why == "the key is refused"


def test_where_all_that_wait_are_held_back_the_first_to_go_on_tells_why() -> None:
    slow, slower = (Flow(key, 1.0, Limits(rate)) for key, rate in (("a", "6/min"), ("b", "1/min")))
    bench = Bench(Limits(), slow, slower)
    for flow, until in ((slower, 60.0), (slow, 10.0)):
        job = bench.queue(flow)
        assert flow.limits is not None
        flow.limits.take(job, 0.0)
        bench.waiting.block(flow, 0.0, until)
    found = bench.take()
    assert found.binds is Binds.REQUESTS
    assert found.seconds == pytest.approx(10, abs=0.2)


def test_the_figures_of_keys_are_copies_under_names_of_their_own() -> None:
    flows = [Flow(1, 1.0, Limits("60/min", concurrency=3)), Flow("1", 1.0, None)]
    bench = Bench(Limits(), *flows)
    flows[0].counts.sent = 7
    keys = bench.take().keys
    flows[0].counts.sent = 8
    assert list(keys) == ["1", "1 (str)"]
    own, none = keys.values()
    assert (own.sent, own.capacity) == (7, 3)
    assert 0.9 < own.pace < 1
    assert (none.sent, none.capacity, none.pace) == (0, INFINITY, INFINITY)


def test_of_very_many_keys_those_that_sent_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_KEYS", 2)
    flows: list[Any] = [Flow(name, 1.0, None) for name in "abcd"]
    for flow, sent in zip(flows, (1, 9, 3, 7), strict=True):
        flow.counts.sent = sent
    assert {name: key.sent for name, key in Bench(Limits(), *flows).take().keys.items()} == {
        "b": 9,
        "d": 7,
    }


def test_the_limits_of_a_keys_own_are_shown_with_the_key() -> None:
    own = Limits("60/min", input_tokens="1k/min", tokens="50k/day")
    state = SchedulerState(Limits("600/min"), now=0.0, retry=Retry(), keys={"a": own}.get)
    job = Job(state.flow("a"), 0, Cost(input=100, output=5))
    assert state.submit(job, 0.0)
    state.flow("b")
    keys = state.statistics(0.0).keys
    assert [(each.what, each.limit, each.used) for each in keys["a"].limits] == [
        ("requests", 60, None), ("input_tokens", 1_000, 100), ("tokens", 50_000, 105),
    ]  # fmt: skip
    assert keys["b"].limits == ()
