"""A lease for a thread: the right to run one attempt, as a ``with``."""

from __future__ import annotations

from types import TracebackType

from headway._runtime.lease import Lease as AsyncLease
from headway._runtime.single import Single
from headway.sync._driving import drive

__all__ = ["Lease"]


class Lease(Single):
    """A slot and a reserved cost, for the body of a ``with``.

    Entering waits for the permit, up to the `timeout` of the options, which does not reach into the
    body. An exception that leaves the body is classified, teaches the scheduler and goes on; a
    lease is one attempt and is not retried.
    """

    __slots__ = ("_lease",)

    def __init__(self, lease: AsyncLease) -> None:
        self._lease = lease

    @property
    def tokens(self) -> float:
        """The tokens that this attempt reserved."""
        return self._lease.tokens

    @property
    def waited(self) -> float:
        """Seconds for which it waited for its permit."""
        return self._lease.waited

    def settle(self, *, tokens: float) -> None:
        """Say how many tokens the attempt really used; by default it is what it reserved.

        Raises `InvalidArgument` for what is no count.
        """
        self._lease.settle(tokens=tokens)

    def hear(self, response: object) -> None:
        """Follow what `response`, what carries one, or its headers say of the limits: a lease sees
        no result.

        A transport of the same scheduler does that by itself. What carries no headers says nothing.
        """
        self._lease.hear(response)

    def __enter__(self) -> Lease:
        drive(self._lease.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        drive(self._lease.__aexit__(kind, error, traceback))
