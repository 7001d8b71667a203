"""What a refusal teaches: which knob it moves, as its row in `headway.kinds` says.

The gate and the knobs are those of the key where it has limits of its own, else the whole's.
"""

from __future__ import annotations

from copy import copy
from types import MappingProxyType
from typing import TYPE_CHECKING

from headway._core.limits.evidence import Evidence
from headway._core.limits.gate import PROBE_PATIENCE
from headway._core.limits.scope import Scope
from headway._core.queue.job import FAILED, Job
from headway._core.refusals.outage import Outage
from headway._core.refusals.retry import Delay, GiveUp, Retry, RetryBudget, Verdict
from headway._words import duration, number
from headway.errors import DeadlineExceeded, Latched, Unavailable
from headway.events import (
    STATED,
    Closed,
    Event,
    GaveUp,
    Kind,
    LimitChanged,
    Recovered,
    Refused,
)  # fmt: skip
from headway.hints import Refusal
from headway.kinds import Binds, LimitName, Moves, Retried

if TYPE_CHECKING:
    from headway._core.counters import Counters
    from headway._core.queue.waiting import Waiting

__all__ = ["Refusals"]

INFINITY = float("inf")

# Seconds without a refusal after which a success ends an episode: some limits refuse now and then,
# and an operator wants one warning of that, not one a second.
_CALM = 5.0

_DUST = 1e-6  # seconds that sums of floats may be off by


