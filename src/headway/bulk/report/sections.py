"""The sections of the page, in their order: for each a function that computes what it says.

Its template, ``templates/<name>.html``, gets the result as `it`. A section is added with a
function, a template and a line in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headway.bulk.report import overtime, overview, rows
from headway.bulk.report.measured import Content, Measured

__all__ = ["SECTIONS", "Section"]


@dataclass(frozen=True, slots=True)
class Section:
    """A section: the name of its template, and what it says (None: it is left out).

    Two `half` sections that follow one another stand side by side where there is room.
    """

    name: str
    make: Callable[[Measured], Content | None]
    half: bool = False


SECTIONS = (
    Section("header", overview.header),
    Section("lead", overview.lead),
    Section("cards", overview.cards),
    Section("progress", overview.progress),
    Section("flow", overtime.flow),
    Section("latency", overtime.latency),
    Section("tokens", overtime.tokens),
    Section("unmeasured", overtime.unmeasured),
    Section("attempts", rows.attempts, half=True),
    Section("sessions", rows.sessions, half=True),
    Section("models", rows.models),
    Section("errors", rows.errors),
    Section("footer", overview.footer),
)
