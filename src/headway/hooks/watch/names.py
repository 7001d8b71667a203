"""The names under which keys of jobs, and what is said of a scheduler, leave the process."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from math import isfinite
from typing import Any

from headway.errors import HeadwayError
from headway.kinds._words import printable, redacted, shown

__all__ = ["key_named", "plain", "safe_names"]


def plain(value: Any) -> Any:
    """`value`, strict JSON, with no secret and nothing that moves a cursor in its texts."""
    if isinstance(value, str):
        return printable(redacted(value))
    if isinstance(value, dict):
        names = safe_names(value)
        return {names[key]: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """What each of `names` is shown as: those that would be shown alike are numbered."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        wanted = said = printable(redacted(name))
        number = 1
        while said in taken:
            number += 1
            said = f"{wanted} ({number})"
        taken.add(said)
        found[name] = said
    return found


def key_named(scheduler: Any, said: str) -> Hashable:
    """The key of jobs that is shown as `said`. Raises `HeadwayError` where none is."""
    names = safe_names(scheduler.statistics().keys)
    inner = next((name for name, safe in names.items() if safe == said), None)
    for key in scheduler._shell.state.flows:
        if inner in (str(key), f"{key} ({type(key).__name__})"):
            found: Hashable = key
            return found
    known = ", ".join(list(names.values())[:10]) or "none yet"
    raise HeadwayError(f"no job had the key {shown(said)}", fix=f"one of: {known}.")
