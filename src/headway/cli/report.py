"""``headway report``: the page on how a run went."""

from pathlib import Path
from typing import Annotated

import typer

from headway.cli.command import garbage
from headway.cli.command.endings import refused
from headway.cli.command.streams import tell
from headway.errors import HeadwayError

__all__ = ["report"]


def report(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="The results of a run, or its .run folder."),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Where the page goes.")
    ] = "report.html",
    redact: Annotated[
        bool, typer.Option("--redact", help="Leave prompts, answers and messages out.")
    ] = False,
) -> None:
    """Write a page that shows how a run went: one file, for any browser, without a network."""
    from headway.bulk.report import write_report

    garbage.collect()
    try:
        write_report(Path(run), Path(output), redact=redact)
    except (HeadwayError, OSError) as error:
        raise refused(error) from None
    tell(output)
