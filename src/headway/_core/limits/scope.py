"""Limits that hold together: of the whole, or of one key inside it. Check everything, then take
everything; nothing waits while it holds part.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from headway._core.counters import Counts
from headway._core.limits.budget import Charge, TokenBudget
from headway._core.limits.concurrency import ConcurrencyControl
from headway._core.limits.control import RateControl
from headway._core.limits.eager import Eager
from headway._core.limits.evidence import Evidence, Tally
from headway._core.limits.gate import Gate
from headway._core.limits.pace import Pace
from headway._core.limits.port import Port
from headway._core.limits.quota import Quota, RequestQuota
from headway._core.limits.steer import (
    NEXT_TO,
    ONE_A_SECOND,
    follow_server,
    is_alone,
    is_safe,
    meet,
    reopens_in,
    steer,
)
from headway.errors import NeverFits
from headway.hints import LimitHint
from headway.kinds import Binds, LimitName
from headway.kinds._words import count, shown
from headway.rates import (
    LATENESS,
    TOKEN_CLASSES,
    UNKNOWN_ENFORCEMENT,
    Enforcement,
    Limits,
    Rate,
    TokenClass,
    rate_of_class,
)

__all__ = ["Load", "Scope"]

INFINITY = float("inf")

# Where nothing is stated: attempts a second to begin with, and what the rate is a multiple of.
_FIRST_RATE = 5.0
_FADES = 30.0  # seconds after which a cut rate is at its old height again

_ALIKE = 0.8  # a limit that differs by less is as it was remembered

_PROMPT = 2 * LATENESS  # seconds after its time: what starts later was held back by another thing

_Part = TypeVar("_Part", Pace, TokenBudget, Quota)


class Load(Protocol):
    """What a scope is charged for: an attempt that holds `slots` and reserves `cost` tokens. The
    scope leaves on it what it has to find again when the attempt ends.
    """

    cost: float
    priority: float
    slots: int
    charges: list[tuple[TokenBudget, Charge]] | None
    started_at: float
    seen: tuple[int, float] | None  # what `Evidence` remembers of the attempt


class Scope:
    """The paces, token budgets, slots and gate of one scope (`key` is None for the whole)."""

    __slots__ = (
        "_configured", "_counts", "_enforcement", "_searches", "_stated", "_wall",
        "budgets", "capacity", "concurrency", "credit", "eager", "elsewhere", "evidence",
        "followed_at", "gate", "key", "last", "odd", "paces", "part", "ports", "quotas",
        "remembered", "request_rate", "tally",
    )  # fmt: skip

    def __init__(self, limits: Limits, key: Hashable = None, counts: Counts | None = None) -> None:
        self.key = key
        self.gate = Gate()
        self._counts = counts or Counts()
        self.last: Load | None = None  # the newest attempt, whose charge alone can be taken back
        self.paces: list[Pace] = []
        self.ports: tuple[Port, ...] = ()  # to limits that are decided elsewhere
        self.elsewhere = 0.0  # slots in use by others that share the limits
        self.part = 1.0  # of what is used of the limits in all, where others share them
        self.budgets: list[TokenBudget] = []
        self._searches = False  # whether nothing is stated, and everything to be found
        self.evidence: Evidence | None = None  # gathered where a limit has to be found
        self.credit = 0.0  # attempts that a server says remain, for those that spend them eagerly
        self.followed_at = -INFINITY  # when the attempt was sent whose answer was followed last
        self.eager: Eager | None = None  # where what a server says remains is spent at once
        self._enforcement: Enforcement | None = None  # of its providers, once one is known
        self._wall: float | None = None
        self._stated = limits  # by the user; `_configured` as the provider enforces it
        self.remembered: dict[LimitName, float] = {}  # plateaus of an earlier run, while they hold
        self.odd: set[str] = set()  # what it stated that cannot be meant
        self._state(limits, None)

    @property
    def in_flight(self) -> int:
        """How many attempts hold a slot."""
        return self._counts.in_flight

    def _state(self, limits: Limits, old: Limits | None) -> None:
        """Put `limits` in force; what is stated as before goes on as it is, cuts and all."""
        self._configured = limits
        if old is None or limits.requests != old.requests:
            self.paces = [Pace(rate) for rate in limits.requests if not rate.is_quota]
            self.request_rate = RateControl()
            self.tally: Tally | None = None  # of several rates it would not say which one is wrong
            if len(self.paces) == 1:
                self.tally = Tally(self.paces[0].rate.share, self.paces[0].rate.span)
        cached, exact = self._cached, self._is_exact
        if old is None or limits.token_rates != old.token_rates:
            self.budgets = [
                TokenBudget(rate, kind, cached=cached, exact=exact)
                for kind, rate in limits.token_rates
                if not rate.is_quota
            ]
        if old is None or limits.quotas != old.quotas:
            self.quotas: list[Quota] = [
                *(RequestQuota(rate) for rate in limits.requests if rate.is_quota),
                *(
                    Quota(rate, kind, cached=cached)
                    for kind, rate in limits.token_rates
                    if rate.is_quota
                ),
            ]
        if old is None or limits.concurrency != old.concurrency:
            ceiling = INFINITY if limits.concurrency is None else float(limits.concurrency)
            self.concurrency = ConcurrencyControl(ceiling)
            self.capacity = ceiling  # the concurrency in force, read once an attempt

    def retune(self, limits: Limits, now: float) -> None:
        """Put `limits` in force now; what was charged to limits of the same kind still counts."""
        paces, budgets, quotas = self.paces, self.budgets, self.quotas
        self._stated = limits
        self._state(limits.enforced(self._enforcement or UNKNOWN_ENFORCEMENT), self._configured)
        if self.paces is not paces:
            for pace in self.paces:
                if (older_pace := _nearest(paces, pace.rate)) is not None:
                    pace.adopt(older_pace, now)
        if self.budgets is not budgets:
            for budget in self.budgets:
                alike = [each for each in budgets if each.kind == budget.kind]
                if (older := _nearest(alike, budget.rate)) is not None:
                    budget.adopt(older, now)
        if self.quotas is not quotas:
            for quota in self.quotas:
                of_same = [each for each in quotas if each.what == quota.what]
                if (spent := _nearest(of_same, quota.rate)) is not None:
                    quota.adopt(spent, now)
        if self._wall is not None:
            self.set_wall(self._wall, now)
        for port in self.ports:
            port.limits_changed(limits, self._configured)

    @property
    def stated(self) -> Limits:
        """The limits as the user states them."""
        return self._stated

    def is_spent(self, now: float) -> bool:
        """Whether nothing of what was charged still counts: a new set would be the same."""
        owed = any(pace.next > now for pace in self.paces)
        held = self.gate.shut and self.gate.opens > now - _FADES
        budgets = [*self.budgets, *self.quotas]
        return not (owed or held or any(budget.holds(now) for budget in budgets))

    @property
    def _cached(self) -> float | None:
        """What a token counts that the provider reads from its cache, None for not known."""
        return None if self._enforcement is None else self._enforcement.cached

    @property
    def _is_exact(self) -> bool:
        """Whether the provider counts what is reserved, as far as is known."""
        return self._enforcement is not None and self._enforcement.reserves

    def set_wall(self, wall: float, now: float) -> None:
        """`wall` is what the clock of the world shows beyond this one: quotas begin anew by it."""
        self._wall = wall
        for quota in self.quotas:
            quota.set_wall(wall, now)

    @property
    def counts_tokens(self) -> bool:
        """Whether any limit of tokens holds."""
        return bool(self.budgets) or any(each.what != "requests" for each in self.quotas)

    @property
    def discounts(self) -> bool:
        """Whether any limit counts less for what a provider reads from its cache."""
        return any(each.discounts for each in (*self.budgets, *self.quotas))

    def snapshot(self, wall: float) -> dict[str, Any]:
        """What outlasts the process: what is used of quotas, by the clock of the world, and what
        was learned of limits. Empty where there is nothing.
        """
        quotas = [quota.snapshot(wall) for quota in self.quotas]
        used = [quota for quota in quotas if quota["used"]]
        learned = self.learned()
        found: dict[str, Any] = {"quotas": used} if used else {}
        return {**found, "stated": repr(self._stated), "learned": learned} if learned else found

    def learned(self) -> dict[str, Any]:
        """What was learned of each limit, for those that share them."""
        return {name: kept for _, name, control in self._controls() if (kept := control.snapshot())}

    def adopt_learned(self, learned: Mapping[str, Any], now: float) -> None:
        """Go on from what another that shares these limits has `learned`."""
        for _, name, control in self._controls():
            if isinstance(each := learned.get(name), Mapping):
                control.restore(each)
        self._put_in_force(now)

    def follow_factors(self, requests: float, tokens: Sequence[float], now: float) -> None:
        """Run at these shares of what is stated (0: all of it), which another one that shares the
        limits controls.
        """
        controls = [(budget.control, [budget.pace]) for budget in self.budgets]
        for factor, (control, paces) in zip(
            (requests, *tokens), ((self.request_rate, self.paces), *controls), strict=False
        ):
            if factor > 0:
                control.follow(factor)
                for pace in paces:
                    pace.slow_to(control.factor, now)

    def _controls(self) -> list[tuple[LimitName, str, RateControl | ConcurrencyControl]]:
        """What controls each limit in force: which one that is, and a name of its own."""
        return [
            ("requests", "requests", self.request_rate),
            ("concurrency", "concurrency", self.concurrency),
            *((each.kind, f"{each.kind} {each.rate}", each.control) for each in self.budgets),
        ]

    def restore(self, kept: Mapping[str, Any], wall: float, now: float, *, recent: bool) -> bool:
        """Go on from a `snapshot`, of which nothing needs to be as it was; whether each quota in it
        could be used. What was learned holds under the same limits alone, and where it is `recent`.
        """
        learned = kept.get("learned")
        if recent and isinstance(learned, Mapping) and kept.get("stated") == repr(self._stated):
            for limit, name, control in self._controls():
                if isinstance(each := learned.get(name), Mapping) and control.restore(each):
                    self.remembered[limit] = control.plateau
            self._put_in_force(now)
        quotas = kept.get("quotas", [])
        if not isinstance(quotas, list):
            return False
        used = [
            isinstance(each, Mapping)
            and any(quota.restore(each, wall, now) for quota in self.quotas)
            for each in quotas
        ]
        return all(used)

    def _put_in_force(self, now: float) -> None:
        if self.request_rate.follows:
            for pace in self.paces:
                pace.slow_to(self.request_rate.factor, now)
        for budget in self.budgets:
            if budget.control.follows:
                budget.pace.slow_to(budget.control.factor, now)
        self.capacity = self.concurrency.limit

    def outdated(self, limit: LimitName) -> float | None:
        """What was remembered of `limit`, once: where it has turned out to be another; else None.
        For a rate it is the share of what is stated, or attempts a second where nothing is.
        """
        remembered = self.remembered.get(limit)
        if remembered is None:
            return None
        for which, _, control in self._controls():
            if which == limit and not (
                _ALIKE * remembered <= control.plateau <= remembered / _ALIKE
            ):
                return self.remembered.pop(limit)
        return None

    def check(self, cost: float) -> None:
        """Raise `NeverFits` for an attempt of `cost` tokens that can never be admitted."""
        for budget in (*self.budgets, *self.quotas):
            if budget.by_server:
                continue  # it is the server's own to say so
            counted = cost if budget.plain else budget.weigh(cost)
            if counted > budget.rate.limit:
                whose = "" if self.key is None else f" of key {shown(self.key)}"
                what = budget.kind.replace("_", " ")
                raise NeverFits(
                    f"an attempt of {count(counted)} {what} is larger than the whole limit{whose} "
                    f"of {budget.rate}: it could never start",
                    fix="make the request smaller (prompt, "
                    "max_tokens), or state the limit that the provider really gives.",
                )

    def ready_at(self, cost: float, now: float) -> float:
        """The moment from which an attempt of `cost` tokens may start, as things stand; infinity
        where that waits for another attempt to end, or for the owner of a port.
        """
        if self._counts.in_flight >= self.capacity:
            return INFINITY
        if self.ports:
            return max(self._here_at(cost, now), self._ports_at(cost, now, slots=True))
        return self._here_at(cost, now)

    def further_at(self, cost: float, now: float) -> float:
        """`ready_at` for a further send of an attempt, which needs no slot beside the one that it
        holds, and does not wait for a slot to end either: that may be its own.
        """
        at = self._here_at(cost, now, holds_slot=True)
        return max(at, self._ports_at(cost, now, slots=False)) if self.ports else at

    def ask(self, job: Load, now: float) -> float:
        """Have the ports ask for the start of `job` where they alone hold it back; else the moment
        from which they may be all that does.
        """
        if job.slots and self._counts.in_flight >= self.capacity:
            return INFINITY
        at = self._here_at(job.cost, now, holds_slot=not job.slots)
        if at > now:
            return at
        return min(port.ask(job, now) for port in self.ports)

    def ask_nothing(self) -> None:
        """Nobody waits for a port, as far as is known."""
        for port in self.ports:
            port.ask_nothing()

    def _ports_at(self, cost: float, now: float, *, slots: bool) -> float:
        return max(port.ready_at(cost, now, slots=slots) for port in self.ports)

    def _here_at(self, cost: float, now: float, *, holds_slot: bool = False) -> float:
        """The moment from which everything but the slots and the ports allows it."""
        gate = self.gate
        at = -INFINITY
        if gate.shut:
            at = gate.opens if holds_slot and gate.until_slot else gate.ready_at()
        if self.credit < 1.0:
            for pace in self.paces:
                ready = pace.next - pace.tolerance
                if ready > at:
                    at = ready
        if cost and self.budgets:
            for budget in self.budgets:
                ready = budget.ready_at(cost, now)
                if ready > at:
                    at = ready
        for quota in self.quotas:
            ready = quota.ready_at(cost, now)
            if ready > at:
                at = ready
        return at

    # In one function: each call of another would be paid by every attempt.
    def take(self, job: Load, now: float) -> None:
        """Charge everything for an attempt of `job` that starts now, and is in flight already."""
        self.last = job
        gate = self.gate
        gated = gate.shut and not gate.for_slot
        if gate.shut and (job.slots or not gate.until_slot):
            gate.passed(job, now)
        if self.tally is not None:
            self.tally.started(now)
        eager = self.credit >= 1.0
        if eager:
            self.credit -= 1.0
        follows = self.request_rate.follows
        for budget in self.budgets:
            follows = follows or budget.control.follows
        if follows:
            self._follow(job.cost, now, gated=gated, eager=eager)
        for pace in self.paces:
            pace.take(now)  # eager ones too, or as many would follow at the pace
        if self.eager is not None:
            self.eager.started(self.paces, now)
        for port in self.ports:
            port.take(job, now)
        if self.budgets or self.quotas:
            charges = job.charges = job.charges or []
            for budget in (*self.budgets, *self.quotas) if self.quotas else self.budgets:
                charges.append((budget, budget.take(job.cost, now)))
        if self.evidence is not None:
            job.seen = self.evidence.sent(self.in_flight, now)

    def sent_late(self, charged_at: float, now: float) -> None:
        """An attempt that was charged at `charged_at` is sent only `now`: the server counts it from
        now. Where limits are shared, how late one may go is their store's.
        """
        if self._is_paced_by_user and not self.ports:
            for pace in self.paces:
                pace.sent_late(charged_at, now)
        if self.eager is not None:
            self.eager.sent_late(charged_at, now)

    def record(self, requests: int, tokens: float, now: float) -> None:
        """Charge what was sent elsewhere just now, and used."""
        self.last = None  # its charge is no longer the newest
        shared = [port.record(requests, tokens, now) for port in self.ports]
        for pace in () if any(shared) else self.paces:
            pace.take(now, requests)
        if self.tally is not None:
            self.tally.started(now, requests)
        for budget in (*self.budgets, *self.quotas):
            budget.record(requests, tokens, now)

    def _follow(self, cost: float, now: float, *, gated: bool, eager: bool) -> None:
        """Move the paces in force for an attempt of `cost` tokens, which the gate kept (`gated`) or
        which went without a pace (`eager`).
        """
        binding = not eager and (gated or self._is_paced(now))
        if self.request_rate.follows:
            steer(self.request_rate, self.paces, 1.0 / self.part, now, binding=binding)
        for budget in self.budgets:
            if budget.control.follows:
                tokens = budget.weigh(cost) / self.part
                steer(budget.control, [budget.pace], tokens, now, binding=binding)

    def _is_paced(self, now: float) -> bool:
        """Whether a pace is what kept an attempt that starts now from starting earlier."""
        if self.part < 1.0:  # of several that share one: it is the port's
            return any(port.held_by(now)[0] is not Binds.NOTHING for port in self.ports)
        return any(now - pace.next < max(_PROMPT, 0.25 * pace.interval) for pace in self.paces)

    def cut_rate(self, sent_at: float, now: float, lately: float, *, probe: bool) -> bool:
        """Slow the pace of requests for a refusal, of the gate's `probe` or not; False in the same
        cycle. Where no rate is stated, one is looked for from now on, from `lately`, the attempts
        sent a second.
        """
        if not self.paces:
            self._search(max(1.0, lately))
        return meet(
            self.request_rate, self.paces, self.tally, sent_at, now, probe=probe, part=self.part
        )

    def reopens_in(self, limit: LimitName | None, cost: float, strikes: int, now: float) -> float:
        """Seconds for which a refusal about the rate of `limit` shuts the gate, of an attempt of
        `cost` tokens, after `strikes` earlier ones in a row; infinity where no such rate is known.
        """
        waits = [
            reopens_in(control, pace, tally, units, strikes, now)
            for control, pace, tally, units in self._rates_of(limit, cost)
        ]
        return max(waits, default=INFINITY)

    def goes_back_safely(self, limit: LimitName | None, cost: float) -> bool:
        """Whether the pace in force of `limit` is known to be safe after a refusal, so that the
        rest need not wait for the probe.
        """
        return all(
            is_safe(control, pace, units, self.gate.round_trip)
            for control, pace, _, units in self._rates_of(limit, cost)
        )

    def refused_alone(self, limit: LimitName | None, cost: float) -> bool:
        """Whether a refusal about `limit` came alone, of many attempts that are under way: the
        answers to the others tell more, and sooner, than that to a probe.
        """
        return self.in_flight >= NEXT_TO and all(
            is_alone(control, pace, units)
            for control, pace, _, units in self._rates_of(limit, cost)
        )

    def _rates_of(
        self, limit: LimitName | None, cost: float
    ) -> list[tuple[RateControl, Pace, Tally | None, float]]:
        """What controls `limit`, its paces, and the units of an attempt of `cost` tokens."""
        if limit == "requests":
            return [(self.request_rate, pace, self.tally, 1.0) for pace in self.paces]
        if limit != "tokens":
            return []
        return [(each.control, each.pace, each.tally, each.weigh(cost)) for each in self.budgets]

    def cut_tokens(self, sent_at: float, now: float, *, probe: bool) -> list[TokenBudget]:
        """Slow the paces of tokens for a refusal, of the gate's `probe` or not: those that moved,
        none in the same cycle.
        """
        for each in self.budgets:
            each.expected.doubt()
        return [
            each
            for each in self.budgets
            if meet(
                each.control, [each.pace], each.tally, sent_at, now, probe=probe, part=self.part
            )
        ]

    def was_crowded(self, job: Load, now: float) -> bool:
        """Whether the refusal of `job`, which may be about the rate, was about the concurrency."""
        if self.evidence is None:
            self.evidence = Evidence()  # nothing is known yet: watch from now on
            return False
        if job.seen is None or not self.paces:
            return False
        rate, slots = self.request_rate, self.concurrency
        known = slots.plateau < slots.ceiling
        if known and self.evidence.clears(job.seen, slots.plateau):
            self.concurrency.acquit()
            self.capacity = self.concurrency.limit
            return False
        plateau = rate.best / self.paces[0].base
        crowded = self.evidence.is_concurrency(job.seen, plateau, job.started_at, known=known)
        # Where it is the concurrency that is being probed, and not the rate, it was about that.
        probed = job.seen[0] > slots.plateau and rate.factor <= rate.plateau
        probed = probed and not self.evidence.is_usual(job.seen)
        if not (crowded or probed):
            return False
        self.request_rate.acquit()
        for pace in self.paces:
            pace.slow_to(self.request_rate.factor, now)
        return True

    def cut_concurrency(self, sent_at: float, now: float) -> bool:
        """Lower the concurrency in force for a refusal; False in the same cycle."""
        in_flight = self.in_flight + int(self.elsewhere)
        if not self.concurrency.cut(in_flight, sent_at, now):
            return False
        self.capacity = self.concurrency.limit
        return True

    def grow_concurrency(self, sent_at: float, now: float) -> bool:
        """Count a success below the stated concurrency; True when it raised the one in force."""
        # Its own slot is free again by now.
        full = self.in_flight + self.elsewhere + 1 >= self.capacity
        if not self.concurrency.succeeded(sent_at, now, full=full):
            return False
        self.capacity = self.concurrency.limit
        return True

    @property
    def pace(self) -> float:
        """The attempts a second in force, infinity for no limit."""
        return min((1.0 / pace.interval for pace in self.paces), default=INFINITY)

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self.gate.shift(seconds)
        self.followed_at += seconds
        for pace in self.paces:
            pace.shift(seconds)
        for budget in (*self.budgets, *self.quotas):
            budget.shift(seconds)
        for port in self.ports:
            port.shift(seconds)
        for control in (self.request_rate, self.concurrency):
            control.shift(seconds)
        if self.evidence is not None:
            self.evidence.shift(seconds)
        if self.tally is not None:
            self.tally.shift(seconds)
        if self.eager is not None:
            self.eager.shift(seconds)

    def follow_requests(self, rate: float, now: float) -> bool:
        """Keep below `rate`, attempts a second that the server states; False where that is old."""
        if not self.paces:
            if self.evidence is None:
                return False  # requests are the business of whoever stated the other limits
            self._search(_FIRST_RATE)
        return follow_server(self.request_rate, self.paces, rate, now)

    def follow_tokens(self, kind: TokenClass, limit: float, per: float, now: float) -> bool:
        """Keep below `limit` tokens of that class in `per` seconds, as the server states; False
        where old.
        """
        alike = [budget for budget in self.budgets if budget.kind == kind]
        if stated := [budget for budget in alike if not budget.by_server]:
            rate = limit / per
            moved = [follow_server(each.control, [each.pace], rate, now) for each in stated]
            return any(moved)
        if self.evidence is None:
            return False
        for older in alike:
            if abs(older.rate.limit - limit) <= 0.001 * limit and older.rate.per == per:
                return False
        rate_stated = rate_of_class(kind, Rate(limit, per=per))
        budget = TokenBudget(
            rate_stated, kind, cached=self._cached, exact=self._is_exact, by_server=True
        )
        for older in alike:
            budget.adopt(older, now)
        self.budgets = [each for each in self.budgets if each.kind != kind] + [budget]
        return True

    def enforce(self, enforcement: Enforcement, now: float) -> None:
        """Take what is stated as the provider means it, where the user has not said another; of
        several providers, as the stricter means it.
        """
        if self._enforcement is not None:
            enforcement = enforcement.and_stricter(self._enforcement)
        if enforcement == self._enforcement:
            return
        self._enforcement = enforcement
        self.retune(self._stated, now)
        for budget in (*self.budgets, *self.quotas):
            budget.count_cached(enforcement.cached)
        for budget in self.budgets:
            budget.exact = enforcement.reserves

    def spend_eagerly(self, hint: LimitHint, sent_at: float, now: float) -> None:
        """Let so many attempts start at once as the answer to one that was sent at `sent_at` says
        remain, and the stated rates allow: without their pace, but within their windows.
        """
        if self.eager is None:
            return
        stated = self._is_paced_by_user
        rates = [pace.rate for pace in self.paces] if stated else []
        left = self.eager.left(hint, sent_at, now)
        self.credit = self.eager.credit(left, rates, now)
        if self.credit < 1.0 and stated:
            # What was spent at once is not paid off for longer than the windows hold it.
            renews = INFINITY
            if hint.reset is not None and self.eager.is_newest(sent_at):
                renews = now + hint.reset + LATENESS
            for pace in self.paces:
                paid = min(pace.next, renews)
                clears = self.eager.clears_at(pace.rate, now)
                if clears is None:
                    pace.next = paid
                elif left >= 1.0 or self.eager.fills(pace.rate, now):
                    pace.next = clears
                else:  # a server that has none left, though its window has room, counts otherwise
                    pace.next = max(paid, clears)

    def forget_stated(self, now: float) -> None:
        """Forget what servers stated: the limits in force are the user's own again."""
        self.followed_at = -INFINITY
        self.credit = 0.0
        self.odd.clear()
        self.remembered.clear()
        if self.evidence is not None and not self._is_paced_by_user:
            if self.request_rate.ceiling < INFINITY:
                self._search(_FIRST_RATE)
        elif self.request_rate.release():
            for pace in self.paces:
                pace.slow_to(self.request_rate.factor, now)
        self.forget_stated_tokens(TOKEN_CLASSES, now)

    def forget_stated_tokens(self, kinds: Collection[TokenClass], now: float) -> None:
        """Forget what servers stated of these classes of tokens."""
        self.budgets = [
            each for each in self.budgets if not each.by_server or each.kind not in kinds
        ]
        for budget in self.budgets:
            if budget.kind in kinds and budget.control.release():
                budget.pace.slow_to(budget.control.factor, now)

    @property
    def _is_paced_by_user(self) -> bool:
        """Whether a rate of requests is stated: a quota is none."""
        return any(not rate.is_quota for rate in self._configured.requests)

    def forget_learned(self, now: float) -> None:
        """Forget what refusals taught: the limits in force are those that are stated."""
        stated = self._is_paced_by_user
        self.evidence = Evidence() if self._searches else None
        if self._searches and not stated and self.request_rate.ceiling == INFINITY:
            self._search(_FIRST_RATE)
        elif not stated and not self._searches:
            self.paces, self.request_rate = [], RateControl()
        for budget in self.budgets:
            budget.expected.forget()
        controls = [(budget.control, [budget.pace]) for budget in self.budgets]
        for control, paces in ((self.request_rate, self.paces), *controls):
            if control.ceiling < INFINITY:
                control.begin(control.ceiling, control.ceiling)
                for pace in paces:
                    pace.slow_to(control.factor, now)
        self.concurrency = ConcurrencyControl(self.concurrency.ceiling)
        self.capacity = self.concurrency.limit

    def search(self) -> None:
        """Look for limits of which nothing is known, from a slow start on."""
        self._searches = True
        self.evidence = Evidence()
        self._search(_FIRST_RATE)

    def _search(self, first: float) -> None:
        """Look for the rate that the server allows, from `first` attempts a second on."""
        self.paces = [Pace(ONE_A_SECOND)]
        self.request_rate = RateControl(first, INFINITY)
        self.paces[0].slow_to(first, -INFINITY)


def _nearest(older: list[_Part], rate: Rate) -> _Part | None:
    return min(older, key=lambda one: abs(one.rate.per - rate.per), default=None)
