"""A bulk run: every line of an input sent under the limits, one row written for each.

The input is read as fast as the scheduler takes requests and no faster, so that memory follows the
concurrency. A row is written where its answer arrives, before anything else can happen: what was
answered is never lost, and a run that was killed goes on where it was.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass, field
from functools import partial

import anyio
import httpx
from anyio.lowlevel import checkpoint

from headway import hints
from headway._runtime.calls import check_plain_function
from headway._runtime.streams import Outcome
from headway._runtime.workers import MOST_WORKERS
from headway.bulk.budget import Budget
from headway.bulk.input.feed import feed
from headway.bulk.input.formats import BadLine, Request, estimate_tokens
from headway.bulk.input.source import Source, open_source
from headway.bulk.machine import connections_for, prepare, starved
from headway.bulk.meter import Meter, count_spent
from headway.bulk.options import RunOptions
from headway.bulk.output.bills import Bills
from headway.bulk.output.journal import Journal
from headway.bulk.output.opening import memory_of, open_rows, paths_of
from headway.bulk.output.pipe import Pipe, Rows
from headway.bulk.output.rows import answer_row, error_row
from headway.bulk.output.table import write_table
from headway.bulk.record.status import Progress, Stop
from headway.bulk.send import (
    UNTOLD,
    Answered,
    InvalidAnswer,
    Sender,
    billed_of,
    describe,
    fault_of,
    is_filtered,
    stop_of,
    tokens_used,
)  # fmt: skip
from headway.errors import HeadwayError, InvalidArgument, Latched
from headway.kinds._words import a, shown, with_fix
from headway.providers import Endpoint, find_endpoint, provider_of
from headway.scheduler import Scheduler

__all__ = ["run"]

logger = logging.getLogger("headway")

_WATCH_EVERY = 0.25  # seconds
_SYNC_EVERY = 0.2
_FILES = 64  # descriptors that a run may have beside its connections
_FAILING_DISK = 10.0  # for what is in flight when the disk fails
_BEFORE_CLOSING = 3  # turns of the event loop, for failures that are on their way to their rows


async def run(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    scheduler: Scheduler,
    options: RunOptions | None = None,
    endpoint: Endpoint | None = None,
    client: httpx.AsyncClient | None = None,
    watch: Callable[[Progress], None] | None = None,
    drain: anyio.Event | None = None,
) -> Progress:
    """Send every line of `source` and write one row for each to `output`; resume what was begun.

    `source` is a file (gzip and zstd by their suffix) or ``"-"``, standard input; `output` a file,
    by default ``requests.results.jsonl`` beside ``requests.jsonl``, or ``"-"``, standard output,
    from which nothing can be resumed; or a table (``.csv``, ``.tsv``, ``.parquet``): the input with
    its answers in a column, whose rows stand in ``….rows.jsonl`` beside it. `options` are explained
    where they are fields. `endpoint` is Together's by default, with the key of the environment;
    `client` is used in place of one of headway's own.

    A run whose output is there already goes on with the lines that have no row. Rows that a killed
    process had in flight are sent again, or, with ``ambiguous="report"``, failed.

    `watch` is called with a `Progress` four times a second, and at the end, however it ends. When
    `drain` is set nothing more is sent, and the run ends with what is in flight.

    A line that fails gets a row that says why, and the run goes on. A wrong key, an empty account,
    a provider that stays away or a bound ends it: `Progress.stopped` says so, and the lines that
    are left have no row.

    Raises, before anything is sent, `headway.bulk.InvalidInput` and `InvalidOutput` for files that
    cannot be used, `InvalidSettings` for a missing key, and `headway.InvalidArgument` for what is
    none of the types above; later `OSError` when
    this machine has no room for the rows, no descriptor or no memory left. What ends a run, an
    error of `watch` too, is raised when all that is in flight has its row.

    Every file is opened, and the soft limit of descriptors raised, before anything is sent. Where
    the hard limit allows fewer connections than `scheduler` may have in flight, its concurrency is
    lowered, which a warning says.
    """
    _check_arguments(source, output, options)
    _check_parts(scheduler, endpoint, client, watch, drain)
    endpoint = find_endpoint() if endpoint is None else endpoint
    scheduler._shell.introduce(provider_of(endpoint))
    options = RunOptions() if options is None else options
    with ExitStack() as stack:
        connections_for(1)  # or nothing is begun
        paths = paths_of(source, output, options.shard)
        lines = await anyio.to_thread.run_sync(
            lambda: open_source(
                paths.source, options.shape, shard=options.shard, limit=options.limit,
                trust_ids=options.trust_ids, spool=paths.spool,
            )
        )  # fmt: skip
        stack.callback(lines.close)
        rows = await anyio.to_thread.run_sync(open_rows, paths, lines, endpoint, options)
        stack.enter_context(rows)
        prices = options.prices
        budget = Budget(
            partial(prices.cost, endpoint.provider),
            options.max_cost,
            options.max_tokens,
            prices.own,
        )
        bills: Bills | None = None
        if isinstance(rows, Journal):
            bills = stack.enter_context(Bills(rows.folder))
            if budget.bounded:
                await anyio.to_thread.run_sync(count_spent, budget, rows, bills, lines)
            # What is shared outlasts the process by itself.
            if scheduler._shell.memory is None and scheduler._shell.leave is None:
                stack.enter_context(scheduler._shell.remembering(memory_of(rows.folder, endpoint)))
        meter = Meter(lines, paths.output, scheduler, rows, budget, endpoint, bills)
        stack.callback(meter.close)
        await prepare(prices, endpoint.provider, endpoint.base_url)
        async with Sender(
            endpoint, scheduler, client, timeout=options.timeout, max_answer=options.max_answer
        ) as sender:
            execution = _Execution(
                source=lines,
                scheduler=scheduler,
                endpoint=endpoint,
                rows=rows,
                budget=budget,
                meter=meter,
                sender=sender,
                report_ambiguous=options.ambiguous == "report",
                keep_going=options.keep_going,
                drain=drain,
            )
            if client is None:
                _fit(scheduler)
            try:
                await execution.run(watch or _nobody)
            finally:
                with anyio.CancelScope(shield=True):
                    if options.ordered:
                        await anyio.to_thread.run_sync(rows.arrange)
                    if paths.table is not None and paths.output is not None:
                        await anyio.to_thread.run_sync(
                            write_table, paths.table, lines, paths.output
                        )
            complete = meter.stopped is None and not meter.progress().remaining
            if complete and isinstance(rows, Journal):
                rows.finish()
        if (grown := lines.grown()) and meter.stopped is None:
            logger.warning(
                "%s has grown by %s bytes since the run began; what was added is not in it. Put it "
                "in a file of its own", lines.name, f"{grown:,}",
            )  # fmt: skip
        return meter.progress()


def _fit(scheduler: Scheduler) -> None:
    """Lower the concurrency to the connections that this process may have."""
    stated = scheduler.limits.concurrency
    wanted = MOST_WORKERS if stated is None else stated
    fits = connections_for(wanted)
    if fits < wanted and scheduler._shell.leave is not None:  # it is not this process's to lower
        logger.warning(
            with_fix(
                "this process may open no more than %s connections, and of what is shared it may "
                "get more",
                "raise the limit: ulimit -n %s",
            ),
            fits, wanted + _FILES,
        )  # fmt: skip
    elif fits < wanted:
        scheduler.set_limits(concurrency=fits)
        logger.warning(
            with_fix(
                "the concurrency is %s in place of %s, because this process may open no more files",
                "raise the limit: ulimit -n %s",
            ),
            fits, wanted if stated is not None else "none", wanted + _FILES,
        )  # fmt: skip


def _nobody(progress: Progress) -> None:
    """The watch of a run that nobody watches."""


class _Draining(HeadwayError):
    """Nothing more is sent."""


class _OutOfBounds(HeadwayError):
    """To try a line again might pass what the run may spend."""


class _Broken(HeadwayError):
    """This machine cannot go on: its cause is an `OSError` that is no connection's, so that what
    was answered is not sent again for it.
    """


def _check_arguments(source: object, output: object, options: object) -> None:
    """Raise `InvalidArgument` for what is no path, or no `RunOptions`."""
    for name, path in (("source", source), ("output", output)):
        if not isinstance(path, str | os.PathLike) and not (name == "output" and path is None):
            raise InvalidArgument(
                f"{name}={shown(path)} is not a path", fix='the name of a file, or "-".'
            )
    if options is not None and not isinstance(options, RunOptions):
        raise InvalidArgument(
            f"options={shown(options)} is not a RunOptions",
            fix="options=headway.bulk.RunOptions(ordered=True).",
        )


def _check_parts(
    scheduler: object, endpoint: object, client: object, watch: object, drain: object
) -> None:
    """Raise `InvalidArgument` for what a run cannot be made of."""
    kinds: tuple[tuple[str, object, type, str], ...] = (
        ("scheduler", scheduler, Scheduler, 'Scheduler("600/min")'),
        ("endpoint", endpoint, Endpoint, 'headway.bulk.find_endpoint("openai"), or none'),
        ("client", client, httpx.AsyncClient, "httpx.AsyncClient(), or none"),
        ("drain", drain, anyio.Event, "anyio.Event(), or none"),
    )
    for name, given, kind, fix in kinds:
        if not isinstance(given, kind) and (given is not None or name == "scheduler"):
            raise InvalidArgument(
                f"{name}={shown(given)} is not {a(kind.__name__)}", fix=f"{name}={fix}."
            )
    if watch is not None:
        check_plain_function(watch, "watch", "watch=print, or a def that takes a Progress")


@dataclass(slots=True)
class _Execution:
    """What a run does once its files are open. Its tasks are the scheduler's; each writes the row
    of its answer.
    """

    source: Source
    scheduler: Scheduler
    endpoint: Endpoint
    rows: Rows
    budget: Budget
    meter: Meter
    sender: Sender
    report_ambiguous: bool
    keep_going: bool
    drain: anyio.Event | None
    broken: Exception | None = None  # what ends the run, once nothing is in flight
    _taken: int = 0  # lines
    _idle: anyio.Event = field(default_factory=anyio.Event)
    _stopping: anyio.Event = field(default_factory=anyio.Event)
    _sending: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _unwritten: list[tuple[int, bytes]] = field(default_factory=list)

    async def run(self, watch: Callable[[Progress], None]) -> None:
        """Run to the end of the input, or to what stops it; `watch` sees how far it is."""
        raised: Exception | None = None
        meter = self.meter
        meter.sample()
        try:
            async with anyio.create_task_group() as group:
                with self._sending:
                    group.start_soon(self._keep_watched, watch)
                    group.start_soon(self._keep_synced)
                    for event in (self._stopping, self.drain):
                        if event is not None:
                            group.start_soon(self._drain_after, event)
                    try:
                        await self._send_all()
                    except Exception as error:
                        raised = error  # leaves the group as itself, not inside an exception group
                group.cancel_scope.cancel()
        finally:
            self._write_again()
            raised = raised or self.broken
            meter.end(raised)
            with suppress(OSError):
                self.rows.sync()
            try:
                watch(meter.progress())
            except Exception:
                if raised is None:
                    raise
        if raised is not None:
            raise raised

    async def _keep_watched(self, watch: Callable[[Progress], None]) -> None:
        while True:
            progress = self.meter.sample()
            try:
                watch(progress)
            except Exception as error:
                self._break(error)
                return
            await anyio.sleep(_WATCH_EVERY)

    async def _keep_synced(self) -> None:
        while True:
            await anyio.sleep(_SYNC_EVERY)
            if not self.rows.dirty:
                continue
            try:
                await anyio.to_thread.run_sync(self.rows.sync)
            except (OSError, RuntimeError) as error:  # the latter: no thread can be started
                self._break(error)
                # A disk that fails may not keep the rows that are yet to come either.
                await anyio.sleep(_FAILING_DISK)
                self._sending.cancel()
                return

    @property
    def _draining(self) -> bool:
        """Nothing more is to be sent. Asked of the events, for tasks that wait for one are told
        of it a turn of the event loop later, in which a retry may be due.
        """
        return self._stopping.is_set() or (self.drain is not None and self.drain.is_set())

    async def _drain_after(self, event: anyio.Event) -> None:
        """Let what is in flight end then, and cancel what waits to be sent, or to be read."""
        await event.wait()
        while self.meter.in_flight:
            self._idle = anyio.Event()
            await self._idle.wait()
        for _ in range(_BEFORE_CLOSING):
            await checkpoint()
        self._sending.cancel()

    # One line's way

    async def _send_all(self) -> None:
        scheduler = self.scheduler.with_options(tokens=estimate_tokens, usage=tokens_used)
        async with (
            aclosing(self._requests()) as requests,
            scheduler.as_completed(self._ask, requests) as outcomes,
        ):
            async for outcome in outcomes:
                try:
                    self._settle(outcome)
                except Exception as error:  # not at the expense of what is in flight
                    self._break(error)

    async def _requests(self) -> AsyncGenerator[Request, None]:
        """The lines that are to be sent; those that cannot be get their row here."""
        try:
            async with aclosing(self._read()) as requests:
                async for request in requests:
                    yield request
        except Exception as error:  # of the input, or of a row
            self._break(error)

    async def _read(self) -> AsyncGenerator[Request, None]:
        meter = self.meter
        lines = self.source.requests(self.rows.__contains__)
        if self.source.lines is None:
            async with aclosing(feed(lines)) as fed:
                async for line in fed:
                    if meter.stopped is not None or self._draining:
                        return
                    if (request := await self._prepare(line)) is not None:
                        yield request
        else:
            for line in lines:
                if meter.stopped is not None or self._draining:
                    return
                if (request := await self._prepare(line)) is not None:
                    yield request
        if meter.stopped is None:
            meter.total = meter.before + self._taken  # the count may have taken in the blank ones

    async def _prepare(self, line: Request | BadLine) -> Request | None:
        """`line`, if it is to be sent now."""
        meter = self.meter
        self._taken += 1
        if not isinstance(line, Request):
            self._fail(line, line.code, line.message)
            await checkpoint()
            return None
        if line.line in self.rows.ambiguous:
            if self.report_ambiguous:
                meter.billed(line, UNTOLD)
                self._fail(line, "ambiguous", _AMBIGUOUS)
                return None
            meter.ambiguous += 1
        if self.budget.bounded:
            await self.budget.hear_first(line)
            if why := await self.budget.admit(line):
                self._stop(Stop(None, why))
                return None
        return line

    async def _ask(self, request: Request) -> Answered:
        if self._draining:
            raise _Draining
        self._begin(request)
        meter, rows = self.meter, self.rows
        meter.in_flight += 1
        try:
            answered = await self.sender.ask(request)
        except Exception as error:
            unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            lacking = hints.machine_fault(error) or (starved() if unsent else None)
            if unsent and lacking is not None:
                self._refused(request)
            elif isinstance(error, httpx.HTTPError | InvalidAnswer):
                self._note_failed(request, error)
            if lacking is not None:
                raise _Broken from lacking
            if isinstance(error, httpx.HTTPError | InvalidAnswer):
                meter.fault = fault_of(error) or meter.fault
            raise
        else:
            # At once, before anything can be cancelled: what was answered has its row.
            row = answer_row(request, answered.answer)
            try:
                rows.write(request.line, row, None)
            except OSError as error:
                self._unwritten.append((request.line, row))
                raise _Broken from error
            return answered
        finally:
            meter.in_flight -= 1
            if not meter.in_flight:
                self._idle.set()

    def _begin(self, request: Request) -> None:
        """Mark that `request` is about to be sent."""
        rows = self.rows
        try:
            if request.line in rows.ambiguous:
                rows.ambiguous.discard(request.line)
                self.meter.billed(request, UNTOLD)  # by the run that was killed
            if self.budget.bounded and (why := self.budget.reserve(request)):
                raise _OutOfBounds(why)  # what was reserved is spent, and it would be tried again
            rows.start(request.line)
        except OSError as error:
            raise _Broken from error

    def _settle(self, outcome: Outcome[Request, Answered]) -> None:
        request, error, meter = outcome.item, outcome.error, self.meter
        if error is None:
            meter.answered(request, outcome.result, outcome.attempts, outcome.waited)
            return
        self.budget.settle(request, None, 0, 0)
        if isinstance(error, _Draining):
            return
        if isinstance(error, _OutOfBounds):
            self._stop(Stop(None, str(error)))
            return
        if isinstance(error, _Broken):
            self._break(error.__cause__ if isinstance(error.__cause__, OSError) else error)
            return
        if isinstance(error, InvalidArgument):  # of limits that are shared, and stated otherwise
            self._break(error)
            return
        stop = stop_of(error, self.endpoint, meter.unanswered_for())
        if stop is not None:
            # The first refusal says more than the jobs that were not sent because of it.
            stop = Stop(stop.kind, self.sender.hide(stop.reason))
            self._stop(stop, instead=not isinstance(error, Latched))
            return
        code, message, answer = describe(error)
        message = self.sender.hide(message)
        if is_filtered(error):
            meter.heard()
        elif not self.keep_going and (hopeless := meter.hopeless(code, message)) is not None:
            self._stop(hopeless)
        row = error_row(request.line, request.custom_id, code, message, answer)
        self.rows.write(request.line, row, code)
        meter.failed(request, code, outcome.attempts, outcome.waited)

    def _stop(self, stop: Stop, *, instead: bool = False) -> None:
        """End the run for this reason, or for the one before unless this is to stand `instead`."""
        if instead or self.meter.stopped is None:
            self.meter.stopped = stop
        self._stopping.set()

    def _note_failed(self, request: Request, error: Exception) -> None:
        """An attempt failed: it was billed, or it cannot have been, or nobody knows."""
        try:
            if (billed := billed_of(error)) is not None:
                self.meter.billed(request, billed)
            elif isinstance(error, httpx.HTTPStatusError):
                self.rows.refused(request.line)
        except OSError as fault:
            raise _Broken from fault

    def _break(self, error: Exception) -> None:
        """End the run with `error`, or with the one before, once what is in flight has its row."""
        self.broken = self.broken or error
        self._stopping.set()
        if isinstance(error, BrokenPipeError) and isinstance(self.rows, Pipe):
            self._sending.cancel()  # nobody is there to read what may yet come

    def _write_again(self) -> None:
        """Try once more to write the rows that had no room."""
        for number, row in self._unwritten:
            with suppress(OSError):
                self.rows.write(number, row, None)

    def _refused(self, request: Request) -> None:
        try:
            self.rows.refused(request.line)
        except OSError as error:
            raise _Broken from error

    def _fail(self, line: Request | BadLine, code: str, message: str) -> None:
        """Write the row of a line that is not sent."""
        row = error_row(line.line, line.custom_id, code, message)
        self.rows.write(line.line, row, code)
        self.meter.failed(line, code, 0, 0.0)


_AMBIGUOUS = (
    "it was sent by a run that was killed before the answer came, and may have been billed. "
    "Send it again with --retry-failed"
)
