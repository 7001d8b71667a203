"""What a shared ledger holds now, for people: who holds what, what binds, who waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headway.kinds import Binds
from headway.kinds._words import binds as in_words
from headway.kinds._words import count, duration, number
from headway.shared.ledger import LEAD
from headway.shared.terms import in_words as limits_in_words
from headway.shared.terms import limits_of

__all__ = ["LedgerView", "WorkerView", "view_of"]


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker: which process it is, the slots it holds and uses, the jobs that wait for starts,
    the priority of the first of them, its weight, and for how many seconds it has not called.
    """

    name: str
    held: int
    in_flight: int
    waiting: int
    priority: float
    weight: float
    silent: float


@dataclass(frozen=True, slots=True)
class LedgerView:
    """One ledger, as of its last call: the stated limits, what binds and for how many seconds,
    what its windows hold (by the name of the budget: used, limit), the slots taken and in all
    (0 for no limit), and its workers.
    """

    name: str
    limits: str
    binds: str
    seconds: float
    used: dict[str, tuple[float, float]]
    taken: int
    slots: int
    factor: float
    workers: tuple[WorkerView, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        plain = {each: getattr(self, each) for each in self.__slots__}
        plain["used"] = {name: list(pair) for name, pair in self.used.items()}
        plain["workers"] = [
            {each: getattr(worker, each) for each in worker.__slots__} for worker in self.workers
        ]
        return plain

    def lines(self) -> list[str]:
        """The same as text, a line each."""
        why = in_words(self.binds) if self.binds else "nothing"
        until = f" for {duration(self.seconds)}" if self.binds and self.seconds > 0 else ""
        found = [f"{self.name}: {self.limits}", f"  what binds: {why}{until}"]
        if self.factor < 1:
            found.append(f"  requests in force: {number(100 * self.factor)}% of what is stated")
        for name, (used, limit) in self.used.items():
            found.append(f"  {name}: {count(used)} of {count(limit)} used")
        if self.slots:
            found.append(f"  slots: {self.taken} of {self.slots} held")
        if not self.workers:
            found.append("  no worker holds anything")
        for worker in self.workers:
            waits = f", {worker.waiting} wait" if worker.waiting else ""
            first = f" at priority {worker.priority:g}" if waits and worker.priority else ""
            weight = f", weight {worker.weight:g}" if worker.weight != 1 else ""
            found.append(
                f"  {worker.name}: {worker.in_flight} in flight, {worker.held} slots held"
                f"{waits}{first}{weight}, called {duration(worker.silent)} ago"
            )
        return found


def view_of(name: str, state: dict[str, Any]) -> LedgerView:
    """The ledger `name`, whose `state` a store has read."""
    at = state["at"]
    workers = [
        WorkerView(
            each.rpartition(":")[0] or each,
            int(worker["held"]),
            int(worker["use"]),
            int(max(worker["need"], worker["want"] - worker["use"])),
            worker["priority"],
            worker["weight"],
            max(0.0, at - worker["at"]),
        )
        for each, worker in sorted(dict(state["workers"]).items())
    ]
    numbers = list(state["numbers"])
    slots = int(state["slots"])
    if len(numbers) > 1 and numbers[1] > 0:
        slots = min(slots or int(numbers[1]), int(numbers[1]))
    taken = sum(worker.held for worker in workers)
    binds, seconds = _binding(state, workers, taken, slots)
    return LedgerView(
        name,
        limits_in_words(limits_of(state["stated"])),
        binds,
        seconds,
        {
            _name_of(budget): (sum(entry[1] for entry in budget["ring"]), budget["limit"])
            for budget in state["budgets"]
        },
        taken,
        slots,
        numbers[0] if numbers and numbers[0] > 0 else 1.0,
        tuple(workers),
    )


def _name_of(budget: dict[str, Any]) -> str:
    """A budget's name as people are shown it: that of a quota ends in what a request counts."""
    name: str = budget["name"]
    if budget["kind"] != "quota":
        return name
    return f"{name.rpartition(' ')[0]} of {'requests' if budget['each'] else 'tokens'}"


def _binding(
    state: dict[str, Any], workers: list[WorkerView], taken: int, slots: int
) -> tuple[str, float]:
    at = state["at"]
    if not any(worker.waiting for worker in workers):
        return "", 0.0
    if state["gate"] > at:
        return Binds.GATE, state["gate"] - at
    # Slots that are held, and not used, wait for starts.
    if slots and sum(worker.in_flight for worker in workers) >= slots:
        return Binds.CONCURRENCY, 0.0
    found, seconds = "", LEAD / 2
    for tat in state["tats"]:
        if tat - at > seconds:
            found, seconds = Binds.REQUESTS, tat - at
    for budget in state["budgets"]:
        ahead = budget["tat"] - budget["ahead"] - at
        if budget["interval"] > 0 and ahead > seconds - LEAD / 2:
            found, seconds = budget["kind"], ahead
        if sum(entry[1] for entry in budget["ring"]) >= 0.99 * budget["share"]:
            found, seconds = budget["kind"], 0.0
    if not found:
        return (Binds.CONCURRENCY if slots and taken >= slots else ""), 0.0
    return found, seconds
