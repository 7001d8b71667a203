"""Exceptions that real SDKs and clients raise, over transports without a network."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import httpcore
import httpx
import httpx2
import multidict
import pytest
import sdks
from aiohttp.http_exceptions import BadStatusLine, LineTooLong, TransferEncodingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from headway.errors import (
    DeadlineExceeded,
    Latched,
    NeverFits,
    QueueFull,
    SchedulerClosed,
    Unavailable,
)
from headway.events import Kind
from headway.hints import Refusal, classify, limits_from

NOW = 1_790_000_000.0
MESSAGES: Any = [{"role": "user", "content": "why is the sky blue?"}]

Call = Callable[..., BaseException]


def raised(call: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return caught.value


def client_of(make: Any, http: Any, handler: Callable[[Any], Any]) -> Any:
    """A client of an SDK's that `handler` answers, by what it sends with."""
    sends = http.Client(transport=http.MockTransport(handler))
    return make(api_key="k", max_retries=0, http_client=sends)


def chatted(client: Any, stream: bool) -> BaseException:
    with client:
        return raised(
            lambda: list(
                client.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
            )
        )


def call_together(handler: Callable[[Any], Any], stream: bool = False) -> BaseException:
    return chatted(client_of(sdks.together.Together, httpx, handler), stream)


def call_openai(handler: Callable[[Any], Any], stream: bool = False) -> BaseException:
    return chatted(client_of(sdks.openai.OpenAI, httpx2, handler), stream)


def call_anthropic(handler: Callable[[Any], Any], stream: bool = False) -> BaseException:
    with client_of(sdks.anthropic.Anthropic, httpx2, handler) as client:
        return raised(
            lambda: list(
                client.messages.create(model="m", max_tokens=9, messages=MESSAGES, stream=stream)
            )
        )


SDKS: list[tuple[Call, Any]] = [
    (call_together, httpx),
    (call_openai, httpx2),
    (call_anthropic, httpx2),
]
each_sdk = pytest.mark.parametrize(("call", "http"), SDKS, ids=["together", "openai", "anthropic"])


def answer(http: Any, status: int, **parts: Any) -> Callable[[Any], Any]:
    return lambda request: http.Response(status, request=request, **parts)


def fail(error: type[Exception]) -> Callable[[Any], Any]:
    def handler(request: Any) -> Any:
        raise error("no route")

    return handler


def ask(error: BaseException) -> Refusal:
    return classify(error, wall_time=NOW)


@each_sdk
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Kind.PERMANENT),
        (401, Kind.AUTH),
        (402, Kind.QUOTA),
        (403, Kind.PERMANENT),
        (404, Kind.PERMANENT),
        (408, Kind.TRANSIENT),
        (409, Kind.TRANSIENT),
        (422, Kind.PERMANENT),
        (429, Kind.RATE),
        (500, Kind.TRANSIENT),
        (503, Kind.CAPACITY),
        (504, Kind.TRANSIENT),
        (529, Kind.CAPACITY),
    ],
)
def test_each_status(call: Call, http: Any, status: int, kind: Kind) -> None:
    body = {"error": {"message": "no", "type": "x"}}
    found = ask(call(answer(http, status, json=body, headers={"Retry-After": "3"})))
    assert (found.kind, found.status, found.wait, found.message) == (kind, status, 3, "no")
    assert found.typed is (status != 429)


@each_sdk
def test_html_from_a_proxy(call: Call, http: Any) -> None:
    page = "<html><head><title>502 Bad Gateway</title></head></html>"
    found = ask(call(answer(http, 502, html=page)))
    assert (found.kind, found.message) == (Kind.TRANSIENT, "502 Bad Gateway")


@each_sdk
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ConnectError", Kind.TRANSIENT),
        ("ConnectTimeout", Kind.TRANSIENT),
        ("ReadTimeout", Kind.TRANSIENT),
        ("RemoteProtocolError", Kind.TRANSIENT),
        ("PoolTimeout", Kind.TRANSIENT),
        ("UnsupportedProtocol", Kind.PERMANENT),
    ],
)
def test_the_network_through_an_sdk(call: Call, http: Any, name: str, kind: Kind) -> None:
    error = call(fail(getattr(http, name)))
    assert "API" in type(error).__name__  # APIConnectionError, APITimeoutError
    found = ask(error)
    assert (found.kind, found.status) == (kind, None)
    if name == "PoolTimeout":
        assert "pool is smaller than the concurrency" in found.message
    else:
        assert found.message.endswith(f"({name}: no route)")


