"""What every store of ledgers is."""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

__all__ = ["Calls", "Replies", "Store", "StoreAway", "packed", "unpacked"]

Calls: TypeAlias = Mapping[str, dict[str, Any]]
"""The calls of one worker, each under the name of its ledger."""

Replies: TypeAlias = dict[str, dict[str, Any]]
"""The replies to `Calls`, under the same names."""


def packed(state: dict[str, Any]) -> bytes:
    """`state`, changed in place, as a store keeps it: the reply to each worker in one piece, of
    which a call needs its own worker's alone.
    """
    for worker in state["workers"].values():
        if not isinstance(worker["reply"], bytes):
            worker["reply"] = marshal.dumps(worker["reply"], 4)
    return marshal.dumps(state, 4)


def unpacked(stored: bytes, worker: str | None = None) -> dict[str, Any]:
    """The state that was `packed`, with the reply to `worker`, or to each. Raises `EOFError`,
    `ValueError` or `TypeError` for what is none.
    """
    state: dict[str, Any] = marshal.loads(stored)
    workers = state["workers"]
    for name in [*workers] if worker is None else [worker]:
        if name in workers:
            workers[name]["reply"] = marshal.loads(workers[name]["reply"])
    return state


class StoreAway(Exception):
    """The store gave no reply: it is down, unreachable, locked or full. The text says which, and
    `fix` what to do where it goes on so.
    """

    def __init__(
        self, why: str, fix: str = "start the store, or correct its address in shared=."
    ) -> None:
        super().__init__(why)
        self.fix = fix


class Store(Protocol):
    """Where ledgers are kept, each under a name. Its methods may be used by several tasks."""

    where: str
    """What to call it in messages: an address without credentials."""

    async def call(self, calls: Calls) -> Replies:
        """Step the ledgers that `calls` names, all of them or none. Raises `StoreAway` where there
        is no reply, `InvalidSettings` where there will be none until somebody mends it.
        """
        ...

    async def read(self, name: str) -> dict[str, Any] | None:
        """The state of the ledger `name` as it is now (`ledger.seen`); None where there is none."""
        ...

    async def names(self) -> list[str]:
        """The names of the ledgers that it keeps, of keys too."""
        ...

    async def reset(self, name: str) -> bool:
        """Forget the ledger `name`, and those of its keys; whether there was one."""
        ...

    def again(self) -> Store:
        """The same store, with connections of its own: for a process that was forked."""
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...
