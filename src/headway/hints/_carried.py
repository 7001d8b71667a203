"""What an exception of any SDK carries: a status, headers, a body, a wait.

Only what it holds already is asked: a property may read from the network, and any may raise.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from headway.hints._body_waits import unit_of
from headway.hints._reply import ErrorBody, read_body
from headway.hints._values import Clock, read_wait

__all__ = [
    "Carried",
    "attribute",
    "body_of",
    "called",
    "headers_of",
    "held",
    "host_of",
    "method_of",
    "response_of",
    "text_of",
    "wait_of",
]

_STATUSES = ("status_code", "status", "code", "http_status", "statusCode", "CODE")
_BODIES = (
    "body",
    "details",
    "json_body",
    "http_body",
    "data",
    "content",
    "error_details",
    "detail",
)
_HELD = ("_content", "_body", "content", "text", "body", "data", "_text")
_WAITS = (
    "retry_after", "retry_after_seconds", "retry_after_s", "retry_after_ms", "retry_after_secs",
    "retryAfter", "retry_in", "retry_delay", "wait", "wait_time", "wait_seconds", "reset_after",
    "reset_at", "resets_at",
)  # fmt: skip

# gRPC's codes, and the status of HTTP that asks for the same; 400 where no try would mend it.
_GRPC = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 400,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 400,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 400,
    "UNAUTHENTICATED": 401,
}


def method_of(error: BaseException) -> str | None:
    """The method of the request that `error` is about (``"POST"``), None where it does not say."""
    for holder in response_of(error), error:
        for name in "request", "request_info":  # aiohttp's
            method = attribute(attribute(holder, name), "method")
            if isinstance(method, str) and method:
                return method.upper()
    return None


class Carried:
    """What `error` carries of a provider's answer."""

    __slots__ = ("body", "error", "headers", "status")

    def __init__(self, error: BaseException) -> None:
        response = response_of(error)
        self.error = error
        self.status = _status(error, response)
        self.headers = headers_of(error, response)
        self.body = body_of(error, response)

    @property
    def host(self) -> str | None:
        """The one that was asked; None where neither the error nor its response says."""
        return host_of(self.error)

    @property
    def grpc(self) -> int | None:
        """The status of HTTP that the gRPC code on the error amounts to."""
        for name in "grpc_status_code", "code", "status":
            code = attribute(self.error, name)
            if callable(code) and not isinstance(code, type):
                code = called(code)
            said = attribute(code, "name")
            if isinstance(said, str) and said in _GRPC:
                return _GRPC[said]
        return None

    def read(self) -> ErrorBody:
        """What its body says; without one, what its text and its own words say."""
        if self.body is not None:
            return read_body(self.body)
        words = {
            name: word
            for name in ("code", "type", "status", "error_code")
            if isinstance(word := attribute(self.error, name), str) and not word.isdigit()
        }
        return read_body({"message": text_of(self.error), **words})


def host_of(holder: object) -> str | None:
    """The host that was asked, as the response in `holder`, or `holder`, says; None where neither
    does.
    """
    for each in response_of(holder), attribute(holder, "http_response"), holder:
        for name in "request", "request_info":  # aiohttp's
            host = _host(attribute(attribute(each, name), "url"))
            if host is not None:
                return host
    return None


def response_of(error: object) -> Any:
    """The response that `error` holds, of any library; None where it holds none."""
    for name in "response", "resp", "raw_response":  # httplib2 and Google's client, Mistral
        response = attribute(error, name)
        if response is not None:
            return response
    return None


def headers_of(error: object, response: object) -> Any:
    """The headers on the response, else on the error; gRPC's trailing metadata are some."""
    if isinstance(response, dict) and (found := _botocore(response, "HTTPHeaders")) is not None:
        return found
    if isinstance(response, dict) and "ResponseMetadata" not in response and response:
        return response  # httplib2: a response is the dict of its headers
    for holder, name in (
        (response, "headers"), (error, "headers"), (error, "response_headers"),
        (error, "litellm_response_headers"),
    ):  # fmt: skip
        if found := attribute(holder, name):
            return found
    trailing = attribute(error, "trailing_metadata")
    return called(trailing)


