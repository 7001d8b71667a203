"""What one worker starts by itself while its store gives no reply.

It goes on for a while with a part of the pace that leaves room for all others, in case they do the
same: half of an equal share. It starts nothing more beyond the slots it held, and nothing on those
that others may have got.
"""

from __future__ import annotations

from typing import Any

from headway._core.limits.port import Asker
from headway._core.limits.scope import Scope
from headway.rates import Away
from headway.shared.conversation import Conversation
from headway.shared.granted import Granted, SharedCharge
from headway.shared.ledger import GRID

__all__ = ["Fallback"]

INFINITY = float("inf")

_CALM = 60.0  # seconds for which it goes on without a reply
_TAIL = 0.5  # seconds in which what is in flight ends, before others get its slot


class Fallback:
    """The part of the limits of `scope` that one worker may use without replies. `live` is how many
    workers want anything, as was heard last; `away` is what the user wants it to do: `Shared`.
    """

    def __init__(
        self, scope: Scope, granted: Granted, conversation: Conversation, away: Away
    ) -> None:
        self.live = 1
        self.away: Away = away
        self._scope = scope
        self._granted = granted
        self._conversation = conversation
        self.begin_anew()

    def begin_anew(self) -> None:
        """Be of a worker that the ledger has never heard of."""
        self.strays = 0  # starts that the ledger knows nothing of
        self._strayed_at = -INFINITY  # from when on it made them
        self._next = -INFINITY

    def begin(self, now: float) -> None:
        """No reply comes from `now` on."""
        if not self.strays:
            self._strayed_at = now
        # Anywhere in its turn, or all workers would start one at once.
        share = _share_of(self._conversation.id)
        self._next = max(self._next, now + self._turn() * share)

    def ready_at(self, cost: float, now: float, *, slots: bool) -> float:
        """The moment from which an attempt of `cost` tokens may start: infinity for never."""
        conversation = self._conversation
        since = conversation.away_since or now
        if self.away == "closed" or not conversation.was_reached:
            return INFINITY
        if self.away == "open":
            return -INFINITY
        if now - since > _CALM:
            return INFINITY
        granted = self._granted
        if slots and granted.has_slots and self._scope.in_flight >= self._slots(now):
            return INFINITY
        for budget, terms in zip(granted.budgets, granted.terms[1], strict=True):
            part = terms["share"] / (2 * self.live)
            lately = budget.lately(now)
            held = sum(amount for _, amount in lately)
            if budget.needs(cost) > part:
                return INFINITY  # others may do the same
            if held + budget.needs(cost) > part:
                return float(now - lately[0][0] + terms["width"] * GRID)
        return self._next

    def take(self, job: Asker, now: float) -> None:
        """`job` starts."""
        self._next = now + self._turn()
        self.strays += 1
        if self._granted.budgets:
            charges: list[Any] = job.charges or []
            for budget in self._granted.budgets:
                reserved = budget.needs(job.cost)
                budget.note(reserved, now)
                self._granted.charge(budget.index, reserved)
                charges.append((budget, SharedCharge([], reserved, self._granted.version)))
            job.charges = charges

    def silent(self, now: float) -> float:
        """Seconds since it has made starts that the ledger knows nothing of. Those that are told
        later than others count from the beginning of their silence too.
        """
        return now - self._strayed_at if self.strays else 0.0

    def again(self, call: dict[str, Any]) -> None:
        """What `call` said of such starts is to be said again."""
        if call["strays"]:
            self.strays += call["strays"]
            self._strayed_at = call["sent"] - call["silent"]

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._next += seconds
        self._strayed_at += seconds

    def _turn(self) -> float:
        """Seconds between two starts of its own."""
        return 2 * self.live * self._granted.interval()

    def _slots(self, now: float) -> int:
        """How many slots it may use: others get what it held once the ledger has forgotten it."""
        granted, conversation = self._granted, self._conversation
        if self.live == 1 or now + conversation.upper <= conversation.expires - _TAIL:
            return min(granted.held, granted.target)
        total = granted.terms[2]
        return total // (2 * self.live) if 2 * self._scope.elsewhere < total else 0


def _share_of(name: str) -> float:
    """A number from 0 to 1 that is as random as the name of a worker."""
    return int(name[-8:], 16) / 16**8
