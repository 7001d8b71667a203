"""The ready client: its calls are scheduled, its pool fits, its connections are the cheap ones."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import anyio
import httpx
import pytest
import respx
import sdks
from llmock.pytest_plugin import LLMock

import headway.httpx
from headway import InvalidArgument, Kind, Retry, Scheduler, sync
from headway._http.pool import Pool

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]  # a real server: real time


def ask(client: Any) -> Any:
    return client.chat.completions.create(
        model="Qwen/Qwen2.5-72B-Instruct-Turbo", messages=[{"role": "user", "content": "why?"}]
    )


def pool_of(client: Any) -> Pool:
    pool = client._client._transport._transport
    assert isinstance(pool, Pool)
    return pool


async def test_every_call_is_scheduled_and_retried(llmock: LLMock, anyio_backend: str) -> None:
    scheduler = Scheduler("6000/min", concurrency=2)
    llmock.rate_limit(times=1, retry_after=0.05)
    async with sdks.ours.client(
        scheduler, api_key="k", base_url=f"{llmock.url}/together"
    ) as client:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(ask, client)
        await scheduler.submit(ask, client)  # what submit paid for is not paid for twice
        inner = type(pool_of(client)._inner).__module__
    stats = scheduler.statistics()
    assert (stats.sent, stats.succeeded, stats.in_flight) == (6, 5, 0)
    assert stats.refused == {Kind.RATE: 1}
    assert {request.sdk_retry_count for request in llmock.requests} == {0}
    assert inner.startswith("httpx_aiohttp" if anyio_backend == "asyncio" else "httpx")


def test_limits_are_what_together_means_at_a_gateway_too() -> None:
    for scheduler, make in (
        (Scheduler("600/min"), sdks.ours.client),
        (sync.Scheduler("600/min"), sdks.ours.sync_client),
    ):
        make(scheduler, api_key="k", base_url="http://gateway.example")
        (limit,) = scheduler.statistics().limits
        assert limit.window == 1.0


async def test_httpx_where_aiohttp_is_missing(
    llmock: LLMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpx_aiohttp", None)
    async with sdks.ours.client(
        Scheduler(), api_key="k", base_url=f"{llmock.url}/together"
    ) as client:
        await ask(client)
        assert isinstance(pool_of(client)._inner, httpx.AsyncHTTPTransport)


@pytest.mark.parametrize(("concurrency", "most"), [(None, None), (8, 100), (500, 500)])
async def test_the_pool_is_as_large_as_the_concurrency(
    concurrency: int | None, most: int | None
) -> None:
    async with sdks.ours.client(Scheduler(concurrency=concurrency), api_key="k") as client:
        assert pool_of(client)._connections == most
        assert client.max_retries == 0


async def test_a_client_that_is_not_scheduled_is_told(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler()
    plain = httpx.AsyncClient()
    sdks.ours.client(scheduler, api_key="k", http_client=plain)
    assert "its calls are not scheduled. Fix: leave http_client= out" in caplog.text
    caplog.clear()
    ours = httpx.AsyncClient(transport=headway.httpx.AsyncTransport(scheduler))
    sdks.ours.client(scheduler, api_key="k", http_client=ours)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "api_key= is empty"),
        ("k\n", "in api_key= holds a space, a line break"),
        (5, "api_key= is int, not a string"),
    ],
)
async def test_a_wrong_key_is_told_by_its_argument(key: Any, said: str) -> None:
    with pytest.raises(sdks.ours.InvalidSettings, match=said) as caught:
        sdks.ours.client(Scheduler(), api_key=key)
    assert "in TOGETHER_API_KEY holds" not in str(caught.value)


async def test_what_is_no_scheduler() -> None:
    wrong: Any = "600/min"
    with pytest.raises(TypeError, match="scheduler='600/min' is not a Scheduler"):
        sdks.ours.client(wrong, api_key="k")


async def test_no_limit_is_no_limit_of_aiohttp_either(anyio_backend: str) -> None:
    pool = Pool(None, "http://server")
    inner: Any = pool._open()
    if anyio_backend == "asyncio":
        assert inner.client.connector.limit == 0
    await pool.aclose()
    await inner.aclose()


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ({"ALL_PROXY": "http://all:1"}, "http://all:1"),
        ({"HTTP_PROXY": "http://plain:1"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "api.together.ai"}, None),
    ],
)
async def test_the_proxy_of_the_environment(
    variables: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Pool(1, "https://api.together.ai").proxy == proxy


def test_a_client_at_module_level_works_on_one_loop_after_another(
    llmock: LLMock, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"{llmock.url}/together"
    clients = [sdks.ours.client(Scheduler("100/s"), api_key="k", base_url=url)]

    async def work() -> None:
        assert (await ask(clients[0])).usage.total_tokens > 0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it is not closed, and may say so
        for _ in range(2):
            asyncio.run(work())
        clients.clear()
        gc.collect()
    assert "Unclosed" not in capfd.readouterr().err


def test_it_has_no_kinds_of_errors_of_its_own() -> None:
    """`test_errors` looks at those of every other module."""
    classes = [found for found in vars(sdks.ours).values() if isinstance(found, type)]
    errors = [found.__module__ for found in classes if issubclass(found, Exception)]
    assert errors
    assert "headway.together" not in errors


def test_a_sync_client_is_scheduled_from_any_thread(llmock: LLMock, monkeypatch: Any) -> None:
    llmock.rate_limit(times=1, retry_after=0.05)
    monkeypatch.setenv("TOGETHER_API_KEY", "k")
    monkeypatch.setenv("TOGETHER_BASE_URL", f"{llmock.url}/together")
    with sync.Scheduler("6000/min", concurrency=2) as scheduler:
        with sdks.ours.sync_client(scheduler) as client:
            assert client.max_retries == 0
            assert len(list(scheduler.map(lambda _: ask(client), range(4)))) == 4
            assert ask(client) is not None
        statistics = scheduler.statistics()
    assert (statistics.sent, statistics.succeeded) == (6, 5)
    assert statistics.refused == {Kind.RATE: 1}


def test_each_client_needs_its_own_kind(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InvalidArgument, match="belongs to one event loop") as caught:
        sdks.ours.sync_client(Scheduler(), api_key="k")
    assert caught.value.fix == (
        "sync_client(headway.sync.Scheduler(...)), or client(scheduler) in async code."
    )
    with pytest.raises(InvalidArgument, match=r"is not a Scheduler\. Fix: client"):
        sdks.ours.client("600/min", api_key="k")
    sdks.ours.sync_client(sync.Scheduler(), api_key="k", http_client=httpx.Client()).close()
    assert caplog.messages == [
        "the http_client= of headway.together.sync_client has a transport of its own, so its calls "
        "are not scheduled. Fix: leave http_client= out, or build it with "
        "transport=headway.httpx.Transport(scheduler)."
    ]
    with pytest.raises(ValueError, match="api_key= is empty"):
        sdks.ours.sync_client(sync.Scheduler(), api_key=" ")


ANSWER = {"id": "mocked", "object": "chat.completion", "created": 0, "model": "m", "choices": []}


async def test_respx_reaches_both_clients() -> None:
    given: dict[str, Any] = {"api_key": "k", "base_url": "http://127.0.0.1:9", "max_retries": 0}
    once = Retry(attempts=1)  # nobody listens there: what respx does not reach fails at once
    scheduler, threads = Scheduler("600/min", retry=once), sync.Scheduler("600/min", retry=once)
    one, two = sdks.ours.client(scheduler, **given), sdks.ours.sync_client(threads, **given)
    with respx.mock as router:
        route = router.post("http://127.0.0.1:9/v1/chat/completions").respond(json=ANSWER)
        assert (await ask(one)).id == "mocked"
        assert (await anyio.to_thread.run_sync(ask, two)).id == "mocked"
    assert route.call_count == 2
    assert (scheduler.statistics().sent, threads.statistics().sent) == (1, 1)
    await one.close()
    two.close()
    threads.close()


async def test_a_client_that_asked_nothing_closes_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker of a web server that nobody called ends, too."""
    async with sdks.ours.client(Scheduler(), api_key="k"):
        pass
    with sync.Scheduler() as threads, sdks.ours.sync_client(threads, api_key="k"):
        pass
    assert caplog.messages == []
