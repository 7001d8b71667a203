"""Keys that are refused, under a transport: whom that stops, and what fetches fresh ones."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest
from sites import URL, Site, idle

from headway import Kind, Latched, Retry, Scheduler
from headway._http.credentials import is_challenge, is_credential, name_of

pytestmark = pytest.mark.anyio

WRONG = b'{"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}'
JSON = {"content-type": "application/json"}


class Door:
    """A server that looks at keys: which are right is asked anew for each request."""

    def __init__(self, site: Site, is_right: Callable[[str], bool], status: int = 401) -> None:
        self.site = site
        self.is_right = is_right
        self.status = status
        self.sent: list[str] = []

    def client(self, scheduler: Any, **options: Any) -> Any:
        inner = self.site.library.MockTransport(self.handle)
        transport = self.site.face.AsyncTransport(scheduler, inner)
        return self.site.library.AsyncClient(transport=transport, **options)

    async def handle(self, request: Any) -> Any:
        await anyio.sleep(0.1)
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.sent.append(key)
        if self.is_right(key):
            return self.site.library.Response(200, content=b"ok")
        return self.site.library.Response(self.status, headers=JSON, content=WRONG)


async def many(ask: Callable[[], Any], n: int) -> list[Any]:
    outcomes: list[Any] = []

    async def one() -> None:
        try:
            outcomes.append(await ask())
        except Exception as error:
            outcomes.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(n):
            group.start_soon(one)
    return outcomes


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_a_key_that_never_worked_is_asked_about_once(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    door = Door(site, lambda key: False)
    async with door.client(scheduler, headers=bearer("wrong")) as client:
        responses = await many(lambda: client.get(URL), 50)
    assert {(each.status_code, each.content) for each in responses} == {(401, WRONG)}
    assert len(door.sent) == 1
    repeated = [each for each in responses if "headway" in each.extensions]
    assert len(repeated) == 49
    assert repeated[0].extensions["headway"] == (
        "headway: this is the server's last answer to the same key, which is not asked again "
        "before scheduler.reset()"
    )
    assert scheduler.statistics().binds == "closed"
    assert idle(scheduler)


async def test_another_key_goes_on(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=4)
    door = Door(site, lambda key: key == "right")
    async with door.client(scheduler) as client:
        wrong = await many(lambda: client.get(URL, headers=bearer("wrong")), 9)
        right = await many(lambda: client.get(URL, headers=bearer("right")), 9)
    assert {each.status_code for each in wrong} == {401}
    assert {each.status_code for each in right} == {200}


@pytest.mark.parametrize(
    ("header", "says"),
    [("Authorization", True), ("X-RapidAPI-Key", True), ("apikey", True),
     ("cf-aig-authorization", True),
     ("x-portkey-api-key", True), ("Helicone-Auth", True), ("x-functions-key", True),
     ("x-access-token", True), ("Ocp-Apim-Subscription-Key", True), ("idempotency-key", False),
     ("cookie", False), ("x-csrf-token", False), ("proxy-authorization", False),
     ("sec-websocket-key", False), ("x-author", False)],
)  # fmt: skip
def test_what_says_who_pays(header: str, says: bool) -> None:
    """What is another with each request says it of none."""
    assert is_credential(header.encode()) is says


@pytest.mark.parametrize("header", ["x-api-key", "api-key", "x-goog-api-key", "X-RapidAPI-Key"])
async def test_other_headers_hold_keys_too(header: str, site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=4)
    site.answers = [(401, JSON, WRONG)]
    async with site.client(scheduler) as client:
        first = await client.get(URL, headers={header: "wrong"})
        second = await client.get(URL, headers={header: "right"})
        third = await client.get(URL, headers={header: "wrong"})
    assert [each.status_code for each in (first, second, third)] == [401, 200, 401]
    assert len(site.sent) == 2


async def test_a_stray_401_of_a_key_that_works_costs_nobody_anything(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=8)
    strays = iter([False] * 40 + [True] + [False] * 1000)
    door = Door(site, lambda key: not next(strays))
    async with door.client(scheduler, headers=bearer("right")) as client:
        responses = await many(lambda: client.get(URL), 300)
    assert [each.status_code for each in responses] == [200] * 300
    assert len(door.sent) == 301


async def test_in_submit_a_stray_401_costs_nobody_anything_either(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=8)
    strays = iter([False] * 40 + [True] + [False] * 1000)
    door = Door(site, lambda key: not next(strays))
    async with door.client(scheduler, headers=bearer("right")) as client:

        async def ask(_: int) -> int:
            response = await client.get(URL)
            response.raise_for_status()
            return int(response.status_code)

        assert await scheduler.map(ask, range(300)) == [200] * 300


async def test_without_a_latch_everybody_is_answered(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=4, retry=Retry(latch=False))
    door = Door(site, lambda key: False)
    async with door.client(scheduler, headers=bearer("wrong")) as client:
        await many(lambda: client.get(URL), 9)
    assert len(door.sent) == 9


async def test_reset_asks_again(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [(402, JSON, b"no credit"), 200]
    async with site.client(scheduler) as client:
        assert (await client.get(URL)).status_code == 402
        assert (await client.get(URL)).status_code == 402
        scheduler.reset()
        assert (await client.get(URL)).status_code == 200


async def test_the_key_of_a_job_is_latched_by_a_send_of_it(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    door = Door(site, lambda key: key == "right")
    async with door.client(scheduler) as client:

        async def ask(key: str) -> int:
            response = await client.get(URL, headers=bearer(key))
            response.raise_for_status()
            return int(response.status_code)

        with pytest.raises(Exception, match="401"):
            await scheduler.with_options(key="a").submit(ask, "wrong")
        with pytest.raises(Latched, match="of key 'a'"):
            await scheduler.with_options(key="a").submit(ask, "wrong")
        assert await scheduler.with_options(key="b").submit(ask, "right") == 200
        with pytest.raises(Exception, match="401"):  # the same credential: it is not sent again
            await scheduler.with_options(key="b").submit(ask, "wrong")
    assert door.sent == ["wrong", "right"]


# What fetches a fresh one


class Fetching:
    """Builds an auth flow of either library that fetches a token on a 401."""

    def __init__(self, site: Site, token: str, fresh: str) -> None:
        class Flow(site.library.Auth):  # type: ignore[name-defined, misc]
            def __init__(self) -> None:
                self.token = token
                self.fetched = 0

            def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
                request.headers["authorization"] = f"Bearer {self.token}"
                response = yield request
                if response.status_code == 401:
                    self.fetched += 1
                    self.token = fresh
                    request.headers["authorization"] = f"Bearer {self.token}"
                    yield request

        self.flow = Flow()


@pytest.mark.parametrize("how", ["alone", "submit"])
@pytest.mark.parametrize("begins", ["wrong", "expires"])
async def test_an_auth_flow_that_fetches_a_token_works(begins: str, how: str, site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=8)
    door = Door(site, lambda key: key == "fresh" or (key == "old" and len(door.sent) <= 20))
    flow = Fetching(site, "old" if begins == "expires" else "wrong", "fresh").flow
    async with door.client(scheduler, auth=flow) as client:

        async def ask() -> Any:
            return await client.get(URL)

        asks = ask if how == "alone" else lambda: scheduler.submit(ask)
        responses = await many(asks, 60)
    assert [getattr(each, "status_code", each) for each in responses] == [200] * 60
    assert idle(scheduler)


async def test_digest_works_and_is_no_refusal(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=4)
    nonces = {"one": 0}

    async def handle(request: Any) -> Any:
        said = request.headers.get("authorization", "")
        match = re.search(r'nonce="(\w+)"', said)
        nonce = match.group(1) if match else ""
        if nonce in nonces and nonces[nonce] < 30:
            nonces[nonce] += 1
            return site.library.Response(200, content=b"ok")
        stale = ", stale=true" if nonce else ""
        new = hashlib.md5(str(len(nonces)).encode()).hexdigest()
        nonces[new] = 0
        asks = f'Digest realm="r", qop="auth", nonce="{new}", algorithm=MD5{stale}'
        return site.library.Response(401, headers={"www-authenticate": asks})

    transport = site.face.AsyncTransport(scheduler, site.library.MockTransport(handle))
    auth = site.library.DigestAuth("user", "secret")
    async with site.library.AsyncClient(transport=transport, auth=auth) as client:
        responses = await many(lambda: client.get(URL), 100)
    assert [each.status_code for each in responses] == [200] * 100
    assert scheduler.statistics().refused == {}


async def test_a_digest_of_a_wrong_password_latches(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    sent = []

    async def handle(request: Any) -> Any:
        sent.append(request)
        asks = f'Digest realm="r", qop="auth", nonce="{len(sent)}", algorithm=MD5'
        return site.library.Response(401, headers={"www-authenticate": asks})

    transport = site.face.AsyncTransport(scheduler, site.library.MockTransport(handle))
    auth = site.library.DigestAuth("user", "wrong")
    async with site.library.AsyncClient(transport=transport, auth=auth) as client:
        responses = await many(lambda: client.get(URL), 20)
    assert {each.status_code for each in responses} == {401}
    assert len(sent) <= 22
    assert scheduler.statistics().refused == {Kind.AUTH: 1}


# Hashes


def request(site: Site, url: str = "https://a.example/v1", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.library.Request("GET", url, headers=named)


AWS = (
    "AWS4-HMAC-SHA256 Credential={}/20261126/us-east-1/bedrock/aws4_request, SignedHeaders=host, "
    "Signature={}"
)


async def test_a_name_is_a_hash_of_the_key_and_the_server(site: Site) -> None:
    names = {
        name_of(each)
        for each in (
            request(site),
            request(site, authorization="Bearer a"),
            request(site, authorization="Bearer b"),
            request(site, x_api_key="a"),
            request(site, api_key="a"),
            request(site, "https://b.example/v1", authorization="Bearer a"),
            request(site, "https://a.example/v1?key=a"),
            request(site, "https://a.example/v1?key=b"),
            request(site, authorization=AWS.format("AKIA1", "s1")),
            request(site, authorization=AWS.format("AKIA2", "s1")),
            request(site, authorization='Digest username="u", realm="r", nonce="1"'),
            request(site, authorization='Digest username="v", realm="r", nonce="1"'),
        )
    }
    assert len(names) == 12
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in names)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"authorization": "Bearer a"}, {"authorization": "Bearer a", "x-request-id": "7"}),
        ({"authorization": AWS.format("A", "s1")}, {"authorization": AWS.format("A", "s2")}),
        (
            {"authorization": 'Digest username="u", realm="r", nonce="1", nc=00000001'},
            {"authorization": 'Digest username="u", realm="r", nonce="2", nc=00000002'},
        ),
    ],
)
async def test_the_same_caller_has_one_name(first: Any, second: Any, site: Site) -> None:
    one = site.library.Request("GET", "https://a.example/v1/x", headers=first)
    other = site.library.Request("POST", "https://a.example/v1/y?page=2", headers=second)
    assert name_of(one) == name_of(other)


NTLM = base64.b64encode(b"NTLMSSP\0").decode()


@pytest.mark.parametrize(
    ("sent", "asked", "answer"),
    [
        ("", 'Digest realm="r", nonce="1"', True),
        ("Basic abc", 'Digest realm="r", nonce="1"', True),
        ('Digest username="u"', 'Digest realm="r", nonce="2"', False),
        ('Digest username="u"', 'Digest realm="r", nonce="2", stale=TRUE', True),
        ('Digest username="u"', 'Digest realm="r", nonce="2", stale="true"', True),
        ("", "Negotiate", True),
        (f"NTLM {NTLM}", f"NTLM {NTLM}", True),
        (f"NTLM {NTLM}", "NTLM", False),
        ("", "Bearer", False),
        ("Bearer a", 'Bearer error="invalid_token"', False),
        ("", 'Basic realm="x"', False),
        ("", "", False),
    ],
)
async def test_a_challenge_is_no_refusal(sent: str, asked: str, answer: bool, site: Site) -> None:
    headers = {"authorization": sent} if sent else {}
    asks = {"www-authenticate": asked} if asked else {}
    question = site.library.Request("GET", URL, headers=headers)
    assert is_challenge(question, site.library.Response(401, headers=asks)) is answer