def body_of(error: object, response: object) -> object:
    """The body on the exception, or the content that its response already holds."""
    for name in _BODIES:
        body = attribute(error, name)
        if name == "details" and isinstance(body, list):  # google.api_core
            return {"error": {"message": text_of(error), "details": _plain_details(body)}}
        if body and isinstance(body, dict | list | str | bytes):
            return body
    listed = attribute(error, "errors")
    if isinstance(listed, list) and any(isinstance(each, dict) for each in listed):
        return {"error": {"message": text_of(error), "errors": listed}}
    if isinstance(response, dict) and "ResponseMetadata" in response:
        return response
    if isinstance(response, dict) and not hasattr(response, "__dict__"):
        return response
    return held(response)


def held(response: object) -> object:
    """The content that a response holds already.

    Only the instance's own dictionary is asked. A property may read from the network (requests)
    or raise (an unread stream of httpx), and httpx, requests and aiohttp keep here what was read.
    """
    own = getattr(response, "__dict__", None)
    if not isinstance(own, dict):
        return None
    for name in _HELD:
        content = own.get(name)
        if content and isinstance(content, dict | list | str | bytes):
            return content
    return None


def wait_of(error: object, wall_time: float, odd: list[str]) -> float | None:
    """The wait that an attribute of `error` states, in seconds; None where none does.

    A number, a text, a `timedelta`. Telethon's and Pyrogram's FloodWait call it `seconds` and
    `value`.
    """
    names: Iterable[str] = _WAITS
    if "floodwait" in type(error).__name__.lower():
        names = (*_WAITS, "seconds", "value")
    clock = Clock(wall_time, None)
    for name in names:
        value = attribute(error, name)
        unit = unit_of(name) or "s"
        if isinstance(value, timedelta):
            value, unit = value.total_seconds(), "s"
        if isinstance(value, bool) or not isinstance(value, int | float | str) or value == "":
            continue
        if isinstance(value, int | float):
            value = repr(value / 1e3 if unit == "ms" else value) if abs(value) < 1e15 else "inf"
        wait = read_wait(name, value[:64], clock, odd)
        if wait is not None:
            return wait
    return None


def attribute(holder: object, name: str) -> Any:
    """The attribute `name` of `holder`; None where there is none, or asking for it raises."""
    try:
        return getattr(holder, name, None)
    except Exception:  # a property, such as that of a request which was never set
        return None


def text_of(error: object) -> str:
    """`str(error)`, "" where that raises."""
    try:
        return str(error)
    except Exception:
        return ""


def called(function: Any) -> Any:
    """What `function` returns; None where it is none, or raises."""
    if not callable(function):
        return None
    try:
        return function()
    except Exception:  # it wants arguments, or is somebody else's code
        return None


def _host(url: object) -> str | None:
    """The host of an address: text, or an object of any library's."""
    host = attribute(url, "host")
    if isinstance(url, str):
        try:
            host = urlsplit(url).hostname
        except ValueError:
            return None
    return host if isinstance(host, str) else None


def _status(error: object, response: object) -> int | None:
    for holder, names in ((error, _STATUSES), (response, ("status_code", "status"))):
        for name in names:
            status = attribute(holder, name)
            if isinstance(status, int) and 400 <= status <= 599:
                return int(status)
    if isinstance(response, dict):  # botocore
        status = _botocore(response, "HTTPStatusCode")
        if isinstance(status, int) and 400 <= status <= 599:
            return status
    return None


def _botocore(response: dict[Any, Any], name: str) -> Any:
    metadata = response.get("ResponseMetadata")
    return metadata.get(name) if isinstance(metadata, dict) else None


def _plain_details(details: list[Any]) -> list[Any]:
    """Google's details: dicts as they are, of protobuf's messages the delay and the quotas."""
    plain: list[Any] = []
    for detail in details[:32]:
        if isinstance(detail, dict):
            plain.append(detail)
            continue
        delay = attribute(detail, "retry_delay")
        if isinstance(seconds := attribute(delay, "seconds"), int):
            plain.append({"retryDelay": f"{seconds + (attribute(delay, 'nanos') or 0) / 1e9!r}s"})
        elif isinstance(reason := attribute(detail, "reason"), str):
            metadata = attribute(detail, "metadata")
            plain.append({"reason": reason, "metadata": dict(metadata or {})})
    return plain
