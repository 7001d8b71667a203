"""What one worker wants of a shared ledger: starts and slots for its jobs that wait, and for those
that will come while what is granted is good.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from headway._core.limits.port import Asker
from headway._core.limits.scope import Scope
from headway.shared.granted import MEMORY, Granted
from headway.shared.ledger import BEAT, LEAD

__all__ = ["LEAST", "Demand"]

INFINITY = float("inf")

LEAST = 0.02
"""Seconds: what is nearer than that is the same moment."""

_MORE = 1.2  # of the mean cost: what is granted and not used is given back
_FIRST = 1e9  # no priority is above it
_SPARE, _AHEAD = 8, 0.1  # starts for jobs that have not come yet, and for how many seconds of them
_MOST = 100_000  # starts that are asked for at once


class Demand:
    """What the jobs of one `scope` want beyond what was `granted`; `queued` says how many wait."""

    def __init__(self, scope: Scope, granted: Granted, queued: Callable[[], int]) -> None:
        self._scope = scope
        self._granted = granted
        self._queued = queued
        self.begin_anew()

    def begin_anew(self) -> None:
        """Be of a worker that the ledger has never heard of."""
        self.asked = False  # whether a job waits for this ledger alone
        self._head: tuple[float, ...] = ()  # what that needs of each budget
        self._beside: list[list[float]] = []  # and of those of the whole, with what others need
        self._priority = 0.0
        self._recent = 0  # starts since the last call
        self._often = 0.0  # starts a second, lately
        self.ends = 0  # slots that are taken now, and will be free while what is granted is good

    def ask(self, job: Asker) -> bool:
        """`job` waits for this ledger alone. Whether it is more urgent than what asked before."""
        self.asked = True
        self._head = tuple(budget.needs(job.cost) for budget in self._granted.budgets)
        urgent = job.priority > self._priority
        self._priority = job.priority
        return urgent

    def ask_beside(self, job: Asker, whole: Granted) -> None:
        """`job` needs what its key's limits grant and, of the `whole`, tokens for it."""
        heads = [budget.needs(job.cost) for budget in whole.budgets]
        means = [mean for _, mean in self._beside]
        if len(means) != len(heads):
            means = heads
        self._beside = [
            [head, MEMORY * mean + (1 - MEMORY) * head]
            for head, mean in zip(heads, means, strict=True)
        ]

    def started(self) -> None:
        """A job starts."""
        self._recent += 1

    def slots_free(self) -> float:
        """The slots that it holds and does not use; infinity where there is no limit of them."""
        if not self._granted.has_slots:
            return INFINITY
        return min(self._granted.held, self._granted.target) - self._scope.in_flight

    def starts(self) -> int:
        """How many starts can be used, as far as is known."""
        if not self._granted.are_starts:
            return 0
        waiting = max(self._queued(), 1 if self.asked else 0)
        free = min(self.slots_free(), self._scope.capacity - self._scope.in_flight)
        if free < INFINITY:
            # A run takes items as its calls end: what will come fills the slots that end.
            more = self.ends if waiting >= free else 0
            waiting = min(waiting + more, int(max(1.0, free + self.ends)))
        return max(0, min(waiting - self._granted.outstanding(booked=False), _MOST))

    def said(self, gone: float, *, for_keys: bool, alone: bool) -> dict[str, Any]:
        """The part of a call that says it, `gone` seconds after the last one. With `for_keys` the
        jobs of keys may need starts; where the worker is `alone` it may ask for some more.
        """
        a_second = max(self._often, self._recent / max(gone, LEAST))
        self.ends = math.ceil(a_second * LEAD)
        in_flight, queued = self._scope.in_flight, self._queued()
        asks = bool(self.asked or self._granted.starts or for_keys)
        need = self.starts() if asks else 0
        if need == 1 and alone:  # nobody else is hurt by some more, for those to come
            need += min(_SPARE, int(self._often * _AHEAD) + 1) if self._often > 1 else 0
        want = in_flight + (queued if asks else 0)
        if self.asked:
            need = max(need, 1) if self._granted.are_starts else 0
            want = max(want, in_flight + 1)
        costs = [
            [head, _MORE * budget.mean or head]
            for head, budget in zip(self._heads(), self._granted.budgets, strict=True)
        ]
        priority = max(-_FIRST, min(_FIRST, self._priority))
        beside = [[max(head, _MORE * mean), _MORE * mean] for head, mean in self._beside]
        return {
            "need": need, "want": want, "costs": costs, "costs_beside": beside,
            "priority": priority,
        }  # fmt: skip

    def begin_call(self, gone: float) -> None:
        """A call begins that says all of it, `gone` seconds after the last one."""
        if gone < BEAT:
            self._often += min(1.0, gone / BEAT) * (self._recent / max(gone, LEAST) - self._often)
        else:
            self._often = self._recent / gone
        self._recent = 0
        if not self._queued():  # one that asked, and did not queue
            self.asked = False

    def _heads(self) -> list[float]:
        if len(self._head) == len(self._granted.budgets):
            return [*self._head]
        return [budget.mean for budget in self._granted.budgets]
