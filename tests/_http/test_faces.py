"""The sync transport does what the async one does, in threads; and each side knows its clients."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
import trio
from sites import LIBRARIES, URL

import headway
from headway import InvalidArgument, Kind, Retry, sync

SAID = b'{"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}'


class Server:
    """What a sync transport sends to: `answers` of the first requests, 200 after them."""

    def __init__(self, library: Any, face: Any) -> None:
        self.library = library
        self.face = face
        self.answers: list[Any] = []
        self.requests: list[Any] = []
        self.open = 0  # bodies that were begun and not closed

    def client(self, scheduler: Any, **options: Any) -> Any:
        inner = self.library.MockTransport(self.handle)
        return self.library.Client(transport=self.face.Transport(scheduler, inner, **options))

    def handle(self, request: Any) -> Any:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return self.library.Response(answer, content=SAID)
        status, headers, content = answer
        if isinstance(content, bytes):
            return self.library.Response(status, headers=headers, content=content)
        return self.library.Response(status, headers=headers, stream=self.stream(content))

    def stream(self, chunks: list[bytes]) -> Any:
        server = self

        class Body(self.library.SyncByteStream):  # type: ignore[name-defined, misc]
            def __iter__(self) -> Iterator[bytes]:
                server.open += 1
                yield from chunks

            def close(self) -> None:
                server.open -= 1

        return Body()


@pytest.fixture(params=sorted(LIBRARIES))
def server(request: pytest.FixtureRequest) -> Server:
    return Server(*LIBRARIES[request.param])


@pytest.fixture
def scheduler() -> Iterator[sync.Scheduler]:
    with sync.Scheduler("1000/s", concurrency=2, retry=Retry(base=0.001)) as made:
        yield made


def test_refusals_and_faults_are_retried_and_their_bodies_closed(
    server: Server, scheduler: sync.Scheduler
) -> None:
    server.answers = [
        (429, {"retry-after": "0.01"}, [b"slow ", b"down"]),
        server.library.ReadError("gone"),
        (503, {"retry-after": "0.01"}, b""),
    ]
    with server.client(scheduler) as client:
        assert client.post(URL, json={"a": 1}).status_code == 200
    statistics = scheduler.statistics()
    assert len(server.requests) == 4
    assert {request.content for request in server.requests} == {server.requests[0].content}
    assert statistics.refused == {Kind.RATE: 1, Kind.TRANSIENT: 1, Kind.CAPACITY: 1}
    assert (statistics.succeeded, statistics.tokens, server.open) == (1, 5, 0)


def test_the_last_refusal_is_handed_on_whole(server: Server, scheduler: sync.Scheduler) -> None:
    server.answers = [(400, {}, [b'{"error": ', b'{"message": "no"}}'])]
    with server.client(scheduler) as client:
        response = client.post(URL)
    assert response.json() == {"error": {"message": "no"}}
    assert response.headers["x-should-retry"] == "false"
    assert server.open == 0


def to_the_end(client: Any, response: Any) -> None:
    assert list(response.iter_raw()) == [b"data: {}\n\n", b"data: " + SAID + b"\n\n"]


def closed(client: Any, response: Any) -> None:
    next(response.iter_raw())
    response.close()


def abandoned(client: Any, response: Any) -> None:
    response.stream = None
    gc.collect()


@pytest.mark.parametrize("way", [to_the_end, closed, abandoned])
def test_a_stream_holds_its_slot_until_it_ends(
    way: Callable[[Any, Any], None], server: Server, scheduler: sync.Scheduler
) -> None:
    kind = {"content-type": "text/event-stream"}
    server.answers = [(200, kind, [b"data: {}\n\n", b"data: " + SAID + b"\n\n"])]
    with server.client(scheduler) as client:
        response = client.send(client.build_request("POST", URL), stream=True)
        assert scheduler.statistics().in_flight == 1
        way(client, response)
        scheduler.idle()
    assert scheduler.statistics().succeeded == 1
    if way is to_the_end:
        assert scheduler.statistics().tokens == 5


def test_an_error_inside_a_stream_is_learned(server: Server, scheduler: sync.Scheduler) -> None:
    server.answers = [(200, {"content-type": "text/event-stream"}, [
        b'data: {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}\n\n',
    ])]  # fmt: skip
    with server.client(scheduler) as client:
        client.post(URL)
    assert scheduler.statistics().refused == {Kind.RATE: 1}


def test_what_submit_and_a_lease_paid_for_is_not_paid_for_twice(
    server: Server, scheduler: sync.Scheduler
) -> None:
    server.answers = [(429, {"retry-after": "0.01"}, b"")]
    with server.client(scheduler) as client:

        def twice() -> int:
            return int(client.post(URL).status_code + client.post(URL).status_code)

        assert scheduler.submit(client.post, URL).status_code == 200
        assert scheduler.submit(twice) == 400
        with scheduler.lease():
            assert client.get(URL).status_code == 200
    assert scheduler.statistics().sent == len(server.requests) == 5


def test_a_wrong_key_is_asked_about_once(server: Server, scheduler: sync.Scheduler) -> None:
    server.answers = [(401, {}, b'{"error": {"message": "Incorrect API key provided"}}')]
    with server.client(scheduler) as client:
        client.headers["authorization"] = "Bearer wrong"
        assert [client.get(URL).status_code for _ in range(3)] == [401] * 3
        assert "same key" in client.get(URL).extensions["headway"]
        client.headers["authorization"] = "Bearer right"
        assert client.get(URL).status_code == 200
    assert len(server.requests) == 2


def test_limits_of_headers_are_followed(server: Server) -> None:
    stated = {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "599",
        "x-ratelimit-reset-requests": "100ms",
    }
    server.answers = [(200, stated, SAID)]
    with sync.Scheduler() as scheduler, server.client(scheduler) as client:
        client.get("https://api.openai.com/v1/chat")
        assert scheduler.statistics().pace == pytest.approx(10, rel=0.05)


def test_successes_that_are_none_are_judged(server: Server, scheduler: sync.Scheduler) -> None:
    def refused(response: Any) -> Kind | None:
        return Kind.CAPACITY if "busy" in response.text else None

    json = {"content-type": "application/json"}
    server.answers = [(200, json, [b'{"busy"', b": 1}"]), (200, json, [b'{"ready": 1}'])]
    with server.client(scheduler, is_refused=refused) as client:
        assert client.post(URL).json() == {"ready": 1}
    assert scheduler.statistics().refused == {Kind.CAPACITY: 1}
    assert server.open == 0


def test_each_try_is_prepared(server: Server, scheduler: sync.Scheduler) -> None:
    class Token(server.library.Auth):  # type: ignore[name-defined, misc]
        def sync_auth_flow(self, request: Any) -> Any:
            request.headers["x-token"] = str(len(server.requests))
            yield request

    def sign(request: Any) -> None:
        request.headers["x-token"] = str(len(server.requests))

    for prepare in (Token(), sign):
        server.requests.clear()
        server.answers = [(429, {"retry-after": "0.01"}, b"")]
        with server.client(scheduler, prepare=prepare) as client:
            client.post(URL, content=b"{}")
        assert [request.headers["x-token"] for request in server.requests] == ["0", "1"]

    async def later(request: Any) -> None:
        pass

    with pytest.raises(InvalidArgument, match=r"takes a plain function and .*later is async"):
        server.face.Transport(scheduler, prepare=later)


def test_an_attempt_that_takes_too_long_ends(server: Server, scheduler: sync.Scheduler) -> None:
    def slow(request: Any) -> Any:
        server.requests.append(request)
        threading.Event().wait(request.extensions["timeout"]["read"])
        raise server.library.ReadTimeout("no answer", request=request)

    view = scheduler.with_options(attempt_timeout=0.02)
    transport = server.face.Transport(view, server.library.MockTransport(slow))
    with server.library.Client(transport=transport) as client, pytest.raises(TimeoutError):
        client.get(URL)
    assert len(server.requests) == 5
    assert server.requests[-1].extensions["timeout"]["read"] == 5  # as the client stated it


def test_the_wrong_side_says_which_one_to_use(server: Server, scheduler: sync.Scheduler) -> None:
    library, face = server.library, server.face
    client = library.Client(transport=face.AsyncTransport(scheduler))
    with pytest.raises(InvalidArgument) as caught:
        client.get(URL)
    name = library.__name__
    assert str(caught.value) == (
        f"headway.{name}.AsyncTransport is for async clients, and a sync one sends through it. "
        f"Fix: headway.{name}.Transport(headway.sync.Scheduler(...)) for a {name}.Client."
    )
    client.close()
    with pytest.raises(InvalidArgument, match="a sync one sends through it"):
        library.Client(transport=face.AsyncTransport(headway.Scheduler())).__enter__()

    async def wrong(entered: bool) -> None:
        made = library.AsyncClient(transport=face.Transport(scheduler))
        with pytest.raises(InvalidArgument) as caught:
            await (made.__aenter__() if entered else made.get(URL))
        assert str(caught.value) == (
            f"headway.{name}.Transport is for sync clients, and an async one sends through it. "
            f"Fix: headway.{name}.AsyncTransport(scheduler) for a {name}.AsyncClient; it takes a "
            "headway.sync.Scheduler too."
        )
        await made.aclose()

    for entered in (False, True):
        asyncio.run(wrong(entered))


def test_threads_and_loops_are_under_one_set_of_limits(server: Server) -> None:
    most, lock, at_once = [0], threading.Lock(), [0]

    def enter() -> None:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])

    def leave() -> Any:
        with lock:
            at_once[0] -= 1
        return server.library.Response(200, content=SAID)

    def handle(request: Any) -> Any:
        enter()
        threading.Event().wait(0.002)
        return leave()

    async def handle_async(request: Any) -> Any:
        enter()
        await anyio.sleep(0.002)
        return leave()

    async def on_a_loop() -> None:
        inner = server.library.MockTransport(handle_async)
        transport = server.face.AsyncTransport(scheduler, inner)
        async with server.library.AsyncClient(transport=transport) as client:
            for _ in range(10):
                assert (await client.get(URL)).status_code == 200

    with sync.Scheduler(concurrency=3) as scheduler, ThreadPoolExecutor(6) as threads:
        inner = server.library.MockTransport(handle)
        with server.library.Client(transport=server.face.Transport(scheduler, inner)) as client:
            jobs = [
                threads.submit(asyncio.run, on_a_loop()),
                threads.submit(trio.run, on_a_loop),
                *(threads.submit(client.get, URL) for _ in range(40)),
            ]
            for job in jobs:
                job.result(20)
        assert scheduler.statistics().succeeded == 60
    assert most[0] == 3


def test_one_transport_has_connections_for_each_loop(server: Server) -> None:
    with sync.Scheduler() as scheduler:
        transport = server.face.AsyncTransport(scheduler)
        pools = []

        async def use() -> None:
            pools.extend(transport._inner() for _ in range(2))
            await transport._inner().aclose()

        asyncio.run(use())
        trio.run(use)
        assert pools[0] is pools[1]
        assert pools[2] is pools[3]
        assert pools[0] is not pools[2]
        assert len(transport._pools) == 1  # what a loop that is over left is dropped


def test_connections_are_warmed(server: Server, scheduler: sync.Scheduler) -> None:
    with server.face.Transport(scheduler, server.library.MockTransport(server.handle)) as made:
        made.warm("http://server", 3)
        assert [request.method for request in server.requests] == ["HEAD"] * 3
        server.answers = [server.library.ConnectError("nobody there")]
        with pytest.raises(server.library.ConnectError):
            made.warm("http://server")
        with pytest.raises(InvalidArgument):
            made.warm("server")
    assert scheduler.statistics().sent == 0
