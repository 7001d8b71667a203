"""A fake provider behind clients of both libraries, async and sync: answers, faults, timeouts."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import anyio
import httpx
import httpx2
import pytest

import headway.httpx
import headway.httpx2
from headway import MissingExtra, Scheduler
from headway.testing import FakeProvider, transports

pytestmark = pytest.mark.anyio

LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
URL = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "why?"}]}


def sync_client(library: ModuleType, provider: FakeProvider, **options: Any) -> Any:
    return library.Client(transport=provider.transport(), **options)


def client(library: ModuleType, provider: FakeProvider, **options: Any) -> Any:
    return library.AsyncClient(transport=provider.transport(), **options)


@LIBRARIES
async def test_an_answer_takes_its_latency_and_counts(library: ModuleType) -> None:
    provider = FakeProvider("600/min", latency=2)
    async with client(library, provider) as http:
        began = anyio.current_time()
        response = await http.post(URL, json=BODY, headers={"authorization": "Bearer k"})
        assert anyio.current_time() - began == pytest.approx(2)
    assert response.status_code == 200
    assert response.headers["x-ratelimit-remaining-requests"] == "599"
    assert response.json()["usage"]["total_tokens"] == 11
    (arrival,) = provider.arrivals
    assert (arrival.key, arrival.model, arrival.status, arrival.tokens) == ("k", "m", 200, 11)
    assert arrival.at == began
    assert arrival.ended == pytest.approx(began + 2)
    assert provider.in_flight_peak == 1


@LIBRARIES
def test_a_sync_client_is_served_alike(library: ModuleType) -> None:
    provider = FakeProvider("1/min", latency=0.001)
    with sync_client(library, provider) as http:
        assert http.post(URL, json=BODY).json()["choices"][0]["message"]["content"]
        assert http.post(URL, json=BODY).status_code == 429
        provider.fail_next("disconnect")
        with pytest.raises(library.RemoteProtocolError):
            sync_client(library, FakeProvider(faults=["disconnect"])).post(URL, json=BODY)
    with (
        sync_client(library, FakeProvider(latency=0.01)) as http,
        http.stream("POST", URL, json={**BODY, "stream": True}) as response,
    ):
        assert list(response.iter_lines())[-2] == "data: [DONE]"


@LIBRARIES
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("connect", "ConnectError"),
        ("disconnect", "RemoteProtocolError"),
        ("timeout", "ReadTimeout"),
        ("cut", "RemoteProtocolError"),
    ],
)
async def test_what_breaks_is_what_the_library_raises(
    library: ModuleType, fault: Any, error: str
) -> None:
    provider = FakeProvider(faults=[fault])
    async with client(library, provider, timeout=5) as http:
        with pytest.raises(getattr(library, error)):
            await http.post(URL, json=BODY)
        assert (await http.post(URL, json=BODY)).status_code == 200
    first = provider.arrivals[0]
    assert (first.status, first.ended is None, first.answered) == (None, False, False)


@LIBRARIES
async def test_a_malformed_body_is_a_success_that_is_no_json(library: ModuleType) -> None:
    async with client(library, FakeProvider(faults=["malformed"])) as http:
        response = await http.post(URL, json=BODY)
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        response.json()


@LIBRARIES
async def test_a_client_waits_as_long_as_its_timeout(library: ModuleType) -> None:
    provider = FakeProvider(latency=30)
    began = anyio.current_time()
    async with client(library, provider, timeout=5) as http:
        with pytest.raises(library.ReadTimeout):
            await http.post(URL, json=BODY)
        assert anyio.current_time() - began == pytest.approx(5)
    async with client(library, FakeProvider(faults=["timeout"]), timeout=None) as http:
        with pytest.raises(library.ReadTimeout):
            await http.post(URL, json=BODY)
    assert anyio.current_time() - began == pytest.approx(605)


@LIBRARIES
@pytest.mark.parametrize("end", ["read", "closed", "cancelled", "lost", "never begun"])
async def test_a_stream_is_in_flight_until_it_ends(library: ModuleType, end: str) -> None:
    provider = FakeProvider(concurrency=1, latency=3)
    transport = provider.transport()

    def request(**more: Any) -> Any:
        return library.Request("POST", URL, json={**BODY, **more})

    response = await transport.handle_async_request(request(stream=True))
    refused = await transport.handle_async_request(request())
    assert refused.status_code == 429
    stream = response.stream
    if end == "read":
        assert len([piece async for piece in stream]) > 3
    elif end == "closed":
        assert await anext(stream)
        await stream.aclose()
    elif end == "cancelled":
        with anyio.move_on_after(1):
            while await anext(stream):
                pass
        await stream.aclose()
    elif end == "never begun":
        await stream.aclose()
    del response, stream
    if end == "lost":
        gc.collect()
    assert (await transport.handle_async_request(request())).status_code == 200
    first = provider.arrivals[0]
    assert first.status == (200 if end == "read" else None)
    assert first.answered is (end == "read")


@LIBRARIES
@pytest.mark.parametrize("fault", ["cut", "malformed"])
async def test_a_stream_may_break(library: ModuleType, fault: Any) -> None:
    provider = FakeProvider(faults=[fault])
    lines: list[str] = []
    async with (
        client(library, provider) as http,
        http.stream("POST", URL, json={**BODY, "stream": True}) as response,
    ):
        try:
            async for line in response.aiter_lines():
                lines += [line] * bool(line)
        except library.RemoteProtocolError:
            assert fault == "cut"
        else:
            assert fault == "malformed"
    assert lines
    if fault == "malformed":
        assert set(lines) == {"data: {"}
    assert not provider.arrivals[0].answered


FACES: list[tuple[ModuleType, Any]] = [(httpx, headway.httpx), (httpx2, headway.httpx2)]


@pytest.mark.parametrize(("library", "face"), FACES, ids=["httpx", "httpx2"])
async def test_it_stands_behind_headways_transport(library: ModuleType, face: Any) -> None:
    provider = FakeProvider("600/min", latency=(0.1, 2), faults=[503, "disconnect", None, 429])
    scheduler = Scheduler("600/min")
    transport = face.AsyncTransport(scheduler, provider.transport())
    async with library.AsyncClient(transport=transport) as http:

        async def ask(n: int) -> Any:
            return await http.post(URL, json={**BODY, "n": n})

        answers = await scheduler.map(ask, range(50))
    assert {each.status_code for each in answers} == {200}
    provider.assert_all_answered(50)
    provider.assert_within_limits()
    assert [each.fault and each.fault.what for each in provider.arrivals[:4]] == [
        503, "disconnect", None, 429,
    ]  # fmt: skip


def test_without_a_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "_LIBRARIES", ("no_such_library",))
    with pytest.raises(MissingExtra, match=r"pip install 'headway\[httpx\]'"):
        FakeProvider().transport()


def test_what_a_function_of_the_users_raises_is_raised_as_it_is() -> None:
    def reply(_: object) -> str:
        raise LookupError("mine")

    made: Callable[..., Any] = FakeProvider
    with sync_client(httpx, made(reply=reply)) as http, pytest.raises(LookupError, match="mine"):
        http.post(URL, json=BODY)
