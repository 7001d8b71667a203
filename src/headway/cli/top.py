"""``headway top``: what the schedulers of running processes do, live."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli import garbage
from headway.cli.endings import refused
from headway.cli.streams import say, tell
from headway.errors import HeadwayError

if TYPE_CHECKING:
    from pathlib import Path

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
    streams = (sys.stdin, sys.stdout, sys.stderr)  # textual reads the first and writes the last
    if not all(stream is not None and stream.isatty() for stream in streams):
        _print(path)
        return
    from headway.cli.screen import Top

    garbage.collect()
    Top(path).run()


def _print(path: "Path | None") -> None:
    """One look at the one at `path`, or all, where no terminal is there to draw on."""
    from rich.console import Console

    from headway.cli.watched import drawn
    from headway.hooks.watch.client import NOTHING, look
    from headway.hooks.watch.history import Moment

    garbage.collect()
    found, problems = look(since={})
    for each in problems:
        say(f"headway: {each}")
    if not found:
        tell(NOTHING)
    console = Console(highlight=False, markup=False, emoji=False)
    for one in found:
        if path in (None, one.path):
            moments = [Moment(*moment) for moment in one.status.get("history", ())]
            title, plain = str(one), console.options.ascii_only
            console.print(drawn(one.status, moments, console.width, title=title, plain=plain))
