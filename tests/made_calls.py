"""Random calls of many workers, each as the replies before it allow."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from headway.rates import Limits
from headway.shared.ledger import step
from headway.shared.stores import Store
from headway.shared.terms import stated, terms_of

STATED = (
    Limits("100/s", concurrency=4),
    Limits("600/min", tokens="60000/min", concurrency=16),
    Limits("50/s", tokens="9000/s"),
    Limits(["30/s", "900/min"], input_tokens="4000/s", output_tokens="2000/s"),
    Limits(["40/s", "5000/day"], tokens=["6000/s", "2000000/day"], concurrency=6),
    Limits(concurrency=5),
)

_TERMS = {limits: terms_of(limits) for limits in STATED}
_TEXTS = {limits: stated(limits) for limits in STATED}
_LIMITS = {text: limits for limits, text in _TEXTS.items()}


def a_call(worker: str = "a", n: int = 1, **said: Any) -> dict[str, Any]:
    """A plain call of a new worker under `limits`, with what is `said` otherwise."""
    limits = said.pop("limits", STATED[0])
    rates, budgets, slots = _TERMS[limits]
    call = {
        "id": worker, "n": n, "sent": float(n), "epoch": "", "was": "",
        "fresh": f"{worker}{n}", "version": 0, "stated": _TEXTS[limits], "set": 0,
        "rates": rates, "budgets": budgets, "slots": slots,
        "need": 1, "costs": [[100.0, 120.0] for _ in budgets], "weight": 1.0, "priority": 0.0,
        "held": 0, "use": 0, "want": 1, "unsure": 0.001, "refunds": [], "overs": [], "renews": [],
        "declared": [], "strays": 0, "silent": 0.0, "gate": 0.0, "opens": 0, "gen": 0,
        "numbers": [], "cut": 0, "blob": "", "bye": 0, "pairs": 0, "beside": "", "costs_beside": [],
    }  # fmt: skip
    return {**call, **said}


async def ask(store: Store, name: str, call: dict[str, Any]) -> dict[str, Any]:
    """Step the ledger `name` alone."""
    return (await store.call({name: call}))[name]


class _Worker:
    """What a worker remembers, and some of what it may do wrong."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.name = name
        self.chance = chance
        self.n = 0
        self.clock = chance.uniform(0, 1e6)
        self.limits = chance.choice(STATED)
        self.last: dict[str, Any] | None = None
        self.epoch, self.version, self.gen, self.held = "", 0, 0, 0
        self.grants: list[tuple[int, float, float]] = []

    def call(self, now: float) -> dict[str, Any]:
        chance = self.chance
        odds = chance.random()
        if self.last is not None and odds < 0.03:
            return self.last
        self.n += 2 if odds > 0.999 else 1
        restates = chance.random() < 0.006
        if restates:
            self.limits = chance.choice(STATED)
        budgets = _TERMS[self.limits][1]
        use = chance.randint(0, self.held)
        rare = chance.random() < 0.04
        costs = [[chance.uniform(0, 900), chance.uniform(0, 500)] for _ in budgets]
        refunds, self.grants = self.grants[:2], self.grants[2:]
        numbers = [chance.choice([0.0, 0.5, 0.9]), chance.choice([0, 0, 0, 3.5, 9])]
        numbers += [chance.choice([0.0, 0.7]) for _ in budgets]
        cut = chance.random() < 0.01
        was = ""
        if chance.random() < 0.004:  # a call of it was not answered
            was, self.name, self.n = self.name, f"{chance.getrandbits(40):x}", 1
        self.last = a_call(
            self.name, self.n, limits=self.limits, sent=self.clock + now, epoch=self.epoch,
            fresh=f"{chance.getrandbits(32):x}", version=self.version, was=was,
            set=int(restates), need=chance.choice([0, 1, 1, 3, 12, 60, 60]),
            costs=costs,
            weight=chance.choice([1.0, 1.0, 2.5]), priority=chance.choice([0.0, 0.0, -1, 2.5]),
            held=chance.randint(use, self.held), use=use,
            want=use + chance.randint(0, 9),
            unsure=chance.choice([0.001, 0.03, 0.7]),
            refunds=[[i, s, a * chance.random()] for i, s, a in refunds],
            overs=[[i, chance.uniform(0, 300)] for i in range(len(budgets))] if rare else [],
            renews=[[len(budgets) - 1, now + 50.0]] if rare and budgets else [],
            declared=[[0, chance.uniform(0, 9), 50.5], [9, 1.0, 1.0]] if rare else [],
            strays=chance.randint(1, 3) if chance.random() < 0.001 else 0,
            silent=chance.choice([0.0, 1.5]),
            gate=now + chance.uniform(0, 0.3) if chance.random() < 0.002 else 0.0,
            opens=int(chance.random() < 0.004), gen=self.gen,
            numbers=numbers if cut or chance.random() < 0.05 else [], cut=int(cut),
            blob=json.dumps({"é": [0.1, None]}) if cut else "", bye=int(chance.random() < 0.003),
            after=chance.choice([0.05, 0.15, 0.5]) if chance.random() < 0.1 else 0.0,
        )  # fmt: skip
        return self.last

    def answered(self, reply: dict[str, Any]) -> None:
        """Follow `reply`, as a port does."""
        if reply["error"]:
            if reply["error"] == "differs":
                self.limits = _LIMITS[reply["stated"]]
            elif reply["error"] == "twin":
                self.n, self.epoch, self.version, self.held = self.n + 3, "", 0, 0
            return
        if reply["epoch"] != self.epoch or reply["version"] != self.version:
            self.grants = []
        if reply["stated"]:
            self.limits = _LIMITS[reply["stated"]]
        self.epoch, self.version, self.gen = reply["epoch"], reply["version"], reply["gen"]
        self.held = max(0, int(reply["held"]))
        for index, slot in enumerate(reply["slots_of"]):
            self.grants.append((index, slot, reply["amounts"][index]))


def random_calls(
    seed: int, count: int
) -> Iterator[tuple[dict[str, Any], float, dict[str, Any], dict[str, Any]]]:
    """So many calls with the store's time, the reply that `step` gives, and the state after it. An
    empty call stands for a store that is emptied.
    """
    chance = random.Random(seed)
    state: dict[str, Any] | None = None
    raw = chance.choice([12.5, 1_795_684_174.25])
    now = 0.0
    workers = [_Worker(f"{index}f{seed:x}", chance) for index in range(chance.choice([2, 5, 12]))]
    for _ in range(count):
        gone = chance.expovariate(chance.choice([30, 100, 1000]))
        if chance.random() < 0.002:
            gone = chance.choice([1.2, 6.0, 300.0])
        raw, now = raw + gone, now + gone
        if chance.random() < 0.004:
            raw += chance.choice([-3600.0, -0.5, 40.0, 86400.0])
        if state is not None and chance.random() < 0.001:
            state = None
            yield {}, raw, {}, {}
        worker = chance.choice(workers)
        call = worker.call(now)
        if chance.random() < 0.002:  # another of the same name
            call = {**call, "sent": call["sent"] + 1.0, "n": call["n"] - chance.choice([0, 1])}
        state, reply = step(state, call, raw)
        yield call, raw, reply, state
        worker.answered(reply)
        if chance.random() < 0.002:
            worker.__init__(f"{chance.getrandbits(40):x}", chance)  # type: ignore[misc]
