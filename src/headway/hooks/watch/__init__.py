"""A scheduler that may be seen, and steered, from outside its process: `headway.watch`."""

from __future__ import annotations

import atexit
import inspect
import logging
import sys
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headway.errors import InvalidArgument
from headway.kinds._words import shown, with_fix
from headway.rates import is_number

__all__ = ["Watched", "watch"]

logger = logging.getLogger("headway")

_LONGEST = 80  # characters of a name


class Watched:
    """A scheduler that ``headway top`` and ``headway ctl`` of this user find, until `close`.

    `name` is what it is found under, and `path` its socket: None where none could be made.
    """

    def __init__(self, name: str, server: Any) -> None:
        self.name = name
        self._server = server
        atexit.register(self.close)

    @property
    def path(self) -> Path | None:
        """The file of the socket; None where there is none, or no more."""
        path: Path | None = None if self._server is None else self._server.listener.path
        return path

    def show(
        self,
        *,
        cost: float | None = None,
        done: int | None = None,
        total: int | None = None,
        eta: float | None = None,
    ) -> None:
        """Show what the scheduler does not know: `cost` so far in dollars, how many things are
        `done` of how many in `total`, and the seconds to the end. What is left out is not known.
        """
        given = {"cost": cost, "done": done, "total": total, "eta": eta}
        if self._server is not None:
            self._server.figures = {
                name: value if is_number(value) and isfinite(value) else None
                for name, value in given.items()
            }

    def close(self) -> None:
        """Be found no more. A second time, and in a forked child, it does nothing."""
        server, self._server = self._server, None
        atexit.unregister(self.close)
        if server is not None:
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def watch(
    scheduler: Any, name: str | None = None, *, drain: Callable[[], object] | None = None
) -> Watched:
    """Let ``headway top`` and ``headway ctl`` of this user see and steer `scheduler`, a `Scheduler`
    or one of `headway.sync`, until what is returned is closed or the process ends.

    `name` is what they show and find it by (the program's by default). `drain` is called for
    ``headway ctl drain``, in the scheduler's loop, and must not block; left out, the scheduler
    takes no new jobs, as after `aclose`. A thread of its own listens on a socket that this user
    alone may open, and counts once a second; a forked child has to call it anew.

    Where no socket can be made that is told in the log, and the program goes on. Raises
    `InvalidArgument` for what is no scheduler, no name, or no plain function.
    """
    if inspect.isclass(scheduler) or not hasattr(scheduler, "statistics"):
        raise InvalidArgument(
            f"watch({shown(scheduler)}): this is no Scheduler",
            fix="the one whose calls are to be watched; a view has no statistics of its own.",
        )
    if name is None:
        name = _program()
    if not isinstance(name, str) or not name.strip():
        raise InvalidArgument(f"name={shown(name)} is no name", fix='name="worker".')
    if drain is not None and (not callable(drain) or inspect.iscoroutinefunction(drain)):
        raise InvalidArgument(
            f"drain={shown(drain)} is not a plain function", fix="drain=event.set, or a def."
        )
    from headway.hooks.watch.control import take_no_more
    from headway.hooks.watch.names import clean
    from headway.hooks.watch.server import Server

    name = clean(name.strip()).replace("\n", "\\n")[:_LONGEST]
    try:
        server = Server(scheduler, name, drain or (lambda: take_no_more(scheduler)))
    except OSError as error:
        logger.warning(
            with_fix(
                f"headway top and ctl cannot find {name}: no socket can be made, {error}",
                "set XDG_RUNTIME_DIR to a folder of this user's alone; the program goes on.",
            )
        )
        return Watched(name, None)
    return Watched(name, server)


def _program() -> str:
    """What the process runs: a file, or the package of ``python -m``."""
    path = Path(sys.argv[0])
    name = path.parent.name if path.name == "__main__.py" else path.name
    return name if name not in ("", "-c") else "python"
