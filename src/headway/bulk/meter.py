"""What a run measures of itself: for who watches it, for the record, and for its bounds."""

from __future__ import annotations

import logging
import time
from array import array
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from headway import __version__
from headway._core.counters import Statistics
from headway.bulk.budget import Budget, needed
from headway.bulk.input.formats import BadLine, Request
from headway.bulk.input.source import Source
from headway.bulk.output.answers import Reading
from headway.bulk.output.bills import Bills, Unanswered
from headway.bulk.output.journal import Journal, trace_file
from headway.bulk.output.pipe import Rows
from headway.bulk.output.rows import spent_by
from headway.bulk.record.status import Forecast, Progress, Stop
from headway.bulk.record.trace import Recorder
from headway.bulk.send import Answered
from headway.estimate import Tokens
from headway.providers import Endpoint

if TYPE_CHECKING:
    from headway.scheduler import Scheduler

__all__ = ["Meter", "count_spent"]


logger = logging.getLogger("headway")

_REASONS = 50  # that are counted one by one
_OTHER_REASONS = "(other reasons)"
_HOPELESS = 20  # failures of one kind, with no answer at all


class Meter:
    """The counters of one run; what is public of them is written by the run itself."""

    def __init__(
        self,
        source: Source,
        output: Path | None,
        scheduler: Scheduler,
        rows: Rows,
        budget: Budget,
        endpoint: Endpoint,
        bills: Bills | None = None,
    ) -> None:
        self.before = _written(rows)
        self.total = source.lines
        self.in_flight = 0
        self.ambiguous = 0
        self.stopped: Stop | None = None
        self.fault: str | None = None
        self._source = source
        self._output = output
        self._scheduler = scheduler
        self._rows = rows
        self._budget = budget
        self._input_tokens = self._output_tokens = self._tokens = 0
        self._unpriced = 0
        self._reasons: Counter[str] = Counter()
        self._bills = bills
        self._forecast = Forecast()
        self._any = bool(rows.done.count)  # whether anything was answered, earlier runs included
        self._first_code = ""
        self._alike = 0
        self._began = self._answered_at = time.monotonic()
        self._recorder: Recorder | None = None
        if isinstance(rows, Journal):
            self._recorder = Recorder(trace_file(rows.folder), self._session(endpoint))

    def answered(self, request: Request, answered: Answered, attempts: int, waited: float) -> None:
        """`request` was answered, by its last of so many `attempts`, having `waited` seconds."""
        tokens = answered.tokens
        budget = self._budget
        cost = None  # nobody knows, and where nothing is bounded nothing is guessed
        if budget.bounded or _says(tokens):
            most = needed(request)
            bill = budget.bill(tokens, most, answered.model, request.model)
            cost = bill.dollars
            budget.heard(request.model, most, request.choices, tokens)
            budget.settle(request, cost, bill.read, bill.written)
        self._input_tokens += tokens.read or 0
        self._output_tokens += tokens.written or 0
        self._tokens += (tokens.read or 0) + (tokens.written or 0)
        for reason in answered.reasons:
            known = reason in self._reasons or len(self._reasons) < _REASONS
            self._reasons[reason if known else _OTHER_REASONS] += 1
        self._answered_at = time.monotonic()
        self._any = True
        self._unpriced += cost is None
        self._forecast.took(answered.seconds)
        if self._recorder is not None:
            self._recorder.row(
                model=request.model, code=None, attempts=attempts, waited=waited,
                latency=answered.seconds, size=request.size,
                input_tokens=tokens.read, output_tokens=tokens.written,
                cost=cost, reasons=answered.reasons,
            )  # fmt: skip

    def billed(self, request: Request, read: Reading) -> None:
        """An attempt at `request` that got no answer was billed, or may have been: `read` is what
        it says of that. Raises `OSError`.
        """
        budget, tokens, most = self._budget, read.tokens, needed(request)
        bill = budget.bill(tokens, most, read.model, request.model)
        if _says(tokens):
            budget.heard(request.model, most, request.choices, tokens)
        if budget.bounded or _says(tokens):
            budget.spend_again(request, bill)
        if self._bills is not None:
            models = [read.model, request.model]
            self._bills.add(
                Unanswered(
                    request.line, models, bill.read, bill.written, tokens.cached, tokens.either
                )
            )

    def hopeless(self, code: str, message: str) -> Stop | None:
        """Why the run is stopped whose first lines all failed alike, and none was answered."""
        self._alike = self._alike + 1 if code == self._first_code else 1
        self._first_code = code
        if self._any or self._alike < _HOPELESS:
            return None
        return Stop(
            None,
            f"the first {self._alike} requests all failed alike, and none was answered ({code}: "
            f"{message[:200]}). Check the address, the names of the models and the lines, then run "
            "the rest, and those again with --retry-failed. Where they are meant to fail, go on "
            "with --keep-going",
        )

    def heard(self) -> None:
        """A line got a result that is no answer: what it was sent to is right, and at work."""
        self._any = True
        self._answered_at = time.monotonic()

    def unanswered_for(self) -> float:
        """Seconds since the last answer, or since the run began."""
        return time.monotonic() - self._answered_at

    def failed(self, line: Request | BadLine, code: str, attempts: int, waited: float) -> None:
        """`line` failed with `code`."""
        if self._recorder is None:
            return
        model, size = (line.model, line.size) if isinstance(line, Request) else (None, 0)
        self._recorder.row(
            model=model, code=code, attempts=attempts, waited=waited, latency=0.0, size=size,
            input_tokens=None, output_tokens=None, cost=None,
        )  # fmt: skip

    def sample(self) -> Progress:
        """Look at the clock and at the scheduler, four times a second, and at both ends: how far
        the run is by both.
        """
        statistics = self._scheduler.statistics()
        done = _written(self._rows) - self.before
        self._forecast.see(time.monotonic() - self._began, done)
        if self._recorder is not None:
            self._recorder.sample(time.time(), statistics)
        return self._progress(statistics)

    def end(self, raised: Exception | None) -> None:
        """The run is over; `raised` is what ended it."""
        self.sample()
        if self._recorder is None:
            return
        if raised is not None:
            reason, said = "failed", str(raised)
        elif self.stopped is not None:
            reason, said = "stopped", self.stopped.reason
        else:
            reason, said = ("interrupted" if self.progress().remaining else "done"), ""
        with suppress(OSError):
            self._recorder.end(time.time(), reason, said)
        if self._recorder.fault is not None:
            logger.warning("the record of the run is not whole: %s", self._recorder.fault)

    def close(self) -> None:
        """Close the record."""
        if self._recorder is not None:
            self._recorder.close()

    def progress(self) -> Progress:
        """How far the run is, now."""
        return self._progress(self._scheduler.statistics())

    def _progress(self, statistics: Statistics) -> Progress:
        rows, scheduler = self._rows, self._scheduler
        done, failed = rows.done.count, dict(rows.failed)
        left = None if self.total is None else self.total - done - sum(failed.values())
        return Progress(
            input=self._source.name,
            output=self._output,
            total=self.total,
            done=done,
            failed=failed,
            before=self.before,
            ambiguous=self.ambiguous,
            in_flight=self.in_flight,
            sent=statistics.sent,
            refused=statistics.refused,
            tokens=self._tokens,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            cost=self._budget.dollars,
            unpriced=self._unpriced,
            reasons=dict(self._reasons),
            limit=min(
                (r.limit / r.per for r in scheduler.limits.requests if not r.is_quota),
                default=None,
            ),
            pace=statistics.pace,
            concurrency=statistics.capacity,
            binds=statistics.binds,
            seconds=time.monotonic() - self._began,
            eta=self._forecast.eta(left, self.in_flight),
            stopped=self.stopped,
            fault=self.fault,
        )

    def _session(self, endpoint: Endpoint) -> Mapping[str, object]:
        """What the record of this session begins with."""
        limits = self._scheduler.limits
        return {
            "version": __version__,
            "started": time.time(),
            "input": self._source.name,
            "output": str(self._output),
            "provider": endpoint.provider,
            "limits": {
                "requests": [str(rate) for rate in limits.requests],
                "tokens": [str(rate) for rate in limits.tokens],
                "input_tokens": [str(rate) for rate in limits.input_tokens],
                "output_tokens": [str(rate) for rate in limits.output_tokens],
                "concurrency": limits.concurrency,
            },
            "total": self.total,
            "already_done": self.before,
        }


