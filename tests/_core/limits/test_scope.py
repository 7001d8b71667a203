"""Limits that hold together: all are checked, then all are taken; a cut, a server's word."""

from __future__ import annotations

import pytest

from headway import Limits, NeverFits, Rate
from headway._core.counters import Counts
from headway._core.limits.binding import binding
from headway._core.limits.eager import Eager
from headway._core.limits.port import Port
from headway._core.limits.scope import Scope
from headway._core.queue.job import Flow, Job
from headway.hints import LimitHint
from headway.kinds import Binds

INFINITY = float("inf")


def job(cost: float = 0.0) -> Job:
    return Job(Flow(None, 1.0, None), 0, cost)


class Bench:
    """A scope, and the count of what is in flight that its owner keeps."""

    def __init__(self, limits: Limits, key: str | None = None) -> None:
        self.counts = Counts()
        self.scope = Scope(limits, key, self.counts)

    def start(self, cost: float = 0.0, now: float = 0.0) -> Job:
        started = job(cost)
        self.counts.in_flight += 1
        self.scope.take(started, now)
        return started


def test_without_limits_everything_starts_at_once() -> None:
    bench = Bench(Limits())
    for _ in range(100):
        bench.start(1e6)
    assert bench.scope.ready_at(1e6, 0.0) == -INFINITY
    assert bench.scope.pace == bench.scope.capacity == INFINITY


def test_the_last_of_the_limits_decides() -> None:
    bench = Bench(Limits("60/min", tokens="600/min", concurrency=3))
    assert bench.scope.ready_at(0, 0.0) == -INFINITY
    bench.start(500.0)
    by_request, by_tokens = (bench.scope.ready_at(cost, 0.0) for cost in (0.0, 300.0))
    assert 0.9 < by_request < 1.1
    assert by_tokens > 45  # 500 tokens are paid back first, and then the window
    bench.start()
    bench.start()
    assert bench.scope.ready_at(0, 1e6) == INFINITY  # no slot, however long
    assert bench.scope.further_at(0, 1e6) < 1e6  # a further send has one


def test_a_shut_gate_holds_back() -> None:
    scope = Scope(Limits())
    scope.gate.shut_until(12.0)
    assert scope.ready_at(0.0, 0.0) == 12.0
    assert not scope.is_spent(0.0)


def test_a_port_is_asked_only_where_all_else_allows_it() -> None:
    bench = Bench(Limits("60/min", concurrency=1))
    port = Port()
    bench.scope.ports = (port,)
    assert bench.scope.ready_at(0.0, 0.0) == INFINITY
    assert binding(bench.scope, 0.0, 0.0) == (Binds.ELSEWHERE, INFINITY)
    assert bench.scope.ask(job(), 0.0) == INFINITY
    assert port.wanted == 1
    port.grant()
    assert bench.scope.ready_at(0.0, 0.0) == -INFINITY
    bench.start()
    assert (port.allowance, port.wanted) == (0, 0)
    assert bench.scope.ask(job(), 100.0) == INFINITY  # no slot: nothing is asked for
    bench.counts.in_flight = 0
    assert 0.9 < bench.scope.ask(job(), 0.0) < 1.1  # the pace first
    assert port.wanted == 0
    bench.scope.ask(job(), 100.0)
    bench.scope.ask_nothing()
    assert port.wanted == 0


def test_what_never_fits_says_so() -> None:
    scope = Scope(Limits(tokens="600/min"), "chat")
    scope.check(600.0)
    with pytest.raises(NeverFits) as caught:
        scope.check(601.0)
    assert str(caught.value) == (
        "an attempt of 601 tokens is larger than the whole limit of key 'chat' of 600/min: it "
        "could never start. Fix: make the request smaller (prompt, max_tokens), or state the "
        "limit that the provider really gives."
    )


def test_a_refusal_cuts_once_a_cycle() -> None:
    bench = Bench(Limits("600/min", tokens="6000/min", concurrency=10))
    scope, pace = bench.scope, bench.scope.pace
    for _ in range(10):
        bench.start(1.0)
    assert scope.cut_rate(0.0, 5.0, 10.0, probe=False)
    assert scope.pace < pace
    assert not scope.cut_rate(1.0, 5.5, 10.0, probe=False)  # sent before the cut
    assert scope.cut_tokens(0.0, 5.0, probe=False)
    assert not scope.cut_tokens(1.0, 5.5, probe=False)
    assert scope.cut_concurrency(0.0, 5.0)
    assert 1 <= scope.capacity < 10
    assert not scope.cut_concurrency(1.0, 5.5)


