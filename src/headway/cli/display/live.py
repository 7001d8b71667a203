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

from headway.bulk.record.status import Progress, early_ends
from headway.cli.display.watched import charts_of
from headway.errors import MissingExtra
from headway.hooks.watch.history import History, Moment
from headway.kinds import Kind, Moves, Retried
from headway.kinds import _words as words

try:
    from rich.console import Console
    from rich.live import Live
    from rich.logging import RichHandler
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text
except ImportError as error:  # pragma: no cover - needs an environment without the extra
    raise MissingExtra(
        "headway run shows its progress with rich, which is not installed",
        fix="install it with: pip install 'headway[cli]'",
    ) from error

__all__ = ["Display", "as_json", "display", "logging_to", "stderr", "summary"]

_PLAIN_EVERY = 10.0  # seconds
_JSON_EVERY = 1.0
_MOMENT = 1.0  # seconds between two moments of the charts
_ECHO = 4  # columns for the "^C" of a terminal, which would wrap at its edge and leave a bar behind


class Display(Protocol):
    """Shows the progress of a run."""

    @property
    def last(self) -> Progress | None:
        """The latest, None before the first."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def __call__(self, progress: Progress) -> None: ...


def stderr() -> Console:
    """The console of a run: what it says is not its output."""
    # Rich calls a file a terminal where FORCE_COLOR is set: its colours are wanted then, no bar.
    shown = None if sys.stderr is not None and sys.stderr.isatty() else False
    return Console(stderr=True, highlight=False, markup=False, emoji=False, force_interactive=shown)


def display(console: Console, *, as_lines: TextIO | None = None) -> Display:
    """A live display on a terminal, plain lines now and then elsewhere, JSON to `as_lines`."""
    if as_lines is not None:
        return _Json(as_lines)
    return _Terminal(console) if console.is_interactive else _Plain(console)


class _Shown:
    """What the displays share."""

    last: Progress | None

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
        self._history = History()
        self._charts: list[tuple[str, Text]] = []

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

    def __call__(self, progress: Progress) -> None:
        self.last = progress
        drawn = Table.grid(expand=True)
        drawn.width = self._live.console.width - _ECHO
        if progress.total is not None:
            total = max(1, progress.total)
            done = ProgressBar(total=total, completed=progress.rows, complete_style="cyan")
            drawn.add_row(done)
        counts = f" {_of_total(progress)}{_share(progress)}, "
        drawn.add_row(
            Text.assemble((f"{progress.rows:,}", "bold"), counts, (_left(progress), "bold cyan"))
        )
        lines = Table.grid(padding=(0, 2))
        for name, value, style in _lines(progress):
            lines.add_row(Text(name, "dim"), Text(words.printable(value), style))
        if progress.seconds >= self._history.last + _MOMENT:
            self._history.add(_moment(progress))
            moments, limit = self._history.since(-1.0), progress.limit or 0.0
            plain = self._live.console.options.ascii_only
            self._charts = [*charts_of(moments, drawn.width, limit, plain=plain)]
        for name, chart in self._charts:
            lines.add_row(Text(name, "dim"), chart)
        drawn.add_row(lines)
        self._live.update(drawn, refresh=True)


class _Plain(_Shown):
    """A line every ten seconds, for logs."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._due = _PLAIN_EVERY

    def __call__(self, progress: Progress) -> None:
        self.last = progress
        if progress.seconds < self._due:
            return
        self._due = progress.seconds + _PLAIN_EVERY
        parts = [
            f"{progress.rows:,} {_of_total(progress)}{_share(progress)}: "
            f"{progress.done:,} answered, {_failures(progress)} failed, "
            f"{progress.in_flight:,} in flight",
            _rate(progress),
            f"held back by {words.binds(progress.binds)}",
            f"refused: {_refusals(progress)}",
        ]
        if faults := _faults(progress):
            parts.append(f"faults: {faults}")
        line = "; ".join([*parts, _left(progress)])
        self._console.print(words.printable(line), soft_wrap=True, highlight=False, markup=False)


class _Json(_Shown):
    """A JSON object a second, for machines."""

    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self._file = file
        self._due = 0.0

    def __call__(self, progress: Progress) -> None:
        self.last = progress
        if progress.seconds >= self._due:
            self._due = progress.seconds + _JSON_EVERY
            self._write({"event": "progress", **as_json(progress)})

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


def as_json(progress: Progress) -> dict[str, Any]:
    """`progress` for machines: counts, seconds, dollars; null for the unknown and the unlimited."""
    infinite = float("inf")
    return {
        "input": progress.input,
        "output": None if progress.output is None else str(progress.output),
        "total": progress.total,
        "done": progress.done,
        "failed": dict(progress.failed),
        "before": progress.before,
        "ambiguous": progress.ambiguous,
        "remaining": progress.remaining,
        "in_flight": progress.in_flight,
        "sent": progress.sent,
        "refused": {str(kind): count for kind, count in progress.refused.items()},
        "input_tokens": progress.input_tokens,
        "output_tokens": progress.output_tokens,
        "tokens": progress.tokens,
        "cost": round(progress.cost, 6),
        "unpriced": progress.unpriced,
        "reasons": dict(progress.reasons),
        "limit": progress.limit,
        "pace": None if progress.pace == infinite else progress.pace,
        "concurrency": None if progress.concurrency == infinite else progress.concurrency,
        "binds": progress.binds,
        "seconds": round(progress.seconds, 3),
        "eta": None if progress.eta is None else round(progress.eta, 1),
        "stopped": None if progress.stopped is None else progress.stopped.reason,
        "fault": progress.fault,
    }


