"""The sources of headway, as tests of their text see them."""

from __future__ import annotations

import ast
import gc
from functools import cache
from pathlib import Path

import headway

SOURCE = Path(headway.__file__).parent


@cache
def parsed(path: Path) -> list[ast.AST]:
    """Every node of a file."""
    gc.disable()  # all of them stay, and are many
    try:
        return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    finally:
        gc.enable()
