"""Retries: whether a failed attempt is worth another, and after how long.

Backoff is exponential with full jitter (Brooker, "Exponential backoff and jitter", 2015). A
server's hint is a floor, with positive jitter on top so that no herd comes back at its end. The
retry budget (Finagle's RetryBudget) keeps retries of transient faults to a share of what is sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from headway.errors import InvalidLimit
from headway.kinds import Kind, Moves, Retried
from headway.kinds._words import duration, plural, shown
from headway.rates import is_number

__all__ = ["Delay", "Failure", "GiveUp", "Retry", "RetryBudget", "Verdict", "decide",
           "given_up", "note_given_up", "spent", "spread"]  # fmt: skip

INFINITY = float("inf")

# A run of refusals is bounded by patience; its backoff must not outgrow a server's next window.
_CAPACITY_CAP = 8.0


@dataclass(frozen=True, slots=True)
class Delay:
    """Try again, not before `seconds` from now (and not before the gate opens)."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not try again; `reason` says what bound. `away` is for how many seconds the provider has
    let this job not through (infinity: it lets nobody), 0 where the job has itself to blame.
    """

    reason: str
    away: float = 0.0


Verdict: TypeAlias = Delay | GiveUp


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed, or was refused, as ``Retry(on=)`` sees it.

    `kind` is what it was about, `status` the HTTP status that the server sent (None: there was
    none), `method` that of the request (``"POST"``; None where that is not known) and `message`
    what was said, one line of at most 300 characters.
    """

    kind: Kind
    status: int | None
    method: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed attempt is tried again.

    `attempts`: how often a job whose attempts fail (5xx, timeouts, connection errors) is tried
    in all; 1 switches retries off, of refusals too. `base` and `cap` (seconds): the backoff of
    the n-th failure is drawn between 0 and ``min(cap, base * 2**n)``. `patience` (seconds): how
    long a job goes on being refused (429, 503), which uses up no attempts, and how long one waits
    while nobody is let through. `budget`: retries of failures, as a share of what was sent in the
    last 10 seconds, beyond a floor of 10. `latch`: whether a key that is refused (401), or whose
    account is empty (402), ends the other jobs that use it, until ``reset()``. A key that has
    worked is tried 3 times more before that, over 3.5 seconds, whether it latches or not. `on`: of
    what would be tried again, only this is: kinds and statuses (``{Kind.RATE, 503}``), or a plain
    function of a `Failure` that returns whether it is; None for all of it. `wait_out`: whether jobs
    wait while the provider is known to be away, up to `patience`; False, for those who have a
    fallback, ends them at once (`Unavailable`), and lets one through now and then, to see whether
    it is back.

    Raises `InvalidLimit` for values that cannot be meant.
    """

    attempts: int = 5
    base: float = 0.5
    cap: float = 60.0
    patience: float = 120.0
    budget: float = 0.2
    latch: bool = True
    on: Callable[[Failure], bool] | Collection[Kind | int] | None = None
    wait_out: bool = True

    def __post_init__(self) -> None:
        if (
            isinstance(self.attempts, bool)
            or not isinstance(self.attempts, int)
            or self.attempts < 1
        ):
            raise InvalidLimit(
                f"Retry(attempts={shown(self.attempts)}) is not a whole number from 1: it counts "
                "the first try too",
                fix="attempts=5, or attempts=1 for no retries.",
            )
        for name, purpose in (("latch", "no latch"), ("wait_out", "those who have a fallback")):
            if not isinstance(getattr(self, name), bool):
                raise InvalidLimit(
                    f"Retry({name}={shown(getattr(self, name))}) is neither True nor False",
                    fix=f"{name}=False for {purpose}, or leave it out.",
                )
        self._check_on()
        for name in ("base", "cap", "patience", "budget"):
            value = getattr(self, name)
            if not (is_number(value) and value >= 0):
                raise InvalidLimit(
                    f"Retry({name}={shown(value)}) is not a number from 0",
                    fix=f"leave it out, or Retry({name}={_DEFAULTS[name]:g}).",
                )

    def _check_on(self) -> None:
        if self.on is None or callable(self.on):
            return
        fix = "on={Kind.RATE, Kind.CAPACITY, 503}, or on=lambda failure: failure.status != 504."
        if isinstance(self.on, str | bytes) or not isinstance(self.on, Collection):
            raise InvalidLimit(
                f"Retry(on={shown(self.on)}) is neither a function nor kinds and statuses", fix=fix
            )
        for each in self.on:
            known = isinstance(each, int) and not isinstance(each, bool) and 100 <= each <= 599
            known |= isinstance(each, str) and each in set(Kind)
            if not known:
                raise InvalidLimit(
                    f"Retry(on=...) names {shown(each)}, which is neither a Kind nor a status",
                    fix=fix,
                )

    def wants(self, failure: Failure) -> bool:
        """Whether `on` lets what failed so be tried again. Raises what the user's function does."""
        on = self.on
        if on is None:
            return True
        if callable(on):
            return bool(on(failure))
        return failure.kind in on or failure.status in on

    def backoff(self, failures: int, random: float) -> float:
        """Seconds before the next try after `failures` (from 1); `random` is in [0, 1)."""
        # 2**63 seconds is beyond any cap; larger powers overflow a float.
        return random * min(self.cap, self.base * 2.0 ** min(failures - 1, 63))

    def reopening(self, kind: Kind, strikes: int, hint: float | None, random: float) -> float:
        """Seconds for which a refusal shuts the gate, after `strikes` earlier ones in a row."""
        if hint is not None:
            return spread(hint, random)
        if kind.moves in (Moves.BACKOFF, Moves.OUTAGE):
            # Never zero: the next probe would find the same overload.
            most = min(self.cap, _CAPACITY_CAP, self.base * 2.0 ** min(strikes, 63))
            return most * (0.5 + random / 2)
        return min(self.cap, _CAPACITY_CAP, 2.0 ** min(strikes, 63)) * (1.0 + random / 10)


