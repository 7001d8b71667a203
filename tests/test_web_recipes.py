"""The recipes of web frameworks and of Celery, against a server that echoes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import anyio
import httpx
import pytest
from echo import Echo, echo
from packages import of_dev, of_frameworks
from pages import DOCS, blocks

from headway import Scheduler, SchedulerClosed

__all__ = ["echo"]

ANSWER = "TRANSLATE INTO FRENCH: HI"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def together(echo: Echo, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWAY_SHARED", f"sqlite:///{tmp_path}/limits.db")
    monkeypatch.setenv("TOGETHER_API_KEY", "a-key")
    monkeypatch.setenv("TOGETHER_BASE_URL", echo.url.removesuffix("/v1"))


def recipe(page: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that the recipe on `page` is."""
    (code,) = blocks(DOCS / "recipes" / f"{page}.md", "python framework")
    module = ModuleType(code.partition(".py\n")[0].removeprefix("# "))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, f"{page}.md", "exec", dont_inherit=True), module.__dict__)
    return module


# FastAPI


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Any:
    of_dev("fastapi")
    return recipe("fastapi", monkeypatch)


async def called(app: Any, method: str, path: str, **params: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        return await client.request(method, path, params=params)


@pytest.mark.anyio
async def test_fastapi_answers_and_shows_its_status(web: Any) -> None:
    async with web.app.router.lifespan_context(web.app):
        reply = await called(web.app, "POST", "/translate", text="hi")
        status = (await called(web.app, "GET", "/status")).json()
    assert (reply.status_code, reply.json()) == (200, {"answer": ANSWER})
    assert (status["sent"], status["succeeded"], status["in_flight"]) == (1, 1, 0)


@pytest.mark.anyio
async def test_fastapi_cancels_the_job_of_who_hangs_up(web: Any, echo: Echo) -> None:
    echo.gate.clear()
    scope = {
        "type": "http", "method": "POST", "path": "/translate", "query_string": b"text=hi",
        "headers": [], "http_version": "1.1",
    }  # fmt: skip
    said: list[Any] = []
    asked = iter([{"type": "http.request", "body": b""}])

    async def receive() -> Any:
        if (message := next(asked, None)) is not None:
            return message
        await anyio.to_thread.run_sync(echo.arrived.acquire)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        said.append(message)

    async with web.app.router.lifespan_context(web.app):
        scheduler: Scheduler = web.app.state.scheduler
        await web.app(scope, receive, send)
        assert said[0]["status"] == 499
        statistics = scheduler.statistics()
        assert (statistics.sent, statistics.succeeded, statistics.in_flight) == (1, 0, 0)


@pytest.mark.anyio
async def test_fastapi_passes_on_a_cancellation_from_outside(web: Any, echo: Echo) -> None:
    """A server that shuts down cancels its handlers: nobody hung up."""
    echo.gate.clear()
    async with web.app.router.lifespan_context(web.app):
        call = asyncio.create_task(called(web.app, "POST", "/translate", text="hi"))
        await anyio.to_thread.run_sync(echo.arrived.acquire)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert web.app.state.scheduler.statistics().in_flight == 0


@pytest.mark.anyio
async def test_fastapi_says_503_and_when_to_come_again(web: Any, echo: Echo) -> None:
    async with web.app.router.lifespan_context(web.app):
        web.app.state.scheduler.set_limits("1/min")
        replies = [await called(web.app, "POST", "/translate", text="hi") for _ in range(2)]
    assert [reply.status_code for reply in replies] == [200, 503]
    assert 20 < int(replies[1].headers["retry-after"]) <= 62
    assert len(echo.asked) == 1


@pytest.mark.anyio
async def test_fastapi_says_503_where_the_queue_is_full(web: Any, echo: Echo) -> None:
    async with web.app.router.lifespan_context(web.app):
        scheduler: Scheduler = web.app.state.scheduler
        scheduler.pause()
        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(scheduler.submit, anyio.sleep, 0)
            await anyio.wait_all_tasks_blocked()
            reply = await called(web.app, "POST", "/translate", text="hi")
            group.cancel_scope.cancel()
    assert reply.status_code == 503
    assert reply.json() == {"error": "busy"}
    assert reply.headers["retry-after"] == "600"


# Django


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    of_frameworks("django")
    from django.conf import settings
    from django.urls import clear_url_caches

    found = recipe("django", monkeypatch)
    urls: Any = ModuleType("urls")
    (code,) = blocks(DOCS / "recipes" / "django.md", "py")
    exec(code, urls.__dict__)
    monkeypatch.setitem(sys.modules, "urls", urls)
    if not settings.configured:
        settings.configure(ROOT_URLCONF="urls", ALLOWED_HOSTS=["testserver"])
    clear_url_caches()
    yield found
    found.blocking.close()
    found.scheduler.close()


@pytest.mark.anyio
async def test_django_has_sync_and_async_views_under_one_limit(views: Any) -> None:
    from django.test import AsyncClient, Client

    sync = await anyio.to_thread.run_sync(lambda: Client().get("/translate", {"text": "hi"}))
    other = await AsyncClient().get("/translate-async", {"text": "hi"})
    status = json.loads((await AsyncClient().get("/status")).content)
    await views.together.close()
    assert (sync.json(), other.json()) == ({"answer": ANSWER}, {"answer": ANSWER})
    assert (status["sent"], status["in_flight"]) == (2, 0)


@pytest.mark.anyio
async def test_django_says_503_and_when_to_come_again(views: Any) -> None:
    from django.test import AsyncClient

    views.scheduler.set_limits("1/min")
    paths = ["/translate-async", "/translate-async", "/translate"]
    replies = [await AsyncClient().get(path, {"text": "hi"}) for path in paths]
    await views.together.close()
    assert [reply.status_code for reply in replies] == [200, 503, 503]
    assert all(20 < int(reply.headers["retry-after"]) <= 62 for reply in replies[1:])


# Celery


def test_celery(monkeypatch: pytest.MonkeyPatch, echo: Echo) -> None:
    of_dev("celery")
    tasks: Any = recipe("celery", monkeypatch)
    tasks.give_back()  # of a worker that had no task
    try:
        assert tasks.translate.apply(args=("hi",)).get() == ANSWER
        assert tasks.translate_all.apply(args=(["hi"] * 3,)).get() == [ANSWER] * 3
        scheduler, together = tasks.limited()
        assert scheduler.statistics().sent == 4 == len(echo.asked)
    finally:
        tasks.worker_process_shutdown.send(None)
    assert together.is_closed()
    with pytest.raises(SchedulerClosed):
        scheduler.submit(str)
