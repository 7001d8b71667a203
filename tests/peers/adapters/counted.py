"""Says of each test of a peer's whether it reached what an adapter replaces."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count

import pytest

UNDER_HEADWAY = os.environ.get("PEERS_BARE") is None

_uses = count()
_last = 0


def reached() -> None:
    """One call of what the adapter replaces, or would replace."""
    global _last
    _last = next(_uses) + 1


@pytest.fixture(autouse=True)
def _reached(record_property: Callable[[str, object], None]) -> Iterator[None]:
    before = _last
    yield
    record_property("reached", str(_last > before))
