"""Packages of the extras dev and engines that only tests want: without one of them its tests are
skipped, and fail with CI=true, where nothing is to be skipped in silence.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import pytest


def of_dev(name: str) -> Any:
    """The module of that name, of a package that ``pip install -e '.[dev]'`` installs."""
    return _of(name, "dev")


def of_engines(name: str) -> Any:
    """The same of a package that ``pip install -e '.[engines]'`` installs: they are large."""
    return _of(name, "engines")


def _of(name: str, extra: str) -> Any:
    if os.environ.get("CI") == "true":
        return import_module(name)
    return pytest.importorskip(name, reason=f"of the extra {extra}: pip install -e '.[{extra}]'")
