"""A bulk run: every line of a file sent once under the limits, one row written for each.

The file is read as fast as the scheduler takes requests and no faster, so that memory follows the
concurrency. A row is one `os.write` to one append descriptor: a killed run loses none that it
counted.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import anyio
import httpx
import together

from headway import hints
from headway import together as ready
from headway.bulk import formats
from headway.bulk.lines import InvalidInput, check_start, count_lines, read_lines
from headway.bulk.output import InvalidOutput, RowFile, default_output
from headway.errors import HeadwayError, Latched, NeverFits, Unavailable
from headway.events import Kind

if TYPE_CHECKING:
    from headway.scheduler import Scheduler
    from headway.streams import Outcome

__all__ = ["InvalidAnswer", "Report", "Stop", "run"]

# A long answer takes minutes; the SDK's 60 s would cut it off, bill it, and try again.
_TIMEOUT = httpx.Timeout(600, connect=10)
_WATCH_EVERY = 0.25  # seconds


class InvalidAnswer(HeadwayError):
    """A success whose body is not JSON; it is in ``.answer``."""

    def __init__(self, message: str, answer: formats.Answer) -> None:
        super().__init__(message)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ended before its file did."""

    kind: Kind
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """How far a run is, or how it ended.

    `total`, `done`, `failed` (by code) and `in_flight` count lines, `sent` and `refused` (by
    kind) attempts; `tokens` is what the answers say they used; `limit` is attempts a second,
    `seconds` since the first line was read. `fault` is what the last attempt without an answer, or
    with a 5xx, ran into: ``"ConnectError"``, ``"http_500"``.
    """

    input: Path
    output: Path
    total: int
    done: int
    failed: Mapping[str, int]
    in_flight: int
    sent: int
    refused: Mapping[Kind, int]
    tokens: int
    limit: float | None
    seconds: float
    stopped: Stop | None
    fault: str | None = None

    @property
    def rows(self) -> int:
        """Rows written: lines done and lines failed."""
        return self.done + sum(self.failed.values())

    @property
    def remaining(self) -> int:
        """Lines that have no row yet."""
        return max(0, self.total - self.rows)


async def run(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    scheduler: Scheduler,
    overwrite: bool = False,
    client: together.AsyncTogether | None = None,
    watch: Callable[[Report], None] | None = None,
) -> Report:
    """Send every line of the batch file `source` and write one row for each to `output`.

    `output` is ``requests.results.jsonl`` beside ``requests.jsonl`` by default, and must not
    exist unless `overwrite` is true. `client` is made from the environment by default. `watch` is
    called with the run's `Report` four times a second, and at the end, however it ends.

    A line that fails gets a row that says why, and the run goes on. A wrong key, an empty account
    or a provider that stays away ends it: `Report.stopped` says so, and the lines that are left
    have no row.

    Raises, before anything is sent, `headway.bulk.InvalidInput` for a file that cannot be read as
    JSONL, `InvalidOutput`, and `headway.together.InvalidSettings` for a missing key; later
    `OSError` when the output cannot be written any more.
    """
    if os.fspath(source) == "":
        raise InvalidInput("the input's name is empty. Give the path of a file")
    if output is not None and os.fspath(output) == "":
        raise InvalidOutput("the output's name is empty. Give the path of a file with -o")
    source = Path(source)
    with ExitStack() as stack:
        lines = stack.enter_context(_open_input(source))
        output = default_output(source) if output is None else Path(output)
        owned = client is None
        if client is None:
            client = ready.client(scheduler, timeout=_TIMEOUT)
        total = await anyio.to_thread.run_sync(count_lines, lines)
        lines.seek(0)
        rows = stack.enter_context(RowFile(output, source, overwrite))
        state = _Run(source, output, scheduler, client, lines, rows, total)
        try:
            await state.execute(watch or _nobody)
        finally:
            if owned:
                with anyio.CancelScope(shield=True):
                    await client.close()
        return state.report()


def _nobody(report: Report) -> None:
    """The watch of a run that nobody watches."""


def _open_input(source: Path) -> BinaryIO:
    try:
        # Looked at before it is opened: to open a pipe waits for whoever writes to it.
        if not stat.S_ISREG(source.stat().st_mode):
            raise InvalidInput(
                f"{source} is not a regular file. Write the requests to a file first"
            )
        file = source.open("rb")
    except FileNotFoundError:
        raise InvalidInput(f"{source} does not exist. Check the path") from None
    except OSError as error:
        raise InvalidInput(f"cannot read {source}: {error.strerror}") from None
    try:
        check_start(file, str(source))
    except BaseException:
        file.close()
        raise
    return file


