"""Exceptions of any SDK -> the kind of refusal, without importing one.

What an exception carries comes first: a status, headers and a body, on itself or on its response.
Without a status, the names of its classes tell a network's fault from anything else. One that tells
nothing is judged by what it was made from: its cause, the last attempt of tenacity's `RetryError`,
the members of a group, and the context of an application's own error.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from headway.errors import HeadwayError
from headway.errors import Refused as RefusedResult
from headway.hints._carried import Carried, attribute, called, headers_of, held, text_of, wait_of
from headway.hints._dialect import GENERIC, Dialect
from headway.hints._kinds import (
    MAX_MESSAGE,
    is_limit_word,
    refusal_from_parts,
    refusal_from_response,
    says_limit,
    status_in_body,
)
from headway.hints._limits import limits_from
from headway.hints._model import Refusal
from headway.hints._reply import one_line, read_body, read_headers
from headway.hints._waits import wait_from, wait_in_text
from headway.kinds import Kind, Moves, Retried

__all__ = ["classify", "machine_fault"]

# A request that met a connection, or a stream of it, that had just closed, or was full.
_CLOSED_BY_H2 = (
    "NoAvailableStreamIDError", "NoSuchStreamError", "StreamClosedError", "StreamIDTooLowError",
    "TooManyStreamsError",
)  # fmt: skip
_OURS = ("LocalProtocolError", "ProtocolError")
_CLOSED = re.compile(r"\bin state \S|\bstate is\b|\bstate=|\bMax outbound streams\b")

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
        "anyio.BrokenResourceError",
        "botocore.ConnectionError",
        "botocore.HTTPClientError",
        "botocore.IncompleteReadError",
        "curl_cffi.ConnectionError",
        "curl_cffi.IncompleteRead",
        "curl_cffi.Timeout",
        "google.TransportError",
        *(f"h2.{name}" for name in _CLOSED_BY_H2),
        "h11.RemoteProtocolError",
        "http.BadStatusLine",
        "http.IncompleteRead",
        "niquests.ChunkedEncodingError",
        "niquests.ConnectionError",
        "niquests.Timeout",
        "requests.ChunkedEncodingError",
        "requests.ConnectionError",
        "requests.Timeout",
        "socket.gaierror",
        "ssl.SSLError",
        "urllib3.NewConnectionError",
        "urllib3.ProtocolError",
        "urllib3.TimeoutError",
        "websockets.ConnectionClosedError",
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
        "aiohttp.ServerFingerprintMismatch",
        "h11.LocalProtocolError",
        "h2.ProtocolError",
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


_DEEPEST = 8
_MOST = 64

# A wrapper is raised on purpose. These Python raises itself, for a bug: that of a handler, while a
# refusal was being handled, says nothing about the refusal.
_WRAPPERS = frozenset({"Exception", "RuntimeError", "OSError", "ConnectionError", "TimeoutError"})
_PYTHONS = frozenset(
    {"asyncio", "binascii", "builtins", "concurrent", "csv", "decimal", "json", "re", "struct",
     "xml", "zlib"}
)  # fmt: skip
_INNER = ("reason", "original_exception", "inner_exception", "last_exception", "orig", "original")
"""Where wrappers keep what they wrap: urllib's URLError, and those that many write alike."""


DialectAt = Callable[[str], Dialect]


def generic_at(host: str) -> Dialect:
    """For who knows of no provider at any host."""
    return GENERIC


def classify(
    error: BaseException, *, wall_time: float, dialect_at: DialectAt = generic_at
) -> Refusal:
    """What `error` is about. Never raises, and never makes a response be read.

    `wall_time` is in seconds since the epoch; `dialect_at` is asked for the dialect of the provider
    at the host that an answer came from, where that is known.

    An exception that is not recognised is `Kind.PERMANENT` without a status; so is every error of
    headway itself, and what was raised from one, except that a result which the user's predicate
    refused counts as a limit of unknown type.

    What says nothing itself is judged by what it wraps, eight deep: `__cause__`, tenacity's
    `last_attempt`, `reason` and its like, and `__context__` unless that was suppressed or the error
    is one that Python raises for a bug (a `KeyError` in the handler of a 429 is no 429). Of a
    group the gravest member decides: what would fail again in any case, then a limit.
    """
    try:
        return _classify(error, wall_time, dialect_at)
    except Exception:  # its attributes are somebody else's code, and may do anything
        return Refusal(Kind.PERMANENT, message=type(error).__name__, odd="could not be read")


