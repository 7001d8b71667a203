"""Exceptions of any SDK: by what they carry, then by their class, and never by raising."""

from __future__ import annotations

import errno
import socket
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from inject import Status

from headway import Kind, SchedulerClosed
from headway.errors import Refused
from headway.hints import classify, machine_fault

NOW = 1_790_000_000.0


def raised(cls: type[Exception], cause: BaseException | None = None, **held: Any) -> Exception:
    error = cls("said")
    error.__cause__ = cause
    vars(error).update(held)
    return error


class SDKError(Exception):
    pass


class APIConnectionError(Exception):
    """As every SDK that Stainless generates calls it."""


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (Status(429), Kind.RATE, 429),
        (Status(503), Kind.CAPACITY, 503),
        (Status(401), Kind.AUTH, 401),
        (raised(SDKError, status=429), Kind.RATE, 429),
        (raised(SDKError, http_status=429), Kind.RATE, 429),
        (raised(SDKError, response=SimpleNamespace(status=429)), Kind.RATE, 429),
        (raised(SDKError, response={"ResponseMetadata": {"HTTPStatusCode": 429}}), Kind.RATE, 429),
        (raised(SDKError, status_code=200), Kind.PERMANENT, None),
        (raised(SDKError, body={"error": {"code": 503}}), Kind.CAPACITY, None),  # in a stream
        (SDKError("said"), Kind.PERMANENT, None),
        (ValueError("a bug"), Kind.PERMANENT, None),
        (TimeoutError(), Kind.TRANSIENT, None),
        (ConnectionResetError(), Kind.TRANSIENT, None),
        (OSError(errno.EHOSTUNREACH, "no route"), Kind.TRANSIENT, None),
        (OSError(errno.ENOENT, "no file"), Kind.PERMANENT, None),
        (OSError(errno.ENOSPC, "full"), Kind.PERMANENT, None),
        (socket.gaierror(8, "unknown"), Kind.TRANSIENT, None),
        (httpx.ReadTimeout("late"), Kind.TRANSIENT, None),
        (httpx.UnsupportedProtocol("ftp"), Kind.PERMANENT, None),
        (APIConnectionError("said"), Kind.TRANSIENT, None),
        (raised(APIConnectionError, httpx.UnsupportedProtocol("ftp")), Kind.PERMANENT, None),
        (raised(APIConnectionError, SchedulerClosed("closed")), Kind.PERMANENT, None),
        (Refused("too fast", "result"), Kind.RATE, None),
        (KeyboardInterrupt(), Kind.PERMANENT, None),
    ],
)
def test_kinds(error: BaseException, kind: Kind, status: int | None) -> None:
    found = classify(error, wall_time=NOW)
    assert (found.kind, found.status) == (kind, status)


@pytest.mark.parametrize(
    ("error", "unreached"),
    [
        (ConnectionRefusedError(), True),
        (raised(APIConnectionError, httpx.ConnectError("refused")), True),
        (raised(APIConnectionError, httpx.ReadError("reset")), False),
    ],
)
def test_whether_a_connection_was_made(error: Exception, unreached: bool) -> None:
    assert classify(error, wall_time=NOW).unreached is unreached


def test_a_pool_that_is_too_small_is_said() -> None:
    found = classify(raised(APIConnectionError, httpx.PoolTimeout("")), wall_time=NOW)
    assert "raise its max_connections, or lower the concurrency" in found.message


class Hostile(Exception):
    @property
    def response(self) -> Any:
        raise RuntimeError("never read")

    def __str__(self) -> str:
        raise RuntimeError("never shown")


def test_an_error_that_fights_back() -> None:
    found = classify(Hostile(), wall_time=NOW)
    assert (found.kind, found.message) == (Kind.PERMANENT, "Hostile")
    ring = SDKError("round")
    ring.__cause__ = ring
    assert classify(ring, wall_time=NOW).kind is Kind.PERMANENT


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (OSError(errno.EMFILE, "files"), errno.EMFILE),
        (MemoryError(), errno.ENOMEM),
        (raised(SDKError, OSError(errno.ENOSPC, "full")), errno.ENOSPC),
        (ExceptionGroup("all", [OSError(errno.EMFILE, "files")]), errno.EMFILE),
        (OSError(errno.ECONNREFUSED, "refused"), None),
        (SDKError("said"), None),
    ],
)
def test_what_this_machine_lacks(error: Exception, lacking: int | None) -> None:
    found = machine_fault(error)
    assert (None if found is None else found.errno) == lacking
