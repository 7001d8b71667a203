"""SchedulerState: every decision of headway, as a machine that is given the time.

The law. A job is *queued* (for a permit, or for the end of its backoff), then *started*, and then
*done* or queued again. It starts when the limits of the whole and those of its key allow it, all
in one step, and holds nothing before that. `poll(now)` starts whatever may start and names the
next moment worth asking; asked then, it makes progress. Whatever else happens (a result, a
cancellation, a pause, new limits) only changes what the next poll will find.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from headway._core.counters import Counters, Statistics
from headway._core.earlier import Earlier
from headway._core.limits.eager import Eager
from headway._core.limits.scope import Scope
from headway._core.limits.stated import believed
from headway._core.outlook import Wait, outlook
from headway._core.picture import picture
from headway._core.queue.flows import Flows
from headway._core.queue.job import DONE, NEW, QUEUED, STARTED, Flow, Job
from headway._core.queue.waiting import Waiting
from headway._core.refusals.hopeless import too_late
from headway._core.refusals.refusals import Refusals
from headway._core.refusals.retry import Delay, GiveUp, Retry, Verdict
from headway._core.tracing import finished, queued, started
from headway.errors import (
    Cleared,
    DeadlineExceeded,
    HeadwayError,
    Latched,
    NeverFits,
    QueueFull,
    Unavailable,
)
from headway.events import Ended, Event, Forgotten, Ignored, Kind, Retrying
from headway.hints import LimitHint, Refusal
from headway.kinds import Retried
from headway.kinds._words import count, counted, duration, times
from headway.rates import Cost, Enforcement, Limits, TokenClass

__all__ = ["SchedulerState"]

INFINITY = float("inf")
# Attempts of which nothing is known that reserve a whole limit, and a whole quota.
_MANY, _FEW = 100.0, 4.0
_MOST_ODD = 100  # remarks on what servers state that are told, each once

# No answer uses more tokens: twice what the models of the longest contexts take, or so many times
# a whole limit.
_MOST_USED = 2e7
_MOST_PERIODS = 10.0

_OK = Ended.OK  # an enum takes its time to find a member
_ENDED = {
    DeadlineExceeded: Ended.TIMED_OUT,
    Unavailable: Ended.UNAVAILABLE,
    Latched: Ended.LATCHED,
    NeverFits: Ended.NEVER_FITS,
    Cleared: Ended.CLEARED,
}  # of jobs that the scheduler ends while they are queued


class SchedulerState:
    """The limits, the queue and what is in flight. All times are seconds on the caller's clock.

    `keys` gives the limits of a key's own (None: none), `weights` the shares, 1 by default. A job
    that has waited for `aging` seconds goes before those of every priority.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        now: float,
        retry: Retry,
        keys: Callable[[Hashable], Limits | None] = lambda key: None,
        weights: Mapping[Hashable, float] = MappingProxyType({}),
        max_queue: float = INFINITY,
        eager: bool = False,
        aging: float = INFINITY,
    ) -> None:
        self.counters = Counters(now)
        self.whole = Scope(limits, counts=self.counters)
        self.events: list[Event] = []
        self.waiting = Waiting(aging)
        self.refusals = Refusals(retry, self.whole, self.waiting, self.counters, self.events, now)
        self.paused = False
        self.eager = eager  # spend at once what a server says remains
        if eager:
            self.whole.eager = Eager()
        self.max_queue = max_queue
        self._wall: float | None = None
        self._earlier = Earlier({}, 0.0, now)  # what an earlier process kept
        self.connect_key: Callable[[Flow], None] | None = None  # where limits of keys are shared
        self._registry = Flows(keys, weights)
        self.flows = self._registry.table
        self._traces_starts = self._traces_ends = False
        self._numbers = 0
        self.abandoned = 0  # jobs up to this number are nobody's any more: their event loop is gone
        self._seen_at = now

    @property
    def in_flight(self) -> int:
        """How many attempts hold a slot."""
        return self.counters.in_flight

    def trace(self, *, starts: bool, ends: bool) -> None:
        """From now on add every job's `Queued` and `Started` to `events`, and its `Finished`; or
        none of them.
        """
        self._traces_starts, self._traces_ends = starts, ends

    # What callers do with a job

    def flow(self, key: Hashable) -> Flow:
        """The flow of `key`, made at its first use."""
        flow = self.flows.get(key)
        if flow is not None:
            return flow
        if self._registry.full:
            for gone in self._registry.drop_idle(self.waiting.flows(), self._seen_at):
                self.refusals.forget(gone)
        flow = self._registry.add(key)
        if flow.limits is not None:
            if self.connect_key is not None:
                self.connect_key(flow)
            if self.eager:
                flow.limits.eager = Eager()
            if self._wall is not None:
                flow.limits.set_wall(self._wall, self._seen_at)
                self._recall(flow.limits, self._seen_at)
        return flow

    def submit(self, job: Job, now: float, max_queue: float | None = None) -> bool:
        """Start `job` where that may be at once (True), or queue it where no more than `max_queue`
        jobs wait (None: as many as may always); one that was accepted before always finds room.

        Raises `NeverFits`, `QueueFull`, `Latched`, `Unavailable` and `DeadlineExceeded`.
        """
        own = job.flow.limits
        whole = self.whole
        self._numbers = job.number = self._numbers + 1
        job.submitted_at = job.queued_at = self._seen_at = now
        if job.cost and not job.guessed:
            whole.check(job.cost)
            if own is not None:
                own.check(job.cost)
        if (
            not self.paused
            and not self.waiting.size
            and _ready_at(whole, job, now) <= now
            and (own is None or _ready_at(own, job, now) <= now)
            and not self.refusals.credentials.latched
        ):
            if self._traces_starts:
                self.events.append(queued(now, job))
            self._start(job, now)
            return True
        try:
            self.refusals.hopeless.check(job, now)
        except DeadlineExceeded:
            self.counters.timed_out += 1
            job.flow.counts.timed_out += 1
            raise
        if max_queue is None:
            max_queue = self.max_queue
        if self.waiting.size >= max_queue and not job.accepted:
            if self._goes_first(job, now):
                return True
            raise QueueFull(
                f"{counted(self.waiting.size, 'job', 'are')} waiting, which is max_queue: more are "
                "submitted than the limits let through"
                if max_queue
                else "max_queue=0 lets no job wait, and this one cannot start at once",
                fix="submit later, use map() (it waits for room), or raise max_queue.",
            )
        job.status = QUEUED
        self.waiting.push(job)
        self._queued(job, now)
        return False

    def _goes_first(self, job: Job, now: float) -> bool:
        """Start `job`, which is new, where it goes before all that wait and its limits let it."""
        own, waiting = job.flow.limits, self.waiting
        job.status = QUEUED
        waiting.push(job)
        if (
            not self.paused
            and waiting.queue.head() is job
            and _ready_at(self.whole, job, now) <= now
            and (own is None or _ready_at(own, job, now) <= now)
        ):
            self._queued(job, now)
            waiting.start(job)
            self._start(job, now)
            return True
        job.status = NEW
        waiting.remove(job)
        for scope in (self.whole, own):
            if scope is not None and scope.ports:
                scope.ask(job, now)  # for one that comes again
        return False

    def finish(self, job: Job, used: float | None, now: float) -> None:
        """The attempt of `job` succeeded and used `used` tokens (None: not known)."""
        self._end_attempt(job)
        if used is not None or job.charges is not None or job.key_queue is not None:
            self._settle(job, used, now)
        self.counters.succeeded += 1
        job.flow.counts.succeeded += 1
        if job.seen is not None:
            self._accepted(job, now)
        if not self.refusals.quiet:
            self.refusals.succeeded(job, now)
        if self._traces_ends:
            self.events.append(finished(now, job, _OK, used or 0.0))

    def learn(
        self, job: Job, refusal: Refusal, now: float, random: float, used: float | None = None
    ) -> None:
        """The attempt of `job` was refused or failed, and the job ends with it."""
        self._failed_attempt(job, refusal, now, random, used)
        self.counters.failed += 1
        job.flow.counts.failed += 1
        self._ended(job, refusal.kind, 0.0, now)

    def defer(self, job: Job, refusal: Refusal, now: float, random: float) -> Verdict:
        """The attempt of `job` was refused or failed: queue it again (`Delay`), or end it."""
        self._failed_attempt(job, refusal, now, random)
        verdict = self.refusals.decide(job, refusal, now, random)
        if isinstance(verdict, Delay):
            not_before = now + verdict.seconds
            hopeless = self._hopeless(job, not_before, now)
            if hopeless is None:
                self._requeue(job, refusal.kind, not_before, now)
                return verdict
            verdict = hopeless
            self.refusals.give_up(job, refusal.kind, verdict.reason, now)
        self.counters.failed += 1
        job.flow.counts.failed += 1
        self._ended(job, refusal.kind, 0.0, now)
        return verdict

    def sent_late(self, job: Job, now: float) -> None:
        """`job`, which has started, is sent only `now`: its process or its thread stood still."""
        self.whole.sent_late(job.started_at, now)
        if job.limits is not None:
            job.limits.sent_late(job.started_at, now)
        for budget, charge in job.charges or ():
            budget.sent_late(charge, now)

    def cancel(self, job: Job, now: float, used: float | None = None) -> None:
        """Take out `job`, wherever it is. An attempt that ran costs what it reserved, or `used`."""
        if job.number <= self.abandoned:
            job.status = DONE  # its slot was forgotten
            return
        if job.status == STARTED:
            self._end_attempt(job)
            self._lose_probe(job)
            self._settle(job, used, now)
        elif job.status == QUEUED:
            job.status = DONE
            job.waited += now - job.queued_at
            self.waiting.remove(job)
        else:
            return
        self._gone(job, now)

    def unsend(self, job: Job, now: float) -> None:
        """Take out `job`; where it was admitted it never ran, and costs nothing."""
        if job.status != STARTED or job.number <= self.abandoned:
            self.cancel(job, now)
            return
        self._end_attempt(job)
        self._lose_probe(job)
        self._release(job, now)
        for limits in (self.whole, job.flow.limits):
            if limits is not None and limits.last is job:
                # Only the newest charge of a pace can be taken back: the rest has drained.
                for pace in limits.paces:
                    pace.give_back(now, 1.0)
            if limits is not None:
                for port in limits.ports:
                    port.give_back()
        self.counters.sent -= 1
        job.flow.counts.sent -= 1
        self._gone(job, now)

    def clear(self, flow: Flow | None, now: float) -> int:
        """End all jobs that wait, of `flow` or (None) of all, with `Cleared`; how many those are.

        A further send of an attempt goes on: what is in flight is not cleared.
        """
        cleared = [
            job for job in self.waiting.jobs() if job.slots and (flow is None or job.flow is flow)
        ]
        for job in cleared:
            self.refusals.hopeless.fail(job, _cleared(job), now)
        return len(cleared)

    def record(self, requests: int, tokens: float, flow: Flow, now: float) -> None:
        """Charge the limits that hold for `flow` what was sent elsewhere, and use that now."""
        for scope in (self.whole, flow.limits):
            if scope is not None:
                scope.record(requests, tokens, now)
        for counts in (self.counters, flow.counts):
            counts.use(tokens)

    def counts_tokens(self, key: Hashable) -> bool:
        """Whether any limit of tokens holds for attempts of `key`."""
        if self.whole.counts_tokens:
            return True
        own = self.flow(key).limits
        return own is not None and own.counts_tokens

    def discounts(self, key: Hashable) -> bool:
        """Whether any limit for attempts of `key` counts less for what is read from a cache."""
        own = self.flow(key).limits
        return self.whole.discounts or (own is not None and own.discounts)

    def observe(
        self, hints: Iterable[LimitHint], flow: Flow, now: float, sent_at: float = INFINITY
    ) -> None:
        """Follow what the answer to an attempt that was sent at `sent_at` says of the limits that
        hold for `flow`: not where one that was sent later has been followed, which knows better.
        """
        scope = flow.limits or self.whole
        sent_at = min(sent_at, now)
        if sent_at < scope.followed_at:
            if scope.eager is not None and (least := believed(hints).least) is not None:
                scope.eager.heard(least, now)
            return
        stated = believed(hints)
        for odd in stated.odd:
            self._tell_odd(scope, odd, now)
        scope.followed_at = sent_at
        if stated.requests is not None and scope.follow_requests(stated.requests, now):
            self.refusals.followed(scope, "requests", stated.requests, now)
        for kind, (limit, per) in stated.tokens.items():
            if limit < _used_of(flow.mean, kind):  # which answers have used, one after another
                self._tell_odd(
                    scope, f"{kind} limit of {count(limit)} in {duration(per)} ignored", now
                )
                # It was followed where it came before anybody knew what attempts use.
                scope.forget_stated_tokens((kind,), now)
            elif scope.follow_tokens(kind, limit, per, now):
                self.refusals.followed(scope, kind, limit / per, now)
        if stated.least is not None:
            scope.spend_eagerly(stated.least, sent_at, now)

    def enforce(self, enforcement: Enforcement, flow: Flow, now: float) -> None:
        """Take the limits that hold for `flow` as the provider of its jobs means them, where the
        user has not said another.
        """
        self.whole.enforce(enforcement, now)
        if flow.limits is not None:
            flow.limits.enforce(enforcement, now)

    def set_wall(self, wall: float, now: float) -> None:
        """`wall` is what the clock of the world shows beyond this one: quotas begin anew by it."""
        self._wall = wall
        for scope in self._scopes():
            scope.set_wall(wall, now)

    def snapshot(self, now: float) -> dict[str, Any]:
        """What outlasts the process, of the whole and of each key that is a text, as JSON."""
        return self._earlier.snapshot(self._scopes(), self._wall or 0.0, now)

    def restore(self, kept: Mapping[str, Any], now: float) -> None:
        """Go on from a `snapshot`; of keys, when each is first used."""
        self._earlier = Earlier(kept, self._wall or 0.0, now)
        for scope in self._scopes():
            self._recall(scope, now)

    def forget_earlier(self, now: float) -> None:
        """Forget what an earlier process has used and learned: it was another account's."""
        self._earlier = Earlier({}, 0.0, now)
        for scope in self._scopes():
            for quota in scope.quotas:
                quota.clear()
            scope.forget_learned(now)

    def _recall(self, scope: Scope, now: float) -> None:
        if (odd := self._earlier.restore(scope, self._wall or 0.0, now)) is not None:
            self.events.append(Forgotten(now, odd))

    # What time and the user do

    def poll(self, now: float) -> tuple[list[Job], float]:
        """Start what may start: the jobs whose status changed (started, or failed while they were
        queued), and the next moment worth asking, infinity where only an event changes anything.
        """
        changed, self.refusals.hopeless.ended = self.refusals.hopeless.ended, []
        for job in changed:
            self._ended(job, _ENDED.get(type(job.error), Ended.UNAVAILABLE), 0.0, now)
        waiting, whole = self.waiting, self.whole
        if whole.ports:
            whole.ask_nothing()
        if self.paused:
            return changed, INFINITY
        wake_at = waiting.advance(now)
        while (head := waiting.queue.head()) is not None:
            job = head
            flow = job.flow
            own = flow.limits
            if job.guessed or job.estimate is not None:
                self._estimate(job)
            if own is not None and (ready := _ready_at(own, job, now)) > now:
                if self._blocks(job, own, ready, now):
                    changed.append(job)
                continue
            cost = job.cost
            ready = whole.ready_at(cost, now) if job.slots else whole.further_at(cost, now)
            if ready > now:
                if (job.deadline is not None or whole.quotas) and self._fails(job, whole, now):
                    changed.append(job)
                    continue
                if ready < wake_at:
                    wake_at = ready
                if whole.ports:
                    wake_at = min(wake_at, whole.ask(job, now))
                break
            waiting.start(job)
            self._start(job, now)
            changed.append(job)
        return changed, min(wake_at, waiting.blocked_until())

    def would_wait(self, job: Job, now: float) -> Wait:
        """How long `job`, which is new, would wait, and for what: it changes nothing. Raises
        `NeverFits`.
        """
        if (error := self._never_fits(job)) is not None:
            raise error
        return outlook(
            job, self.whole, self.waiting, self.refusals, self.counters, now, paused=self.paused
        )

    def _fail_next(self, job: Job, error: Exception, outcome: Ended, now: float) -> None:
        """End `job`, which goes next, in a poll that tells of it."""
        self.refusals.hopeless.fail(job, error, now)
        self.refusals.hopeless.ended.remove(job)
        self._ended(job, outcome, 0.0, now)

    def _estimate(self, job: Job) -> None:
        """Reserve for `job`, which goes next, what is known by now."""
        if job.estimate is not None:
            job.cost = job.estimate()
        elif job.flow.mean is not None:
            job.cost = self.guess(job.flow)

    def _blocks(self, job: Job, own: Scope, ready: float, now: float) -> bool:
        """Leave the key of `job` out until its `own` limits let that start; whether it has failed
        instead.
        """
        if (job.deadline is not None or own.quotas) and self._fails(job, own, now):
            return True
        if own.ports:
            ready = min(ready, own.ask(job, now))
        self.waiting.block(job.flow, job.priority, ready)
        return False

    def _fails(self, job: Job, scope: Scope, now: float) -> bool:
        """Whether `job`, which goes next, has failed: a quota of `scope` is spent, or its limits
        keep it beyond its deadline for certain.
        """
        if scope.quotas and (spent := self.refusals.hopeless.spent(job, scope, now)):
            self._fail_next(job, spent, Ended.UNAVAILABLE, now)
            return True
        error = self.refusals.hopeless.too_late(job, scope, job.cost, now)
        if error is not None:
            self._fail_next(job, error, Ended.TIMED_OUT, now)
        return error is not None

    def fail_head(self, error: Exception, now: float, flow: Flow | None = None) -> None:
        """End the job that goes next (of `flow`, of all) with `error`: what it waits for cannot be
        had.
        """
        queue = self.waiting.queue
        job = queue.head() if flow is None else queue.head_of(flow)
        if job is not None:
            self.refusals.hopeless.fail(job, error, now)

    def pause(self) -> None:
        """Start nothing more; what is in flight goes on."""
        self.paused = True

    def resume(self) -> None:
        """Start again."""
        self.paused = False

    def reset(self, now: float) -> None:
        """Forget a latch (a wrong key, an empty account), an outage, every gate, and what refusals
        taught of the limits.
        """
        self.refusals.reset(now)
        for limits in self._scopes():
            limits.gate.open()
            for port in limits.ports:
                port.opened()
            limits.forget_stated(now)
            limits.forget_learned(now)
        self._unblock_all()

    def guess(self, flow: Flow) -> float:
        """The tokens to reserve for an attempt of `flow` of which nothing is known: what its jobs
        used on average, and before the first of them 1% of the least limit, of a quota, which
        paces nothing, a quarter.
        """
        if flow.mean is None:
            scopes = [self.whole] if flow.limits is None else [self.whole, flow.limits]
            return min(
                (
                    *(budget.rate.limit / _MANY for each in scopes for budget in each.budgets),
                    *(
                        quota.rate.limit / _FEW
                        for each in scopes
                        for quota in each.quotas
                        if quota.what != "requests"
                    ),
                ),
                default=0.0,
            )
        return flow.mean

    def retune(
        self,
        limits: Limits,
        keys: Callable[[Hashable], Limits | None],
        weights: Mapping[Hashable, float],
        now: float,
    ) -> None:
        """Put other limits in force, now; what was charged so far still counts."""
        for gone in self._registry.retune(keys, weights, now):
            self.refusals.forget(gone)
        self.whole.retune(limits, now)
        for each in self._scopes():
            each.forget_stated(now)
        self.refusals.explain("set_limits() was called")
        self._unblock_all()
        for job in self.waiting.jobs():
            error = self._never_fits(job)
            if error is not None:
                self.refusals.hopeless.fail(job, error, now)

    def abandon(self, now: float) -> None:
        """Forget all that waits and all that is in flight: their event loop is gone."""
        self.abandoned = 0  # what waits is to be taken out, though it was disowned
        for job in self.waiting.jobs():
            self.cancel(job, now)
        self.disown()
        self.counters.in_flight = 0
        for flow in self.flows.values():
            flow.counts.in_flight = 0
        for scope in self._scopes():
            scope.eager = Eager() if self.eager else None

    def disown(self) -> None:
        """The ends of all jobs that there are count for nothing from now on."""
        self.abandoned = self._numbers

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more; nothing may be pending."""
        for limits in self._scopes():
            limits.shift(seconds)
        self.counters.shift(seconds)
        self.refusals.shift(seconds)
        for flow in self.flows.values():
            if flow.credential is not None and flow.credential.latch is None:
                flow.credential.shift(seconds)
        self.events[:] = [replace(event, at=event.at + seconds) for event in self.events]

    def statistics(self, now: float) -> Statistics:
        """A picture of this moment. It changes nothing, and may be taken in another thread."""
        return picture(
            self.counters, self.whole, self.waiting, [*self.flows.values()], self.refusals, now,
            paused=self.paused,
        )  # fmt: skip

    # Inside

    def _start(self, job: Job, now: float) -> None:
        job.status = STARTED
        job.started_at = now
        job.attempts += 1
        waited = now - job.queued_at
        job.waited += waited
        flow, counters = job.flow, self.counters
        if now >= counters.next_snapshot:
            counters.take_snapshot(now)
        slots, of_flow = job.slots, flow.counts
        counters.in_flight += slots
        of_flow.in_flight += slots
        counters.sent += 1
        of_flow.sent += 1
        self.whole.take(job, now)
        own = flow.limits
        if own is not None:
            own.take(job, now)
        job.limits = own
        if self._traces_starts:
            self.events.append(started(now, job, waited))

    def _end_attempt(self, job: Job) -> None:
        job.status = DONE
        slots = job.slots
        flow, gate = job.flow, self.whole.gate
        self.counters.in_flight -= slots
        flow.counts.in_flight -= slots
        if self.eager:
            for scope in (self.whole, job.limits):
                if scope is not None and scope.eager is not None:
                    scope.eager.ended()
        if gate.shut:
            gate.slot_ended()
        own = flow.limits
        if own is not None:
            if own.gate.shut:
                own.gate.slot_ended()
            if job.flow.blocked_until is not None:
                self.waiting.unblock(job.flow)

    def _failed_attempt(
        self, job: Job, refusal: Refusal, now: float, random: float, used: float | None = None
    ) -> None:
        self._end_attempt(job)
        if used is not None:
            self._settle(job, used, now)
        elif refusal.kind.retried is Retried.ATTEMPTS or not refusal.of_provider:
            self._settle(job, None, now)  # it may have been counted: nobody knows
        else:
            self._release(job, now)
        self.refusals.learn(job, refusal, now, random)

    def _never_fits(self, job: Job) -> NeverFits | None:
        """Why no limit in force would ever let `job` start."""
        if job.guessed:
            return None
        try:
            self.whole.check(job.cost)
            if job.flow.limits is not None:
                job.flow.limits.check(job.cost)
        except NeverFits as error:
            return error
        return None

    def _hopeless(self, job: Job, not_before: float, now: float) -> GiveUp | None:
        """Why `job`, which would go back into the queue, could only fail there."""
        error: HeadwayError | None = self._never_fits(job)
        try:
            self.refusals.hopeless.check(job, now)
        except HeadwayError as hopeless:
            error = hopeless
        if error is None and job.deadline is not None and not_before > job.deadline:
            error = too_late(not_before - now, job.deadline, now)
        if error is None:
            return None
        return GiveUp(error.what, INFINITY if isinstance(error, Unavailable) else 0.0)

    def _requeue(self, job: Job, kind: Kind, not_before: float, now: float) -> None:
        job.status = QUEUED
        job.queued_at = now
        self.counters.retried += 1
        job.flow.counts.retried += 1
        opens = max((job.flow.limits or self.whole).gate.opens, self.whole.gate.opens, not_before)
        self.events.append(Retrying(now, job.number, job.flow.key, job.attempts, kind, opens))
        if not_before > now:
            self.waiting.delay(job, not_before)
        else:
            self.waiting.push_back(job)

    def _accepted(self, job: Job, now: float) -> None:
        evidence = (job.limits or self.whole).evidence
        if evidence is not None and job.seen is not None:
            evidence.accepted(job.seen, now)

    def _settle(self, job: Job, used: float | None, now: float) -> None:
        charges = job.charges
        if used is not None and (used > _MOST_USED or (charges is not None and used > job.cost)):
            used = self._believed(job, used, now)
        if used is None:
            used = job.cost
        else:
            if type(job.cost) is Cost and type(used) is not Cost:
                used = job.cost.in_all(used)
            flow = job.flow
            flow.learn(used)
            self.counters.use(used)
            flow.counts.use(used)
        self.waiting.queue.settle(job, used)
        if charges is not None:
            for budget, charge in charges:
                budget.settle(charge, used, now)
            job.charges = None

    def _believed(self, job: Job, used: float, now: float) -> float | None:
        """`used`, or None where no answer can have used so much: many times what the server lets
        through in a whole period, or more than any model reads and writes.
        """
        budgets = [budget for budget, _ in job.charges or ()]
        if used <= _MOST_USED and all(
            budget.weigh(used) <= _MOST_PERIODS * budget.rate.limit for budget in budgets
        ):
            return used
        self.disbelieve(job, used, now)
        return None

    def disbelieve(self, job: Job, used: float, now: float) -> None:
        """Tell that an answer to `job` says it used what it cannot have."""
        odd = f"an answer says that it used {counted(used, 'token')}"
        self._tell_odd(job.limits or self.whole, odd, now)

    def doubt(self, flow: Flow, odd: str, now: float) -> None:
        """Tell that an answer to a job of `flow` says of its usage what cannot be meant, `odd`."""
        self._tell_odd(flow.limits or self.whole, f"an answer says of its usage: {odd}", now)

    def _tell_odd(self, scope: Scope, odd: str, now: float) -> None:
        if odd not in scope.odd and len(scope.odd) < _MOST_ODD:
            scope.odd.add(odd)
            self.events.append(Ignored(now, scope.key, odd))

    def _release(self, job: Job, now: float) -> None:
        self.waiting.queue.refund(job)
        if job.charges is not None:
            for budget, charge in job.charges:
                budget.release(charge, now)
            job.charges = None

    def _lose_probe(self, job: Job) -> None:
        for limits in (self.whole, job.limits):
            if limits is not None and limits.gate.shut:
                limits.gate.lost(job)

    def _queued(self, job: Job, now: float) -> None:
        if self._traces_starts:
            self.events.append(queued(now, job))

    def _gone(self, job: Job, now: float) -> None:
        """Count `job`, which was taken out: by its own deadline, or by whoever cancelled it."""
        timed_out = job.deadline is not None and now >= job.deadline
        for counts in (self.counters, job.flow.counts):
            if timed_out:
                counts.timed_out += 1
            else:
                counts.cancelled += 1
        self._ended(job, Ended.TIMED_OUT if timed_out else Ended.CANCELLED, 0.0, now)

    def _ended(self, job: Job, outcome: Ended | Kind, tokens: float, now: float) -> None:
        if self._traces_ends:
            self.events.append(finished(now, job, outcome, tokens))

    def _unblock_all(self) -> None:
        for flow in self.flows.values():
            if flow.blocked_until is not None:
                self.waiting.unblock(flow)

    def _scopes(self) -> list[Scope]:
        return [self.whole, *self._registry.scopes()]


def _used_of(mean: float | None, kind: TokenClass) -> float:
    """What attempts used on average of that class; 0 where it is not known."""
    if mean is None:
        return 0.0
    if not isinstance(mean, Cost):
        return mean if kind == "tokens" else 0.0
    return {"tokens": mean.input + mean.output, "input_tokens": mean.input}.get(kind, mean.output)


def _cleared(job: Job) -> Cleared:
    return Cleared(
        "clear() was called while this job was queued: it was dropped, "
        f"{f'tried {times(job.attempts)} before' if job.attempts else 'never tried'}",
        fix="submit it again, where it is still wanted.",
    )


def _ready_at(limits: Scope, job: Job, now: float) -> float:
    if job.slots:
        return limits.ready_at(job.cost, now)
    return limits.further_at(job.cost, now)
