"""Text as a page can hold it."""

from __future__ import annotations

import html

__all__ = ["escape", "plain"]


def plain(value: object) -> str:
    """Text without control characters, nor what UTF-8 cannot hold: they are replaced."""
    text = str(value).encode("utf-8", "replace").decode()
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def escape(value: object) -> str:
    """Plain text for HTML, quotes too."""
    return html.escape(plain(value))
