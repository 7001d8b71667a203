"""The command ``headway``: arguments in, exit code out. What it does is elsewhere.

Exit codes: 0 every line is done, 1 some are not, 2 bad usage, input, output or key, 130 Ctrl-C,
143 SIGTERM.
"""

# No `from __future__ import annotations`: typer reads the annotations of commands that are defined
# inside a function, once the extra is known to be there.

import errno
import os
import sys
from typing import TYPE_CHECKING, Annotated

from headway.cli.command import garbage
from headway.cli.command import streams as _streams
from headway.cli.command.endings import BAD_USAGE, CANNOT_WRITE
from headway.errors import MissingExtra

if TYPE_CHECKING:
    import typer

__all__ = ["build", "main"]

_EXTRA = ("filelock", "genai_prices", "httpx", "msgspec", "rich", "textual", "typer", "zstandard")


def main() -> None:
    """Run the command line and exit."""
    garbage.hold()
    _streams.prepare()
    try:
        _run()
    except SystemExit as end:
        unwritten = _streams.leave()
        if unwritten is not None and not end.code:
            _cannot_write(unwritten)
            end.code = CANNOT_WRITE
        _leave(end)
        raise


def _run() -> None:
    try:
        build()()
    except KeyboardInterrupt:  # before the command has come to its own ways
        sys.exit(130)
    except MissingExtra as error:
        _streams.say(f"headway: {error}")
        sys.exit(BAD_USAGE)
    except OSError as error:
        _cannot_write(error)
        sys.exit(CANNOT_WRITE)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        _streams.say(f"headway: {_missing(error.name)}")
        sys.exit(BAD_USAGE)


def _missing(package: str) -> MissingExtra:
    return MissingExtra(
        f"the command line needs {package}, which is not installed",
        fix="install it with: pip install 'headway[cli]'",
    )


def _cannot_write(error: OSError) -> None:
    """Say why standard output could not be written; who reads no more wants no more said."""
    if error.errno != errno.EPIPE:
        _streams.say(f"headway: cannot go on: {error}. Correct that, then run it again")


def _leave(end: SystemExit) -> None:
    """End the process at once where a thread of it waits for an input that nobody wants any more:
    no interpreter can end around one.
    """
    if _streams.input_is_awaited:
        os._exit(end.code if isinstance(end.code, int) else BAD_USAGE)


def build() -> "typer.Typer":
    """The command line. Raises `MissingExtra` without the extra ``headway[cli]``."""
    try:
        import typer
    except ImportError as error:  # pragma: no cover - needs an environment without the extra
        raise _missing("typer") from error

    from headway.cli import ctl, export, limits, merge, plan, probe, report, run, top
    from headway.cli.command.usage import Command

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
        """Each command by its name."""

    commands = (
        run.run, report.report, plan.plan, probe.probe, limits.limits, merge.merge, export.export,
        top.top, ctl.ctl,
    )  # fmt: skip
    for command in commands:
        app.command(cls=Command)(command)
    return app