def test_where_no_rate_is_stated_a_refusal_begins_to_look_for_one() -> None:
    scope = Scope(Limits())
    assert scope.cut_rate(0.0, 5.0, 40.0, probe=False)
    assert 0 < scope.pace < 40.0
    assert not scope.cut_tokens(0.0, 5.0, probe=False)  # no tokens are counted


def test_retuned_limits_start_no_burst_and_keep_what_did_not_change() -> None:
    bench = Bench(Limits("1/min", concurrency=4))
    bench.start()
    due = bench.scope.ready_at(0.0, 0.0)
    bench.scope.cut_concurrency(0.0, 1.0)
    bench.counts.in_flight = 0
    cut = bench.scope.capacity
    bench.scope.retune(Limits("2/min", concurrency=4), 0.0)
    assert bench.scope.ready_at(0.0, 0.0) == pytest.approx(due / 2, rel=0.02)
    assert bench.scope.capacity == cut  # as stated before: its cut goes on
    bench.scope.retune(Limits("2/min", concurrency=8), 0.0)
    assert bench.scope.capacity == 8


def test_a_server_is_followed_down_and_forgotten_again() -> None:
    scope = Scope(Limits("600/min"))
    own = scope.pace
    assert scope.follow_requests(5.0, 0.0)
    assert scope.pace == pytest.approx(5.0, rel=0.02)
    assert scope.pace < 5.0  # its clock is not ours
    assert not scope.follow_requests(5.0, 1.0)  # known
    assert scope.follow_requests(500.0, 2.0)
    assert scope.pace == pytest.approx(own)  # never above what the user states
    scope.follow_requests(5.0, 3.0)
    scope.forget_stated(4.0)
    assert scope.pace == pytest.approx(own)


def test_tokens_of_a_server_bind_where_nothing_is_known() -> None:
    scope = Scope(Limits())
    assert not scope.follow_tokens("tokens", 600.0, 60.0, 0.0)  # the user stated other limits
    scope.search()
    assert scope.follow_tokens("tokens", 600.0, 60.0, 0.0)
    assert not scope.follow_tokens("tokens", 600.0, 60.0, 1.0)
    assert scope.budgets[0].rate.limit == 600
    scope.check(1e6)  # it is the server's own to say so
    scope.forget_stated(2.0)
    assert not scope.budgets


def test_what_remains_may_be_spent_at_once_within_the_window() -> None:
    bench = Bench(Limits("600/min"))
    bench.scope.eager = Eager()
    bench.start()
    bench.scope.spend_eagerly(LimitHint("requests", 600, 50, None, 60), 0.0, 0.0)
    assert bench.scope.credit == 50
    assert bench.scope.ready_at(0.0, 0.0) == -INFINITY
    bench.start()
    assert bench.scope.credit == 49
    bench.scope.spend_eagerly(LimitHint("requests", 600, 1e6, None, 60), 0.0, 0.0)
    assert bench.scope.credit == 598  # two have started in this window


@pytest.mark.parametrize(
    ("second", "left", "next_at"),
    [
        (2.03, 0, 2.03 + 0.203),  # its window has room, and a sliding counter none: it is paid off
        (2.03, 8, 2.034),  # a log has room when the next one has left the window
        (1.9, 0, 2.03),  # it says what our window says
    ],
)
def test_a_server_that_has_none_left_though_the_window_has_room_counts_otherwise(
    second: float, left: float, next_at: float
) -> None:
    bench = Bench(Limits(Rate(10, per=2)))
    bench.scope.eager = Eager()
    bench.start()
    bench.scope.spend_eagerly(LimitHint("requests", 10, 9, 2, 2), 0.0, 0.003)
    for _ in range(9 if second > 2 else 8):
        bench.start(now=0.004)
    bench.start(now=second)
    bench.scope.spend_eagerly(LimitHint("requests", 10, left, 4, 2), second, second + 0.003)
    assert bench.scope.ready_at(0.0, 0.0) == pytest.approx(next_at)


def test_it_is_spent_when_nothing_is_owed_and_moves_to_another_clock() -> None:
    bench = Bench(Limits("60/min", tokens="600/min"))
    assert bench.scope.is_spent(0.0)
    bench.start(10.0)
    assert not bench.scope.is_spent(0.0)
    due = bench.scope.ready_at(500.0, 0.0)
    bench.scope.shift(1000.0)
    assert bench.scope.ready_at(500.0, 1000.0) == pytest.approx(due + 1000.0)
    assert bench.scope.is_spent(2000.0)
