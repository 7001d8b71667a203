"""The lease: the right to run one attempt. The one primitive; the rest are wrappers."""

from __future__ import annotations

from types import TracebackType

from headway._calls import Options, checked_tokens
from headway._core.job import NEW, Job
from headway._shell import Shell

__all__ = ["Lease"]


class Lease:
    """A slot and a reserved cost, for the body of an ``async with``.

    Entering waits for the permit (up to the `timeout` of the options, which does not reach into
    the body). An exception that leaves the body is classified, teaches the scheduler and goes on;
    a lease is one attempt and is not retried.
    """

    __slots__ = ("_job", "_options", "_shell", "_used")

    def __init__(self, shell: Shell, options: Options, job: Job) -> None:
        self._shell = shell
        self._options = options
        self._job = job
        self._used: float | None = None

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
        if self._options.timeout is None:
            await self._acquire()
        else:
            await self._shell.within(self._job, self._options.timeout, self._acquire())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._shell.finish(self._job, self._used)
        elif isinstance(error, Exception):
            self._shell.fail(self._job, error, self._used)
        else:
            self._shell.cancel(self._job, self._used)

    async def _acquire(self) -> None:
        shell, job = self._shell, self._job
        if not shell.enter(job):
            await shell.wait(job)
        if shell.shared:
            await shell.acquire_shared(job)
