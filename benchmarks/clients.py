"""What headway's transports add to a request, and what the clients themselves cost beside that.

First over a transport that answers from memory, so that the rest is all that is measured. Then on
loopback, with a server in another process: every client that people use, on each transport that it
takes, with that transport alone and with headway's around it. Contenders take turns, round after
round; what is printed is the median over the rounds of this process's CPU time (user and system) a
request, and of what headway added to it in the same round.

    python benchmarks/clients.py [--requests 300] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import anthropic
import httpx
import httpx2
import httpx_aiohttp
import httpx_aiohttp.httpx2
import openai
import together
from _clients_server import COMPLETION, HEADERS, MODEL, server
from _table import environment, table, targets

import headway.httpx
import headway.httpx2
from headway import Scheduler
from headway.events import Event, Started

Ask = Callable[[], Awaitable[object]]
Wrap = Callable[[Any], Any]

ADDED_MOST = 80.0  # microseconds a request: issue 3
CONCURRENCY = 64
CALLERS = 4 * CONCURRENCY  # where jobs have to queue
CHUNKS = 32
OF_MEMORY = 6  # times as many requests: they are cheap, and what is measured is small

# More than anyone sends here, and the server states no less.
REQUESTS = "1000M/min"
TOKENS = "1000000M/min"

MESSAGES: Any = [{"role": "user", "content": "Why is the sky blue? Say it in one sentence. " * 20}]
BODY = {"model": MODEL, "messages": MESSAGES, "max_tokens": 256}


def events() -> list[bytes]:
    """The answer as an event stream, whose last event but one has the usage."""
    chunk: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_750_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}],
    }
    last = {**chunk, "choices": [], "usage": json.loads(COMPLETION)["usage"]}
    parts = [chunk] * (CHUNKS - 2) + [last]
    return [f"data: {json.dumps(part)}\n\n".encode() for part in parts] + [b"data: [DONE]\n\n"]


def generous(on_event: Callable[[Event], object] | None = None) -> Scheduler:
    """Limits of every kind, in which nothing waits for anything but a slot."""
    return Scheduler(REQUESTS, tokens=TOKENS, concurrency=CONCURRENCY, on_event=on_event)


async def pool(ask: Ask, requests: int, workers: int) -> None:
    """Workers that pull from one iterator."""
    source = iter(range(requests))

    async def work() -> None:
        for _ in source:
            await ask()

    await asyncio.gather(*(work() for _ in range(workers)))


class Spent(NamedTuple):
    """Of one measurement: microseconds of CPU a request, and requests a second."""

    cpu: float
    rate: float


async def spent_by(ask: Ask, requests: int, workers: int) -> Spent:
    gc.collect()
    began, cpu = time.perf_counter(), time.process_time()
    await pool(ask, requests, workers)
    cpu = time.process_time() - cpu
    return Spent(cpu / requests * 1e6, requests / (time.perf_counter() - began))


# Over a transport that answers from memory


class Library(NamedTuple):
    """One of the two libraries, headway's transport for it, and one on aiohttp."""

    module: Any
    face: Any
    aiohttp: Any


HTTPX = Library(httpx, headway.httpx, httpx_aiohttp)
HTTPX2 = Library(httpx2, headway.httpx2, httpx_aiohttp.httpx2)
URL = "http://memory/v1/chat/completions"


