"""The standard streams of a command, which may be closed, broken or unable to hold a text."""

import io
import os
import sys
from contextlib import suppress
from typing import Any

from headway.kinds._words import printable, redacted

__all__ = ["input_is_awaited", "leave", "prepare", "say", "tell"]

input_is_awaited = False
"""Whether a thread still waits for an input that nobody wants any more."""


class _Lenient:
    """Standard error, whose reader may be gone: what cannot be said ends no command."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def prepare() -> None:
    """Make the streams fit for a command: to be called once, before anything is opened."""
    # A file that is opened where a standard stream is closed would get what is meant for that.
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # cp1252, C: not a word may be fatal
    if sys.stderr is not None:
        sys.stderr = _Lenient(sys.stderr)


def say(text: object) -> None:
    """A line on standard error, which may quote whatever a file or a server says."""
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(f"{printable(redacted(str(text)))}\n")
            sys.stderr.flush()


def tell(text: object) -> None:
    """Lines on standard output: what a command was asked for, with nothing that moves a cursor."""
    import typer

    typer.echo(printable(str(text)))


def leave() -> OSError | None:
    """Write what waits for standard output; why that cannot be, or None.

    The interpreter would try again on its way out, and end with its own code, 120.
    """
    if sys.stdout is None:
        return None
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        return error
    return None
