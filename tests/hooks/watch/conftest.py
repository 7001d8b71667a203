"""A folder for the sockets of one test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from watched import sockets


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with sockets(monkeypatch) as found:
        yield found
