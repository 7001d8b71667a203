"""What an earlier process used and learned, for the scopes that this one comes to use."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from headway._core.limits.scope import Scope
from headway.kinds._words import shown
from headway.rates import is_number

__all__ = ["Earlier"]

_LEARNED_FOR = 86_400.0  # seconds for which limits that were learned are taken to hold


class Earlier:
    """What a `snapshot` of an earlier process holds, as JSON: nothing in it needs to be as it was.

    `wall` is what the clock of the world shows beyond the caller's. What is of a key waits until
    that is first used, and is handed on where it never is.
    """

    __slots__ = ("_is_recent", "_kept")

    def __init__(self, kept: Mapping[str, Any], wall: float, now: float) -> None:
        saved, keys = kept.get("saved"), kept.get("keys")
        self._is_recent = is_number(saved) and abs(now + wall - saved) < _LEARNED_FOR
        self._kept: dict[Hashable, Any] = {}  # by key, None for the whole
        if isinstance(keys, Mapping):
            self._kept.update(keys)
        if "whole" in kept:
            self._kept[None] = kept["whole"]

    def restore(self, scope: Scope, wall: float, now: float) -> str | None:
        """Let `scope` go on from what is its own, once; what of that cannot be used, if any."""
        if scope.key not in self._kept:
            return None
        kept = self._kept.pop(scope.key)
        if isinstance(kept, Mapping) and scope.restore(kept, wall, now, recent=self._is_recent):
            return None
        whose = "" if scope.key is None else f" of key {shown(scope.key)}"
        return f"what was remembered of a quota{whose} is of another, or cannot be meant: not used"

    def snapshot(self, scopes: Iterable[Scope], wall: float, now: float) -> dict[str, Any]:
        """What is to be kept of `scopes`, and of the keys that no process has used since."""
        kept = {
            scope.key: found
            for scope in scopes
            if (scope.key is None or isinstance(scope.key, str)) and (found := scope.snapshot(wall))
        }
        whole = kept.pop(None, {})
        return {"saved": now + wall, "whole": whole, "keys": {**self._kept, **kept}}
