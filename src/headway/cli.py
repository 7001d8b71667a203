"""The command ``headway``: arguments in, exit code out. What it does is in `headway.bulk`.

Exit codes: 0 every line is done, 1 some are not, 2 bad usage, input, output or key, 130 Ctrl-C,
143 SIGTERM.
"""

# No `from __future__ import annotations`: typer reads the annotations of commands that are defined
# inside a function, once the extra is known to be there.

import errno
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

from headway.errors import HeadwayError, InvalidLimit, MissingExtra

if TYPE_CHECKING:
    import typer

    from headway.bulk import Report

__all__ = ["build", "main"]

ALL_DONE, SOME_FAILED, BAD_USAGE = 0, 1, 2

_STOPS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

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

    def show_version(wanted: bool) -> None:
        if wanted:
            from headway import __version__

            typer.echo(f"headway {__version__}")
            raise typer.Exit

    @app.callback()
    def headway(
        version: Annotated[
            bool,
            typer.Option(
                "--version", callback=show_version, is_eager=True, help="Show the version."
            ),
        ] = False,
    ) -> None:
        """Keep `run` a command by its name, also while it is the only one."""

    @app.command()
    def run(
        source: Annotated[
            str,
            typer.Argument(
                metavar="REQUESTS.jsonl",
                help="Requests in the OpenAI or the Together batch form, one a line.",
            ),
        ],
        output: Annotated[
            str | None,
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
    source: str,
    output: str | None,
    rate: str | None,
    tokens: str | None,
    concurrency: int,
    overwrite: bool,
) -> int:
    with _noting_signals() as caught:
        import anyio

        from headway import Retry, Scheduler, bulk
        from headway.bulk import progress

        console = progress.stderr()
        shown = progress.display(console)

        async def work() -> "Report | None":
            _check_names(source, output)
            _check_limits(rate, tokens, concurrency)
            scheduler: Scheduler = Scheduler(
                rate, tokens=tokens, concurrency=concurrency, retry=Retry(patience=_PATIENCE)
            )
            with anyio.CancelScope() as scope:

                def watch(report: "Report") -> None:
                    shown(report)
                    if caught:
                        scope.cancel()

                return await bulk.run(
                    source, output, scheduler=scheduler, overwrite=overwrite, watch=watch
                )
            return None

        try:
            with progress.logging_to(console), shown:
                report = anyio.run(work)
        except HeadwayError as error:
            code, problem = BAD_USAGE, str(error)
        except OSError as error:
            code, problem = SOME_FAILED, _cannot_go_on(error)
        else:
            if report is None:
                code, problem = 128 + caught[0], f"stopped by {_STOPS[caught[0]]}"
            else:
                code, problem = _exit_code(report), _problem(report)
        if shown.last is not None:
            console.print(progress.summary(shown.last))
        if problem:
            console.print(f"headway: {problem}", style="bold red", markup=False, soft_wrap=True)
        return code


@contextmanager
def _noting_signals() -> Iterator[list[signal.Signals]]:
    """The signals that ask for an end, as they come; none of them interrupts anything.

    Once there was one, the process is about to end, and no other changes how it does.
    """
    caught: list[signal.Signals] = []
    previous = {number: signal.getsignal(number) for number in _STOPS}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, _: caught.append(signal.Signals(number)))
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_IGN if caught else handler)


def _check_names(source: str, output: str | None) -> None:
    from headway.bulk import InvalidInput, InvalidOutput

    if source == "-":
        raise InvalidInput(
            "standard input cannot be read yet. Write the requests to a file, and give its path "
            "(./- for a file of that name)"
        )
    if output == "-":
        raise InvalidOutput(
            "rows cannot go to standard output yet. Give the path of a file with -o "
            "(./- for a file of that name)"
        )


def _check_limits(rate: str | None, tokens: str | None, concurrency: int) -> None:
    """Raise `InvalidLimit` in the words of the command line, not in those of the library."""
    from headway.rates import Limits, Rate

    def check(option: str, example: str, make: Callable[[], object]) -> None:
        try:
            make()
        except InvalidLimit as error:
            what = str(error).partition(" Fix: ")[0].removeprefix("concurrency=")
            raise InvalidLimit(f"{option} {what} Fix: {option} {example}") from None

    def completed(text: str, example: str) -> str:
        """`text` with the period that it lacks, or `example` where that is no rate either."""
        try:
            Rate.parse(f"{text}/min")
        except InvalidLimit:
            return example
        return f"{text}/min"

    for option, text, example in (("--rate", rate, "600/min"), ("--tokens", tokens, "180k/min")):
        if text is not None:
            check(option, completed(text.strip(), example), partial(Rate.parse, text))
    check("--concurrency", "32", partial(Limits, concurrency=concurrency))


def _cannot_go_on(error: OSError) -> str:
    fix = "Free some space" if error.errno in _FULL else "Correct that"
    return f"cannot go on: {error}. {fix}, then run again with another -o: rows written are kept"


def _problem(report: "Report") -> str:
    if report.stopped is not None:
        return report.stopped.reason
    if not report.done and set(report.failed) == {"http_404"}:
        return (
            "every line was answered with 404, not found. "
            "Check the address in TOGETHER_BASE_URL, and the names of the models"
        )
    return ""


def _exit_code(report: "Report") -> int:
    from headway.events import Kind

    if report.stopped is not None:
        return BAD_USAGE if report.stopped.kind is Kind.AUTH else SOME_FAILED
    return SOME_FAILED if report.failed else ALL_DONE
