"""``headway run``: the command for every large job."""

import errno
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headway.cli import options
from headway.cli.streams import say
from headway.errors import HeadwayError

if TYPE_CHECKING:
    from headway.bulk import Check, Report

__all__ = ["add"]

ALL_DONE, SOME_FAILED, BAD_USAGE = 0, 1, 2

_STOPS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
if hasattr(signal, "SIGHUP"):  # not on Windows
    _STOPS[signal.SIGHUP] = "SIGHUP"
_FIXES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Free some space"),
    errno.EMFILE: "Raise the limit of open files (ulimit -n), or lower --concurrency",
    errno.ENFILE: "Close what else has files open on this machine, or lower --concurrency",
    **dict.fromkeys((errno.ENOMEM, errno.ENOBUFS), "Free some memory, or lower --concurrency"),
}

_PATIENCE = 900.0  # seconds: an hour's outage is for a resumed run, a quarter's is waited for

_DEAF = 1.0  # seconds after which a signal that nobody has looked at will not be
# Codes of lines that only their author can mend: the same lines would fail again.
_YOURS = {
    "duplicate_custom_id", "invalid_body", "invalid_csv", "invalid_custom_id", "invalid_json",
    "invalid_line", "invalid_max_tokens", "invalid_method", "line_too_long", "missing_body",
    "missing_column", "missing_custom_id", "mixed_forms", "never_fits", "not_utf8",
    "stream_not_supported", "unsupported_url", "wrong_fields",
}  # fmt: skip

_SHOWN = 20  # urls and models that --check prints

_RESUMING = "Resuming"
_BOUNDS = "Bounds"


