"""The shell under the public face: it tells the pure core the time, and wakes those it admits.

A caller that is not admitted at once parks. One of those parked is the *leader*: it alone also
sleeps until the moment that `poll` named, then polls for all. Whoever polls wakes those that the
poll admitted and, where it named an earlier moment than the leader sleeps to, the leader, to sleep
anew. A leader that leaves, in whatever way, hands over. So there is no background task, no timer
per job, and nothing to start or to stop.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from types import CoroutineType
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from headway._core.queue.job import FAILED, QUEUED, STARTED, Flow, Job
from headway._core.refusals.retry import GiveUp, note_given_up
from headway._core.state import SchedulerState
from headway._runtime.attempt import ATTEMPT, Attempt
from headway._runtime.calls import (
    Options,
    Stopped,
    check_awaitable,
    checked_tokens,
    checked_usage,
)
from headway._runtime.clock import LoopClock
from headway._runtime.memory import Memory
from headway._runtime.ports import LimiterOwner, Owner, Ports
from headway._runtime.predicates import Predicate, Predicates, check_result, shown
from headway._runtime.waiter import Flag
from headway.errors import (
    DeadlineExceeded,
    QueueFull,
    SchedulerClosed,
    Unavailable,
    WrongLoop,
)
from headway.estimate import said_by
from headway.events import Finished, Queued, Started
from headway.hints import Refusal, carries_headers, limits_of_result
from headway.hooks.around import Hook, around
from headway.hooks.log import Log, logger
from headway.hooks.sinks import Sink, Sinks, wanted
from headway.kinds._words import a, agreed, duration, plural, times, with_fix
from headway.providers import Provider, dialect_at
from headway.rates import UNKNOWN_ENFORCEMENT, Limiter

__all__ = ["Shell", "of_another_process"]

INFINITY = float("inf")
_CONNECTIONS = 100  # of httpx's and the SDKs' own clients


NO_KWARGS: Mapping[str, Any] = {}

R = TypeVar("R")

# Results that carry no headers, and how many further types of such are remembered.
_SILENT = (type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, set)
_MOST_TYPES = 1_000
_AT_ONCE = 0.001  # seconds in which one that is started goes on, where nothing stands still
_HEAR_EVERY = 0.25  # seconds: headers of successes change slowly, and take time to read


class Shell(LoopClock):
    """One state machine, the clock of the event loop that uses it, and those who wait."""

    def __init__(
        self,
        state: SchedulerState,
        *,
        sinks: Iterable[Sink] = (),
        is_refused: Predicate | None = None,
        shared: Iterable[Limiter] = (),
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        self.memory = memory  # where what is to outlast the process is kept
        self.state = state
        self.lock = threading.RLock()  # held while the state is changed
        self.closed = False
        self.standing = max(1, state.max_queue)  # jobs that may wait where a run submits more
        self.served = False  # whether a transport serves it, which must see the attempts
        self.unseen = 0  # attempts in flight that began before the first one did
        self.runs = 0  # of map, as_completed and gather, that have begun and not ended
        self.parked: dict[Job, None] = {}
        self._limiters: list[LimiterOwner] = []
        self._owners: tuple[Owner, ...] = ()
        sinks = tuple(sinks)
        self.around = around(sinks, lambda: self._listen(sinks))  # a hook of jobs and attempts
        self._listen(sinks)
        listening = [sink for sink in sinks if not isinstance(sink, Hook)]
        if not any(isinstance(sink, Log) for sink in listening):
            listening.insert(0, Log())
        self.sinks = Sinks(listening, self.around, state.events, self.lock, self.next_turn)
        self._ports = Ports(self.spawn, self.poll, self._owner_failed)
        self.leave: Callable[[], Awaitable[None]] | None = None  # gives back what is shared
        self.predicates = Predicates(is_refused, state.refusals.retry)
        self._silent: set[type] = {*_SILENT}  # types of results that carry no headers
        self._next_heard = -INFINITY  # when headers of results are read again
        self._usage_unknown = False  # that results do not say what they used
        self._leader: Job | None = None
        self._goes_first = True  # whether the last poll admitted nobody before the leader
        self._wake_at = INFINITY  # what the last poll named
        self._armed = INFINITY  # what the leader sleeps to
        self._room: Flag | None = None
        self.idle: Flag | None = None  # for those that wait until all has ended
        self.of_parent = False  # a copy in a forked process, which was not used there
        _SHELLS.add(self)
        self.share(shared)
        if memory is not None:  # who asks before the first call is to hear of quotas that are spent
            now = self.time()
            state.set_wall(time.time() - now, now)
            memory.begin(state, now)

    def _listen(self, sinks: Iterable[Sink]) -> None:
        """Have the events of each job made that `sinks` want."""
        self.state.trace(starts=wanted(sinks, Queued, Started), ends=wanted(sinks, Finished))

    # A job's way

    def job(self, options: Options, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Job:
        """A new job with `options`, for a call of these arguments."""
        tokens = options.tokens
        if callable(tokens):
            try:
                tokens = tokens(*args, **kwargs)
            except StopIteration as error:
                raise Stopped(error) from error
            tokens = checked_tokens(tokens)
        return self.new_job(options, tokens)

    def new_job(self, options: Options, tokens: float | None) -> Job:
        """A new job with `options` that reserves `tokens` (None: what its key uses on average)."""
        state = self.state
        flow = state.flows.get(options.key) or state.flow(options.key)
        if tokens is not None:
            return Job(flow, options.priority, tokens)
        whole = state.whole
        unlimited = not whole.budgets and not whole.quotas and flow.limits is None
        cost = 0.0 if unlimited and flow.mean is None else state.guess(flow)
        return Job(flow, options.priority, cost, None, True)

    def check_open(self) -> None:
        """Before anything new. Raises `SchedulerClosed`, and `WrongLoop` in a forked process."""
        self.check_process()
        if self.closed:
            raise SchedulerClosed(
                "this Scheduler is closed: aclose() was called",
                fix="make a new Scheduler, or close it later.",
            )

    def enter(self, job: Job) -> bool:
        """Submit `job`, which is new: True where it holds its permit, else `wait` for it.

        Raises what `SchedulerState.submit` raises, and `WrongLoop`.
        """
        state = self.state
        try:
            now = self.clock() if self._current() is self._loop else self.now()
        except RuntimeError:
            now = self.now()
        try:
            if state.submit(job, now):
                if state.events and not self.sinks.underway:
                    self._tell_of(job)
                return True
        except QueueFull:
            self._ports.serve()
            raise
        full = state.whole.in_flight >= state.whole.capacity and job.slots
        # Behind one that has been found to wait until a moment that has not come.
        behind = now < self._wake_at and state.waiting.queue.head() is not job
        if not (full or behind) or state.refusals.hopeless.ended:
            try:
                self.poll()
            except BaseException:  # of a listener's
                Attempt(self, job).never_sent()
                raise
        else:
            if not full and self._ports.owners:
                self.serve_ports()
            if state.events and not self.sinks.underway:
                self._tell_of(job)
        return job.status == STARTED

    def _tell_of(self, job: Job) -> None:
        """Tell the events of `job`, which is new: the next poll may be far."""
        try:
            self.tell()
        except BaseException:  # of a listener's
            Attempt(self, job).never_sent()
            raise

    def enter_at_once(self, job: Job) -> bool:
        """Submit `job`, which is new, where it may start at once and no other goes before it; else
        it is as if it had never been. Raises `NeverFits`, `Latched` and `WrongLoop`.
        """
        self.now()
        self.poll()  # others whose time has come
        try:
            held = self.state.submit(job, self.clock(), max_queue=0)
        except (QueueFull, Unavailable):
            self.serve_ports()
            return False
        if held and self.state.events:
            self._tell_of(job)
        return held

    async def wait(self, job: Job) -> None:
        """Wait for the permit of `job`. Raises the scheduler's reason for ending it, if any."""
        if job.status == QUEUED:
            await self._park(job)
            if job.status == STARTED:
                self.goes_on(job)
        if job.status == FAILED:
            tried = job.last_error
            if tried is not None and isinstance(job.error, Unavailable):
                raise self._final(job, tried, GiveUp(job.error.what, INFINITY))
            raise job.error from tried

    def goes_on(self, job: Job) -> None:
        """`job`, which was started, goes on: what stood still meanwhile has made it late."""
        if self.clock() - job.started_at > _AT_ONCE:
            try:
                self.sent_late(job)
            except BaseException:  # an interrupt of a thread that waits for the lock
                Attempt(self, job).never_sent()
                raise

    def sent_late(self, job: Job) -> None:
        """`job` counts from now on."""
        self.state.sent_late(job, self.clock())

    # In one function: each call of another would be paid by every job.
    async def run(  # noqa: C901, PLR0915 - see above
        self,
        options: Options,
        fn: Callable[..., Awaitable[Any]],
        job: Job,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] = NO_KWARGS,
        *,
        once: str = "",
    ) -> Any:
        """Call ``fn(*args, **kwargs)`` under the limits, again where it is refused.

        `once` says why it cannot be called again.
        """
        admitted = self.enter(job)
        around = None if self.around is None else self.around.begin(job)
        if not admitted:
            await self.wait(job)
        outer: Attempt | None = None
        while True:
            if self.served:
                job.attempt = Attempt(self, job, once)
                outer = ATTEMPT.get()
                ATTEMPT.set(job.attempt)
            if around is not None:
                around.enter(job)
            try:
                call = fn(*args, **kwargs)
                if type(call) is not CoroutineType:
                    check_awaitable(fn, call)
                if options.attempt_timeout is None:
                    result = await call
                else:
                    with anyio.fail_after(options.attempt_timeout):
                        result = await call
                if options.is_refused is not None:
                    check_result(options.is_refused, result)
                if type(result) not in self._silent:
                    self.hear(result, job)
                usage = options.usage
                attempt = job.attempt
                if attempt is not None and attempt.is_refused(result):
                    used: float | None = None  # not for the user's function
                elif usage is None:
                    said = said_by(result)
                    used = None if said is None else said.cost
                    if said is not None and said.odd:
                        self.doubt(job.flow, said.odd)
                    if (
                        used is None
                        and job.charges is not None
                        and self.state.counts_tokens(options.key)
                    ):
                        self._look_for_usage(result, job)
                else:
                    used = checked_usage(usage(result))
            except Exception as error:
                self._failed(job.attempt or Attempt(self, job, once), error)
            except BaseException:
                (job.attempt or Attempt(self, job)).cancelled()
                raise
            else:
                if attempt is None:
                    Attempt.finish(self, job, used)
                    return result
                if attempt.refusal is None or not await attempt.again(result):
                    attempt.succeeded(used)
                    return result
            finally:
                if job.attempt is not None:
                    if ATTEMPT.get() is job.attempt:
                        ATTEMPT.set(outer)  # a garbage collector may be here in another context
                    job.attempt = None
                elif self.unseen:
                    self.unseen_ended(job)
                if around is not None:
                    around.leave(job)
            if job.status != STARTED:
                await self.wait(job)

    def hear(self, result: object, job: Job) -> None:
        """Follow what `result` of `job` says of the limits, where it carries the headers of its
        response, and no transport has read them.
        """
        now = self.clock()
        if now < self._next_heard or (job.attempt is not None and job.attempt.sent):
            return
        if not carries_headers(result):
            if len(self._silent) < _MOST_TYPES and not isinstance(result, Mapping):
                self._silent.add(type(result))
            return
        self._next_heard = now + _HEAR_EVERY
        hints = limits_of_result(result, wall_time=time.time(), dialect_at=dialect_at)
        if hints:
            self.state.observe(hints, job.flow, now, job.started_at)

    def _look_for_usage(self, result: object, job: Job) -> None:
        """A limit of tokens holds, and `result` does not say what it used. Where what was sent does
        not say so either, that is told once.
        """
        if not self._usage_unknown and (job.attempt is None or not job.attempt.sent):
            self._usage_unknown = True
            logger.warning(
                with_fix(
                    "a limit of tokens holds, and %s does not say how many it used: attempts "
                    "count as what they reserved. This is told once",
                    "with_options(usage=...), a function of the result that returns the tokens it "
                    "used",
                ), a(type(result).__name__),
            )  # fmt: skip

    def doubt(self, flow: Flow, odd: str) -> None:
        """Tell that an answer to a job of `flow` says of its usage what cannot be meant, `odd`."""
        with self.lock:
            self.state.doubt(flow, odd, self.clock())

    def serve(self) -> None:
        """A transport serves this shell from now on: it must see which attempt a send is part of.

        Attempts that have begun without one (but not those that are admitted and still parked)
        cannot be told apart any more. A send of theirs pays for itself. It must not wait for the
        slot that its own attempt holds: until the last of them has ended, see `unseen`, no send
        that is part of no attempt needs a slot.
        """
        self.check_process()
        if not self.served:
            self.served = True
            admitted = sum(job.slots for job in self.parked if job.status == STARTED)
            self.unseen = self.state.in_flight - admitted

    def introduce(self, provider: Provider | None, key: Hashable = None) -> None:
        """`provider` (None: one that is not known) is whom the jobs of `key` talk to: its way to
        enforce limits holds where the user has not said another.
        """
        enforcement = UNKNOWN_ENFORCEMENT if provider is None else provider.enforcement
        with self.lock:
            self.state.enforce(enforcement, self.state.flow(key), self.time())

    def unseen_ended(self, job: Job) -> None:
        """The attempt of `job`, which no transport could see, has ended."""
        if job.number > self.state.abandoned:
            self.unseen -= 1

    def attempt(self) -> Attempt | None:
        """The attempt that the running code is part of, None where it is part of none."""
        attempt = ATTEMPT.get()
        if attempt is None or attempt.shell is not self or not attempt.live:
            return None
        return attempt

    async def within(self, job: Job, timeout: float, call: Coroutine[Any, Any, R]) -> R:
        """Await `call`, which makes `job`, for `timeout` seconds. Raises `DeadlineExceeded`."""
        try:
            job.deadline = self.now() + timeout
        except BaseException:
            call.close()
            raise
        with self.time_limit(job, timeout):
            result = await call
            job.deadline = None  # what goes on of it, a lease or a stream, is under no timeout
            return result
        raise DeadlineExceeded(
            f"timeout={timeout:g} {plural(timeout, 'second')} {agreed(timeout, 'are')} over: this "
            f"job waited {duration(job.waited)} for its permits and was "
            f"{f'tried {times(job.attempts)}' if job.attempts else 'never tried'}",
            fix="a longer timeout=, a higher priority=, or fewer jobs at a time.",
        ) from job.last_error

    def time_limit(self, job: Job, seconds: float) -> AbstractContextManager[object, bool]:
        """Ends what is awaited for `job` inside it after so many seconds, without an error."""
        return anyio.move_on_after(seconds)

    def refusal(self, error: Exception) -> Refusal:
        """What `error` says, by the user's predicate first."""
        return self.predicates.refusal(error)

    @contextmanager
    def remembering(self, memory: Memory) -> Iterator[None]:
        """Keep in `memory` meanwhile what is used and learned."""
        now = self.now()
        self.memory = memory
        memory.begin(self.state, now)
        try:
            yield
        finally:
            memory.save(self.state, self.time())
            self.memory = None

    # Those who wait

    def poll(self) -> None:
        """Start what may start, wake those whom that concerns, and tell the events."""
        state = self.state
        self._last = now = self.clock()
        if self.memory is not None and now >= self.memory.due_at:
            self.memory.save(state, now)
        changed, self._wake_at = state.poll(now)
        for job in changed:
            if job.waiter is not None:
                job.waiter.set()
        leader = self._leader
        self._goes_first = not changed or changed[0] is leader
        if self._wake_at < self._armed and leader is not None:
            leader.waiter.set()
        if self._room is not None and state.waiting.size < self.standing:
            self._room.set()
            self._room = None
        if self.idle is not None and not self.busy:
            self.idle.set()
            self.idle = None
        if self._ports.owners:
            self.serve_ports()
        if state.events and not self.sinks.underway:
            self.tell()

    def tell(self) -> None:
        """Tell the events."""
        self.sinks.hand()

    async def sinks_told(self) -> None:
        """Wait until every sink has been told of every event."""
        flag = self.flag()
        if self.sinks.when_delivered(flag.set):
            await flag.wait()

    def serve_ports(self) -> None:
        """Ask those who decide limits elsewhere for what is wanted of them."""
        self._ports.serve()

    def check_loop(self) -> None:
        """Before a change from outside. Raises `WrongLoop` where another loop's jobs wait, and in a
        forked process.
        """
        self.check_process()
        if self.parked:
            self.now()

    def check_process(self) -> None:
        """Raise `WrongLoop` in a process that was forked from that of this scheduler, where limits
        that are shared do not make it another worker.
        """
        if self.of_parent and self.leave is None:
            raise of_another_process()

    def forked(self) -> None:
        """This is a process that was forked: what has begun is the parent's, as are the threads,
        of which another may hold the lock.
        """
        self.of_parent = True
        self.lock = threading.RLock()
        self.sinks.forked(self.lock)
        self.leave_loop()
        self.parked.clear()
        self._ports.forget()
        self.memory = None  # the parent writes it
        self._leader = self._room = self.idle = None
        self.state.disown()

    def repoll(self) -> None:
        """`poll` for a change that may come from outside the loop, while nothing waits. Then those
        who decide limits elsewhere are told of it all the same.
        """
        if self.parked:
            self.poll()
            return
        if not self._ports.owners or self.closed:
            return
        if self._loop is None or not self.hand(self.serve_ports):
            with suppress(RuntimeError):  # there is no loop: the first job tells them
                self.now()
                self.serve_ports()

    async def room(self) -> None:
        """Wait until the queue has room for another job of a run."""
        while (flag := self.no_room()) is not None:
            await flag.wait()

    def no_room(self) -> Flag | None:
        """What is set when the queue may have room for another job of a run; None where it has."""
        with self.lock:
            if self.state.waiting.size < self.standing:
                return None
            if self._room is None:
                self._room = self.flag()
            return self._room

    def flag(self) -> Flag:
        """What several callers wait for, and a poll sets."""
        return anyio.Event()

    @property
    def connections(self) -> int | None:
        """How many connections a client needs: one for each slot, and no fewer than clients have by
        themselves; None for no limit.
        """
        capacity = self.state.whole.capacity
        return None if capacity == INFINITY else max(_CONNECTIONS, int(capacity))

    @property
    def busy(self) -> bool:
        """Whether anything is queued, in flight, or will be because a run has begun."""
        return bool(self.state.in_flight or self.state.waiting.size or self.runs)

    def run_began(self) -> None:
        """A run of many calls has begun."""
        self.runs += 1

    def run_ended(self) -> None:
        """A run of many calls has ended."""
        self.runs -= 1
        if self.idle is not None:
            self.poll()

    async def drained(self) -> None:
        """Wait until nothing is queued and nothing is in flight."""
        self.now()
        while True:
            with self.lock:
                if not self.busy:
                    return
                if self.idle is None:
                    self.idle = self.flag()
                flag = self.idle
            await flag.wait()

    async def _park(self, job: Job) -> None:
        job.waiter = self._waiter()
        self.parked[job] = None
        try:
            while job.status == QUEUED:
                if self._leader is None:
                    self._leader = job
                if self._leader is not job:
                    await job.waiter
                else:
                    self._armed = self._wake_at
                    if self._armed < INFINITY:
                        await self._lead(job)
                    else:
                        await job.waiter
                if job.status == QUEUED and job.waiter.is_set():
                    job.waiter = self._waiter()
        except BaseException:
            self._leave(job)
            Attempt(self, job).never_sent()
            raise
        self._leave(job)

    async def _lead(self, job: Job) -> None:
        if await job.waiter.until(self._armed):
            return
        self._armed = INFINITY
        if job.waiter.is_set():
            job.waiter = self._waiter()
        self.poll()
        if job.status == STARTED and not self._goes_first:
            await checkpoint()  # those that were admitted before it run before it

    def _leave(self, job: Job) -> None:
        self.parked.pop(job, None)  # it is gone where the loop was given up
        job.waiter = None
        if self._leader is job:
            self._armed = INFINITY
            # The last to park: the one that stays longest, so that the lead changes seldom.
            self._leader = next(reversed(self.parked), None)
            if self._leader is not None:
                self._leader.waiter.set()

    # Inside

    def _final(self, job: Job, error: Exception, verdict: GiveUp) -> Exception:
        """`error`, the last that `job` raised, with a note that says why it is the last."""
        final = shown(error)
        spent = self.clock() - job.submitted_at
        final.add_note(
            f"headway: tried {times(job.attempts)} in {duration(spent)}, and not again: "
            f"{verdict.reason}."
        )
        note_given_up(final, verdict)
        return final

    def _failed(self, attempt: Attempt, error: Exception) -> None:
        """`attempt` raised `error`: its job is queued again, or that is raised."""
        verdict = attempt.failed(error)
        if verdict is None:
            return
        if attempt.once:
            final = shown(error)
            if attempt.retried:
                final.add_note(f"headway: {attempt.once}")
            raise final
        if attempt.retried or attempt.job.attempts > 1:
            raise self._final(attempt.job, error, verdict)
        raise shown(error)

    def share(self, limiters: Iterable[Limiter]) -> None:
        """Ask `limiters`, which the application shares, for every start from now on."""
        known = {id(owner.limiter): owner for owner in self._limiters}
        self._limiters = [known.get(id(one)) or LimiterOwner(one) for one in limiters]
        self.connect(self._owners)

    def connect(self, owners: Iterable[Owner]) -> None:
        """Ask `owners`, who decide limits elsewhere, for every start from now on, beside the
        limiters that the application shares.
        """
        self._owners = tuple(owners)
        self.state.whole.ports = self._ports.connect([*self._limiters, *self._owners])

    def answered(self, flow: Flow, error: Exception | None) -> None:
        """An owner, which has not ended yet, was told what it asked for `flow`'s own limits, or why
        no job of it can start.
        """
        if error is not None:
            self.state.fail_head(error, self.clock(), flow)
        elif flow.blocked_until is not None:
            self.state.waiting.unblock(flow)

    def _owner_failed(self, error: Exception) -> None:
        """The limit that a job waits for, which goes next, could not be asked for."""
        self.state.fail_head(error, self.clock())
        self.poll()

    def _check_idle(self, *, lost: bool) -> None:
        self.check_process()
        if lost:
            self.parked.clear()
            self._ports.forget()
        if lost or self.of_parent:
            self.of_parent = False
            self.runs = self.unseen = 0
            self.state.abandon(self._last)
            if self.around is not None:
                self.around.forget()
        if self.parked or self.state.in_flight:
            raise WrongLoop(
                f"this Scheduler is at work on another event loop ({self.state.in_flight} in "
                f"flight, {len(self.parked)} queued) and was used from a second one",
                fix="a headway.sync.Scheduler, which many loops and threads may use at once; or "
                "use this one again when its work is done.",
            )

    def _moved(self, seconds: float) -> None:
        self.state.shift(seconds)
        now = self.clock()
        self.state.set_wall(time.time() - now, now)
        if self.memory is not None:
            self.memory.shift(seconds)
        self._wake_at = self._armed = INFINITY
        self._leader = self._room = self.idle = None
        self.sinks.moved()


def of_another_process(*, shares: bool = False) -> WrongLoop:
    """What a scheduler raises in a process that was forked from its own, where it cannot go on. One
    that `shares` its limits lacks nothing but its thread.
    """
    why = "its thread is there" if shares else "both would send up to the whole limits"
    how = "the same shared=" if shares else "its share of the limits or with shared="
    return WrongLoop(
        f"this Scheduler was made in the process that this one was forked from: {why}",
        fix=f"make one in each process, after the fork, with {how}.",
    )


_SHELLS: weakref.WeakSet[Shell] = weakref.WeakSet()


def _forked() -> None:
    for shell in [*_SHELLS]:
        shell.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
