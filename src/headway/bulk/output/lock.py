"""The lock that keeps two processes off one output."""

from __future__ import annotations

import errno
from pathlib import Path

from filelock import FileLock, Timeout

from headway.bulk.output.paths import InvalidOutput

__all__ = ["Busy", "FileLock", "acquire"]

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Busy(InvalidOutput):
    """Another process is at work on the output."""


def acquire(path: Path, output: Path) -> FileLock:
    """The lock of the run to `output`. Raises `Busy` where another process has it, `InvalidOutput`
    where the file system keeps none.
    """
    # Taken in a worker thread, released in the event loop's.
    lock = FileLock(path, timeout=0, thread_local=False, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise Busy(
            f"another process is at work on {output}",
            fix="wait for its end, or give another file with -o",
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise InvalidOutput(
            f"cannot lock {output}: {error.strerror}. Its file system keeps no locks now (NFS "
            "without a lock service?), and without one two processes might send the same lines",
            fix="give a file on a local disk with -o; to go on with a run, move the results and "
            f"{path.parent.name} there first",
        ) from None
    return lock
