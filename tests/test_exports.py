"""The public names, pinned by hand, and that each of them says what it is."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

import headway
from headway import bulk, events

PUBLIC = [
    "Advance",
    "AlreadyUsed",
    "AsCompleted",
    "Binds",
    "Cleared",
    "Cost",
    "DeadlineExceeded",
    "Ended",
    "Failure",
    "HeadwayError",
    "InvalidArgument",
    "InvalidLimit",
    "KeyStatistics",
    "Kind",
    "Latched",
    "Lease",
    "LimitName",
    "LimitStatistics",
    "Limiter",
    "Limits",
    "Map",
    "MissingExtra",
    "Moves",
    "NeverFits",
    "Outcome",
    "QueueFull",
    "Rate",
    "Recent",
    "Refused",
    "Retried",
    "Retry",
    "Scheduler",
    "SchedulerClosed",
    "Shared",
    "SharedStatistics",
    "Statistics",
    "StoreUnavailable",
    "TokenRate",
    "Unavailable",
    "View",
    "Wait",
    "Watched",
    "WrongLoop",
    "watch",
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


def test_every_module_names_what_is_public_and_documents_it() -> None:
    assert len(MODULES) > 200
    unsaid = [each for name in MODULES for each in _unsaid(name)]
    assert not unsaid, "\n".join(unsaid)


def _unsaid(name: str) -> Iterator[str]:
    """What the module of that name does not say of itself."""
    module = importlib.import_module(name)
    if not module.__doc__:
        yield f"{name} has no docstring"
    own = {what for what, thing in vars(module).items() if _made_in(thing, name)}
    if own:
        if not hasattr(module, "__all__"):
            yield f"{name} does not say what is public"
        elif not all(hasattr(module, each) for each in module.__all__):
            yield f"{name} exports what it does not have"
            return
    for what, thing in public(module):
        doc = inspect.getdoc(thing)
        if not doc:
            yield f"{name}.{what} has no docstring"
        elif doc.startswith(f"{what}("):
            yield f"{name}.{what}: a dataclass's own signature"


def _made_in(thing: object, module: str) -> bool:
    made = inspect.isclass(thing) or inspect.isfunction(thing)
    return made and getattr(thing, "__module__", "") == module


HEADWAY = [getattr(headway, name) for name in PUBLIC]
BULK = [getattr(bulk, name) for name in bulk.__all__]


def classes(things: list[Any]) -> list[type]:
    return [each for each in things if inspect.isclass(each)]


def _is_kept(each: type) -> bool:
    return pickle.loads(pickle.dumps(each)) is each


def test_a_public_class_is_shown_where_a_user_imports_it() -> None:
    assert [
        each
        for each in classes(HEADWAY)
        if each.__module__ != "headway"
        or repr(each) not in (f"<class 'headway.{each.__name__}'>", f"<enum '{each.__name__}'>")
        or not _is_kept(each)
    ] == []


def test_a_class_of_bulk_is_shown_where_a_user_imports_it() -> None:
    rooms = ("headway.bulk", "headway.prices", "headway.providers")
    assert [
        each for each in classes(BULK) if each.__module__ not in rooms or not _is_kept(each)
    ] == []


def returned(hint: Any) -> Iterator[type]:
    """The classes of headway's that an annotation names."""
    if inspect.isclass(hint) and hint.__module__.startswith("headway"):
        yield hint
    for part in (typing.get_origin(hint), *typing.get_args(hint)):
        if part is not None and not isinstance(part, str):
            yield from returned(part)


def face(things: list[Any]) -> Iterator[tuple[str, Any]]:
    """Functions, and the public methods, properties and fields of classes: with their hints."""
    for each in things:
        if inspect.isfunction(each):
            yield each.__name__, typing.get_type_hints(each).get("return")
        if not inspect.isclass(each):
            continue
        for name, hint in typing.get_type_hints(each).items():
            if not name.startswith("_"):
                yield f"{each.__name__}.{name}", hint
        for name, member in vars(each).items():
            function = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")):
                yield f"{each.__name__}.{name}", typing.get_type_hints(function).get("return")


INTERNAL = {"Retry.reopening"}  # the core's


@pytest.mark.parametrize(("where", "things"), [("headway", HEADWAY), ("headway.bulk", BULK)])
def test_what_a_public_call_returns_is_public(where: str, things: list[Any]) -> None:
    known = {*classes([*HEADWAY, *BULK, *vars(events).values()])}
    found = {name: [*returned(hint)] for name, hint in face(things) if name not in INTERNAL}
    assert len([name for name, made in found.items() if made]) > 5
    for name, made in found.items():
        assert set(made) <= known, f"{where}.{name} returns what {where} does not export"


def test_the_hints_of_public_values_resolve_for_others() -> None:
    outcome = headway.Outcome(1, "a", None, 1, 0.5, 0)
    assert copy.deepcopy(outcome) == pickle.loads(pickle.dumps(outcome)) == outcome
    fields = {each.name: each.type for each in dataclasses.fields(headway.Statistics)}
    assert fields["recent"] is headway.Recent
    assert fields["binds"] is headway.Binds
    statistics = headway.Scheduler().statistics()
    assert TypeAdapter(headway.Statistics).validate_python(statistics) is statistics
    assert set(TypeAdapter(headway.Statistics).json_schema()["properties"]) == set(fields)
    hints = typing.get_type_hints(headway.Scheduler.__init__)
    assert headway.Limiter in typing.get_args(hints["requests"])
