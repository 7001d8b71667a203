"""Packages of the extras dev, engines and frameworks that only tests want: without one of them its
tests are skipped, and fail with CI=true, where nothing is to be skipped in silence.
"""

from __future__ import annotations

import gc
import os
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest


def of_dev(name: str) -> Any:
    """The module of that name, of a package that ``pip install -e '.[dev]'`` installs."""
    return _of(name, "dev")


def of_engines(name: str) -> Any:
    """The same of a package that ``pip install -e '.[engines]'`` installs: they are large."""
    return _of(name, "engines")


def of_frameworks(name: str) -> Any:
    """The same of a package that ``pip install -e '.[frameworks]'`` installs: there are many."""
    return _of(name, "frameworks")


def _of(name: str, extra: str) -> Any:
    if find_spec(name.partition(".")[0]) is None:
        if os.environ.get("CI") == "true":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        hint = f"of the extra {extra}: pip install -e '.[{extra}]'"
        pytest.skip(f"could not import {name!r}: {hint}", allow_module_level=True)
    return _Later(name)


def imported(name: str) -> ModuleType:
    """The module of that name. What its import makes stays: no collection goes through it, now or
    later, which takes a test more than the import.
    """
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()


class _Later:
    """A module that is imported when it is first used: each process collects every test."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _module(self) -> Any:
        return imported(self._name)

    def __getattr__(self, member: str) -> Any:
        if member.startswith("_"):  # pytest asks each name of a test's module for some of them
            raise AttributeError(member)
        return getattr(self._module, member)
