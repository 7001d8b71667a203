"""``headway export``: the results of a run as a table."""

from pathlib import Path
from typing import Annotated

import typer

from headway.cli.command import garbage
from headway.cli.command.endings import refused
from headway.cli.command.streams import say
from headway.errors import HeadwayError
from headway.kinds._words import agreed, counted, plural

__all__ = ["export"]


def export(
    rows: Annotated[str, typer.Argument(metavar="RESULTS", help="The results of a run.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="The table: .csv, .tsv or .parquet. [default: RESULTS, ending in .csv]",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the table of an earlier export.")
    ] = False,
) -> None:
    """Write the answers of a run as a table, in the order of its input."""
    from headway.bulk.output.table import export as write

    garbage.collect()
    table = Path(rows).with_suffix(".csv") if output is None else Path(output)
    try:
        count, strange = write(Path(rows), table, overwrite=overwrite)
    except (HeadwayError, OSError) as error:
        raise refused(error) from None
    left = (
        f"; {counted(strange, 'line', 'were')} damaged, no {plural(strange, 'row')} or there "
        f"twice, and {agreed(strange, 'are')} left out"
    )
    say(f"{table}: {counted(count, 'row')}{left if strange else ''}")
    if strange:
        raise typer.Exit(1)
