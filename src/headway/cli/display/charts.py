"""Small charts of text, for terminals of any width, with colours or without."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["bar", "columns", "rows"]

_BLOCKS = " ▁▂▃▄▅▆▇█"
_PLAIN = " .:-=+*%#"  # for terminals without blocks
_LONGEST = 240.0  # seconds that a chart goes back at most


def columns(width: int, elapsed: float) -> float:
    """The seconds of one column, where `width` columns show the last minutes of `elapsed` seconds:
    one at least, so that the charts of the first minute grow.
    """
    return max(1.0, min(elapsed, _LONGEST) / max(1, width))


def rows(
    values: Sequence[float], most: float, *, height: int = 1, plain: bool = False
) -> list[str]:
    """`values` as columns of `height` lines, the top one first; `most` is the full height. What is
    above 0 is seen, however small.
    """
    blocks = _PLAIN if plain else _BLOCKS
    full = len(blocks) - 1
    steps = [_steps(value, most, full * height) for value in values]
    return [
        "".join(blocks[min(full, max(0, step - line * full))] for step in steps)
        for line in reversed(range(height))
    ]


def _steps(value: float, most: float, whole: int) -> int:
    if value <= 0 or most <= 0:
        return 0
    return max(1, min(whole, round(value / most * whole)))


def bar(share: float, width: int, *, plain: bool = False) -> str:
    """A share, from 0 to 1, of so many columns."""
    filled = round(min(1.0, max(0.0, share)) * width)
    full, rest = ("#", "-") if plain else ("█", "░")
    return full * filled + rest * (width - filled)
