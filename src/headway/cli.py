"""The command ``headway``: arguments in, exit code out. What it does is in `headway.bulk`.

Exit codes: 0 every line is done, 1 some are not, 2 bad usage, input, output or key, 130 Ctrl-C.
"""

# No `from __future__ import annotations`: typer reads the annotations of commands that are defined
# inside a function, once the extra is known to be there.

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from headway.errors import HeadwayError, MissingExtra

if TYPE_CHECKING:
    import typer

    from headway.bulk import Report

__all__ = ["build", "main"]

ALL_DONE, SOME_FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130

_PATIENCE = 900.0  # seconds: an hour's outage is for a resumed run, a quarter's is waited for


def main() -> None:
    """Run the command line and exit."""
    try:
        build()()
    except MissingExtra as error:
        sys.stderr.write(f"headway: {error}\n")
        sys.exit(BAD_USAGE)


def build() -> "typer.Typer":
    """The command line. Raises `MissingExtra` without the extra ``headway[cli]``."""
    try:
        import typer
    except ImportError as error:  # pragma: no cover - needs an environment without the extra
        raise MissingExtra(
            "the command line needs typer, which is not installed. "
            "Install it with: pip install 'headway[cli]'"
        ) from error

    app = typer.Typer(
        name="headway",
        help="Calls to rate-limited APIs: as fast as the limits allow, every one done.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def headway() -> None:
        """Keep `run` a command by its name, also while it is the only one."""

    @app.command()
    def run(
        source: Annotated[
            Path,
            typer.Argument(
                metavar="REQUESTS.jsonl",
                help="Requests in the OpenAI or the Together batch form, one a line.",
            ),
        ],
        output: Annotated[
            Path | None,
            typer.Option(
                "--output", "-o", help="Where the rows go. [default: REQUESTS.results.jsonl]"
            ),
        ] = None,
        rate: Annotated[
            str | None, typer.Option(help='The limit of requests, such as "600/min" or "10/s".')
        ] = None,
        tokens: Annotated[
            str | None, typer.Option(help='The limit of tokens, such as "180k/min".')
        ] = None,
        concurrency: Annotated[int, typer.Option(help="Requests in flight at most.")] = 32,
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="Replace the output if it exists.")
        ] = False,
    ) -> None:
        """Send every request of a file, and write one row for each.

        The key is read from TOGETHER_API_KEY, the address from TOGETHER_BASE_URL.
        """
        raise typer.Exit(_run(source, output, rate, tokens, concurrency, overwrite))

    return app


def _run(
    source: Path,
    output: Path | None,
    rate: str | None,
    tokens: str | None,
    concurrency: int,
    overwrite: bool,
) -> int:
    import anyio

    from headway import Retry, Scheduler, bulk
    from headway.bulk import progress

    console = progress.stderr()
    shown = progress.display(console)

    async def work() -> "Report":
        scheduler: Scheduler = Scheduler(
            rate, tokens=tokens, concurrency=concurrency, retry=Retry(patience=_PATIENCE)
        )
        return await bulk.run(source, output, scheduler=scheduler, overwrite=overwrite, watch=shown)

    try:
        with progress.logging_to(console), shown:
            report = anyio.run(work)
    except HeadwayError as error:
        code, problem = BAD_USAGE, str(error)
    except OSError as error:
        code, problem = SOME_FAILED, f"cannot go on: {error}"
    except KeyboardInterrupt:
        code, problem = INTERRUPTED, "stopped by Ctrl-C"
    else:
        code, problem = _exit_code(report), report.stopped.reason if report.stopped else ""
    if shown.last is not None:
        console.print(progress.summary(shown.last))
    if problem:
        console.print(f"headway: {problem}", style="bold red", markup=False, soft_wrap=True)
    return code


def _exit_code(report: "Report") -> int:
    from headway.events import Kind

    if report.stopped is not None:
        return BAD_USAGE if report.stopped.kind is Kind.AUTH else SOME_FAILED
    return SOME_FAILED if report.failed else ALL_DONE
