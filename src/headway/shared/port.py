"""The port to a shared ledger: one worker's side of the protocol, without any waiting or I/O.

It says when the next call is due and what it says, takes the reply, and goes on without one; starts
and tokens that were granted are kept by `Granted`. The time of the ledger is known as an interval
alone: it is at least what a reply said when it came, and at most what it said counted from when its
call went. *Not before* is judged by the lower end, *no longer good* by the upper.

Without a reply it goes on for a while with a part of the pace that leaves room for all others, in
case they do the same: half of an equal share. It starts nothing more beyond the slots it held, and
nothing on those that others may have got.
"""

from __future__ import annotations

import json
import math
import os
import socket
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from headway._core.counters import SharedStatistics
from headway._core.limits.budget import TokenBudget
from headway._core.limits.port import Asker, Port
from headway._core.limits.scope import Scope
from headway.errors import HeadwayError, InvalidLimit, Unavailable
from headway.kinds import Binds
from headway.rates import LATENESS, Away, Limits
from headway.shared.granted import DUST, Granted, SharedBudget, SharedCharge
from headway.shared.ledger import BEAT, GRID, LEAD
from headway.shared.stores import StoreAway
from headway.shared.terms import in_words, limits_of, stated, terms_of

__all__ = ["SharedPort"]

INFINITY = float("inf")

_LEAST = 0.02  # seconds: what is nearer than that is the same moment
_RELEASE = 0.1  # until what an idle worker holds is given back
_SOON = 0.25  # between two calls, where slots are short
_SAMPLES = 16  # calls by which the ledger's time is known
_AGES = 30.0  # seconds after which a sample is too old: clocks drift
_CALM = 60.0  # seconds for which it goes on without a reply
_MORE = 1.2  # of the mean cost: what is granted and not used is given back
_FIRST = 1e9  # no priority is above it
_TOO_LONG = 4.0  # seconds without a reply after which the ledger may have forgotten the worker
_TAIL = 0.5  # seconds in which what is in flight ends, before others get its slot
_SPARE, _AHEAD = 8, 0.1  # starts for jobs that have not come yet, and for how many seconds of them
_MOST = 100_000  # starts that are asked for at once
_BROKEN_FOR = 1.0  # seconds until a store that refused is asked again
# Where a job needs a start of the whole's and one of its key's: seconds by which either may be
# late, and by which the next are asked for later than they may be, so that one call asks for both.
_MISS, _GATHER = 0.06, 0.07


