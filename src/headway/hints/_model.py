"""The two answers: a refusal, and what a response says of one limit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from headway.kinds import Kind, Moves

__all__ = ["LimitHint", "Refusal"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an attempt failed, in the terms of the scheduler.

    `wait` is in seconds: what the server asked for, finite, in ``[0, LONGEST_WAIT]``; None where
    it did not say. `status` is the HTTP status the server sent, None where there was none (a
    connection error, an error inside a stream). `message` is one line of at most 300 characters.
    `typed` is False where a limit was hit and the reply does not say which. `odd` says what was
    ignored or bounded in the hints (``"retry-after: 'banana' ignored"``), and is "" normally.
    `unreached` is True where no connection was made: the provider has not seen the request.
    `per` is the period, in seconds, of a quota of a day or more that is used up (a day 86,400, a
    month of thirty days 2,592,000): without a `wait` nothing can be hoped for soon. None where
    the limit's period is shorter or unknown. `final` says why it must not be tried again although
    its kind is: the server, or the user, said so; "" normally. `limits` are those that the headers
    of an exception state.
    """

    kind: Kind
    wait: float | None = None
    status: int | None = None
    message: str = ""
    typed: bool = True
    odd: str = ""
    unreached: bool = False
    per: float | None = None
    final: str = ""
    limits: tuple[LimitHint, ...] = field(default=(), compare=False)

    @property
    def of_provider(self) -> bool:
        """Whether it is about the provider or the way to it: not an error of the caller's own."""
        return self.status is not None or self.kind.moves is not Moves.NOTHING


@dataclass(frozen=True, slots=True)
class LimitHint:
    """What a response, success or not, says of one limit.

    `limit` and `remaining` are counts (requests or tokens), `reset` the seconds from now until
    the limit is full again or its window ends, `per` the seconds of its period; each is None
    where the response does not state it. A reset that is a moment of the past is 0. `dynamic` marks
    a limit that moves with the load. `odd` says what of it was ignored, or contradicts another.
    """

    what: Literal["requests", "tokens", "input_tokens", "output_tokens"]
    limit: float | None
    remaining: float | None
    reset: float | None
    per: float | None
    dynamic: bool = False
    odd: str = ""
