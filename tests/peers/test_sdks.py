"""The retries and the fresh tokens of the SDKs: what they do bare, they do over the transport."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import httpx2
import pytest
import sdks

import headway.httpx
import headway.httpx2
from headway import Retry, Scheduler

pytestmark = pytest.mark.anyio

CHAT = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}
    ],
}  # fmt: skip
MESSAGE = {
    "id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "yes"}], "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip
MESSAGES: Any = [{"role": "user", "content": "well?"}]


class SDK:
    """One SDK: the library it is built on, how it is asked, what its server answers."""

    library: Any = httpx2
    face: Any = headway.httpx2
    made: Callable[[], Any]  # its class
    reply: Any = CHAT

    def __init__(self, server: Server, scheduler: Scheduler | None, **options: Any) -> None:
        inner = self.library.MockTransport(server.handle)
        transport = inner if scheduler is None else self.face.AsyncTransport(scheduler, inner)
        http = self.library.AsyncClient(transport=transport)
        options = {"api_key": "k", **options}
        self.sdk = self.made()(base_url="http://server/v1", http_client=http, **options)

    async def ask(self) -> Any:
        return await self.sdk.chat.completions.create(model="m", messages=MESSAGES)


class OpenAI(SDK):
    @staticmethod
    def made() -> Any:
        return sdks.openai.AsyncOpenAI


class Together(SDK):
    library = httpx
    face = headway.httpx

    @staticmethod
    def made() -> Any:
        return sdks.together.AsyncTogether


class Anthropic(SDK):
    reply = MESSAGE

    @staticmethod
    def made() -> Any:
        return sdks.anthropic.AsyncAnthropic

    async def ask(self) -> Any:
        return await self.sdk.messages.create(model="m", max_tokens=9, messages=MESSAGES)


Answer = tuple[int, dict[str, str]]


class Server:
    """Answers the first requests as it is told, and then as `is_right` says of their key."""

    def __init__(self, kind: type[SDK]) -> None:
        self.kind = kind
        self.first: list[int | Answer] = []
        self.is_right: Callable[[str], bool] = lambda key: True
        self.keys: list[str] = []
        self.counts: list[str] = []

    async def handle(self, request: Any) -> Any:
        await anyio.sleep(0.1)
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.keys.append(key)
        self.counts.append(request.headers.get("x-stainless-retry-count", ""))
        said: int | Answer = 200 if self.is_right(key) else 401
        if self.first:
            said = self.first.pop(0)
        status, headers = (said, {}) if isinstance(said, int) else said
        body = self.kind.reply if status == 200 else {"error": {"message": "no", "type": "e"}}
        headers = {"content-type": "application/json", **headers}
        return self.kind.library.Response(status, headers=headers, content=json.dumps(body))


async def became(ask: Callable[[], Awaitable[Any]]) -> Any:
    """200, or the status and the class of the error."""
    try:
        await ask()
    except Exception as error:
        return getattr(error, "status_code", None), type(error).__name__
    return 200


@pytest.fixture(params=[OpenAI, Anthropic, Together])
def kind(request: pytest.FixtureRequest) -> type[SDK]:
    found: type[SDK] = request.param
    return found


async def told(
    kind: type[SDK], cases: list[list[int | Answer]], scheduler: Scheduler | None, retries: int
) -> list[tuple[Any, list[str]]]:
    """What became of a call for each of `cases`, the first answers that it gets, and the SDK's
    count of retries in each request that was sent.
    """
    server = Server(kind)
    sdk = kind(server, scheduler, max_retries=retries)
    found = []
    for first in cases:
        server.first, server.counts = list(first), []
        found.append((await became(sdk.ask), server.counts))
    return found


async def test_headway_retries_alone(kind: type[SDK]) -> None:
    first: list[int | Answer] = [429, 500, 503, 529, 408, (429, {"retry-after": "1"})]
    assert await told(kind, [first], Scheduler(concurrency=2), 0) == [(200, ["0"] * 7)]


RETRIED: list[list[int | Answer]] = [
    [429, 500], [409, 408], [(429, {"retry-after-ms": "20"})], [(400, {"x-should-retry": "true"})],
    [(403, {"x-should-retry": "true"}), 503],
]  # fmt: skip
GIVEN_UP: list[list[int | Answer]] = [
    [500, 500, 500], [400], [(500, {"x-should-retry": "false"})],
    [(429, {"x-should-retry": "false"})], [401],
]  # fmt: skip


async def test_the_sdk_retries_alone_as_it_does_bare(kind: type[SDK]) -> None:
    bare = await told(kind, RETRIED + GIVEN_UP, None, 2)
    assert [outcome == 200 for outcome, _ in bare] == [True] * 5 + [False] * 5
    alone = Scheduler(concurrency=2, retry=Retry(attempts=1))
    assert await told(kind, RETRIED + GIVEN_UP, alone, 2) == bare


async def test_what_the_sdk_brings_through_works_where_both_retry(kind: type[SDK]) -> None:
    both = await told(kind, RETRIED, Scheduler(concurrency=2), 2)
    assert [outcome for outcome, _ in both] == [200] * 5


# Keys that expire


def with_workload_identity(server: Server, scheduler: Scheduler | None) -> SDK:
    """OpenAI's SDK, whose tokens come from an exchange: t1, t2 and so on."""
    subject = {"token_type": "jwt", "get_token": lambda: "subject"}
    identity = {
        "identity_provider_id": "p", "service_account_id": "s", "provider": subject
    }  # fmt: skip
    return OpenAI(server, scheduler, api_key=None, workload_identity=identity)


