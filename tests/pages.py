"""The pages that people read, as the tests of the documentation see them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# What the build writes from the command's own help (docs/conf.py) is no page of ours.
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if page != DOCS / "api" / "cli.md"),
]


def text_of(page: Path) -> str:
    """The text of `page`."""
    return page.read_text("utf-8")


def name_of(page: Path) -> str:
    """How a test names `page`."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of `page` that say that they are of `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.M | re.S)


def prose(page: Path) -> str:
    """The text of `page` without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S)
