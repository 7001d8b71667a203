"""The run that --overwrite replaces: out of the way, until the new one has its first row.

Its files are moved to the folder "before". While that is there the new run has no row, so that a
kill between any two steps leaves a run that is brought back whole. Before the first row is written
"before" becomes "gone", in one step, and is removed.
"""

from __future__ import annotations

from pathlib import Path

from headway.bulk.output.paths import errors_file, run_folder
from headway.bulk.output.strangers import in_the_way, is_empty

__all__ = ["Replaced", "identity_of"]


def identity_of(output: Path) -> int:
    """What tells the rows at `output` from those that replace them: a number that they keep while
    they are aside, and on every machine of a network file system; 0 where there are none.
    """
    for path in (run_folder(output) / "before" / "output", output):
        try:
            return path.stat().st_ino
        except (FileNotFoundError, NotADirectoryError):
            continue
    return 0


class Replaced:
    """The earlier run to `output`, whose memory is in `folder`."""

    def __init__(self, output: Path, folder: Path) -> None:
        self._output, self._folder = output, folder
        self._before, self._gone = folder / "before", folder / "gone"
        self._waiting = False  # whether it may still be brought back

    def files(self) -> list[tuple[str, Path]]:
        """All that a run leaves but for the lock, by its name in "before"; the journal last."""
        inside = ("rows", "trace.jsonl", "damaged.jsonl", "billed.jsonl", "journal")
        return [
            ("errors", errors_file(self._output)),
            ("output", self._output),
            *((name, self._folder / name) for name in inside),
        ]

    def written(self) -> list[Path]:
        """All files that are there of those that a run writes, or moves."""
        folders = (self._folder, self._before, self._gone)
        inside = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        return [errors_file(self._output), self._output, *inside]

    def resolve(self) -> None:
        """Bring back, or drop, what a killed --overwrite has left."""
        self._remove()
        self.bring_back()

    def set_aside(self) -> None:
        """Move it out of the way."""
        self._before.mkdir(0o700)
        self._waiting = True
        for name, path in self.files():
            if path.exists():
                path.replace(self._before / name)

    def bring_back(self) -> None:
        """Put it in its place again, if it is aside; its journal last."""
        self._waiting = False
        if not self._before.is_dir():
            return
        back = [(self._before / name, home) for name, home in self.files()]
        for path, home in back[:2]:
            if path.exists() and not is_empty(home):
                raise in_the_way(home, "the earlier run", self._output)
        for path, home in back:
            if path.exists():
                path.replace(home)
        self._before.rmdir()

    def drop(self) -> None:
        """The new run is about to have a row: there is nothing to bring back any more."""
        if self._waiting:
            self._waiting = False
            self._before.replace(self._gone)
            self._remove()

    def _remove(self) -> None:
        if self._gone.is_dir():
            for name, _ in self.files():
                (self._gone / name).unlink(missing_ok=True)
            self._gone.rmdir()
