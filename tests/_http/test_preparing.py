"""What makes each attempt ready: fresh tokens and signatures, whatever was waited for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from sites import URL, Site, idle

from headway import InvalidArgument, Scheduler

pytestmark = pytest.mark.anyio


def dates(site: Site) -> list[str]:
    return [request.headers["x-date"] for request in site.requests]


@pytest.mark.parametrize("how", ["async", "plain", "returns another"])
@pytest.mark.parametrize("within", ["alone", "submit", "lease"])
async def test_each_try_is_prepared_when_it_is_sent(how: str, within: str, site: Site) -> None:
    began = anyio.current_time()

    def sign(request: Any) -> Any:
        assert "x-date" not in request.headers
        request.headers["x-date"] = f"{anyio.current_time() - began:.0f}"
        if how == "returns another":
            return site.library.Request("POST", URL, headers=request.headers, content=b"{}")
        return None

    async def sign_later(request: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return sign(request)

    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [(429, {"retry-after": "7"}, b""), (503, {"retry-after": "4"}, b"")]
    prepare = sign if how == "plain" else sign_later
    async with site.client(scheduler, prepare=prepare) as client:
        if within == "alone":
            response = await client.post(URL, content=b"{}")
        elif within == "submit":
            response = await scheduler.submit(client.post, URL, content=b"{}")
        else:
            async with scheduler.lease():
                response = await client.post(URL, content=b"{}")
    if within == "lease":
        assert (response.status_code, dates(site)) == (429, ["0"])
        return
    assert response.status_code == 200
    assert dates(site) == [f"{sent - began:.0f}" for sent in site.sent]
    assert len(set(dates(site))) == 3
    assert [request.content for request in site.requests] == [b"{}"] * 3
    assert idle(scheduler)


@pytest.mark.parametrize("flow", ["sync", "async"])
async def test_an_auth_flow_is_asked_at_each_try(flow: str, site: Site) -> None:
    asked = 0

    class Token(site.library.Auth):  # type: ignore[name-defined, misc]
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            nonlocal asked
            asked += 1
            request.headers["x-date"] = str(asked)
            yield request

    class Later(Token):
        async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
            await anyio.sleep(1)
            for made in self.auth_flow(request):
                yield made

    auth = Token() if flow == "sync" else Later()
    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [(429, {"retry-after": "7"}, b"")]
    async with site.client(scheduler, prepare=auth) as client:
        assert (await client.get(URL)).status_code == 200
    assert dates(site) == ["1", "2"]


async def test_a_fresh_token_is_the_credential_that_counts(site: Site) -> None:
    tokens = iter(["wrong", "right", "right"])

    def fetch(request: Any) -> None:
        request.headers["authorization"] = f"Bearer {next(tokens)}"

    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [(401, {}, b"")]
    async with site.client(scheduler, prepare=fetch) as client:
        codes = [(await client.get(URL)).status_code for _ in range(3)]
    assert codes == [401, 200, 200]


async def test_what_fails_to_be_prepared_gives_its_slot_back(site: Site) -> None:
    def fail(request: Any) -> None:
        raise KeyError("no token")

    scheduler = Scheduler("100/s", concurrency=1)
    async with site.client(scheduler, prepare=fail) as client:
        with pytest.raises(KeyError, match="no token"):
            await client.get(URL)
    assert site.sent == []
    assert idle(scheduler)


async def test_what_is_signed_after_a_redirect_has_its_body(site: Site) -> None:
    """A client that follows a redirect hands on the stream alone."""
    signed: list[bytes] = []

    def sign(request: Any) -> None:
        signed.append(request.content)
        request.headers["x-date"] = str(len(signed))

    site.answers = [(307, {"location": "/moved"}, b""), (429, {"retry-after": "1"}, b"")]
    async with site.client(Scheduler("100/s"), prepare=sign) as client:
        await client.post(URL, content=b"text", follow_redirects=True)
    assert signed == [b"text"] * 3
    assert dates(site) == ["1", "2", "3"]


async def test_a_streamed_body_is_prepared_as_it_is(site: Site) -> None:
    async def body() -> AsyncGenerator[bytes]:
        yield b"a"

    def sign(request: Any) -> None:
        request.headers["x-date"] = "1"

    async with site.client(Scheduler("100/s"), prepare=sign) as client:
        assert (await client.post(URL, content=body())).status_code == 200
    assert dates(site) == ["1"]


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (3, "prepare=3 prepares no request"),
        (dict, "prepare=<class 'dict'> prepares no request"),
    ],
)
async def test_what_prepares_nothing_is_refused(prepare: Any, text: str, site: Site) -> None:
    with pytest.raises(InvalidArgument) as caught:
        site.client(Scheduler(), prepare=prepare)
    assert str(caught.value) == (
        f"{text}. Fix: prepare=an async def that takes the request, or an Auth of the same library."
    )


async def test_what_is_no_request_is_told(site: Site) -> None:
    async with site.client(Scheduler("100/s"), prepare=lambda request: 7) as client:
        with pytest.raises(InvalidArgument, match="prepare= returned 7, which is no request of ht"):
            await client.get(URL)
