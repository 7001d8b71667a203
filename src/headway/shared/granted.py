"""What a worker was granted of a shared ledger: starts, tokens for them, and slots.

A job takes the next start, and its tokens from the oldest grant on; what it does not use goes back
to the sub-slots that were charged. Times are the ledger's, but for what a budget charged lately,
which is by the worker's own.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Mapping
from typing import Any

from headway._core.limits.budget import TokenBudget
from headway._core.limits.port import Asker
from headway.rates import LATENESS
from headway.shared.ledger import GRID
from headway.shared.terms import Terms

__all__ = ["DUST", "MEMORY", "Granted", "SharedBudget", "SharedCharge"]

DUST = 1e-6
"""Tokens that are none: what is left of sums."""

MEMORY = 0.8
"""How much of the mean cost is remembered with each job."""


class Starts:
    """One run of starts that were granted: the `next` of `count`, on the ledger's time. Those that
    are `booked` are for jobs of a key that has limits of its own.
    """

    __slots__ = ("base", "booked", "count", "next", "spacing", "until")

    def __init__(
        self, base: float, count: float, reply: Mapping[str, Any], *, booked: bool
    ) -> None:
        self.booked = booked
        self.base, self.spacing = base, reply["spacing"]
        self.count = int(count)
        self.next = 0
        self.until = reply["slack"] + LATENESS  # how late one may go
        if not self.spacing:
            self.until = reply["good"] - base

    def due(self) -> float:
        """The moment of the next one."""
        return float(self.base + self.next * self.spacing)


class Grant:
    """Tokens of one budget that were granted, good until a moment of the ledger's."""

    __slots__ = ("good", "left", "slot")

    def __init__(self, slot: float, left: float, good: float) -> None:
        self.slot = slot
        self.left = left
        self.good = good


class SharedCharge:
    """What one attempt holds of one budget of the ledger: of which sub-slots, in which version."""

    __slots__ = ("parts", "reserved", "version")

    def __init__(self, parts: list[tuple[float, float]], reserved: float, version: int) -> None:
        self.parts = parts
        self.reserved = reserved
        self.version = version


