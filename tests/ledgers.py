"""Dense traces of calls straight into a ledger: every grant is used, and as late as it may be.

A `Trace` keeps what was granted as intervals of moments at which it may be used, and finds the
worst windows that any choice of those moments makes.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from headway import Limits
from headway.rates import LATENESS
from headway.shared import ledger as source
from headway.shared.ledger import BEAT, EXPIRES, step
from headway.shared.terms import stated, terms_of

__all__ = ["Client", "Pairs", "Step", "Trace", "a_call", "mutant", "worst"]

Step = Callable[..., tuple[dict[str, Any], Any]]  # `step`, or one with something wrong

UNPACED = 1e-9  # seconds a token: the window binds


def a_call(limits: Limits, name: str = "a", n: int = 1, **said: Any) -> dict[str, Any]:
    """A call of the worker `name` that states `limits`, and `said` beyond it."""
    text, rates, budgets, slots = _terms(limits)
    return {
        "id": name, "n": n, "sent": 0.0, "epoch": "", "was": "", "fresh": "born", "version": 0,
        "stated": text, "set": 0, "slots": slots,
        "rates": [each.copy() for each in rates], "budgets": [each.copy() for each in budgets],
        "need": 0, "costs": [[0.0, 0.0] for _ in budgets], "weight": 1.0, "priority": 0.0,
        "held": 0, "use": 0, "want": 0, "unsure": 0.0, "refunds": [], "overs": [], "renews": [],
        "declared": [], "strays": 0, "silent": 0.0, "gate": 0.0, "opens": 0, "gen": 0,
        "numbers": [], "cut": 0, "blob": "", "bye": 0, "pairs": 0, "beside": "", "costs_beside": [],
        **said,
    }  # fmt: skip


@cache
def _terms(limits: Limits) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]], int]:
    return stated(limits), *terms_of(limits)


@dataclass
class Client:
    """A worker that does what `SharedPort` does, with nothing between it and the ledger."""

    name: str
    limits: Limits
    weight: float = 1.0
    priority: float = 0.0
    cost: tuple[int, int] = (1, 100)
    wants: int = 64
    offset: float = 0.0  # of its clock
    n: int = 0
    epoch: str = ""
    version: int = 0
    held: int = 0
    target: int = 0
    use: int = 0
    refunds: list[list[float]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)  # in the next call

    def call(self, now: float, random: Random) -> dict[str, Any]:
        """Its next call, of random costs."""
        self.n += 1
        if self.held > self.target:
            self.held = max(self.target, self.use)
        call = a_call(
            self.limits, self.name, self.n, sent=now + self.offset, epoch=self.epoch,
            version=self.version, weight=self.weight, priority=self.priority, held=self.held,
            use=self.use, want=self.use + self.wants, need=self.wants, refunds=self.refunds,
            fresh=f"{self.name}{self.n}",
        )  # fmt: skip
        call["costs"] = [[random.randint(*self.cost), random.randint(*self.cost)]
                         for _ in call["budgets"]]  # fmt: skip
        call.update(self.said)
        self.refunds, self.said = [], {}
        return call

    def answered(self, reply: dict[str, Any]) -> None:
        """Take the reply."""
        self.reply = reply
        self.epoch, self.version = reply["epoch"], reply["version"]
        self.held, self.target = reply["held"], reply["target"]


class Trace:
    """`clients` ask the ledger `ledger` for all that they can use, `seed` decides what they want.

    `unpaced`: the pace of tokens holds nothing back, their windows do. `refunds`, `repeats`,
    `crashes` and `jumps` are how often a grant is not used, a call is made twice, a worker dies
    (and another comes), the clock of the store jumps.
    """

    def __init__(
        self, clients: list[Client], seed: int, ledger: Step = step, *, unpaced: bool = False,
        refunds: float = 0.0, repeats: float = 0.0, crashes: float = 0.0, jumps: float = 0.0,
    ) -> None:  # fmt: skip
        self.random = Random(seed)
        self.clients = clients
        self.ledger = ledger
        self.unpaced = unpaced
        self.rates = (refunds, repeats, crashes, jumps)
        self.state: dict[str, Any] | None = None
        self.now = 0.0
        self.raw = 5000.0  # what the store's clock shows beyond
        self.grants = 0
        self.starts: list[tuple[float, float, str]] = []  # may be made from, until
        self.tokens: dict[int, list[list[float]]] = {}  # of each budget: from, until, how much
        self.most_slots = 0
        self.dead = 0
        self.heap = [(self.random.random() * 0.1, i) for i in range(len(clients))]
        heapq.heapify(self.heap)

    def run(self, grants: int = 1_000_000, seconds: float = 1e9) -> Trace:
        """Go on until so many calls were granted anything, or for so long."""
        end = self.now + seconds
        while self.grants < grants and self.heap and self.heap[0][0] < end:
            self.now, index = heapq.heappop(self.heap)
            client = self.clients[index]
            if self.random.random() < self.rates[2]:
                self.dead += 1  # it lies, and another comes once the ledger has forgotten it
                self.clients[index] = Client(
                    f"{client.name}'", client.limits, client.weight, client.priority, client.cost,
                    client.wants, self.random.uniform(-9999, 9999),
                )  # fmt: skip
                heapq.heappush(self.heap, (self.now + EXPIRES * self.random.random(), index))
                continue
            self.ask(client)
            ask = client.reply["ask"] or self.now + BEAT
            wait = max(0.0, ask - client.reply["now"])
            beat = 0.25 if client.reply["short"] else BEAT
            heapq.heappush(self.heap, (self.now + min(beat, max(0.02, wait)), index))
        return self

    def ask(self, client: Client) -> dict[str, Any]:
        """Make the next call of `client`, and use what it is granted."""
        random = self.random
        ended = random.randint(0, client.use) if random.random() < 0.5 else 0
        client.use -= ended
        call = client.call(self.now, random)
        if self.unpaced:
            call["budgets"] = [{**each, "interval": UNPACED} for each in call["budgets"]]
        if random.random() < self.rates[3]:
            self.raw += random.choice([-3600.0, -0.5, 3600.0])
        self.state, reply = self.ledger(self.state, call, self.now + self.raw)
        if random.random() < self.rates[1]:
            self.now += 0.01
            self.state, reply = self.ledger(self.state, call, self.now + self.raw)
        assert reply["error"] == "", reply
        client.answered(reply)
        if reply["held"] >= 0:
            client.use = max(client.use, min(reply["held"], reply["target"]))
            self.most_slots = max(self.most_slots, sum(each.use for each in self.clients))
        if reply["count"]:
            self.grants += 1
            self._use(client, reply)
        return reply

    def _use(self, client: Client, reply: dict[str, Any]) -> None:
        late = reply["slack"] + LATENESS
        dues = [
            base + index * reply["spacing"]
            for base, count in reply["runs"]
            for index in range(int(count))
        ]
        for due in dues:
            until = due + late if reply["spacing"] else reply["good"]
            self.starts.append((max(due, reply["now"]), until, client.name))
        for index, amount in enumerate(reply["amounts"]):
            used = amount
            if self.random.random() < self.rates[0]:
                used = amount * self.random.random()
                client.refunds.append([index, reply["slots_of"][index], amount - used])
            begins = max(dues[0], reply["now"])
            self.tokens.setdefault(index, []).append([begins, reply["good"], used])

    def worst_tokens(self, budget: int, window: float) -> float:
        """The most tokens in any window of that many seconds, whenever each grant was used."""
        return worst([(a, b, used) for a, b, used in self.tokens[budget]], window)

    def worst_starts(self, window: float) -> float:
        """The most starts in any window of that many seconds, whenever each was made."""
        return worst([(a, b, 1.0) for a, b, _ in self.starts], window)

    def shares(self) -> dict[str, int]:
        """How many starts each client got."""
        found: dict[str, int] = {}
        for _, _, name in self.starts:
            found[name] = found.get(name, 0) + 1
        return found


class Pairs:
    """`n` workers whose jobs need starts of a ledger of the whole, and some of one of a key's too:
    `limits` are those of the whole, and of each key. A `Trace` for each keeps what was granted.
    """

    def __init__(self, limits: list[Limits], seed: int, ledger: Step = step, n: int = 5) -> None:
        self.random = Random(seed)
        self.ledger = ledger
        self.traces = [Trace([], seed + index) for index in range(len(limits))]
        self.states: list[Any] = [None] * len(limits)
        self.workers = [
            [Client(f"{name}{index}", each, wants=self.random.choice([0, 2, 9]))
             for index, each in enumerate(limits)] for name in "abcdefgh"[:n]
        ]  # fmt: skip
        self.pairs = 0

    def run(self, calls: int) -> Pairs:
        """Make so many calls, each of all ledgers or of some."""
        now = 0.0
        for _ in range(calls):
            now += self.random.expovariate(8 * len(self.workers))
            self.call(self.random.choice(self.workers), now)
        return self

    def call(self, worker: list[Client], now: float) -> None:
        """One worker calls the ledger of the whole, and some of keys."""
        chance = self.random.random()
        first = worker[0]
        for index, client in enumerate(worker):
            if index and self.random.random() < 0.3:
                continue
            if chance < 0.02:
                client.wants = self.random.choice([0, 2, 9])
            call = client.call(now, self.random)
            costs = [[float(self.random.randint(50, 400)), 200.0] for _ in first.limits.token_rates]
            call.update(pairs=9, beside=first.name if index else "", costs_beside=costs)
            whole = self.states[0] if index else None
            raw = now + 5000.0
            self.states[index], reply = self.ledger(self.states[index], call, raw, whole)
            if chance < 0.05:
                again = self.ledger(self.states[index], call, raw, whole)
                assert again == (self.states[index], reply)
            assert reply["error"] == "", reply
            client.answered(reply)
            trace = self.traces[index]
            if reply["count"]:
                trace._use(client, reply)
            for beside in reply["beside"]:
                self.pairs += len(beside["runs"])
                at = self.states[0]["at"]
                self.traces[0]._use(first, {**beside, "now": at})
                for (own, _), (there, _) in zip(reply["runs"], beside["runs"], strict=False):
                    assert 0.003 < there - at - (own - reply["now"]) < 0.016


def mutant(old: str, new: str) -> Step:
    """`step`, with the only `old` in its module replaced by `new`."""
    text = Path(source.__file__).read_text()
    assert text.count(old) == 1, f"{text.count(old)} of {old!r}"
    names: dict[str, Any] = {"__name__": "mutant"}
    exec(compile(text.replace(old, new), source.__file__, "exec"), names)
    return names["step"]  # type: ignore[no-any-return]


def worst(uses: list[tuple[float, float, float]], window: float) -> float:
    """The most in any window of `window` seconds of what is used between two moments each.

    The worst one begins where something may still be used at the latest: all that may be used from
    then on, and may be used before its end.
    """
    by_end = sorted(uses, key=lambda use: use[1])
    starts = sorted((use[0], use[2]) for use in uses)
    begun = [0.0]
    for _, amount in starts:
        begun.append(begun[-1] + amount)
    moments = [start for start, _ in starts]
    most = gone = 0.0
    for _, until, amount in by_end:
        # All that begins before the window's end, but for what can only be used before it begins.
        most = max(most, begun[bisect_left(moments, until + window)] - gone)
        gone += amount
    return most