class _Sample(NamedTuple):
    """What one call shows of the ledger's time, as offsets from the worker's clock."""

    at: float
    lower: float
    upper: float


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
        self.away: Away = away
        self.wall = wall
        self.calls = 0  # that were answered
        self.live = 1  # workers that want anything
        self.away_since: float | None = None  # since when no call was answered
        self.happened: list[tuple[str, str]] = []  # what happened, for events
        self.binds = ""
        self.until = -INFINITY
        self.chief = False
        self.several = False  # whether jobs need starts of another ledger's too
        self.whole: SharedPort | None = None  # that other port, where this is a key's
        self.late = 0.0  # seconds by which a start may be late
        self.on_wish: Callable[[], object] | None = None
        self._epoch = ""
        self._stated = stated(limits)
        self._why: HeadwayError | None = None  # why no call can be answered
        self._broken_at = -INFINITY
        self._granted = Granted()
        self.begin_anew()
        self._read_terms(limits)

    def begin_anew(self) -> None:
        """Be a worker that the ledger has never heard of, and that holds nothing."""
        self._id, self._n = _new_id(), 0
        self._was = ""  # what it was called before, as the ledger may know it
        self._often = 0.0  # starts a second, lately
        self._granted.forget()
        self._call: dict[str, Any] | None = None
        self._called_at = self._tried_at = self._failed_at = self._heard_at = -INFINITY
        self._samples: deque[_Sample] = deque(maxlen=_SAMPLES)
        self._lower = self._upper = 0.0
        self._held = self._target = 0
        self._expires = -INFINITY
        self._gate = -INFINITY
        self._asked = False
        self._head: tuple[float, ...] = ()
        self._priority = 0.0
        self._ask_at = -INFINITY
        self._beat = BEAT
        self._recent = 0
        self._ends = 0
        self._strays = 0
        self._strayed_at = -INFINITY  # the first of them
        self._next_away = -INFINITY
        self._restate = False
        self._opens = False
        self._gen = 0
        self._published: list[float] = []
        self._news = False

    def _read_terms(self, limits: Limits) -> None:
        self.terms = terms_of(limits)
        local = [*self.scope.budgets]
        quotas = [*self.scope.quotas]
        self._granted.budgets = [
            SharedBudget(self._granted, index, self._local(index, local, quotas), terms["width"])
            for index, terms in enumerate(self.terms[1])
        ]
        self._granted.starts.clear()
        self._granted.refunds.clear()

    def _local(self, index: int, local: list[TokenBudget], quotas: list[Any]) -> TokenBudget | None:
        budgets = [each for each in local if not each.by_server]
        if index < len(budgets):
            return budgets[index]
        quota = quotas[index - len(budgets)]
        return None if self.terms[1][index]["each"] else quota

    # What the core asks

    @property
    def _grants_starts(self) -> bool:
        return bool(self.terms[0] or self.terms[1])

    @property
    def _has_slots(self) -> bool:
        return self._held >= 0

    def ready_at(self, cost: float, now: float, *, slots: bool = True) -> float:
        """The moment from which an attempt of `cost` tokens may start: infinity until a reply."""
        if self.away_since is not None and now - self._heard_at > _SOON:
            return self._ready_away(cost, now, slots=slots)
        if self._heard_at == -INFINITY or now + self._upper > self._expires:
            return INFINITY
        if slots and self._has_slots and self.scope.in_flight >= min(self._held, self._target):
            return INFINITY
        gate = self._gate - self._lower
        if not self._grants_starts:
            return gate if gate > now else -INFINITY
        self._granted.drop_late(now + self._upper)
        if not self._granted.starts:
            return INFINITY
        for budget in self._granted.budgets:
            if budget.held() + DUST < budget.needs(cost):
                return INFINITY
        return max(gate, self._granted.starts[0].due() - self._lower)

    def _wish(self) -> None:
        if self.on_wish is not None:
            self.on_wish()

    def ask(self, job: Asker, now: float) -> float:
        """`job` waits for this port alone: a call is due."""
        self._asked = True
        self._wish()
        self._head = tuple(budget.needs(job.cost) for budget in self._granted.budgets)
        if job.priority > self._priority:
            self._news = True
        self._priority = job.priority
        return INFINITY

    def ask_nothing(self) -> None:
        """Nobody waits for it, as far as is known."""
        self._asked = False

    def take(self, job: Asker, now: float) -> None:
        """An attempt of `job` starts."""
        self._recent += 1
        self._wish()
        if self.away_since is not None and now - self._heard_at > _SOON:
            self._take_away(job, now)
            return
        if not self._grants_starts or not self._granted.starts:
            return
        self._granted.take(job, now)

    def record(self, requests: int, tokens: float, now: float) -> bool:
        """What was sent elsewhere takes the starts that are granted, and the next ones."""
        if self._grants_starts:
            self._granted.owed += requests
            self._granted.pay()
        for budget in self._granted.budgets:
            budget.record(requests, tokens, now)
        self._wish()
        return self._grants_starts

    def give_back(self) -> None:
        """An attempt that took its start was never sent: the start has passed."""

    def held_by(self, now: float) -> tuple[Binds, float]:
        """What holds the next attempt back, and until when, as far as is known."""
        if self.away_since is not None or self._heard_at == -INFINITY:
            return Binds.ELSEWHERE, INFINITY
        if self._has_slots and self.scope.in_flight >= min(self._held, self._target):
            # Whoever wants none has given back its own, and does not know whether one is free.
            return Binds.CONCURRENCY if self._asked else Binds.ELSEWHERE, INFINITY
        if not self._granted.starts and self._grants_starts and self.binds:
            return Binds(self.binds), max(now, self.until - self._lower)
        return Binds.NOTHING, now

    # Without a reply

    def _ready_away(self, cost: float, now: float, *, slots: bool) -> float:
        since = self.away_since or now
        if self.away == "closed" or self._heard_at == -INFINITY:
            return INFINITY
        if self.away == "open":
            return -INFINITY
        if now - since > _CALM:
            return INFINITY
        if slots and self._has_slots and self.scope.in_flight >= self._slots_away(now):
            return INFINITY
        for budget, terms in zip(self._granted.budgets, self.terms[1], strict=True):
            part = terms["share"] / (2 * self.live)
            lately = budget.lately(now)
            held = sum(amount for _, amount in lately)
            if budget.needs(cost) > part:
                return INFINITY  # others may do the same
            if held + budget.needs(cost) > part:
                return float(now - lately[0][0] + terms["width"] * GRID)
        return self._next_away

    def _slots_away(self, now: float) -> int:
        """How many slots it may use: others get what it held once the ledger has forgotten it."""
        if self.live == 1 or now + self._upper <= self._expires - _TAIL:
            return min(self._held, self._target)
        total = self.terms[2]
        return total // (2 * self.live) if 2 * self.scope.elsewhere < total else 0

    def _take_away(self, job: Asker, now: float) -> None:
        self._next_away = now + 2 * self.live * self._interval()
        if not self._strays:
            self._strayed_at = now
        self._strays += 1
        if self._granted.budgets:
            charges: list[Any] = job.charges or []
            for budget in self._granted.budgets:
                reserved = budget.needs(job.cost)
                budget.note(reserved, now)
                self._granted.charge(budget.index, reserved)
                charges.append((budget, SharedCharge([], reserved, self._granted.version)))
            job.charges = charges

    def _interval(self) -> float:
        """Seconds between two starts of all workers, as the rates of requests let them."""
        return max((rate["clearance"] / rate["units"] for rate in self.terms[0]), default=0.0)

    # What the ledger is told

    def limits_changed(self, limits: Limits, configured: Limits) -> None:
        """Limits that hold from now on: stated anew by the user, or as a provider enforces them."""
        text, old = stated(limits), self.terms
        changed = text != self._stated
        self._stated = text
        self._read_terms(configured)
        if changed or self._why is not None or self.terms != old:
            self._restate = self._news = True
            self._why = None  # what was stated before was at fault, maybe
            self._wish()

    def opened(self) -> None:
        """Have every gate opened, and what was learned forgotten: ``Scheduler.reset``."""
        self._opens = self._news = True
        self._wish()
        self._gate = -INFINITY
        self._why = None

    @property
    def holds(self) -> bool:
        """Whether anything is held, wanted, or to be told."""
        return bool(
            self._asked or self._held > 0 or self._granted.starts or self._granted.refunds
            or self._granted.overs or self.scope.in_flight or self._news or self._strays
            or self._call is not None
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
    def _is_bound(self) -> bool:
        """Whether it granted less than was asked for."""
        return self._grants_starts and self.binds not in ("", Binds.CONCURRENCY)

    def soon(self, now: float) -> int:
        """How many of a key's jobs may need a start of the whole soon. Where the whole holds them
        back those are all that the key's limits may let start; else those that start so soon that
        a start of the whole is not over by then.
        """
        assert self.whole is not None
        if not self._grants_starts:
            return int(max(0, min(self.queued(), self._slots_free() + self._ends)))
        found = 0
        until = now + self.whole.late + self._lower
        for starts in self._granted.starts:
            left = starts.count - starts.next
            if starts.spacing > 0:
                left = min(left, math.floor((until - starts.due()) / starts.spacing) + 1)
            found += max(0, left)
        if self._call is not None and (self.whole._is_bound or (not found and self.until <= until)):
            found += int(self._call["need"])
        return min(self.queued(), found)

    def follow(self, whole: SharedPort) -> None:
        """Say in the call that was begun that starts are of no use before those of `whole`, which
        is called with it.
        """
        call, first = self._call, whole._call
        assert call is not None
        assert first is not None
        if whole._granted.starts:
            due = whole._granted.starts[0].due() - whole._lower
            call["after"] = max(0.0, due - call["sent"])
        elif first["need"] > 0:
            call["follows"] = 1

    def _asks_at(self) -> float:
        """The moment before which it is of no use to ask for starts of a key."""
        if not self._is_bound or self._granted.starts or self.away_since is not None:
            return -INFINITY
        return self._ask_at - self._lower

    def due_at(self, now: float) -> float:
        """When the next call is due, infinity for never; what happens may make it sooner."""
        return self._next(now, joins=False)

    def joins_at(self, now: float) -> float:
        """The moment from which it has something to say in a call that is made for another."""
        return self._next(now, joins=True)

    def _next(self, now: float, *, joins: bool) -> float:
        if self._call is not None:  # the same one again
            return max(self._failed_at, self._tried_at + _SOON)
        if self._changed() or self._news:
            return -INFINITY
        if not self.holds:
            return INFINITY
        due = self._called_at + self._beat - (_AHEAD if joins else 0.0)
        if self._heard_at == -INFINITY:
            return -INFINITY
        if self._asked or (self._granted.starts and self._wants() > 0):
            ask = self._ask_at - self._lower
            if not self._granted.starts and self._slots_free() <= 0:
                ask = max(ask, self._called_at + _SOON)
            if self.whole is not None:
                ask = max(ask, self.whole._asks_at())
            due = min(
                due, ask + (_GATHER if self.several and self._granted.starts and not joins else 0.0)
            )
        spare = self._has_slots and self._held > self.scope.in_flight
        if spare and not (self._asked or self._granted.starts or self.queued()):
            due = min(due, self._called_at + _RELEASE - (_AHEAD if joins else 0.0))
        return due

    def _changed(self) -> bool:
        """Whether control has moved a limit, or shut the gate, since the last call."""
        gate = self.scope.gate
        shut = gate.shut and -INFINITY < gate.opens < INFINITY
        if shut and gate.opens + self._lower > self._gate + _LEAST:
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
        for index in range(len(self._granted.budgets)):
            local = [each for each in scope.budgets if not each.by_server]
            follows = index < len(local) and local[index].control.follows
            numbers.append(local[index].control.factor if follows else 0.0)
        return numbers if any(numbers) else []

    def _slots_free(self) -> float:
        if not self._has_slots:
            return INFINITY
        return min(self._held, self._target) - self.scope.in_flight

    def _wants(self) -> int:
        """How many starts can be used, as far as is known."""
        if not self._grants_starts:
            return 0
        waiting = max(self.queued(), 1 if self._asked else 0)
        free = min(self._slots_free(), self.scope.capacity - self.scope.in_flight)
        if free < INFINITY:
            # A run takes items as its calls end: what will come fills the slots that end.
            more = self._ends if waiting >= free else 0
            waiting = min(waiting + more, int(max(1.0, free + self._ends)))
        return max(0, min(waiting - self._granted.outstanding(), _MOST))

    def begin(self, now: float) -> dict[str, Any]:
        """The call to make now: the last one again where that was not answered."""
        self._tried_at = now
        if self._call is not None:
            return self._call
        self._granted.drop_late(now + self._upper)
        self._n += 1
        in_flight = self.scope.in_flight
        if self._has_slots and self._held > self._target:
            self._held = max(self._target, in_flight)
        if self._has_slots and not self._asked and not self.queued() and not self._granted.starts:
            self._held = in_flight
        rates, budgets, slots = self.terms
        # Slots that are taken now, and will be free while what is granted is good.
        a_second = max(self._often, self._recent / max(now - self._called_at, _LEAST))
        self._ends = math.ceil(a_second * LEAD)
        asks = bool(self._asked or self._granted.starts or self._has_keys)
        need = self._wants() if asks else 0
        if need == 1 and self.live == 1:  # nobody else is hurt by some more, for those to come
            need += min(_SPARE, int(self._often * _AHEAD) + 1) if self._often > 1 else 0
        if self._asked:
            need = max(need, 1) if self._grants_starts else 0
        want = in_flight + (self.queued() if asks else 0)
        if self._asked:
            want = max(want, in_flight + 1)
        gate = self.scope.gate
        shut = gate.shut and -INFINITY < gate.opens < INFINITY
        numbers = self._numbers_now()
        cut = _cut(self._published, numbers)
        costs = [
            [head, _MORE * budget.mean or head]
            for head, budget in zip(self._heads(), self._granted.budgets, strict=True)
        ]
        self._call = {
            "id": self._id, "n": self._n, "sent": now, "epoch": self._epoch,
            "was": self._was, "fresh": uuid.uuid4().hex, "version": self._granted.version,
            "stated": self._stated, "set": 1 if self._restate else 0,
            "rates": rates, "budgets": budgets, "slots": slots,
            "need": need, "costs": costs, "weight": self.weight,
            "priority": max(-_FIRST, min(_FIRST, self._priority)),
            "held": max(0, self._held), "use": in_flight, "want": want,
            "unsure": max(_MISS if self.several else 0.0, self._upper - self._lower),
            "refunds": [[i, slot, a] for (i, slot), a in sorted(self._granted.refunds.items())],
            "overs": [[i, amount] for i, amount in sorted(self._granted.overs.items())],
            "renews": self._renewals(now), "declared": self._declared(now),
            "strays": self._strays, "silent": now - self._strayed_at if self._strays else 0.0,
            "gate": gate.opens + self._lower if shut else 0.0,
            "opens": 1 if self._opens else 0, "gen": self._gen,
            "numbers": numbers if cut or self.chief else [], "cut": 1 if cut else 0,
            "blob": json.dumps(self.scope.learned()) if cut or self.chief else "", "bye": 0,
            "after": 0.0, "follows": 0,
        }  # fmt: skip
        if shut:
            self._gate = max(self._gate, gate.opens + self._lower)
        self._published = numbers
        self._granted.refunds, self._granted.overs, self._strays = {}, {}, 0
        self._restate = self._opens = self._news = False
        gone = now - self._called_at
        if gone < BEAT:
            self._often += min(1.0, gone / BEAT) * (self._recent / max(gone, _LEAST) - self._often)
        else:
            self._often = self._recent / gone
        self._called_at = now
        self._recent = 0
        if not self.queued():  # one that asked, and did not queue
            self._asked = False
        return self._call

    def farewell(self, now: float) -> dict[str, Any]:
        """The call by which it leaves, with what is still to be settled."""
        self._call = None
        self._held, self._asked = 0, False
        self._granted.starts.clear()
        call = {**self.begin(now), "bye": 1, "need": 0}
        self._call = None
        return call

    def _heads(self) -> list[float]:
        if len(self._head) == len(self._granted.budgets):
            return [*self._head]
        return [budget.mean for budget in self._granted.budgets]

    def _renewals(self, now: float) -> list[list[float]]:
        """When quotas begin anew that do so by the clock of the world, on the ledger's time."""
        found = []
        wall = self.wall()
        for index in range(len(self._granted.budgets)):
            rate = self._rate_of_quota(index)
            if rate is not None and rate.resets is not None:
                at = rate.renews_after(now + wall) - wall
                found.append([index, at + self._lower])
        return found

    def _rate_of_quota(self, index: int) -> Any:
        budgets = self.terms[1]
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

    def answered(self, reply: Mapping[str, Any], now: float) -> None:
        """Take the reply to the last call. Raises `InvalidLimit` where limits contradict."""
        call = self._call
        assert call is not None
        self._call = None
        self.calls += 1
        error = reply["error"]
        if error == "twin":
            self.begin_anew()
            self.happened.append(("twin", "another worker calls itself the same"))
            return
        if error == "differs":
            raise _differs(self.where, call["stated"], reply["stated"])
        if self._epoch and reply["epoch"] != self._epoch:
            self.happened.append(("emptied", "its ledger was emptied, or made anew"))
            self._samples.clear()
            self._held = min(self._held, self.scope.in_flight) if self._has_slots else self._held
            self._granted.drop()
            self._gen = self._granted.version = 0  # they begin anew there
        self._epoch, self._was = reply["epoch"], ""
        self._heard_at = now
        if self.away_since is not None:
            self.happened.append(("back", f"after {now - self.away_since:.1f} s"))
            self.away_since = None
        self._learn_time(reply["now"], call["sent"], now)
        self._expires = reply["expires"] - reply["slack"]
        if reply["version"] != self._granted.version:
            self._take_limits(reply, call)
        self.live = reply["live"]
        self.scope.elsewhere = reply["elsewhere"]
        self.scope.part = reply["part"]
        self._held = int(reply["held"])
        self._target = int(reply["target"])
        self._gate = reply["gate"] or -INFINITY
        self.binds, self.until = reply["binds"], reply["until"]
        # With a slot that is free it waits for a start, and slow rates let nobody start soon.
        slow = self._slots_free() > 0 and self._interval() >= BEAT
        self._beat = _SOON if reply["short"] and not slow else BEAT
        self._ask_at = reply["ask"]
        self.late = reply["slack"] + LATENESS
        if reply["count"]:
            self._granted.add(reply)
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

    def _learn_time(self, ledger: float, sent: float, now: float) -> None:
        self._samples.append(_Sample(now, ledger - now, ledger - sent))
        while self._samples[0].at < now - _AGES:
            self._samples.popleft()
        self._lower = max(sample.lower for sample in self._samples)
        self._upper = max(self._lower, min(sample.upper for sample in self._samples))

    def _take_limits(self, reply: Mapping[str, Any], call: Mapping[str, Any]) -> None:
        joined = not self._granted.version and not self._stated
        self._granted.version = int(reply["version"])
        self._granted.refunds.clear()
        text = reply["stated"]
        for budget in self._granted.budgets:
            budget.grants.clear()
        if not text and not self._stated:
            raise self._unstated()
        if text != self._stated:
            limits = limits_of(text)
            self._stated = text
            self.adopt(limits)
            self._restate = self._news = False
            if not joined:
                self.happened.append(("restated", "another worker has changed the limits"))

    def _adopt(self, reply: Mapping[str, Any], now: float) -> None:
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
        """The last call got no reply: it is made again, with the same number. A single one that
        is lost is no sign that others are.
        """
        if self._call is not None and now - max(self._call["sent"], self._failed_at) > _TOO_LONG:
            # It was not the store that gave no reply: this process stood still, and the ledger
            # has given to others what it held.
            self._held = min(self._held, self.scope.in_flight)
            self._granted.starts.clear()
        again = self._failed_at >= self._called_at
        at_once = self.away == "open" or not self.was_reached
        self._failed_at = now
        if self.away_since is None and (again or at_once):
            self.away_since = now
            # Anywhere in its turn, or all of them would start one at once.
            turn = 2 * self.live * self._interval()
            self._next_away = max(self._next_away, now + turn * _share_of(self._id))
            self.happened.append(("lost", why))
        if self._call is not None and now - self._call["sent"] > _TOO_LONG:
            self._say_again(self._call)

    def _say_again(self, call: Mapping[str, Any]) -> None:
        """Drop a `call` that nobody may know any more, and say what it said in the next one.

        A repeated call is known for as long as its worker is: this is another worker. Nothing is
        given back twice, and what was used is told twice rather than never.
        """
        self._call = None
        if not self._was:
            self._id, self._n, self._was = _new_id(), 0, self._id
        for index, amount in call["overs"]:
            self._granted.charge(index, amount)
        if call["strays"]:
            self._strays += call["strays"]
            self._strayed_at = call["sent"] - call["silent"]
        self._restate = self._restate or bool(call["set"])
        self._opens = self._opens or bool(call["opens"])
        self._news = self._news or self._restate or self._opens
        if call["cut"]:
            self._published = []

    def refused(self, error: HeadwayError, now: float) -> None:
        """No call can be answered until somebody mends it: jobs fail with `error`."""
        self._call = None
        self._why = error
        self._broken_at = now

    def _unstated(self) -> InvalidLimit:
        return InvalidLimit(
            f"nobody has stated limits at {self.where} yet, and this Scheduler states none",
            fix='state them here, e.g. Scheduler("600/min", shared=...), or start a worker that '
            "does.",
        )

    def broken(self, now: float) -> HeadwayError | None:
        """Why no job can start at all, for a while in which there is no need to ask again."""
        return self._why if now < self._broken_at + _BROKEN_FOR else None

    def never_reached(self, seconds: float, where: str, away: StoreAway) -> Unavailable:
        """The error of jobs, where the ledger was not reached even once."""
        return Unavailable(
            f"the shared limits at {where} were not reached in {seconds:g} s: {away}",
            fix=away.fix,
        )

    @property
    def was_reached(self) -> bool:
        """Whether any call was answered."""
        return self._heard_at > -INFINITY

    @property
    def may_leave(self) -> bool:
        """Whether the ledger knows it, and can be told that it leaves."""
        return self.was_reached and self.away_since is None

    @property
    def is_known(self) -> bool:
        """Whether the ledger knows it, and can be told that it leaves."""
        return self.was_reached and self.away_since is None

    def statistics(self, now: float) -> SharedStatistics | None:
        """How the limits are shared."""
        away = None if self.away_since is None else now - self.away_since
        return SharedStatistics(self.live, int(self.scope.elsewhere), self.calls, away)

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._called_at += seconds
        self._broken_at += seconds
        self._tried_at += seconds
        self._heard_at += seconds
        self._failed_at += seconds
        self._next_away += seconds
        self._strayed_at += seconds
        self._lower -= seconds
        self._upper -= seconds
        self._samples = deque(
            (_Sample(s.at + seconds, s.lower - seconds, s.upper - seconds) for s in self._samples),
            maxlen=_SAMPLES,
        )
        if self.away_since is not None:
            self.away_since += seconds
        for budget in self._granted.budgets:
            budget.shift(seconds)


def _new_id() -> str:
    """A name that no other worker has, and that tells people which process it is."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:16]}"


def _share_of(name: str) -> float:
    """A number from 0 to 1 that is as random as a name of `_new_id`."""
    return int(name[-8:], 16) / 16**8


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
