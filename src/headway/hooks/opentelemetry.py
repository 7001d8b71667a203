"""OpenTelemetry: a span for each job with its attempts as children, and the scheduler's metrics.

    scheduler = Scheduler("600/min", on_event=OpenTelemetry())

The span of an attempt is the current one while its function runs, so what an instrumentation of an
SDK or of an HTTP library makes is its child. Names are those of the semantic conventions where they
have one, and begin with ``headway.`` where they have none. `observe` alone gives the metrics that
are read of `statistics()`, which cost a job nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from weakref import WeakKeyDictionary, WeakValueDictionary

from headway._core.queue.job import Job
from headway.errors import AlreadyUsed, MissingExtra
from headway.events import Ended, Event, Finished, Retrying
from headway.hints import Refusal
from headway.hooks.around import HasStatistics, Hook
from headway.hooks.figures import (
    FIGURES,
    Figure,
    Keys,
    Measurement,
    Schedulers,
    check_name,
    version,
)
from headway.hooks.log import cleaned
from headway.kinds import Kind
from headway.kinds._words import redacted
from headway.rates import Cost

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.metrics import (
        CallbackOptions,
        Meter,
        MeterProvider,
        NoOpMeterProvider,
        Observation,
    )
    from opentelemetry.trace import NoOpTracerProvider, Span, StatusCode, TracerProvider
except ImportError as error:
    raise MissingExtra(
        "spans and metrics for OpenTelemetry need the package opentelemetry-api, which is not "
        "installed",
        fix="install it with: pip install 'headway[opentelemetry]'",
    ) from error

__all__ = ["OpenTelemetry", "observe"]

_ATTRIBUTES = {
    "scheduler": "headway.scheduler.name",
    "key": "headway.job.key",
    "outcome": "headway.job.outcome",
    "kind": "error.type",
    "type": "gen_ai.token.type",
    "limit": "headway.limit.name",
    "period": "headway.limit.period",
    "window": "headway.limit.window",
}  # of the labels of figures

# Seconds: a job waits for minutes where a limit is tight, and answers are quick where it is not.
_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

_OK = Ended.OK  # an enum takes its time to find a member

_OUTCOMES: Mapping[Ended | Kind, str] = MappingProxyType(
    {
        Ended.OK: "succeeded",
        Ended.CANCELLED: "cancelled",
        Ended.CLEARED: "cancelled",
        Ended.TIMED_OUT: "timed_out",
    }
)  # all others failed


def observe(
    scheduler: HasStatistics,
    *,
    name: str = "default",
    max_keys: int = 100,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Have the metrics of `scheduler`, async or sync, read whenever somebody collects them.

    They carry its `name` as ``headway.scheduler.name``; of two schedulers of one name the later is
    observed. The first `max_keys` keys that are seen have metrics of their own too. The global
    meter provider is used where `meter_provider` names none. This keeps no scheduler alive.

    Raises `InvalidArgument` for what is no scheduler, name or number.
    """
    _instruments(meter_provider).schedulers.put(name, scheduler, max_keys)


