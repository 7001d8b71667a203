"""One scheduler's part in shared limits: a port for the whole, and one for each key that has limits
of its own; one owner asks for them all.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable
from functools import partial

from headway._core.limits.scope import Scope
from headway._core.queue.job import Flow
from headway._runtime.shell import Shell
from headway.errors import InvalidArgument
from headway.events import SharedChanged
from headway.kinds._words import redacted, shown
from headway.rates import Limits, Shared
from headway.shared.owner import SharedOwner
from headway.shared.port import SharedPort
from headway.shared.stores.places import open_store

__all__ = ["Sharing"]

_LONGEST = 100


class Sharing:
    """Connects the limits of `shell` with those who share them.

    `adopt` puts in force the limits of the whole that another worker has stated; where it is
    `keyed`, keys have limits, and the whole need have none. Raises `InvalidSettings` for a place
    that is none.
    """

    def __init__(
        self,
        shell: Shell,
        shared: object,
        limits: Limits,
        adopt: Callable[[Limits], None],
        *,
        keyed: bool,
    ) -> None:
        options = Shared(shared) if isinstance(shared, str) else shared
        if not isinstance(options, Shared):
            raise InvalidArgument(
                f"shared={shown(shared)} is neither a name nor an address",
                fix='shared="my-account", an address, or a Shared.',
            )
        self._shell = shell
        self._options = options
        self._store, self._name = open_store(options.where)
        port = self._port(self._name, shell.state.whole, limits, None, adopt)
        port.unlimited = keyed
        self._owner = SharedOwner(port, self._store, shell.time, self._tell)
        shell.connect([self._owner])
        shell.state.connect_key = self._connect
        shell.leave = self.leave

    @property
    def where(self) -> str:
        """What to call the place in messages."""
        return self._store.where

    async def leave(self) -> None:
        """Give back what is held, and close the store."""
        await self._owner.leave()
        await self._owner.store.aclose()

    def _port(
        self,
        name: str,
        scope: Scope,
        limits: Limits,
        flow: Flow | None,
        adopt: Callable[[Limits], None],
    ) -> SharedPort:
        shell = self._shell
        return SharedPort(
            name,
            scope,
            limits,
            queued=self._queued if flow is None else partial(_size, flow),
            adopt=adopt,
            weight=self._options.weight,
            away=self._options.away,
            wall=lambda: time.time() - shell.clock(),
            where=self._store.where + name[len(self._name) :],
        )

    def _queued(self) -> int:
        """How many jobs may start soon, as far as the limits of keys go."""
        return self._owner.waiting(self._shell.state.waiting.queue.size)

    def _connect(self, flow: Flow) -> None:
        """`flow` has limits of its own, which are shared too."""
        scope = flow.limits
        assert scope is not None
        port = self._port(
            f"{self._name}/{_name_of(flow.key)}",
            scope,
            scope.stated,
            flow,
            lambda limits: scope.retune(limits, self._shell.time()),
        )
        scope.ports = (port,)
        self._owner.attend(port, partial(self._shell.answered, flow))

    def _tell(self, port: SharedPort) -> None:
        """Make events of what has happened to a port."""
        news, port.happened = port.happened, []
        now = self._shell.time()
        self._shell.state.events.extend(
            SharedChanged(now, port.scope.key, self._store.where, what, why) for what, why in news
        )


def _size(flow: Flow) -> int:
    return sum(queue.size for _, queue in flow.queues)


def _name_of(key: Hashable) -> str:
    """A name for the ledger of `key`, by what it is in every process, without a credential."""
    text = f"{type(key).__name__}:{key!r}"
    said = redacted(text)
    if len(text) <= _LONGEST and text.isprintable() and said == text:
        return text
    return said[:_LONGEST] + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
