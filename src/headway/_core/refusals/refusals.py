"""What a refusal teaches: which knob it moves, as its row in `headway.kinds` says.

The gate and the knobs are those of the key where it has limits of its own, else the whole's.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from headway._core.limits.binding import binding
from headway._core.limits.gate import PROBE_PATIENCE
from headway._core.limits.scope import Scope
from headway._core.queue.credentials import TRIES, Credential, Credentials
from headway._core.queue.job import Job
from headway._core.refusals.hopeless import LATER, Hopeless, latched
from headway._core.refusals.outage import Outage
from headway._core.refusals.retry import (
    Delay,
    GiveUp,
    Retry,
    RetryBudget,
    Verdict,
    decide,
    spent,
)
from headway._core.refusals.spell import CALM
from headway.errors import Latched, Unavailable
from headway.events import (
    STATED,
    Closed,
    Event,
    GaveUp,
    Kind,
    LimitChanged,
    Outdated,
    Recovered,
    Refused,
)  # fmt: skip
from headway.hints import Refusal
from headway.kinds import Binds, LimitName, Moves, Retried
from headway.kinds._words import duration, number, times

if TYPE_CHECKING:
    from headway._core.counters import Counters
    from headway._core.queue.waiting import Waiting

__all__ = ["Refusals"]

INFINITY = float("inf")

_SLOTS_IN_VAIN = 3  # that ended, and nobody may take: the limit fell below what is in flight
_LONGEST_GATE = 8.0  # seconds, of our own guess at a limit's
_DUST = 1e-6  # seconds that sums of floats may be off by


class Refusals:
    """The memory of refusals: latches, the outage, the present episode, the retry budget."""

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
        self.credentials = Credentials()
        self.why = ""  # the last change and its cause, with what a server or an error said of it
        self.cause = ""  # the same without: for those who may not read what was said
        self.quiet = True  # nothing of what `succeeded` looks after is going on
        self._outage = Outage()
        self.hopeless = Hopeless(retry, whole, waiting, counters, events, self._outage)
        self._whole = whole
        self._waiting = waiting
        self._counters = counters
        self._events = events
        self._budget = RetryBudget(retry.budget, now)
        self._began: float | None = None  # the present episode of refusals
        self._last = 0.0
        self._refused: dict[Kind, int] = {}
        self._troubled: set[Scope] = set()  # with a gate that is shut, or slots that were cut
        self._latched_after = 0  # what had succeeded when a credential was latched last

    @property
    def closed(self) -> bool:
        """Whether nothing has succeeded since a credential was latched."""
        latched = bool(self.credentials.latched)
        return latched and self._counters.succeeded == self._latched_after

    # Attempts that ended

    def succeeded(self, job: Job, now: float) -> None:
        """An attempt succeeded while something was not quiet."""
        self._outage.answered()
        for limits in (self._whole, job.limits):
            if limits is None:
                continue
            self.hopeless.spells.pop(limits, None)
            limits.gate.cautious = False
            if limits.gate.shut:
                limits.gate.answered(job)
            below = limits.capacity < limits.concurrency.ceiling
            if below and limits.grow_concurrency(job.started_at, now):
                self._change(limits, "concurrency", limits.capacity, "a clean round", now)
            if not limits.gate.shut and limits.capacity >= limits.concurrency.ceiling:
                self._troubled.discard(limits)
        if self._began is not None and job.started_at >= self._last + CALM:
            refused = MappingProxyType(self._refused)
            self.explain(f"recovered from refusals that began {duration(now - self._began)} ago")
            self._events.append(Recovered(now, self._began, refused))
            self._began, self._refused = None, {}
        self.quiet = self._began is None and not self._troubled

    def begun(self, job: Job) -> None:
        """The answer to an attempt has begun, and is no refusal."""
        self._answered(job)
        self._let_through(job)

    def learn(self, job: Job, refusal: Refusal, now: float, random: float) -> None:
        """Move the knobs that `refusal` of an attempt of `job`, which has ended, asks for."""
        if refusal.kind.moves is Moves.LATCH:
            self._deny(job, refusal, now)
        self.saw(job, refusal, now, random)

    def saw(self, job: Job, refusal: Refusal, now: float, random: float) -> None:
        """`learn`, of a refusal from which the function of `job` went on, with another credential
        where it was about that.
        """
        kind = refusal.kind
        scope = job.limits or self._whole
        self.quiet = False
        if kind.retried is Retried.PATIENCE:
            self._answered(job)
            # A server that limits both may say "requests" of either.
            slots = scope.capacity
            if kind is Kind.RATE and scope.was_crowded(job, now):
                kind = Kind.CONCURRENCY
            if scope.capacity > slots:
                why = "as many in flight are mostly accepted"
                self._change(scope, "concurrency", scope.capacity, why, now)
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
                self._let_through(job)

    def decide(self, job: Job, refusal: Refusal, now: float, random: float) -> Verdict:
        """Whether `job` is tried again, and after how long; not before its gate opens."""
        kind = refusal.kind
        if kind.retried is Retried.DOUBTED:
            return self._ask_again(job, kind, now, random)
        over = self._over(job, refusal, now)
        if over is not None:
            self.give_up(job, kind, over.reason, now)
            return over
        if kind.retried is Retried.ATTEMPTS:
            if self._outage.on and self.retry.attempts > 1:
                return Delay(0.0)  # for the next probe, at nobody's expense
            job.failures += 1
        elif job.refused_since is None:
            job.refused_since = now
        refused_for = 0.0 if job.refused_since is None else now - job.refused_since
        verdict = decide(self.retry, kind, job.failures, refused_for, refusal.wait, random)
        if isinstance(verdict, GiveUp):
            if kind.retried is Retried.PATIENCE and refusal.wait is not None:
                spell = self.hopeless.spells[job.limits or self._whole]
                left = self.retry.patience - refused_for
                others = self._waiting.size or self._counters.in_flight
                if others and left > 0 and not spell.closed and self.retry.attempts > 1:
                    return Delay(left)  # what they are told may be another thing
                verdict = GiveUp(verdict.reason, INFINITY)
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
        """Forget every latch and the outage."""
        self.credentials.reset()
        self.hopeless.spells.clear()
        self._outage.answered()
        self.explain("reset() was called")

    def explain(self, cause: str, why: str = "") -> None:
        """The last change had that `cause`, in headway's words; `why` adds those of others."""
        self.cause, self.why = cause, why or cause

    def forget(self, limits: Scope) -> None:
        """`limits` are no longer in force."""
        self._troubled.discard(limits)
        self.hopeless.spells.pop(limits, None)

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._last += seconds
        if self._began is not None:
            self._began += seconds
        self._outage.shift(seconds)
        self._budget.shift(seconds)
        self.credentials.shift(seconds)
        self.hopeless.shift(seconds)

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

    def _let_through(self, job: Job) -> None:
        """The attempt of `job` was not held to any limit, whatever the answer says."""
        for limits in (self._whole, job.limits):
            if limits is not None:
                self.hopeless.spells.pop(limits, None)
                limits.gate.cautious = False
                if limits.gate.shut:
                    limits.gate.answered(job)

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
        binds = Binds.CONCURRENCY if full else binding(scope, job.cost, now)[0]
        probe = gate.probe is job
        job.probes_refused += probe
        if self._began is None:
            self._began = now
        self._last = now
        self._trouble(scope, job)
        self._refused[kind] = self._refused.get(kind, 0) + 1
        self._count(job, kind)
        gate.took(now - job.started_at)
        self._cut(kind, scope, job.started_at, now, probe)
        self.hopeless.spell(scope, now)
        strikes = gate.strike(job)
        by_slot = kind.moves is Moves.SLOT and refusal.wait is None and scope.in_flight > 0
        if by_slot and strikes < _SLOTS_IN_VAIN:
            gate.shut_until_slot_ends()
        else:
            wait, safe = self._gate_wait(
                job, kind, refusal.wait, scope, now, random, strikes, probe
            )
            ajar = safe and scope.goes_back_safely(kind.cuts, job.cost)
            pausing = safe and not ajar and scope.refused_alone(kind.cuts, job.cost)
            gate.shut_until(now + wait, ajar=ajar, pausing=pausing)
        until = None if gate.until_slot else gate.opens
        said = refusal.message or refusal.status or "no message"
        self.explain(f"refused ({kind})", f"refused ({kind}): {said}")
        number = sum(self._refused.values())
        self._events.append(
            Refused(
                now, job.number, job.flow.key, kind, refusal.status, refusal.wait, until, number,
                binds, refusal.odd,
            )
        )  # fmt: skip
        self.hopeless.lasts(scope, refusal, now)

    def _gate_wait(
        self,
        job: Job,
        kind: Kind,
        hint: float | None,
        scope: Scope,
        now: float,
        random: float,
        strikes: int,
        probe: bool,
    ) -> tuple[float, bool]:
        """Seconds for which the refusal of `job` shuts the gate of `scope`, and whether the rest
        may follow the probe at once: what it goes back to is known to be safe.
        """
        spell = self.hopeless.spells[scope]
        if hint is not None and not self.hopeless.is_long(hint):
            spell.hinted(job.started_at, now + hint, probe=probe)
            wait = self.retry.reopening(kind, strikes, hint, random)
            if not spell.misled:
                return wait, False
            return max(wait, self._backoff(kind, max(strikes, spell.misled), random)), False
        own = self._backoff(kind, strikes, random)
        paced = scope.reopens_in(kind.cuts, job.cost, strikes, now)
        if paced < INFINITY:
            wait = min(_LONGEST_GATE, self.retry.patience, paced)
            if (left := spell.since + self.retry.patience - now) > 0:
                wait = min(wait, left + _DUST)  # who waits is told when patience is over
            return wait, not strikes
        return own, False

    def _backoff(self, kind: Kind, strikes: int, random: float) -> float:
        """Seconds for which a gate is shut by our own guess, which must not end a job."""
        return min(self.retry.reopening(kind, strikes, None, random), self.retry.patience)

    def _trouble(self, scope: Scope, job: Job) -> None:
        if scope is self._whole or scope is job.flow.limits:  # not what a retune took away
            self._troubled.add(scope)

    def _cut(self, kind: Kind, scope: Scope, sent_at: float, now: float, probe: bool) -> None:
        why = f"refused ({kind})"
        if kind.cuts == "requests" and scope.cut_rate(
            sent_at, now, self._counters.recent_rate(now), probe=probe
        ):
            self._change(scope, "requests", 1 / scope.paces[0].interval, why, now)
        elif kind.cuts == "tokens":
            for budget in scope.cut_tokens(sent_at, now, probe=probe):
                self._change(scope, budget.kind, 1 / budget.pace.interval, why, now)
        elif kind.cuts == "concurrency" and not probe and scope.cut_concurrency(sent_at, now):
            self._change(scope, "concurrency", scope.capacity, why, now)

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
        self._outage.fault = refusal.message or f"status {refusal.status}"
        began = not gate.cautious
        if began or probe:
            strikes = gate.strike(job)
            gate.shut_until(now + self._backoff(kind, strikes, random))
            self.hopeless.shut(self._whole, now)
        gate.cautious = True
        self._trouble(self._whole, job)
        if began:
            what = self._outage.what
            self.explain(what, f"{what}; the last: {self._outage.fault}")
            self._events.append(Closed(now, kind, gate.opens, self.why))
        if not self.retry.wait_out:
            self.hopeless.fail_all(self._whole, self.hopeless.away(self._whole, now), now)
        elif now - self._outage.since > self.retry.patience:
            error = Unavailable(self._outage_lasts(now), fix=LATER)
            self.hopeless.fail_all(self._whole, error, now)

    def _ask_again(self, job: Job, kind: Kind, now: float, random: float) -> Verdict:
        """Another try for `job` where the credential that was refused has worked before."""
        credential = job.credential or job.flow.credential
        job.failures += 1
        if credential is not None and credential.is_doubtful and self.retry.attempts > 1:
            if job.failures <= TRIES:
                wait = max(0.0, credential.next_at - now)
                return Delay(wait + self.retry.backoff(job.failures, random))
            reason = f"refused ({kind}) {times(job.failures)}, though the same key works elsewhere"
            self.give_up(job, kind, reason, now)
            return GiveUp(reason)
        return GiveUp(f"{kind} errors are not retried")

    def _over(self, job: Job, refusal: Refusal, now: float) -> GiveUp | None:
        """Why `job` is not tried again, whatever its kind: somebody says so, or nothing has passed
        for so long that nobody is.
        """
        kind = refusal.kind
        if refusal.final and kind.retried is not Retried.NEVER:
            return GiveUp(refusal.final)
        if self.retry.attempts == 1 or kind.retried not in (Retried.ATTEMPTS, Retried.PATIENCE):
            return None
        scope = self._whole if kind.retried is Retried.ATTEMPTS else job.limits or self._whole
        if scope.gate.cautious and not self.retry.wait_out:
            return GiveUp(self.hopeless.away(scope, now).what, INFINITY)
        if kind.retried is Retried.ATTEMPTS:
            lasts = self._outage.on and self.hopeless.is_long(now - self._outage.since)
            return GiveUp(self._outage_lasts(now), INFINITY) if lasts else None
        spell = self.hopeless.spells.get(scope)
        if spell is None or not self.hopeless.is_long(now - spell.since):
            return None
        return GiveUp(self.hopeless.nothing_passes(spell, now), INFINITY)

    def _outage_lasts(self, now: float) -> str:
        return f"{self._outage.so_far(now)}, and {spent(self.retry)} is over"

    def _deny(self, job: Job, refusal: Refusal, now: float) -> None:
        """The credential of `job` is refused: that of its request, else that of its key."""
        credential = job.credential
        if credential is None:
            flow = job.flow
            credential = flow.credential = flow.credential or Credential(flow.key)
            credential.successes = flow.counts.succeeded
        error = self.deny(credential, refusal, job.started_at, now)
        if error is not None:
            self._events.append(Closed(now, refusal.kind, None, str(error)))

    def deny(
        self, credential: Credential, refusal: Refusal, sent_at: float, now: float
    ) -> Latched | None:
        """`credential` was refused, of an attempt that was sent at `sent_at`; why it is latched,
        where it is from now on.
        """
        credential.deny(sent_at, now)
        kind = refusal.kind
        doubtful = kind.retried is Retried.DOUBTED and credential.is_doubtful
        if doubtful or not self.retry.latch or credential.latch is not None:
            return None
        error = latched(credential, refusal)
        self.credentials.latch(credential, error)
        self._latched_after = self._counters.succeeded
        self.explain(f"every call would fail ({error.kind})", str(error))
        self.hopeless.fail_all_of(credential, error, now)
        return error

    def _change(self, scope: Scope, limit: LimitName, value: float, why: str, now: float) -> None:
        self.explain(f"{limit} limit in force {number(value)}: {why}")
        self._events.append(LimitChanged(now, scope.key, limit, value, why))
        if (remembered := scope.outdated(limit)) is not None:
            self._events.append(Outdated(now, scope.key, limit, remembered))