def count_spent(budget: Budget, rows: Journal, bills: Bills, source: Source) -> None:
    """Count what earlier sessions of the run were billed; blocks.

    What an answer does not say (its tokens, or a model whose price is known) is taken from the
    line that it answers.
    """
    asked = _Asked(source) if rows.resumed else None
    for line, model, tokens in spent_by(rows.lines() if rows.resumed else ()):
        named, most, choices = asked.of(line) if asked else _NOT_ASKED
        bill = budget.bill(tokens, most, model, named)
        budget.spend(bill.dollars, bill.read + bill.written, named or model)
        budget.heard(named, most, choices, tokens)
    for each in bills:
        said = Tokens(each.read, each.written, each.read + each.written, each.cached, each.either)
        named, most, choices = asked.of(each.line) if asked else _NOT_ASKED
        bill = budget.bill(said, most, *each.models)
        budget.spend(bill.dollars, bill.read + bill.written, each.models[-1])
        if asked is not None and each.written > most[1]:
            budget.heard(named, most, choices, said)


_NOT_ASKED: tuple[str | None, tuple[int, int], int] = (None, (0, 0), 1)


class _Asked:
    """The models of a source's lines, the most tokens that each may take, and for how many choices:
    28 bytes a line.
    """

    def __init__(self, source: Source) -> None:
        self._models: dict[str | None, int] = {None: 0}
        self._model = array("I")
        self._most = array("Q")
        for request in source.requests(lambda number: False):
            if isinstance(request, Request):
                missing = request.line + 1 - len(self._model)
                self._model.extend([0] * missing)
                self._most.extend([0] * (3 * missing))
                index = self._models.setdefault(request.model, len(self._models))
                self._model[request.line] = index
                three = array("Q", (*needed(request), request.choices))
                self._most[3 * request.line : 3 * request.line + 3] = three
        self._names = list(self._models)

    def of(self, line: int) -> tuple[str | None, tuple[int, int], int]:
        """The model that the `line` asked, the most tokens, read and written, and the choices."""
        if not 0 <= line < len(self._model):
            return _NOT_ASKED
        read, written, choices = self._most[3 * line : 3 * line + 3]
        return self._names[self._model[line]], (read, written), choices or 1


def _says(tokens: Tokens) -> bool:
    return tokens.total is not None


def _written(rows: Rows) -> int:
    return rows.done.count + sum(rows.failed.values())
