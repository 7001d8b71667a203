"""Who asks a shared ledger for one scheduler: one call at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import anyio

from headway._runtime.clock import running_loop
from headway._runtime.waiter import Waiter
from headway.errors import HeadwayError
from headway.providers import InvalidSettings
from headway.shared.port import SharedPort
from headway.shared.stores import Store, StoreAway

__all__ = ["SharedOwner"]

INFINITY = float("inf")
_PATIENCE = 1.0  # seconds for one call, which the store itself gives up much earlier
_FIRST_PATIENCE = 10.0  # seconds until jobs fail, where the store was never reached
_BROKEN_FOR = 1.0  # seconds until a store that refused is asked again


class SharedOwner:
    """The owner of the limits that `port` asks for, kept in `store`."""

    def __init__(
        self,
        port: SharedPort,
        store: Store,
        clock: Callable[[], float],
        tell: Callable[[], object],
    ) -> None:
        self.port = port
        self.store = store
        self._clock = clock
        self._tell = tell  # what the port says has happened
        self._pid = os.getpid()
        self._armed = INFINITY  # what it sleeps to
        self._woken: Waiter | None = None
        port.owner = self
        self._began: float | None = None  # when it first asked, until it is answered
        self._broken_at = -INFINITY
        self._away = StoreAway("no reply")

    @property
    def wants(self) -> bool:
        """Whether there is anything to ask or to tell."""
        return self.port.due_at(self._clock()) < INFINITY

    def nudge(self) -> bool:
        """Something has changed: the next call may be due sooner. Whether any will be due."""
        due = self.port.due_at(self._clock())
        if self._woken is not None and due < self._armed:
            self._woken.set()
        return due < INFINITY

    async def ask(self) -> None:
        """Make the next call when it is due, and take the reply.

        Raises what keeps jobs from ever starting: other limits, a password, a version.
        """
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self.port.begin_anew()
            self.store = self.store.again()
        if not await self._until_due():
            return
        now = self._clock()
        broken = self.port.broken()
        if broken is not None and now < self._broken_at + _BROKEN_FOR:
            raise broken
        if self._began is None and not self.port.was_reached:
            self._began = now
        call = self.port.begin(now)
        reply: dict[str, Any] | None = None
        self._away = StoreAway("no reply")
        with anyio.move_on_after(_PATIENCE if self.port.was_reached else _FIRST_PATIENCE):
            try:
                reply = await self.store.call(self.port.name, call)
            except StoreAway as away:
                self._away = away
            except InvalidSettings as error:
                self._broken_at = self._clock()
                self.port.refused(error)
                raise
        now = self._clock()
        if reply is None:
            self.port.unanswered(str(self._away), now)
            self._tell()
            if self._began is not None and now >= self._began + _FIRST_PATIENCE:
                raise self.port.never_reached(_FIRST_PATIENCE, self.store.where, self._away)
            return
        self._began = None
        try:
            self.port.answered(reply, now)
        except HeadwayError:
            self._broken_at = now
            raise
        finally:
            if self.port.happened:
                self._tell()

    async def leave(self) -> None:
        """Give back all that is held, and be forgotten; where the store is away, by and by."""
        if not self.port.was_reached or self.port.away_since is not None:
            return
        with anyio.move_on_after(_PATIENCE, shield=True):
            try:
                await self.store.call(self.port.name, self.port.farewell(self._clock()))
            except (StoreAway, InvalidSettings):
                return

    async def _until_due(self) -> bool:
        """Sleep until a call is due; False where none will be."""
        *_, waiters = running_loop()
        while (due := self.port.due_at(now := self._clock())) > now:
            if due == INFINITY:
                return False
            self._armed = due
            self._woken = waiters()
            try:
                await self._woken.until(due)
            finally:
                self._woken = None
        return True