def _classify(error: BaseException, wall_time: float, dialect_at: DialectAt) -> Refusal:
    found = _Reader(wall_time, dialect_at).read(error, ())
    return found or Refusal(Kind.PERMANENT, message=_described(error))


class _Reader:
    """Reads an exception and what it wraps: `_DEEPEST` deep, `_MOST` in all, rings included."""

    def __init__(self, wall_time: float, dialect_at: DialectAt) -> None:
        self._wall_time = wall_time
        self._dialect_at = dialect_at
        self._left = _MOST

    def read(self, error: BaseException, within: tuple[BaseException, ...]) -> Refusal | None:
        """What `error`, or what it wraps, says; None where nothing is recognised.

        `within` are the errors that wrap it, the outermost first.
        """
        if isinstance(error, RefusedResult) and not within:
            return _refused_result(error, self._wall_time)
        if not isinstance(error, Exception) or isinstance(error, HeadwayError):
            return Refusal(Kind.PERMANENT, message=_described(error))
        if len(within) >= _DEEPEST or not self._left or any(error is each for each in within):
            return None
        self._left -= 1
        if isinstance(error, ExceptionGroup):
            return self._group(error, within)
        ours = next((cause for cause in _causes(error) if isinstance(cause, HeadwayError)), None)
        found = _own(error, self._wall_time, self._dialect_at, answers_only=ours is not None)
        if found is None and ours is not None:  # an SDK calls it a connection error
            return Refusal(Kind.PERMANENT, message=_described(ours))
        if found is not None and found.wait is not None and found.typed:
            return found
        for wrapped in _wrapped(error):
            inner = self.read(wrapped, (*within, error))
            if inner is None:
                continue
            if found is not None:
                return _enriched(found, inner)
            message = one_line(f"{_described(error)} ({inner.message})", MAX_MESSAGE)
            return replace(inner, message=message)
        return found

    def _group(
        self, group: ExceptionGroup[Exception], within: tuple[BaseException, ...]
    ) -> Refusal | None:
        """The gravest of the members' refusals, with the longest wait of those that are alike, and
        what all their headers state.
        """
        members = [
            self.read(member, (*within, group))
            or Refusal(Kind.PERMANENT, message=_described(member))
            for member in group.exceptions[:_MOST]
        ]
        worst = min(members, key=lambda member: (_gravity(member.kind), not member.typed))
        alike = [member for member in members if _alike(member.kind, worst.kind)]
        waits = [member.wait for member in alike if member.wait is not None]
        periods = [member.per for member in alike if member.per is not None]
        return replace(
            worst,
            wait=max(waits, default=None),
            per=max(periods, default=None),
            limits=tuple(limit for member in members for limit in member.limits),
        )


def _own(
    error: Exception, wall_time: float, dialect_at: DialectAt, *, answers_only: bool
) -> Refusal | None:
    """What `error` says by itself; with `answers_only`, what the answer that it carries says."""
    carried = Carried(error)
    if _is_garbage(error):
        return Refusal(Kind.TRANSIENT, message=_described(error))
    found = _answer(carried, wall_time, dialect_at)
    if found is None and answers_only:
        return None
    odd: list[str] = []
    wait = wait_of(error, wall_time, odd)
    if found is None and (lacking := machine_fault(error)) is not None:
        said = _described(error)
        if text_of(lacking) not in said:
            said = one_line(f"{said} ({_described(lacking)})", MAX_MESSAGE)
        return Refusal(Kind.PERMANENT, message=f"{said}: a fault of this machine")
    if found is None and (found := _fault(error)) is not None and _unreached(error):
        found = replace(found, unreached=True)
    if found is None:
        found = _without_a_status(carried, wait, wall_time)
    if found is None or found.wait is not None:
        return found
    return replace(found, wait=wait, odd="; ".join(filter(None, (found.odd, *odd)))[:300])


