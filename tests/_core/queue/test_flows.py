"""The keys in use: made at their first use, dropped when idle, changed by a retune."""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from headway import Limits
from headway._core.queue import flows as module
from headway._core.queue.flows import Flows
from headway._core.queue.job import Job

SLOW = Limits("6/min", concurrency=2)


def of_key(key: Hashable) -> Limits | None:
    return SLOW if key == "slow" else None


def test_a_flow_has_the_weight_and_the_limits_of_its_key() -> None:
    flows = Flows(of_key, {"chat": 8.0})
    chat, slow = flows.add("chat"), flows.add("slow")
    assert (chat.weight, chat.limits) == (8.0, None)
    assert slow.weight == 1.0
    assert slow.limits is not None
    assert (slow.limits.capacity, slow.limits.key) == (2, "slow")
    assert flows.scopes() == [slow.limits]
    assert flows.table == {"chat": chat, "slow": slow}


def test_the_limits_of_a_key_count_what_the_key_has_in_flight() -> None:
    slow = Flows(of_key, {}).add("slow")
    slow.counts.in_flight = 2
    assert slow.limits is not None
    assert slow.limits.ready_at(0.0, 0.0) == float("inf")


def test_those_are_dropped_that_nothing_is_lost_with() -> None:
    flows = Flows(of_key, {})
    idle, busy, queued = map(flows.add, ("idle", "busy", "queued"))
    owing = flows.add("slow")
    assert owing.limits is not None
    owing.limits.take(Job(owing), 0.0)
    busy.counts.in_flight = 1
    flows.drop_idle({queued}, 1.0)
    assert set(flows.table) == {"busy", "queued", "slow"}
    assert idle not in flows.table.values()
    flows.drop_idle((), 100.0)  # nothing that was charged counts any more
    assert set(flows.table) == {"busy"}


def test_they_are_looked_through_at_twice_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MANY", 4)
    flows = Flows(of_key, {})
    for key in range(4):
        assert not flows.full
        flows.add(key)
    assert flows.full
    flows.drop_idle(flows.table.values(), 0.0)  # all are in use
    assert not flows.full
    for key in range(4, 8):
        flows.add(key)
    assert flows.full


def test_a_retune_reaches_the_flows_that_exist_and_those_that_will() -> None:
    flows = Flows(of_key, {"chat": 8.0})
    chat, slow = flows.add("chat"), flows.add("slow")
    old = slow.limits
    gone = flows.retune({"chat": Limits(concurrency=5)}.get, {"slow": 3.0}, 0.0)
    assert gone == [old]
    assert slow.limits is None
    assert chat.limits is not None
    assert chat.limits.capacity == 5
    assert (chat.weight, slow.weight) == (1.0, 3.0)
    assert flows.add("other").limits is None
    kept = chat.limits
    assert flows.retune({"chat": Limits(concurrency=6)}.get, {}, 0.0) == []
    assert chat.limits is kept  # what it counted goes on
    assert kept.capacity == 6


def test_a_function_that_raises_changes_nothing() -> None:
    def broken(key: Hashable) -> Limits | None:
        if key == "slow":
            raise LookupError(key)
        return None

    flows = Flows(of_key, {"chat": 8.0})
    chat, slow = flows.add("chat"), flows.add("slow")
    old = slow.limits
    with pytest.raises(LookupError):
        flows.retune(broken, {"chat": 2.0}, 0.0)
    assert (chat.weight, slow.limits) == (8.0, old)
    assert flows.add("new").limits is None  # by the old function
    with pytest.raises(LookupError):
        Flows(broken, {}).add("slow")


def test_a_key_that_was_refused_once_is_dropped_when_that_has_faded() -> None:
    flows = Flows(of_key, {})
    limits = flows.add("slow").limits
    assert limits is not None
    limits.gate.shut_until(10.0)
    assert flows.drop_idle((), 35.0) == []
    assert flows.drop_idle((), 41.0) == [limits]
    assert not flows.table
