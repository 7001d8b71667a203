"""The options of a bulk run, each documented and checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from headway.bulk.input.source import Shape, Shard
from headway.errors import InvalidLimit
from headway.kinds._words import a, shown
from headway.prices import Prices

__all__ = ["MAX_ANSWER", "TIMEOUT", "RunOptions"]

# A long answer takes minutes; 60 s would cut it off, bill it, and try again.
TIMEOUT = 600.0
MAX_ANSWER = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How `headway.bulk.run` treats its input and its output, and what it may spend.

    Raises `headway.InvalidLimit` for a value that cannot be meant.
    """

    shape: Shape = field(default_factory=Shape)
    """How lines become requests."""

    shard: Shard | None = None
    """Which part of the file is this run's; None for all of it."""

    limit: int | None = None
    """How many lines of its part are done, the first ones; None for all of them."""

    trust_ids: bool = False
    """No memory is spent on finding a `custom_id` that comes twice: 15 bytes a line."""

    ordered: bool = False
    """The output is written in the order of the input, when the run ends."""

    overwrite: bool = False
    """A run whose output is there already begins anew; it goes on with the other lines if not."""

    retry_failed: bool = False
    """Lines that failed in an earlier session are taken up again."""

    keep_going: bool = False
    """A run whose first lines all fail alike, with nothing answered, goes on nevertheless."""

    ambiguous: Literal["retry", "report"] = "retry"
    """What becomes of the lines that a killed process had in flight, and which may have been
    billed: they are sent again, or get a row that says so.
    """

    max_cost: float | None = None
    """Dollars, by `prices`, that the whole run may spend, its earlier sessions too; it ends before
    more is spent.
    """

    max_tokens: int | None = None
    """Tokens that the whole run may use, its earlier sessions too; it ends before more are used."""

    prices: Prices = field(default_factory=Prices)
    """What tokens cost."""

    timeout: float = TIMEOUT
    """Seconds that one answer may take in all, however it trickles; it is asked for again then."""

    max_answer: int = MAX_ANSWER
    """Bytes that one answer may be long, decompressed. A larger one is a failed row, is not asked
    for again, and counts as billed.
    """

    def __post_init__(self) -> None:
        self._check("shape", Shape, "shape=Shape(model=...)")
        if self.shard is not None:
            self._check("shard", Shard, "shard=Shard(0, 8), or None for the whole file")
        for name in ("trust_ids", "ordered", "overwrite", "retry_failed", "keep_going"):
            self._check(name, bool, f"{name}=True or {name}=False")
        self._check("prices", Prices, 'prices=Prices.read("prices.toml"), or leave it out')
        if self.ambiguous not in ("retry", "report"):
            raise InvalidLimit(
                f"ambiguous={shown(self.ambiguous)} is no way to treat lines that were in flight",
                fix='ambiguous="retry" to send them again, or ambiguous="report".',
            )
        self._check_count("limit", "lines")
        self._check_count("max_tokens", "tokens")
        if not (_is_number(self.timeout) and 0 < self.timeout < math.inf):
            raise InvalidLimit(
                f"timeout={shown(self.timeout)} is no time that an answer may take: a number of "
                "seconds above 0",
                fix="timeout=600, as it is where nothing is said.",
            )
        if type(self.max_answer) is not int or self.max_answer < 1:
            raise InvalidLimit(
                f"max_answer={shown(self.max_answer)} is no number of bytes: a whole number from 1",
                fix="max_answer=67_108_864, as it is where nothing is said.",
            )
        cost = self.max_cost
        if cost is not None and not (_is_number(cost) and 0 <= cost < math.inf):
            raise InvalidLimit(
                f"max_cost={shown(cost)} is no sum of money: a number of dollars from 0",
                fix="max_cost=5.0, or None for no bound.",
            )

    def _check(self, name: str, kind: type, fix: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, kind):
            raise InvalidLimit(f"{name}={shown(value)} is not {a(kind.__name__)}", fix=f"{fix}.")

    def _check_count(self, name: str, of: str) -> None:
        value = getattr(self, name)
        if value is not None and (type(value) is not int or value < 1):
            raise InvalidLimit(
                f"{name}={shown(value)} is no number of {of}: a whole number from 1",
                fix=f"{name}=1000, or None for no bound.",
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
