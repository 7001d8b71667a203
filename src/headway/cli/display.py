"""What a run shows while it goes on, and the summary at its end. Everything goes to stderr, but for
the lines of ``--json``, which go to standard output where the rows do not.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from headway import _words as words
from headway.bulk.record.status import Report, early_ends
from headway.errors import MissingExtra
from headway.kinds import Kind, Moves, Retried

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

__all__ = ["Display", "as_json", "display", "logging_to", "stderr", "summary"]

_PLAIN_EVERY = 10.0  # seconds
_JSON_EVERY = 1.0
_ECHO = 4  # columns for the "^C" of a terminal, which would wrap at its edge and leave a bar behind


class Display(Protocol):
    """Shows reports of a run."""

    @property
    def last(self) -> Report | None:
        """The latest, None before the first."""
        ...

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
    # Rich calls a file a terminal where FORCE_COLOR is set: its colours are wanted then, no bar.
    shown = None if sys.stderr is not None and sys.stderr.isatty() else False
    return Console(stderr=True, highlight=False, force_interactive=shown)


def display(console: Console, *, as_lines: TextIO | None = None) -> Display:
    """A live display on a terminal, plain lines now and then elsewhere, JSON to `as_lines`."""
    if as_lines is not None:
        return _Json(as_lines)
    return _Terminal(console) if console.is_interactive else _Plain(console)


class _Shown:
    """What the displays share."""

    last: Report | None

    def __init__(self) -> None:
        self.last = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


class _Terminal(_Shown):
    """A bar and some lines, drawn in place."""

    def __init__(self, console: Console) -> None:
        super().__init__()
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
        drawn = Table.grid(expand=True)
        drawn.width = self._live.console.width - _ECHO
        if report.total is not None:
            drawn.add_row(ProgressBar(total=max(1, report.total), completed=report.rows))
        counts = f" {_of_total(report)}{_share(report)}, "
        drawn.add_row(
            Text.assemble((f"{report.rows:,}", "bold"), counts, (_left(report), "bold cyan"))
        )
        lines = Table.grid(padding=(0, 2))
        for name, value, style in _lines(report):
            lines.add_row(Text(name, "dim"), Text(value, style))
        drawn.add_row(lines)
        self._live.update(drawn, refresh=True)


class _Plain(_Shown):
    """A line every ten seconds, for logs."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._due = _PLAIN_EVERY

    def __call__(self, report: Report) -> None:
        self.last = report
        if report.seconds < self._due:
            return
        self._due = report.seconds + _PLAIN_EVERY
        parts = [
            f"{report.rows:,} {_of_total(report)}{_share(report)}: {report.done:,} answered, "
            f"{_failures(report)} failed, {report.in_flight:,} in flight",
            _rate(report),
            f"held back by {words.binds(report.binds)}",
            f"refused: {_refusals(report)}",
        ]
        if faults := _faults(report):
            parts.append(f"faults: {faults}")
        line = "; ".join([*parts, _left(report)])
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)


class _Json(_Shown):
    """A JSON object a second, for machines."""

    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self._file = file
        self._due = 0.0

    def __call__(self, report: Report) -> None:
        self.last = report
        if report.seconds >= self._due:
            self._due = report.seconds + _JSON_EVERY
            self._write({"event": "progress", **as_json(report)})

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.last is not None:
            self._write({"event": "end", **as_json(self.last)})

    def _write(self, value: dict[str, Any]) -> None:
        print(json.dumps(value), file=self._file, flush=True)


def as_json(report: Report) -> dict[str, Any]:
    """`report` for machines: counts, seconds, dollars; null for what is not known or unlimited."""
    infinite = float("inf")
    return {
        "input": report.input,
        "output": None if report.output is None else str(report.output),
        "total": report.total,
        "done": report.done,
        "failed": dict(report.failed),
        "before": report.before,
        "ambiguous": report.ambiguous,
        "remaining": report.remaining,
        "in_flight": report.in_flight,
        "sent": report.sent,
        "refused": {str(kind): count for kind, count in report.refused.items()},
        "input_tokens": report.input_tokens,
        "output_tokens": report.output_tokens,
        "tokens": report.tokens,
        "cost": round(report.cost, 6),
        "unpriced": report.unpriced,
        "reasons": dict(report.reasons),
        "limit": report.limit,
        "pace": None if report.pace == infinite else report.pace,
        "concurrency": None if report.concurrency == infinite else report.concurrency,
        "binds": report.binds,
        "seconds": round(report.seconds, 3),
        "eta": None if report.eta is None else round(report.eta, 1),
        "stopped": None if report.stopped is None else report.stopped.reason,
        "fault": report.fault,
    }


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
    kind = getattr(record, "headway", None)  # what nothing is sent for
    return not (isinstance(kind, Kind) and kind.moves is Moves.LATCH)