@contextmanager
def logging_to(console: Console) -> Iterator[None]:
    """The library's log on `console`, above a live display instead of across it."""
    logger = logging.getLogger("headway")
    handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
    handler.setFormatter(_Formatter("%(message)s", "%H:%M:%S"))
    handler.addFilter(_is_news)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Formatter(logging.Formatter):
    """What a line quotes moves no cursor, a traceback's included."""

    def format(self, record: logging.LogRecord) -> str:
        return words.printable(words.redacted(super().format(record)))


def _is_news(record: logging.LogRecord) -> bool:
    """Not a refused key or an empty account: they end the run, whose last line says it better."""
    kind = getattr(record, "headway", None)  # what nothing is sent for
    return not (isinstance(kind, Kind) and kind.moves is Moves.LATCH)


def summary(progress: Progress) -> Table:
    """How a run ended, as a table of two columns."""
    table = Table.grid(padding=(0, 2))
    for what, said in _summed_up(progress):
        table.add_row(what, Text(words.printable(said)))  # what is quoted is no markup
    return table


def _summed_up(progress: Progress) -> Iterator[tuple[str, str]]:
    yield "done", f"{progress.done:,} {_of_total(progress)}"
    if progress.before:
        its = "its" if progress.before == 1 else "their"
        yield "before", f"{words.counted(progress.before, 'line')} had {its} row already"
    if progress.ambiguous:
        lines = words.counted(progress.ambiguous, "line")
        were = words.agreed(progress.ambiguous, "were")
        yield "again", f"{lines} that {were} in flight at a kill"
    if progress.failed:
        yield "failed", _failures(progress)
    if progress.remaining:
        yield "not answered", f"{words.counted(progress.remaining, 'line', 'have')} no row"
    yield from early_ends(progress.reasons)
    yield "refused", _refusals(progress)
    if faults := _faults(progress):
        yield "faults", faults
    yield "tokens", _tokens(progress)
    if cost := _cost(progress):
        yield "cost", cost
    yield "time", words.duration(progress.seconds)
    yield "rate", f"{words.counted(progress.sent, 'attempt')}, {_rate(progress)}"
    if progress.output is not None:
        yield "rows", str(progress.output) if progress.rows else "none written"


def _lines(progress: Progress) -> Iterator[tuple[str, str, str]]:
    """Name, value and style of what the live display shows below the bar."""
    most = (
        "" if progress.concurrency == float("inf") else f" of {words.count(progress.concurrency)}"
    )
    yield "done", f"{progress.done:,}", "green"
    if progress.failed:
        yield "failed", _failures(progress), "red"
    yield "in flight", f"{progress.in_flight:,}{most}", ""
    yield "rate", _rate(progress), ""
    yield "held back by", words.binds(progress.binds), ""
    refusals = _refusals(progress)
    yield "refused", refusals, "" if refusals == "none" else "yellow"
    if faults := _faults(progress):
        yield "faults", faults, "yellow"
    yield "tokens", _tokens(progress), ""
    if cost := _cost(progress):
        yield "cost", cost, ""


def _moment(progress: Progress) -> Moment:
    refused = sum(progress.refused.get(kind, 0) for kind in _kinds(Retried.PATIENCE))
    return Moment(
        progress.seconds, progress.sent, progress.done, refused, progress.in_flight, 0,
        progress.tokens, progress.cost,
    )  # fmt: skip


def _of_total(progress: Progress) -> str:
    if progress.total is None:
        return words.plural(progress.done, "line")
    return f"of {words.counted(progress.total, 'line')}"


def _share(progress: Progress) -> str:
    return f" finished ({progress.rows / progress.total:.1%})" if progress.total else " finished"


def _rate(progress: Progress) -> str:
    """Attempts per minute so far, against the limit. The first one starts the clock."""
    measured = max(0, progress.sent - 1) / progress.seconds if progress.seconds else 0.0
    limit = (
        "(no limit of requests given)"
        if progress.limit is None
        else f"of {words.rate(progress.limit, 60)}"
    )
    return f"{words.rate(measured, 60)} {limit}"


def _failures(progress: Progress) -> str:
    """How many lines failed, and of what."""
    failed = sum(progress.failed.values())
    by_code = ", ".join(f"{count:,} {code}" for code, count in sorted(progress.failed.items()))
    return f"{failed:,} ({by_code})" if by_code else f"{failed:,}"


def _refusals(progress: Progress) -> str:
    """How many attempts the provider refused, by kind."""
    counts = ((kind, progress.refused.get(kind, 0)) for kind in _kinds(Retried.PATIENCE))
    return ", ".join(f"{count:,} {kind}" for kind, count in counts if count) or "none"


def _kinds(retried: Retried) -> Iterator[Kind]:
    return (kind for kind in Kind if kind.retried is retried)


def _faults(progress: Progress) -> str:
    """How many attempts met a fault that may be gone next time, and what the last one was."""
    count = sum(progress.refused.get(kind, 0) for kind in _kinds(Retried.ATTEMPTS))
    if not count:
        return ""
    return f"{count:,} (the last: {progress.fault})" if progress.fault else f"{count:,}"


def _tokens(progress: Progress) -> str:
    split = f" ({progress.input_tokens:,} in, {progress.output_tokens:,} out)"
    return f"{progress.tokens:,}{split if progress.tokens else ''}"


def _cost(progress: Progress) -> str:
    """What was spent, as far as it is known; "" where nothing is."""
    if not progress.cost:
        return ""
    unpriced = words.counted(progress.unpriced, "answer")
    note = f", {unpriced} without a known price" if progress.unpriced else ""
    return f"{words.money(progress.cost)}{note}"


def _left(progress: Progress) -> str:
    if progress.eta is not None:
        return f"about {words.duration(progress.eta)} left"
    return "no line finished yet" if progress.rows == progress.before else "time left not known"
