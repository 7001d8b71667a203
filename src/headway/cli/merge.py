"""``headway merge``: the results of shards in one file."""

from typing import Annotated

import typer

from headway.cli.command import garbage
from headway.cli.command.endings import refused
from headway.cli.command.streams import say
from headway.errors import HeadwayError
from headway.kinds._words import agreed, counted

__all__ = ["merge"]


def merge(
    outputs: Annotated[
        list[str], typer.Argument(metavar="RESULTS…", help="The results of all shards of a run.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Where all rows go.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Merge what is there, though shards are not done.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output if it exists.")
    ] = False,
) -> None:
    """Join the results of shards in one file, in the order of the input."""
    from headway.bulk.output.merge import merge as join

    garbage.collect()
    try:
        merged = join(outputs, output, partial=partial, overwrite=overwrite)
    except (HeadwayError, OSError) as error:
        raise refused(error) from None
    parts = [counted(merged.rows, "row"), f"{merged.failed:,} of them failed"]
    if merged.duplicates:
        have = agreed(merged.duplicates, "have")
        parts.append(f"{merged.duplicates:,} {have} a custom_id that came before")
    if merged.damaged:
        were, are = agreed(merged.damaged, "were"), agreed(merged.damaged, "are")
        parts.append(f"{merged.damaged:,} {were} damaged or there twice, and {are} left out")
    if merged.missing:
        parts.append(f"{counted(merged.missing, 'line', 'have')} no row")
    say(f"{output}: {', '.join(parts)}")