def summary(report: Report) -> Table:
    """How a run ended, as a table of two columns."""
    table = Table.grid(padding=(0, 2))
    table.add_row("done", f"{report.done:,} {_of_total(report)}")
    if report.before:
        table.add_row("before", f"{report.before:,} lines had their row already")
    if report.ambiguous:
        table.add_row("again", f"{report.ambiguous:,} lines that were in flight at a kill")
    if report.failed:
        table.add_row("failed", _failures(report))
    if report.remaining:
        table.add_row("not answered", f"{report.remaining:,} lines have no row")
    for what, said in early_ends(report.reasons):
        table.add_row(what, Text(said))
    table.add_row("refused", _refusals(report))
    if faults := _faults(report):
        table.add_row("faults", faults)
    table.add_row("tokens", _tokens(report))
    if cost := _cost(report):
        table.add_row("cost", cost)
    table.add_row("time", words.duration(report.seconds))
    table.add_row("rate", f"{report.sent:,} attempts, {_rate(report)}")
    if report.output is not None:
        # A path is no markup, whatever brackets it holds.
        table.add_row("rows", Text(str(report.output)) if report.rows else "none written")
    return table


def _lines(report: Report) -> Iterator[tuple[str, str, str]]:
    """Name, value and style of what the live display shows below the bar."""
    most = "" if report.concurrency == float("inf") else f" of {words.count(report.concurrency)}"
    yield "done", f"{report.done:,}", "green"
    if report.failed:
        yield "failed", _failures(report), "red"
    yield "in flight", f"{report.in_flight:,}{most}", ""
    yield "rate", _rate(report), ""
    yield "held back by", words.binds(report.binds), ""
    refusals = _refusals(report)
    yield "refused", refusals, "" if refusals == "none" else "yellow"
    if faults := _faults(report):
        yield "faults", faults, "yellow"
    yield "tokens", _tokens(report), ""
    if cost := _cost(report):
        yield "cost", cost, ""


def _of_total(report: Report) -> str:
    return "lines" if report.total is None else f"of {report.total:,} lines"


def _share(report: Report) -> str:
    return f" finished ({report.rows / report.total:.1%})" if report.total else " finished"


def _rate(report: Report) -> str:
    """Attempts per minute so far, against the limit. The first one starts the clock."""
    pace = max(0, report.sent - 1) / report.seconds if report.seconds else 0.0
    limit = "(no limit given)" if report.limit is None else f"of {words.rate(report.limit, 60)}"
    return f"{words.rate(pace, 60)} {limit}"


def _failures(report: Report) -> str:
    """How many lines failed, and of what."""
    failed = sum(report.failed.values())
    by_code = ", ".join(f"{count:,} {code}" for code, count in sorted(report.failed.items()))
    return f"{failed:,} ({by_code})" if by_code else f"{failed:,}"


def _refusals(report: Report) -> str:
    """How many attempts the provider refused, by kind."""
    counts = ((kind, report.refused.get(kind, 0)) for kind in _kinds(Retried.PATIENCE))
    return ", ".join(f"{count:,} {kind}" for kind, count in counts if count) or "none"


def _kinds(retried: Retried) -> Iterator[Kind]:
    return (kind for kind in Kind if kind.retried is retried)


def _faults(report: Report) -> str:
    """How many attempts met a fault that may be gone next time, and what the last one was."""
    count = sum(report.refused.get(kind, 0) for kind in _kinds(Retried.ATTEMPTS))
    if not count:
        return ""
    return f"{count:,} (the last: {report.fault})" if report.fault else f"{count:,}"


def _tokens(report: Report) -> str:
    split = f" ({report.input_tokens:,} in, {report.output_tokens:,} out)"
    return f"{report.tokens:,}{split if report.tokens else ''}"


def _cost(report: Report) -> str:
    """What was spent, as far as it is known; "" where nothing is."""
    if not report.cost:
        return ""
    note = f", {report.unpriced:,} answers without a known price" if report.unpriced else ""
    return f"{words.money(report.cost)}{note}"


def _left(report: Report) -> str:
    if report.eta is not None:
        return f"about {words.duration(report.eta)} left"
    return "no line finished yet" if report.rows == report.before else "time left not known"
