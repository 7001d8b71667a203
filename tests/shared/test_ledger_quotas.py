"""Quotas in a ledger: they roll, or begin anew by clocks of workers that may be hours apart."""

from __future__ import annotations

from typing import Any

from ledgers import Client, Trace, a_call

from headway import Limits, Rate
from headway.shared.ledger import step

HOURS = 3600.0


def test_no_window_of_a_quota_holds_more() -> None:
    limits = Limits(Rate(500, per=7200), tokens=Rate(30_000, per=7200))
    clients = [Client(f"w{i}", limits, offset=i * HOURS, wants=3) for i in range(8)]
    trace = Trace(clients, 1)
    for _ in range(5):  # a burst, and idle for an hour
        trace.run(100_000, 60)
        trace.now += HOURS
        trace.heap = [(trace.now + i / 10, i) for i in range(8)]
    window = 7200 + limits.requests[0].delay_bound
    assert 450 < trace.worst_tokens(0, window) <= 500
    assert trace.worst_tokens(1, window) <= 30_000


def test_a_quota_begins_anew_when_the_last_of_the_clocks_says_so() -> None:
    limits = Limits(Rate(10, per=86_400, resets="00:00"))
    state: Any = None

    def granted(name: str, n: int, raw: float, renews: float) -> float:
        nonlocal state
        call = a_call(limits, name, n, sent=raw, need=10, renews=[[0, renews]])
        if state is not None:
            call |= {"epoch": state["epoch"], "version": state["version"]}
        state, reply = step(state, call, raw)
        return float(reply["count"])

    granted("fast", 1, 0.0, 100.0)
    assert granted("fast", 2, 1.0, 100.0) == 10
    assert granted("slow", 1, 2.0, 7300.0) == 0
    assert granted("fast", 3, 103.0, 86_500.0) == 0  # it has passed it, and names the next one
    assert granted("fast", 4, 7299.0, 86_500.0) == 0
    assert granted("slow", 2, 7301.0, 93_700.0) == 10
    assert granted("fast", 5, 7302.0, 86_500.0) == 0
    assert granted("slow", 3, 7303.0, 93_700.0) == 0
    assert state["budgets"][0]["renews"] == 93_700.0
