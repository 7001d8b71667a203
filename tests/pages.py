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


def languages(page: Path) -> set[str]:
    """What the code blocks of `page` say that they are of; "" where one says nothing."""
    return set(re.findall(r"^ *```(.*)$", text_of(page), re.M)[::2])


def file_name(block: str, number: int) -> str:
    """The name of the file that `block` says to save it in, or one by its `number`."""
    found = re.match(r"# (\w+\.py)\n", block)
    return found[1] if found else f"block_{number}.py"


def printed_by(page: Path) -> list[str | None]:
    """What `page` says that each of its Python blocks prints: the block of text right after it."""
    found = re.finditer(
        r"^```python\n.*?^```$(?:\n\n```text\n(.*?)^```$)?", text_of(page), re.M | re.S
    )
    return [each[1] for each in found]


def prose(page: Path) -> str:
    """The text of `page` without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S)
