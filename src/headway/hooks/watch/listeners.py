"""What only this user can connect to: a unix socket, or, where there is none, loopback and a token.

The name of the file is the process that listens and a number, for a process may listen for several
schedulers. What a dead process has left is removed by whoever meets it; what is somebody else's
never is.
"""

from __future__ import annotations

import errno
import hmac
import json
import os
import secrets
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from headway.hooks.watch.folders import is_ours, open_folder, watch_folders

__all__ = ["Listener", "LoopbackListener", "UnixListener", "connect", "listen", "pid_of"]

_LONGEST = 103  # bytes of a path: macOS takes 104 and Linux 108, each with a zero
_BACKLOG = 16
_HAS_UNIX = hasattr(socket, "AF_UNIX") and os.name != "nt"


class Listener(Protocol):
    """A socket that listens, and the file by which it is found."""

    listening: socket.socket
    path: Path

    def admits(self, connection: socket.socket, request: Mapping[str, Any]) -> bool:
        """Whether who connected, and asks that, is this user."""
        ...

    def forget(self) -> None:
        """Close it in a forked child: the parent's goes on."""
        ...

    def close(self) -> None:
        """Close it, and remove its file."""
        ...


class _Listening:
    """What listeners share: a socket, and its file."""

    suffix: str

    def __init__(self, listening: socket.socket, folder: Path) -> None:
        self.listening = listening
        self.path = _free(folder, self.suffix)

    def forget(self) -> None:
        self.listening.close()

    def close(self) -> None:
        self.listening.close()
        with suppress(OSError):
            self.path.unlink()


class UnixListener(_Listening):
    """A unix socket, which its user alone may open, and whose peers are that user."""

    suffix = ".sock"

    def __init__(self, folder: Path) -> None:
        super().__init__(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), folder)
        # It gets its name when it listens: one that does not is a dead process's.
        early = self.path.with_suffix(".new")
        try:
            _check_length(self.path)
            early.unlink(missing_ok=True)
            self.listening.bind(str(early))
            early.chmod(0o600)
            self.listening.listen(_BACKLOG)
            early.rename(self.path)
        except BaseException:
            self.listening.close()
            raise

    def admits(self, connection: socket.socket, request: Mapping[str, Any]) -> bool:
        """Whether the other end is this user, as far as the system says who it is."""
        user = peer(connection)
        return user is None or user == os.geteuid()


class LoopbackListener(_Listening):
    """A port of this machine alone, and a token in a file that its user alone may read."""

    suffix = ".json"

    def __init__(self, folder: Path) -> None:
        super().__init__(socket.socket(socket.AF_INET, socket.SOCK_STREAM), folder)
        self._token = secrets.token_hex(16)
        try:
            self.listening.bind(("127.0.0.1", 0))
            self.listening.listen(_BACKLOG)
            said = json.dumps({"port": self.listening.getsockname()[1], "token": self._token})
            early = self.path.with_suffix(".new")
            early.unlink(missing_ok=True)
            with open(os.open(early, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(said)
            early.replace(self.path)
        except BaseException:
            self.listening.close()
            raise

    def admits(self, connection: socket.socket, request: Mapping[str, Any]) -> bool:
        """Whether `request` shows that its sender has read the file."""
        shown = str(request.get("token", "")).encode("utf-8", "replace")
        return hmac.compare_digest(shown, self._token.encode())


def listen() -> Listener:
    """A listener in the first folder that will do. Raises `OSError` where none does."""
    kind: type[UnixListener | LoopbackListener] = UnixListener if _HAS_UNIX else LoopbackListener
    last: OSError | None = None
    for folder in watch_folders():
        try:
            open_folder(folder)
            return kind(folder)
        except OSError as error:
            last = last or error
    raise last or FileNotFoundError(errno.ENOENT, "no folder of this user's is known")


def connect(path: Path, seconds: float) -> tuple[socket.socket, dict[str, Any]]:
    """A connection to who listens at `path`, and what its requests must hold. Whatever is done
    with it may take `seconds`.

    Raises `OSError`: a `ConnectionRefusedError` where nobody listens any more.
    """
    if path.suffix == UnixListener.suffix:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(seconds)
            connection.connect(str(path))
        except BaseException:
            connection.close()
            raise
        return connection, {}
    try:
        said = json.loads(path.read_text("utf-8"))
        port, token = int(said["port"]), str(said["token"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"{path.name} says no port") from error
    return socket.create_connection(("127.0.0.1", port), seconds), {"token": token}


def pid_of(path: Path) -> int | None:
    """The process that a file names; None for a file that is no listener's."""
    pid, _, number = path.stem.partition("-")
    ours = path.suffix in (UnixListener.suffix, LoopbackListener.suffix)
    return int(pid) if ours and pid.isdecimal() and number.isdecimal() else None


def peer(connection: socket.socket) -> int | None:
    """The user at the other end of a unix socket; None where the system does not say."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    user: int = struct.unpack("3i", said)[1]
    return user


def _check_length(path: Path) -> None:
    if len(os.fsencode(path)) > _LONGEST:
        raise OSError(errno.ENAMETOOLONG, f"{path} is too long for the path of a socket")


def _free(folder: Path, suffix: str) -> Path:
    """A path that nobody listens at; what a dead process with this number left is removed."""
    number = 1
    while True:
        path = folder / f"{os.getpid()}-{number}{suffix}"
        try:
            found = path.lstat()
        except OSError:
            return path
        if is_ours(found) and not _answers(path):
            path.unlink(missing_ok=True)
            return path
        number += 1


def _answers(path: Path) -> bool:
    try:
        connect(path, 1.0)[0].close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True