@dataclass(slots=True)
class _Run:
    """The state of one run. Its tasks are the scheduler's; every row is written by one of them."""

    source: Path
    output: Path
    scheduler: Scheduler
    client: together.AsyncTogether
    lines: BinaryIO
    rows: RowFile
    total: int
    done: int = 0
    tokens: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    stopped: Stop | None = None
    fault: str | None = None
    began: float = field(default_factory=time.monotonic)

    async def execute(self, watch: Callable[[Report], None]) -> None:
        """Run to the end of the file, or to what stops it, while `watch` is told."""
        raised: Exception | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._keep_watched, watch)
                try:
                    await self._send_all()
                except Exception as error:
                    raised = error  # leaves the group as itself, not inside an exception group
                group.cancel_scope.cancel()
        finally:
            watch(self.report())
        if raised is not None:
            raise raised

    async def _keep_watched(self, watch: Callable[[Report], None]) -> None:
        while True:
            watch(self.report())
            await anyio.sleep(_WATCH_EVERY)

    async def _send_all(self) -> None:
        scheduler = self.scheduler.with_options(tokens=formats.estimate_tokens, usage=_tokens_used)
        async with (
            aclosing(self._requests()) as requests,
            scheduler.as_completed(self._ask, requests) as outcomes,
        ):
            async for outcome in outcomes:
                self._settle(outcome)

    async def _requests(self) -> AsyncGenerator[formats.Request, None]:
        """The lines that can be sent; the others get their row here."""
        seen = formats.SeenIds()
        read = 0
        for line in read_lines(self.lines):
            if self.stopped is not None:
                return
            read += 1
            request = formats.parse_line(line, seen)
            if isinstance(request, formats.Request):
                yield request
            else:
                self._fail(request.line, request.custom_id, request.code, request.message)
                await anyio.lowlevel.checkpoint()
        self.total = read  # the count had taken in the blank ones

    async def _ask(self, request: formats.Request) -> formats.Answer:
        try:
            response = await self.client.post(
                request.url, content=request.body, cast_to=httpx.Response
            )
        except together.APIError as error:
            self.fault = _fault(error) or self.fault
            raise
        return _read_response(response)

    def _settle(self, outcome: Outcome[formats.Request, formats.Answer]) -> None:
        request, error = outcome.item, outcome.error
        if error is None:
            self.rows.write(formats.answer_row(request, outcome.result))
            self.done += 1
            self.tokens += outcome.result.tokens or 0
        elif (stop := _stop(error)) is not None:
            # The first refusal says more than the jobs that were not sent because of it.
            if self.stopped is None or not isinstance(error, Latched):
                self.stopped = stop
        else:
            code, message, answer = _describe(error)
            self._fail(request.line, request.custom_id, code, message, answer)

    def _fail(
        self,
        line: int,
        custom_id: str | None,
        code: str,
        message: str,
        answer: formats.Answer | None = None,
    ) -> None:
        self.rows.write(formats.error_row(line, custom_id, code, message, answer))
        self.failed[code] += 1

    def report(self) -> Report:
        """How far it is, now."""
        statistics = self.scheduler.statistics()
        return Report(
            input=self.source,
            output=self.output,
            total=self.total,
            done=self.done,
            failed=dict(self.failed),
            in_flight=statistics.in_flight,
            sent=statistics.sent,
            refused=statistics.refused,
            tokens=self.tokens,
            limit=min((r.limit / r.per for r in self.scheduler.limits.requests), default=None),
            seconds=time.monotonic() - self.began,
            stopped=self.stopped,
            fault=self.fault,
        )


# -- what came back ----------------------------------------------------------------------------


def _tokens_used(answer: formats.Answer) -> int | None:
    return answer.tokens


def _read_response(response: httpx.Response) -> formats.Answer:
    request_id = response.headers.get("x-request-id")
    answer = formats.read_answer(response.status_code, request_id, response.content)
    if answer is None:
        raw = formats.Answer(response.status_code, request_id, response.content, None)
        kind = response.headers.get("content-type", "no content-type")
        raise InvalidAnswer(f"the answer is not JSON ({kind}): {response.text[:80]!r}", raw)
    return answer


def _stop(error: BaseException) -> Stop | None:
    """Why `error` ends the whole run, or None when it is one line's own."""
    if isinstance(error, Unavailable):
        return Stop(Kind.TRANSIENT, str(error))
    if isinstance(error, Latched):
        return Stop(Kind(error.kind), str(error))
    if not isinstance(error, together.APIStatusError):
        return None
    kind = hints.classify(error, wall_time=time.time()).kind
    said = f"{error.status_code}: {_message(error)}"
    if kind is Kind.AUTH:
        return Stop(
            kind,
            f"the provider refuses the key ({said}). Set {ready.KEY_VARIABLE} to a valid one",
        )
    if kind is Kind.QUOTA:
        return Stop(kind, f"the account has no credit left ({said}). Top it up, then run the rest")
    return None


def _fault(error: together.APIError) -> str | None:
    """The name of what kept an attempt from an answer, or None where the provider said no."""
    if isinstance(error, together.APIConnectionError):
        return type(error.__cause__ or error).__name__
    if isinstance(error, together.APIStatusError) and error.status_code >= 500:
        return f"http_{error.status_code}"
    return None


def _describe(error: BaseException) -> tuple[str, str, formats.Answer | None]:
    """The code and the message of a failed line's row, and the provider's last answer."""
    answer: formats.Answer | None = None
    if isinstance(error, InvalidAnswer):
        code, message, answer = "invalid_answer", str(error), error.answer
    elif isinstance(error, together.APIStatusError):
        code, message = f"http_{error.status_code}", _message(error)
        request_id = error.response.headers.get("x-request-id")
        answer = formats.Answer(error.status_code, request_id, error.response.content, None)
    elif isinstance(error, together.APITimeoutError):
        code, message = "timeout", f"no answer within {_TIMEOUT.read:g} s"
    elif isinstance(error, together.APIConnectionError):
        code, message = "connection_error", f"{error} {error.__cause__ or ''}".strip()
    elif isinstance(error, NeverFits):
        code, message = "never_fits", str(error)
    else:
        code, message = type(error).__name__, str(error)
    return code, ". ".join([message, *getattr(error, "__notes__", ())]), answer


def _message(error: together.APIStatusError) -> str:
    """What the provider says in the body of a refusal, or its status line."""
    said = error.body.get("error", error.body) if isinstance(error.body, dict) else error.body
    if isinstance(said, dict):
        said = said.get("message")
    return str(said)[:500] if said else error.response.reason_phrase
