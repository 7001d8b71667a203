"""The lease: the right to run one attempt. The one primitive; the rest are wrappers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType

import anyio

from headway._core.queue.job import NEW, STARTED, Job
from headway._runtime.attempt import ATTEMPT, Attempt
from headway._runtime.calls import Options, checked_tokens
from headway._runtime.shell import Shell
from headway._runtime.single import Single
from headway.errors import AlreadyUsed
from headway.hints import carries_headers
from headway.hooks.around import Around

__all__ = ["Lease", "TakenLease"]

_ONCE = "a lease is one attempt, and is not retried"


class Lease(Single):
    """A slot and a reserved cost, for the body of an ``async with``.

    Entering waits for the permit, up to the `timeout` of the options, which does not reach into the
    body; their `attempt_timeout` bounds the body, which then ends in a `TimeoutError`. An exception
    that leaves the body is classified, teaches the scheduler and goes on; a lease is one attempt
    and is not retried.
    """

    __slots__ = (
        "_around", "_attempt", "_held", "_job", "_limit", "_options", "_outer", "_shell", "_used",
    )  # fmt: skip

    def __init__(self, shell: Shell, options: Options, job: Job) -> None:
        self._shell = shell
        self._options = options
        self._job = job
        self._used: float | None = None
        self._held = False  # whether it has its permit already
        self._attempt: Attempt | None = None  # made where a transport serves the shell
        self._outer: Attempt | None = None
        self._limit: AbstractContextManager[object] | None = None
        self._around: Around | None = None  # what stands around the body

    @property
    def tokens(self) -> float:
        """The tokens that this attempt reserved."""
        return self._job.cost

    @property
    def waited(self) -> float:
        """Seconds for which it waited for its permit."""
        return self._job.waited

    def settle(self, *, tokens: float) -> None:
        """Say how many tokens the attempt really used; by default it is what it reserved.

        Raises `InvalidArgument` for what is no count.
        """
        self._used = checked_tokens(tokens)

    def hear(self, response: object) -> None:
        """Follow what `response`, what carries one, or its headers say of the limits: a lease sees
        no result.

        A transport of the same scheduler does that by itself. What carries no headers says nothing.
        """
        if isinstance(response, Mapping) and not carries_headers(response):
            response = {"headers": response}
        self._shell.hear(response, self._job)

    def _begin(self) -> None:
        """The permit is there."""
        shell, job = self._shell, self._job
        if shell.served:
            self._attempt = Attempt(shell, job, _ONCE)
        if shell.around is not None:
            self._around = shell.around.begin(job)

    async def __aenter__(self) -> Lease:
        if self._job.status != NEW and not self._held:
            raise AlreadyUsed(
                "this lease has been entered already, and a lease is one attempt",
                fix="call lease() again, once for each attempt.",
            )
        shell, options = self._shell, self._options
        if self._held:
            self._held = False
        else:
            if shell.closed:
                shell.check_open()
            if options.timeout is not None:
                await shell.within(self._job, options.timeout, self._acquire())
            elif not shell.enter(self._job):
                await self._acquire()
            self._begin()
        if self._attempt is not None:
            self._outer = ATTEMPT.get()
            ATTEMPT.set(self._attempt)
        if self._around is not None:
            self._around.enter(self._job)
        if options.attempt_timeout is not None:
            self._limit = anyio.fail_after(options.attempt_timeout)
            self._limit.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        attempt = self._attempt
        if attempt is not None and ATTEMPT.get() is attempt:  # not in a context of another task
            ATTEMPT.set(self._outer)
        elif attempt is None and self._shell.unseen:
            self._shell.unseen_ended(self._job)
        late: TimeoutError | None = None
        if self._limit is not None:
            try:
                self._limit.__exit__(kind, error, traceback)
            except TimeoutError as timeout:
                error = late = timeout
        try:
            self._end(attempt, error)
        finally:
            if self._around is not None:
                self._around.leave(self._job)
        if late is not None:
            raise late

    def _end(self, attempt: Attempt | None, error: BaseException | None) -> None:
        """The body is over, with `error` or without one."""
        used = self._used
        if attempt is None and error is None:
            Attempt.finish(self._shell, self._job, used)
            return
        attempt = attempt or Attempt(self._shell, self._job, _ONCE)
        if error is None:
            attempt.succeeded(used)
        elif isinstance(error, Exception):
            attempt.failed(error, used)
        else:
            attempt.cancelled(used)

    async def _acquire(self) -> None:
        shell, job = self._shell, self._job
        if job.status == NEW:
            shell.enter(job)
        if shell.around is not None:
            shell.around.begin(job)
        if job.status != STARTED:
            await shell.wait(job)


class TakenLease(Lease):
    """A lease that takes its permit at once, or not at all, and is entered later.

    Dropped before it is entered, it gives back its slot, and costs nothing.
    """

    __slots__ = ()

    def __init__(self, shell: Shell, options: Options, job: Job) -> None:
        super().__init__(shell, options, job)
        self._held = shell.enter_at_once(job)
        if self._held:
            self._begin()

    @property
    def held(self) -> bool:
        """Whether it has a permit and was not entered."""
        return self._held

    def __del__(self) -> None:
        if self._held:  # a garbage collector may be here, in any thread
            self._shell.soon(partial(_drop, self._shell, self._job, self._attempt))


def _drop(shell: Shell, job: Job, attempt: Attempt | None) -> None:
    """The lease of `job`, which has its permit, will not be entered."""
    if attempt is None and shell.unseen:
        shell.unseen_ended(job)
    (attempt or Attempt(shell, job)).never_sent()
