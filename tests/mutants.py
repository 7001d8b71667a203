"""Mutants that more than one file of tests needs: functions put in the place of others."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from unittest import mock

import pytest

Mutant = Callable[..., Any]


def nothing(*args: Any, **options: Any) -> None:
    """In the place of what would have done something."""


async def nothing_awaited(*args: Any, **options: Any) -> None:
    """In the place of what would have waited."""


def without(method: Callable[..., Any], where: type, name: str) -> Mutant:
    """`method`, which is not async, and under which the method `name` of `where` does nothing."""

    @wraps(method)
    def mutant(*args: Any, **options: Any) -> Any:
        with mock.patch.object(where, name, nothing):
            return method(*args, **options)

    return mutant


def table(*mutants: tuple[Any, ...]) -> list[Any]:
    """Parameters of a test: what each tuple holds after its first, which names the mutant."""
    return [pytest.param(*rest, id=name) for name, *rest in mutants]
