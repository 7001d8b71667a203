"""The keys in use: their weights, and the limits of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping

from headway._core.limits.scope import Scope
from headway._core.queue.job import Flow
from headway.rates import Limits

__all__ = ["Flows"]

_MANY = 4096

OfKey = Callable[[Hashable], "Limits | None"]


class Flows:
    """A flow for each key that is in use; beyond some thousands those that are idle are dropped."""

    __slots__ = ("_keys", "_many", "_weights", "table")

    def __init__(self, keys: OfKey, weights: Mapping[Hashable, float]) -> None:
        self.table: dict[Hashable, Flow] = {}
        self._keys = keys
        self._weights = weights
        self._many = _MANY

    @property
    def full(self) -> bool:
        """Whether it is time to drop those that are idle."""
        return len(self.table) >= self._many

    def add(self, key: Hashable) -> Flow:
        """A flow for `key`, which has none. Raises what the user's function of the key raises."""
        flow = self.table[key] = Flow(key, self._weights.get(key, 1.0), self._keys(key))
        return flow

    def drop_idle(self, waiting: Collection[Flow], now: float) -> list[Scope]:
        """Drop the flows that nothing would be lost with; `waiting` are those with queued jobs. The
        limits that no longer hold for anyone.
        """
        gone = []
        for key, flow in list(self.table.items()):
            spent = flow.limits is None or flow.limits.is_spent(now)
            if not flow.counts.in_flight and spent and flow not in waiting:
                del self.table[key]
                if flow.limits is not None:
                    gone.append(flow.limits)
        self._many = max(_MANY, 2 * len(self.table))
        return gone

    def scopes(self) -> list[Scope]:
        """The limits of all keys that have some of their own."""
        return [flow.limits for flow in self.table.values() if flow.limits is not None]

    def retune(self, keys: OfKey, weights: Mapping[Hashable, float], now: float) -> list[Scope]:
        """Put other limits and weights in force; the limits that no longer hold for anyone.

        Raises what the user's function of the key raises, and then nothing has changed.
        """
        stated = {key: keys(key) for key in self.table}
        self._keys, self._weights = keys, weights
        gone = []
        for key, flow in self.table.items():
            flow.weight = weights.get(key, 1.0)
            own = stated[key]
            if own is None:
                if flow.limits is not None:
                    gone.append(flow.limits)
                flow.limits = None
            elif flow.limits is None:
                flow.limit(own)
            else:
                flow.limits.retune(own, now)
        return gone
