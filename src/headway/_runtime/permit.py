"""Which permit the present code runs under, for the transports that it may call.

A transport that sends inside a lease of its own scheduler must not wait for a second slot: the
lease has paid for its first send. The permit travels in a context variable. One that has ended
counts for nothing, in whatever task its context leaked to.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from headway._core.queue.job import STARTED, Job

if TYPE_CHECKING:
    from headway._runtime.shell import Shell
    from headway.hints import Refusal

__all__ = ["PERMIT", "Alone", "Further", "Permit"]

logger = logging.getLogger("headway")


class Permit:
    """The right of one attempt of `job`: what was sent under it, and which streams are open.

    `refusal` is what its last send was refused with. An exception that the function raises says
    the same, and teaches it; a function that only returns is looked at for it. One that raises
    while a stream is open gives its slot back at once: what it failed with ends the attempt.
    """

    __slots__ = (
        "_attempt", "_ending", "_extra", "_response", "_used", "job", "open", "refusal", "sent",
        "shell",
    )  # fmt: skip

    def __init__(self, shell: Shell, job: Job) -> None:
        self.shell = shell
        self.job = job
        self.sent = False
        self.open = 0  # response streams that its sends have opened and nobody has closed
        self.refusal: Refusal | None = None
        self._response: Any = None  # that carried it
        self._extra: Job | None = None  # the further send that it answered, where it was one
        self._attempt = job.attempts
        self._ending = False
        self._used: float | None = None

    @property
    def valid(self) -> bool:
        """Whether the attempt that it stands for is still under way."""
        return not self._ending and self._alive

    def refused(self, response: Any, refusal: Refusal, extra: Job | None) -> None:
        """`response` refuses the last send, which was the job's own or the further one `extra`."""
        self.sends()  # one that was refused beside it
        if self._alive and (self.open or not self._ending):
            self.refusal, self._response, self._extra = refusal, response, extra
        elif extra is not None:
            self.shell.refused(extra, refusal)

    def sends(self) -> None:
        """Another send begins: the function has seen the refusal of the last, and goes on."""
        if self.refusal is None:
            return
        refusal, extra = self._dropped()
        if extra is not None:
            self.shell.refused(extra, refusal)
        else:
            self.shell.heard(self.job, refusal)

    def finish(self, used: float | None) -> None:
        """The function returned. The slot is given back now, or with the last open stream."""
        self._ending = True
        if used is not None:  # else what its sends have used, as far as that is known
            self._used = used
        if self._is_over:
            self._end()

    def is_all(self, result: object) -> bool:
        """Whether `result` is the response that refused the last send: there is nothing else."""
        return self.refusal is not None and result is self._response and not self.open

    async def again(self, result: object) -> bool:
        """Whether the job is queued again, whose function got nothing but a refusal."""
        if not self.is_all(result):
            return False
        response = self._response
        refusal, extra = self._dropped()
        if extra is not None:
            self.shell.cancel(extra, 0.0)
        if self.shell.defer(self.job, refusal) is not None:
            return False
        try:
            await response.aclose()
        except Exception:
            logger.debug("closing a refused response failed", exc_info=True)
        except BaseException:
            self.shell.cancel(self.job)
            raise
        return True

    def failed(self, *, explained: bool) -> None:
        """The function raised. Its exception says what the last send was refused with, or is
        about something else: then that is learned here.
        """
        if self.refusal is None:
            return
        refusal, extra = self._dropped()
        if extra is None:
            if not explained:
                self.shell.heard(self.job, refusal)
        elif explained:
            self.shell.cancel(extra, 0.0)
        else:
            self.shell.refused(extra, refusal)

    def stream_ended(self, used: float | None) -> None:
        """A stream that was opened under it has ended, and used that many tokens."""
        self.open -= 1
        if self._used is None:
            self._used = used
        if self._is_over:
            self._end()

    def stream_refused(self, refusal: Refusal) -> None:
        """A stream that was opened under it ended with an error that the server sent in it."""
        if self.refusal is None:
            self.refused(refusal, refusal, None)  # no response that a function could return
        self.stream_ended(None)

    def stream_failed(self, error: BaseException) -> None:
        """A stream that was opened under it broke off; whoever reads it knows by now."""
        self.open -= 1
        if self._is_over:
            self.shell.broke_off(self.job, error)

    def _end(self) -> None:
        if self.refusal is None:
            self.shell.finish(self.job, self._used)
            return
        refusal, extra = self._dropped()
        if extra is None:
            self.shell.refused(self.job, refusal, self._used)
        else:
            self.shell.refused(extra, refusal)
            self.shell.finish(self.job, self._used)

    def _dropped(self) -> tuple[Refusal, Job | None]:
        refusal, extra = self.refusal, self._extra
        assert refusal is not None
        self.refusal = self._response = self._extra = None
        return refusal, extra

    @property
    def _alive(self) -> bool:
        return self.job.status == STARTED and self.job.attempts == self._attempt

    @property
    def _is_over(self) -> bool:
        return self._ending and not self.open and self._alive


class Alone:
    """The permit of a request that was sent under no lease: it ends with its response."""

    __slots__ = ("_shell", "job")

    def __init__(self, shell: Shell, job: Job) -> None:
        self._shell = shell
        self.job = job

    def stream_ended(self, used: float | None) -> None:
        """Its response has ended, and used that many tokens (None: not known)."""
        if self.job.status == STARTED:
            self._shell.finish(self.job, used)

    def stream_refused(self, refusal: Refusal) -> None:
        """Its response ended with an error that the server sent in it."""
        if self.job.status == STARTED:
            self._shell.refused(self.job, refusal)

    def stream_failed(self, error: BaseException) -> None:
        """Its response broke off."""
        if self.job.status == STARTED:
            self._shell.broke_off(self.job, error)


class Further(Alone):
    """A further send under a lease: settled by itself, while the lease's slot is held for it."""

    __slots__ = ("_permit",)

    def __init__(self, shell: Shell, job: Job, permit: Permit) -> None:
        super().__init__(shell, job)
        self._permit = permit

    def stream_ended(self, used: float | None) -> None:
        """As of one alone; the lease has one open stream less."""
        super().stream_ended(used)
        self._permit.stream_ended(None)

    def stream_refused(self, refusal: Refusal) -> None:
        """As of one alone; the lease has one open stream less."""
        super().stream_refused(refusal)
        self._permit.stream_ended(None)

    def stream_failed(self, error: BaseException) -> None:
        """It broke off: the lease learns from that, once."""
        self._shell.cancel(self.job)
        self._permit.stream_failed(error)


PERMIT: ContextVar[Permit | None] = ContextVar("headway_permit", default=None)