class Ambiguous(StrEnum):
    """What becomes of lines that were in flight when a run was killed."""

    RETRY = "retry"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The options of one run."""

    source: str
    output: str | None
    rate: str | None
    tokens: str | None
    concurrency: int
    provider: str | None
    base_url: str | None
    shape: Any
    shard: str | None
    prices: str | None
    limit: int | None
    trust_ids: bool
    json: bool
    rest: dict[str, Any]


def add(app: typer.Typer) -> None:
    """Add the command to `app`."""

    @app.command()
    def run(
        source: options.Source,
        output: Annotated[
            str | None,
            typer.Option(
                "--output",
                "-o",
                help="Where the rows go; - is standard output. [default: REQUESTS.results.jsonl]",
            ),
        ] = None,
        rate: options.RateText = None,
        tokens: options.TokensText = None,
        concurrency: options.Concurrency = 32,
        provider: options.ProviderName = None,
        base_url: options.BaseUrl = None,
        endpoint: options.EndpointName = None,
        model: options.Model = None,
        prompt_column: options.PromptColumn = None,
        id_column: options.IdColumn = None,
        template: options.Template = None,
        system: options.System = None,
        param: options.Parameters = None,
        limit: options.Limit = None,
        shard: Annotated[
            str | None,
            typer.Option(
                "--shard",
                metavar="I/N",
                help="Only part I (from 0) of N, by bytes of the file; headway merge joins them.",
            ),
        ] = None,
        ordered: Annotated[
            bool, typer.Option("--ordered", help="Write the rows in the order of the input.")
        ] = False,
        check: Annotated[
            bool, typer.Option("--check", help="Read the whole input and report; send nothing.")
        ] = False,
        trust_ids: Annotated[
            bool,
            typer.Option(
                "--trust-ids", help="Do not look for custom_ids that come twice: saves memory."
            ),
        ] = False,
        retry_failed: Annotated[
            bool,
            typer.Option(
                "--retry-failed",
                help="Take up the lines again that failed.",
                rich_help_panel=_RESUMING,
            ),
        ] = False,
        ambiguous: Annotated[
            Ambiguous,
            typer.Option(
                help="Lines that were in flight when a run was killed, and may have been billed: "
                "send them again, or report them as failed.",
                rich_help_panel=_RESUMING,
            ),
        ] = Ambiguous.RETRY,
        overwrite: Annotated[
            bool,
            typer.Option(
                "--overwrite",
                help="Begin anew, and replace the output.",
                rich_help_panel=_RESUMING,
            ),
        ] = False,
        max_cost: Annotated[
            float | None,
            typer.Option(
                "--max-cost",
                min=0,
                metavar="DOLLARS",
                help="Stop before more than this is spent.",
                rich_help_panel=_BOUNDS,
            ),
        ] = None,
        max_tokens: Annotated[
            int | None,
            typer.Option(
                "--max-tokens",
                min=1,
                metavar="TOKENS",
                help="Stop before more than this is used, by the whole run.",
                rich_help_panel=_BOUNDS,
            ),
        ] = None,
        prices: options.PricesFile = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="A JSON object a second in place of the display.")
        ] = False,
    ) -> None:
        """Send every request of a file, and write one row for each.

        Run the same command again after a stop, a crash or a Ctrl-C: it goes on where it was.
        """
        try:
            wanted = _Wanted(
                source=source, output=output, rate=rate, tokens=tokens, concurrency=concurrency,
                provider=provider, base_url=base_url,
                shape=options.shape(
                    endpoint, model, prompt_column, id_column, template, system, param
                ),
                shard=shard, prices=prices, limit=limit, trust_ids=trust_ids, json=as_json,
                rest={
                    "ordered": ordered, "overwrite": overwrite, "retry_failed": retry_failed,
                    "ambiguous": ambiguous.value, "max_cost": max_cost, "max_tokens": max_tokens,
                },
            )  # fmt: skip
        except HeadwayError as error:
            say(f"headway: {error}")
            raise typer.Exit(BAD_USAGE) from None
        raise typer.Exit(_check(wanted) if check else _run(wanted))


def _run(wanted: _Wanted) -> int:
    with _noting_signals() as caught:
        import anyio

        from headway import Retry, Scheduler, bulk
        from headway.cli import display as progress
        from headway.prices import Prices

        console = progress.stderr()
        lines = None
        if wanted.json:
            lines = sys.stderr if _rows_to_stdout(wanted) else sys.stdout
        shown = progress.display(console, as_lines=lines)
        unshown: list[OSError] = []

        async def work() -> "Report | None":
            options.check_limits(wanted.rate, wanted.tokens, wanted.concurrency)
            scheduler: Scheduler = Scheduler(
                wanted.rate,
                tokens=wanted.tokens,
                concurrency=wanted.concurrency,
                retry=Retry(patience=_PATIENCE),
            )
            drain = anyio.Event()
            with anyio.CancelScope() as scope:

                def watch(report: "Report") -> None:
                    try:
                        shown(report)
                    except OSError as error:  # nobody reads the progress: what is sent is kept
                        unshown.append(error)
                        drain.set()
                    caught.begun, caught.heard = True, bool(caught)
                    if caught and not drain.is_set():
                        drain.set()
                        if not wanted.json:
                            console.print(
                                _draining(report, caught[0]), style="bold", soft_wrap=True
                            )
                    if len(caught) > 1:
                        scope.cancel()

                return await bulk.run(
                    wanted.source,
                    wanted.output,
                    scheduler=scheduler,
                    endpoint=bulk.find_endpoint(wanted.provider, wanted.base_url),
                    shape=wanted.shape,
                    shard=None if wanted.shard is None else bulk.Shard.parse(wanted.shard),
                    limit=wanted.limit,
                    trust_ids=wanted.trust_ids,
                    prices=Prices() if wanted.prices is None else Prices.read(wanted.prices),
                    watch=watch,
                    drain=drain,
                    **wanted.rest,
                )
            return None

        report, code, problem = None, SOME_FAILED, ""
        try:
            with progress.logging_to(console), shown:
                caught.undraw = partial(shown.__exit__, None, None, None)  # type: ignore[method-assign]
                report = anyio.run(work)
            if unshown:
                raise unshown[0]
        except HeadwayError as error:
            code, problem = BAD_USAGE, str(error)
        except OSError as error:
            code, problem = SOME_FAILED, _cannot_go_on(error, wanted)
        else:
            if caught and (report is None or report.remaining != 0):
                code, problem = 128 + caught[0], f"stopped by {_STOPS[caught[0]]}{_again(wanted)}"
            elif report is not None:
                code, problem = _exit_code(report), _problem(report, wanted)
        if shown.last is not None and not wanted.json:
            console.print(progress.summary(shown.last))
        if problem:
            console.print(f"headway: {problem}", style="bold red", markup=False, soft_wrap=True)
        return code


def _check(wanted: _Wanted) -> int:
    """Read the whole input and say what is in it."""
    from headway import bulk

    try:
        shard = None if wanted.shard is None else bulk.Shard.parse(wanted.shard)
        source = bulk.open_source(
            wanted.source, wanted.shape, shard=shard, limit=wanted.limit,
            trust_ids=wanted.trust_ids,
        )  # fmt: skip
        try:
            found = bulk.check(source)
        finally:
            source.close()
    except HeadwayError as error:
        say(f"headway: {error}")
        return BAD_USAGE
    for line in _found(found):
        typer.echo(line)
    return SOME_FAILED if found.errors else ALL_DONE


def _found(check: "Check") -> Iterator[str]:
    """What `--check` prints."""
    bad = sum(count for count, _ in check.errors.values())
    yield f"{check.lines:,} lines: {check.lines - bad:,} can be sent, {bad:,} cannot"
    for name, counts in (("to", check.urls), ("for", check.models)):
        for what, count in sorted(counts.items(), key=lambda item: -item[1])[:_SHOWN]:
            yield f"  {count:>12,} {name} {what}"
        if len(counts) > _SHOWN:
            yield f"  {'':>12} and {len(counts) - _SHOWN:,} more"
    yield (
        f"about {check.input_tokens:,} tokens to read, and at most {check.max_tokens:,} to write "
        "where the lines say so"
    )
    yield f"the largest line has {check.largest_line:,} bytes"
    for code, (count, examples) in sorted(check.errors.items()):
        yield f"{count:,} {code}:"
        for message in examples:
            yield f"  {message}"
        if count > len(examples):
            yield f"  and {count - len(examples):,} more"


class _Caught(list[signal.Signals]):
    """Signals as they came; whether the run has begun, and has looked at them; and when the first
    came.
    """

    begun = False
    heard = False
    since = 0.0  # of the monotonic clock

    def undraw(self) -> None:
        """Take the live display off the terminal."""


@contextmanager
def _noting_signals() -> Iterator[_Caught]:
    """The signals that ask for an end, as they come; none of them interrupts anything.

    Once there was one, the process is about to end, and no other changes how it does. Only before
    anything is sent, while an input is waited for or measured, the first one ends it at once, and
    the second where nobody hears the first: every row that is there was written whole.
    """
    caught = _Caught()

    def note(number: int, _: object) -> None:
        now = time.monotonic()
        caught.append(signal.Signals(number))
        deaf = not caught.heard and caught.since and now - caught.since > _DEAF
        if not caught.begun or deaf:
            with suppress(Exception):  # as it comes in the middle of whatever was done
                caught.undraw()
            with suppress(OSError):
                os.write(2, f"headway: stopped by {_STOPS[caught[0]]}\n".encode())
            os._exit(128 + caught[0])
        caught.since = caught.since or now

    previous = {number: signal.getsignal(number) for number in _STOPS}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, note)
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_IGN if caught else handler)


def _rows_to_stdout(wanted: _Wanted) -> bool:
    return wanted.output == "-" or (wanted.source == "-" and wanted.output is None)


def _draining(report: "Report", number: signal.Signals) -> str:
    return (
        f"{_STOPS[number]}: waiting for {report.in_flight:,} in flight, and sending nothing more. "
        "Once more to stop at once"
    )


def _again(wanted: _Wanted) -> str:
    return "" if _rows_to_stdout(wanted) else ". Run the same command again to go on"


def _cannot_go_on(error: OSError, wanted: _Wanted) -> str:
    if error.errno == errno.EPIPE:
        what = "rows" if _rows_to_stdout(wanted) else "progress"
        return f"cannot go on: nobody reads the {what} any more{_again(wanted)}"
    fix = _FIXES.get(error.errno or 0, "Correct that")
    kept = "" if _rows_to_stdout(wanted) else ": rows written are kept"
    return f"cannot go on: {error}. {fix}, then run the same command again{kept}"


def _problem(report: "Report", wanted: _Wanted) -> str:
    if report.stopped is not None:
        return report.stopped.reason
    if not report.done and set(report.failed) == {"http_404"}:
        check = "the names of the models"
        if wanted.base_url is not None:
            check = f"the address in --base-url, and {check}"
        elif wanted.provider in (None, "together"):
            check = f"the address in TOGETHER_BASE_URL, and {check}"
        return f"every line was answered with 404, not found. Check {check}"
    if not report.failed or _rows_to_stdout(wanted):
        return ""
    fixable = sum(n for code, n in report.failed.items() if code in _YOURS)
    again = sum(report.failed.values()) - fixable
    says = []
    if again:
        says.append(f"{again:,} failed: take them up with --retry-failed")
    if fixable:
        says.append(
            f"{fixable:,} could not be sent: put them, corrected, in a file of their own "
            "(see the errors file)"
        )
    return ". ".join(says)


def _exit_code(report: "Report") -> int:
    if (stop := report.stopped) is not None:
        return BAD_USAGE if stop.kind is not None and stop.kind.mistake else SOME_FAILED
    return SOME_FAILED if report.failed else ALL_DONE
