"""What holds an attempt back in a scope, and until when: now, for certain, and as far as can be
foreseen. None of it changes anything.
"""

from __future__ import annotations

from operator import itemgetter

from headway._core.limits.quota import Quota
from headway._core.limits.scope import Scope
from headway.kinds import Binds

__all__ = ["binding", "foreseen", "imposed", "spent_until"]

INFINITY = float("inf")


def spent_until(scope: Scope, cost: float, now: float) -> tuple[Quota | None, float]:
    """The quota that holds an attempt of `cost` tokens back longest, and until when."""
    found, until = None, now
    for quota in scope.quotas:
        # What is in flight may turn out to use less than it reserves.
        if (quota.what == "requests" or not scope.in_flight) and (
            ready := quota.frees_at(cost, now)
        ) > until:
            found, until = quota, ready
    return found, until


def binding(scope: Scope, cost: float, now: float) -> tuple[Binds, float]:
    """What holds an attempt of `cost` tokens back, and until when: infinity where that waits
    for another attempt to end.
    """
    if scope.in_flight >= scope.capacity:
        return Binds.CONCURRENCY, INFINITY
    return _latest(
        now, (Binds.GATE, scope.gate.ready_at()), *_paced(scope), *_spent(scope, cost, now),
        *(port.held_by(now) for port in scope.ports),
    )  # fmt: skip


def imposed(scope: Scope, cost: float, now: float) -> tuple[Binds, float]:
    """What keeps an attempt of `cost` tokens back for certain, and until when, whoever goes
    before it and whatever ends meanwhile.
    """
    if scope.in_flight:
        cost = 0.0  # what is in flight may turn out to use less than it reserves
    # Where the answers to what is in flight may say what remains, no pace is certain.
    paced = () if scope.eager is not None and scope.in_flight else _paced(scope)
    granted = [port.ready_at(cost, now, slots=False) for port in scope.ports]
    return _latest(
        now, (Binds.GATE, scope.gate.opens), *paced, *_spent(scope, cost, now),
        *((Binds.ELSEWHERE, at) for at in granted if at < INFINITY),
    )  # fmt: skip


def foreseen(
    scope: Scope, cost: float, ahead: float, freed: float, now: float
) -> tuple[Binds, float]:
    """What would hold an attempt of `cost` tokens back longest, and until when, as far as can
    be foreseen, with `ahead` others like it before it, and `freed` slots a second coming free.
    """
    start = max(now, scope.gate.ready_at())
    held = [(Binds.GATE, start)]
    if scope.credit < ahead + 1:
        held += [(Binds.REQUESTS, pace.after(ahead, start)) for pace in scope.paces]
    if cost:
        held += [(Binds(each.kind), each.after(cost, ahead, start)) for each in scope.budgets]
    lacking = ahead + 1 + scope.in_flight - scope.capacity
    if lacking > 0:
        held.append((Binds.CONCURRENCY, start + lacking / freed if freed else INFINITY))
    for port in scope.ports:
        binds, until = port.held_by(now)
        if binds is Binds.CONCURRENCY and freed:
            until = start + (ahead + 1) / freed
        if binds is not Binds.ELSEWHERE or until < INFINITY:  # else nobody has asked yet
            held.append((binds, until))
    quota, until = spent_until(scope, cost, now)
    if quota is not None:
        held.append((Binds.QUOTA, until))
    return _latest(now, *held)


def _paced(scope: Scope) -> list[tuple[Binds, float]]:
    return [(Binds.REQUESTS, pace.ready_at()) for pace in scope.paces]


def _spent(scope: Scope, cost: float, now: float) -> list[tuple[Binds, float]]:
    """Until when tokens, and quotas, hold back an attempt of `cost` tokens."""
    budgets = scope.budgets if cost else ()
    spent = [(Binds(budget.kind), budget.seen_ready_at(cost)) for budget in budgets]
    return [*spent, (Binds.QUOTA, spent_until(scope, cost, now)[1])]


def _latest(now: float, *held: tuple[Binds, float]) -> tuple[Binds, float]:
    """Which of `held` holds back longest; nothing, where none does beyond `now`."""
    return max((Binds.NOTHING, now), *held, key=itemgetter(1))
