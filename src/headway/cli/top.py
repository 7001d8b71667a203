"""``headway top``: what the schedulers of running processes do, live."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli.command import garbage
from headway.cli.command.endings import refused
from headway.cli.command.streams import say, tell
from headway.errors import HeadwayError

if TYPE_CHECKING:
    from pathlib import Path

    from headway.hooks.watch.client import Target

__all__ = ["top"]


def top(
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|PID]",
            help="The one to show. Left out: all that there are, and the arrows choose.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show what running processes send, what holds them back, and minutes of history; p pauses, d
    drains, q quits. headway.watch(scheduler) lets a program be seen, and headway run is by itself.
    """
    from headway.hooks.watch.client import choose

    try:
        path = None if which is None else choose(which).path
    except (HeadwayError, OSError) as error:
        raise refused(error) from None
    from headway.hooks.watch.client import look

    found, problems = look(since={})
    found = [each for each in found if path in (None, each.path)]
    streams = (sys.stdin, sys.stdout, sys.stderr)  # textual reads the first and writes the last
    if all(stream is not None and stream.isatty() for stream in streams):
        _show(path, found, problems)
    else:
        _print(found, problems)


def _show(path: "Path | None", found: "list[Target]", problems: list[str]) -> None:
    """Draw what was found at once, and have textual go on: to import that takes longer than all
    the rest.
    """
    from rich.console import Console
    from rich.padding import Padding

    from headway.cli.display.watched import moments_of, page

    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    several = [(str(one), one.status, moments_of(one.status)) for one in found]
    with console.screen():
        console.print(Padding(page(several, problems, console.width), (0, 1)))
        from headway.cli.display.screen import Top

        garbage.collect()
        Top(path, (found, problems)).run()


def _print(found: "list[Target]", problems: list[str]) -> None:
    """Print what was found, where no terminal is there to draw on."""
    from rich.console import Console

    from headway.cli.display.watched import drawn, moments_of
    from headway.hooks.watch.client import NOTHING

    garbage.collect()
    for each in problems:
        say(f"headway: {each}")
    if not found:
        tell(NOTHING)
    console = Console(highlight=False, markup=False, emoji=False)
    for one in found:
        title, plain = str(one), console.options.ascii_only
        moments = moments_of(one.status)
        console.print(drawn(one.status, moments, console.width, title=title, plain=plain))
