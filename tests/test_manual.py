"""The manual is whole: links lead somewhere, and nothing public is told in a docstring alone."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pages import DOCS, PAGES, ROOT, name_of, prose, text_of

TOLD = "\n".join(text_of(page) for page in PAGES)
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
