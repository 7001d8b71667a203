"""Where limits are shared, as a user says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from headway.errors import InvalidArgument
from headway.kinds._words import hidden, shown

__all__ = ["Away", "Shared"]

Away: TypeAlias = Literal["share", "open", "closed"]
_AWAY = ("share", "open", "closed")


@dataclass(frozen=True, slots=True)
class Shared:
    """Where limits are shared, and how one worker takes part: ``shared=Shared("acme", weight=2)``.

    `where` is a name, for all processes of this user on this machine, or an address:
    ``valkey://``, ``rediss://``, ``postgresql://``, ``sqlite:///file``. `weight`: a worker of 2
    gets twice what one of 1 gets while both want more than their part. `away` is what happens while
    the store gives no reply: ``"share"`` goes on for a minute with half of an equal part,
    ``"closed"`` starts nothing, ``"open"`` starts by this process's own limits alone.

    Raises `InvalidArgument` for values that cannot be meant, and `InvalidSettings` (from the
    scheduler) for an address that is none.
    """

    where: str
    weight: float = 1.0
    away: Away = "share"

    def __repr__(self) -> str:
        where: object = self.where
        if isinstance(where, str) and "://" in where:
            where = hidden(where)
        return f"Shared(where={shown(where)}, weight={self.weight}, away={self.away!r})"

    def __post_init__(self) -> None:
        weight: object = self.weight
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not (number and 0.001 <= self.weight <= 1000):
            raise InvalidArgument(
                f"weight={shown(self.weight)} is no weight of a worker: a number from 0.001 to "
                "1,000",
                fix="weight=2.0, or leave it out.",
            )
        if self.away not in _AWAY:
            raise InvalidArgument(
                f"away={shown(self.away)} is not known", fix='"share", "closed" or "open".'
            )
