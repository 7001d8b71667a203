"""Where headway keeps what lasts, and where what is watched can be found."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["TooOpen", "is_ours", "open_folder", "state_folder", "watch_folders"]


class TooOpen(OSError):
    """A folder that is somebody else's, or no folder: nothing of this user's is put there."""


def state_folder() -> Path:
    """The folder for headway's own files that outlast a process of this user."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "headway"


def watch_folders() -> Iterator[Path]:
    """Where sockets may be, the best first: who listens takes the first that will do, and who
    looks for them looks into all, for a login, a cron job and a container have other variables.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        yield Path(runtime) / "headway"
    try:
        yield state_folder() / "watch"
    except RuntimeError:  # nobody's home
        pass
    if hasattr(os, "geteuid"):
        yield Path(tempfile.gettempdir()) / f"headway-{os.geteuid()}"


def open_folder(folder: Path) -> None:
    """Make `folder`, which only this user may enter. Raises `TooOpen`, and other `OSError`s."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or not is_ours(found):
        raise TooOpen(f"{folder} belongs to somebody else")
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)


def is_ours(found: os.stat_result) -> bool:
    """Whether a file belongs to this user, as far as the system knows users."""
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
