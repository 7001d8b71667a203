"""What a run may spend: money and tokens, bounded before they are spent.

A request is let in only where what was spent, what those in flight may spend at most, and what it
may spend itself stay within the bounds. An answer may be as long as its ``max_tokens``, times the
answers that are asked for; without one as long as models can answer. Where so much is not left, a
request that states no maximum goes alone, reserved at twice the longest answer of its model: so one
answer at most can pass a bound. What a model turned out to take beyond its ``max_tokens``
(reasoning that this does not bound) is reserved from then on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass

import anyio

from headway.bulk.input.formats import ENDPOINTS, Request
from headway.estimate import Tokens, is_prompt_alone
from headway.kinds._words import money

__all__ = ["UNBOUNDED_ANSWER", "Bill", "Budget", "needed"]

Cost = Callable[[str, int, int, int], "float | None"]

UNBOUNDED_ANSWER = 131_072
"""Tokens of an answer whose request states no maximum: what the largest models write at most."""

_FIRST_GUESS = 1_024  # tokens of one, before there is any
_PICTURE = 8_192  # tokens of one that is made, where it is billed in tokens


def needed(request: Request) -> tuple[int, int]:
    """The tokens that `request` may read and be written at most, by what it says."""
    # On the safe side: four bytes a token is the rule.
    read = request.reads(3) + 1
    if is_prompt_alone(request.url):
        return read, 0
    if request.max_tokens:
        return read, request.max_tokens
    each = _PICTURE if request.url == ENDPOINTS["images"] else UNBOUNDED_ANSWER
    return read, each * request.choices


def _is_capped(request: Request) -> bool:
    return request.max_tokens > 0 or is_prompt_alone(request.url)


@dataclass(frozen=True, slots=True)
class Bill:
    """What one attempt cost: `dollars` (None: nobody knows) and tokens."""

    dollars: float | None
    read: int
    written: int


@dataclass(slots=True)
class _Beyond:
    """By how many tokens at most a request, and each answer, of a model passed `needed`."""

    read: int = 0
    written: int = 0


class Budget:
    """Bounds in dollars and in tokens (None: no bound), and what is spent and reserved of them.

    `cost` gives the dollars of a model's input, output and cached tokens; None: unknown. The prices
    of the models in `own` go before those of others.
    """

    def __init__(
        self,
        cost: Cost,
        max_cost: float | None,
        max_tokens: int | None,
        own: Container[str] = (),
    ) -> None:
        self._cost = cost
        self._own = own
        self._max_cost = max_cost
        self._max_tokens = max_tokens
        self._reserved: dict[int, tuple[float, int]] = {}  # by line
        self._dollars = 0.0
        self._tokens = 0
        self._beyond: dict[str | None, _Beyond] = {}  # the models that were heard
        self._longest: dict[str | None, int] = {}  # tokens of a model's answers
        self._unheard: Counter[str | None] = Counter()  # in flight, of models that were not
        self._changed: anyio.Event | None = None
        self._unpriced = ""
        self.dollars = 0.0
        self.tokens = 0

    @property
    def bounded(self) -> bool:
        """Whether there is anything to keep."""
        return self._max_cost is not None or self._max_tokens is not None

    def price(self, model: str | None, read: int, written: int, cached: int = 0) -> float | None:
        """Dollars for one answer; None where nobody knows."""
        return None if model is None else self._cost(model, read, written, cached)

    def bill(self, tokens: Tokens, most: tuple[int, int], *models: str | None) -> Bill:
        """What an attempt cost by its `tokens`, and by the most it may have taken where it says
        none; priced as the first of `models` that has a price.
        """
        read = most[0] if tokens.read is None else tokens.read
        written = tokens.written
        if written is None:
            written = most[1] if tokens.total is None else 0
        dollars = None
        for model in sorted(models, key=lambda name: name is None or name not in self._own):
            dollars = self.price(model, read, written, tokens.cached)
            if dollars is not None:
                if tokens.either:
                    read_less = read - tokens.either
                    other = self.price(model, read_less, written + tokens.either, tokens.cached)
                    dollars = max(dollars, other or 0.0)
                break
        return Bill(dollars, read, written)

    def spend(self, dollars: float | None, tokens: int, model: str | None = None) -> None:
        """Count what was spent by `model` for no answer of this session."""
        if dollars is None and tokens and not self._unpriced:
            self._unpriced = repr(model or "(none)")
        self.dollars += dollars or 0.0
        self.tokens += tokens

    def spend_again(self, request: Request, bill: Bill) -> None:
        """Count an attempt at `request` that was billed, and may be made again: what was reserved
        is spent.
        """
        self.spend(bill.dollars, bill.read + bill.written, request.model)
        self._release(request)

    async def admit(self, request: Request) -> str:
        """Reserve what `request` may spend, when that is possible: "". Else why it never will be,
        with what is spent now.
        """
        while why := self.reserve(request):
            if not self._reserved or isinstance(self._need(request), str):
                return why
            await self._change()
        return ""

    def reserve(self, request: Request) -> str:
        """Reserve what `request` may spend, now: "". Else why that cannot be. Twice is once."""
        if request.line in self._reserved:
            return ""
        need = self._need(request)
        if isinstance(need, str):
            return need
        why = self._over(request, *need)
        if why and not self._reserved and not _is_capped(request):
            need = self._need(request, guessed=True)
            assert not isinstance(need, str)
            why = self._over(request, *need)
        if why:
            return why
        self._reserved[request.line] = need
        self._dollars += need[0]
        self._tokens += need[1]
        if request.model not in self._beyond:
            self._unheard[request.model] += 1
        return ""

    async def hear_first(self, request: Request) -> None:
        """Wait while a model of which nothing was heard yet has a request in flight: its first
        answer tells whether it keeps to what is reserved.
        """
        while self._unheard[request.model] and request.model not in self._beyond:
            await self._change()

    async def _change(self) -> None:
        self._changed = self._changed or anyio.Event()
        await self._changed.wait()

    def heard(self, model: str | None, most: tuple[int, int], choices: int, tokens: Tokens) -> None:
        """A request to `model` that may take `most` for so many choices was answered with `tokens`,
        as far as they are known.
        """
        beyond = self._beyond.setdefault(model, _Beyond())
        self._learn(model, choices, tokens.written or 0)
        read, written = most
        beyond.read = max(beyond.read, (tokens.read or 0) - read)
        if written:
            more = math.ceil(((tokens.written or 0) - written) / choices)
            beyond.written = max(beyond.written, more)

    def settle(self, request: Request, dollars: float | None, read: int, written: int) -> None:
        """`request` has its answer, or none and never will: what it really spent."""
        self.dollars += dollars or 0.0
        self.tokens += read + written
        self._learn(request.model, request.choices, written)
        self._release(request)

    def _learn(self, model: str | None, choices: int, written: int) -> None:
        if written:
            each = math.ceil(written / choices)
            self._longest[model] = max(self._longest.get(model, 0), each)

    def _release(self, request: Request) -> None:
        if (reserved := self._reserved.pop(request.line, None)) is None:
            return
        self._dollars = max(0.0, self._dollars - reserved[0]) if self._reserved else 0.0
        self._tokens -= reserved[1]
        if self._unheard[request.model]:
            self._unheard[request.model] -= 1
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _need(self, request: Request, *, guessed: bool = False) -> tuple[float, int] | str:
        read, written = needed(request)
        if guessed:
            longest = self._longest.get(request.model)
            written = (2 * longest if longest else _FIRST_GUESS) * request.choices
        if (beyond := self._beyond.get(request.model)) is not None:
            read += beyond.read
            written += beyond.written * request.choices if written and not guessed else 0
        if self._max_cost is None:
            return 0.0, read + written
        dollars = self._cost(request.model or "", read, written, 0)
        if dollars is None:
            return (
                f"no price is known for the model {request.model or '(none)'!r} (line "
                f"{request.line}), so --max-cost cannot be kept. Give one with --prices, or leave "
                "--max-cost away"
            )
        return dollars, read + written

    def _over(self, request: Request, dollars: float, tokens: int) -> str:
        if self._max_cost is not None and self._unpriced:
            return (
                f"no price is known for the model {self._unpriced}, which was paid for already, so "
                "--max-cost cannot be kept. Give one with --prices, or leave --max-cost away"
            )
        why = ""
        if not _is_capped(request):
            why = " (it states no max_tokens)"
        most, spent = self._max_cost, self.dollars + self._dollars + dollars
        if most is not None and spent > most:
            return (
                f"--max-cost {most:g} is reached: {money(self.dollars)} are spent, and the next "
                f"request may cost {money(dollars)}{why}. Run the rest with a higher --max-cost"
            )
        bound, total = self._max_tokens, self.tokens + self._tokens + tokens
        if bound is not None and total > bound:
            return (
                f"--max-tokens {bound:,} is reached: {self.tokens:,} are used, and the next "
                f"request may take {tokens:,}{why}. Run the rest with a higher --max-tokens"
            )
        return ""