def _answer(carried: Carried, wall_time: float, dialect_at: DialectAt) -> Refusal | None:
    """The refusal in the answer that it carries, by status or by gRPC's code."""
    headers, body = carried.headers, carried.body
    if carried.status is not None:
        said = body or text_of(carried.error)
        host = carried.host
        dialect = GENERIC if host is None else dialect_at(host)
        found = refusal_from_response(
            carried.status, headers, said, wall_time=wall_time, dialect=dialect
        )
        if found is None:
            return None
        limited = said if carried.status == 429 else None  # others may quote the request
        stated = limits_from(headers, limited, wall_time=wall_time, dialect=dialect)
        return replace(found, limits=stated) if stated else found
    meaning = carried.grpc
    if meaning is None:
        return None
    said = carried.read()
    if isinstance(details := called(attribute(carried.error, "details")), str):
        said = read_body(details)
    if meaning == 503 and _NEVER_CONNECTED.search(said.message.lower()):
        # gRPC calls what it could not reach unavailable, as it does what is overloaded.
        return Refusal(Kind.TRANSIENT, message=_described(carried.error), unreached=True)
    found = refusal_from_parts(meaning, read_headers(headers), said, None, wall_time)
    return found if said.message else replace(found, message=_described(carried.error))


_NEVER_CONNECTED = re.compile(r"failed to connect|connection refused|name resolution|dns")


def _without_a_status(carried: Carried, wait: float | None, wall_time: float) -> Refusal | None:
    """An error inside a stream; one whose class, text or `retry_after` tells of a limit.

    The headers of a stream are those of a success and say nothing; its body says all.
    """
    error = carried.error
    said = carried.read()
    meaning = status_in_body(said)
    if meaning is not None:
        found = refusal_from_parts(meaning, {}, said, None, wall_time)
        return found if carried.body is not None else replace(found, message=_described(error))
    text = text_of(error)[:_PROSE]
    if wait is None:
        if not _is_wrapper(error):
            return None  # a ValueError may quote whatever could not be read
        wait = wait_in_text(text, wall_time)
    named = is_limit_word(type(error).__name__) or says_limit(text)
    if wait is None and not named:
        return None
    return Refusal(Kind.RATE, wait, None, _described(error), typed=False)


_PROSE = 300  # characters of an error's text: what comes later may be quoted


def _enriched(found: Refusal, inner: Refusal) -> Refusal:
    """`found` with what the wrapped error knows more of the same refusal."""
    if not _alike(found.kind, inner.kind):
        return found
    return replace(
        found,
        kind=found.kind if found.typed else inner.kind,
        typed=found.typed or inner.typed,
        wait=inner.wait if found.wait is None else found.wait,
        odd=found.odd or inner.odd,
        per=inner.per if found.per is None else found.per,
        unreached=found.unreached or inner.unreached,
        limits=found.limits or inner.limits,
    )


def _wrapped(error: Exception) -> Iterator[BaseException]:
    """What `error` was made from, the surest first."""
    if error.__cause__ is not None:
        yield error.__cause__
    attempt = attribute(error, "last_attempt")  # tenacity; one that is not done would be waited for
    if called(attribute(attempt, "done")) is True:
        last = called(attribute(attempt, "exception"))
        if isinstance(last, BaseException):
            yield last
    for name in _INNER:
        inner = attribute(error, name)
        if isinstance(inner, BaseException):
            yield inner
    context = error.__context__
    if context is not None and not error.__suppress_context__ and _is_wrapper(error):
        yield context


def _is_wrapper(error: BaseException) -> bool:
    """Whether somebody raised `error` on purpose, and Python did not for a bug."""
    return not _is_builtin(error) or type(error).__name__ in _WRAPPERS


