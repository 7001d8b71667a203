"""What a transport makes of odd refusals: a success that is none, a body that stalls, prose."""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
import pytest
from sites import URL, Site, idle, in_flight

from headway import Kind, Retry, Scheduler
from headway.events import Event, Refused

pytestmark = pytest.mark.anyio

BUSY = b'{"error": "overloaded, come back later"}'
PLAIN = {"content-type": "application/json"}


def says_busy(response: Any) -> bool:
    return "overloaded" in response.text


# A success that is a refusal


async def test_a_success_that_is_a_refusal_is_retried(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [(200, {**PLAIN, "retry-after": "7"}, BUSY), (200, PLAIN, BUSY)]
    async with site.client(scheduler, is_refused=says_busy) as client:
        response = await client.post(URL)
    assert (response.status_code, response.text) == (200, "ok")
    assert site.sent[1] - site.sent[0] >= 7
    assert scheduler.statistics().refused == {Kind.RATE: 2}
    assert idle(scheduler)


@pytest.mark.parametrize(
    ("kind", "status"),
    [(True, 429), (Kind.TOKENS, 429), (Kind.CAPACITY, 503), (Kind.PERMANENT, 400)],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_the_last_one_is_the_refusal_that_it_is(
    kind: Any, status: int, streamed: bool, site: Site
) -> None:
    scheduler = Scheduler("100/s", concurrency=1, retry=Retry(patience=5))

    def judge(response: Any) -> Any:
        return kind if says_busy(response) else None

    inner = await site.body(chunks=2, data=BUSY[:24])()

    async def answer() -> Any:
        return 200, {**PLAIN, "retry-after": "6"}, inner[2]

    site.answers = [answer]
    async with (
        site.client(scheduler, is_refused=judge) as client,
        client.stream("POST", URL) as response,
    ):
        content = (
            b"".join([chunk async for chunk in response.aiter_raw()])
            if streamed
            else await response.aread()
        )
    assert (response.status_code, content) == (status, BUSY[:24] * 2)
    assert response.headers["x-should-retry"] == "false"
    assert site.open == 0
    assert idle(scheduler)


async def test_inside_a_job_the_job_is_retried(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    site.answers = [(200, PLAIN, BUSY)]

    async def ask() -> str:
        response = await client.post(URL)
        response.raise_for_status()
        text: str = response.text
        return text

    async with site.client(scheduler, is_refused=says_busy) as client:
        assert await scheduler.submit(ask) == "ok"
    assert (len(site.sent), sum(scheduler.statistics().refused.values())) == (2, 1)
    assert idle(scheduler)


async def test_a_stream_is_not_read_for_the_predicate(site: Site) -> None:
    scheduler = Scheduler(concurrency=1)
    inner = await site.body()()

    async def answer() -> Any:
        return 200, {"content-type": "text/event-stream; charset=utf-8"}, inner[2]

    site.answers = [answer]
    asked: list[Any] = []
    async with site.client(scheduler, is_refused=asked.append) as client:
        began = anyio.current_time()
        async with client.stream("POST", URL) as response:
            assert anyio.current_time() == began
            assert in_flight(scheduler) == 1
            assert len([chunk async for chunk in response.aiter_raw()]) == 3
    assert asked == []
    assert idle(scheduler)


async def test_a_predicate_that_raises_leaks_nothing(site: Site) -> None:
    scheduler = Scheduler(concurrency=1)
    site.answers = [site.body()]

    def judge(response: Any) -> bool:
        raise LookupError("a bug in the predicate")

    async with site.client(scheduler, is_refused=judge) as client:
        with pytest.raises(LookupError, match="a bug in the predicate"):
            await client.post(URL)
    assert site.open == 0
    assert idle(scheduler)


# A refusal that stalls


@pytest.mark.parametrize("last", [False, True])
async def test_a_refusal_whose_body_stalls_gives_its_slot_back(last: bool, site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1, retry=Retry(patience=0.5 if last else 60))
    stalled = await site.body(every=3600)()

    async def answer() -> Any:
        return 429, {"retry-after": "1"}, stalled[2]

    site.answers = [answer]
    async with site.client(scheduler) as client:
        with anyio.fail_after(10):
            if last:
                async with client.stream("POST", URL) as response:
                    assert response.status_code == 429
                    with pytest.raises(site.library.ReadTimeout) as caught:
                        await response.aread()
                assert str(caught.value) == "the rest of this refusal did not come within 2 s"
            else:
                assert (await client.post(URL)).text == "ok"
    assert site.open == 0
    assert idle(scheduler)


async def test_a_cancellation_while_a_refusal_stalls(site: Site) -> None:
    scheduler = Scheduler("100/s", concurrency=1)
    stalled = await site.body(every=3600)()

    async def answer() -> Any:
        return 429, {}, stalled[2]

    site.answers = [answer]
    async with site.client(scheduler) as client:
        with anyio.move_on_after(1):
            await client.post(URL)
    assert site.open == 0
    assert idle(scheduler)


# What refusals say


async def test_limits_in_prose_are_followed(site: Site) -> None:
    scheduler = Scheduler()
    body = json.dumps({"error": {"message": "your rate limit is 120 RPM (2 QPS)"}}).encode()
    site.answers = [(429, PLAIN, body)]
    async with site.client(scheduler) as client:
        for _ in range(4):
            await client.post(URL)
    assert scheduler.statistics().pace <= 2
    gaps = [b - a for a, b in zip(site.sent[2:], site.sent[3:], strict=False)]
    assert min(gaps) >= 0.5


async def test_an_odd_hint_is_told(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Event] = []
    scheduler = Scheduler("100/s", on_event=seen.append)
    site.answers = [(429, {"retry-after": "banana"}, b"")]
    with caplog.at_level(logging.WARNING, "headway"):
        async with site.client(scheduler) as client:
            assert (await client.post(URL)).text == "ok"
    (refused,) = [event for event in seen if isinstance(event, Refused)]
    assert refused.odd == "retry-after: 'banana' ignored"
    assert "no hint; retry-after: 'banana' ignored" in caplog.messages[0]


# A further send under a lease


async def test_a_further_send_is_settled_with_what_it_used(site: Site) -> None:
    scheduler = Scheduler("1000/s", tokens="6000/min", concurrency=1)
    usage = b'{"usage": {"total_tokens": 40, "prompt_tokens": 30, "completion_tokens": 10}}'
    site.answers = [(200, PLAIN, usage)] * 3
    async with (
        site.client(scheduler.with_options(tokens=500)) as client,
        scheduler.lease(tokens=100) as lease,
    ):
        for _ in range(3):
            await client.post(URL, json={"n": 1})
        assert in_flight(scheduler) == 1
        lease.settle(tokens=7)
    assert scheduler.statistics().tokens == 7 + 40 + 40
    assert idle(scheduler)


@pytest.mark.parametrize("how", ["refused", "broken", "cancelled", "half read"])
async def test_a_further_send_that_fails_leaks_nothing(how: str, site: Site) -> None:
    scheduler = Scheduler("1000/s", tokens="6000/min", concurrency=1)
    bad: Any = {
        "refused": (429, {}, b""),
        "broken": site.library.ReadError("gone"),
        "cancelled": site.body(every=3600),
        "half read": site.body(error=site.library.ReadError("gone")),
    }[how]
    site.answers = [200, bad]
    async with site.client(scheduler.with_options(tokens=50)) as client:
        async with scheduler.lease(tokens=100):
            await client.get(URL)
            with anyio.move_on_after(10):
                if how == "refused":
                    assert (await client.get(URL)).status_code == 429
                else:
                    with pytest.raises(site.library.ReadError):
                        await client.get(URL)
        assert idle(scheduler)
        with anyio.fail_after(30):
            assert (await client.get(URL)).text == "ok"
    assert site.open == 0
    assert idle(scheduler)


@pytest.mark.parametrize("how", ["submit", "map", "lease"])
async def test_what_a_job_does_not_tell_its_sends_do(how: str, site: Site) -> None:
    """A function that returns the text of its answer says nothing of tokens."""
    scheduler = Scheduler("1000/s", tokens="180k/min", concurrency=1)
    usage = b'{"usage": {"total_tokens": 40, "prompt_tokens": 30, "completion_tokens": 10}}'
    site.answers = [(200, PLAIN, usage)] * 3

    async def ask(n: int) -> str:
        text: str = (await client.post(URL, json={"n": n})).text
        return text

    async with site.client(scheduler) as client:
        if how == "submit":
            await scheduler.submit(ask, 1)
        elif how == "map":
            await scheduler.map(ask, [1])
        else:
            async with scheduler.lease():
                await ask(1)
    assert scheduler.statistics().tokens == 40
    assert idle(scheduler)


@pytest.mark.parametrize("status", [503, 429])
@pytest.mark.parametrize("hint", [{}, {"retry-after": "1"}])
async def test_one_that_is_always_refused_holds_nobody_up(
    status: int, hint: dict[str, str], site: Site
) -> None:
    scheduler = Scheduler("100/s", concurrency=8, retry=Retry(patience=300))

    async def handle(request: Any) -> Any:
        site.requests.append(request)
        await anyio.sleep(0.05)
        if json.loads(request.content)["n"] == 20:
            return site.library.Response(status, headers=hint)
        return site.library.Response(200, json={})

    ended: dict[int, tuple[float, int]] = {}
    transport = site.face.AsyncTransport(scheduler, site.library.MockTransport(handle))
    async with site.library.AsyncClient(transport=transport) as client:

        async def ask(n: int) -> None:
            response = await client.post(URL, json={"n": n})
            ended[n] = anyio.current_time(), response.status_code

        began = anyio.current_time()
        await scheduler.map(ask, range(100))
    others = [at for n, (at, code) in ended.items() if n != 20]
    assert {code for n, (_, code) in ended.items() if n != 20} == {200}
    assert ended[20][1] == status
    assert max(others) - began < 60
    assert len(site.requests) < 99 + 40
    assert idle(scheduler)
