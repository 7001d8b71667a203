"""Spans that nobody makes, or that a sampler drops: little is done for them, and nothing wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hook import refuse_once
from opentelemetry import context, metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from telemetry import Telemetry, telemetry

from headway import Scheduler
from headway._core import state
from headway.hooks.opentelemetry import OpenTelemetry

pytestmark = pytest.mark.anyio

REMOTE = NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1)))


async def look(n: int) -> context.Context:
    return context.get_current()


class Dropping(Sampler):
    """Drops jobs."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, kind: Any = None,
        attributes: Any = None, links: Sequence[Any] | None = None, trace_state: Any = None,
    ) -> SamplingResult:  # fmt: skip
        self.seen.append(dict(attributes or {}))
        drops = name == "headway.job"
        return SamplingResult(Decision.DROP if drops else Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return "Dropping"


@pytest.mark.parametrize("parent", [trace.INVALID_SPAN, REMOTE])
@pytest.mark.parametrize("provider", [None, trace.NoOpTracerProvider()])
async def test_where_no_spans_are_made_the_callers_context_stays_the_current_one(
    parent: trace.Span, provider: trace.TracerProvider | None, telemetry: Telemetry
) -> None:
    hook = OpenTelemetry(tracer_provider=provider, meter_provider=telemetry.meters)
    scheduler = Scheduler("100/s", on_event=hook)
    with trace.use_span(parent):
        outer = context.get_current()
        assert await scheduler.submit(look, 1) is outer
        assert await scheduler.submit(refuse_once(429), 2) == 2
        async with scheduler.lease():
            assert context.get_current() is outer
        assert context.get_current() is outer
    assert hook._traces == hook._running == {}
    (took,) = telemetry.points("headway.job.duration").values()
    assert took.count == 3


async def test_without_an_sdk_nothing_is_done_for_a_job_until_one_is_set(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*args: object) -> object:
        raise AssertionError("nobody would see it")

    hook = OpenTelemetry()
    scheduler = Scheduler(on_event=hook)
    async with scheduler.lease():  # goes on when there is one, and has no span
        with monkeypatch.context() as patch:
            patch.setattr(state, "finished", made)
            patch.setattr(OpenTelemetry, "begin", made)
            assert await scheduler.submit(look, 1) is context.get_current()
            assert await scheduler.submit(refuse_once(429), 2) == 2
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", telemetry.tracers)
        assert await scheduler.submit(look, 3) is not context.get_current()
    assert [span.name for span in telemetry.spans.get_finished_spans()] == [
        "headway.attempt", "headway.job",
    ]  # fmt: skip
    assert hook._traces == hook._running == {}


async def test_a_hook_is_idle_while_no_provider_does_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hook = OpenTelemetry()
    assert hook.idle()
    assert not OpenTelemetry(meter_provider=MeterProvider()).idle()
    tracers = "opentelemetry.trace._TRACER_PROVIDER"
    meters = "opentelemetry.metrics._internal._METER_PROVIDER"
    for place, provider in ((tracers, TracerProvider()), (meters, MeterProvider())):
        with monkeypatch.context() as patch:
            patch.setattr(place, provider)
            assert not hook.idle()
            patch.delattr(place)  # of another version of the package: there may be one
            assert not hook.idle()
    monkeypatch.setattr(tracers, trace.NoOpTracerProvider())
    monkeypatch.setattr(meters, metrics.NoOpMeterProvider())
    assert hook.idle()


async def test_what_is_inside_a_span_that_a_sampler_drops_is_dropped_with_it(
    telemetry: Telemetry,
) -> None:
    tracers = TracerProvider(sampler=ParentBased(Dropping()))
    tracers.add_span_processor(SimpleSpanProcessor(telemetry.spans))

    async def work(n: int) -> SpanContext:
        with tracers.get_tracer("test").start_as_current_span("inner") as inner:
            return inner.get_span_context()

    hook = OpenTelemetry(tracer_provider=tracers, meter_provider=telemetry.meters)
    scheduler = Scheduler("100/s", on_event=hook)
    inner = await scheduler.submit(work, 1)
    assert inner.is_valid
    assert not inner.trace_flags.sampled
    assert telemetry.spans.get_finished_spans() == ()
    assert not trace.get_current_span().get_span_context().is_valid


async def test_an_attempt_may_be_sampled_whose_job_is_dropped(telemetry: Telemetry) -> None:
    tracers = TracerProvider(sampler=Dropping())
    tracers.add_span_processor(SimpleSpanProcessor(telemetry.spans))
    hook = OpenTelemetry(tracer_provider=tracers, meter_provider=MeterProvider())
    await Scheduler("100/s", on_event=hook).submit(refuse_once(429), 1)
    first, second = telemetry.spans.get_finished_spans()
    assert first.name == second.name == "headway.attempt"
    assert dict(first.attributes or {})["error.type"] == "rate"


async def test_a_sampler_sees_whose_job_it_is_and_how_often_it_was_tried() -> None:
    sampler = Dropping()
    hook = OpenTelemetry(
        tracer_provider=TracerProvider(sampler=sampler), meter_provider=MeterProvider()
    )
    scheduler = Scheduler("100/s", on_event=hook)
    await scheduler.with_options(key="llama").submit(refuse_once(429), 1)
    assert [each.get("headway.job.key") for each in sampler.seen] == ["llama", None, None]
    assert [each.get("http.request.resend_count") for each in sampler.seen] == [None, None, 1]


async def test_nothing_is_said_to_a_span_that_does_not_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(NonRecordingSpan, "set_attributes", lambda span, what: said.append(what))
    hook = OpenTelemetry(
        tracer_provider=TracerProvider(sampler=ParentBased(Dropping())),
        meter_provider=MeterProvider(),
    )
    await Scheduler("100/s", on_event=hook).map(look, range(3))
    assert said == []


async def test_the_attributes_of_a_keys_measurements_are_made_once(telemetry: Telemetry) -> None:
    seen: dict[tuple[str | None, str], set[int]] = {}

    class Seeing:
        def record(self, amount: float, attributes: dict[str, str]) -> None:
            of = attributes.get("headway.job.key"), attributes["headway.job.outcome"]
            seen.setdefault(of, set()).add(id(attributes))

    hook = telemetry.hook()
    hook._duration = hook._waited = Seeing()  # type: ignore[assignment]
    scheduler = Scheduler("100/s", on_event=hook)
    for key in ("a", "b", "a", "b"):
        view = scheduler.with_options(key=key)
        await view.submit(look, 1)
        await view.map(refuse_once(404), range(1), return_exceptions=True)
    assert {of: len(ids) for of, ids in seen.items()} == {
        (key, outcome): 1 for key in ("a", "b") for outcome in ("succeeded", "failed")
    }


__all__ = ["telemetry"]