class OpenTelemetry(Hook):
    """Spans of jobs and attempts, and metrics, of the scheduler that has it as ``on_event=``.

    A job is a span ``headway.job``, from its place in the queue to its end, with a child
    ``headway.attempt`` for each attempt, and one inside that for each further send of a transport's
    (an SDK's own retry, a redirect, a second request of a function). How long jobs take and wait is
    a histogram each. What `observe` does is done too, under `name`, with `max_keys`. The providers
    are the global ones by default. Each scheduler has one of its own.

    Raises `InvalidArgument` for a name or number that is none.
    """

    wants = frozenset({Retrying, Finished})

    def __init__(
        self,
        *,
        name: str = "default",
        max_keys: int = 100,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        check_name(name)
        self._name = name
        self._keys = Keys(max_keys)
        self._max_keys = max_keys
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._tracer = trace.get_tracer("headway", version(), tracer_provider)
        meter = metrics.get_meter("headway", version(), meter_provider)
        self._duration = meter.create_histogram(
            "headway.job.duration", "s", "How long jobs took, from the queue to their end.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )  # fmt: skip
        self._waited = meter.create_histogram(
            "headway.job.waited", "s", "How long jobs waited for permits and backoff in all.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )  # fmt: skip
        self._attached = False
        self._labels: dict[tuple[Hashable, Ended | Kind], dict[str, str]] = {}  # of known keys
        self._traces: dict[int, _Trace] = {}  # of jobs that have not ended, by number
        self._running: dict[int, _Current] = {}  # what is current while their functions run

    def idle(self) -> bool:
        """Whether no spans are made and nothing is measured: no SDK is set, as yet."""
        return _makes_no_spans(self._tracer_provider) and _measures_nothing(self._meter_provider)

    def attach(self, scheduler: HasStatistics) -> None:
        """Read the metrics of `scheduler`. Raises `AlreadyUsed` for a second one."""
        if self._attached:
            raise AlreadyUsed(
                "this OpenTelemetry() is of another scheduler already",
                fix='one for each, with a name: on_event=OpenTelemetry(name="together").',
            )
        schedulers = _instruments(self._meter_provider).schedulers
        self._keys = schedulers.put(self._name, scheduler, self._max_keys)
        self._attached = True

    def begin(self, job: Job) -> None:
        """Begin the span of `job`, a child of the one that is current where it is called."""
        if job.number in self._traces:
            return
        if _makes_no_spans(self._tracer_provider):
            self._traces[job.number] = _Trace(job, None, recording=False)
            return
        attributes: dict[str, str | float] = {
            "headway.scheduler.name": self._name,
            "headway.job.priority": job.priority,
        }
        key = job.flow.key
        if key is not None:
            attributes["headway.job.key"] = self._keys.name_of(str(key)) or _cleaned(str(key))
        span = self._tracer.start_span("headway.job", attributes=attributes)
        recording = span.is_recording()
        made = recording or (span is not trace.INVALID_SPAN and _is_new(span))
        self._traces[job.number] = _Trace(job, span if made else None, recording)

    def enter(self, job: Job) -> None:
        """Begin the span of an attempt, which is the current one until `leave`."""
        mine = self._traces[job.number]
        if mine.span is None:
            return
        attributes: dict[str, float] = {
            "headway.attempt.number": job.attempts,
            "headway.attempt.tokens_reserved": float(job.cost),
        }
        if job.attempts > 1:
            attributes["http.request.resend_count"] = job.attempts - 1
        outer = context.get_current()
        mine.attempt = span = self._tracer.start_span(
            "headway.attempt",
            context=trace.set_span_in_context(mine.span, outer),
            attributes=attributes,
        )
        self._make_current(job, span, outer)

    def send(self, job: Job, number: int) -> None:
        """Begin the span of a further send, a child of what is current inside its attempt."""
        if _makes_no_spans(self._tracer_provider):
            return
        outer = context.get_current()
        span = self._tracer.start_span(
            "headway.attempt",
            attributes={
                "headway.attempt.send": number,
                "headway.attempt.tokens_reserved": float(job.cost),
            },
        )
        if not (span.is_recording() or (span is not trace.INVALID_SPAN and _is_new(span))):
            return
        self._traces[job.number] = _Trace(job, None, recording=False, attempt=span, is_send=True)
        self._make_current(job, span, outer)

    def _make_current(self, job: Job, span: Span, outer: context.Context) -> None:
        running = self._running[job.number] = _Current(outer, _RUNNING.get())
        _RUNNING.set(running)
        context.attach(trace.set_span_in_context(span, outer))

    def leave(self, job: Job) -> None:
        """Make current again what was, unless a garbage collector is here in another context."""
        running = self._running.pop(job.number, None)
        if running is not None and _RUNNING.get() is running:
            _RUNNING.set(running.before)
            context.attach(running.outer)

    def failed(self, job: Job, refusal: Refusal) -> None:
        """Say in the attempt's span what `refusal` says."""
        mine = self._traces.get(job.number)
        if mine is None or mine.attempt is None:
            return
        span, error = mine.attempt, job.last_error
        mine.refusal = refusal
        if refusal.status is not None:
            span.set_attribute("http.response.status_code", refusal.status)
        if refusal.wait is not None:
            span.set_attribute("headway.attempt.retry_after", refusal.wait)
        if error is not None:
            kind = type(error)
            span.add_event(
                "exception",
                {
                    "exception.type": f"{kind.__module__}.{kind.__qualname__}",
                    "exception.message": redacted(str(error)),
                },
            )

    def forget(self) -> None:
        """End what is open: nobody else will."""
        for mine in self._traces.values():
            mine.end(Ended.CANCELLED)
        self._traces.clear()
        self._running.clear()

    def __call__(self, event: Event) -> None:
        """End the spans of what `event` says has ended."""
        if isinstance(event, Finished):
            mine = self._traces.pop(event.job, None)
            if mine is not None:
                mine.end(event.outcome, event.tokens)
                if not mine.is_send:
                    self._measure(mine.job, event)
        elif isinstance(event, Retrying):
            mine = self._traces.get(event.job)
            if mine is not None:
                mine.end_attempt(event.kind)

    def _measure(self, job: Job, event: Finished) -> None:
        labels = self._labels.get((event.key, event.outcome))
        if labels is None:
            labels = {"headway.scheduler.name": self._name, **_ended_by(event.outcome)}
            if (name := self._keys.name_of(str(event.key))) is not None:
                labels["headway.job.key"] = name
                self._labels[event.key, event.outcome] = labels
        took = event.at - job.submitted_at
        self._duration.record(took if took > 0 else 0.0, labels)
        self._waited.record(job.waited, labels)


def _makes_no_spans(provider: TracerProvider | None) -> bool:
    """Whether `provider` makes no spans; of None whether the global one makes none yet."""
    # `get_tracer_provider` says so too, and looks at the environment each time: microseconds a job.
    made_by = getattr(trace, "_TRACER_PROVIDER", _UNKNOWN) if provider is None else provider
    return made_by is None or isinstance(made_by, NoOpTracerProvider)


def _measures_nothing(provider: MeterProvider | None) -> bool:
    """Whether `provider` keeps no measurements; of None whether the global one keeps none yet."""
    kept_by = getattr(_metrics, "_METER_PROVIDER", _UNKNOWN) if provider is None else provider
    return kept_by is None or isinstance(kept_by, NoOpMeterProvider)


_metrics: object = getattr(metrics, "_internal", None)
_UNKNOWN = object()  # where it cannot be seen cheaply whether a provider is set: it may be

_cleaned = lru_cache(1_000)(cleaned)  # of the keys that have no metrics of their own


def _is_new(span: Span) -> bool:
    """Whether a tracer has begun `span`, and does not go on with the one that is current."""
    return span.get_span_context() is not trace.get_current_span().get_span_context()


@dataclass(slots=True, eq=False)
class _Current:
    """While the function of a job runs: what was current before."""

    outer: context.Context
    before: _Current | None


_RUNNING: ContextVar[_Current | None] = ContextVar("headway_running", default=None)


@dataclass(slots=True)
class _Trace:
    """The open spans of a job, None where its tracer makes none; of a further send inside an
    attempt there is that of an attempt alone.
    """

    job: Job
    span: Span | None
    recording: bool  # whether somebody will see the attributes of `span`
    attempt: Span | None = None
    refusal: Refusal | None = None  # of the attempt
    is_send: bool = False  # a further send

    def end_attempt(self, outcome: Ended | Kind) -> None:
        """Its attempt, where there is one, has ended with `outcome`, and will be followed."""
        if self.attempt is not None:
            _end(self.attempt, outcome, self.refusal)
            self.attempt = self.refusal = None

    def end(self, outcome: Ended | Kind, tokens: float = 0.0) -> None:
        """It has ended with `outcome`, and used so many tokens."""
        job, refusal = self.job, self.refusal
        if self.attempt is not None:
            if self.is_send:
                self.attempt.set_attributes(_usage(tokens))
            _end(self.attempt, outcome, refusal)
        if self.span is None:
            return
        if self.recording:
            self.span.set_attributes(
                {
                    "headway.job.attempts": job.attempts,
                    "headway.job.waited": job.waited,
                    **_ended_by(outcome),
                    **_usage(tokens),
                }
            )
        _end(self.span, outcome, refusal)


def _ended_by(outcome: Ended | Kind) -> dict[str, str]:
    """How a job ended, in the word that `statistics()` counts it by; and by what it failed."""
    said = {"headway.job.outcome": _OUTCOMES.get(outcome, "failed")}
    return said if outcome is _OK else {**said, "error.type": outcome.value}


def _end(span: Span, outcome: Ended | Kind, refusal: Refusal | None) -> None:
    if outcome is not _OK:
        span.set_attribute("error.type", outcome.value)
        if outcome not in (Ended.CANCELLED, Ended.CLEARED):  # the user's own wish
            span.set_status(StatusCode.ERROR, redacted(refusal.message) if refusal else None)
    span.end()


def _usage(tokens: float) -> dict[str, int]:
    """The attributes of what a job used, as far as that is known by class."""
    if not isinstance(tokens, Cost):
        return {}
    return {
        "gen_ai.usage.input_tokens": int(tokens.input + tokens.cached),
        "gen_ai.usage.cache_read.input_tokens": int(tokens.cached),
        "gen_ai.usage.output_tokens": int(tokens.output),
    }


class _Instruments:
    """The instruments of one meter, shared by all schedulers: an SDK keeps one of a name."""

    def __init__(self, meter: Meter) -> None:
        self.schedulers = Schedulers(WeakValueDictionary())
        self._lock = threading.Lock()
        self._measurements: list[Measurement] = []
        self._unasked: set[str] = set()  # the figures that have not seen those measurements
        for figure in FIGURES:
            make = (
                meter.create_observable_counter if figure.counts else meter.create_observable_gauge
            )
            make(
                f"headway.{figure.name}",
                callbacks=[self._reads(figure)],
                unit=figure.unit,
                description=figure.about,
            )

    def _reads(self, figure: Figure) -> Callable[[CallbackOptions], Iterable[Observation]]:
        names = [_ATTRIBUTES[label] for label in figure.labels]

        def read(options: CallbackOptions) -> Iterable[Observation]:
            found = figure.samples(self._latest(figure.name))
            return [
                Observation(value, dict(zip(names, labels, strict=True)))
                for labels, value in found.items()
            ]

        return read

    def _latest(self, name: str) -> list[Measurement]:
        """Readings that the figure of `name` has not seen: the SDK asks one figure after another,
        and a picture of the scheduler is taken once for all of them.
        """
        with self._lock:
            if name not in self._unasked:
                self._measurements = self.schedulers.read()
                self._unasked = {figure.name for figure in FIGURES}
            self._unasked.discard(name)
            return self._measurements


_OF_PROVIDER: WeakKeyDictionary[MeterProvider, _Instruments] = WeakKeyDictionary()
_LOCK = threading.Lock()


def _instruments(meter_provider: MeterProvider | None) -> _Instruments:
    """Those of `meter_provider`. Before the application has set the global one, it is a proxy."""
    provider = meter_provider or metrics.get_meter_provider()
    with _LOCK:
        if provider not in _OF_PROVIDER:
            meter = metrics.get_meter("headway", version(), meter_provider)
            _OF_PROVIDER[provider] = _Instruments(meter)
        return _OF_PROVIDER[provider]
