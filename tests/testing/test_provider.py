"""A fake provider as tests of users meet it: under a scheduler, its SDKs, and nonsense."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from typing import Any

import anyio
import httpx
import httpx2
import pytest
import sdks

import headway.httpx
import headway.httpx2
from headway import InvalidArgument, Kind, Latched, Limits, Rate, Scheduler
from headway.testing import FakeProvider, FakeRequest, Reply, assert_idle, virtual_clock
from headway.testing.account import ALGORITHMS

pytestmark = pytest.mark.anyio

BODY = {"model": "m", "messages": [{"role": "user", "content": "why?"}]}
MESSAGES: Any = BODY["messages"]
PATH = "/chat/completions"


def scheduled(provider: FakeProvider, scheduler: Scheduler) -> httpx.AsyncClient:
    transport = headway.httpx.AsyncTransport(scheduler, provider.transport())
    return httpx.AsyncClient(transport=transport, base_url=provider.base_url)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
async def test_a_scheduler_that_is_told_the_limits_is_never_refused(algorithm: Any) -> None:
    limits = Limits(Rate(600, per=60, window=1), tokens="30k/min", concurrency=16)
    provider = FakeProvider(limits, algorithm=algorithm, latency=(0.1, 1.5), dialect="together")
    scheduler = Scheduler(limits.requests, tokens="30k/min", concurrency=16)
    async with scheduled(provider, scheduler) as http:

        async def ask(n: int) -> Any:
            return await http.post(PATH, json={**BODY, "max_tokens": 10, "n": n})

        answers = await scheduler.map(ask, range(120))
    assert {each.status_code for each in answers} == {200}
    provider.assert_no_refusals()
    provider.assert_within_limits()
    provider.assert_all_answered(120)
    provider.assert_rate_at_least(0.95)
    assert_idle(scheduler)
    assert 8 <= provider.in_flight_peak <= 16


@pytest.mark.parametrize("dialect", ["anthropic", "ietf", "none"])
async def test_a_scheduler_that_is_told_nothing_gets_all_done(dialect: str) -> None:
    provider = FakeProvider("20/10s", dialect=dialect, latency=0.2)
    scheduler = Scheduler()
    async with scheduled(provider, scheduler) as http:

        async def ask(n: int) -> Any:
            return await http.post(PATH, json={**BODY, "n": n})

        await scheduler.map(ask, range(30))
    provider.assert_all_answered(30)


def test_the_sdks_read_its_answers() -> None:
    """On asyncio: on trio their streams leave generators to the garbage collector."""

    async def main() -> None:
        provider = FakeProvider("600/min")
        http2 = httpx2.AsyncClient(transport=provider.transport())
        http = httpx.AsyncClient(transport=provider.transport())
        openai = sdks.openai.AsyncOpenAI(api_key="k", http_client=http2, max_retries=0)
        together = sdks.together.AsyncTogether(api_key="k", http_client=http, max_retries=0)
        anthropic = sdks.anthropic.AsyncAnthropic(api_key="k", http_client=http2, max_retries=0)
        text = "This is an answer of the fake provider."
        for sdk in (openai, together):
            chat = await sdk.chat.completions.create(model="m", messages=MESSAGES)
            assert chat.choices[0].message.content == text
            stream = await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            chunks = [chunk async for chunk in stream]
            assert "".join(each.choices[0].delta.content or "" for each in chunks) == text
            assert chunks[-1].usage.completion_tokens == 10
        response = await openai.responses.create(model="m", input="hello")
        assert response.output_text == text
        async with openai.responses.stream(model="m", input="hello") as events:
            assert [each.type async for each in events][-1] == "response.completed"
        embedded = await openai.embeddings.create(model="m", input=["a", "b"])
        assert [len(each.embedding) for each in embedded.data] == [8, 8]
        message = await anthropic.messages.create(model="m", max_tokens=3, messages=MESSAGES)
        assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)
        async with anthropic.messages.stream(model="m", max_tokens=50, messages=MESSAGES) as said:
            assert await said.get_final_text() == text
        await http.aclose()
        await http2.aclose()

    with virtual_clock():
        asyncio.run(main())


async def test_a_wrong_key_is_refused() -> None:
    provider = FakeProvider(keys=["right"])
    scheduler = Scheduler()
    async with scheduled(provider, scheduler) as http:
        right = await http.post(PATH, json=BODY, headers={"authorization": "Bearer right"})
        wrong = await http.post(PATH, json=BODY, headers={"authorization": "Bearer wrong"})
    assert (right.status_code, wrong.status_code) == (200, 401)
    assert wrong.json()["error"]["message"] == "Incorrect API key provided."


async def test_no_credit_latches() -> None:
    provider = FakeProvider()
    provider.fail_next(402, message="No money.")
    scheduler = Scheduler()

    async def ask() -> Any:
        async with httpx.AsyncClient(transport=provider.transport()) as http:
            return (await http.post("http://fake/x", json=BODY)).raise_for_status()

    with pytest.raises(httpx.HTTPStatusError, match="402"):
        await scheduler.submit(ask)
    with pytest.raises(Latched):
        await scheduler.submit(ask)
    assert provider.arrivals[0].fault is not None
    assert scheduler.statistics().refused == {Kind.QUOTA: 1}


async def test_the_next_requests_fail_as_is_said() -> None:
    provider = FakeProvider()
    provider.fail_next(429, times=2, retry_after=2)
    provider.fail_next(503)
    scheduler = Scheduler()
    async with scheduled(provider, scheduler) as http:
        began = anyio.current_time()
        assert (await http.post(PATH, json=BODY)).status_code == 200
    assert anyio.current_time() - began >= 4
    assert [each.status for each in provider.arrivals] == [429, 429, 503, 200]
    assert len(provider.refusals) == 2
    provider.assert_all_answered(1)


async def test_the_users_own_answers() -> None:
    asked: list[FakeRequest] = []

    def reply(request: FakeRequest) -> Any:
        asked.append(request)
        if request.path == "/v1/models":
            return {"data": []}
        return Reply("You said: " + request.body["messages"][0]["content"], headers={"x-a": "b"})

    provider = FakeProvider(tokens="1k/min", reply=reply)
    async with scheduled(provider, Scheduler()) as http:
        answer = await http.post(PATH, json=BODY)
        models = await http.get("/models")
    assert answer.json()["choices"][0]["message"]["content"] == "You said: why?"
    assert answer.headers["x-a"] == "b"
    assert models.json() == {"data": []}
    assert [each.method for each in asked] == ["POST", "GET"]
    assert [each.tokens for each in provider.arrivals] == [5, 0]
    counted = FakeProvider(reply={"usage": {"prompt_tokens": 70, "completion_tokens": 7}})
    async with scheduled(counted, Scheduler()) as http:
        await http.post(PATH, json=BODY)
    cost = counted.arrivals[0].cost
    assert (cost.input, cost.output) == (70, 7)


async def test_latencies_of_all_kinds_follow_the_seed() -> None:
    async def taken(**options: Any) -> list[float]:
        provider = FakeProvider(**options)
        async with httpx.AsyncClient(transport=provider.transport()) as http:
            for n in range(3):
                await http.post("http://fake/x", json={"n": n})
        return [(each.ended or math.nan) - each.at for each in provider.arrivals]

    assert await taken(latency=2) == pytest.approx([2, 2, 2])
    assert await taken(latency=lambda asked: asked.body["n"]) == pytest.approx([0, 1, 2])
    drawn = await taken(latency=(1, 3), seed=4)
    assert await taken(latency=(1, 3), seed=4) == pytest.approx(drawn)
    assert await taken(latency=(1, 3), seed=5) != pytest.approx(drawn)
    assert 1 <= min(drawn) < max(drawn) <= 3


def test_many_threads_are_counted_as_one() -> None:
    provider = FakeProvider("100/h", concurrency=8, latency=0.001)
    statuses: list[int] = []

    def work() -> None:
        with httpx.Client(transport=provider.transport()) as http:
            answers = [http.post("http://fake/x", json={"n": n}) for n in range(10)]
        statuses.extend(each.status_code for each in answers)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == len(provider.arrivals) == 160
    assert statuses.count(200) == len(provider.answered) <= 100
    assert provider.in_flight_peak <= 8
    times = [each.at for each in provider.arrivals]
    assert times == sorted(times)
    assert times[-1] <= time.monotonic()


NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"latency": -1}, "latency=-1 is no time that an answer can take. Fix: latency=0.5 in seconds"),
    ({"latency": math.nan}, "latency=nan is no time"),
    ({"latency": (2, 1)}, "latency=(2, 1) is no time"),
    ({"latency": (1, 2, 3)}, "latency=(1, 2, 3) is no time"),
    ({"latency": "1s"}, "latency='1s' is no time"),
    ({"lane": "galaxy"}, "lane='galaxy' has no limits of its own. Fix: lane=\"account\""),
    ({"retry_after": -1}, "retry_after=-1 is no time to wait in seconds. Fix: retry_after=2"),
    ({"retry_after": None}, "retry_after=None is no time to wait"),
    ({"keys": 5}, "keys=5 are no keys that a request can show. Fix: keys"),
    ({"keys": [5]}, "keys=[5] are no keys"),
    ({"reply": 5}, "reply=5 is no answer. Fix: a text, a dict, a list, bytes, a Reply, or a def"),
    ({"seed": "x"}, "seed='x' is not a whole number. Fix: seed=7"),
    (
        {"requests": Limits("9/s"), "concurrency": 5},
        "concurrency= stands beside a Limits, which holds all limits. Fix: "
        "Limits(..., concurrency=5).",
    ),
]


@pytest.mark.parametrize(("given", "expected"), NONSENSE, ids=[str(each) for each, _ in NONSENSE])
def test_what_makes_no_sense(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        FakeProvider(**given)
    assert str(caught.value).startswith(expected)


async def test_an_async_function_is_told() -> None:
    async def reply(_: FakeRequest) -> str:
        return "x"

    given: Any = reply
    with pytest.raises(InvalidArgument, match="reply"):
        FakeProvider(reply=given)
    with pytest.raises(InvalidArgument, match="latency"):
        FakeProvider(latency=given)


@pytest.mark.parametrize("seconds", [-1, math.nan, "1", None])
async def test_a_function_that_returns_no_time(seconds: Any) -> None:
    provider = FakeProvider(latency=lambda asked: seconds)
    async with httpx.AsyncClient(transport=provider.transport()) as http:
        with pytest.raises(InvalidArgument, match="is no time that an answer can take"):
            await http.post("http://fake/x", json=BODY)


async def test_a_function_that_returns_no_answer() -> None:
    given: Any = lambda asked: 5  # noqa: E731
    provider = FakeProvider(reply=given)
    async with httpx.AsyncClient(transport=provider.transport()) as http:
        with pytest.raises(InvalidArgument, match="reply=5 is no answer"):
            await http.post("http://fake/x", json=BODY)


async def test_what_a_users_function_breaks_holds_no_slot() -> None:
    answers = iter(["soon", 0.0])
    provider = FakeProvider(concurrency=1, latency=lambda asked: next(answers))  # type: ignore[arg-type, return-value]
    async with httpx.AsyncClient(transport=provider.transport()) as http:
        with pytest.raises(InvalidArgument):
            await http.post("http://fake/x", json=BODY)
        assert (await http.post("http://fake/x", json=BODY)).status_code == 200
