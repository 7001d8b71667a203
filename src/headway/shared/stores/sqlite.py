"""Ledgers in a SQLite file: for all processes of one machine, with nothing to start.

A file holds the ledger of one name, and those of its keys. A lock file is taken before each
transaction, for SQLite's own waiting starves some. Where the lock is free a transaction, which
writes no more than the page cache, takes less time than the way to a thread and back, and is made
at once; else a thread waits for it. What a killed process leaves is always readable;
after a power failure the newest calls may be missing (`synchronous` is off), and the clock begins
anew, which the ledger takes for no time at all.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import anyio
from anyio.to_thread import run_sync

from headway.hooks.watch.folders import state_folder
from headway.kinds._words import shown
from headway.providers import InvalidSettings
from headway.shared.ledger import seen, step_all
from headway.shared.stores import Calls, Replies, StoreAway, packed, unpacked
from headway.shared.stores.addresses import no_name

try:
    import fcntl
except ImportError:  # Windows has none: SQLite's own lock is all there is
    fcntl = None  # type: ignore[assignment]  # - a module, or none

__all__ = ["SqliteStore"]

T = TypeVar("T")

_VERSION = 3
_WAIT_MS = 200  # for a lock
# Of many machines: as the system calls them, without ``fuse.`` before it.
_ELSEWHERE = (
    "nfs", "cifs", "smb", "sshfs", "afs", "gluster", "ceph", "lustre", "gpfs", "beegfs", "panfs",
    "wekafs", "orangefs", "pvfs", "moosefs", "mfs", "juicefs", "davfs", "gfs2", "ocfs2", "coda",
    "s3fs", "gcsfuse", "rclone", "mountpoint-s3", "blobfuse", "hdfs", "seaweedfs",
)  # fmt: skip
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# What the system says of a path that will not be opened until somebody mends it.
_NEVER = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP,
          errno.EISDIR, errno.EINVAL, errno.ENXIO, errno.ENODEV}  # fmt: skip
_FREE = "free some space there, or name a file on another disk."
_LET_GO = "let go of the file where another program holds it, or name another."
_MEND = "mend what it says, or name another file."
_ANOTHER = "name another file; where that one is headway's, delete it: the limits begin anew."
_WRITABLE = 'name a file where this user may write: shared="sqlite:////folder/limits.db".'
# One statement: nobody makes tables between what it reads.
_WHOSE = (
    "SELECT user_version, EXISTS (SELECT * FROM sqlite_master WHERE name NOT IN "
    "('headway', 'headway_name') AND name NOT LIKE 'sqlite~_%' ESCAPE '~') FROM pragma_user_version"
)
_TABLES = (
    "CREATE TABLE IF NOT EXISTS headway (name TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS headway_name (said TEXT PRIMARY KEY) WITHOUT ROWID",
)


class SqliteStore:
    """The file at `path`."""

    def __init__(self, path: Path, where: str, name: str | None = None) -> None:
        self.path = path
        self.name = name  # under which it was asked for, where that was no path
        self.where = where
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._lock_file = -1
        self._inode = (0, 0)
        self._limiter: anyio.CapacityLimiter | None = None

    @classmethod
    def of_name(cls, name: str) -> SqliteStore:
        """The file for `name` in the state folder of the user."""
        why = no_name(name)
        if why:
            raise InvalidSettings(
                f"shared={shown(name)} is no name: {why}", fix="a shorter, or a plainer one."
            )
        try:
            folder = _folder()
        except RuntimeError:  # a user that the system does not know, without HOME
            raise InvalidSettings(
                f"shared={shown(name)}: this user has no home folder to keep it in",
                fix=_WRITABLE,
            ) from None
        slug = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:40]
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return cls(folder / f"{slug}-{digest}.db", shown(name), name)

    @staticmethod
    def names_here() -> list[str]:
        """The names under which something is kept in the state folder of the user."""
        folder = _folder()
        found = []
        for path in sorted(folder.glob("*.db")) if folder.is_dir() else []:
            try:
                with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                    row = connection.execute(
                        "SELECT said FROM headway_name WHERE EXISTS (SELECT * FROM headway)"
                    ).fetchone()
            except sqlite3.DatabaseError:
                continue
            if row is not None:
                found.append(row[0])
        return found

    @classmethod
    def of_url(cls, url: str) -> SqliteStore:
        """The file that ``sqlite:///path`` names."""
        parts = urlsplit(url)
        path = unquote(parts.path)
        if parts.netloc or path in ("", "/") or parts.query or parts.fragment:
            raise InvalidSettings(
                f"shared={shown(url)} names no file: sqlite:// takes a path alone",
                fix='"sqlite:///relative.db" or "sqlite:////absolute/path.db".',
            )
        return cls(Path(path[1:]), url)

    def again(self) -> SqliteStore:
        """The same file, opened anew."""
        return SqliteStore(self.path, self.where, self.name)

    async def call(self, calls: Calls) -> Replies:
        """Step the ledgers that `calls` names, in one transaction."""
        return await self._soon(partial(self._step, calls))

    async def read(self, name: str) -> dict[str, Any] | None:
        """The state of the ledger `name`."""
        state = await self._in_thread(partial(self._read, name)) if self._there() else None
        return None if state is None else seen(state, time.monotonic())

    async def names(self) -> list[str]:
        """The names of the ledgers in the file."""
        return await self._in_thread(self._names) if self._there() else []

    async def reset(self, name: str) -> bool:
        """Forget the ledger `name`, and those of its keys."""
        return self._there() and await self._in_thread(partial(self._reset, name))

    def remove(self) -> None:
        """Remove the file, and what stands beside it."""
        for end in ("", "-wal", "-shm", "-journal", ".lock"):
            Path(f"{self.path}{end}").unlink(missing_ok=True)

    async def aclose(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    async def _soon(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` at once where nobody holds the lock, else in a thread."""
        if self._connection is not None and self._lock.acquire(blocking=False):
            try:
                return self._alone(work, fcntl.LOCK_NB if fcntl is not None else 0)
            except BlockingIOError:
                pass
            finally:
                self._lock.release()
        return await self._in_thread(work)

    async def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(4)
        return await run_sync(
            partial(self._guarded, work), abandon_on_cancel=True, limiter=self._limiter
        )

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work`, alone in this process and among all."""
        with self._lock:
            return self._alone(work, 0)

    def _alone(self, work: Callable[[sqlite3.Connection], T], flag: int) -> T:
        """`work` in one transaction. Raises `BlockingIOError` where the lock is not to be waited
        for, and is not free.
        """
        try:
            connection = self._opened()
            if fcntl is not None:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | flag)
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    result = work(connection)
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
                return result
            finally:
                if fcntl is not None:
                    fcntl.flock(self._lock_file, fcntl.LOCK_UN)
        except BlockingIOError:
            raise
        except sqlite3.DatabaseError as error:
            self._close()
            raise self._what(error) from error
        except OSError as error:
            self._close()
            raise self._refused(error) from error

    def _there(self) -> bool:
        """Whether there is a file: who only looks makes none. Raises as `_check` does."""
        try:
            _check(self._real(), self.name)
            return self.path.exists()
        except OSError as error:
            raise self._refused(error) from error

    def _real(self) -> Path:
        return Path(os.path.realpath(self.path))

    def _refused(self, error: OSError) -> Exception:
        """What it means that the system refused the file."""
        said = error.strerror or str(error)
        if error.errno in _NEVER:
            return InvalidSettings(
                f"shared limits: {error.filename or self.path} cannot be used: {said}",
                fix=_WRITABLE,
            )
        fix = _FREE if error.errno in _FULL else _MEND
        return StoreAway(f"{self.where}: {said}", fix)

    def _what(self, error: sqlite3.DatabaseError) -> Exception:
        code = getattr(error, "sqlite_errorname", "SQLITE_NOTADB")  # ours have none
        if code == "SQLITE_READONLY_DBMOVED":  # deleted since it was looked at: opened anew next
            return StoreAway(f"{self.where}: the file was deleted")
        if code.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            why = "is no database of headway's" if "NOTADB" in code else f"cannot be used: {error}"
            return InvalidSettings(f"shared limits: {self.path} {why}", fix=_ANOTHER)
        if code.startswith(("SQLITE_READONLY", "SQLITE_PERM")):
            return InvalidSettings(
                f"shared limits: {self.path} cannot be used: {error}", fix=_WRITABLE
            )
        fixes = {"SQLITE_FULL": _FREE, "SQLITE_BUSY": _LET_GO, "SQLITE_LOCKED": _LET_GO}
        return StoreAway(f"{self.where}: {error}", fixes.get(code, _MEND))

    def _step(self, calls: Calls, connection: sqlite3.Connection) -> Replies:
        before = [self._read(name, connection, call["id"]) for name, call in calls.items()]
        states, replies = step_all(before, [*calls.values()], time.monotonic())
        connection.executemany(
            "INSERT OR REPLACE INTO headway VALUES (?, ?)",
            zip(calls, map(packed, states), strict=True),
        )
        return dict(zip(calls, replies, strict=True))

    def _read(
        self, name: str, connection: sqlite3.Connection, worker: str | None = None
    ) -> dict[str, Any] | None:
        row = connection.execute("SELECT state FROM headway WHERE name = ?", (name,)).fetchone()
        return None if row is None else _decoded(row[0], worker)

    def _names(self, connection: sqlite3.Connection) -> list[str]:
        rows = connection.execute("SELECT name FROM headway ORDER BY name")
        return [row[0] for row in rows]

    def _reset(self, name: str, connection: sqlite3.Connection) -> bool:
        cursor = connection.execute(
            "DELETE FROM headway WHERE name = ? OR substr(name, 1, ?) = ?",
            (name, len(name) + 1, name + "/"),
        )
        return cursor.rowcount > 0

    def _opened(self) -> sqlite3.Connection:
        path = self.path
        if self._connection is not None:
            try:
                found = os.stat(path)
                if (found.st_dev, found.st_ino) == self._inode:
                    return self._connection
            except FileNotFoundError:
                pass
            self._close()  # somebody deleted it: what is written there is nobody's
        path = self._real()
        _check(path, self.name)
        mode = _made(path, 0o600)
        connection = sqlite3.connect(
            path, timeout=_WAIT_MS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            version, foreign = connection.execute(_WHOSE).fetchone()
            if foreign:
                raise InvalidSettings(
                    f"shared limits: {path} is somebody else's database", fix="name another file."
                )
            if version not in (0, _VERSION):
                raise InvalidSettings(
                    f"shared limits: {path} is of another version of headway ({version}, and not "
                    f"{_VERSION})",
                    fix="use one version in all processes, or name another file.",
                )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            for table in _TABLES:
                connection.execute(table)
            if self.name is not None:
                connection.execute("INSERT OR IGNORE INTO headway_name VALUES (?)", (self.name,))
            found = os.stat(path)
            beside = Path(f"{path}.lock")
            _made(beside, mode)
            self._lock_file = os.open(beside, os.O_RDWR)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._inode = found.st_dev, found.st_ino
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1


def _decoded(stored: bytes, worker: str | None) -> dict[str, Any]:
    """The state that was stored. Raises `sqlite3.DatabaseError` for what is none."""
    try:
        return unpacked(stored, worker)
    except (EOFError, ValueError, TypeError, LookupError) as error:
        raise sqlite3.DatabaseError(f"what is stored is no ledger: {error}") from error


def _folder() -> Path:
    return state_folder() / "shared"


def _check(path: Path, name: str | None) -> None:
    """Make the folder of `path` where it is headway's own, for `name`. Raises `InvalidSettings`
    for one that cannot be written to, or that other machines share.
    """
    folder = path.parent
    if name is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        raise InvalidSettings(
            f"shared limits: {path} is no file", fix="name a file, or leave out sqlite://."
        )
    if not folder.is_dir():
        raise InvalidSettings(
            f"shared limits: there is no folder {folder}", fix="make it, or name a file in another."
        )
    for each in (folder, path):
        if each.exists() and not os.access(each, os.W_OK):
            what = f"the folder {each}" if each == folder else each
            raise InvalidSettings(f"shared limits: {what} cannot be written to", fix=_WRITABLE)
    kind = _file_system(folder)
    if kind.removeprefix("fuse.").startswith(_ELSEWHERE):
        raise InvalidSettings(
            f"shared limits: {folder} is on {kind}, where locks of files cannot be relied on",
            fix='name a file on a disk of this machine, "sqlite:////disk/limits.db"; for many '
            "machines valkey:// or postgresql://.",
        )


def _made(path: Path, mode: int) -> int:
    """The mode of the file at `path`, which is made with `mode` where there is none, and stays as
    its owner wants it where there is one.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return path.stat().st_mode & 0o666
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise
        raise InvalidSettings(
            f"shared limits: no file can be made in {path.parent}", fix=_WRITABLE
        ) from None
    path.chmod(mode)  # whatever the umask takes away
    return mode


def _file_system(folder: Path) -> str:
    """The kind of file system that `folder` is on; "" where the system does not say."""
    best, kind = "", ""
    try:
        mounts = Path("/proc/self/mounts").read_bytes().splitlines()
    except OSError:
        return ""
    here = os.path.realpath(folder)
    for line in mounts:
        fields = line.split(b" ")
        if len(fields) < 3:
            continue
        where = os.fsdecode(re.sub(rb"\\([0-7]{3})", _character, fields[1]))
        found = os.fsdecode(fields[2])
        inside = here == where or here.startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best):
            best, kind = where, found
    return kind


def _character(octal: re.Match[bytes]) -> bytes:
    return bytes([int(octal[1], 8) & 255])