def decide(
    retry: Retry,
    kind: Kind,
    failures: int,
    refused_for: float,
    hint: float | None,
    random: float,
) -> Verdict:
    """Another try, or not, for a job that failed `failures` times and is refused since
    `refused_for` seconds; `hint` (seconds) is what the server asked to wait.
    """
    if kind.retried in (Retried.NEVER, Retried.DOUBTED):
        return GiveUp(f"{kind} errors are not retried")
    if retry.attempts == 1:
        return GiveUp("Retry(attempts=1) switches retries off")
    wait = 0.0 if hint is None else spread(hint, random)
    if kind.retried is Retried.ATTEMPTS:
        if failures >= retry.attempts:
            return GiveUp(f"attempts={retry.attempts} are used up")
        wait = max(wait, retry.backoff(failures, random))
    patient = kind.retried is Retried.PATIENCE
    if wait + refused_for > retry.patience and (patient or hint is not None):
        lasted = f" for {duration(refused_for)}" if refused_for else ""
        waits = "" if hint is None else f", and the server asks to wait {duration(hint)} more"
        over = (
            f", which is beyond {spent(retry)}"
            if hint is not None and hint > retry.patience
            else f": {spent(retry)} is over"
        )
        return GiveUp(f"refused ({kind}){lasted}{waits}{over}", refused_for)
    return Delay(wait)


_DEFAULTS = {"base": 0.5, "cap": 60.0, "patience": 120.0, "budget": 0.2}


_GIVEN_UP = "__headway_given_up__"


def spent(retry: Retry) -> str:
    """The patience of `retry`, which is over, in words."""
    return f"patience={retry.patience:g} {plural(retry.patience, 'second')}"


def note_given_up(error: BaseException, verdict: GiveUp) -> None:
    """Say on `error`, which a job ends with, why it is not tried again."""
    with suppress(AttributeError):  # one that takes no attributes
        setattr(error, _GIVEN_UP, verdict)


def given_up(error: BaseException) -> GiveUp | None:
    """Why the job was not tried again that ended with `error`; None where nothing says so."""
    verdict = getattr(error, _GIVEN_UP, None)
    return verdict if isinstance(verdict, GiveUp) else None


def spread(hint: float, random: float) -> float:
    """`hint` seconds and a little more: whole seconds may have been cut off, and herds hurt."""
    return hint + random * min(1.0, 0.05 + 0.1 * hint)


class RetryBudget:
    """Retries as a share of what was sent lately; beyond it a failure is final."""

    __slots__ = ("_at", "_credit", "_floor", "_sent", "share")

    FLOOR = 10.0
    MEMORY = 10.0  # seconds

    def __init__(self, share: float, now: float) -> None:
        self.share = share
        self._credit = 0.0
        self._floor = self.FLOOR
        self._sent = 0
        self._at = now

    def spend(self, sent: int, now: float) -> bool:
        """Take one retry out of the budget, given how many attempts were `sent` so far."""
        elapsed = max(0.0, now - self._at)
        age = elapsed / self.MEMORY
        kept = math.exp(-age)
        # What was sent since the last look was sent at an even pace, as far as is known.
        lately = (1.0 - kept) / age if age > 1e-9 else 1.0
        self._credit = self._credit * kept + self.share * (sent - self._sent) * lately
        self._floor = min(self.FLOOR, self._floor + elapsed * self.FLOOR / self.MEMORY)
        self._sent, self._at = sent, now
        if self._floor >= 1.0:
            self._floor -= 1.0
        elif self._credit >= 1.0:
            self._credit -= 1.0
        else:
            return False
        return True

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._at += seconds
