"""What all benchmarks print: the machine, tables in markdown, targets met or missed."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version

__all__ = ["environment", "table", "targets"]


def environment(*packages: str) -> str:
    """The machine and the versions of `packages`, in one line."""
    parts = [
        f"{platform.python_implementation()} {platform.python_version()}",
        f"{os.cpu_count()} cores",
        platform.platform(terse=True),
        *(f"{package} {version(package)}" for package in packages),
    ]
    return ", ".join(parts)


def table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; all columns but the first are numbers, to the right."""
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = cells
        padded = [first.ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:]), ""])
    return "\n".join([f"### {title}", "", line(headers), rule, *map(line, rows), ""])


def targets(checks: Sequence[tuple[str, float, float]]) -> tuple[str, bool]:
    """Lines that say for each ``(what, measured, at most)`` whether it was met, and if all were."""
    lines = [
        f"- {'met' if measured <= most else 'MISSED'}: {what}: {measured:.2f}, at most {most:g}"
        for what, measured, most in checks
    ]
    return "\n".join(lines), all(measured <= most for _, measured, most in checks)
