"""A port: what the core asks of a limit that is decided elsewhere, and makes of the answer."""

from __future__ import annotations

import pytest

from headway import Binds, Limits, Retry
from headway._core.limits.port import Port
from headway._core.queue.job import QUEUED, STARTED, Job
from headway._core.state import SchedulerState

INFINITY = float("inf")


def machine(
    *ports: Port, rate: str | None = None, concurrency: int | None = None
) -> SchedulerState:
    state = SchedulerState(Limits(rate, concurrency=concurrency), now=0.0, retry=Retry())
    state.whole.ports = ports
    return state


def submit(state: SchedulerState, now: float) -> Job:
    job = Job(state.flow(None))
    state.submit(job, now)
    return job


def test_a_start_is_asked_for_and_granted() -> None:
    port = Port()
    state = machine(port)
    job = submit(state, 0.0)
    assert (job.status, port.wanted) == (QUEUED, 0)
    assert state.poll(0.0) == ([], INFINITY)
    assert (port.wanted, state.statistics(0.0).binds) == (1, Binds.ELSEWHERE)
    port.grant()
    assert state.poll(1.0) == ([job], INFINITY)
    assert (job.status, port.allowance, port.wanted) == (STARTED, 0, 0)


def test_what_was_granted_beyond_one_start_is_kept() -> None:
    port = Port()
    state = machine(port)
    port.grant(2)
    first, second, third = (submit(state, 0.0) for _ in range(3))
    state.poll(0.0)
    assert [first.status, second.status, third.status] == [STARTED, STARTED, QUEUED]
    assert (port.allowance, port.wanted) == (0, 1)


def test_a_start_that_was_never_sent_is_given_back() -> None:
    port = Port()
    state = machine(port)
    port.grant()
    job = submit(state, 0.0)
    state.unsend(job, 0.0)
    assert port.allowance == 1


def test_nothing_is_asked_for_while_another_limit_holds_back() -> None:
    port = Port()
    state = machine(port, rate="1/s")
    port.grant()
    submit(state, 0.0)
    waits = submit(state, 0.0)
    changed, at = state.poll(0.0)
    assert (changed, port.wanted) == ([], 0)
    assert at == pytest.approx(1.03, abs=0.01)  # the pace's: there it is worth asking again
    assert state.poll(at) == ([], INFINITY)
    assert port.wanted == 1
    port.grant()
    assert state.poll(at)[0] == [waits]


def test_nothing_is_asked_for_without_a_slot_or_while_paused_or_for_nobody() -> None:
    port = Port()
    state = machine(port, concurrency=1)
    port.grant()
    runs, waits = submit(state, 0.0), submit(state, 0.0)
    state.poll(0.0)
    assert port.wanted == 0
    state.finish(runs, None, 1.0)
    state.poll(1.0)
    assert port.wanted == 1
    state.pause()
    state.poll(2.0)
    assert port.wanted == 0
    state.resume()
    state.poll(3.0)
    assert port.wanted == 1
    state.cancel(waits, 4.0)
    state.poll(4.0)
    assert port.wanted == 0


def test_an_owner_that_refuses_is_asked_again_when_it_says() -> None:
    port = Port()
    state = machine(port)
    submit(state, 0.0)
    state.poll(0.0)
    port.refuse(until=7.0)
    assert state.poll(1.0) == ([], 7.0)
    assert port.wanted == 0
    state.shift(100.0)
    assert state.poll(106.0) == ([], 107.0)
    state.poll(107.0)
    assert port.wanted == 1


def test_two_ports_hold_together() -> None:
    one, other = Port(), Port()
    state = machine(one, other)
    job = submit(state, 0.0)
    state.poll(0.0)
    assert (one.wanted, other.wanted) == (1, 1)
    one.grant()
    state.poll(0.0)
    assert (one.wanted, other.wanted, job.status) == (0, 1, QUEUED)
    other.grant()
    state.poll(0.0)
    assert (one.allowance, other.allowance, job.status) == (0, 0, STARTED)
