"""What a run measures of itself: for the report, for the record, and for its bounds."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from headway.bulk.budget import Budget
from headway.bulk.formats import BadLine, Request
from headway.bulk.journal import Journal, trace_file
from headway.bulk.pipe import Rows
from headway.bulk.record import Recorder
from headway.bulk.rows import spent_by
from headway.bulk.send import Answered
from headway.bulk.source import Source
from headway.bulk.status import Pace, Report, Stop
from headway.providers import Endpoint

if TYPE_CHECKING:
    from headway.scheduler import Scheduler

__all__ = ["Meter", "count_spent"]


logger = logging.getLogger("headway")

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
        self._pace = Pace()
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
        read, written = tokens.read or 0, tokens.written or 0
        cost = self._budget.price(request.model, read, written, tokens.cached)
        self._budget.settle(request, cost, read, written)
        self._input_tokens += read
        self._output_tokens += written
        self._tokens += tokens.total or 0
        self._answered_at = time.monotonic()
        self._any = True
        self._unpriced += cost is None
        self._pace.took(answered.seconds)
        if self._recorder is not None:
            self._recorder.row(
                model=request.model, code=None, attempts=attempts, waited=waited,
                latency=answered.seconds, size=len(request.body),
                input_tokens=tokens.read, output_tokens=tokens.written,
                cost=cost,
            )  # fmt: skip

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
            "the rest, and those again with --retry-failed",
        )

    def unanswered_for(self) -> float:
        """Seconds since the last answer, or since the run began."""
        return time.monotonic() - self._answered_at

    def failed(self, line: Request | BadLine, code: str, attempts: int, waited: float) -> None:
        """`line` failed with `code`."""
        if self._recorder is None:
            return
        model, size = (line.model, len(line.body)) if isinstance(line, Request) else (None, 0)
        self._recorder.row(
            model=model, code=code, attempts=attempts, waited=waited, latency=0.0, size=size,
            input_tokens=None, output_tokens=None, cost=None,
        )  # fmt: skip

    def sample(self) -> None:
        """Look at the clock and at the scheduler: four times a second, and at both ends."""
        done = _written(self._rows) - self.before
        self._pace.see(time.monotonic() - self._began, done)
        if self._recorder is not None:
            self._recorder.sample(time.time(), self._scheduler.statistics())

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
            reason, said = ("interrupted" if self.report().remaining else "done"), ""
        with suppress(OSError):
            self._recorder.end(time.time(), reason, said)
        if self._recorder.fault is not None:
            logger.warning("the record of the run is not whole: %s", self._recorder.fault)

    def close(self) -> None:
        """Close the record."""
        if self._recorder is not None:
            self._recorder.close()

    def report(self) -> Report:
        """How far the run is, now."""
        statistics, rows, scheduler = self._scheduler.statistics(), self._rows, self._scheduler
        done, failed = rows.done.count, dict(rows.failed)
        left = None if self.total is None else self.total - done - sum(failed.values())
        return Report(
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
            limit=min((r.limit / r.per for r in scheduler.limits.requests), default=None),
            pace=statistics.pace,
            concurrency=statistics.capacity,
            binds=statistics.binds,
            seconds=time.monotonic() - self._began,
            eta=self._pace.eta(left, self.in_flight),
            stopped=self.stopped,
            fault=self.fault,
        )

    def _session(self, endpoint: Endpoint) -> Mapping[str, object]:
        """What the record of this session begins with."""
        limits = self._scheduler.limits
        return {
            "version": version("headway"),
            "started": time.time(),
            "input": self._source.name,
            "output": str(self._output),
            "provider": endpoint.provider,
            "limits": {
                "requests": [str(rate) for rate in limits.requests],
                "tokens": [str(rate) for rate in limits.tokens],
                "concurrency": limits.concurrency,
            },
            "total": self.total,
            "already_done": self.before,
        }


def count_spent(budget: Budget, rows: Journal) -> None:
    """Count what the rows that are there have cost; blocks."""
    for model, tokens in spent_by(rows.lines()):
        read, written = tokens.read or 0, tokens.written or 0
        budget.spend(budget.price(model, read, written, tokens.cached), read + written)


def _written(rows: Rows) -> int:
    return rows.done.count + sum(rows.failed.values())
