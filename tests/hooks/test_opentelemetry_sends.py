"""Further sends of a transport inside one attempt: each a span of its own, and none twice."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from packages import of_dev
from telemetry import Telemetry, id_of, parent_of, telemetry, told

import headway.httpx
from headway import Retry, Scheduler, sync

of_httpx: ModuleType = of_dev("opentelemetry.instrumentation.httpx")

__all__ = ["telemetry"]

JSON = {"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}


class Web:
    """A client on a transport of a scheduler with the hook; the server answers with `statuses`."""

    def __init__(self, telemetry: Telemetry, *statuses: int) -> None:
        self.telemetry = telemetry
        self.left = [*statuses]
        self.current: list[int] = []  # the span inside which each request was sent
        self.scheduler = Scheduler(
            "1000/s", on_event=telemetry.hook(), retry=Retry(base=0.01, patience=0.0)
        )
        inner = of_httpx.AsyncOpenTelemetryTransport(
            httpx.MockTransport(self.answer), tracer_provider=telemetry.tracers
        )
        transport = headway.httpx.AsyncTransport(self.scheduler, inner)
        self.http = httpx.AsyncClient(transport=transport, follow_redirects=True)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.current.append(trace.get_current_span().get_span_context().span_id)
        status = self.left.pop(0) if self.left else 200
        return httpx.Response(status, headers={"location": "/next"}, json=JSON)

    async def get(self, times: int = 1) -> list[int]:
        return [(await self.http.get("http://test/")).status_code for _ in range(times)]

    def check(self, sends: int) -> list[dict[str, Any]]:
        """What the spans of further sends say: they are inside the one attempt of one job, and each
        request is in one of them.
        """
        job, (*further, first) = (
            self.telemetry.one("headway.job"), self.telemetry.ended("headway.attempt"),
        )  # fmt: skip
        assert parent_of(first) == id_of(job)
        assert [parent_of(each) for each in further] == [id_of(first)] * (sends - 1)
        requests = self.telemetry.ended("GET")
        assert [parent_of(each) for each in requests] == [id_of(first), *map(id_of, further)]
        assert len(self.telemetry.spans.get_finished_spans()) == 1 + 2 * sends
        assert not trace.get_current_span().is_recording()
        took = self.telemetry.points("headway.job.duration")
        assert sum(point.count for point in took.values()) == 1  # a send is no job
        return [told(each) for each in further]


@pytest.mark.anyio
async def test_requests_of_one_function(telemetry: Telemetry) -> None:
    web = Web(telemetry)
    assert await web.scheduler.submit(web.get, 3) == [200, 200, 200]
    second, third = web.check(3)
    assert second == {
        "headway.attempt.send": 2,
        "headway.attempt.tokens_reserved": 0.0,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": 2,
    }
    assert third["headway.attempt.send"] == 3


@pytest.mark.anyio
async def test_a_redirect(telemetry: Telemetry) -> None:
    web = Web(telemetry, 307)
    assert await web.scheduler.submit(web.get) == [200]
    web.check(2)


@pytest.mark.anyio
async def test_requests_under_a_lease(telemetry: Telemetry) -> None:
    web = Web(telemetry)
    async with web.scheduler.lease():
        await web.get(2)
    web.check(2)


@pytest.mark.anyio
async def test_a_clients_own_retry_that_is_refused_again(telemetry: Telemetry) -> None:
    web = Web(telemetry, 503, 429)

    async def ask() -> list[int]:
        return [*await web.get(), *await web.get(), *await web.get()]  # as an SDK's max_retries=2

    assert await web.scheduler.submit(ask) == [503, 429, 200]
    refused, answered = web.check(3)
    assert refused["error.type"] == "rate"
    assert refused["http.response.status_code"] == 429
    assert "error.type" not in answered


@pytest.mark.anyio
async def test_one_that_fails_ends_with_its_error(telemetry: Telemetry) -> None:
    web = Web(telemetry)

    async def ask() -> None:
        await web.get()
        web.http._transport._transport._transport = httpx.MockTransport(fails)  # type: ignore[attr-defined]
        with pytest.raises(httpx.ConnectError):
            await web.get()

    def fails(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("gone")

    await web.scheduler.submit(ask)
    (failed,) = web.check(2)
    assert failed["error.type"] == "cancelled"


def test_requests_of_a_plain_function(telemetry: Telemetry) -> None:
    with sync.Scheduler("1000/s", on_event=telemetry.hook()) as scheduler:
        inner = httpx.MockTransport(lambda request: httpx.Response(200, json=JSON))
        transport = headway.httpx.Transport(scheduler, inner)
        with httpx.Client(transport=transport) as http:
            get: Callable[[], Any] = lambda: [http.get("http://test/") for _ in range(2)]  # noqa: E731
            scheduler.submit(get)
    job, (further, first) = telemetry.one("headway.job"), telemetry.ended("headway.attempt")
    assert (parent_of(first), parent_of(further)) == (id_of(job), id_of(first))


@pytest.mark.anyio
async def test_nothing_is_kept_where_nobody_makes_spans() -> None:
    from headway.hooks.opentelemetry import OpenTelemetry

    hook = OpenTelemetry(tracer_provider=trace.NoOpTracerProvider())
    scheduler = Scheduler("1000/s", on_event=hook)
    inner = httpx.MockTransport(lambda request: httpx.Response(200, json=JSON))

    async def ask() -> None:
        async with httpx.AsyncClient(
            transport=headway.httpx.AsyncTransport(scheduler, inner)
        ) as http:
            await http.get("http://test/")
            await http.get("http://test/")

    headway.httpx.AsyncTransport(scheduler, inner)
    await scheduler.submit(ask)
    assert hook._traces == {}
    assert hook._running == {}
