"""The picture that `statistics()` gives: of the whole, of each key, and what binds."""

from __future__ import annotations

from collections.abc import Collection
from heapq import nlargest

from headway._core.counters import Counters, KeyStatistics, Statistics
from headway._core.limits.scope import Scope
from headway._core.queue.job import Flow
from headway._core.queue.waiting import Waiting
from headway._core.refusals.refusals import Refusals
from headway.kinds import Binds

__all__ = ["picture"]

INFINITY = float("inf")

_MOST_KEYS = 1000
_SOME = 1.0  # tokens that a job which has not come yet will use at least


def picture(
    counters: Counters,
    whole: Scope,
    waiting: Waiting,
    flows: Collection[Flow],
    refusals: Refusals,
    now: float,
    *,
    paused: bool,
) -> Statistics:
    """What `counters` and the others hold at `now`, as copies."""
    if refusals.closed:
        binds, until = Binds.CLOSED, INFINITY
    elif paused:
        binds, until = Binds.PAUSED, INFINITY
    else:
        binds, until = _binding(whole, waiting, flows, now)
    return Statistics(
        queued=waiting.size,
        delayed=waiting.delayed,
        **counters.figures(),
        recent=counters.recent(now),
        binds=binds,
        seconds=max(0.0, until - now),
        why=refusals.why,
        capacity=whole.capacity,
        pace=whole.pace,
        limits=tuple(whole.in_force(now)),
        keys=_keys(waiting, flows, now),
        shared=next((found for port in whole.ports if (found := port.statistics(now))), None),
    )


def _binding(
    whole: Scope, waiting: Waiting, flows: Collection[Flow], now: float
) -> tuple[Binds, float]:
    head = waiting.queue.peek()
    blocked = waiting.blocked_flow(flows) if head is None else None
    if blocked is not None and blocked.limits is not None:
        job = waiting.queue.head_of(blocked)
        return blocked.limits.binding(0.0 if job is None else job.cost, now)
    return whole.binding(_SOME if head is None else head.cost, now)


def _keys(waiting: Waiting, flows: Collection[Flow], now: float) -> dict[str, KeyStatistics]:
    if len(flows) > _MOST_KEYS:
        flows = nlargest(_MOST_KEYS, flows, key=lambda flow: flow.counts.sent)
    queued = waiting.sizes()
    keys: dict[str, KeyStatistics] = {}
    for flow in flows:
        name, own = str(flow.key), flow.limits
        if name in keys:  # of another type: 1 and "1"
            name = f"{name} ({type(flow.key).__name__})"
        keys[name] = KeyStatistics(
            queued=queued[flow],
            **flow.counts.figures(),
            capacity=INFINITY if own is None else own.capacity,
            pace=INFINITY if own is None else own.pace,
            limits=() if own is None else tuple(own.in_force(now)),
        )
    return keys
