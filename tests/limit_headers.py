"""Headers of limits, and what they are read as."""

from __future__ import annotations

from typing import Any

from headway.hints import LimitHint


def hint(what: Any, limit: Any, remaining: Any = None, reset: Any = None, per: Any = None,
         dynamic: bool = False) -> LimitHint:  # fmt: skip
    return LimitHint(what, limit, remaining, reset, per, dynamic)


def three(template: str, limit: str, remaining: str, reset: str) -> dict[str, str]:
    names = (template.format(name) for name in ("limit", "remaining", "reset"))
    return dict(zip(names, (limit, remaining, reset), strict=True))