class Refusals:
    """The memory of refusals: the latch, the outage, the present episode, the retry budget."""

    def __init__(
        self,
        retry: Retry,
        whole: Scope,
        waiting: Waiting,
        counters: Counters,
        events: list[Event],
        now: float,
    ) -> None:
        self.retry = retry
        self.latch: Latched | None = None
        self.why = ""
        self.quiet = True  # nothing of what `succeeded` looks after is going on
        self.ended: list[Job] = []  # jobs that failed while they were queued
        self._whole = whole
        self._waiting = waiting
        self._counters = counters
        self._events = events
        self._outage = Outage()
        self._budget = RetryBudget(retry.budget, now)
        self._began: float | None = None  # the present episode of refusals
        self._last = 0.0
        self._fault_seen = ""
        self._refused: dict[Kind, int] = {}
        self._troubled: set[Scope] = set()  # with a gate that is shut, or slots that were cut

    # Attempts that ended

    def succeeded(self, job: Job, now: float) -> None:
        """An attempt succeeded while something was not quiet."""
        self._outage.answered()
        self._whole.gate.cautious = False
        for limits in (self._whole, job.limits):
            if limits is None:
                continue
            if limits.gate.shut:
                limits.gate.answered(job)
            below = limits.capacity < limits.concurrency.ceiling
            if below and limits.grow_concurrency(job.started_at):
                self._change(limits, "concurrency", limits.capacity, "a clean round", now)
            if not limits.gate.shut and limits.capacity >= limits.concurrency.ceiling:
                self._troubled.discard(limits)
        if self._began is not None and job.started_at >= self._last + _CALM:
            refused = MappingProxyType(self._refused)
            self.why = f"recovered from refusals that began {duration(now - self._began)} ago"
            self._events.append(Recovered(now, self._began, refused))
            self._began, self._refused = None, {}
        self.quiet = self._began is None and not self._troubled

    def begun(self, job: Job) -> None:
        """The answer to an attempt has begun, and is no refusal."""
        self._answered(job)
        for limits in (self._whole, job.limits):
            if limits is not None and limits.gate.shut:
                limits.gate.answered(job)

    def learn(self, job: Job, refusal: Refusal, now: float, random: float) -> None:
        """Move the knobs that `refusal` of an attempt of `job`, which has ended, asks for."""
        kind = refusal.kind
        scope = job.limits or self._whole
        self.quiet = False
        if kind.retried is Retried.PATIENCE:
            self._answered(job)
            if not refusal.typed:
                kind = self._kind_by_evidence(job, scope, now)
            self._refuse(job, refusal, kind, scope, now, random)
        elif kind.retried is Retried.ATTEMPTS:
            self._count(job, kind)
            self._fault(job, refusal, now, random)
        else:
            if not refusal.of_provider:  # an error of the caller's own says nothing
                scope.gate.lost(job)
                self._whole.gate.lost(job)
            else:
                self._count(job, kind)
                self._answered(job)
                scope.gate.answered(job)
                self._whole.gate.answered(job)
            if kind.moves is Moves.LATCH:
                self._close(kind, refusal, now)

    def decide(self, job: Job, refusal: Refusal, now: float, random: float) -> Verdict:
        """Whether `job` is tried again, and after how long; not before its gate opens."""
        kind = refusal.kind
        if kind.retried is Retried.ATTEMPTS:
            if self._outage.on and self.retry.attempts > 1:
                return self._sit_out(job, kind, now)
            job.failures += 1
        elif job.refused_since is None:
            job.refused_since = now
        refused_for = 0.0 if job.refused_since is None else now - job.refused_since
        verdict = self.retry.decide(kind, job.failures, refused_for, refusal.wait, random)
        if isinstance(verdict, GiveUp):
            if kind.retried is not Retried.NEVER:
                self.give_up(job, kind, verdict.reason, now)
            return verdict
        if kind.retried is Retried.ATTEMPTS and not self._budget.spend(self._counters.sent, now):
            reason = (
                f"the retry budget is used up: retries of failures are held to "
                f"{self.retry.budget:.0%} of what was sent in the last 10 s, and 10 more"
            )
            self.give_up(job, kind, reason, now)
            return GiveUp(reason)
        if job.probes_refused and self._waiting.size:
            # It may be this job that is refused, and not everybody: another one is the next probe.
            opens = (job.limits or self._whole).gate.opens
            stands_back = min(
                self.retry.cap, PROBE_PATIENCE * 2.0 ** min(job.probes_refused - 1, 63)
            )
            return Delay(max(verdict.seconds, opens - now + stands_back))
        return verdict

    def give_up(self, job: Job, kind: Kind, reason: str, now: float) -> None:
        """Say that `job` is not tried again although its kind of failure is."""
        self._events.append(GaveUp(now, job.number, job.flow.key, job.attempts, kind, reason))

    def followed(self, scope: Scope, limit: LimitName, value: float, now: float) -> None:
        """Say that a limit in force follows what the server states, `value` a second."""
        self._change(scope, limit, value, STATED, now)

    def reset(self, now: float) -> None:
        """Forget the latch and the outage."""
        self.latch = None
        self._outage.answered()
        self.why = "reset() was called"

    # Jobs that cannot hope

    def check_hopes(self, job: Job, now: float) -> None:
        """Raise for a job that is certain to fail: a latch, or a gate beyond what it can wait."""
        if self.latch is not None:
            raise copy(self.latch)
        for limits in (self._whole, job.flow.limits):
            if limits is None or not limits.gate.shut:
                continue
            opens = limits.gate.opens
            if opens - now > self.retry.patience + _DUST:
                raise self._unavailable(opens - now)
            if job.deadline is not None and opens > job.deadline:
                raise too_late(opens - now, job.deadline, now)

    def fail(self, job: Job, error: Exception, now: float) -> None:
        """End `job`, which is queued, with `error`."""
        job.waited += now - job.queued_at
        job.status = FAILED
        job.error = error
        self._waiting.remove(job)
        for counts in (self._counters, job.flow.counts):
            if isinstance(error, DeadlineExceeded):
                counts.timed_out += 1
            else:
                counts.failed += 1
        self.ended.append(job)

    def forget(self, limits: Scope) -> None:
        """`limits` are no longer in force."""
        self._troubled.discard(limits)

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._last += seconds
        if self._began is not None:
            self._began += seconds
        self._outage.shift(seconds)
        self._budget.shift(seconds)

    # What each kind moves

    def _count(self, job: Job, kind: Kind) -> None:
        self._counters.refuse(kind)
        job.flow.counts.refuse(kind)

    def _answered(self, job: Job) -> None:
        """The provider answered the attempt of `job`, if only to refuse it: it is there."""
        self._outage.answered()
        self._whole.gate.cautious = False
        if job.limits is not None:
            self._whole.gate.answered(job)  # what the key's own gate makes of it is another matter

    def _kind_by_evidence(self, job: Job, scope: Scope, now: float) -> Kind:
        """What a 429 is about that does not say: from its pattern, once there is one."""
        evidence = scope.evidence
        if evidence is None:
            scope.evidence = Evidence()  # nothing is known yet: watch from now on
        elif job.seen is not None and evidence.is_concurrency(job.seen, now):
            return Kind.CONCURRENCY
        return Kind.RATE

    def _refuse(
        self,
        job: Job,
        refusal: Refusal,
        kind: Kind,
        scope: Scope,
        now: float,
        random: float,
    ) -> None:
        gate = scope.gate
        scope.credit = 0.0
        scope.followed_at = max(scope.followed_at, now)  # what was answered before knows less
        # Its own slot is free again by now, so concurrency is looked at as it was.
        full = scope.in_flight + 1 >= scope.capacity
        binds = Binds.CONCURRENCY if full else scope.binding(job.cost, now)[0]
        probe = gate.probe is job
        job.probes_refused += probe
        closed = gate.opens - now > self.retry.patience + _DUST
        if self._began is None:
            self._began = now
        self._last = now
        self._trouble(scope, job)
        self._refused[kind] = self._refused.get(kind, 0) + 1
        self._count(job, kind)
        strikes = gate.strike(job)
        gate.took(now - job.started_at)
        # A probe tells that the gate opened too soon, not that the pace was too high.
        if not probe:
            self._cut(kind, scope, job.started_at, now)
        if kind.moves is Moves.SLOT and refusal.wait is None and scope.in_flight:
            gate.shut_until_slot_ends()
        else:
            wait = self.retry.reopening(kind, strikes, refusal.wait, random)
            if refusal.wait is None:
                if kind.cuts == "requests":
                    wait = min(wait, scope.reopens_in(strikes, now))
                wait = min(wait, self.retry.patience)  # our own guess must not end the job
            gate.shut_until(now + wait)
        until = None if gate.until_slot else gate.opens
        self.why = f"refused ({kind}): {refusal.message or refusal.status or 'no message'}"
        number = sum(self._refused.values())
        self._events.append(
            Refused(
                now, job.number, job.flow.key, kind, refusal.status, refusal.wait, until, number,
                binds, refusal.odd,
            )
        )  # fmt: skip
        self._shut(scope, now, reported=closed)

    def _trouble(self, scope: Scope, job: Job) -> None:
        if scope is self._whole or scope is job.flow.limits:  # not what a retune took away
            self._troubled.add(scope)

    def _cut(self, kind: Kind, scope: Scope, sent_at: float, now: float) -> None:
        why = f"refused ({kind})"
        if kind.cuts == "requests" and scope.cut_rate(
            sent_at, now, self._counters.recent_rate(now)
        ):
            self._change(scope, "requests", 1 / scope.paces[0].interval, why, now)
        elif kind.cuts == "tokens" and scope.cut_tokens(sent_at, now):
            self._change(scope, "tokens", 1 / scope.budgets[0].pace.interval, why, now)
        elif kind.cuts == "concurrency" and scope.cut_concurrency(sent_at, now):
            self._change(scope, "concurrency", scope.capacity, why, now)

    def _shut(self, scope: Scope, now: float, *, reported: bool) -> None:
        """Fail the queued jobs that the gate of `scope` leaves without hope."""
        wait = scope.gate.opens - now
        if wait > self.retry.patience + _DUST:
            error = self._unavailable(wait)
            if not reported:
                self._events.append(Closed(now, Kind.RATE, scope.gate.opens, str(error)))
            self._fail_all(scope, error, now)
            return
        others: list[Job] = []
        for job in self._waiting.late(scope.gate.opens):
            if scope is self._whole or job.flow.limits is scope:
                self.fail(job, too_late(wait, job.deadline or now, now), now)
            else:
                others.append(job)
        for job in others:
            self._waiting.watch(job)

    def _fault(self, job: Job, refusal: Refusal, now: float, random: float) -> None:
        gate = self._whole.gate
        probe = gate.probe is job
        self._outage.failed(job.number, now, unreached=refusal.unreached)
        if not self._outage.on:
            (job.limits or self._whole).gate.answered(job)
            gate.answered(job)
            return
        if self._began is None:
            self._began = now
        self._last = now
        kind = refusal.kind
        self._refused[kind] = self._refused.get(kind, 0) + 1
        self._fault_seen = refusal.message or f"status {refusal.status}"
        began = not gate.cautious
        if began or probe:
            strikes = gate.strike(job)
            wait = self.retry.reopening(kind, strikes, None, random)
            gate.shut_until(now + min(wait, self.retry.patience))
            self._shut(self._whole, now, reported=True)
        gate.cautious = True
        self._trouble(self._whole, job)
        if began:
            self.why = (
                "an outage: attempts fail one after another and none is answered; the last: "
                f"{self._fault_seen}"
            )
            self._events.append(Closed(now, kind, gate.opens, self.why))

    def _sit_out(self, job: Job, kind: Kind, now: float) -> Verdict:
        """In an outage: wait for the next probe, at nobody's expense, until patience is over."""
        away = now - self._outage.since
        if away <= self.retry.patience:
            return Delay(0.0)
        reason = (
            f"an outage: no attempt was answered for {duration(away)} ({self._fault_seen}), and "
            f"patience={self.retry.patience:g} seconds is over"
        )
        error = Unavailable(reason, fix="submit again when the provider is back.")
        self._fail_all(self._whole, error, now)
        self.give_up(job, kind, reason, now)
        return GiveUp(reason, INFINITY)

    def _close(self, kind: Kind, refusal: Refusal, now: float) -> None:
        error = Latched(
            f"{kind}: the provider answered {refusal.status} ({refusal.message or 'no message'}), "
            f"and would answer the same to every other call",
            kind,
            fix=f"{kind.fix}, then call scheduler.reset().",
        )
        if self.latch is None:
            self._events.append(Closed(now, kind, None, str(error)))
        self.latch = error
        self.why = str(error)
        self._fail_all(self._whole, error, now)

    def _fail_all(self, scope: Scope, error: Latched | Unavailable, now: float) -> None:
        for job in self._waiting.jobs():
            if scope is self._whole or job.flow.limits is scope:
                self.fail(job, copy(error), now)

    def _unavailable(self, seconds: float) -> Unavailable:
        return Unavailable(
            f"the provider asks to wait {duration(seconds)} more, which is beyond "
            f"patience={self.retry.patience:g} seconds",
            fix="submit again then, or raise Retry(patience=...).",
        )

    def _change(self, scope: Scope, limit: LimitName, value: float, why: str, now: float) -> None:
        self.why = f"{limit} limit in force {number(value)}: {why}"
        self._events.append(LimitChanged(now, scope.key, limit, value, why))


def too_late(seconds: float, deadline: float, now: float) -> DeadlineExceeded:
    """The error of a job that cannot make its timeout."""
    return DeadlineExceeded(
        f"nothing can be sent for {duration(seconds)}, and this job's timeout is over in "
        f"{duration(max(0.0, deadline - now))}",
        fix="a longer timeout=, or submit again later.",
    )
