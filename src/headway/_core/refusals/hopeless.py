"""Jobs that wait and cannot hope: each ends with its error as soon as that is certain.

A credential is latched, a hint is beyond patience, nothing has been let through for so long, or the
gate opens after a job's time.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from headway._core.limits.binding import imposed, spent_until
from headway._core.limits.scope import Scope
from headway._core.queue.credentials import Credential
from headway._core.queue.job import FAILED, Job
from headway._core.refusals.outage import Outage
from headway._core.refusals.retry import Retry, spent
from headway._core.refusals.spell import CALM, Spell
from headway.errors import Cleared, DeadlineExceeded, Latched, Unavailable
from headway.events import Closed, Event
from headway.hints import Refusal
from headway.kinds import Binds, Kind, LimitName, Moves
from headway.kinds._words import duration, shown

if TYPE_CHECKING:
    from headway._core.counters import Counters
    from headway._core.queue.waiting import Waiting

__all__ = ["LATER", "Hopeless", "latched", "too_late"]

INFINITY = float("inf")

LATER = "submit again when the provider is back."

_NAMES: dict[LimitName, str] = {
    "requests": "requests", "tokens": "tokens", "input_tokens": "input tokens",
    "output_tokens": "output tokens", "concurrency": "in flight",
}  # fmt: skip

_STRIKES = 3  # refusals for an overload in a row, each after a wait: the provider is away
_DUST = 1e-6  # seconds that sums of floats may be off by


class Hopeless:
    """Ends them: `ended` are those that failed while they were queued, `spells` the scopes where
    nothing is let through.
    """

    def __init__(
        self,
        retry: Retry,
        whole: Scope,
        waiting: Waiting,
        counters: Counters,
        events: list[Event],
        outage: Outage,
    ) -> None:
        self.ended: list[Job] = []
        self.spells: dict[Scope, Spell] = {}
        self._retry = retry
        self._whole = whole
        self._waiting = waiting
        self._counters = counters
        self._events = events
        self._outage = outage

    def check(self, job: Job, now: float) -> None:
        """Raise for a job that is certain to fail: a latch, or a gate beyond what it can wait."""
        credential = job.credential or job.flow.credential
        if credential is not None and credential.latch is not None:
            raise copy(credential.latch)
        for limits in (self._whole, job.flow.limits):
            if limits is None:
                continue
            if (spent := self.spent(job, limits, now)) is not None:
                raise spent
            if limits.gate.shut:
                spell = self.spells.get(limits)
                hopeless = spell is not None and spell.closed and now < limits.gate.opens
                # Else it may be a probe.
                if spell is not None and hopeless and self.is_long(spell.asked_until - now):
                    raise self._unavailable(spell, now)
                if (
                    limits.gate.cautious
                    and limits.gate.ready_at() > now
                    and not self._retry.wait_out
                ):
                    raise self.away(limits, now)
            if job.deadline is not None:
                # What it will reserve may turn out to be less.
                cost = 0.0 if job.guessed or job.estimate is not None else job.cost
                if (late := self.too_late(job, limits, cost, now)) is not None:
                    raise late

    def too_late(self, job: Job, scope: Scope, cost: float, now: float) -> DeadlineExceeded | None:
        """Why `job`, which reserves `cost` tokens, cannot make its timeout: `scope` alone lets it
        start later for certain.
        """
        binds, at = imposed(scope, cost, now)
        if job.deadline is None or at <= job.deadline:
            return None
        return too_late(at - now, job.deadline, now, _named(binds, scope, cost, now))

    def spent(self, job: Job, scope: Scope, now: float) -> Unavailable | None:
        """Why `job` cannot wait for a quota of `scope`: it is spent, for longer than patience."""
        quota, until = spent_until(scope, job.cost, now)
        if quota is None or not self.is_long(until - now):
            return None
        error = Unavailable(
            f"the quota of {quota.rate} {_NAMES[quota.what]} is spent, and has room again in "
            f"{duration(until - now)}{quota.date_of(until)}",
            fix="submit again then, raise the limit, or wait with Retry(patience=...).",
        )
        if until > quota.told_until + self._retry.patience:
            quota.told_until = until
            kind = Kind.RATE if quota.what == "requests" else Kind.TOKENS
            self._events.append(Closed(now, kind, until, str(error)))
        return error

    def fail(self, job: Job, error: Exception, now: float) -> None:
        """End `job`, which is queued, with `error`."""
        job.waited += now - job.queued_at
        job.status = FAILED
        job.error = error
        self._waiting.remove(job)
        for counts in (self._counters, job.flow.counts):
            if isinstance(error, DeadlineExceeded):
                counts.timed_out += 1
            elif isinstance(error, Cleared):
                counts.cancelled += 1
            else:
                counts.failed += 1
        self.ended.append(job)

    def fail_all(self, scope: Scope, error: Unavailable, now: float) -> None:
        """End all that wait for `scope`."""
        for job in self._waiting.jobs():
            if scope is self._whole or job.flow.limits is scope:
                self.fail(job, copy(error), now)

    def fail_all_of(self, credential: Credential, error: Latched, now: float) -> None:
        """End all that would show `credential`, which is latched."""
        for job in self._waiting.jobs():
            if (job.credential or job.flow.credential) is credential:
                self.fail(job, copy(error), now)

    def lasts(self, scope: Scope, refusal: Refusal, now: float) -> None:
        """End all that waits for `scope` where patience is over, or cannot be enough."""
        patience, hint = self._retry.patience, refusal.wait
        spell = self.spells[scope]
        quota = refusal.per is not None and (hint is None or self.is_long(hint))
        if quota or (hint is not None and self.is_long(hint)):
            known = spell.closed
            if spell.asked(INFINITY if hint is None else now + hint, quota=quota):
                # One probe a patience goes on asking: it is one server's word.
                scope.gate.shut_until(min(spell.asked_until, now + patience))
                scope.gate.cautious = True
                error = self._unavailable(spell, now)
                if not known:
                    until = None if spell.asked_until == INFINITY else spell.asked_until
                    self._events.append(Closed(now, refusal.kind, until, str(error)))
                self.fail_all(scope, error, now)
                return
        elif self._does_not_wait(scope, refusal):
            scope.gate.cautious = True
            self.fail_all(scope, self.away(scope, now), now)
            return
        elif self.is_long(now - spell.since):
            scope.gate.cautious = True
            why = self.nothing_passes(spell, now)
            self.fail_all(scope, Unavailable(why, fix=LATER), now)
            return
        self.shut(scope, now)

    def _does_not_wait(self, scope: Scope, refusal: Refusal) -> bool:
        """Whether `refusal` of `scope` shows that the provider is away, and nobody waits for it."""
        overloaded = refusal.kind.moves is Moves.BACKOFF and scope.gate.strikes >= _STRIKES
        return overloaded and not self._retry.wait_out

    def shut(self, scope: Scope, now: float) -> None:
        """Fail the queued jobs whose time is over before the gate of `scope` opens."""
        wait = scope.gate.opens - now
        others: list[Job] = []
        for job in self._waiting.late(scope.gate.opens):
            if scope is self._whole or job.flow.limits is scope:
                self.fail(job, too_late(wait, job.deadline or now, now), now)
            else:
                others.append(job)
        for job in others:
            self._waiting.watch(job)

    def spell(self, scope: Scope, now: float) -> Spell:
        """The spell of `scope`: a new one where nobody asked for long."""
        spell = self.spells.get(scope)
        if spell is None or now - spell.last > 2 * self._retry.patience + CALM:
            spell = self.spells[scope] = Spell(now)
        spell.last = now
        return spell

    def is_long(self, seconds: float) -> bool:
        """Whether that is beyond patience."""
        return seconds > self._retry.patience + _DUST

    def away(self, scope: Scope, now: float) -> Unavailable:
        """The error of a job that does not wait until `scope` lets anything through again."""
        spell = self.spells.get(scope)
        if self._outage.on or spell is None:
            what = self._outage.so_far(now)
        else:
            what = f"nothing was let through for {duration(now - spell.since)}"
        return Unavailable(
            f"{what}, and Retry(wait_out=False) waits for no end of it",
            fix="ask the fallback; a job now and then is let through, and ends this when answered.",
        )

    def nothing_passes(self, spell: Spell, now: float) -> str:
        """Why nobody is tried again, in words."""
        return (
            f"nothing was let through for {duration(now - spell.since)}, and "
            f"{spent(self._retry)} is over"
        )

    def _unavailable(self, spell: Spell, now: float) -> Unavailable:
        if spell.asked_until == INFINITY:
            return Unavailable(
                "a quota of a day or more is used up, and the provider does not say until when",
                fix="submit again when it is full again, or raise it.",
            )
        return Unavailable(
            f"the provider asks to wait {duration(spell.asked_until - now)} more, which is beyond "
            f"{spent(self._retry)}",
            fix="submit again then, or raise Retry(patience=...).",
        )

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        for spell in self.spells.values():
            spell.shift(seconds)


def latched(credential: Credential, refusal: Refusal) -> Latched:
    """The error of all that would show `credential`, of which `refusal` is."""
    kind = refusal.kind
    whose = "" if credential.name is None else f" of key {credential.name!r:.80}"
    if credential.is_hash:
        whose = " with the same key"
    return Latched(
        f"{kind}: the provider answered {refusal.status} ({refusal.message or 'no message'}), "
        f"and would answer the same to every other call{whose}",
        kind,
        fix=f"{kind.fix}, then call scheduler.reset().",
    )


def _named(binds: Binds, scope: Scope, cost: float, now: float) -> str:
    """The limit of `scope` that `binds`, for an attempt of `cost` tokens; "" for no limit's."""
    whose = "" if scope.key is None else f" of key {shown(scope.key)}"
    if binds in (Binds.REQUESTS, Binds.TOKENS, Binds.INPUT_TOKENS, Binds.OUTPUT_TOKENS):
        return f"the limit of {binds.replace('_', ' ')}{whose}"
    quota, _ = spent_until(scope, cost, now)
    if binds is not Binds.QUOTA or quota is None:
        return ""
    return f"the quota of {quota.rate} {_NAMES[quota.what]}{whose}"


def too_late(seconds: float, deadline: float, now: float, limit: str = "") -> DeadlineExceeded:
    """The error of a job that cannot make its timeout: `limit`, or a gate, lets nothing start for
    `seconds`.
    """
    wait = duration(seconds)
    held = (
        f"{limit} lets this job start in {wait} at the earliest"
        if limit
        else f"nothing can be sent for {wait}"
    )
    left = round(max(0.0, deadline - now), 9)
    over = f"is over in {duration(left)}" if left else "is over"
    return DeadlineExceeded(
        f"{held}, and this job's timeout {over}",
        fix="a longer timeout=, or submit again later.",
    )
