"""What a run shows while it goes on, and the summary at its end. Everything goes to stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from headway.bulk.run import Report
from headway.errors import MissingExtra
from headway.events import Kind

try:
    from rich.console import Console
    from rich.live import Live
    from rich.logging import RichHandler
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text
except ImportError as error:  # pragma: no cover - needs an environment without the extra
    raise MissingExtra(
        "headway run shows its progress with rich, which is not installed. "
        "Install it with: pip install 'headway[cli]'"
    ) from error

__all__ = [
    "Display",
    "PlainDisplay",
    "TerminalDisplay",
    "display",
    "logging_to",
    "stderr",
    "summary",
]

_PLAIN_EVERY = 10.0  # seconds
_REFUSALS = (Kind.RATE, Kind.TOKENS, Kind.CONCURRENCY, Kind.CAPACITY)


class Display(Protocol):
    """Shows reports of a run; `last` is the latest, None before the first."""

    last: Report | None

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def __call__(self, report: Report) -> None: ...


def stderr() -> Console:
    """The console of a run: what it says is not its output."""
    return Console(stderr=True, highlight=False)


def display(console: Console) -> Display:
    """A live display on a terminal, plain lines now and then elsewhere."""
    return TerminalDisplay(console) if console.is_terminal else PlainDisplay(console)


class TerminalDisplay:
    """A bar and two lines, drawn in place."""

    def __init__(self, console: Console) -> None:
        self.last: Report | None = None
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.__exit__(exc_type, exc, traceback)

    def __call__(self, report: Report) -> None:
        self.last = report
        bar = ProgressBar(total=max(1, report.total), completed=report.rows)
        counts = Text.assemble(
            (f"{report.rows:,}", "bold"),
            f" of {report.total:,} lines, ",
            (f"{report.done:,} done", "green"),
            ", ",
            (f"{_failures(report)} failed", "red" if report.failed else ""),
            f", {report.in_flight:,} in flight",
        )
        drawn = Table.grid(expand=True)
        for row in (bar, counts, Text(_pace(report))):
            drawn.add_row(row)
        self._live.update(drawn, refresh=True)


class PlainDisplay:
    """A line every ten seconds, for logs."""

    def __init__(self, console: Console) -> None:
        self.last: Report | None = None
        self._console = console
        self._due = _PLAIN_EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def __call__(self, report: Report) -> None:
        self.last = report
        if report.seconds < self._due:
            return
        self._due = report.seconds + _PLAIN_EVERY
        self._console.print(
            f"{report.done:,} of {report.total:,} done, {_failures(report)} failed, "
            f"{report.in_flight:,} in flight; {_pace(report)}",
            soft_wrap=True,
            highlight=False,
        )


@contextmanager
def logging_to(console: Console) -> Iterator[None]:
    """The library's log on `console`, above a live display instead of across it."""
    logger = logging.getLogger("headway")
    handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
    handler.addFilter(_is_news)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _is_news(record: logging.LogRecord) -> bool:
    """Not a refused key or an empty account: they end the run, whose last line says it better."""
    return not record.getMessage().startswith((f"{Kind.AUTH}: ", f"{Kind.QUOTA}: "))


def summary(report: Report) -> Table:
    """How a run ended, as a table of two columns."""
    table = Table.grid(padding=(0, 2))
    table.add_row("done", f"{report.done:,} of {report.total:,} lines")
    if report.failed:
        table.add_row("failed", _failures(report))
    if report.remaining:
        table.add_row("not answered", f"{report.remaining:,} lines have no row")
    table.add_row("refused", _refusals(report))
    if faults := _faults(report):
        table.add_row("faults", faults)
    table.add_row("tokens", f"{report.tokens:,}")
    table.add_row("time", _duration(report.seconds))
    table.add_row("rate", f"{report.sent:,} attempts, {_rate(report)}")
    table.add_row("rows", str(report.output) if report.rows else "none written")
    return table


def _pace(report: Report) -> str:
    parts = [_rate(report), f"refused: {_refusals(report)}"]
    if faults := _faults(report):
        parts.append(f"faults: {faults}")
    return "; ".join([*parts, _eta(report)])


def _rate(report: Report) -> str:
    """Attempts per minute so far, against the limit. The first one starts the clock."""
    pace = max(0, report.sent - 1) / report.seconds * 60 if report.seconds else 0.0
    if report.limit is None:
        return f"{pace:,.0f}/min (no limit given)"
    return f"{pace:,.0f}/min of {report.limit * 60:,.5g}/min"


def _failures(report: Report) -> str:
    """How many lines failed, and of what."""
    failed = sum(report.failed.values())
    by_code = ", ".join(f"{count:,} {code}" for code, count in sorted(report.failed.items()))
    return f"{failed:,} ({by_code})" if by_code else f"{failed:,}"


def _refusals(report: Report) -> str:
    """How many attempts the provider refused, by kind."""
    counts = ((kind, report.refused.get(kind, 0)) for kind in _REFUSALS)
    return ", ".join(f"{count:,} {kind}" for kind, count in counts if count) or "none"


def _faults(report: Report) -> str:
    """How many attempts met a fault that may be gone next time, and what the last one was."""
    count = report.refused.get(Kind.TRANSIENT, 0)
    if not count:
        return ""
    return f"{count:,} (the last: {report.fault})" if report.fault else f"{count:,}"


def _eta(report: Report) -> str:
    if not report.rows:
        return "no line finished yet"
    return f"about {_duration(report.seconds / report.rows * report.remaining)} left"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
