"""The lease: the right to run one attempt. The one primitive; the rest are wrappers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

import anyio

from headway._core.queue.job import NEW, Job
from headway._runtime.calls import Options, checked_tokens
from headway._runtime.permit import PERMIT, Permit
from headway._runtime.shell import Shell

__all__ = ["Lease"]


class Lease:
    """A slot and a reserved cost, for the body of an ``async with``.

    Entering waits for the permit, up to the `timeout` of the options, which does not reach into the
    body; their `attempt_timeout` bounds the body, which then ends in a `TimeoutError`. An exception
    that leaves the body is classified, teaches the scheduler and goes on; a lease is one attempt
    and is not retried.
    """

    __slots__ = ("_job", "_limit", "_options", "_outer", "_permit", "_shell", "_used")

    def __init__(self, shell: Shell, options: Options, job: Job) -> None:
        self._shell = shell
        self._options = options
        self._job = job
        self._used: float | None = None
        self._permit: Permit | None = None
        self._outer: Permit | None = None
        self._limit: AbstractContextManager[object] | None = None

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

        Raises `TypeError` or `ValueError` for what is no count.
        """
        self._used = checked_tokens(tokens)

    async def __aenter__(self) -> Lease:
        if self._job.status != NEW:
            raise RuntimeError(
                "this lease has been entered already, and a lease is one attempt. Fix: "
                "`async with scheduler.lease():` for each attempt."
            )
        self._shell.check_open()
        options = self._options
        if options.timeout is None:
            await self._acquire()
        else:
            await self._shell.within(self._job, options.timeout, self._acquire())
        if self._shell.wrapped:
            self._permit = Permit(self._shell, self._job)
            self._outer = PERMIT.get()
            PERMIT.set(self._permit)
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
        permit = self._permit
        if permit is not None and PERMIT.get() is permit:  # not in a context of another task
            PERMIT.set(self._outer)
        late: TimeoutError | None = None
        if self._limit is not None:
            try:
                self._limit.__exit__(kind, error, traceback)
            except TimeoutError as timeout:
                error = late = timeout
        used = self._used
        if error is None and permit is not None:
            permit.finish(used)
        elif error is None:
            self._shell.finish(self._job, used)
        elif isinstance(error, Exception):
            self._shell.fail(self._job, error, used, permit)
        else:
            if permit is not None:
                permit.failed(explained=False)
            self._shell.cancel(self._job, used)
        if late is not None:
            raise late

    async def _acquire(self) -> None:
        shell, job = self._shell, self._job
        if not shell.enter(job):
            await shell.wait(job)
        if shell.shared:
            await shell.acquire_shared(job)