def _is_builtin(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _PYTHONS


def _alike(one: Kind, other: Kind) -> bool:
    """Whether both are of one kind, or both about some limit."""
    return one is other or (one.cuts is not None and other.cuts is not None)


def _gravity(kind: Kind) -> int:
    """Which of a group's members decides, the least first: what would fail again in any case (all
    jobs', then this one's), then what asks for most patience.
    """
    if kind.retried in (Retried.NEVER, Retried.DOUBTED):
        return 0 if kind.moves is Moves.LATCH else 1
    if kind.retried is Retried.PATIENCE:
        return 2 if kind.cuts is not None else 3
    return 4


def _refused_result(error: RefusedResult, wall_time: float) -> Refusal:
    """A provider that says "too fast" with status 200; its headers or body may say how long."""
    headers = headers_of(error.result, None)
    wait, odd = wait_from(headers, held(error.result), wall_time=wall_time)
    return Refusal(Kind.RATE, wait, None, one_line(text_of(error), MAX_MESSAGE), False, odd)


def _is_garbage(error: Exception) -> bool:
    """Whether what came was no HTTP: aiohttp calls that a 400, which no server has said."""
    return any(
        f"{cls.__module__.partition('.')[0]}.{cls.__name__}" == "aiohttp.HttpProcessingError"
        for one in (error, error.__cause__)
        for cls in type(one).__mro__
    )


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
    if text_of(reason) != text_of(error):
        message = one_line(f"{message} ({_described(reason)})", MAX_MESSAGE)
    return Refusal(Kind.PERMANENT if permanent else Kind.TRANSIENT, message=message)


def _kind_of_class(error: BaseException) -> Kind | None:
    """By the first class in the MRO that is known; then by the built-in types and errno."""
    for cls in type(error).__mro__:
        name = f"{cls.__module__.partition('.')[0]}.{cls.__name__}"
        if name in _PERMANENT:
            closed = cls.__name__ in _OURS and _met_a_closed_one(error)
            return Kind.TRANSIENT if closed else Kind.PERMANENT
        if cls.__name__ == "SSLError" and "certificate verify failed" in text_of(error).lower():
            return Kind.PERMANENT  # requests and botocore keep the cause in their text alone
        if name in _TRANSIENT or cls.__name__ in _TRANSIENT_ANYWHERE:
            return Kind.TRANSIENT
    if isinstance(error, ConnectionError | TimeoutError):
        return Kind.TRANSIENT
    if isinstance(error, OSError) and error.errno in _NETWORK_ERRNOS:
        return Kind.TRANSIENT
    return None


def _met_a_closed_one(error: BaseException) -> bool:
    """Whether a request found its connection closed, which h2 and h11 call a mistake of ours: the
    next try has another connection.
    """
    for cause in _causes(error):
        for each in (cause, *cause.args, cause.__context__):
            if type(each).__name__ in _CLOSED_BY_H2 or (
                isinstance(each, BaseException) and _CLOSED.search(text_of(each)[:_PROSE])
            ):
                return True
    return False


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
    text = one_line(text_of(error), MAX_MESSAGE)
    name = type(error).__name__
    return one_line(f"{name}: {text}" if text else name, MAX_MESSAGE)


_NO_CONNECTION = frozenset(
    {
        "ClientConnectorError", "ConnectError", "ConnectionRefusedError", "NewConnectionError",
        "gaierror",
    }
)  # fmt: skip
_NO_CONNECTION_IN_TIME = frozenset(
    {"ConnectTimeout", "ConnectTimeoutError", "ConnectionTimeoutError", "ProxyConnectionError"}
)
_NO_WAY = frozenset(
    {errno.ECONNREFUSED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH}
)


def _unreached(error: BaseException) -> bool:
    """Whether no connection was made at all."""
    causes = (error, *_causes(error))
    names = {base.__name__ for one in causes for base in type(one).__mro__}
    numbers = {one.errno for one in causes if isinstance(one, OSError)} - {None}
    if not names.isdisjoint(_NO_CONNECTION) or not numbers.isdisjoint(_NO_WAY):
        return True
    # httpx-aiohttp calls a connection that broke the same.
    return not numbers and not names.isdisjoint(_NO_CONNECTION_IN_TIME)