@each_sdk
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ('{"type":"overloaded_error","message":"Overloaded"}', Kind.CAPACITY),
        ('{"type":"rate_limit_error","message":"slow down"}', Kind.RATE),
        ('{"type":"server_error","message":"oops"}', Kind.TRANSIENT),
        ('{"type":"invalid_request_error","message":"no"}', Kind.PERMANENT),
        ('{"code":502,"message":"upstream"}', Kind.TRANSIENT),
    ],
)
def test_an_error_inside_a_stream(call: Call, http: Any, error: str, kind: Kind) -> None:
    event = "event: error\n" if call is call_anthropic else ""
    content = f'{event}data: {{"type":"error","error":{error}}}\n\n'
    headers = {"content-type": "text/event-stream", "retry-after": "30"}  # of a success
    found = ask(call(answer(http, 200, content=content, headers=headers), stream=True))
    assert (found.kind, found.status, found.wait) == (kind, None, None)


def test_together_tells_its_limit_and_wait() -> None:
    headers = {"x-ratelimit-reset": "1.5", "x-ratelimit-limit": "10", "x-ratelimit-remaining": "0"}
    body = {"error": {"message": "600 RPM (10 QPS)", "error_type": "dynamic_request_limited"}}
    error: Any = call_together(answer(httpx, 429, json=body, headers=headers))
    assert ask(error) == Refusal(Kind.RATE, 1.5, 429, "600 RPM (10 QPS)")
    hints = limits_from(error.response.headers, error.body, wall_time=NOW, together_unit="second")
    assert [(hint.limit, hint.per) for hint in hints] == [(10, 1), (600, 60), (10, 1)]


def test_openai_tells_tokens_from_an_empty_account() -> None:
    body = {"error": {"message": "Please try again in 7.66s.", "type": "tokens", "code": "x"}}
    found = ask(call_openai(answer(httpx2, 429, json=body)))
    assert (found.kind, found.wait, found.typed) == (Kind.TOKENS, 7.66, True)
    body["error"] |= {"type": "insufficient_quota", "code": "insufficient_quota"}
    assert ask(call_openai(answer(httpx2, 429, json=body))).kind is Kind.QUOTA


def test_anthropic_asks_to_wait_until_the_used_up_limit_is_full() -> None:
    headers = {
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2026-09-21T14:13:41Z",
    }
    body = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    assert ask(call_anthropic(answer(httpx2, 429, json=body, headers=headers))).wait == 21


# Clients without an SDK -------------------------------------------------------------------------


@pytest.mark.parametrize("http", [httpx, httpx2])
def test_raise_for_status(http: Any) -> None:
    request = http.Request("POST", "https://api.example/v1")
    headers = [("Retry-After", "2"), ("RETRY-AFTER", "4")]
    response = http.Response(429, request=request, json={"message": "TPM"}, headers=headers)
    with pytest.raises(http.HTTPStatusError) as caught:
        response.raise_for_status()
    assert ask(caught.value) == Refusal(Kind.TOKENS, 4, 429, "TPM")


@pytest.mark.parametrize("http", [httpx, httpx2])
def test_a_stream_that_was_not_read_is_left_unread(http: Any) -> None:
    reads: list[str] = []

    def stream() -> Iterator[bytes]:
        reads.append("read")
        yield b""

    request = http.Request("POST", "https://api.example/v1")
    response = http.Response(503, request=request, content=stream(), headers={"retry-after": "1"})
    with pytest.raises(http.HTTPStatusError) as caught:
        response.raise_for_status()
    found = ask(caught.value)
    assert (found.kind, found.wait) == (Kind.CAPACITY, 1)
    assert not reads