class SharedBudget:
    """One budget of the ledger's, as the core settles with it what it charged to a job."""

    def __init__(
        self, granted: Granted, index: int, local: TokenBudget | None, width: float
    ) -> None:
        self.index = index
        self.grants: deque[Grant] = deque()
        self.mean = 0.0
        self.rate: Any = None if local is None else local.rate
        self._granted = granted
        self._local = local
        self._width = width
        self._spent: deque[list[float]] = deque()  # [sub-slot by the worker's clock, charged in it]

    def weigh(self, cost: float) -> float:
        """What of `cost` it counts; one of each attempt, where it counts attempts."""
        return 1.0 if self._local is None else self._local.weigh(cost)

    def record(self, requests: int, tokens: float, now: float) -> None:
        """Charge what was used elsewhere: `tokens`, in that many requests."""
        used = float(requests) if self._local is None else self._local.weigh(tokens)
        self.note(used, now)
        self._granted.charge(self.index, used)

    def needs(self, cost: float) -> float:
        """What an attempt of `cost` takes: one larger than the whole limit takes all of it."""
        weighed = self.weigh(cost)
        return weighed if self.rate is None else min(weighed, float(self.rate.limit))

    def held(self) -> float:
        """What was granted and is not taken."""
        return sum(grant.left for grant in self.grants)

    def take(self, cost: float, now: float) -> SharedCharge:
        """Take what an attempt needs, from the oldest grant on."""
        needed = reserved = self.needs(cost)
        parts: list[tuple[float, float]] = []
        for grant in self.grants:
            part = min(grant.left, needed)
            if part > 0:
                grant.left -= part
                needed -= part
                parts.append((grant.slot, part))
            if needed <= DUST:
                break
        if reserved > 0:
            self.mean = reserved if not self.mean else MEMORY * self.mean + (1 - MEMORY) * reserved
        self.note(reserved, now)
        return SharedCharge(parts, reserved, self._granted.version)

    def note(self, amount: float, now: float) -> None:
        """Remember what was charged, for a ledger that has to be told."""
        slot = now // self._width
        if not self._spent or self._spent[-1][0] < slot:
            self._spent.append([slot, 0.0])
        self._spent[-1][1] += amount
        while self._spent[0][0] < slot - GRID:
            self._spent.popleft()

    def lately(self, now: float) -> list[tuple[float, float]]:
        """What was charged in the last window: how long ago, at least, and how much."""
        slot = now // self._width
        kept = [each for each in self._spent if each[0] >= slot - GRID]
        return [(max(0.0, now - (at + 1) * self._width), amount) for at, amount in kept]

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        for each in self._spent:
            each[0] += -(-seconds // self._width)

    def sent_late(self, charge: SharedCharge, now: float) -> None:
        """Nothing changes: the store says how late one may go."""

    def settle(self, charge: SharedCharge, used: float, now: float) -> None:
        """Give back what `charge` reserved and was not `used`, or charge what was used beyond."""
        used = self.weigh(used)
        if used > charge.reserved:
            self._granted.charge(self.index, used - charge.reserved)
        else:
            self._give_back(charge, charge.reserved - used)

    def release(self, charge: SharedCharge, now: float) -> None:
        """Give back all of `charge`."""
        self._give_back(charge, charge.reserved)

    def _give_back(self, charge: SharedCharge, amount: float) -> None:
        for slot, part in reversed(charge.parts):
            back = min(part, amount)
            if back > 0:
                self._granted.refund(self.index, slot, back, charge.version)
                amount -= back


class Granted:
    """What one worker was granted of one ledger and has not used, and what it is to tell of it.
    `terms` are the limits as the ledger counts them; `held` is how many slots it has (below 0 for
    no limit of them), `target` how many it is to come down to.
    """

    def __init__(self) -> None:
        self.terms: Terms = ([], [], 0)
        self.starts: deque[Starts] = deque()
        self.budgets: list[SharedBudget] = []
        self.held = self.target = 0
        self.version = 0  # of the limits under which it was granted
        self.owed = 0  # requests that were sent elsewhere, and took no start yet
        self.refunds: dict[tuple[int, float], float] = {}  # by budget and sub-slot
        self.overs: dict[int, float] = {}  # by budget

    @property
    def are_starts(self) -> bool:
        """Whether an attempt needs a start that was granted."""
        return bool(self.terms[0] or self.terms[1])

    @property
    def has_slots(self) -> bool:
        """Whether an attempt needs a slot that was granted."""
        return self.held >= 0

    def interval(self) -> float:
        """Seconds between two starts of all workers, as the rates of requests let them."""
        return max((rate["clearance"] / rate["units"] for rate in self.terms[0]), default=0.0)

    def add(self, reply: Mapping[str, Any], *, booked: bool = False) -> None:
        """Take what a `reply` grants."""
        for base, count in reply["runs"]:
            insort(self.starts, Starts(base, count, reply, booked=booked), key=Starts.due)
        self.pay()
        for budget, slot, amount in zip(
            self.budgets, reply["slots_of"], reply["amounts"], strict=True
        ):
            budget.grants.append(Grant(slot, amount, reply["good"]))

    def forget(self) -> None:
        """Be of a worker that the ledger has never heard of."""
        self.drop()
        self.held = self.target = 0
        self.version = self.owed = 0
        self.refunds, self.overs = {}, {}

    def drop(self) -> None:
        """Use none of it: it may be somebody else's."""
        self.starts.clear()
        for budget in self.budgets:
            budget.grants.clear()

    def drop_late(self, latest: float) -> None:
        """Forget the starts that were not used in time, and give back tokens that were not, where
        the ledger's time is `latest` at the latest.
        """
        while self.starts:
            starts = self.starts[0]
            while starts.next < starts.count and latest > starts.due() + starts.until:
                starts.next += 1
            if starts.next < starts.count:
                break
            self.starts.popleft()
        for budget in self.budgets:
            while budget.grants and latest > budget.grants[0].good:
                grant = budget.grants.popleft()
                if grant.left > DUST:
                    self.refund(budget.index, grant.slot, grant.left, self.version)

    def outstanding(self, *, booked: bool = True) -> int:
        """The starts that are left, with those that are booked or without."""
        return sum(
            starts.count - starts.next for starts in self.starts if booked or not starts.booked
        )

    def pay(self) -> None:
        """Let what was sent elsewhere take the starts that are granted."""
        paid = min(self.owed, self.outstanding())
        self.use(paid)
        self.owed -= paid

    def use(self, count: int) -> None:
        """The next `count` starts, of those that are granted, are used."""
        while count:
            starts = self.starts[0]
            used = min(count, starts.count - starts.next)
            starts.next += used
            count -= used
            if starts.next >= starts.count:
                self.starts.popleft()

    def take(self, job: Asker, now: float) -> None:
        """`job` starts, with what is granted."""
        self.use(1)
        if self.budgets:
            charges: list[Any] = job.charges or []
            charges += [(budget, budget.take(job.cost, now)) for budget in self.budgets]
            job.charges = charges

    def refund(self, index: int, slot: float, amount: float, version: int) -> None:
        """What was charged to a sub-slot was not used."""
        if version == self.version:
            self.refunds[index, slot] = self.refunds.get((index, slot), 0.0) + amount

    def charge(self, index: int, amount: float) -> None:
        """More was used than was charged."""
        self.overs[index] = self.overs.get(index, 0.0) + amount
