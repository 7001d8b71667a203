"""What a run may spend: money and tokens, bounded before they are spent.

A request is let in only where what was spent, what those in flight may spend at most, and what it
may spend itself stay within the bounds. What an answer may be long is its ``max_tokens``, or twice
what this model's answers were on average.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from headway._words import money
from headway.bulk.formats import Request
from headway.estimate import WITHOUT_ANSWER

__all__ = ["Budget"]

Cost = Callable[[str, int, int, int], "float | None"]

_FIRST_GUESS = 1024  # tokens of an answer, before there is any and where none are stated


@dataclass(slots=True)
class _Answers:
    count: int = 0
    tokens: int = 0


class Budget:
    """Bounds in dollars and in tokens (None: no bound), and what is spent and reserved of them.

    `cost` gives the dollars of a model's input, output and cached tokens; None: unknown.
    """

    def __init__(self, cost: Cost, max_cost: float | None, max_tokens: int | None) -> None:
        self._cost = cost
        self._max_cost = max_cost
        self._max_tokens = max_tokens
        self._reserved: dict[int, tuple[float, int]] = {}  # by line
        self._dollars = 0.0
        self._tokens = 0
        self._lengths: dict[str | None, _Answers] = {}
        self._changed: anyio.Event | None = None
        self.dollars = 0.0
        self.tokens = 0

    @property
    def bounded(self) -> bool:
        """Whether there is anything to keep."""
        return self._max_cost is not None or self._max_tokens is not None

    def price(self, model: str | None, read: int, written: int, cached: int = 0) -> float | None:
        """Dollars for one answer; None where nobody knows."""
        return None if model is None else self._cost(model, read, written, cached)

    def spend(self, dollars: float | None, tokens: int) -> None:
        """Count what was spent earlier."""
        self.dollars += dollars or 0.0
        self.tokens += tokens

    async def admit(self, request: Request) -> str:
        """Reserve what `request` may spend, when that is possible: "". Else why it never will be,
        with what is spent now.
        """
        while True:
            need = self._need(request)
            if isinstance(need, str):
                return need
            dollars, tokens = need
            over = self._over(dollars, tokens)
            if not over:
                self._reserved[request.line] = need
                self._dollars += dollars
                self._tokens += tokens
                return ""
            if not self._reserved:
                return over
            self._changed = self._changed or anyio.Event()
            await self._changed.wait()

    def settle(self, request: Request, dollars: float | None, read: int, written: int) -> None:
        """`request` has its answer, or none and never will: what it really spent."""
        self.dollars += dollars or 0.0
        self.tokens += read + written
        if written:
            answers = self._lengths.setdefault(request.model, _Answers())
            answers.count += 1
            answers.tokens += written
        if self.bounded and (reserved := self._reserved.pop(request.line, None)) is not None:
            self._dollars = max(0.0, self._dollars - reserved[0])
            self._tokens -= reserved[1]
            if self._changed is not None:
                self._changed.set()
                self._changed = None

    def _need(self, request: Request) -> tuple[float, int] | str:
        read = len(request.body) // 3 + 1  # on the safe side: four bytes a token is the rule
        written = request.max_tokens
        if not written and not request.url.endswith(WITHOUT_ANSWER):
            answers = self._lengths.get(request.model)
            written = 2 * answers.tokens // answers.count if answers else _FIRST_GUESS
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

    def _over(self, dollars: float, tokens: int) -> str:
        most, spent = self._max_cost, self.dollars + self._dollars + dollars
        if most is not None and spent > most:
            return (
                f"--max-cost {most:g} is reached: {money(self.dollars)} are spent, and the next "
                f"request may cost {money(dollars)}. Run the rest with a higher --max-cost"
            )
        bound, total = self._max_tokens, self.tokens + self._tokens + tokens
        if bound is not None and total > bound:
            return (
                f"--max-tokens {bound:,} is reached: {self.tokens:,} are used, and the next "
                f"request may take {tokens:,}. Run the rest with a higher --max-tokens"
            )
        return ""
