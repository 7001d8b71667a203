"""What a transport makes of odd bodies, odd streams and odd arguments."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from sites import URL, Site, idle

import headway
from headway import Kind, Scheduler

pytestmark = pytest.mark.anyio


PLAIN = {"content-type": "application/json"}


# What SDKs make of headway's own errors


async def test_an_error_of_headway_under_an_sdk_is_not_tried_again(site: Site) -> None:
    """SDKs raise a connection error of their own from whatever a transport raises."""
    scheduler = Scheduler("100/s", tokens="1000/min", concurrency=1)

    class APIConnectionError(Exception):
        pass

    async def two() -> None:
        await client.post(URL, json={"max_tokens": 5})
        try:
            await client.post(URL, json={"prompt": "x" * 9000})
        except headway.HeadwayError as error:
            raise APIConnectionError("Connection error.") from error

    async with site.client(scheduler) as client:
        with pytest.raises(APIConnectionError) as caught:
            await scheduler.submit(two)
    assert isinstance(caught.value.__cause__, headway.NeverFits)
    (note,) = caught.value.__cause__.__notes__
    assert "the scheduler's answer, not the server's" in note
    assert "max_retries=0" in note
    assert len(site.sent) == 1  # and paid for once
    assert idle(scheduler)


# Bodies that can be sent again


async def test_a_form_of_bytes_is_sent_again(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [429, site.library.WriteError("gone")]
    bodies: list[bytes] = []
    async with site.client(scheduler) as client:
        files = {"file": ("a.mp3", b"sound"), "other": b"more"}
        response = await client.post(URL, files=files, data={"model": "w", "n": "1"})
        bodies = [await request.aread() for request in site.requests]
    assert response.text == "ok"
    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    assert idle(scheduler)


async def test_a_refused_upload_says_why_it_was_not_sent_again(
    site: Site, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    scheduler = Scheduler("100/s", concurrency=1)

    async def upload() -> AsyncIterator[bytes]:
        yield b"part"

    path = tmp_path / "sound"
    path.write_bytes(b"sound")
    async with site.client(scheduler) as client:
        with path.open("rb") as file:
            for options in ({"content": upload()}, {"files": {"file": file}}):
                site.answers = [429]
                response = await client.post(URL, **options)
                assert response.status_code == 429
                assert "a stream or an open file" in response.extensions["headway"]
    assert len(site.sent) == 2
    assert caplog.text.count("a stream or an open file") == 2


# Usage


async def settled(site: Site, content: bytes, *, whole: bool = True) -> float:
    """The tokens that a call which reserved 500 is charged for this answer."""
    scheduler = Scheduler("100/s", tokens="180k/min", concurrency=1)
    (_, _, body) = await site.body(1, data=content)()
    site.answers = [(200, {}, body)]
    async with (
        site.client(scheduler.with_options(tokens=500)) as client,
        client.stream("POST", URL) as response,
    ):
        chunks = aiter(response.stream)
        await anext(chunks)
        if whole:
            async for _ in chunks:
                pass
        await chunks.aclose()
    assert idle(scheduler)
    (budget,) = scheduler._shell.state.whole.budgets
    return float(budget.total)


async def test_a_stream_that_is_closed_early_costs_what_it_reserved(site: Site) -> None:
    start = (
        b'event: message_start\ndata: {"type": "message_start", "message": '
        b'{"usage": {"input_tokens": 10, "output_tokens": 1}}}\n\n'
    )
    deltas = b'event: content_block_delta\ndata: {"delta": {"text": "xxxx "}}\n\n' * 2000
    assert await settled(site, start + deltas, whole=False) == 500
    end = b'event: message_delta\ndata: {"usage": {"output_tokens": 2000}}\n\n'
    assert await settled(site, start + deltas + end) == 2010


async def test_an_absurd_usage_is_not_believed(site: Site) -> None:
    assert await settled(site, b'{"usage": {"total_tokens": 900000000000}}') == 500
    assert await settled(site, b'{"usage": {"total_tokens": 600000}}') == 500
    assert await settled(site, b'{"usage": {"total_tokens": 4000}}') == 4000


# Errors inside a stream


@pytest.mark.parametrize("how", ["alone", "submit", "lease", "a further send"])
@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error"}}\n\n',
         Kind.CAPACITY),
        (b'data: {"error": {"code": "rate_limit_exceeded", "message": "x"}}\n\n', Kind.RATE),
        (b'data: {"error": {"message": "boom"}}\n\ndata: [DONE]\n\n', Kind.TRANSIENT),
    ],
)  # fmt: skip
async def test_an_error_event_is_counted_and_passed_on(
    last: bytes, kind: Kind, how: str, site: Site
) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    content = b'data: {"text": "a", "error": null}\n\n' + last
    (_, _, body) = await site.body(1, data=content)()
    site.answers = [(200, {"content-type": "text/event-stream"}, body)]
    if how == "a further send":
        site.answers.insert(0, 200)

    async def read() -> None:
        if how == "a further send":
            await client.get(URL)
        async with client.stream("POST", URL) as response:
            assert response.status_code == 200
            assert b"".join([chunk async for chunk in response.aiter_raw()]) == content

    async with site.client(scheduler) as client:
        if how == "alone":
            await read()
        elif how == "lease":
            async with scheduler.lease():
                await read()
        else:
            await scheduler.submit(read)
    stats = scheduler.statistics()
    assert stats.refused == {kind: 1}
    assert stats.failed == 1
    assert idle(scheduler)


@pytest.mark.parametrize(
    "content",
    [
        b'data: {"text": "an error"}\n\n',
        b'data: {"error": null}\n\ndata: [DONE]\n\n',
        b'data: {"error": {"message": "it goes on"}}\n\ndata: {"text": "b"}\n\n',
        b'event: error_count\ndata: {"text": "b"}\n\n',
        b"data: \xff\n\n\n\n:",
    ],
)
async def test_what_is_no_error_event(content: bytes, site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [(200, {"content-type": "text/event-stream"}, content)]
    async with site.client(scheduler) as client:
        await client.post(URL)
    assert (scheduler.statistics().succeeded, scheduler.statistics().refused) == (1, {})


# The predicate


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        (None, 1), ("application/json; charset=utf-8", 1), ("application/problem+json", 1),
        ("text/plain", 1), ("text/html", 1), ("application/x-ndjson", 0),
        ("application/jsonl", 0), ("application/stream+json", 0), ("audio/mpeg", 0),
        ("image/png", 0), ("application/octet-stream", 0), ("text/event-stream", 0),
    ],
)  # fmt: skip
async def test_what_the_predicate_reads(kind: str | None, asked: int, site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [(200, {} if kind is None else {"content-type": kind}, b"[]")]
    seen: list[Any] = []
    async with site.client(scheduler, is_refused=seen.append) as client:
        await client.post(URL)
    assert len(seen) == asked


# Time


@pytest.mark.parametrize("how", ["alone", "lease"])
async def test_a_text_that_comes_too_slowly_is_cut_off(how: str, site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    view = scheduler.with_options(attempt_timeout=5)

    async def answer(kind: str) -> Any:
        return 200, {"content-type": kind}, (await site.body(chunks=9)())[2]

    async def ask() -> Any:
        if how == "alone":
            return await client.post(URL)
        async with scheduler.lease():
            return await client.post(URL)

    async with site.client(view) as client:
        site.answers = [await answer("application/json"), await answer("text/event-stream")]
        began = anyio.current_time()
        with pytest.raises(TimeoutError):
            await ask()
        assert anyio.current_time() - began == pytest.approx(5)
        assert site.open == 1  # the other answer's, which is made already
        assert (await ask()).text
    assert site.open == 0
    assert idle(scheduler)


# Arguments


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"together_unit": "minutes"}, "together_unit='minutes' is no unit"),
        ({"tokens": "180k/min"}, "tokens='180k/min' is not a function"),
        ({"tokens": 100}, "tokens=100 is not a function"),
        ({"is_refused": "x"}, "is_refused='x' is not a function"),
    ],
)
async def test_wrong_options_are_told_where_they_are_given(
    options: dict[str, Any], said: str, site: Site
) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        site.face.AsyncTransport(Scheduler(), **options)


async def test_async_functions_where_nothing_can_be_awaited(site: Site) -> None:
    async def later(body: Any) -> float:
        return 1

    for name in ("tokens", "is_refused"):
        with pytest.raises(TypeError, match=f"{name}= takes a plain function and .*later is async"):
            site.face.AsyncTransport(Scheduler(), **{name: later})


async def test_wrong_transports_are_told_to_the_point(site: Site) -> None:
    scheduler, library, face = Scheduler(), site.library, site.face
    for scheduled in ("600/min", Scheduler):
        with pytest.raises(TypeError, match=r"is not a Scheduler\. Fix: AsyncTransport"):
            face.AsyncTransport(scheduled)
    for wrong, said in (
        (library.AsyncHTTPTransport, r"is a class. Fix: an instance, AsyncHTTPTransport\(\)"),
        (library.AsyncClient(), "is a client, not an async transport"),
        (library.HTTPTransport(), "is for sync clients, and this is for async ones"),
        (face.AsyncTransport(scheduler), "is headway's already"),
    ):
        with pytest.raises(TypeError, match=said):
            face.AsyncTransport(scheduler, wrong)


async def test_warming_raises_the_first_failure_itself(site: Site) -> None:
    scheduler = Scheduler()
    failure = site.library.ConnectError("nobody there")

    async def fail(request: Any) -> Any:
        raise failure

    async def hang(request: Any) -> Any:
        await anyio.sleep(3600)

    transport = site.face.AsyncTransport(scheduler, site.library.MockTransport(fail))
    with pytest.raises(site.library.ConnectError) as caught:
        await transport.warm(URL, 3)
    assert caught.value is failure
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=r"cannot be opened\. Fix: a whole number from 1"):
            await transport.warm(URL, wrong)
    transport = site.face.AsyncTransport(scheduler, site.library.MockTransport(hang))
    began = anyio.current_time()
    with pytest.raises(TimeoutError):
        await transport.warm(URL)
    with pytest.raises(TimeoutError):
        await transport.warm(URL, timeout=2)
    assert anyio.current_time() - began == pytest.approx(12)


async def test_a_context_manager_of_an_sdk_leaves_no_coroutine_behind() -> None:
    async def request() -> None: ...

    class Manager:
        def __init__(self) -> None:
            self._api_request = request()

        async def __aenter__(self) -> None:
            await self._api_request

    made: list[Manager] = []

    def create() -> Any:
        made.append(Manager())
        return made[0]

    with pytest.raises(TypeError, match="is not async: it returned Manager"):
        await Scheduler().submit(create)
    assert made[0]._api_request.cr_frame is None  # closed


# Images


async def test_images_are_not_read_as_text(site: Site) -> None:
    scheduler = Scheduler("100/s", tokens="180k/min", concurrency=1)
    image = "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 3200).decode()
    content = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "?"}]
    site.answers = [(200, PLAIN, b"{}")]
    async with site.client(scheduler) as client:
        body = {"model": "m", "messages": [{"role": "user", "content": content}], "max_tokens": 9}
        await client.post(URL, json=body)
    (budget,) = scheduler._shell.state.whole.budgets
    assert 1445 < budget.total < 1545
