"""With the instrumentations that users have: their spans are inside ours, and none is twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest
import sdks
from packages import of_dev
from telemetry import Telemetry, id_of, parent_of, telemetry

import headway.httpx
import headway.httpx2
from headway import Scheduler

openai_v2 = of_dev("opentelemetry.instrumentation.openai_v2")
of_httpx = of_dev("opentelemetry.instrumentation.httpx")

pytestmark = pytest.mark.anyio

REPLY = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}  # fmt: skip


@pytest.fixture
def instrumented(telemetry: Telemetry) -> Iterator[None]:
    instrumentor = openai_v2.OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracers, meter_provider=telemetry.meters)
    yield
    instrumentor.uninstrument()


def openai(scheduler: Scheduler, *statuses: int) -> Any:
    """The SDK over headway's transport; the server answers with `statuses`, then with 200."""
    left = [*statuses]

    def answer(request: Any) -> Any:
        if left:
            return httpx2.Response(left.pop(0), json={"error": {"message": "slow down"}})
        return httpx2.Response(200, json=REPLY)

    transport = headway.httpx2.AsyncTransport(scheduler, httpx2.MockTransport(answer))
    return sdks.openai.AsyncOpenAI(
        api_key="k",
        base_url="http://test/v1",
        http_client=httpx2.AsyncClient(transport=transport),
    )


async def test_each_call_of_the_sdk_is_a_child_of_its_attempt(
    telemetry: Telemetry, instrumented: None
) -> None:
    scheduler = Scheduler("100/s", on_event=telemetry.hook())

    async with openai(scheduler, 429) as client:

        async def ask(question: str) -> Any:
            return await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": question}]
            )

        await scheduler.submit(ask, "why?")
    (job,) = telemetry.ended("headway.job")
    attempts = telemetry.ended("headway.attempt")
    calls = telemetry.ended("chat m")
    assert len(telemetry.spans.get_finished_spans()) == 5
    assert [parent_of(span) for span in attempts] == [id_of(job)] * 2
    assert [parent_of(span) for span in calls] == [id_of(span) for span in attempts]
    assert dict(job.attributes or {})["gen_ai.usage.input_tokens"] == 3


async def test_a_request_by_itself_is_a_job_inside_the_call_of_the_sdk(
    telemetry: Telemetry, instrumented: None
) -> None:
    async with openai(Scheduler("100/s", on_event=telemetry.hook()), 429) as client:
        await client.chat.completions.create(model="m", messages=[])
    (call,), (job,) = telemetry.ended("chat m"), telemetry.ended("headway.job")
    attempts = telemetry.ended("headway.attempt")
    assert len(telemetry.spans.get_finished_spans()) == 4
    assert parent_of(job) == id_of(call)
    assert [parent_of(span) for span in attempts] == [id_of(job)] * 2
    assert dict(job.attributes or {})["gen_ai.usage.output_tokens"] == 2
    assert dict(attempts[0].attributes or {})["http.response.status_code"] == 429


async def test_each_send_is_a_child_of_its_attempt(telemetry: Telemetry) -> None:
    statuses = [503, 200]
    inner = of_httpx.AsyncOpenTelemetryTransport(
        httpx.MockTransport(lambda request: httpx.Response(statuses.pop(0), json={})),
        tracer_provider=telemetry.tracers,
    )
    scheduler = Scheduler("100/s", on_event=telemetry.hook())
    transport = headway.httpx.AsyncTransport(scheduler, inner)
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await client.get("http://test/")).status_code == 200
    attempts, sends = telemetry.ended("headway.attempt"), telemetry.ended("GET")
    assert [parent_of(span) for span in sends] == [id_of(span) for span in attempts]
    assert len(sends) == 2


__all__ = ["telemetry"]
