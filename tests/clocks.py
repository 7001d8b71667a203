"""The event loops of the tests: those on virtual time that `headway.testing` gives to users."""

from __future__ import annotations

from functools import partial

from headway.testing.clock import BACKENDS, VirtualLoop, virtual_backend

__all__ = ["VIRTUAL", "VirtualLoop"]

VIRTUAL = {name: partial(virtual_backend, name) for name in BACKENDS}
