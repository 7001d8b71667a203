"""A process that is killed between any two of its steps on files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

STEPS = ("unlink", "rename", "replace", "mkdir", "rmdir", "write", "truncate", "open", "fsync")


def killed_after(step: int, work: Callable[[], object], steps: Sequence[str] = STEPS) -> bool:
    """Do `work` in a child that ends after so many of its steps on files; whether it did end."""
    child = os.fork()
    if child == 0:
        left = [step]

        def counting(function: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **options: Any) -> Any:
                result = function(*args, **options)
                left[0] -= 1
                if left[0] == 0:
                    os._exit(9)
                return result

            return counted

        try:
            for name in steps:
                setattr(os, name, counting(getattr(os, name)))
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
