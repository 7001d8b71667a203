"""What each process pays before its first test."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest
from compiled import is_compiled, rewrite
from packages import of_dev


def test_a_file_is_rewritten_and_kept_and_not_run(tmp_path: Path) -> None:
    file = tmp_path / "test_some.py"
    file.write_text("import sys\nsys.some_test_ran = True\nassert not sys.some_test_ran\n")
    rewrite(file)
    assert is_compiled(file, "-pytest-*")
    (kept,) = file.parent.glob("__pycache__/*.pyc")
    assert b"@pytest_ar" in kept.read_bytes()  # what assertions are rewritten with
    assert not hasattr(sys, "some_test_ran")


@pytest.mark.parametrize("name", ["_mock_name", "__wrapped__", "__test__"])
def test_what_pytest_asks_of_each_name_imports_no_package(name: str) -> None:
    package = of_dev("wave")  # nobody uses it
    assert not hasattr(package, name)
    assert inspect.unwrap(package) is package
    assert "wave" not in sys.modules
