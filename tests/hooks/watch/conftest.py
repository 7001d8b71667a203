"""A folder for the sockets of one test, and real time, for no clock moves a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from watched import sockets


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with sockets(monkeypatch) as found:
        yield found


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both, on real time."""
    name: str = request.param
    return name
