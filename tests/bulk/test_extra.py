"""Without the packages of headway[cli] it is said which one lacks, and what to install."""

from __future__ import annotations

import importlib
import sys

import pytest

from headway import MissingExtra


@pytest.mark.parametrize("module", ["headway.bulk", "headway.rows"])
@pytest.mark.parametrize("package", ["msgspec", "filelock"])
def test_without_a_package(package: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("headway.rows")  # so that it is put back
    for name in [*sys.modules]:
        if name.startswith(("headway.bulk", "headway.rows", f"{package}.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra) as raised:
        importlib.import_module(module)
    assert str(raised.value) == (
        f"bulk runs, and headway.rows, need {package}, which is not installed. Fix: install it "
        "with: pip install 'headway[cli]'"
    )
