"""The clients that people use, each behind one face: a whole call, and a stream that is opened."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import httpx2
import sdks

import headway.httpx
import headway.httpx2


def messages(n: int) -> Any:
    """Each call asks something else: the server takes equal requests for retries."""
    return [{"role": "user", "content": f"question {n}: why is the sky blue?"}]


class Client:
    """One client over headway's transport. `inner` wraps the library's own transport, or is None.

    `provider` and `key` are what llmock counts calls under, `tokens` about what it takes for one.
    """

    tokens = 45
    provider = "openai"
    key = "Bearer k"
    library: Any = httpx
    face: Any = headway.httpx

    def __init__(
        self,
        scheduler: Any,
        url: str,
        inner: Callable[[Any], Any] | None = None,
        *,
        read_timeout: float = 10,
    ) -> None:
        self.timeout = self.library.Timeout(10, read=read_timeout)
        transport = None if inner is None else inner(self.library.AsyncHTTPTransport())
        self.http = self.library.AsyncClient(
            transport=self.face.AsyncTransport(scheduler, transport), timeout=self.timeout
        )
        self.url = url
        self.sdk: Any = None
        self.connect()

    def connect(self) -> None:
        """Make the SDK."""

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.aclose()

    async def ask(self, n: int) -> None:
        """One whole call."""
        assert (await self.create(n, False)) is not None

    async def open(self, n: int) -> Any:
        """A stream whose answer has begun: it is iterated once, and has `close`."""
        return await self.create(n, True)

    async def create(self, n: int, stream: bool) -> Any:
        raise NotImplementedError


class OpenAI(Client):
    library = httpx2
    face = headway.httpx2

    def connect(self) -> None:
        self.sdk = sdks.openai.AsyncOpenAI(
            api_key="k", base_url=f"{self.url}/v1", http_client=self.http, max_retries=0
        )

    async def create(self, n: int, stream: bool) -> Any:
        return await self.sdk.chat.completions.create(
            model="gpt-4o", messages=messages(n), stream=stream, timeout=self.timeout
        )


class Together(Client):
    provider = "together"

    def connect(self) -> None:
        self.sdk = sdks.together.AsyncTogether(
            api_key="k", base_url=f"{self.url}/together", http_client=self.http, max_retries=0
        )

    async def create(self, n: int, stream: bool) -> Any:
        return await self.sdk.chat.completions.create(
            model="Qwen/Qwen2.5-72B-Instruct-Turbo",
            messages=messages(n),
            stream=stream,
            timeout=self.timeout,
        )


class Anthropic(Client):
    provider = "anthropic"
    tokens = 110
    library = httpx2
    face = headway.httpx2

    def connect(self) -> None:
        self.sdk = sdks.anthropic.AsyncAnthropic(
            api_key="k", base_url=f"{self.url}/anthropic", http_client=self.http, max_retries=0
        )

    async def create(self, n: int, stream: bool) -> Any:
        return await self.sdk.messages.create(
            model="claude-model",
            max_tokens=64,
            messages=messages(n),
            stream=stream,
            timeout=self.timeout,
        )


class Events:
    """The events of a plain response, judged as an SDK does it; no generator to be collected."""

    def __init__(self, response: Any) -> None:
        self.response = response
        self.lines = response.aiter_lines()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Any:
        while not (line := await anext(self.lines)).startswith("data: {"):
            pass
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            raise RuntimeError(event["error"]["message"])
        return event

    async def close(self) -> None:
        await self.response.aclose()


class Plain(Client):
    key = ""

    async def create(self, n: int, stream: bool) -> Any:
        body = {"model": "gpt-4o", "messages": messages(n), "stream": stream}
        request = self.http.build_request("POST", f"{self.url}/v1/chat/completions", json=body)
        response = await self.http.send(request, stream=stream)
        assert response.status_code == 200
        return Events(response) if stream else response


class Plain2(Plain):
    library = httpx2
    face = headway.httpx2


CLIENTS: dict[str, type[Client]] = {
    "together": Together,
    "openai": OpenAI,
    "anthropic": Anthropic,
    "httpx": Plain,
    "httpx2": Plain2,
}
CASES = [(name, "asyncio") for name in CLIENTS] + [("httpx", "trio")]


def broken(
    library: Any, *, resets: int = 0, event: bytes = b"", silent: bool = False
) -> Callable[[Any], Any]:
    """A wrapper of a transport of `library`: what no server of ours does to a client.

    The first `resets` requests end in a connection that is reset; the first stream has `event`
    after its first chunk; a `silent` server says nothing of its limits until it refuses.
    """

    class Stream(library.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any, event: bytes) -> None:
            self.stream = stream
            self.chunks = aiter(stream)
            self.event = event
            self.begun = False

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> bytes:
            if self.begun and self.event:
                event, self.event = self.event, b""
                return event
            self.begun = True
            chunk: bytes = await anext(self.chunks)
            return chunk

        async def aclose(self) -> None:
            await self.stream.aclose()

    class Transport(library.AsyncBaseTransport):  # type: ignore[misc]
        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.resets = resets
            self.event = event

        async def handle_async_request(self, request: Any) -> Any:
            if self.resets:
                self.resets -= 1
                raise library.ReadError("connection reset by peer", request=request)
            response = await self.inner.handle_async_request(request)
            if silent:
                for name in [name for name in response.headers if "ratelimit" in name]:
                    del response.headers[name]
            if self.event and response.headers["content-type"].startswith("text/event-stream"):
                response.stream = Stream(response.stream, self.event)
                self.event = b""
            return response

        async def aclose(self) -> None:
            await self.inner.aclose()

    return Transport


async def read(stream: Any) -> int:
    """How many events `stream` gave to its end."""
    count = 0
    async for _ in stream:
        count += 1
    return count


Ask = Callable[[int], Awaitable[object]]


def asking(client: Client, *, stream: bool) -> Ask:
    """A whole call, or a stream that is read to its end."""

    async def ask(n: int) -> None:
        if not stream:
            await client.ask(n)
            return
        opened = await client.open(n)
        try:
            assert await read(opened) > 1
        finally:
            await opened.close()

    return ask
