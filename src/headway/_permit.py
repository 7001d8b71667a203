"""Which permit the present code runs under, for the transports that it may call.

A transport that sends inside a lease of its own scheduler must not wait for a second slot: the
lease has paid for its first send. The permit travels in a context variable. One that has ended
counts for nothing, in whatever task its context leaked to.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from headway._core.job import STARTED, Job

if TYPE_CHECKING:
    from headway._shell import Shell

__all__ = ["PERMIT", "Permit"]


class Permit:
    """The right of one attempt of `job`: what was sent under it, and which streams are open."""

    __slots__ = ("_attempt", "_ending", "_used", "job", "open", "sent", "shell")

    def __init__(self, shell: Shell, job: Job) -> None:
        self.shell = shell
        self.job = job
        self.sent = False
        self.open = 0  # response streams that its sends have opened and nobody has closed
        self._attempt = job.attempts
        self._ending = False
        self._used: float | None = None

    @property
    def valid(self) -> bool:
        """Whether the attempt that it stands for is still under way."""
        job = self.job
        return not self._ending and job.status == STARTED and job.attempts == self._attempt

    def finish(self, used: float | None) -> None:
        """The function returned. The slot is given back now, or with the last open stream."""
        self._ending = True
        if used is not None:  # else what its sends have used, as far as that is known
            self._used = used
        if not self.open:
            self.shell.finish(self.job, self._used)

    def stream_ended(self, used: float | None) -> None:
        """A stream that was opened under it has ended, and used that many tokens."""
        self.open -= 1
        if self._used is None:
            self._used = used
        if self._is_over:
            self.shell.finish(self.job, self._used)

    def stream_failed(self, error: BaseException) -> None:
        """A stream that was opened under it broke off; whoever reads it knows by now."""
        self.open -= 1
        if self._is_over:
            self.shell.broke_off(self.job, error)

    @property
    def _is_over(self) -> bool:
        alive = self.job.status == STARTED and self.job.attempts == self._attempt
        return self._ending and alive and not self.open


PERMIT: ContextVar[Permit | None] = ContextVar("headway_permit", default=None)