def null(library: Library, chunks: list[bytes]) -> Any:
    """A transport that answers with `chunks`, after one turn of the event loop."""
    module = library.module

    class Stream(module.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

    class Null(module.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, _: Any) -> Any:
            await asyncio.sleep(0)
            return module.Response(200, headers=HEADERS, stream=Stream())

    return Null()


def post(library: Library, transport: Any) -> Ask:
    """A whole answer, through a client."""
    client = library.module.AsyncClient(transport=transport)

    async def ask() -> None:
        await client.post(URL, json=BODY)

    return ask


def stream(library: Library, transport: Any) -> Ask:
    """A stream, through a client."""
    client = library.module.AsyncClient(transport=transport)

    async def ask() -> None:
        async with client.stream("POST", URL, json=BODY) as response:
            async for _ in response.aiter_raw():
                pass

    return ask


def handle(library: Library, transport: Any) -> Ask:
    """The transport alone: no client."""

    async def ask() -> None:
        request = library.module.Request("POST", URL, json=BODY)
        response = await transport.handle_async_request(request)
        async for _ in response.stream:
            pass
        await response.stream.aclose()

    return ask


class Level(NamedTuple):
    """A way to ask, the answer, and how many ask at a time."""

    name: str
    ask: Callable[[Library, Any], Ask]
    chunks: list[bytes]
    workers: int


WHOLE, EVENTS = [COMPLETION], events()
LEVELS = [
    Level("client.post", post, WHOLE, 1),
    Level("client.stream", stream, EVENTS, 1),
    Level("handle_async_request", handle, WHOLE, 1),
    Level("handle_async_request, a stream", handle, EVENTS, 1),
    Level(f"client.post, {CALLERS} callers queue", post, WHOLE, CALLERS),
    Level(f"client.stream, {CALLERS} callers queue", stream, EVENTS, CALLERS),
]


def one_of(slots: int, ask: Ask) -> Ask:
    """`ask` behind a semaphore: what whoever has more callers than slots does without headway."""
    semaphore = asyncio.Semaphore(slots)

    async def bounded() -> None:
        async with semaphore:
            await ask()

    return bounded


def over_nothing(library: Library, level: Level, requests: int, *, scheduled: bool) -> Spent:
    """One measurement, in an event loop of its own."""

    async def main() -> Spent:
        transport = null(library, level.chunks)
        if scheduled:
            transport = library.face.AsyncTransport(generous(), transport)
        ask = level.ask(library, transport)
        if not scheduled and level.workers > CONCURRENCY:
            ask = one_of(CONCURRENCY, ask)
        await pool(ask, 10, 1)
        return await spent_by(ask, requests, level.workers)

    return asyncio.run(main())


def check_who_waits(library: Library, level: Level) -> None:
    """Jobs wait where they should, and nowhere else. Not timed: to be told of it costs time."""
    count = max(level.workers, 2 * CONCURRENCY)
    waited = 0

    def hear(event: object) -> None:
        nonlocal waited
        waited += isinstance(event, Started) and event.waited > 0

    async def main() -> None:
        scheduler = generous(hear)
        transport = library.face.AsyncTransport(scheduler, null(library, level.chunks))
        await pool(level.ask(library, transport), count, level.workers)
        found = scheduler.statistics()
        if (found.succeeded, found.in_flight, found.tokens) != (count, 0, 250 * count):
            raise AssertionError(f"{level.name}: something was lost: {found}")

    asyncio.run(main())
    if (waited > 0) is not (level.workers > CONCURRENCY):
        raise AssertionError(f"{level.name}: {waited} of {count} waited")


# On loopback


TLS = ssl.create_default_context()  # made once: it takes longer than a hundred requests


def own(library: Library) -> Any:
    """The library's transport, that keeps every connection open."""
    limits = library.module.Limits(max_connections=100, max_keepalive_connections=100)
    return library.module.AsyncHTTPTransport(verify=TLS, limits=limits)


def on_aiohttp(library: Library) -> Any:
    """What the SDKs' `DefaultAioHttpClient` uses."""
    limits = library.module.Limits(max_connections=100)
    return library.aiohttp.AiohttpTransport(verify=TLS, limits=limits)


def plain(http: Any, url: str) -> Ask:
    async def ask() -> None:
        response = await http.post(f"{url}/v1/chat/completions", json=BODY)
        response.json()

    return ask


def openai_sdk(http: Any, url: str) -> Ask:
    sdk = openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", http_client=http, max_retries=0)

    async def ask() -> None:
        await sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=256)

    return ask


def together_sdk(http: Any, url: str) -> Ask:
    sdk = together.AsyncTogether(api_key="k", base_url=url, http_client=http, max_retries=0)

    async def ask() -> None:
        await sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=256)

    return ask


def anthropic_sdk(http: Any, url: str) -> Ask:
    sdk = anthropic.AsyncAnthropic(api_key="k", base_url=url, http_client=http, max_retries=0)

    async def ask() -> None:
        await sdk.messages.create(model=MODEL, messages=MESSAGES, max_tokens=256)

    return ask


class Client(NamedTuple):
    """A client on a transport."""

    name: str
    library: Library
    transport: Callable[[Library], Any]
    make: Callable[[Any, str], Ask]


