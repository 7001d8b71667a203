"""Numbers and text as the page says them."""

from __future__ import annotations

import html
import math
from datetime import timedelta

__all__ = ["count", "dollars", "duration", "escape", "percent", "plain", "short", "three"]


def plain(value: object) -> str:
    """Text without control characters, nor what UTF-8 cannot hold: they are replaced."""
    text = str(value).encode("utf-8", "replace").decode()
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def escape(value: object) -> str:
    """Plain text for HTML, quotes too."""
    return html.escape(plain(value))


def duration(seconds: float) -> str:
    """``"3 h 12 min"``, ``"4.2 s"``, ``"35 ms"``."""
    if not seconds < 1e12:
        return "?"
    if seconds < 1e-9:
        return "0 s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(whole.days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    while not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{n} {unit}" for n, unit in parts[:2] if n)


def three(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def count(value: float) -> str:
    """A whole number, with thousands apart."""
    return f"{value:,.0f}"


def short(value: float) -> str:
    """``"1.25M"``, ``"45k"``, ``"0.5"``: three digits."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def dollars(value: float) -> str:
    """Dollars, and cents as far as they matter."""
    if value >= 1000:
        return f"${value:,.0f}"
    if value >= 0.0995 or value == 0:
        return f"${value:.2f}"
    return f"${value:.2g}"


def percent(share: float) -> str:
    """A share as a percentage."""
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 <= share < 1:
        return f"{math.floor(share * 1000) / 10:g}%"
    return f"{round(share * 100, 1 if share < 0.1 else None):g}%"
