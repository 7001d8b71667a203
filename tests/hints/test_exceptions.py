"""Exceptions of any SDK: by what they carry, then by their class, and never by raising."""

from __future__ import annotations

import errno
import socket
from types import SimpleNamespace
from typing import Any

import httpcore
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
        # botocore's, of a stream
        (
            raised(SDKError, response={"Error": {"Code": "internalServerException"}}),
            Kind.TRANSIENT,
            None,
        ),
        (
            raised(SDKError, response={"Error": {"Code": "modelStreamErrorException"}}),
            Kind.TRANSIENT,
            None,
        ),
        (
            raised(SDKError, response={"Error": {"Code": "serviceUnavailableException"}}),
            Kind.CAPACITY,
            None,
        ),
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
        (OSError(errno.ENETUNREACH, "Network is unreachable"), True),
        (raised(APIConnectionError, OSError(errno.EHOSTUNREACH, "No route to host")), True),
        (OSError(errno.ECONNRESET, "Connection reset by peer"), False),
        (httpx.ConnectTimeout("no"), True),
        (raised(httpx.ConnectTimeout, OSError(errno.ECONNRESET, "reset")), False),
        (httpx.ReadTimeout("no"), False),
    ],
)
def test_whether_a_connection_was_made(error: Exception, unreached: bool) -> None:
    assert classify(error, wall_time=NOW).unreached is unreached


def from_httpcore(told: Exception) -> Exception:
    """What httpx makes of an error of h2's or h11's."""
    inner = httpcore.LocalProtocolError(told)
    inner.__context__ = told
    return raised(httpx.LocalProtocolError, inner)


def named(package: str, name: str, *said: object) -> Exception:
    """An error of a library that is not installed here."""
    error: Exception = type(name, (Exception,), {"__module__": f"{package}.exceptions"})(*said)
    return error


CLOSED = [
    named("h2", "ProtocolError", "Invalid input ConnectionInputs.SEND_HEADERS in state "
          "ConnectionState.CLOSED"),
    named("h2", "ProtocolError", "Invalid input StreamInputs.SEND_DATA in state CLOSED"),
    named("h2", "ProtocolError", "Invalid input StreamInputs.SEND_HEADERS in state 5"),
    named("h2", "StreamClosedError", 5),
    named("h2", "NoAvailableStreamIDError"),
    named("h2", "TooManyStreamsError", "Max outbound streams is 100, 100 open"),
    named("h11", "LocalProtocolError", "can't handle event type Request when role=CLIENT and "
          "state=MUST_CLOSE"),
    named("h11", "LocalProtocolError", "Can't send data when our state is ERROR"),
]  # fmt: skip
MISTAKEN = [
    named("h2", "ProtocolError", "Header block missing mandatory b':path' header"),
    named("h11", "LocalProtocolError", "Illegal header value b'Bearer '"),
    named("h11", "LocalProtocolError", "Too little data for declared Content-Length"),
]
WRAPPED = [
    "<ConnectionTerminated error_code:0, last_stream_id:1, additional_data:None>",
    "<StreamReset stream_id:3, error_code:7, remote_reset:True>",
]


def test_a_request_that_met_a_closed_connection_is_sent_again() -> None:
    for told in CLOSED:
        for error in (told, from_httpcore(told), raised(APIConnectionError, from_httpcore(told))):
            assert classify(error, wall_time=NOW).kind is Kind.TRANSIENT, error
    for text in WRAPPED:
        error = httpx.RemoteProtocolError(text)
        assert classify(error, wall_time=NOW).kind is Kind.TRANSIENT, text
    for told in MISTAKEN:
        for error in (told, from_httpcore(told)):
            assert classify(error, wall_time=NOW).kind is Kind.PERMANENT, error


BROKEN = [
    ("aiohttp", "ClientConnectionError"), ("anyio", "BrokenResourceError"),
    ("botocore", "IncompleteReadError"), ("curl_cffi", "ConnectionError"),
    ("google", "TransportError"), ("h11", "RemoteProtocolError"), ("http", "IncompleteRead"),
    ("niquests", "ConnectionError"), ("urllib3", "ProtocolError"),
    ("websockets", "ConnectionClosedError"),
]  # fmt: skip


def test_connections_that_break_off() -> None:
    for package, name in BROKEN:
        error = named(package, name, "broken off")
        assert classify(error, wall_time=NOW).kind is Kind.TRANSIENT, name


def test_a_certificate_that_requests_tells_in_words() -> None:
    """It keeps the cause in its arguments alone."""
    said = "(Caused by SSLError(SSLCertVerificationError(1, 'certificate verify failed')))"
    assert classify(named("requests", "SSLError", said), wall_time=NOW).kind is Kind.PERMANENT


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
