"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from commands import Gated


@pytest.fixture
def gated() -> Iterator[Gated]:
    server = Gated()
    yield server
    server.close()