def with_credentials(server: Server, scheduler: Scheduler | None) -> SDK:
    """Anthropic's SDK, whose tokens come from a function: t1, t2 and so on."""
    given: list[str] = []

    async def provide(*, force_refresh: bool = False) -> Any:
        given.append(f"t{len(given) + 1}")
        return sdks.anthropic.lib.credentials.AccessToken(given[-1])

    return Anthropic(server, scheduler, api_key=None, credentials=provide)


@pytest.fixture(params=[with_workload_identity, with_credentials])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    exchanged: list[str] = []

    def exchange(transport: object, asked: Any) -> Any:
        assert asked.url.host == "auth.openai.com"
        exchanged.append(f"t{len(exchanged) + 1}")
        answer = {
            "access_token": exchanged[-1], "expires_in": 3600, "token_type": "Bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }  # fmt: skip
        return httpx2.Response(200, json=answer, request=asked)

    monkeypatch.setattr(httpx2.HTTPTransport, "handle_request", exchange)

    def make(server: Server, scheduler: Scheduler | None) -> SDK:
        exchanged.clear()
        sdk: SDK = request.param(server, scheduler)
        return sdk

    make.kind = OpenAI if request.param is with_workload_identity else Anthropic  # type: ignore[attr-defined]
    return make


def right(*keys: str) -> Callable[[str], bool]:
    return lambda key: key in keys


async def life(made: Any, scheduler: Scheduler | None) -> Any:
    """A token that works, is revoked, is replaced; then one that was never right, and is."""
    server = Server(made.kind)
    client = made(server, scheduler)
    outcomes = []
    for keys in (("t1",), ("t2",), ("t2",), ("t4",), ("t4", "t5")):
        server.is_right = right(*keys)
        outcomes.append(await became(client.ask))
    return outcomes, server.keys


async def test_a_token_that_is_refused_is_fetched_anew_as_bare(made: Any) -> None:
    outcomes, keys = await life(made, None)
    assert (outcomes[:3], keys[:4]) == ([200, 200, 200], ["t1", "t1", "t2", "t2"])
    alone = Scheduler(concurrency=2, retry=Retry(attempts=1))
    assert await life(made, alone) == (outcomes, keys)
    # A token that has worked is tried a few times more before the SDK hears of its refusal.
    both = await life(made, Scheduler(concurrency=2))
    assert (both[0], list(dict.fromkeys(both[1]))) == (outcomes, list(dict.fromkeys(keys)))


async def under_many(made: Any, scheduler: Scheduler | None) -> list[Any]:
    """A call whose token is revoked after it, and eight at once."""
    server = Server(made.kind)
    client = made(server, scheduler)
    outcomes = [await became(client.ask)]
    server.is_right = lambda key: key != "t1"

    async def one() -> None:
        outcomes.append(await became(client.ask))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(one)
    return outcomes


async def test_a_token_that_is_revoked_under_many_stops_none_of_them(made: Any) -> None:
    assert await under_many(made, None) == [200] * 9
    assert await under_many(made, Scheduler(concurrency=4)) == [200] * 9
