"""Exceptions of any SDK -> the kind of refusal, without importing one.

What an exception carries comes first: a status, headers and a body, on itself or on its response.
Without a status, the names of its classes tell a network's fault from anything else.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from headway.errors import HeadwayError
from headway.errors import Refused as RefusedResult
from headway.hints._kinds import (
    MAX_MESSAGE,
    refusal_from_parts,
    refusal_from_response,
    status_in_body,
)
from headway.hints._model import Refusal
from headway.hints._reply import one_line, read_body
from headway.hints._waits import wait_from
from headway.kinds import Kind

__all__ = ["classify", "machine_fault"]

_HTTP_PACKAGES = ("httpx", "httpx2", "httpcore", "httpcore2")
_TRANSIENT = frozenset(
    {
        *(
            f"{package}.{name}"
            for package in _HTTP_PACKAGES
            for name in (
                "TransportError",
                "NetworkError",
                "TimeoutException",
                "RemoteProtocolError",
                "ProxyError",
                "ConnectionNotAvailable",
            )
        ),
        "aiohttp.ClientConnectionError",
        "aiohttp.ClientPayloadError",
        "aiohttp.ServerTimeoutError",
        "botocore.ConnectionError",
        "botocore.HTTPClientError",
        "requests.ChunkedEncodingError",
        "requests.ConnectionError",
        "requests.Timeout",
        "socket.gaierror",
        "ssl.SSLError",
        "urllib3.NewConnectionError",
        "urllib3.ProtocolError",
        "urllib3.TimeoutError",
    }
)
_PERMANENT = frozenset(
    {
        *(
            f"{package}.{name}"
            for package in _HTTP_PACKAGES
            for name in (
                "UnsupportedProtocol",
                "LocalProtocolError",
                "InvalidURL",
                "TooManyRedirects",
            )
        ),
        "aiohttp.ClientConnectorCertificateError",
        "ssl.SSLCertVerificationError",
    }
)
_TRANSIENT_ANYWHERE = frozenset({"APIConnectionError", "APITimeoutError"})
"""Every SDK that Stainless generates has them, each in its own package."""

_POOL_TIMEOUT = (
    "PoolTimeout: the HTTP client's connection pool is smaller than the concurrency: "
    "raise its max_connections, or lower the concurrency"
)

_NETWORK_ERRNOS = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EPIPE,
        errno.ETIMEDOUT,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EADDRNOTAVAIL,
        errno.ENOTCONN,
    }
)

# What this machine lacks: no fault of the provider's, nor of the way to it.
_MACHINE_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        "EDQUOT", "EFBIG", "EIO", "EMFILE", "ENFILE", "ENOBUFS", "ENOLCK", "ENOMEM", "ENOSPC",
        "EROFS",
    )
    if hasattr(errno, name)
)  # fmt: skip


def classify(error: BaseException, *, wall_time: float) -> Refusal:
    """What `error` is about. Never raises, and never makes a response be read.

    `wall_time` is in seconds since the epoch. An exception that is not recognised is
    `Kind.PERMANENT` without a status; so is every error of headway itself, and what was raised from
    one, except that a result which the user's predicate refused counts as a limit of unknown type.
    """
    try:
        return _classify(error, wall_time)
    except Exception:  # its attributes are somebody else's code, and may do anything
        return Refusal(Kind.PERMANENT, message=type(error).__name__, odd="could not be read")


def _classify(error: BaseException, wall_time: float) -> Refusal:
    if isinstance(error, RefusedResult):
        return _refused_result(error, wall_time)
    if not isinstance(error, Exception) or isinstance(error, HeadwayError):
        return Refusal(Kind.PERMANENT, message=_described(error))
    response = _attribute(error, "response")
    body = _body(error, response)
    status = _status(error, response)
    if status is not None:
        return refusal_from_response(
            status, _headers(error, response), body or _text(error), wall_time=wall_time
        ) or Refusal(Kind.PERMANENT, message=_described(error))
    ours = next((cause for cause in _causes(error) if isinstance(cause, HeadwayError)), None)
    if ours is not None:  # an SDK calls what its transport raises a connection error
        return Refusal(Kind.PERMANENT, message=_described(ours))
    if (lacking := machine_fault(error)) is not None:
        said = _described(error)
        if _text(lacking) not in said:
            said = one_line(f"{said} ({_described(lacking)})", MAX_MESSAGE)
        return Refusal(Kind.PERMANENT, message=f"{said}: a fault of this machine")
    if (fault := _fault(error)) is not None:
        return replace(fault, unreached=True) if _unreached(error) else fault
    # An error inside a stream. The status (200) and the headers are those of a success and say
    # nothing; its body says all.
    parsed = read_body(body)
    meaning = status_in_body(parsed)
    if meaning is not None:
        return refusal_from_parts(meaning, {}, parsed, None, wall_time)
    return Refusal(Kind.PERMANENT, message=_described(error))


def _refused_result(error: RefusedResult, wall_time: float) -> Refusal:
    """A provider that says "too fast" with status 200; its headers or body may say how long."""
    headers = _headers(error.result, None)
    wait, odd = wait_from(headers, _held(error.result), wall_time=wall_time)
    return Refusal(Kind.RATE, wait, None, one_line(_text(error), MAX_MESSAGE), False, odd)


# What it carries --------------------------------------------------------------------------------


def _status(error: object, response: object) -> int | None:
    for holder, names in (
        (error, ("status_code", "status", "code", "http_status")),
        (response, ("status_code", "status")),
    ):
        for name in names:
            status = _attribute(holder, name)
            if isinstance(status, int) and 400 <= status <= 599:
                return int(status)
    if isinstance(response, dict):  # botocore
        status = _botocore(response, "HTTPStatusCode")
        if isinstance(status, int) and 400 <= status <= 599:
            return status
    return None


def _headers(error: object, response: object) -> Any:
    if isinstance(response, dict):
        return _botocore(response, "HTTPHeaders")
    return _attribute(response, "headers") or _attribute(error, "headers")


def _botocore(response: dict[Any, Any], name: str) -> Any:
    metadata = response.get("ResponseMetadata")
    return metadata.get(name) if isinstance(metadata, dict) else None


def _body(error: object, response: object) -> object:
    """The body on the exception, or the content that its response already holds."""
    for name in "body", "details":  # `details`: google.genai
        body = _attribute(error, name)
        if body and isinstance(body, dict | list | str | bytes):
            return body
    return response if isinstance(response, dict) else _held(response)


def _held(response: object) -> object:
    """The content that a response holds already.

    Only the instance's own dictionary is asked. A property may read from the network (requests)
    or raise (an unread stream of httpx), and httpx, requests and aiohttp keep here what was read.
    """
    held = getattr(response, "__dict__", None)
    if not isinstance(held, dict):
        return None
    for name in "_content", "_body", "content", "text", "body":
        content = held.get(name)
        if content and isinstance(content, dict | list | str | bytes):
            return content
    return None


def _attribute(holder: object, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:  # a property, such as that of a request which was never set
        return None


# What it is -------------------------------------------------------------------------------------


def _fault(error: BaseException) -> Refusal | None:
    """A fault of the network or of its use, by class; None when it is neither.

    SDKs raise their own connection error *from* the client's: the cause tells a full pool or a
    bad certificate from a network that is down.
    """
    if _kind_of_class(error) is None:
        return None
    causes = list(_causes(error))
    if any(type(cause).__name__ == "PoolTimeout" for cause in causes):
        return Refusal(Kind.TRANSIENT, message=_POOL_TIMEOUT)
    permanent = [cause for cause in causes if _kind_of_class(cause) is Kind.PERMANENT]
    reason = [*permanent, *causes[1:], error][0]
    message = _described(error)
    if _text(reason) != _text(error):
        message = one_line(f"{message} ({_described(reason)})", MAX_MESSAGE)
    return Refusal(Kind.PERMANENT if permanent else Kind.TRANSIENT, message=message)


def _kind_of_class(error: BaseException) -> Kind | None:
    """By the first class in the MRO that is known; then by the built-in types and errno."""
    for cls in type(error).__mro__:
        name = f"{cls.__module__.partition('.')[0]}.{cls.__name__}"
        if name in _PERMANENT:
            return Kind.PERMANENT
        if name in _TRANSIENT or cls.__name__ in _TRANSIENT_ANYWHERE:
            return Kind.TRANSIENT
    if isinstance(error, ConnectionError | TimeoutError):
        return Kind.TRANSIENT
    if isinstance(error, OSError) and error.errno in _NETWORK_ERRNOS:
        return Kind.TRANSIENT
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was raised from, at most eight deep (a chain may be a ring)."""
    cause: BaseException | None = error
    for _ in range(8):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__


def machine_fault(error: BaseException) -> OSError | None:
    """What this machine lacked (descriptors, memory, room on a disk, …), where that is what
    `error` is or was raised from; None for any other error.
    """
    for cause in _causes(error):
        each = _first_of(cause)
        if isinstance(each, MemoryError):
            return OSError(errno.ENOMEM, "Cannot allocate memory")
        if isinstance(each, OSError) and each.errno in _MACHINE_ERRNOS:
            return each
    return None


def _first_of(error: BaseException) -> BaseException:
    """`error`, or the first that a group of them holds: several addresses were tried."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _described(error: BaseException) -> str:
    text = one_line(_text(error), MAX_MESSAGE)
    name = type(error).__name__
    return one_line(f"{name}: {text}" if text else name, MAX_MESSAGE)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


_NO_CONNECTION = frozenset(
    {
        "ClientConnectorError", "ConnectError", "ConnectionRefusedError", "NewConnectionError",
        "gaierror",
    }
)  # fmt: skip


def _unreached(error: BaseException) -> bool:
    """Whether no connection was made at all."""
    causes = (error, *_causes(error))
    return any(base.__name__ in _NO_CONNECTION for one in causes for base in type(one).__mro__)
