"""What each process pays before its first test."""

from __future__ import annotations

import inspect
import sys

import pytest
from packages import of_dev


@pytest.mark.parametrize("name", ["_mock_name", "__wrapped__", "__test__"])
def test_what_pytest_asks_of_each_name_imports_no_package(name: str) -> None:
    package = of_dev("wave")  # nobody uses it
    assert not hasattr(package, name)
    assert inspect.unwrap(package) is package
    assert "wave" not in sys.modules
