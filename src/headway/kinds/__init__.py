"""The table of kinds: one row says all that headway does about one kind of refusal.

The core, the transports, the display and the report read it. To add a kind is to add a row.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self, TypeAlias

__all__ = ["Binds", "Kind", "LimitName", "Moves", "Retried"]

LimitName: TypeAlias = Literal["requests", "tokens", "input_tokens", "output_tokens", "concurrency"]
"""A limit in force that refusals and servers move."""


class Binds(StrEnum):
    """What holds the next job back. `words` say it to people, `hue` is its colour in the report."""

    words: str
    hue: str

    def __new__(cls, value: str, words: str = "", hue: str = "slate") -> Self:
        binds = str.__new__(cls, value)
        binds._value_, binds.words, binds.hue = value, words, hue
        return binds

    REQUESTS = "requests", "the limit on requests", "blue"
    """A rate of requests, stated or in force."""
    TOKENS = "tokens", "the limit on tokens", "violet"
    INPUT_TOKENS = "input_tokens", "the limit on input tokens", "blue"
    OUTPUT_TOKENS = "output_tokens", "the limit on output tokens", "violet"
    QUOTA = "quota", "a quota that is spent"
    """A limit of a day or more that is spent."""
    CONCURRENCY = "concurrency", "the limit on requests in flight", "teal"
    ELSEWHERE = "elsewhere", "a limit that is decided elsewhere", "violet"
    """A limit that is decided elsewhere: a limiter that the application shares."""
    GATE = "gate", "a wait after refusals", "red"
    """A pause after a refusal, or in an outage."""
    PAUSED = "paused", "a pause"
    CLOSED = "closed", "a key or an account that was refused", "dark"
    """A key was refused, or an account is empty: every job fails."""
    NOTHING = "", "nothing", "none"


class Retried(StrEnum):
    """Whether a kind is tried again, and what bounds that."""

    PATIENCE = "for `patience`"
    """It goes on for `Retry.patience` seconds, and uses up no attempts."""
    ATTEMPTS = "`attempts` times"
    """It is tried `Retry.attempts` times in all, within `Retry.budget`."""
    DOUBTED = "3 times, where the key has worked"
    """Never, but where what was refused has worked before: see `headway.Retry`."""
    NEVER = "never"


class Moves(StrEnum):
    """What a kind does to the gate, before which nothing is sent."""

    INTERVALS = "hint, else two intervals"
    """Shut for as long as the server asks for, else for two intervals of the pace that was safe (a
    second, twice as long each time, where there is no such pace)."""
    SLOT = "hint, else until a slot ends"
    BACKOFF = "hint, else backoff"
    """As where there is no pace, by `Retry.base`: nobody knows when there will be room."""
    OUTAGE = "backoff, in an outage"
    """Shut only where failures follow one another and nothing is answered."""
    LATCH = "latch: all jobs of that key fail"
    """Nothing is sent with the credential that was refused until ``reset()``."""
    NOTHING = "nothing"


class Kind(StrEnum):
    """What a refusal or failure is about; each kind moves its own knob.

    `about` says it in words, with the statuses it is known by. `status` is what a success becomes
    that ``is_refused=`` calls one of this kind. `retried` says whether it is tried again, `moves`
    what it does to the gate, `cuts` which limit in force is lowered (None: none), `mistake`
    whether it is the caller's to mend. `hue` is its colour in the report. A kind that latches has
    a `problem`, a `fix` for a program and one for a bulk run (``{key}`` is the key's variable).
    """

    about: str
    status: int
    retried: Retried
    moves: Moves
    cuts: LimitName | None
    hue: str
    mistake: bool
    problem: str
    fix: str
    fix_of_run: str

    def __new__(
        cls,
        value: str,
        about: str = "",
        status: int = 400,
        retried: Retried = Retried.NEVER,
        moves: Moves = Moves.NOTHING,
        cuts: LimitName | None = None,
        hue: str = "slate",
        mistake: bool = False,
        problem: str = "",
        fix: str = "",
        fix_of_run: str = "",
    ) -> Self:
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.about, kind.status, kind.retried = about, status, retried
        kind.moves, kind.cuts, kind.hue, kind.mistake = moves, cuts, hue, mistake
        kind.problem, kind.fix, kind.fix_of_run = problem, fix, fix_of_run
        return kind

    RATE = (
        "rate", "too many requests in a period (429)", 429,
        Retried.PATIENCE, Moves.INTERVALS, "requests", "amber",
    )  # fmt: skip
    TOKENS = (
        "tokens", "too many tokens in a period (429)", 429,
        Retried.PATIENCE, Moves.INTERVALS, "tokens", "violet",
    )  # fmt: skip
    CONCURRENCY = (
        "concurrency", "too many requests at once (429)", 429,
        Retried.PATIENCE, Moves.SLOT, "concurrency", "teal",
    )  # fmt: skip
    CAPACITY = (
        "capacity", "the provider is overloaded, at or below the caller's rate (503, 529)", 503,
        Retried.PATIENCE, Moves.BACKOFF, None, "pink",
    )  # fmt: skip
    TRANSIENT = (
        "transient", "a fault that may be gone next time (5xx, timeout, connection)", 500,
        Retried.ATTEMPTS, Moves.OUTAGE, None, "red",
    )  # fmt: skip
    PERMANENT = (
        "permanent",
        "this call will never work (400, 403, 404, 413, 422, 501, 505, and what is not known)",
        400, Retried.NEVER, Moves.NOTHING, None, "dark", True,
    )  # fmt: skip
    QUOTA = (
        "quota", "the account is empty (402, `insufficient_quota`)", 402,
        Retried.NEVER, Moves.LATCH, None, "slate", False,
        "the account has no credit left", "raise the account's spending limit or add credit",
        "Top it up, then run the rest",
    )  # fmt: skip
    AUTH = (
        "auth", "the key is wrong or missing (401)", 401,
        Retried.DOUBTED, Moves.LATCH, None, "green", True,
        "the provider refuses the key",
        "set the right key in the variable of its provider (TOGETHER_API_KEY, OPENAI_API_KEY, …)",
        "Set {key} to a valid one",
    )  # fmt: skip
