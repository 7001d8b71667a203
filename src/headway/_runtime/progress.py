"""How far a run of many calls is, shown while it goes on: by a bar, or by a function of the user's.

Bars are tqdm's where that is installed, which has one for notebooks too, and rich's else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from headway._runtime.calls import check_plain_function
from headway.errors import InvalidArgument, MissingExtra
from headway.kinds._words import duration, shown, with_fix

__all__ = ["Advance", "ProgressLike", "Watcher", "watch"]

logger = logging.getLogger("headway")

_SLOW = 0.1  # seconds for which nothing else on the event loop goes on


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a run of many calls is: `done` of its calls have ended, and `failed` of those failed.

    `total` is how many calls it makes in all, None where its items have no length.
    """

    done: int
    total: int | None
    failed: int


ProgressLike: TypeAlias = bool | Callable[[Advance], object]


class _Display(Protocol):
    """What shows how far one run is."""

    def __call__(self, advance: Advance) -> object:
        """Show that it is so far."""
        ...

    def close(self) -> object:
        """The run has ended."""
        ...


class Watcher:
    """Shows how far one run is, of `total` calls, by what `opened` makes when it begins.

    What shows it raises: that is told once, and the run goes on. Of several threads one at a time
    shows something.
    """

    def __init__(self, opened: Callable[[int | None], _Display], total: int | None) -> None:
        self._opened = opened
        self._advance = Advance(0, total, 0)
        self._display: _Display | None = None
        self._failed = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """The run begins."""
        self._display = self._try(self._opened, self._advance.total)

    def ended(self, *, failed: bool) -> None:
        """A call has ended."""
        with self._lock:
            before = self._advance
            self._advance = Advance(before.done + 1, before.total, before.failed + failed)
            if self._display is not None:
                self._try(self._display, self._advance)

    def close(self) -> None:
        """The run has ended."""
        if self._display is not None:
            self._try(self._display.close)

    def _try(self, show: Callable[..., Any], *args: object) -> Any:
        try:
            return show(*args)
        except Exception:
            if not self._failed:
                self._failed = True
                logger.exception("progress= raised; the run goes on, and this is told once")


def watch(progress: object, total: int | None) -> Watcher | None:
    """What shows how far a run of `total` calls is, as ``progress=`` says; None for nothing.

    Raises `InvalidArgument`, and `MissingExtra` where a bar is wanted and none is installed.
    """
    if progress is False:
        return None
    if progress is True:
        return Watcher(_bar(), total)
    if not callable(progress):
        raise InvalidArgument(
            f"progress={shown(progress)} is neither True, False nor a function",
            fix=f"{_FIX}.",
        )
    check_plain_function(progress, "progress", _FIX)
    tell = progress
    return Watcher(lambda total: _Function(tell), total)


_FIX = "progress=True for a bar, or a def that takes an Advance (done, total, failed)"


class _Function:
    """A function of the user's. Where it is slow, which holds up everything, that is told once."""

    def __init__(self, tell: Callable[[Advance], object]) -> None:
        self._tell = tell
        self._slow = False

    def __call__(self, advance: Advance) -> None:
        began = time.perf_counter()
        self._tell(advance)
        took = time.perf_counter() - began
        if took > _SLOW and not self._slow:
            self._slow = True
            logger.warning(
                with_fix(
                    "progress= took %s, for which nothing else could go on; this is told once",
                    "hand on what it is told, and do what takes long in a thread",
                ), duration(took),
            )  # fmt: skip

    def close(self) -> None:
        """Nothing is open."""


def _bar() -> Callable[[int | None], _Display]:
    try:
        import tqdm as _tqdm  # noqa: F401 - only whether it is there
    except ImportError:
        pass
    else:
        return _TqdmBar
    try:
        import rich as _rich  # noqa: F401 - only whether it is there
    except ImportError:
        raise MissingExtra(
            "progress=True shows a bar, and neither tqdm nor rich is installed",
            fix="pip install 'headway[progress]', or progress= a function.",
        ) from None
    return _RichBar


class _TqdmBar:
    def __init__(self, total: int | None) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=total, unit="call")

    def __call__(self, advance: Advance) -> None:
        if advance.failed:
            self._bar.set_postfix(failed=advance.failed, refresh=False)
        self._bar.update(advance.done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _RichBar:
    def __init__(self, total: int | None) -> None:
        from rich.progress import MofNCompleteColumn, Progress, TextColumn

        self._progress = Progress(
            *Progress.get_default_columns(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]}"),
        )
        self._task = self._progress.add_task("calls", total=total, failed="")
        self._progress.start()

    def __call__(self, advance: Advance) -> None:
        failed = f"{advance.failed} failed" if advance.failed else ""
        self._progress.update(self._task, completed=advance.done, failed=failed)

    def close(self) -> None:
        self._progress.stop()
