"""Both backends, on virtual time, for every async test; real time where a module asks for it."""

from __future__ import annotations

from typing import Any

import pytest
from clocks import VIRTUAL
from sites import site


@pytest.fixture(params=sorted(VIRTUAL))
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Asyncio and trio on clocks that jump. A module on real time overrides this fixture."""
    return VIRTUAL[request.param]()


__all__ = ["anyio_backend", "site"]
