"""The names under which keys of jobs, and what is said of a scheduler, leave the process."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from headway.errors import HeadwayError
from headway.kinds._words import printable, redacted, shown, unlike

__all__ = ["clean", "clean_statistics", "key_named", "safe_names"]


def clean(text: str) -> str:
    """`text` without what looks as a secret, and with nothing that moves a cursor."""
    return printable(redacted(text))


def clean_statistics(scheduler: Any) -> dict[str, Any]:
    """The statistics of `scheduler` as strict JSON has them. The names of keys are clean, and `why`
    quotes nobody: what a server or an error said may hold a prompt.
    """
    found: dict[str, Any] = scheduler.statistics().as_dict()
    names = safe_names(found["keys"])
    found["keys"] = {names[name]: counts for name, counts in found["keys"].items()}
    shell = getattr(scheduler, "_shell", None)  # None for what stands in for several elsewhere
    found["why"] = "" if shell is None else clean(shell.state.refusals.cause)
    return found


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """What each of `names` is shown as: those that would be shown alike are numbered."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        found[name] = unlike(clean(name), taken)
        taken.add(found[name])
    return found


def key_named(scheduler: Any, said: str) -> Hashable:
    """The key of jobs that is shown as `said`. Raises `HeadwayError` where none is."""
    names = safe_names(scheduler.statistics().keys)
    inner = next((name for name, safe in names.items() if safe == said), None)
    for key in scheduler._shell.state.flows if inner is not None else ():
        if inner in (str(key), f"{key} ({type(key).__name__})"):
            found: Hashable = key
            return found
    known = ", ".join(list(names.values())[:10]) or "none yet"
    raise HeadwayError(f"no job had the key {shown(said)}", fix=f"one of: {known}.")
