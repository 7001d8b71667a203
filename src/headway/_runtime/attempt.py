"""One attempt of a job, from its permit to its end: everything that it can end with, a verb each.

A transport that sends inside an attempt of its own scheduler must not wait for a second slot: the
attempt has paid for its first send. Each further send pays for itself, as an attempt of its own
that needs no slot. So an attempt travels in a context variable, where a transport may see it. One
that has ended counts for nothing, in whatever task its context leaked to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from random import random
from typing import Any, Protocol

from headway._core.queue.job import Job
from headway._core.refusals.retry import GiveUp
from headway._core.state import SchedulerState
from headway._runtime.predicates import Predicates
from headway._runtime.waiter import Flag
from headway.hints import Refusal, method_of
from headway.hooks.around import Around
from headway.hooks.sinks import Sinks
from headway.kinds import Retried

__all__ = ["ATTEMPT", "Attempt"]

logger = logging.getLogger("headway")


class Host(Protocol):
    """What an attempt needs of the shell that it is made in."""

    state: SchedulerState
    clock: Callable[[], float]
    parked: dict[Job, None]  # those who wait
    idle: Flag | None  # for those that wait until all has ended, None where nobody does

    @property
    def sinks(self) -> Sinks:
        """Who is told of events."""
        ...

    @property
    def lock(self) -> AbstractContextManager[object, bool | None]:
        """Held while the state is changed."""
        ...

    @property
    def around(self) -> Around | None:
        """What is called around jobs and attempts."""
        ...

    @property
    def memory(self) -> object:
        """Where what outlasts the process is kept, None for nowhere."""
        ...

    @property
    def predicates(self) -> Predicates:
        """What the user's functions say of refusals."""
        ...

    def poll(self) -> None:
        """Start what may start, and tell what happened."""
        ...

    def tell(self) -> None:
        """Tell what happened."""
        ...

    def refusal(self, error: Exception) -> Refusal:
        """What `error` says."""
        ...


