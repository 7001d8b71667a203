"""A budget of tokens over time: a window over what is used, with refunds, and a pace.

The window is a sliding log, rounded to sub-slots: what is refunded goes back to the sub-slot that
was charged, and to none once that has left the window (crediting what has already drained breaks
the limit). What is in flight counts as what it reserved or, where that is an estimate, as what it
is expected to use.
"""

from __future__ import annotations

from collections import deque

from headway._core.limits.control import RateControl
from headway._core.limits.evidence import Tally
from headway._core.limits.expected import Expected
from headway._core.limits.pace import Pace
from headway.rates import LATENESS, Cost, Rate, TokenClass, TokenRate

__all__ = ["Charge", "TokenBudget"]

INFINITY = float("inf")

# Sub-slots a window. The loss is one slot's time a window, 0.1%; only slots in use cost memory.
_SLOTS = 1000

# What the pace of tokens lets run ahead, as a share of the window. With none, a large attempt
# costs the requests behind it permits that nothing makes up for: at 600 requests and as many
# tokens a minute as those use on average (exponential costs) 74% of both are reached, with 2% 96%.
# Of two classes that both nearly bind, 4% lets the one be spent while the other is waited for.
_AHEAD = 0.04

# What the pace catches up with, as a share of the window: of what came late, and of what the
# window itself held up. Of the latter it is more, for the window goes on guarding the limit; not
# where that was found, for a server that counts by two windows lets nothing be made up for.
_SLACK = 0.02
_CATCHES_UP = 0.2

# How fast the pace of tokens follows the ratio of what is used to what was reserved.
_MEMORY = 0.95

# What sums of floats may be off by, far below a token.
_DUST = 1e-6


class Charge:
    """What one attempt holds of one token budget: where to settle the difference."""

    __slots__ = ("estimated", "paced", "reserved", "slot")

    def __init__(
        self, slot: list[float], reserved: float, paced: float, estimated: bool = False
    ) -> None:
        self.estimated = estimated  # what it reserved is, and no promise
        self.slot = slot
        self.reserved = reserved
        self.paced = paced