# Together's SDK takes a client of httpx alone, Anthropic's one of httpx2 alone, OpenAI's both.
CLIENTS = [
    Client("httpx", HTTPX, own, plain),
    Client("httpx on httpx-aiohttp", HTTPX, on_aiohttp, plain),
    Client("httpx2", HTTPX2, own, plain),
    Client("httpx2 on httpx-aiohttp", HTTPX2, on_aiohttp, plain),
    Client("openai on httpx", HTTPX, own, openai_sdk),
    Client("openai on httpx, httpx-aiohttp", HTTPX, on_aiohttp, openai_sdk),
    Client("openai on httpx2", HTTPX2, own, openai_sdk),
    Client("openai on httpx2, httpx-aiohttp", HTTPX2, on_aiohttp, openai_sdk),
    Client("together on httpx", HTTPX, own, together_sdk),
    Client("together on httpx, httpx-aiohttp", HTTPX, on_aiohttp, together_sdk),
    Client("anthropic on httpx2", HTTPX2, own, anthropic_sdk),
    Client("anthropic on httpx2, httpx-aiohttp", HTTPX2, on_aiohttp, anthropic_sdk),
]


def on_loopback(client: Client, url: str, requests: int, *, scheduled: bool) -> Spent:
    """One measurement, in an event loop of its own, whose connections are open before it."""

    async def main() -> Spent:
        transport = client.transport(client.library)
        if scheduled:
            transport = client.library.face.AsyncTransport(generous(), transport)
        async with client.library.module.AsyncClient(transport=transport) as http:
            ask = client.make(http, url)
            await pool(ask, min(requests, 2 * CONCURRENCY), CONCURRENCY)
            return await spent_by(ask, requests, CONCURRENCY)

    return asyncio.run(main())


# Both


class Pair(NamedTuple):
    """Of one contender, round by round: without headway, and with it."""

    bare: list[Spent]
    scheduled: list[Spent]

    @property
    def added(self) -> float:
        """Of the rounds, so that what slows a whole round down does not count as headway's."""
        both = zip(self.bare, self.scheduled, strict=True)
        return median(scheduled.cpu - bare.cpu for bare, scheduled in both)


def compare(
    contenders: dict[str, Callable[..., Spent]], requests: int, rounds: int
) -> dict[str, Pair]:
    """What each spent in `rounds`, after one that does not count. Who begins changes."""
    pairs = {name: Pair([], []) for name in contenders}
    for number in range(rounds + 1):
        # Three SDKs are loaded: to walk through them all takes the collector 160 ms, which would
        # be the cost of whoever it strikes.
        gc.collect()
        gc.freeze()
        for name, measure in contenders.items():
            for scheduled in (False, True) if number % 2 else (True, False):
                spent = measure(requests if number else max(1, requests // 10), scheduled=scheduled)
                if number:
                    pairs[name][scheduled].append(spent)
    return pairs


def cells(pair: Pair) -> list[str]:
    bare, scheduled = (median(one.cpu for one in side) for side in pair)
    return [f"{bare:.0f}", f"{scheduled:.0f}", f"{pair.added:+.0f}"]


def rates(pair: Pair) -> list[str]:
    bare, scheduled = (median(one.rate for one in side) for side in pair)
    return [f"{bare:,.0f}", f"{scheduled:,.0f}", f"{scheduled / bare:.2f}"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-check", action="store_true", help="print, and hold to no target")
    options = parser.parse_args(arguments)

    sdks = ["aiohttp", "httpx-aiohttp", "openai", "together", "anthropic"]
    print(environment("headway", "httpx", "httpx2", *sdks))
    print(f"{options.requests:,} requests, {options.rounds} rounds, {CONCURRENCY} slots\n")

    headers = ["CPU µs a request", "bare", "scheduled", "added"]
    checks: list[tuple[str, float, float]] = []
    nothing: dict[str, Callable[..., Spent]] = {}
    for library in (HTTPX, HTTPX2):
        for level in LEVELS:
            check_who_waits(library, level)
            nothing[f"{library.module.__name__}: {level.name}"] = partial(
                over_nothing, library, level
            )
    pairs = compare(nothing, OF_MEMORY * options.requests, options.rounds)
    rows = [[name, *cells(pair)] for name, pair in pairs.items()]
    print(table("Over a transport that answers from memory", headers, rows))
    checks += [(f"µs added, {name}", pair.added, ADDED_MOST) for name, pair in pairs.items()]

    headers += ["bare/s", "scheduled/s", "ratio"]
    with server() as url:
        loopback: dict[str, Callable[..., Spent]] = {
            client.name: partial(on_loopback, client, url) for client in CLIENTS
        }
        pairs = compare(loopback, options.requests, options.rounds)
    rows = [[name, *cells(pair), *rates(pair)] for name, pair in pairs.items()]
    print(table(f"On loopback, {CONCURRENCY} at a time", headers, rows))
    text, met = targets(checks)
    print(text)
    return 0 if met or options.no_check else 1


if __name__ == "__main__":
    sys.exit(main())
