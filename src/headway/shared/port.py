"""The port to a shared ledger: one worker's side of the protocol, without any waiting or I/O.

It says when the next call is due and what it says, and takes the reply. What is wanted is known to
`Demand`, what was granted to `Granted`, the calls and the ledger's time to `Conversation`, and what
may start without a reply to `Fallback`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from headway._core.counters import SharedStatistics
from headway._core.limits.budget import TokenBudget
from headway._core.limits.port import Asker, Port
from headway._core.limits.scope import Scope
from headway.errors import InvalidLimit
from headway.kinds import Binds
from headway.kinds._words import duration
from headway.rates import Away, Limits
from headway.shared.conversation import SOON, Call, Conversation, Reply
from headway.shared.demand import LEAST, Demand
from headway.shared.fallback import Fallback
from headway.shared.granted import DUST, Granted, SharedBudget
from headway.shared.ledger import BEAT, LEAD
from headway.shared.terms import in_words, limits_of, stated, terms_of

__all__ = ["SharedPort"]

INFINITY = float("inf")

_RELEASE = 0.1  # until what an idle worker holds is given back
_AHEAD = 0.1  # seconds before its time that a call joins another one
_GATHER = (
    0.07  # seconds by which more is asked for later than may be, so that one call asks for all
)


class SharedPort(Port):
    """One worker's part of the limits of one `scope`, which a ledger holds.

    `name` is what the ledger is called, `queued` says how many jobs wait, `adopt` puts in force the
    limits that another worker has stated, `wall` is what the clock of the world shows beyond the
    caller's.
    """

    def __init__(
        self,
        name: str,
        scope: Scope,
        limits: Limits,
        *,
        queued: Callable[[], int],
        adopt: Callable[[Limits], None],
        weight: float = 1.0,
        away: Away = "share",
        wall: Callable[[], float] = lambda: 0.0,
        where: str = "",
    ) -> None:
        super().__init__()
        self.name = name
        self.where = where or repr(name)  # what people call it
        self.scope = scope
        self.queued = queued
        self.adopt = adopt
        self.weight = weight
        self.wall = wall
        self.happened: list[tuple[str, str]] = []  # what happened, for events
        self.binds = ""
        self.until = -INFINITY
        self.chief = False
        self.unlimited = False  # whether none may be stated: keys have theirs
        self.several = False  # whether jobs need starts of another ledger's too
        self.whole: SharedPort | None = None  # that other port, where this is a key's
        self.pairs = 0  # jobs of keys that wait for a start of this one's and one of their key's
        self.on_wish: Callable[[], object] | None = None
        self.conversation = Conversation()
        self._granted = Granted()
        self._demand = Demand(scope, self._granted, queued)
        self._fallback = Fallback(scope, self._granted, self.conversation, away)
        self._stated = stated(limits)
        self._begin()
        self._read_terms(limits)

    def begin_anew(self) -> None:
        """Be a worker that the ledger has never heard of, and that holds nothing."""
        self.conversation.begin_anew()
        self._granted.forget()
        self._demand.begin_anew()
        self._fallback.begin_anew()
        self._begin()

    def _begin(self) -> None:
        self._gate = -INFINITY
        self._ask_at = -INFINITY
        self._beat = BEAT
        self._restate = False
        self._rewords = False  # whether the ledger may count the same limits by other terms
        self._opens = False
        self._gen = 0
        self._published: list[float] = []
        self._news = False  # what others are to know at once

    def _read_terms(self, limits: Limits) -> None:
        self._granted.terms = found = terms_of(limits)
        local = self._local_budgets()
        quotas = [*self.scope.quotas]
        self._granted.budgets = [
            SharedBudget(self._granted, index, _local(index, local, quotas, terms), terms["width"])
            for index, terms in enumerate(found[1])
        ]
        self._granted.starts.clear()
        self._granted.refunds.clear()

    def _local_budgets(self) -> list[TokenBudget]:
        """Those that the user states, in the order of the ledger's."""
        return [each for each in self.scope.budgets if not each.by_server]

    # What the core asks

    @property
    def passing(self) -> float:
        """How many starts may be granted to a key at once, which pass if others go before it."""
        interval = self._granted.interval()
        return 1.0 + LEAD / interval if interval > 0 and self.is_paired else 0.0

    def ready_at(self, cost: float, now: float, *, slots: bool = True) -> float:
        """The moment from which an attempt of `cost` tokens may start: infinity until a reply."""
        conversation, granted = self.conversation, self._granted
        if conversation.is_away(now):
            return self._fallback.ready_at(cost, now, slots=slots)
        if not conversation.was_reached or now + conversation.upper > conversation.expires:
            return INFINITY
        if slots and self._demand.slots_free() <= 0:
            return INFINITY
        gate = self._gate - conversation.lower
        if not granted.are_starts:
            return gate if gate > now else -INFINITY
        granted.drop_late(now + conversation.upper)
        if not granted.starts:
            return INFINITY
        for budget in granted.budgets:
            if budget.held() + DUST < budget.needs(cost):
                return INFINITY
        return max(gate, granted.starts[0].due() - conversation.lower)

    def _wish(self) -> None:
        if self.on_wish is not None:
            self.on_wish()

    def ask(self, job: Asker, now: float) -> float:
        """`job` waits for this port alone: a call is due."""
        if self._has_keys and self.ready_at(job.cost, now) < INFINITY:
            return INFINITY  # it has its start, later than that of its key
        if self.whole is not None:
            self._demand.ask_beside(job, self.whole._granted)
        if self._demand.ask(job):
            self._news = True
        self._wish()
        return INFINITY

    def ask_nothing(self) -> None:
        """Nobody waits for it, as far as is known."""
        self._demand.asked = False

    def take(self, job: Asker, now: float) -> None:
        """An attempt of `job` starts."""
        self._demand.started()
        self._wish()
        if self.conversation.is_away(now):
            self._fallback.take(job, now)
        elif self._granted.are_starts and self._granted.starts:
            self._granted.take(job, now)

    def record(self, requests: int, tokens: float, now: float) -> bool:
        """What was sent elsewhere takes the starts that are granted, and the next ones."""
        if self._granted.are_starts:
            self._granted.owed += requests
            self._granted.pay()
        for budget in self._granted.budgets:
            budget.record(requests, tokens, now)
        self._wish()
        return self._granted.are_starts

    def give_back(self) -> None:
        """An attempt that took its start was never sent: the start has passed."""

    def held_by(self, now: float) -> tuple[Binds, float]:
        """What holds the next attempt back, and until when, as far as is known."""
        if not self.conversation.is_known:
            return Binds.ELSEWHERE, INFINITY
        if self._demand.slots_free() <= 0:
            # Whoever wants none has given back its own, and does not know whether one is free.
            return Binds.CONCURRENCY if self._demand.asked else Binds.ELSEWHERE, INFINITY
        if not self._granted.starts and self._granted.are_starts and self.binds:
            return Binds(self.binds), max(now, self.until - self.conversation.lower)
        return Binds.NOTHING, now

    # What the ledger is told

    def limits_changed(self, limits: Limits, configured: Limits) -> None:
        """Limits that hold from now on: stated anew by the user, or as a provider enforces them."""
        text, old = stated(limits), self._granted.terms
        changed = text != self._stated
        self._stated = text
        self.unlimited = self.unlimited or (changed and not text)
        self._read_terms(configured)
        mended = self.conversation.mended()  # what was stated before was at fault, maybe
        others = self._granted.terms != old
        if changed or mended or (others and self._granted.version):
            self._restate = self._news = True
            self._wish()
        elif others:  # who has never been answered changes nothing for those who state others
            self._rewords = True

    def opened(self) -> None:
        """Have every gate opened, and what was learned forgotten: ``Scheduler.reset``."""
        self._opens = self._news = True
        self._wish()
        self._gate = -INFINITY
        self.conversation.mended()

    @property
    def holds(self) -> bool:
        """Whether anything is held, wanted, or to be told."""
        return bool(
            self._demand.asked or self._granted.held > 0 or self._granted.starts
            or self._granted.refunds or self._granted.overs or self.scope.in_flight or self._news
            or self._fallback.strays or self.conversation.call is not None
        )  # fmt: skip

    # Where jobs need starts of several ledgers

    def stand_beside(self, whole: SharedPort, on_wish: Callable[[], object]) -> None:
        """This is a key's: its jobs need starts of `whole`, too. `on_wish` is told when it may want
        anything.
        """
        self.whole, self.on_wish = whole, on_wish
        self.several = whole.several = True

    @property
    def _has_keys(self) -> bool:
        return self.several and self.whole is None

    @property
    def is_paired(self) -> bool:
        """Whether each job of a key needs a start of the whole's together with its own."""
        return (
            self.whole is not None and self._granted.are_starts and self.whole._granted.are_starts
        )

    def unpaired(self) -> int:
        """How many of a key's jobs may need a start of the whole's alone."""
        if self.is_paired:
            return 0
        return int(max(0, min(self.queued(), self._demand.slots_free() + self._demand.ends)))

    def _beside(self) -> str:
        """What the ledger of the whole knows it by, where starts of both are granted together."""
        return self.whole.conversation.id if self.whole is not None and self.is_paired else ""

    def add_beside(self, beside: Reply) -> None:
        """Take what a key's ledger has booked of this one's, unless it was made anew meanwhile."""
        same = not self.conversation.is_other(beside["epoch"])
        if same and beside["version"] == self._granted.version:
            self._granted.add(beside, booked=True)

    def due_at(self, now: float) -> float:
        """When the next call is due, infinity for never; what happens may make it sooner."""
        return self._next(now, joins=False)

    def joins_at(self, now: float) -> float:
        """The moment from which it has something to say in a call that is made for another."""
        return self._next(now, joins=True)

    def _next(self, now: float, *, joins: bool) -> float:
        if self.conversation.call is not None:  # the same one again
            return self.conversation.again_at()
        if self._changed() or self._news:
            return -INFINITY
        if not self.holds:
            return INFINITY
        due = self.conversation.called_at + self._beat - (_AHEAD if joins else 0.0)
        if not self.conversation.was_reached:
            return -INFINITY
        if self._demand.asked or (self._granted.starts and self._demand.starts() > 0):
            ask = self._ask_at - self.conversation.lower
            if not self._granted.starts and self._demand.slots_free() <= 0:
                ask = max(ask, self.conversation.called_at + SOON)
            due = min(
                due, ask + (_GATHER if self.several and self._granted.starts and not joins else 0.0)
            )
        spare = self._granted.held > self.scope.in_flight
        if spare and not (self._demand.asked or self._granted.starts or self.queued()):
            due = min(due, self.conversation.called_at + _RELEASE - (_AHEAD if joins else 0.0))
        return due

    def _changed(self) -> bool:
        """Whether control has moved a limit, or shut the gate, since the last call."""
        shut = self._shut_until()
        if shut is not None and shut > self._gate + LEAST:
            return True
        numbers = self._numbers_now()
        return _cut(self._published, numbers) or (self.chief and numbers != self._published)

    def _numbers_now(self) -> list[float]:
        scope = self.scope
        capacity = scope.concurrency.limit
        numbers = [
            scope.request_rate.factor if scope.paces and scope.request_rate.follows else 0.0,
            capacity if capacity < scope.concurrency.ceiling else 0.0,
        ]
        local = self._local_budgets()
        for index in range(len(self._granted.budgets)):
            follows = index < len(local) and local[index].control.follows
            numbers.append(local[index].control.factor if follows else 0.0)
        return numbers if any(numbers) else []

    def begin(self, now: float) -> dict[str, Any]:
        """The call to make now: the last one again where that was not answered."""
        conversation, granted, demand = self.conversation, self._granted, self._demand
        if (call := conversation.again(now)) is not None:
            return call
        granted.drop_late(now + conversation.upper)
        self._give_back_slots()
        gone = now - conversation.called_at
        shut = self._shut_until()
        numbers = self._numbers_now()
        cut = _cut(self._published, numbers)
        rates, budgets, slots = granted.terms
        call = conversation.begin({
            "version": granted.version, "stated": self._stated, "set": 1 if self._restate else 0,
            "rates": rates, "budgets": budgets, "slots": slots,
            **demand.said(gone, for_keys=self._has_keys, alone=self._fallback.live == 1),
            "weight": self.weight, "held": max(0, granted.held), "use": self.scope.in_flight,
            "unsure": conversation.upper - conversation.lower,
            "refunds": [[i, slot, a] for (i, slot), a in sorted(granted.refunds.items())],
            "overs": [[i, amount] for i, amount in sorted(granted.overs.items())],
            "renews": self._renewals(now), "declared": self._declared(now),
            "strays": self._fallback.strays, "silent": self._fallback.silent(now),
            "gate": shut or 0.0, "opens": 1 if self._opens else 0, "gen": self._gen,
            "numbers": numbers if cut or self.chief else [], "cut": 1 if cut else 0,
            "blob": json.dumps(self.scope.learned()) if cut or self.chief else "", "bye": 0,
            "pairs": self.pairs, "beside": self._beside(),
        }, now)  # fmt: skip
        if shut is not None:
            self._gate = max(self._gate, shut)
        self._published = numbers
        granted.refunds, granted.overs, self._fallback.strays = {}, {}, 0
        self._restate = self._opens = self._news = False
        demand.begin_call(gone)
        return call

    def _give_back_slots(self) -> None:
        """Hold no more slots than the ledger says, and none that nobody wants."""
        granted, in_flight = self._granted, self.scope.in_flight
        if granted.has_slots and granted.held > granted.target:
            granted.held = max(granted.target, in_flight)
        if granted.has_slots and not (self._demand.asked or self.queued() or granted.starts):
            granted.held = in_flight

    def _shut_until(self) -> float | None:
        """When the gate opens that control has shut, on the ledger's time; None for none."""
        gate = self.scope.gate
        if gate.shut and -INFINITY < gate.opens < INFINITY:
            return gate.opens + self.conversation.lower
        return None

    @property
    def is_to_leave(self) -> bool:
        """Whether the ledger knows it, or has not been told yet what others are to know."""
        return self.conversation.is_known or self._news

    def farewell(self, now: float) -> dict[str, Any]:
        """The call by which it leaves, with what is still to be settled."""
        self.conversation.call = None
        self._granted.held, self._demand.asked = 0, False
        self._granted.starts.clear()
        call = {**self.begin(now), "bye": 1, "need": 0}
        self.conversation.call = None
        return call

    def _renewals(self, now: float) -> list[list[float]]:
        """When quotas begin anew that do so by the clock of the world, on the ledger's time."""
        found = []
        wall = self.wall()
        for index in range(len(self._granted.budgets)):
            rate = self._rate_of_quota(index)
            if rate is not None and rate.resets is not None:
                at = rate.renews_after(now + wall) - wall
                found.append([index, at + self.conversation.lower])
        return found

    def _rate_of_quota(self, index: int) -> Any:
        budgets = self._granted.terms[1]
        if budgets[index]["kind"] != "quota":
            return None
        before = sum(each["kind"] != "quota" for each in budgets)
        return self.scope.quotas[index - before].rate

    def _declared(self, now: float) -> list[list[float]]:
        """What it was charged lately, by age: a ledger that was emptied is told of it."""
        declared: list[list[float]] = []
        for budget in self._granted.budgets:
            declared += [[budget.index, age, amount] for age, amount in budget.lately(now)]
        return declared

    # What the ledger says

    def answered(self, reply: Reply, now: float) -> None:
        """Take the reply to the last call. Raises `InvalidLimit` where limits contradict."""
        conversation, granted = self.conversation, self._granted
        call = conversation.take_call()
        error = reply["error"]
        if error == "twin":
            self.begin_anew()
            self.happened.append(("twin", "another worker calls itself the same"))
            return
        if error == "differs":
            raise _differs(self.where, call["stated"], reply["stated"])
        if conversation.is_other(reply["epoch"]):
            self.happened.append(("emptied", "its ledger was emptied, or made anew"))
            if granted.has_slots:
                granted.held = min(granted.held, self.scope.in_flight)
            granted.drop()
            self._gen = granted.version = 0  # they begin anew there
        gone = conversation.heard(reply, call["sent"], now)
        if gone is not None:
            self.happened.append(("back", f"after {duration(gone)}"))
        if reply["version"] != self._granted.version:
            self._take_limits(reply, call)
        self._fallback.live = reply["live"]
        self.scope.elsewhere = reply["elsewhere"]
        self.scope.part = reply["part"]
        granted.held, granted.target = int(reply["held"]), int(reply["target"])
        self._gate = reply["gate"] or -INFINITY
        self.binds, self.until = reply["binds"], reply["until"]
        # With a slot that is free it waits for a start, and slow rates let nobody start soon.
        slow = self._demand.slots_free() > 0 and granted.interval() >= BEAT
        self._beat = SOON if reply["short"] and not slow else BEAT
        self._ask_at = reply["ask"]
        if reply["count"]:
            self._granted.add(reply)
        for beside in reply["beside"]:
            assert self.whole is not None
            self.whole.add_beside(beside)
        for index, quota in enumerate(self.scope.quotas[: len(reply["quotas"])]):
            quota.follow(self._used_of_quota(index, reply["quotas"][index], now), now)
        self._adopt(reply, now)

    def _used_of_quota(
        self, index: int, used: list[list[float]], now: float
    ) -> list[tuple[float, float]]:
        """What is `used` of a quota, without what this worker was granted and has not taken yet."""
        budgets = self._granted.budgets
        held = budgets[len(budgets) - len(self.scope.quotas) + index].held()
        found = []
        for age, amount in reversed(used):
            own = min(held, amount)
            held -= own
            found.append((now + age, amount - own))
        return found[::-1]

    def _take_limits(self, reply: Reply, call: Call) -> None:
        joined = not self._granted.version and not self._stated
        self._granted.version = int(reply["version"])
        self._granted.refunds.clear()
        text = reply["stated"]
        for budget in self._granted.budgets:
            budget.grants.clear()
        if not text and not self._stated and not self.unlimited:
            raise self._unstated()
        if text != self._stated:
            limits = limits_of(text)
            self._stated = text
            self.adopt(limits)
            self._restate = self._news = False
            if not joined:
                self.happened.append(("restated", "another worker has changed the limits"))
        elif self._rewords:
            self._restate = self._news = True
        self._rewords = False

    def _adopt(self, reply: Reply, now: float) -> None:
        """Follow what the control of another worker has found."""
        self.chief = bool(reply["chief"])
        gen = int(reply["gen"])
        if gen != self._gen:
            self._gen = gen
            if not reply["numbers"]:
                self.scope.forget_learned(now)
            elif not self.chief or not self._published:
                self.scope.adopt_learned(json.loads(reply["blob"] or "{}"), now)
            self._published = self._numbers_now()
        if not self.chief and reply["numbers"]:
            self.scope.follow_factors(
                reply["numbers"][0], reply["numbers"][2 : 2 + len(self.scope.budgets)], now
            )
            self._published = self._numbers_now()

    def unanswered(self, why: str, now: float) -> None:
        """The last call got no reply: it is made again."""
        conversation, granted = self.conversation, self._granted
        if conversation.stood_still(now):
            granted.held = min(granted.held, self.scope.in_flight)
            granted.starts.clear()
        at_once = self._fallback.away == "open" or not conversation.was_reached
        if conversation.failed(now, at_once=at_once):
            self._fallback.begin(now)
            self.happened.append(("lost", why))
        if (call := conversation.give_up(now)) is not None:
            self._say_again(call)

    def _say_again(self, call: Call) -> None:
        """Say in the next call what `call` said, which nobody may know any more. Nothing is given
        back twice, and what was used is told twice rather than never.
        """
        for index, amount in call["overs"]:
            self._granted.charge(index, amount)
        self._fallback.again(call)
        self._restate = self._restate or bool(call["set"])
        self._opens = self._opens or bool(call["opens"])
        self._news = self._news or self._restate or self._opens
        if call["cut"]:
            self._published = []

    def _unstated(self) -> InvalidLimit:
        return InvalidLimit(
            f"nobody has stated limits at {self.where} yet, and this Scheduler states none",
            fix='state them here, e.g. Scheduler("600/min", shared=...), or start a worker that '
            "does.",
        )

    def statistics(self, now: float) -> SharedStatistics | None:
        """How the limits are shared."""
        conversation, live = self.conversation, self._fallback.live
        since = conversation.away_since
        away = None if since is None else now - since
        return SharedStatistics(live, int(self.scope.elsewhere), conversation.calls, away)

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self.conversation.shift(seconds)
        self._fallback.shift(seconds)
        for budget in self._granted.budgets:
            budget.shift(seconds)


def _local(
    index: int, local: list[TokenBudget], quotas: list[Any], terms: Mapping[str, Any]
) -> TokenBudget | None:
    """The budget of the scope that the ledger's of that index is; None where it counts requests."""
    if index < len(local):
        return local[index]
    return None if terms["each"] else quotas[index - len(local)]


def _cut(before: list[float], after: list[float]) -> bool:
    """Whether a limit in force was lowered; 0 stands for one that was not."""
    for index, number in enumerate(after):
        if number <= 0:
            continue
        old = before[index] if index < len(before) and before[index] > 0 else INFINITY
        if number < old * (1 - 1e-9):
            return True
    return False


def _differs(where: str, ours: str, theirs: str) -> InvalidLimit:
    mine, other = limits_of(ours), limits_of(theirs)
    return InvalidLimit(
        f"the limits shared at {where} are stated already, and differ: {in_words(other)} there, "
        f"{in_words(mine)} here",
        fix="state the same, or none (to take those that are there); set_limits() changes them for "
        "all workers, and `headway limits NAME --reset` forgets them.",
    )
