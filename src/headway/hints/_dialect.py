"""What the headers of one provider leave open, as values: `headway.providers` has each one's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["GENERIC", "Dialect"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a provider's headers of limits are to be read, where they do not say it themselves.

    Known without: the names of OpenAI, Anthropic, Azure, Mistral, Cerebras, Fireworks, Together and
    the IETF drafts, the periods in names, durations (``6m0s``) and dates.

    `headers` are pairs of a name that it uses and the one whose meaning that has; ``{}`` stands for
    ``limit``, ``remaining`` and ``reset``. The meaning is one of
    ``x-ratelimit-{}-(requests|tokens)[-(second|minute|hour|day|week|month)]`` and its like.
    `bare_limit_unit` is what an ``x-ratelimit-limit`` without a suffix counts by. `reset` is what a
    number without a unit counts in a header of a reset: seconds or milliseconds from now, or since
    the epoch. None: not known; then such a limit has no period, and such a number is read by its
    size.
    """

    headers: tuple[tuple[str, str], ...] = ()
    bare_limit_unit: Literal["second", "minute"] | None = None
    reset: Literal["seconds", "milliseconds", "epoch", "epoch_milliseconds"] | None = None


GENERIC = Dialect()
"""That of a server of which nothing is known."""
