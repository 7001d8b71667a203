"""The picture that `statistics()` gives: of the whole, of each key, and what binds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import nlargest

from headway._core.counters import Counters, KeyStatistics, LimitStatistics, Statistics
from headway._core.limits.binding import binding
from headway._core.limits.pace import Pace
from headway._core.limits.scope import Scope
from headway._core.limits.steer import ONE_A_SECOND
from headway._core.queue.job import Flow
from headway._core.queue.waiting import Waiting
from headway._core.refusals.refusals import Refusals
from headway.kinds import Binds, LimitName

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
        limits=tuple(_in_force(whole, now)),
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
        return binding(blocked.limits, 0.0 if job is None else job.cost, now)
    return binding(whole, _SOME if head is None else head.cost, now)


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
            limits=() if own is None else tuple(_in_force(own, now)),
        )
    return keys


def _in_force(scope: Scope, now: float) -> Iterator[LimitStatistics]:
    """The rates in force."""
    for pace in [*scope.paces]:
        if pace.rate is not ONE_A_SECOND:
            yield _statistics("requests", pace, None)
    for budget in [*scope.budgets]:
        yield _statistics(budget.kind, budget.pace, budget.spent(now))
    for quota in [*scope.quotas]:
        waits = max(0.0, quota.frees_at(_SOME, now) - now)
        yield _statistics(quota.what, quota.pace, quota.spent(now), waits)


def _statistics(
    what: LimitName, pace: Pace, used: float | None, frees_in: float | None = None
) -> LimitStatistics:
    rate = pace.rate
    return LimitStatistics(
        what, rate.limit, rate.per, rate.span, used, min(1.0, pace.base / pace.interval), frees_in
    )
