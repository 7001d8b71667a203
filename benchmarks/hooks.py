"""What a hook costs a job in CPU time, beside the same job without one: no-op jobs.

What reads `statistics()` when it is asked is asked beside the jobs: a second table says what that
takes, with a hundred keys. Spans are kept by the SDK's own batch processor, and dropped where they
would be exported. "The SDK by hand" is a job without a hook that makes the same spans and
measurements itself: what OpenTelemetry() takes beyond it is headway's part. What is printed is the
median over the rounds, the least, and what the least is above that of no hook: it is what the
machine disturbs least.

    python benchmarks/hooks.py [--jobs 20000] [--rounds 7] [--concurrency 100]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, TypeAlias

import structlog
from _table import environment, table, targets
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from overhead import Job, measure, noop
from prometheus_client import CollectorRegistry, generate_latest

from headway import Scheduler
from headway.events import Event, Finished
from headway.hooks.opentelemetry import OpenTelemetry, observe
from headway.hooks.prometheus import SchedulerCollector
from headway.hooks.structlog import StructLog

MOST = 2.0  # microseconds a job: issue 12
FREE = ("Prometheus' collector", "OpenTelemetry's observe()", "StructLog")
HELD = (
    *FREE,
    "OpenTelemetry(), no SDK",
    "a sink that does nothing, of ends alone",
    "a sink that does nothing",
)

Made: TypeAlias = tuple[Scheduler, Callable[[], object], Job]
"""A scheduler with its hook, what asks or ends that, and the job."""


class Dropping(SpanExporter):
    """Exports nothing."""

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def without(concurrency: int) -> Made:
    return Scheduler(concurrency=concurrency), lambda: None, noop


def collected(concurrency: int) -> Made:
    scheduler = Scheduler(concurrency=concurrency)
    registry = CollectorRegistry()
    registry.register(SchedulerCollector(scheduler))
    return scheduler, lambda: generate_latest(registry), noop


def observed(concurrency: int) -> Made:
    scheduler = Scheduler(concurrency=concurrency)
    reader = InMemoryMetricReader()
    observe(scheduler, meter_provider=MeterProvider([reader]))
    return scheduler, reader.get_metrics_data, noop


def logged(concurrency: int) -> Made:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    return Scheduler(concurrency=concurrency, on_event=StructLog()), lambda: None, noop


def listened(concurrency: int) -> Made:
    return Scheduler(concurrency=concurrency, on_event=lambda event: None), lambda: None, noop


class Ends:
    """Is told of the ends of jobs, and does nothing."""

    wants = frozenset({Finished})

    def __call__(self, event: Event) -> None:
        """Do nothing."""


def ended(concurrency: int) -> Made:
    return Scheduler(concurrency=concurrency, on_event=Ends()), lambda: None, noop


def unsampled(concurrency: int) -> Made:
    return Scheduler(concurrency=concurrency, on_event=OpenTelemetry()), lambda: None, noop


def providers() -> tuple[TracerProvider, MeterProvider]:
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(Dropping(), max_queue_size=100_000))
    return tracers, MeterProvider([InMemoryMetricReader()])


def by_hand(concurrency: int) -> Made:
    tracers, meters = providers()
    tracer, meter = tracers.get_tracer("benchmark"), meters.get_meter("benchmark")
    duration = meter.create_histogram("headway.job.duration", "s")
    waited = meter.create_histogram("headway.job.waited", "s")
    labels = {
        "headway.scheduler.name": "default",
        "headway.job.outcome": "succeeded",
        "headway.job.key": "None",
    }

    async def job(x: int) -> int:
        of_job = {"headway.scheduler.name": "default", "headway.job.priority": 0}
        of_attempt = {"headway.attempt.number": 1, "headway.attempt.tokens_reserved": 0.0}
        with tracer.start_as_current_span("headway.job", attributes=of_job) as span:
            with tracer.start_as_current_span("headway.attempt", attributes=of_attempt):
                pass
            span.set_attributes(
                {
                    "headway.job.attempts": 1,
                    "headway.job.waited": 0.0,
                    "headway.job.outcome": "succeeded",
                }
            )
        duration.record(0.0, labels)
        waited.record(0.0, labels)
        return x

    return Scheduler(concurrency=concurrency), tracers.shutdown, job


def traced(concurrency: int) -> Made:
    tracers, meters = providers()
    hook = OpenTelemetry(tracer_provider=tracers, meter_provider=meters)
    return Scheduler(concurrency=concurrency, on_event=hook), tracers.shutdown, noop


CONTENDERS: dict[str, Callable[[int], Made]] = {
    "no hook": without,
    "Prometheus' collector": collected,
    "OpenTelemetry's observe()": observed,
    "StructLog": logged,
    "a sink that does nothing": listened,
    "a sink that does nothing, of ends alone": ended,
    "OpenTelemetry(), no SDK": unsampled,
    "the SDK by hand: two spans, two histograms": by_hand,
    "OpenTelemetry(), the SDK's spans and histograms": traced,
}


ASKED = {name: CONTENDERS[name] for name in FREE[:2]}


def cost(make: Callable[[int], Made], jobs: int, concurrency: int) -> float:
    """Microseconds of CPU a job, with what ends the hook where it does something for each."""
    scheduler, end, job = make(concurrency)

    async def run(job: Job, items: range, concurrency: int) -> int:
        done = len(await scheduler.map(job, items))
        if make not in ASKED.values():
            end()
        return done

    return measure(run, job, jobs, concurrency)


def asking(make: Callable[[int], Made], times: int = 5) -> float:
    """Milliseconds of CPU to ask once for the metrics of a scheduler with a hundred keys."""
    scheduler, ask, _ = make(10)

    async def use() -> None:
        for key in range(100):
            await scheduler.with_options(key=key).submit(noop, 1)

    asyncio.run(use())
    ask()
    began = time.process_time()
    for _ in range(times):
        ask()
    return (time.process_time() - began) / times * 1e3


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--no-check", action="store_true", help="print, and hold to no target")
    options = parser.parse_args(arguments)

    print(environment("headway", "opentelemetry-sdk", "prometheus-client", "structlog"))
    print(f"{options.jobs:,} jobs, {options.rounds} rounds, concurrency {options.concurrency}\n")
    spent: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(options.rounds + 1):
        for name, make in CONTENDERS.items():
            found = cost(make, max(1, options.jobs if number else options.jobs // 10),
                         options.concurrency)  # fmt: skip
            if number:  # the first round does not count
                spent[name].append(found)
    least = {name: min(costs) for name, costs in spent.items()}
    beside = {name: one - least["no hook"] for name, one in least.items()}
    rows = [
        [name, f"{median(costs):.2f}", f"{least[name]:.2f}", f"{beside[name]:.2f}"]
        for name, costs in spent.items()
    ]
    headers = ["CPU of a no-op job", "median µs", "least µs", "of the hook"]
    print(table("A hook", headers, rows))
    asked = [[name, f"{asking(make):.1f}"] for name, make in ASKED.items()]
    print(table("To ask once", ["CPU, with 100 keys", "ms"], asked))
    text, met = targets([(f"µs a job of {name}", beside[name], MOST) for name in HELD])
    print(text)
    return 0 if met or options.no_check else 1


if __name__ == "__main__":
    sys.exit(main())
