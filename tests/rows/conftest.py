"""A row function over a server that answers in capitals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from echo import Echo, echo

from headway import Limits
from headway.rows import Ask

__all__ = ["echo"]


@pytest.fixture
def make(echo: Echo) -> Iterator[Callable[..., Ask]]:
    made = []

    def one(**options: Any) -> Ask:
        given = {
            "prompt": "say: {text}", "model": "m", "base_url": echo.url, "api_key": "a-key",
            "limits": Limits(concurrency=8), **options,
        }  # fmt: skip
        made.append(Ask(**given))
        return made[-1]

    yield one
    for ask in made:
        ask.close()
