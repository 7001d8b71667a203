"""Both backends, on virtual time, for every async test; real time where a module asks for it."""

from __future__ import annotations

from typing import Any

import pytest
from clocks import VIRTUAL
from hypothesis import HealthCheck, settings
from sites import site

# How long a machine takes is no property of the code: the first text alone builds a table for 1 s.
settings.register_profile("headway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("headway")


@pytest.fixture(params=sorted(VIRTUAL))
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Asyncio and trio on clocks that jump. A module on real time overrides this fixture."""
    return VIRTUAL[request.param]()


__all__ = ["anyio_backend", "site"]
