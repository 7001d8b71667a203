"""Redirects and bombs under a transport: sent on as they are, decoded no further than is sane."""

from __future__ import annotations

import gzip
from typing import Any

import httpx
import pytest
import sdks
import zstandard
from clocks import pass_time
from sites import URL, Site, idle

import headway.httpx
from headway import Kind, Scheduler

pytestmark = pytest.mark.anyio

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
USAGE = b'{"usage": {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}}'
JSON = {"content-type": "application/json"}


def limited() -> Scheduler:
    return Scheduler("100/s", tokens="100k/min")


def to(status: int, where: str = "/v2/chat") -> Any:
    return (status, {"location": where}, b"")


@pytest.mark.parametrize(
    ("status", "method"), [(307, "POST"), (308, "POST"), (301, "GET"), (302, "GET"), (303, "GET")]
)
async def test_a_redirect_is_followed_under_a_limit_of_tokens(
    status: int, method: str, site: Site
) -> None:
    scheduler = limited()
    site.answers = [to(status), to(status, "http://elsewhere/v3"), (200, JSON, USAGE)]
    client = site.client(scheduler)
    client.follow_redirects = True
    async with client:
        response = await client.post(URL, json=BODY)
        assert response.json()["usage"]["total_tokens"] == 7
    assert [request.method for request in site.requests] == ["POST", method, method]
    sent = [request.content if request.method == "GET" else b"".join(request.stream)
            for request in site.requests]  # fmt: skip
    assert sent[1:] == ([sent[0]] * 2 if method == "POST" else [b"", b""])
    assert idle(scheduler)


@pytest.mark.parametrize("how", ["alone", "submit"])
async def test_a_redirect_uses_no_tokens(how: str, site: Site) -> None:
    scheduler = limited()
    site.answers = [to(308), to(307), (200, JSON, USAGE)]
    client = site.client(scheduler)
    client.follow_redirects = True
    async with client:
        if how == "alone":
            await client.post(URL, json=BODY)
        else:
            await scheduler.submit(client.post, URL, json=BODY)
    used = scheduler.statistics().tokens
    assert used == 7
    assert idle(scheduler)


async def test_a_redirect_that_is_refused_is_retried_where_it_leads(site: Site) -> None:
    scheduler = limited()
    site.answers = [to(307), (429, {"retry-after": "2"}, b""), (200, JSON, USAGE)]
    client = site.client(scheduler)
    client.follow_redirects = True
    async with client:
        assert (await client.post(URL, json=BODY)).status_code == 200
    assert [str(request.url)[-3:] for request in site.requests] == ["hat", "hat", "hat"]
    assert scheduler.statistics().refused == {Kind.RATE: 1}
    assert idle(scheduler)


async def test_an_sdk_follows_a_redirect() -> None:
    scheduler = limited()
    answers = [httpx.Response(307, headers={"location": "http://elsewhere/v1/chat/completions"}),
               httpx.Response(200, json={"choices": [], "usage": {"total_tokens": 7}})]  # fmt: skip
    transport = headway.httpx.AsyncTransport(
        scheduler, httpx.MockTransport(lambda request: answers.pop(0))
    )
    async with httpx.AsyncClient(transport=transport, follow_redirects=True) as http:
        sdk = sdks.openai.AsyncOpenAI(
            api_key="k", base_url="http://server/v1", http_client=http, max_retries=0
        )
        answer = await sdk.chat.completions.create(**BODY)  # type: ignore[call-overload]
    assert answer.usage.total_tokens == 7
    assert idle(scheduler)


async def streamed(site: Site, data: bytes, headers: dict[str, str], status: int = 200) -> Any:
    _, _, body = await site.body(1, every=0.0, data=data)()
    return status, headers, body


BOMBS = {
    "zstd": zstandard.compress(bytes(64 << 20)),
    "gzip, gzip": gzip.compress(gzip.compress(bytes(20 << 20))),
}


@pytest.mark.parametrize("encoding", sorted(BOMBS))
async def test_a_bomb_is_not_decoded_to_look_into_it(encoding: str, site: Site) -> None:
    scheduler = limited()
    headers = {**JSON, "content-encoding": encoding}
    raw = BOMBS[encoding]
    site.answers = [await streamed(site, raw, {**headers, "retry-after": "1"}, 429),
                    await streamed(site, raw, headers)]  # fmt: skip
    shown: list[Any] = []
    client = site.client(scheduler, is_refused=lambda answer: shown.append(answer))
    async with client, client.stream("POST", URL, json=BODY) as response:
        assert [chunk async for chunk in response.aiter_raw()] == [raw]
    assert scheduler.statistics().refused == {Kind.RATE: 1}
    assert shown == []  # it is too large for a predicate
    assert idle(scheduler)


async def test_a_predicate_sees_what_is_compressed(site: Site) -> None:
    scheduler = limited()
    site.answers = [
        await streamed(site, gzip.compress(USAGE), {**JSON, "content-encoding": "gzip"})
    ]
    shown: list[bytes] = []
    async with site.client(
        scheduler, is_refused=lambda answer: shown.append(answer.content)
    ) as client:
        assert (await client.post(URL, json=BODY)).content == USAGE
    assert shown == [USAGE]
    assert scheduler.statistics().tokens == 7
    assert idle(scheduler)


async def test_what_cannot_be_decoded_cannot_be_judged(site: Site) -> None:
    scheduler = limited()
    site.answers = [await streamed(site, b"no gzip", {**JSON, "content-encoding": "gzip"})]
    async with site.client(scheduler, is_refused=lambda answer: False) as client:
        with pytest.raises(site.library.DecodingError, match="the answer cannot be decoded"):
            await client.post(URL, json=BODY)
    assert idle(scheduler)


def never_pausing(site: Site) -> Any:
    class Endless(site.library.AsyncByteStream):  # type: ignore[name-defined, misc]
        left = 10_000

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> bytes:
            self.left -= 1
            assert self.left, "it was read for 100 s"
            pass_time(0.01)
            return b"data: {}\n\n"

    return Endless()


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
async def test_an_attempt_ends_in_time_where_a_stream_never_pauses(kind: str, site: Site) -> None:
    scheduler = Scheduler("100/s")
    site.answers = [(200, {"content-type": kind}, never_pausing(site)), 200]

    async def read() -> int:
        async with client.stream("GET", URL) as response:
            return len([chunk async for chunk in response.aiter_bytes()])

    async with site.client(scheduler) as client:
        assert await scheduler.with_options(attempt_timeout=5).submit(read) == 1
    assert scheduler.statistics().refused == {Kind.TRANSIENT: 1}
    assert idle(scheduler)


@pytest.mark.parametrize("judged", [False, True])
async def test_a_text_that_never_pauses_ends_in_time(judged: bool, site: Site) -> None:
    scheduler = Scheduler("100/s")
    site.answers = [(200, JSON, never_pausing(site))]
    options = {"is_refused": lambda answer: False} if judged else {}
    async with site.client(scheduler.with_options(attempt_timeout=5), **options) as client:
        if judged:  # nobody has seen anything of it yet
            assert (await client.get(URL)).content == b"ok"
        else:
            with pytest.raises(TimeoutError):
                await client.get(URL)
    assert idle(scheduler)