class Attempt:
    """One attempt of `job`: what was sent in it, which streams are open, and how it ends.

    It ends once; a second end is nothing. What its function returned ends it when no stream of a
    response is open any more; what its function raised, at once.

    A refusal of a send waits for what the function makes of it. An exception that the function
    raises says the same, and teaches it; a function that only returns is looked at for it.
    """

    # Defaults of the class and not of `__init__`: who sends nothing through a transport is to pay
    # for none of them.
    retried = False  # whether what it failed with is of a kind that is tried again
    ended = False
    sent = False  # whether what it has paid for was sent
    method: str | None = None  # of its last send
    send = 1  # its last send begun: the second is the first further one, whose number this is too
    open = 0  # streams of responses that are neither read to their end nor closed
    refusal: Refusal | None = None  # of the last send, of which the function has made nothing yet
    _response: Any = None  # that carried it
    _further: Attempt | None = None  # the further send that it answered, where it was one
    _parent: Attempt | None = None  # of a further send: the attempt that it is made in
    _returned = False
    _used: float | None = None

    def __init__(self, shell: Host, job: Job, once: str = "") -> None:
        self.shell = shell
        self.job = job
        self.once = once  # why its job cannot be tried again; "" where it can

    def further(self, job: Job) -> Attempt:
        """The attempt of `job`, which is a further send inside this one."""
        job.needs_no_slot()
        attempt = Attempt(self.shell, job)
        attempt.sent = True
        attempt.send = self.send = self.send + 1
        attempt._parent = self
        return attempt

    @property
    def live(self) -> bool:
        """Whether its function is still at work."""
        return not (self.ended or self._returned)

    # What happens while it lasts

    def sends_again(self) -> None:
        """Another send begins: the function has seen the refusal of the last, and goes on."""
        if self.refusal is None:
            return
        refusal, further = self._dropped()
        if further is not None:
            further._fail(refusal)
        else:
            shell = self.shell
            with shell.lock:
                shell.state.refusals.saw(self.job, refusal, shell.clock(), random())
                shell.poll()

    def answered(self) -> None:
        """The answer to a send has begun, and is no refusal: its stream is open, and those behind
        a gate need not wait for its end.
        """
        shell = self.shell
        with shell.lock:
            self.open += 1
            if self._parent is not None:
                self._returned = True
                self._parent.answered()
            if not shell.state.refusals.quiet:
                shell.state.refusals.begun(self.job)
                if shell.parked:
                    shell.poll()

    def refused(self, refusal: Refusal, response: object) -> None:
        """A send was refused, by `response`: what that ends is for the function to show."""
        holder = self if self._parent is None else self._parent
        holder.sends_again()  # one that was refused beside it
        if not holder.ended and (holder.open or not holder._returned):
            holder.refusal, holder._response = refusal, response
            holder._further = None if holder is self else self
        elif holder is not self:
            self._fail(refusal)

    # How a stream ends

    def drained(self, used: float | None) -> None:
        """A stream has ended, or was dropped, and used that many tokens (None: not known)."""
        with self.shell.lock:
            self.open -= 1
        if self._used is None:
            self._used = used
        try:
            self._end_if_over()
        finally:
            if self._parent is not None:
                self._parent.drained(None)

    def refused_inside(self, refusal: Refusal) -> None:
        """A stream has ended with an error that the server sent in it."""
        try:
            if self._parent is not None:
                self._fail(refusal)
            elif self.refusal is None:
                self.refused(refusal, refusal)  # no response that a function could return
        finally:
            self.drained(None)

    def broke_off(self, error: BaseException) -> None:
        """A stream has ended with `error`; whoever reads it knows by now."""
        with self.shell.lock:
            self.open -= 1
        if self._parent is not None:
            try:
                self.cancelled()
            finally:
                self._parent.broke_off(error)  # which learns from that, once
        elif self._returned and not self.open:
            if isinstance(error, Exception):
                self.failed(error)
            else:
                self.cancelled()

    # How it ends

    def succeeded(self, used: float | None) -> None:
        """The function returned, and used that many tokens (None: what its sends have used)."""
        if self.sent:
            self._returned = True
            if used is not None:
                self._used = used
            self._end_if_over()
        elif self._ends():
            Attempt.finish(self.shell, self.job, used)

    @staticmethod
    def finish(shell: Host, job: Job, used: float | None) -> None:
        """The attempt of `job`, in which no transport has sent anything, succeeded: for a job that
        shows its attempt to nobody, and so need not make one.
        """
        state = shell.state
        with shell.lock:
            state.finish(job, used, shell.clock())
            if shell.parked or shell.idle is not None or shell.memory is not None:
                shell.poll()
            elif state.events and not shell.sinks.underway:
                shell.tell()

    async def again(self, result: object) -> bool:
        """Whether the job is queued again, whose function got nothing but a refusal, `result`."""
        if not self.is_refused(result):
            return False
        response = self._response
        refusal, further = self._dropped()
        if further is not None:
            further.cancelled(0.0)
        if self._fail(refusal) is not None:
            return False
        try:
            await response.aclose()
        except Exception:
            logger.debug("closing a refused response failed", exc_info=True)
        except BaseException:
            Attempt(self.shell, self.job).never_sent()
            raise
        return True

    def is_refused(self, result: object) -> bool:
        """Whether `result` is the response that refused the last send: there is nothing else."""
        return self.refusal is not None and result is self._response and not self.open

    def failed(self, error: Exception, used: float | None = None) -> GiveUp | None:
        """The function raised `error`: the job is queued again (None), or ends: why.

        `used` is what it has used, for one that cannot be tried again.
        """
        try:
            refusal = self.shell.refusal(error)
        except BaseException:  # of the user's own function
            self.cancelled()
            raise
        self.retried = refusal.kind.retried in (Retried.PATIENCE, Retried.ATTEMPTS)
        self._explain(explained=refusal.of_provider)
        self.job.last_error = error
        self.method = self.method or method_of(error)
        return self._fail(refusal, used)

    def cancelled(self, used: float | None = None) -> None:
        """It was cancelled while it ran; it costs what it reserved, or `used`."""
        try:
            self._explain(explained=False)
        finally:
            if self._ends():
                self._cancel(used)

    def never_sent(self) -> None:
        """It was to begin, and will not: it costs nothing, whether it was admitted or queued."""
        if self._ends():
            shell = self.shell
            with shell.lock:
                shell.state.unsend(self.job, shell.clock())
                shell.poll()

    # Inside

    def _ends(self) -> bool:
        """Whether this is its end: it has not ended before, nor has its event loop."""
        with self.shell.lock:
            if self.ended:
                return False
            self.ended = True
        return self.job.number > self.shell.state.abandoned

    def _end_if_over(self) -> None:
        if not self._returned or self.open or self.ended:
            return
        if self.refusal is None:
            if self._ends():
                Attempt.finish(self.shell, self.job, self._used)
            return
        refusal, further = self._dropped()
        if further is None:
            self._fail(refusal, self._used)
            return
        try:
            further._fail(refusal)
        finally:
            self._end_if_over()

    def _explain(self, *, explained: bool) -> None:
        """The function raised. Its exception says what the last send was refused with, or is
        about something else: then that is learned here.
        """
        if self.refusal is None or self.ended:
            return
        if not explained:
            self.sends_again()
            return
        _, further = self._dropped()
        if further is not None:
            further.cancelled(0.0)

    def _fail(self, refusal: Refusal, used: float | None = None) -> GiveUp | None:
        """It ends with `refusal`: the job is queued again (None), or ends too: why."""
        if not self._ends():
            return GiveUp(self.once)
        shell, job = self.shell, self.job
        try:
            refusal = shell.predicates.chosen(refusal, self.method)
        except BaseException:  # of the user's own function
            self._cancel(used)
            raise
        if shell.around is not None:
            shell.around.failed(job, refusal)
        state = shell.state
        with shell.lock:
            now = shell.clock()
            if refusal.limits and not self.sent:  # else a transport has read them
                state.observe(refusal.limits, job.flow, now, job.started_at)
            if self.once or self._returned or self._parent is not None:
                state.learn(job, refusal, now, random(), used)
                verdict: Any = GiveUp(self.once)
            else:
                verdict = state.defer(job, refusal, now, random())
            try:
                shell.poll()
            except BaseException:  # of a listener's: nobody waits for what was queued again
                state.unsend(job, shell.clock())
                raise
        return verdict if isinstance(verdict, GiveUp) else None

    def _cancel(self, used: float | None) -> None:
        shell = self.shell
        with shell.lock:
            shell.state.cancel(self.job, shell.clock(), used)
            shell.poll()

    def _dropped(self) -> tuple[Refusal, Attempt | None]:
        refusal, further = self.refusal, self._further
        assert refusal is not None
        self.refusal = self._response = self._further = None
        return refusal, further


ATTEMPT: ContextVar[Attempt | None] = ContextVar("headway_attempt", default=None)
