"""Who asks the shared ledgers for one scheduler: all in one call, and one call at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakSet

import anyio

from headway._runtime.clock import running_loop
from headway._runtime.waiter import Waiter
from headway.errors import HeadwayError
from headway.providers import InvalidSettings
from headway.shared.conversation import never_reached
from headway.shared.port import SharedPort
from headway.shared.stores import Replies, Store, StoreAway

__all__ = ["SharedOwner"]

INFINITY = float("inf")
_LEAST = 0.02  # seconds between two calls
_EVERY, _BURST = 0.102, 0.5  # seconds between calls on average, and what may run ahead
_MOST = 64  # ledgers in one call: a store does nothing else meanwhile
_PATIENCE = 1.0  # seconds for one call, which the store itself gives up much earlier
_FIRST_PATIENCE = 10.0  # seconds until jobs fail, where the store was never reached

Answer = Callable[[Exception | None], object]


class SharedOwner:
    """The owner of the limits that `port`, that of the whole, and those of keys ask for, kept in
    `store`. `tell` makes events of what has happened to a port.
    """

    def __init__(
        self,
        port: SharedPort,
        store: Store,
        clock: Callable[[], float],
        tell: Callable[[SharedPort], object],
    ) -> None:
        self.port = port
        self.store = store
        self._clock = clock
        self._tell = tell
        self._keys: WeakSet[SharedPort] = WeakSet()  # those of keys
        # Those that may want anything, and who is told of an answer: None, or why no job can start.
        self._busy: dict[SharedPort, Answer] = {}
        self._pid = os.getpid()
        self._armed = INFINITY  # what it sleeps to
        self._woken: Waiter | None = None
        self._began: float | None = None  # when it first asked, until it is answered
        self._called_at = -INFINITY
        self._paid = -INFINITY  # the pace of calls: GCRA

    def attend(self, port: SharedPort, on_answer: Answer) -> None:
        """Ask for the limits of a key too, when its `port` wants anything."""
        self._keys.add(port)
        port.stand_beside(self.port, lambda: self._busy.setdefault(port, on_answer))

    def waiting(self, queued: int) -> int:
        """How many of `queued` jobs may start soon, as far as the limits of keys go."""
        for port in self._busy:
            queued -= port.queued() - port.unpaired()
        return queued

    @property
    def wanted(self) -> bool:
        """Whether there is anything to ask or to tell."""
        return self._due_at(self._clock()) < INFINITY

    def nudge(self) -> bool:
        """Something has changed: the next call may be due sooner. Whether any will be due."""
        due = self._due_at(self._clock())
        if self._woken is not None and due < self._armed:
            self._woken.set()
        return due < INFINITY

    async def ask(self) -> None:
        """Make the next call when it is due, and take the replies.

        Raises what keeps jobs from ever starting: other limits, a password, a version.
        """
        if self._pid != os.getpid():
            self._begin_anew()
        if not await self._until_due():
            return
        now = self._clock()
        ports = self._due(now)
        failed = {port: why for port in ports if (why := port.conversation.broken(now)) is not None}
        if asked := [port for port in ports if port not in failed]:
            failed |= await self._call(asked, now)
        for port in ports:
            if (on_answer := self._busy.get(port)) is not None:
                on_answer(failed.get(port))
        if self.port in failed:
            raise failed[self.port]

    async def leave(self) -> None:
        """Give back all that is held, and be forgotten; where the store is away, by and by."""
        now = self._clock()
        ports = [each for each in (self.port, *self._keys) if each.is_to_leave]
        with anyio.move_on_after(_PATIENCE, shield=True):
            for index in range(0, len(ports), _MOST):
                some = ports[index : index + _MOST]
                try:
                    await self.store.call({port.name: port.farewell(now) for port in some})
                except (StoreAway, InvalidSettings):
                    return

    async def _call(self, asked: list[SharedPort], now: float) -> dict[SharedPort, HeadwayError]:
        """Call the ledgers of those, and tell them; which can start nothing, and why."""
        reached = all(port.conversation.was_reached for port in asked)
        if self._began is None and not reached:
            self._began = now
        self._called_at = now
        self._paid = max(self._paid, now) + _EVERY
        self.port.pairs = sum(port.queued() for port in self._busy if port.is_paired)
        begun = {port.name: port.begin(now) for port in asked}
        replies: Replies | None = None
        away = StoreAway("no reply")
        with anyio.move_on_after(_PATIENCE if reached else _FIRST_PATIENCE):
            try:
                replies = await self.store.call(begun)
            except StoreAway as error:
                away = error
            except InvalidSettings as error:
                now = self._clock()
                for port in asked:
                    port.conversation.refused(error, now)
                return dict.fromkeys(asked, error)
        return self._answered(asked, replies, away)

    def _answered(
        self, asked: list[SharedPort], replies: Replies | None, away: StoreAway
    ) -> dict[SharedPort, HeadwayError]:
        now = self._clock()
        failed: dict[SharedPort, HeadwayError] = {}
        for port in asked:
            if replies is None:
                port.unanswered(str(away), now)
                late = self._began is not None and now >= self._began + _FIRST_PATIENCE
                if late and not port.conversation.was_reached:
                    failed[port] = never_reached(_FIRST_PATIENCE, self.store.where, away)
            else:
                self._began = None
                try:
                    port.answered(replies[port.name], now)
                except HeadwayError as error:
                    port.conversation.refused(error, now)
                    failed[port] = error
            if port.happened:
                self._tell(port)
        return failed

    def _begin_anew(self) -> None:
        """This process was forked: it is another worker, of which nothing is known."""
        self._pid = os.getpid()
        for port in (self.port, *self._keys):
            port.begin_anew()
        self.store = self.store.again()

    def _due_at(self, now: float) -> float:
        """When the next call is due; infinity for never."""
        if now < self._called_at:  # another loop's clock
            self._called_at = self._paid = -INFINITY
            self._began = None
        due = self.port.due_at(now)
        for port in [*self._busy] if self._busy else ():
            at = port.due_at(now)
            if at == INFINITY:
                del self._busy[port]
            elif at < due:
                due = at
        return max(due, self._called_at + _LEAST, self._paid - _BURST)

    def _due(self, now: float) -> list[SharedPort]:
        """Those that are asked now: the most urgent ones, that of the whole before all."""
        if not self._busy:
            return [self.port]
        moments = [(at, port) for port in self._busy if (at := port.joins_at(now)) <= now]
        moments.sort(key=lambda each: each[0])
        names = {port.name: port for _, port in reversed(moments)}  # one may have been dropped
        return [self.port, *names.values()][:_MOST]

    async def _until_due(self) -> bool:
        """Sleep until a call is due; False where none will be."""
        *_, waiters = running_loop()
        while (due := self._due_at(now := self._clock())) > now:
            if due == INFINITY:
                return False
            self._armed = due
            self._woken = waiters()
            try:
                await self._woken.until(due)
            finally:
                self._woken = None
        return True
