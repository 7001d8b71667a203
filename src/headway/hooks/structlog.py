"""The lines of the logger ``headway`` for structlog, with what they tell of as fields.

scheduler = Scheduler("600/min", on_event=StructLog())
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from headway.errors import MissingExtra
from headway.events import Event
from headway.hooks.log import Log, cleaned

try:
    import structlog
except ImportError as error:
    raise MissingExtra(
        "lines for structlog need the package structlog, which is not installed",
        fix="install it with: pip install 'headway[structlog]'",
    ) from error

__all__ = ["StructLog"]


class StructLog(Log):
    """Writes what `Log` writes, when it writes it, to structlog instead, as `structlog.configure`
    says: the line is the event, and each field of headway's event a field beside it.

        scheduler = Scheduler("600/min", on_event=StructLog())
    """

    def __init__(self) -> None:
        super().__init__()
        self._logger = structlog.stdlib.get_logger("headway")

    def _write(self, level: int, event: Event, text: str, *values: object) -> None:
        self._logger.log(
            level,
            cleaned(text % values),
            **{each.name: _plain(getattr(event, each.name)) for each in fields(event)},
        )


def _plain(value: object) -> object:
    """`value` as any renderer takes it, and as a log may hold it."""
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, tuple):  # a key
        return tuple(map(_plain, value))
    return dict(value) if isinstance(value, Mapping) else value
