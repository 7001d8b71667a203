"""Rows of a test that each take less time than pytest needs for a test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from inspect import iscoroutinefunction, signature
from typing import Any

import pytest

Test = Callable[..., None]


def each(names: str, rows: Iterable[Any]) -> Callable[[Test], Test]:
    """In the place of ``parametrize``: one test goes through all rows, and tells every one that
    fails. For a test without fixtures, of which each row would want its own.
    """
    keys = [name.strip() for name in names.split(",")]
    found = [values_of(row, len(keys)) for row in rows]
    assert found

    def decorate(test: Test) -> Test:
        assert not iscoroutinefunction(test)

        @wraps(test)
        def every(**others: Any) -> None:
            failed = []
            for values in found:
                try:
                    test(**dict(zip(keys, values, strict=True)), **others)
                except (Exception, pytest.fail.Exception) as error:
                    error.add_note(f"{names}: {', '.join(map(repr, values))}")
                    failed.append(error)
            if failed:
                raise BaseExceptionGroup(f"{len(failed)} of {len(found)} rows fail", failed)

        own = signature(test)
        assert own.parameters.keys() >= {*keys}
        others = [one for name, one in own.parameters.items() if name not in keys]
        every.__signature__ = own.replace(parameters=others)  # type: ignore[attr-defined]
        return every

    return decorate


def values_of(row: Any, count: int) -> tuple[Any, ...]:
    """The values of a row, as ``parametrize`` takes it: alone where there is one."""
    if isinstance(row, type(pytest.param())):
        assert not row.marks
        return tuple(row.values)
    return (row,) if count == 1 else tuple(row)
