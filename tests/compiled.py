"""What a fresh checkout lacks, compiled before the workers of pytest-xdist start.

To rewrite the assertions of all tests takes 14 s of CPU, and each worker would do it for all of
them at the same time. Here each core does a part of them.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from importlib.util import module_from_spec
from multiprocessing import get_context
from pathlib import Path
from py_compile import compile as compile_file

_HERE = Path(__file__).parent
_SOURCE = _HERE.parent / "src"


def compile_all() -> None:
    """Compile each file of the tests and of the source that was never compiled."""
    if sys.dont_write_bytecode:
        return
    source = sorted(_SOURCE.rglob("*.py"))
    # headway is a plugin of pytest's, so that its assertions are rewritten too.
    tests = [*sorted(_HERE.rglob("test_*.py")), *source]
    tests = [each for each in tests if not is_compiled(each, "-pytest-*")]
    source = [each for each in source if not is_compiled(each, "")]
    if tests or source:
        with ProcessPoolExecutor(os.cpu_count(), get_context("fork")) as processes:
            both = processes.map(rewrite, tests), processes.map(compile_file, source)
            for each in both:
                list(each)


def is_compiled(file: Path, kind: str) -> bool:
    """Whether an interpreter like this one has kept what it made of `file`; pytest has its own."""
    name = f"{file.stem}.{sys.implementation.cache_tag}{kind}.pyc"
    return any(file.parent.glob(f"__pycache__/{name}"))


def rewrite(file: Path) -> None:
    """Let pytest's import hook rewrite `file` and keep the result, without running it."""
    name, folder = file.stem, file.parent
    if file.is_relative_to(_SOURCE):
        parts = file.relative_to(_SOURCE).with_suffix("").parts
        if name == "__init__":
            parts, folder = parts[:-1], folder.parent
        name = ".".join(parts)
    found = (each.find_spec(name, [str(folder)]) for each in sys.meta_path)
    spec = next(each for each in found if each is not None)
    assert spec.loader is not None
    module = module_from_spec(spec)
    module.__dict__["__builtins__"] = {}  # so it ends at its first import or class
    with suppress(ImportError, NameError):
        spec.loader.exec_module(module)
