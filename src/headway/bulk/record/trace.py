"""What a run measures of itself: one JSON object a line, written as it goes, read back later.

A session (each start or resume of the run) begins with a line ``{"session": …}``, samples follow,
and ``{"end": …}`` closes it unless it was killed. Nothing here reads a clock: times are arguments,
in unix seconds.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headway._core.counters import Statistics
from headway.bulk.record.measures import End, Histogram, ModelUse, Sample, SessionInfo, bucket, mend
from headway.errors import InvalidLimit
from headway.rates import Rate

__all__ = ["SAMPLES_A_SPAN", "Recorder", "Session", "Trace", "read_trace"]

SAMPLES_A_SPAN = 600
"""A session's span, 1 s at first, doubles each time it has written this many samples more."""

OTHER_MODELS = "(other models)"
"""Where models are counted once there are `_MODELS` different ones in a span."""

_MODELS = 10_000
_OWN = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
_MODELS_A_SAMPLE = 64  # the rest wait for a later sample, so that no sample is a megabyte

# -- writing -----------------------------------------------------------------------------------


class Recorder:
    """Writes a session's measurements to the end of a file.

    It never ends a run: what cannot be written (a full disk) is dropped, and `fault` says so.

    Raises `OSError` when the file cannot be opened.
    """

    fault: OSError | None = None

    def __init__(self, path: Path, session: Mapping[str, object]) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _OWN, 0o600)
        size = os.fstat(self._fd).st_size
        # A killed session may have left half a line.
        self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
        self._token_limit = _lowest_limit(session, "tokens")
        started = session.get("started")
        self._began = self._seen = float(started) if isinstance(started, int | float) else 0.0
        self._length = 1.0
        self._written = 0
        self._base: Statistics | None = None
        self._latest: Statistics | None = None
        self._binds: dict[str, float] = {}
        self._models: dict[str, ModelUse] = {}
        self._clear()
        self._write({"session": session})

    def _clear(self) -> None:
        self._done = self._input = self._output = self._unpriced = self._priced = 0
        self._cost = 0.0
        self._failed: dict[str, int] = defaultdict(int)
        self._wait: dict[int, int] = defaultdict(int)
        self._latency: dict[int, int] = defaultdict(int)
        self._attempts: dict[int, int] = defaultdict(int)
        self._reasons: dict[str, int] = defaultdict(int)

    def row(
        self,
        *,
        model: str | None,
        code: str | None,
        attempts: int,
        waited: float,
        latency: float,
        size: int,
        input_tokens: int | None,
        output_tokens: int | None,
        cost: float | None,
        reasons: Iterable[str] = (),
    ) -> None:
        """Count a row that was written.

        `code` is None for an answer. `waited` is seconds in the queue, `latency` seconds from the
        last attempt's send to its answer, 0 where that is not known; neither counts for a line
        that was never sent (`attempts` 0). `size` is the request's, in bytes of text.
        `cost` is dollars, None for an unknown price. `reasons` are why the answer ended.
        """
        for reason in reasons:
            self._reasons[reason] += 1
        if code is None:
            self._done += 1
        else:
            self._failed[code] += 1
        self._attempts[attempts] += 1
        if attempts:
            self._wait[bucket(waited)] += 1
            if latency > 0:
                self._latency[bucket(latency)] += 1
        use = self._models.get(model or "") or self._model(model or "")
        use.rows += 1
        use.bytes += size
        if input_tokens:
            self._input += input_tokens
            use.input += input_tokens
        if output_tokens:
            self._output += output_tokens
            use.output += output_tokens
        if cost is not None:
            self._priced += 1
            self._cost += cost
            if use.cost is not None:
                use.cost += cost
        elif input_tokens or output_tokens:
            self._unpriced += 1
            use.cost = None

    def _model(self, name: str) -> ModelUse:
        if len(self._models) >= _MODELS:
            name = OTHER_MODELS
        return self._models.setdefault(name, ModelUse())

    def sample(self, now: float, statistics: Statistics) -> None:
        """Look at the scheduler; where the span is over, write what it held.

        Called several times a second. The first call gives what later ones are counted from, so
        it comes before anything is sent; the last one comes right before `end`.
        """
        if self._base is None:
            self._base = statistics
        # A clock that was set back counts for no time.
        passed = max(0.0, now - self._seen)
        self._began = min(self._began, now)
        self._seen = now
        if statistics.binds:
            self._binds[statistics.binds] = self._binds.get(statistics.binds, 0.0) + passed
        self._latest = statistics
        if now - self._began >= self._length:
            self._flush(now)

    def _flush(self, now: float, *, last: bool = False) -> None:
        base, latest = self._base, self._latest
        span = now - self._began
        sample = Sample(
            t=round(now, 3),
            span=round(span, 3),
            done=self._done,
            failed=self._failed,
            token_limit=self._token_limit,
            input=self._input,
            output=self._output,
            cost=None if self._unpriced and not self._priced else round(self._cost, 9),
            binds={what: round(min(s, span), 3) for what, s in self._binds.items() if s > 0},
            wait=self._wait,
            latency=self._latency,
            attempts=self._attempts,
            reasons=self._reasons,
            models=self._take_models(last=last),
        )
        if latest is not None and base is not None:
            sample.sent = max(0, latest.sent - base.sent)
            for kind, count in latest.refused.items():
                if (more := count - base.refused.get(kind, 0)) > 0:
                    sample.refused[str(kind)] = more
            sample.in_flight, sample.queued = latest.in_flight, latest.queued
            sample.limit = latest.pace if math.isfinite(latest.pace) else None
        self._write(sample)
        self._written += 1
        if self._written % SAMPLES_A_SPAN == 0:
            self._length *= 2
        self._began, self._base, self._binds = now, latest, {}
        self._clear()

    def _take_models(self, *, last: bool) -> dict[str, ModelUse]:
        """The models of a sample: all of them, or the largest where there are very many."""
        if last or len(self._models) <= _MODELS_A_SAMPLE:
            taken, self._models = self._models, {}
            return taken
        largest = sorted(self._models, key=lambda name: -self._models[name].rows)
        return {name: self._models.pop(name) for name in largest[:_MODELS_A_SAMPLE]}

    def end(self, now: float, reason: str, said: str) -> None:
        """Write what is left of the span, and why the session ended."""
        self._began = min(self._began, now)
        if now > self._began or self._done or self._failed or self._models:
            self._flush(now, last=True)
        self._write({"end": End(round(now, 3), reason, said)})

    def close(self) -> None:
        """Close the file. Twice is once."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, line: object) -> None:
        try:
            data = msgspec.json.encode(line) + b"\n"
        except UnicodeEncodeError:  # half a character in a model's name
            data = json.dumps(msgspec.to_builtins(line)).encode() + b"\n"
        if self._torn:
            data = b"\n" + data
        try:
            self._torn = os.write(self._fd, data) < len(data)
        except OSError as error:
            self.fault = error


def _lowest_limit(session: Mapping[str, object], which: str) -> float | None:
    """The lowest of the limits, per second."""
    limits = session.get("limits")
    texts = limits.get(which) if isinstance(limits, Mapping) else None
    rates = []
    for text in texts or ():
        try:
            rate = Rate.parse(text)
        except (InvalidLimit, TypeError):
            continue  # only a line in a chart depends on it
        if not rate.is_quota:
            rates.append(rate.limit / rate.per)
    return min(rates, default=None)


# -- reading -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Session:
    """One start or resume of a run. `end` is None where it was killed, or still runs."""

    info: SessionInfo
    samples: list[Sample] = field(default_factory=list)
    end: End | None = None


@dataclass(slots=True)
class Trace:
    """The measurements of a run. `ignored` counts lines that cannot be read (torn ones).

    Of a run with killed sessions, `rows` is how many rows there are, and `unmeasured` how many of
    them those did not come to count.
    """

    sessions: list[Session] = field(default_factory=list)
    models: dict[str, ModelUse] = field(default_factory=dict)
    wait: Histogram = field(default_factory=Histogram)
    latency: Histogram = field(default_factory=Histogram)
    ignored: int = 0
    rows: int = 0
    unmeasured: int = 0

    @property
    def samples(self) -> Iterator[Sample]:
        """The samples of all sessions; those of models are summed in `models` instead."""
        return (sample for session in self.sessions for sample in session.samples)

    def sum(self, name: str) -> float:
        """The sum of a number over all samples; of "cost" as far as prices are known."""
        return sum(getattr(sample, name) or 0 for sample in self.samples)

    def count(self, name: str) -> dict[Any, float]:
        """The sums by key of "failed", "refused", "binds", "attempts" or "reasons"."""
        counts: dict[Any, float] = {}
        for sample in self.samples:
            for key, count in getattr(sample, name).items():
                counts[key] = counts.get(key, 0) + count
        return counts


class _Bound(msgspec.Struct):
    session: SessionInfo | None = None
    end: End | None = None


_decode_bound = msgspec.json.Decoder(_Bound).decode
_decode_sample = msgspec.json.Decoder(Sample).decode


def read_trace(path: Path) -> Trace:
    """What `path` holds, without the lines that cannot be read, as a kill leaves them.

    Raises `OSError` when the file cannot be read.
    """
    trace = Trace()
    with path.open("rb") as file:
        for line in file:
            if line.isspace():
                continue
            try:
                _take(trace, line)
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                try:
                    _take(trace, mend(line))
                except (msgspec.MsgspecError, RecursionError):
                    trace.ignored += 1
    return trace


def _take(trace: Trace, line: bytes) -> None:
    if line.startswith((b'{"session":', b'{"end":')):
        bound = _decode_bound(line)
        if bound.session is not None:
            trace.sessions.append(Session(bound.session))
        elif bound.end is not None and trace.sessions:
            trace.sessions[-1].end = bound.end
        return
    sample = _decode_sample(line)
    if not (0 <= sample.span < 1e9 and 0 <= sample.t < 1e11):
        trace.ignored += 1
        return
    if not trace.sessions:
        trace.sessions.append(Session(SessionInfo(started=sample.t - sample.span)))
    trace.sessions[-1].samples.append(sample)
    trace.wait.add(sample.wait)
    trace.latency.add(sample.latency)
    for name, use in sample.models.items():
        trace.models.setdefault(name, ModelUse()).add(use)
    sample.models = {}
