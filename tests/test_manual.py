"""The manual is whole: links lead somewhere, and nothing public is told in a docstring alone."""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
from pages import DOCS, PAGES, ROOT, name_of, prose, text_of

import headway
from headway import HeadwayError, events
from headway.cli import build

# Where people look for an option: not in what is told of the project itself.
OF_THE_PROJECT = {DOCS / f"{name}.md" for name in ("benchmarks", "changelog", "design", "release")}
TOLD = "\n".join(text_of(page) for page in PAGES if page not in OF_THE_PROJECT)
MODULES = [
    module
    for page in sorted((DOCS / "api").glob("headway*.rst"))
    for module in re.findall(r"automodule:: (\S+)", text_of(page))
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def slug(heading: str) -> str:
    """The anchor that GitHub and MyST give to `heading`."""
    shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(page), re.M)}


def wrong_link(page: Path, target: str) -> str | None:
    """What is wrong with a link to `target` on `page`."""
    parts = urlsplit(target)
    if parts.scheme:
        return None if parts.scheme == "https" and parts.netloc else "is no https address"
    there = (page.parent / parts.path).resolve() if parts.path else page
    if not there.exists():
        return "leads nowhere"
    if parts.fragment and parts.fragment not in anchors(there):
        return "names no heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    found = [(target, wrong_link(page, target)) for target in LINK.findall(prose(page))]
    assert [each for each in found if each[1]] == []


@pytest.mark.parametrize(
    ("target", "wrong"),
    [
        ("design.md#words", None),
        ("#bulk-runs", None),
        ("https://example.com/a#b", None),
        ("nowhere.md", "leads nowhere"),
        ("design.md#nothing", "names no heading"),
        ("http://example.com", "is no https address"),
    ],
)
def test_wrong_links_are_found(target: str, wrong: str | None) -> None:
    assert wrong_link(DOCS / "bulk.md", target) == wrong


def test_links_of_the_readme_to_the_repository_lead_somewhere() -> None:
    """The README is read on the registry too, so that its links are whole addresses."""
    here = "https://github.com/headway-py/headway/blob/main/"
    targets = [t.removeprefix(here) for t in LINK.findall(TOLD) if t.startswith(here)]
    assert targets
    assert [each for each in targets if wrong_link(ROOT / "README.md", each)] == []


def test_every_page_has_its_place_in_the_manual() -> None:
    order = text_of(DOCS / "_toc.yml")
    placed = re.findall(r"(?:root|file): (\S+)", order)
    pages = [page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")]
    assert sorted(placed) == sorted({*pages, "api/cli"})
    assert "glob: api/headway*" in order


def test_the_readme_is_short() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= 150


def faces(module: ModuleType) -> Iterator[tuple[str, object]]:
    """What can be called in `module`: functions, classes that people make, and their methods."""
    for name in getattr(module, "__all__", ()):
        thing = getattr(module, name)
        if inspect.isclass(thing) and not issubclass(thing, enum.Enum | BaseException):
            yield name, thing
            for method, face in inspect.getmembers(thing, inspect.isroutine):
                home = getattr(face, "__module__", None) or ""
                if not method.startswith("_") and home.startswith("headway"):
                    yield f"{name}.{method}", face
        elif inspect.isfunction(thing):
            yield name, thing


def options(face: object) -> Iterator[str]:
    """The names of what may be left out of a call of `face`, or is said by name."""
    for each in inspect.signature(face).parameters.values():  # type: ignore[arg-type]
        if each.kind is each.KEYWORD_ONLY or (
            each.kind is each.POSITIONAL_OR_KEYWORD and each.default is not each.empty
        ):
            yield each.name


@cache
def standing() -> set[str]:
    """What stands in the manual as an option does: `name=`, or behind a backtick."""
    return {name or quoted for name, quoted in re.findall(r"\b(\w+)=|`(\w+)", TOLD)}


def stands(option: str) -> bool:
    return option in standing()


def test_every_option_of_the_api_stands_in_the_manual() -> None:
    missing = {
        f"{module.__name__}.{name}({option}=)"
        for module in map(importlib.import_module, MODULES)
        for name, face in faces(module)
        for option in options(face)
        if not stands(option)
    }
    assert sorted(missing) == []


def test_every_option_of_the_command_stands_in_the_manual() -> None:
    missing = [
        f"{name} {flag}"
        for name, command in commands("headway", typer.main.get_command(build()))
        for parameter in command.params
        for flag in [*parameter.opts, *parameter.secondary_opts]
        if flag.startswith("--") and not re.search(rf"{flag}(?![\w-])", TOLD)
    ]
    assert missing == []


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """`command` and those below it, with their names."""
    yield name, command
    for below, each in getattr(command, "commands", {}).items():
        yield from commands(f"{name} {below}", each)


@pytest.mark.parametrize("kind", [HeadwayError, events.Event])
def test_every_error_and_event_stands_in_troubleshooting(kind: type) -> None:
    page = text_of(DOCS / "troubleshooting.md")
    module = headway if kind is HeadwayError else events
    things = [getattr(module, name) for name in module.__all__]
    names = [
        each.__name__
        for each in things
        if inspect.isclass(each) and issubclass(each, kind) and each is not kind
    ]
    assert len(names) > 10
    assert [name for name in names if not re.search(rf"\b{name}\b", page)] == []


def test_what_stands_nowhere_is_found() -> None:
    assert not stands("no_such_option")
    assert stands("concurrency")
