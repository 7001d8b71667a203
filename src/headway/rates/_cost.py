"""Tokens by class: a number that knows what it is made of."""

from __future__ import annotations

import math
from typing import Any, Self, TypeGuard

from headway.errors import InvalidArgument
from headway.kinds._words import shown

__all__ = ["Cost", "is_number"]

_PARTS = ("input", "cached", "output", "either")
_ALL = 1e300  # what sums to less has no infinite part


class Cost(float):
    """Tokens by class; as a number it is the sum of them: ``Cost(input=150, output=50) == 200``.

    `input` are tokens of the prompt that the provider does not have in its cache, `cached` those
    that it reads from there, `output` those of the answer, and `either` those of which nobody
    says what they are: they count as whatever a limit counts most. It goes wherever headway takes
    a number of tokens. Costs add up by class: ``sum(costs, Cost())``. Raises `InvalidArgument` for
    a part that is no finite number from 0.
    """

    __slots__ = ("cached", "either", "input", "output")

    input: float
    cached: float
    output: float
    either: float

    def __new__(
        cls,
        *,
        input: float = 0.0,  # noqa: A002 - the word of every API
        cached: float = 0.0,
        output: float = 0.0,
        either: float = 0.0,
    ) -> Self:
        """The cost of one attempt."""
        try:
            known = (
                min(input, cached, output, either) >= 0
                and input + cached + output + either < _ALL
                and bool not in (type(input), type(cached), type(output), type(either))
            )
        except (TypeError, OverflowError):
            known = False
        if not known:
            _check_parts((input, cached, output, either))
        return cls.of_parts(input, cached, output, either)

    @classmethod
    def of_parts(cls, read: float, cached: float, written: float, either: float) -> Self:
        """The same, of counts that are known to be some."""
        cost = float.__new__(cls, read + cached + written + either)
        cost.input, cost.cached, cost.output, cost.either = read, cached, written, either
        return cost

    @classmethod
    def of(cls, tokens: float) -> Cost:
        """`tokens`, of which nobody says what they are where they are a plain number."""
        return tokens if isinstance(tokens, Cost) else cls(either=tokens)

    # No `__radd__`: a budget adds costs to plain numbers, by what a float does in C.
    def __add__(self, other: float) -> Any:
        """By class, where both are costs."""
        if type(other) is not Cost:
            return float.__add__(self, other)
        return Cost.of_parts(
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.either + other.either,
        )

    def in_all(self, total: float) -> Cost:
        """This cost, where it turned out as `total` tokens: what is not of the prompt, of which
        most is known before, is of the answer.
        """
        read = self.input + self.cached
        share = min(1.0, total / read) if read else 0.0
        read *= share
        return Cost(
            input=self.input * share, cached=self.cached * share, output=max(0.0, total - read)
        )

    def towards(self, other: float, share: float) -> Cost:
        """A cost on the way to `other`, by a `share` of the difference in each part."""
        goal, rest = Cost.of(other), 1.0 - share
        return Cost.of_parts(
            rest * self.input + share * goal.input,
            rest * self.cached + share * goal.cached,
            rest * self.output + share * goal.output,
            rest * self.either + share * goal.either,
        )

    def __repr__(self) -> str:
        parts = [f"{name}={getattr(self, name):g}" for name in _PARTS if getattr(self, name)]
        return f"Cost({', '.join(parts)})"

    def __reduce__(self) -> tuple[Any, ...]:
        """As four numbers, for `pickle` and `copy`."""
        return _cost, ((self.input, self.cached, self.output, self.either),)


def _check_parts(parts: tuple[object, ...]) -> None:
    for name, part in zip(_PARTS, parts, strict=True):
        if not (is_number(part) and 0 <= part < math.inf):
            raise InvalidArgument(
                f"Cost({name}={shown(part)}) is not a count of tokens",
                fix="a finite number from 0, or leave it out.",
            )


def _cost(parts: tuple[float, float, float, float]) -> Cost:
    return Cost(**dict(zip(_PARTS, parts, strict=True)))


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a number, not a bool, that a float can hold (as NaN and infinity are)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True
