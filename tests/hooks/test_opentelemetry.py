"""Spans and metrics, with the real SDK's exporters in memory."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import anyio
import pytest
from hook import Failed, refuse_once
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import StatusCode
from telemetry import Telemetry, id_of, parent_of, telemetry, told

import headway
from headway import (
    AlreadyUsed,
    Cleared,
    Cost,
    DeadlineExceeded,
    InvalidArgument,
    Latched,
    MissingExtra,
    Retry,
    Scheduler,
    sync,
)
from headway.hooks.opentelemetry import OpenTelemetry, observe

pytestmark = pytest.mark.anyio


async def ask(n: int) -> int:
    return n


# Spans


async def test_a_job_is_a_span_with_its_attempts_as_children(telemetry: Telemetry) -> None:
    scheduler = Scheduler("100/s", on_event=telemetry.hook(name="together"))
    tracer = telemetry.tracers.get_tracer("test")
    with tracer.start_as_current_span("request") as request:
        await scheduler.with_options(key="llama", priority=2).submit(refuse_once(429), 1)
        assert trace.get_current_span() is request
    job = telemetry.one("headway.job")
    first, second = telemetry.ended("headway.attempt")
    assert parent_of(job) == request.get_span_context().span_id
    assert parent_of(first) == parent_of(second) == id_of(job)
    assert told(job) == {
        "headway.scheduler.name": "together",
        "headway.job.key": "llama",
        "headway.job.priority": 2,
        "headway.job.attempts": 2,
        "headway.job.outcome": "succeeded",
        "headway.job.waited": pytest.approx(told(job)["headway.job.waited"]),
    }
    assert told(first) == {
        "headway.attempt.number": 1,
        "headway.attempt.tokens_reserved": 0.0,
        "http.response.status_code": 429,
        "error.type": "rate",
    }
    assert told(second) == {
        "headway.attempt.number": 2,
        "headway.attempt.tokens_reserved": 0.0,
        "http.request.resend_count": 1,
    }
    assert [span.status.status_code for span in (job, first, second)] == [
        StatusCode.UNSET, StatusCode.ERROR, StatusCode.UNSET,
    ]  # fmt: skip
    assert job.instrumentation_scope is not None
    assert job.instrumentation_scope.name == "headway"
    assert job.instrumentation_scope.version == headway.__version__


async def test_the_span_of_the_attempt_is_current_while_its_function_runs(
    telemetry: Telemetry,
) -> None:
    tracer = telemetry.tracers.get_tracer("test")

    async def work(n: int) -> None:
        await anyio.sleep(0.1 * n)
        with tracer.start_as_current_span(f"inner {n}"):
            pass

    scheduler = Scheduler("100/s", concurrency=4, on_event=telemetry.hook())
    await scheduler.map(work, range(8))
    async with scheduler.lease():
        await work(8)
    assert trace.get_current_span() is trace.INVALID_SPAN
    attempts = {id_of(span) for span in telemetry.ended("headway.attempt")}
    inner = [s for s in telemetry.spans.get_finished_spans() if s.name.startswith("inner")]
    assert len(inner) == len(attempts) == 9
    assert {parent_of(span) for span in inner} == attempts


async def test_a_job_inside_a_job_is_a_child_of_its_attempt(telemetry: Telemetry) -> None:
    outer = Scheduler("100/s", on_event=telemetry.hook(name="outer"))
    inner = Scheduler("100/s", on_event=telemetry.hook(name="inner"))

    async def work(n: int) -> int:
        return await inner.submit(ask, n)

    await outer.submit(work, 1)
    assert trace.get_current_span() is trace.INVALID_SPAN
    jobs = {told(span)["headway.scheduler.name"]: span for span in telemetry.ended("headway.job")}
    attempts = {parent_of(span): id_of(span) for span in telemetry.ended("headway.attempt")}
    assert parent_of(jobs["inner"]) == attempts[id_of(jobs["outer"])]


async def test_a_failure_says_what_it_was_and_no_secret(telemetry: Telemetry) -> None:
    secret = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
    scheduler = Scheduler("100/s", on_event=telemetry.hook())
    with pytest.raises(Failed):
        await scheduler.submit(refuse_once(404, f"no such model, {secret}"), 1)
    job, attempt = telemetry.one("headway.job"), telemetry.one("headway.attempt")
    assert told(job)["error.type"] == told(attempt)["error.type"] == "permanent"
    assert told(job)["headway.job.outcome"] == "failed"
    assert told(attempt)["http.response.status_code"] == 404
    (event,) = attempt.events
    assert event.name == "exception"
    assert dict(event.attributes or {}) == {
        "exception.type": "hook.Failed", "exception.message": "no such model, ***",
    }  # fmt: skip
    assert job.status.status_code is attempt.status.status_code is StatusCode.ERROR
    assert "no such model" in str(job.status.description)
    assert secret not in job.to_json() + attempt.to_json()


async def test_jobs_that_never_start_and_those_that_are_cancelled_end_too(
    telemetry: Telemetry,
) -> None:
    scheduler = Scheduler(concurrency=1, on_event=telemetry.hook())
    async with anyio.create_task_group() as group:
        group.start_soon(scheduler.submit, anyio.sleep, 9)
        await anyio.sleep(0.1)
        with pytest.raises(DeadlineExceeded):
            await scheduler.with_options(timeout=1).submit(ask, 1)
        group.cancel_scope.cancel()
    late, cancelled = telemetry.ended("headway.job")
    assert (told(late)["error.type"], late.status.status_code) == ("timed_out", StatusCode.ERROR)
    assert told(late)["headway.job.attempts"] == 0
    assert told(cancelled)["error.type"] == "cancelled"
    assert cancelled.status.status_code is StatusCode.UNSET
    assert parent_of(telemetry.one("headway.attempt")) == id_of(cancelled)


async def test_a_job_that_is_latched_in_the_queue_ends(telemetry: Telemetry) -> None:
    scheduler = Scheduler(concurrency=1, on_event=telemetry.hook())

    async def deny(n: int) -> int:
        await anyio.sleep(1)
        raise Failed(401)

    results = await scheduler.map(deny, range(3), return_exceptions=True)
    assert [type(each) for each in results] == [Failed, Latched, Latched]
    spans = telemetry.ended("headway.job")
    kinds = [told(span)["error.type"] for span in spans]
    assert sorted(kinds) == ["auth", *["latched"] * (len(spans) - 1)]
    assert {told(span)["headway.job.outcome"] for span in spans} == {"failed"}


async def test_what_a_job_used_is_told_by_the_names_of_genai(telemetry: Telemetry) -> None:
    scheduler = Scheduler("100/s", tokens="90k/min", on_event=telemetry.hook())
    async with scheduler.with_options(tokens=50).lease() as lease:
        lease.settle(tokens=Cost(input=10, cached=20, output=5))
    used = {k: v for k, v in told(telemetry.one("headway.job")).items() if k.startswith("gen_ai")}
    assert used == {
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.output_tokens": 5,
    }
    assert told(telemetry.one("headway.attempt"))["headway.attempt.tokens_reserved"] == 50


async def test_nothing_is_left_when_all_has_ended(telemetry: Telemetry) -> None:
    hook = telemetry.hook()
    scheduler = Scheduler("1000/s", retry=Retry(base=0.01), on_event=hook)
    await scheduler.map(refuse_once(500), range(20))
    with anyio.move_on_after(0.001):
        await scheduler.map(anyio.sleep, [1] * 20)
    assert hook._traces == hook._running == {}
    assert len(telemetry.ended("headway.job")) >= 20


def test_what_a_loop_leaves_is_ended_with_the_next_one(telemetry: Telemetry) -> None:
    scheduler = Scheduler(concurrency=1, on_event=telemetry.hook())
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(scheduler.submit(asyncio.sleep, 100)) for _ in range(2)]
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    assert asyncio.run(scheduler.submit(ask, 3)) == 3
    outcomes = [told(span)["headway.job.outcome"] for span in telemetry.ended("headway.job")]
    assert outcomes == ["cancelled", "cancelled", "succeeded"]
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()  # type: ignore[union-attr]
    assert len(telemetry.ended("headway.job")) == 3


async def test_a_processor_that_raises_costs_nobody_a_job(
    telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise KeyError("a bug of the processor's")

    telemetry.tracers.add_span_processor(Broken())
    scheduler = Scheduler("100/s", concurrency=2, on_event=telemetry.hook())
    assert await scheduler.map(ask, range(5)) == list(range(5))
    (record,) = caplog.records
    assert record.getMessage() == (
        "the hook OpenTelemetry raised; the job goes on, and this is told once"
    )


def test_threads_of_one_scheduler_have_spans_of_their_own(telemetry: Telemetry) -> None:
    tracer = telemetry.tracers.get_tracer("test")

    def work(n: int) -> int:
        with tracer.start_as_current_span("inner"):
            return n

    with sync.Scheduler("1000/s", concurrency=4, on_event=telemetry.hook()) as scheduler:
        assert [*scheduler.map(work, range(20))] == [*range(20)]
        with scheduler.lease():
            work(20)
    attempts = {id_of(span) for span in telemetry.ended("headway.attempt")}
    assert {parent_of(span) for span in telemetry.ended("inner")} == attempts
    assert len(attempts) == len(telemetry.ended("headway.job")) == 21
    assert telemetry.points("headway.requests")[()].value == 21


# Metrics


async def test_jobs_have_histograms_of_how_long_they_took_and_waited(telemetry: Telemetry) -> None:
    scheduler = Scheduler(concurrency=1, on_event=telemetry.hook(max_keys=1))
    view = scheduler.with_options(key="llama")
    await view.map(anyio.sleep, [2.0, 2.0])
    await scheduler.with_options(key="other").submit(anyio.sleep, 1.0)
    labels = (("headway.job.key", "llama"), ("headway.job.outcome", "succeeded"))
    took, waited = (telemetry.points(f"headway.job.{name}") for name in ("duration", "waited"))
    assert set(took) == {labels, labels[1:]}
    assert took[labels].sum == pytest.approx(4.0, abs=0.1)
    assert waited[labels].count == 2
    assert len(took[labels].explicit_bounds) == 16


async def test_a_key_that_looks_like_a_credential_stands_nowhere(telemetry: Telemetry) -> None:
    first, second = f"sk-{'a' * 20}", f"sk-{'b' * 20}"
    scheduler = Scheduler(on_event=telemetry.hook(max_keys=2))
    for key in (second, first, f"sk-{'c' * 20}"):
        await scheduler.with_options(key=key).submit(ask, 1)
    spans = [told(each)["headway.job.key"] for each in telemetry.ended("headway.job")]
    assert spans == ["***", "*** (2)", "***"]
    named = {
        dict(labels).get("headway.job.key") for labels in telemetry.points("headway.job.duration")
    }
    assert named == {"***", "*** (2)", None}
    named = {dict(labels)["headway.job.key"] for labels in telemetry.points("headway.key.requests")}
    assert named == {"***", "*** (2)"}


async def test_a_histogram_and_the_counter_name_an_outcome_alike(telemetry: Telemetry) -> None:
    scheduler = Scheduler(concurrency=1, on_event=telemetry.hook(max_keys=0))

    async def drop() -> None:
        with pytest.raises(Cleared):
            await scheduler.submit(anyio.sleep, 2)

    with pytest.raises(Failed):
        await scheduler.submit(refuse_once(404), 1)
    with pytest.raises(DeadlineExceeded):
        await scheduler.with_options(timeout=1).submit(anyio.sleep, 2)
    with anyio.move_on_after(1):
        await scheduler.submit(anyio.sleep, 2)
    async with anyio.create_task_group() as group, scheduler.lease():
        group.start_soon(drop)
        await anyio.sleep(1)
        scheduler.clear()
    counted = telemetry.points("headway.jobs")
    took = telemetry.points("headway.job.duration")
    sums: dict[str, int] = {}
    for labels, point in took.items():
        outcome = dict(labels)["headway.job.outcome"]
        sums[outcome] = sums.get(outcome, 0) + point.count
    assert sums == {dict(labels)["headway.job.outcome"]: p.value for labels, p in counted.items()}
    assert sums == {"succeeded": 1, "failed": 1, "timed_out": 1, "cancelled": 2}
    failed = (("error.type", "permanent"), ("headway.job.outcome", "failed"))
    assert took[failed].count == 1


async def test_the_metrics_of_statistics_are_read_when_they_are_collected(
    telemetry: Telemetry,
) -> None:
    scheduler = Scheduler("100/s", concurrency=3, on_event=telemetry.hook())
    await scheduler.submit(refuse_once(429), 1)

    def value(name: str, *labels: tuple[str, str]) -> float:
        found: float = telemetry.points(f"headway.{name}")[labels].value
        return found

    assert value("requests") == 2
    assert value("refusals", ("error.type", "rate")) == 1
    assert value("tokens", ("gen_ai.token.type", "unknown")) == 0
    assert value("concurrency.limit") == 3
    await scheduler.submit(ask, 1)
    assert value("requests") == 3


async def test_observe_takes_one_picture_for_all_metrics(telemetry: Telemetry) -> None:
    class Counted:
        asked = 0

        def __init__(self) -> None:
            self.scheduler = Scheduler("10/s")

        def statistics(self) -> Any:
            self.asked += 1
            return self.scheduler.statistics()

    counted = Counted()
    observe(counted, meter_provider=telemetry.meters)
    for _ in range(3):
        telemetry.reader.get_metrics_data()
    assert counted.asked == 3


async def test_several_schedulers_have_names_and_are_not_kept_alive(telemetry: Telemetry) -> None:
    one, other = Scheduler("10/s"), Scheduler("10/s")
    observe(one, name="one", meter_provider=telemetry.meters)
    observe(other, name="other", meter_provider=telemetry.meters)
    names = "headway.scheduler.name"

    def seen() -> set[str]:
        data = telemetry.reader.get_metrics_data()
        return {
            point.attributes[names]
            for resource in (data.resource_metrics if data else ())
            for metric in resource.scope_metrics[0].metrics
            for point in metric.data.data_points
        }

    assert seen() == {"one", "other"}
    del other
    gc.collect()
    assert seen() == {"one"}
    newer = Scheduler("20/s")
    observe(newer, name="one", meter_provider=telemetry.meters)
    (point,) = telemetry.points("headway.pace").values()
    assert point.value == newer.statistics().pace


async def test_one_scheduler_each(telemetry: Telemetry) -> None:
    hook = telemetry.hook()
    Scheduler(on_event=hook)
    with pytest.raises(AlreadyUsed, match="of another scheduler already"):
        Scheduler(on_event=hook)


async def test_what_cannot_be_meant(telemetry: Telemetry) -> None:
    with pytest.raises(InvalidArgument, match="max_keys"):
        telemetry.hook(max_keys=-1)
    with pytest.raises(InvalidArgument, match="is no name of a scheduler"):
        Scheduler(on_event=telemetry.hook(name=""))
    with pytest.raises(InvalidArgument, match="is no scheduler"):
        observe(3, meter_provider=telemetry.meters)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", None, 3])
async def test_a_name_that_is_none_is_told_where_it_is_given(name: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"is no name of a scheduler. Fix: a text, such as"):
        OpenTelemetry(name=name)


async def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "headway.hooks.opentelemetry")
    with pytest.raises(MissingExtra) as raised:
        __import__("headway.hooks.opentelemetry")
    assert str(raised.value) == (
        "spans and metrics for OpenTelemetry need the package opentelemetry-api, which is not "
        "installed. Fix: install it with: pip install 'headway[opentelemetry]'"
    )


__all__ = ["telemetry"]