class TokenBudget:
    """Tokens a period: a window over what is used, and a pace over what is expected to be.

    The window keeps the promise. The pace spreads a minute's tokens over the minute, give or take
    `ahead` seconds, so that costs of all sizes go out evenly under a pace of requests. It charges
    what an attempt reserves times the share that attempts turn out to use, so that generous
    reservations, which the window refunds, do not slow the long run.

    `kind` is the class of tokens that it counts. Where it counts all of them alike, it is `plain`,
    and a cost is just a number to it; else the parts of a `Cost` are weighed.

    A plain number is what its user promises, and counts in full until the attempt ends. A `Cost` is
    an estimate, and counts as what attempts are expected to use of theirs; in full, too, where the
    budget is `exact`, for the server reserves it.
    """

    __slots__ = (
        "_cached", "_catches_up", "_input", "_most", "_output", "_reserved", "_share", "_slack",
        "_slots", "_used", "_width", "ahead", "by_server", "control", "exact", "expected",
        "heir", "kind", "pace", "plain", "rate", "tally", "total",
    )  # fmt: skip

    def __init__(
        self,
        rate: Rate,
        kind: TokenClass = "tokens",
        *,
        cached: float | None = None,
        exact: bool = False,
        by_server: bool = False,
    ) -> None:
        self.rate = rate
        self.kind: TokenClass = kind
        self.by_server = by_server  # whether it is the server's word alone
        self.control = RateControl()
        self.tally = Tally(rate.share, rate.span)  # of what is expected to be used
        self._input = self._output = 1.0
        if isinstance(rate, TokenRate):
            self._input, self._output = rate.input, rate.output
        self.count_cached(cached)
        self.ahead = _AHEAD * rate.span
        self._slack = max(LATENESS, _SLACK * rate.span)
        self._catches_up = max(LATENESS, _CATCHES_UP * rate.span)
        self.pace = Pace(rate, self._slack)
        self.heir: TokenBudget | None = None  # what took its place: settles what is in flight
        self._share = rate.share
        self.total = 0.0
        self._slots: deque[list[float]] = deque()  # [index, tokens, held], oldest first
        self.exact = exact
        self.expected = Expected(rate.share)
        self._width = (rate.span + rate.delay_bound) / _SLOTS
        self._reserved = self._used = 0.0

    def count_cached(self, weight: float | None) -> None:
        """Count a token that is read from the provider's cache as `weight` of one of the prompt's
        (None: as one), where the rate does not say.
        """
        said = self.rate.cached if isinstance(self.rate, TokenRate) else None
        self._cached = self._input * (1.0 if weight is None else weight) if said is None else said
        self._most = max(self._input, self._cached, self._output)
        self.plain = self._input == self._cached == self._output == 1.0

    @property
    def discounts(self) -> bool:
        """Whether it counts less for what a provider reads from its cache."""
        return self._cached < self._input

    def weigh(self, cost: float) -> float:
        """What of `cost` it counts."""
        if isinstance(cost, Cost):
            return (
                cost.input * self._input
                + cost.cached * self._cached
                + cost.output * self._output
                + cost.either * self._most
            )
        return cost * self._most

    def ready_at(self, cost: float, now: float) -> float:
        """The moment from which an attempt of `cost` tokens may start, as things stand.

        One larger than the window's whole share may start when the window is empty.
        """
        if self.plain:
            counted = cost
        elif not (counted := self.weigh(cost)):
            return -INFINITY
        at = self.pace.next - self.ahead
        if self.control.known or self.total + counted > self._share:
            self._expire(now)
            if (room := self._room_at(min(counted, self.rate.limit), type(cost) is Cost)) > at:
                if not self.control.known:
                    self.pace.slack = self._catches_up  # until it has caught up
                return room
        return at

    def seen_ready_at(self, cost: float) -> float:
        """`ready_at` that changes nothing: what has left the window has room in the past."""
        if self.plain:
            counted = cost
        elif not (counted := self.weigh(cost)):
            return -INFINITY
        return max(self.pace.next - self.ahead, self._room_at(counted, type(cost) is Cost))

    def after(self, cost: float, others: float, start: float) -> float:
        """When an attempt may start behind so many `others`, each of `cost` tokens as it is itself,
        of which the first starts at `start` or later: an estimate.
        """
        used = min(1.0, self._used / self._reserved) if self._reserved else 1.0
        paced = others * self.weigh(cost) * used * self.pace.interval
        return max(start, self.seen_ready_at(cost)) + paced

    def take(self, cost: float, now: float) -> Charge:
        """Reserve `cost` tokens for an attempt that starts at `now`."""
        estimated = type(cost) is Cost and not self.exact
        if not self.plain:
            cost = self.weigh(cost)
        paced = cost
        pace = self.pace
        if cost > self._share:
            paced = cost = min(cost, self.rate.limit)
            pace.slack = self._slack
            pace.take(now, self.ahead / pace.interval)  # paid off before the next
            estimated = False  # it starts alone
        elif self._used < self._reserved:
            paced *= self._used / self._reserved
        pace.take(now, paced)
        if pace.next >= now:
            pace.slack = self._slack
        self.tally.started(now, paced)
        charge = Charge(self._add(cost, now), cost, paced, estimated)
        if estimated:
            self._hold(charge)
        return charge

    def sent_late(self, charge: Charge, now: float) -> None:
        """The attempt of `charge` is sent only `now`, and stays in the window for longer."""
        if self.heir is not None:
            self.heir.sent_late(charge, now)
            return
        if charge.estimated:
            self._land(charge)
        self._refund(charge, charge.reserved, now)
        charge.slot = self._add(charge.reserved, now)
        if charge.estimated:
            self._hold(charge)

    def record(self, requests: int, tokens: float, now: float) -> None:
        """Charge what was used elsewhere: `tokens`, in that many requests."""
        used = self.weigh(tokens)
        self._add(used, now)
        self.pace.take(now, used)
        self.tally.started(now, used)

    def settle(self, charge: Charge, used: float, now: float) -> None:
        """Replace what `charge` reserved by what was `used`.

        A refund goes to the slot that was charged, if the window still holds it; what was used
        beyond the reservation is charged now, to be on the safe side of a server's clock.
        """
        if self.heir is not None:
            self.heir.settle(charge, used, now)
            return
        if not self.plain:
            used = self.weigh(used)
        if charge.estimated:
            self._land(charge)
            began = (charge.slot[0] - 1.0) * self._width  # so that no time is none
            self.expected.ended(charge.reserved, used, min(now - began, self.rate.span))
        self._reserved = self._reserved * _MEMORY + charge.reserved
        self._used = self._used * _MEMORY + used
        if used < charge.reserved:
            self._refund(charge, charge.reserved - used, now)
        elif used > charge.reserved:
            self._add(used - charge.reserved, now)
        if used > charge.paced:
            self.pace.take(now, used - charge.paced)
        elif used < charge.paced:
            # Or noise alone would slow the pace: what is taken for some is given for others.
            self.pace.give_back(now, charge.paced - used)

    def release(self, charge: Charge, now: float) -> None:
        """Give back all of `charge`: its attempt was refused, or was never sent."""
        if self.heir is not None:
            self.heir.release(charge, now)
            return
        if charge.estimated:
            self._land(charge)
        self._refund(charge, charge.reserved, now)
        self.pace.give_back(now, charge.paced)

    def holds(self, now: float) -> bool:
        """Whether anything that was used still counts."""
        self._expire(now)
        return self.total > _DUST or self.pace.next > now

    def adopt(self, older: TokenBudget, now: float) -> None:
        """Carry over what an `older` budget of another rate has used; what is in flight there is
        settled here from now on (where several adopt the same one, at the first of them).
        """
        source = older if older.heir is None else older.heir
        source._expire(now)
        self.pace.adopt(older.pace, now)
        self._reserved, self._used = source._reserved, source._used
        for slot in source._slots:
            # The end of the old slot, so that nothing leaves the window too early.
            index = min(now, (slot[0] + 1) * source._width) // self._width
            if source is older:
                slot[0] = index  # the same list: a charge refers to it
                self._slots.append(slot)
            else:
                self._slots.append([index, slot[1], 0.0])
        self.total = source.total
        if source is older:
            self.expected.adopt(older.expected)
            older.heir = self

    def spent(self, now: float) -> float:
        """What its window holds; it changes nothing."""
        oldest = now // self._width - _SLOTS
        inside = [slot for slot in [*self._slots] if slot[0] >= oldest]
        held = 0.0 if self.exact else sum(held for _, _, held in inside)
        return sum(tokens for _, tokens, _ in inside) - self.expected.spare(held)

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self.pace.shift(seconds)
        self.control.shift(seconds)
        self.tally.shift(seconds)
        slots = -(-seconds // self._width)  # rounded up: nothing leaves the window too early
        for slot in self._slots:
            slot[0] += slots

    def _add(self, tokens: float, now: float) -> list[float]:
        index = now // self._width
        slots = self._slots
        if not slots or slots[-1][0] < index:
            self._expire(now)
            slots.append([index, 0.0, 0.0])
        slots[-1][1] += tokens
        self.total += tokens
        return slots[-1]

    def _hold(self, charge: Charge) -> None:
        """Hold what `charge`, which is an estimate, reserved in its slot."""
        charge.slot[2] += charge.reserved
        self.expected.held += charge.reserved

    def _land(self, charge: Charge) -> None:
        """Hold nothing for `charge` any more; what has left the window is not held already."""
        if charge.slot[0] > -INFINITY:
            charge.slot[2] -= charge.reserved
            self.expected.held -= charge.reserved

    def _refund(self, charge: Charge, tokens: float, now: float) -> None:
        self._expire(now)
        if self._slots and charge.slot[0] >= self._slots[0][0]:
            charge.slot[1] -= tokens
            self.total -= tokens

    def _expire(self, now: float) -> None:
        # A window of G slots keeps G + 1: the oldest is partly inside until its end has left.
        oldest = now // self._width - _SLOTS
        slots = self._slots
        while slots and slots[0][0] < oldest:
            slot = slots.popleft()
            self.total -= slot[1]
            self.expected.held -= slot[2]
            slot[0] = -INFINITY  # whatever is refunded to it from now on is refunded to none
        if not slots:
            self.total = self.expected.held = 0.0  # what rounding left behind

    def _room_at(self, cost: float, estimated: bool) -> float:
        """When the window has room for `cost` tokens; minus infinity for now."""
        share, control = self._share, self.control
        if control.known:
            # How much of the attempt that was refused had room is not known: half of one, say.
            half = 0.5 * (1.0 - _MEMORY) * self._used
            share = min(share, share * control.factor + half)
        room = max(0.0, share - cost)
        held = self.expected.held
        spare = 0.0  # of each token that is held
        if held and room and not self.exact:
            also = cost if estimated else 0.0
            spare = self.expected.spare(held + also) / (held + also)
            room += spare * also
        if self.total - spare * held <= room + _DUST:
            return -INFINITY
        return self._frees_at(room, spare)

    def _frees_at(self, room: float, spare: float) -> float:
        """When no more than `room` of what is in the window now will be left, where a share of
        `spare` of what is held is not counted.
        """
        total = self.total - spare * self.expected.held
        at = -INFINITY
        for index, tokens, held in [*self._slots]:
            total -= tokens - spare * held
            # A thousandth of a slot later, so that rounding never finds it still inside.
            at = (index + _SLOTS + 1.001) * self._width
            if total <= room + _DUST:
                break
        return at
