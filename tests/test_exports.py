"""The public names, pinned by hand, and that each of them says what it is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import headway

PUBLIC = [
    "DeadlineExceeded",
    "HeadwayError",
    "InvalidLimit",
    "Kind",
    "Latched",
    "Lease",
    "Limits",
    "MissingExtra",
    "NeverFits",
    "Outcome",
    "QueueFull",
    "Rate",
    "Recent",
    "Refused",
    "Retry",
    "Scheduler",
    "SchedulerClosed",
    "Statistics",
    "Unavailable",
    "View",
    "WrongLoop",
]

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(headway.__path__, "headway.")
    if not module.name.endswith("__main__")
)


def public(module: Any) -> Iterator[tuple[str, Any]]:
    """The classes and functions of a module that it names in `__all__`, and their methods."""
    for name in getattr(module, "__all__", ()):
        thing = getattr(module, name)
        if not inspect.isclass(thing) and not inspect.isfunction(thing):
            continue
        yield name, thing
        if inspect.isclass(thing):
            for method, member in vars(thing).items():
                member = getattr(member, "fget", None) or getattr(member, "__func__", member)
                if not method.startswith("_") and inspect.isfunction(member):
                    yield f"{name}.{method}", member


def test_the_public_names() -> None:
    assert headway.__all__ == PUBLIC
    assert all(hasattr(headway, name) for name in PUBLIC)
    others = {
        name
        for name, thing in vars(headway).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    }
    assert others == set(PUBLIC)


def test_the_version() -> None:
    assert all(part.isdigit() for part in headway.__version__.split("."))


@pytest.mark.parametrize("name", MODULES)
def test_every_module_names_what_is_public_and_documents_it(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    own = {what for what, thing in vars(module).items() if _made_in(thing, name)}
    if own:
        assert hasattr(module, "__all__"), f"{name} does not say what is public"
        assert set(module.__all__) <= set(vars(module))
    for what, thing in public(module):
        doc = inspect.getdoc(thing)
        assert doc, f"{name}.{what} has no docstring"
        assert not doc.startswith(f"{what}("), f"{name}.{what}: a dataclass's own signature"


def _made_in(thing: object, module: str) -> bool:
    made = inspect.isclass(thing) or inspect.isfunction(thing)
    return made and getattr(thing, "__module__", "") == module
