"""``headway run``: the command for every large job."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli.command import garbage, options, streams
from headway.cli.command.endings import (
    BAD_USAGE,
    SOME_FAILED,
    again,
    cannot_go_on,
    exit_code,
    problem,
    refused,
)
from headway.cli.command.signals import Caught, noting_signals
from headway.errors import HeadwayError
from headway.kinds._words import printable, redacted
from headway.rates import Limits

if TYPE_CHECKING:
    from rich.console import Console

    from headway import Watched
    from headway.bulk import Progress, RunOptions
    from headway.cli.display.live import Display
    from headway.providers import Endpoint

__all__ = ["run"]

_PATIENCE = 900.0  # seconds: an hour's outage is for a resumed run, a quarter's is waited for

_AT_ONCE = 32

_RESUMING = "Resuming"
_BOUNDS = "Bounds"


class Ambiguous(StrEnum):
    """What becomes of lines that were in flight when a run was killed."""

    RETRY = "retry"
    REPORT = "report"


def run(
    source: options.Source,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the rows go; - is standard output; a .csv, .tsv or .parquet is the input "
            "with its answers in a column. [default: REQUESTS.results.jsonl]",
        ),
    ] = None,
    rate: options.RateText = None,
    tokens: options.TokensText = None,
    input_tokens: options.InputTokensText = None,
    output_tokens: options.OutputTokensText = None,
    concurrency: Annotated[
        int | None,
        typer.Option(help="Requests in flight at most. [default: 32]", rich_help_panel="Limits"),
    ] = None,
    shared: options.SharedName = None,
    provider: options.ProviderName = None,
    base_url: options.BaseUrl = None,
    endpoint: options.EndpointName = None,
    header: options.Headers = None,
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
    dask: Annotated[
        str | None,
        typer.Option(
            "--dask",
            metavar="ADDRESS",
            help="Run the file in shards on a cluster of dask.distributed: the address of its "
            "scheduler, or local, or local:4 for four processes of this machine.",
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
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="Go on where the first lines all fail alike and nothing is answered.",
            rich_help_panel=_BOUNDS,
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
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            help="What one answer may take in all; it is asked for again then. [default: 600]",
            rich_help_panel=_BOUNDS,
        ),
    ] = None,
    max_answer: Annotated[
        int | None,
        typer.Option(
            "--max-answer",
            metavar="BYTES",
            help="What one answer may be long; a larger one fails. [default: 67108864]",
            rich_help_panel=_BOUNDS,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object a second in place of the display.")
    ] = False,
    no_watch: Annotated[
        bool, typer.Option("--no-watch", help="Do not let headway top and ctl find this run.")
    ] = False,
) -> None:
    """Send every request of a file, and write one row for each.

    Run the same command again after a stop, a crash or a Ctrl-C: it goes on where it was.
    """
    with noting_signals() as caught:
        from headway.bulk import RunOptions, Shard
        from headway.bulk.options import MAX_ANSWER, TIMEOUT
        from headway.cli.check import check as check_input
        from headway.prices import Prices

        try:
            how = RunOptions(
                shape=options.shape(
                    endpoint, model, prompt_column, id_column, template, system, param
                ),
                shard=None if shard is None else Shard.parse(shard),
                limit=limit,
                trust_ids=trust_ids,
                ordered=ordered,
                overwrite=overwrite,
                retry_failed=retry_failed,
                keep_going=keep_going,
                ambiguous=ambiguous.value,
                max_cost=max_cost,
                max_tokens=max_tokens,
                prices=Prices() if prices is None else Prices.read(prices),
                timeout=TIMEOUT if timeout is None else timeout,
                max_answer=MAX_ANSWER if max_answer is None else max_answer,
            )
            if check:
                garbage.collect()
                raise typer.Exit(check_input(source, how))
            stated = (rate, tokens, input_tokens, output_tokens, concurrency)
            joins = shared is not None and all(each is None for each in stated)
            limits = (
                Limits()
                if joins
                else options.limits(
                    rate,
                    tokens,
                    _AT_ONCE if concurrency is None else concurrency,
                    input_tokens,
                    output_tokens,
                )
            )
        except HeadwayError as error:
            raise refused(error) from None
        asked = _Requested(source, output, how, limits, shared, provider, base_url, header)
        begin = partial(_here if dask is None else partial(_on_cluster, dask), asked)
        begin = partial(begin, ask_to_end=None if no_watch else caught.drain)
        raise typer.Exit(_run(begin, asked, as_json, caught))


class _Requested:
    """The run that was asked for."""

    # A tuple with names, or a dataclass, would be made anew at each start, of any command.
    def __init__(
        self,
        source: str,
        output: str | None,
        how: "RunOptions",
        limits: Limits,
        shared: str | None,
        provider: str | None,
        base_url: str | None,
        headers: list[str] | None,
    ) -> None:
        self.source, self.output, self.options = source, output, how
        self.limits, self.shared = limits, shared
        self.provider, self.base_url, self.headers = provider, base_url, headers

    @property
    def endpoint(self) -> "Endpoint":
        """Where to send. Raises `InvalidSettings`."""
        return options.endpoint(self.provider, self.base_url, self.headers)

    @property
    def name(self) -> str:
        """What it is called where it is watched."""
        return "standard input" if self.source == "-" else Path(self.source).name or "headway run"

    @property
    def to_stdout(self) -> bool:
        """Whether its rows go to standard output."""
        return self.output == "-" or (self.source == "-" and self.output is None)


def _here(
    asked: _Requested, watch_with: "_WatchWith", *, ask_to_end: Callable[[], object] | None
) -> "Progress | None":
    """Run in this process; None where it was cancelled. Who watches it from outside asks for its
    end by `ask_to_end`; without that nobody can watch it.
    """
    import anyio

    from headway import Retry, bulk
    from headway import watch as let_watch
    from headway.scheduler import scheduler_under

    async def work() -> "Progress | None":
        retry = Retry(patience=_PATIENCE)
        scheduler = scheduler_under(asked.limits, retry=retry, shared=asked.shared)
        endpoint = asked.endpoint
        progress = None
        scope, drain = anyio.CancelScope(), anyio.Event()
        watch = watch_with(drain.set, scope.cancel)
        async with scheduler:
            with ExitStack() as stack:
                if ask_to_end is not None:
                    watched = let_watch(scheduler, asked.name, drain=ask_to_end)
                    watch.watched = stack.enter_context(watched)
                stack.enter_context(scope)
                progress = await bulk.run(
                    asked.source,
                    asked.output,
                    scheduler=scheduler,
                    options=asked.options,
                    endpoint=endpoint,
                    watch=watch,
                    drain=drain,
                )
        if watch.unshown is not None:
            raise watch.unshown
        return progress

    return anyio.run(work)


def _on_cluster(
    cluster: str,
    asked: _Requested,
    watch_with: "_WatchWith",
    *,
    ask_to_end: Callable[[], object] | None,
) -> "Progress":
    """Run in shards on a cluster; `ask_to_end` is as in `_here`."""
    from headway import watch as let_watch
    from headway.cli.cluster import dask
    from headway.cli.cluster.shards import CANCEL, DRAIN
    from headway.cli.cluster.stand_in import StandIn

    wanted = [0]
    watch = watch_with(partial(wanted.append, DRAIN), partial(wanted.append, CANCEL))
    shards = StandIn(asked.limits)

    def see(progress: "Progress") -> None:
        shards.progress = progress
        watch(progress)

    with ExitStack() as stack:
        if ask_to_end is not None:
            watched = let_watch(shards, asked.name, drain=ask_to_end)
            watch.watched = stack.enter_context(watched)
        progress = dask.run(
            cluster,
            asked.source,
            asked.output,
            options=asked.options,
            limits=asked.limits,
            patience=_PATIENCE,
            endpoint=asked.endpoint,
            shared=asked.shared,
            watch=see,
            asked=lambda: max(wanted),
        )
    if watch.unshown is not None:
        raise watch.unshown
    return progress


def _run(
    begin: Callable[["_WatchWith"], "Progress | None"],
    asked: _Requested,
    as_json: bool,
    caught: Caught,
) -> int:
    """Run to the end, whatever that is, and say so; the exit code."""
    from headway.bulk.input.feed import still_reading
    from headway.cli.display import live

    to_stdout = asked.to_stdout
    console = live.stderr()
    lines = (sys.stderr if to_stdout else sys.stdout) if as_json else None
    shown = live.display(console, as_lines=lines)
    watch_with = partial(_Watch, shown, caught, None if as_json else console)
    progress, code, last = None, SOME_FAILED, ""
    garbage.collect()
    try:
        with live.logging_to(console), shown:
            caught.undraw = partial(shown.__exit__, None, None, None)
            try:
                progress = begin(watch_with)
            finally:
                streams.input_is_awaited = still_reading()
    except HeadwayError as error:
        code, last = BAD_USAGE, str(error)
    except OSError as error:
        last = cannot_go_on(error, to_stdout)
    else:
        if caught and (progress is None or progress.remaining != 0):
            code, last = 128 + caught[0], f"stopped by {caught.asked_by}{again(to_stdout)}"
        elif progress is not None:
            code = exit_code(progress)
            last = problem(progress, to_stdout, provider=asked.provider, base_url=asked.base_url)
    if shown.last is not None and not as_json:
        console.print(live.summary(shown.last))
    if last:
        said = printable(redacted(f"headway: {last}"))
        console.print(said, style="bold red", markup=False, emoji=False, soft_wrap=True)
    return code


class _Watch:
    """Shows how far a run is, and asks for its end where a signal did, or nobody reads that any
    more: what is sent is kept.
    """

    def __init__(
        self,
        shown: "Display",
        caught: Caught,
        console: "Console | None",
        drain: Callable[[], object],
        cancel: Callable[[], object],
    ) -> None:
        self._shown = shown
        self._caught = caught
        self._console = console
        self._drain = drain
        self._cancel = cancel
        self._draining = False
        self.unshown: OSError | None = None
        self.watched: Watched | None = None  # where it can be seen from outside

    def __call__(self, progress: "Progress") -> None:
        caught = self._caught
        try:
            self._shown(progress)
            if self.watched is not None:
                self.watched.show(
                    cost=progress.cost, done=progress.rows, total=progress.total, eta=progress.eta
                )
        except OSError as error:
            self.unshown = self.unshown or error
            self._draining = True
            self._drain()
        caught.begun, caught.heard = True, bool(caught)
        if caught and not self._draining:
            self._draining = True
            self._drain()
            if self._console is not None:
                self._console.print(
                    _draining(progress, caught.asked_by), style="bold", soft_wrap=True
                )
        if len(caught) > 1:
            self._cancel()


def _draining(progress: "Progress", asked_by: str) -> str:
    return (
        f"{asked_by}: waiting for {progress.in_flight:,} in flight, and sending nothing more. "
        "Once more to stop at once"
    )


_WatchWith = Callable[[Callable[[], object], Callable[[], object]], _Watch]
"""A watch, from how it asks for the end, and for an end at once."""
