"""Those who decide limits elsewhere, asked for what the core's ports want.

Each has a task of its own for as long as a job waits for it, and none otherwise: there is nothing
to start and nothing to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Protocol, TypeAlias

from headway._core.limits.port import Port
from headway.rates import Limiter

__all__ = ["LimiterOwner", "Owner", "Ports"]

Cancel: TypeAlias = Callable[[], object]
Spawn: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, None]]], Cancel]


class Owner(Protocol):
    """Whoever decides a limit, and the port through which the core asks for it."""

    @property
    def port(self) -> Port:
        """The port through which the core asks it."""
        ...

    @property
    def wanted(self) -> bool:
        """Whether there is anything to ask for."""
        ...

    def nudge(self) -> bool:
        """It is being asked, and something has changed: what is wanted may be due sooner. Whether
        anything is wanted still.
        """
        ...

    async def ask(self) -> None:
        """Tell the port (`Port.grant`, `Port.refuse`) what it wants to know, when it is known."""
        ...


class LimiterOwner:
    """A limiter of the application's own, such as an `aiolimiter.AsyncLimiter`."""

    def __init__(self, limiter: Limiter) -> None:
        self.port = Port()
        self.limiter = limiter

    @property
    def wanted(self) -> bool:
        """Whether a start is to be asked for."""
        return self.port.wanted > 0

    def nudge(self) -> bool:
        """Whether one is wanted still."""
        return self.wanted

    async def ask(self) -> None:
        """Wait until the limiter has room for one."""
        await self.limiter.acquire()
        self.port.grant()


class Ports:
    """The owners that one scheduler asks.

    `spawn` starts a task on the event loop and returns what cancels it; `answered` is called when
    an owner has answered its port, and `failed` with what asking one raised.
    """

    def __init__(
        self,
        spawn: Spawn,
        answered: Callable[[], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self.owners: tuple[Owner, ...] = ()
        self._spawn = spawn
        self._answered = answered
        self._failed = failed
        self._asked: dict[Owner, Cancel] = {}

    def connect(self, owners: Iterable[Owner]) -> tuple[Port, ...]:
        """Ask `owners` from now on, and no others; their ports."""
        self.owners = tuple(owners)
        for owner in [*self._asked]:
            if owner not in self.owners:
                self._asked.pop(owner)()
        return tuple(owner.port for owner in self.owners)

    def serve(self) -> None:
        """Ask for what is wanted, and stop asking for what is wanted no more."""
        for owner in self.owners:
            asked = self._asked.get(owner)
            if not (owner.wanted if asked is None else owner.nudge()):
                if asked is not None:
                    self._asked.pop(owner)()
            elif asked is None:
                self._asked[owner] = self._spawn(partial(self._ask, owner))

    def forget(self) -> None:
        """The event loop is gone, and the tasks with it."""
        self._asked.clear()

    async def _ask(self, owner: Owner) -> None:
        error: Exception | None = None
        try:
            await owner.ask()
        except Exception as raised:
            error = raised
        self._asked.pop(owner, None)
        if error is None:
            self._answered()
        else:
            self._failed(error)