def test_an_async_stream_that_was_not_read_is_left_unread() -> None:
    reads: list[str] = []

    async def stream() -> AsyncIterator[bytes]:
        reads.append("read")
        yield b""

    async def get() -> Refusal:
        async with (
            httpx.AsyncClient(
                transport=httpx.MockTransport(answer(httpx, 429, content=stream()))
            ) as client,
            client.stream("GET", "https://api.example") as response,
        ):
            with pytest.raises(httpx.HTTPStatusError) as caught:
                response.raise_for_status()
            found = ask(caught.value)
            assert not reads
            return found

    assert asyncio.run(get()).kind is Kind.RATE


@pytest.mark.parametrize("http", [httpx, httpx2])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ReadError", Kind.TRANSIENT),
        ("WriteTimeout", Kind.TRANSIENT),
        ("ProxyError", Kind.TRANSIENT),
        ("LocalProtocolError", Kind.PERMANENT),
        ("InvalidURL", Kind.PERMANENT),
        ("TooManyRedirects", Kind.PERMANENT),
        ("DecodingError", Kind.PERMANENT),
    ],
)
def test_errors_of_httpx(http: Any, name: str, kind: Kind) -> None:
    assert ask(getattr(http, name)("x")) == Refusal(kind, message=f"{name}: x")


def test_errors_of_httpcore() -> None:
    assert ask(httpcore.ReadError("x")).kind is Kind.TRANSIENT
    assert ask(httpcore.ConnectTimeout("x")).kind is Kind.TRANSIENT
    assert ask(httpcore.LocalProtocolError("x")).kind is Kind.PERMANENT


def test_a_bad_certificate_under_a_connection_error_is_permanent() -> None:
    error = httpx.ConnectError("connection failed")
    error.__cause__ = httpcore.ConnectError("connection failed")
    error.__cause__.__cause__ = ssl.SSLCertVerificationError("certificate has expired")
    found = ask(error)
    assert found.kind is Kind.PERMANENT
    assert "certificate has expired" in found.message


def test_errors_of_aiohttp() -> None:
    assert ask(aiohttp.ServerDisconnectedError()).kind is Kind.TRANSIENT
    assert ask(aiohttp.ServerTimeoutError()).kind is Kind.TRANSIENT
    assert ask(aiohttp.ClientPayloadError("cut")).kind is Kind.TRANSIENT
    assert ask(aiohttp.InvalidURL("x")).kind is Kind.PERMANENT
    assert ask(aiohttp.ClientOSError(104, "reset")).kind is Kind.TRANSIENT
    assert ask(aiohttp.ServerFingerprintMismatch(b"a", b"b", "x", 1)).kind is Kind.PERMANENT
    info = aiohttp.RequestInfo(URL("http://x"), "POST", CIMultiDictProxy(CIMultiDict()))
    assert ask(aiohttp.TooManyRedirects(info, (), status=302)).kind is Kind.PERMANENT
    # aiohttp's own words for what is no HTTP: "400", which no server has said.
    for garbage in BadStatusLine("SSH-2.0"), TransferEncodingError("x"), LineTooLong(b"x", 1):
        wrapped = aiohttp.ClientResponseError(info, (), status=400, message="Bad status line")
        wrapped.__cause__ = garbage
        for error in garbage, wrapped:
            assert ask(error).kind is Kind.TRANSIENT
            assert ask(error).status is None
    headers = multidict.CIMultiDictProxy(multidict.CIMultiDict({"RETRY-after": "8"}))
    request: Any = None
    refused = aiohttp.ClientResponseError(
        request, (), status=429, message="Too Many Requests", headers=headers
    )
    found = ask(refused)
    assert (found.kind, found.status, found.wait) == (Kind.RATE, 429, 8)


@pytest.mark.parametrize(
    "ours",
    [
        NeverFits("too large"), DeadlineExceeded("late"), SchedulerClosed("closed"),
        Latched("wrong key", Kind.AUTH), Unavailable("down"), QueueFull("full"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize(("call", "library"), SDKS, ids=["together", "openai", "anthropic"])
def test_an_error_of_headway_under_an_sdk_is_permanent(
    call: Call, library: Any, ours: Exception
) -> None:
    def handler(request: Any) -> Any:
        raise ours

    error = call(handler)
    assert ours in (error, error.__cause__)  # openai's raises it as it is
    refusal = classify(error, wall_time=NOW)
    assert (refusal.kind, refusal.status) == (Kind.PERMANENT, None)
    assert refusal.message == f"{type(ours).__name__}: {ours}"
