"""The time axis of the report: a run's samples in columns, the time between sessions cut out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timezone

from headway.bulk.record.measures import Histogram, Sample
from headway.bulk.record.trace import Session

__all__ = ["WIDTH", "Axis", "Bin", "make_axis"]

WIDTH = 4000  # of every drawing, in its own units; its height is 1000
MAX_BINS = 400
_MAX_SEGMENTS = 60
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
          172800, 604800)  # fmt: skip
_TICKS = 8
_SHORTEST = 1e-6  # seconds of a sample that has a place on the axis


@dataclass(slots=True)
class Bin:
    """The measurements of one column: `left` to `right` in units of `WIDTH`, `span` seconds."""

    left: float
    right: float
    at: float  # unix seconds of its beginning
    span: float
    counts: dict[str, float] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)
    binds: dict[str, float] = field(default_factory=dict)
    wait: Histogram = field(default_factory=Histogram)
    latency: Histogram = field(default_factory=Histogram)
    weights: dict[str, float] = field(default_factory=dict)
    means: dict[str, float] = field(default_factory=dict)

    def add(self, sample: Sample, seconds: float) -> None:
        """Count the part of `sample` that lies in here: `seconds` of its span."""
        share = seconds / sample.span
        for name in ("sent", "done", "input", "output", "cost"):
            self.counts[name] = self.counts.get(name, 0) + (getattr(sample, name) or 0) * share
        for mine, theirs in ((self.refused, sample.refused), (self.binds, sample.binds)):
            for key, count in theirs.items():
                mine[key] = mine.get(key, 0) + count * share
        self.wait.add(sample.wait, share)
        self.latency.add(sample.latency, share)
        for name in ("limit", "token_limit", "in_flight", "queued"):
            if (value := getattr(sample, name)) is not None:
                weight = self.weights.get(name, 0) + seconds
                mean = self.means.get(name, 0.0)
                self.means[name] = mean + (value - mean) * seconds / weight
                self.weights[name] = weight

    def rate(self, name: str) -> float:
        """A count per second."""
        return self.counts.get(name, 0) / self.span


@dataclass(slots=True)
class Axis:
    """The time axis: columns from left to right, the time between two sessions cut out of it.

    `ticks` are places (in units of `WIDTH`) and their texts, `gaps` the cuts: from, to, seconds.
    """

    bins: list[Bin] = field(default_factory=list)
    ticks: list[tuple[float, str]] = field(default_factory=list)
    gaps: list[tuple[float, float, float]] = field(default_factory=list)
    zone: timezone = UTC

    def clock(self, at: float, *, seconds: bool = True, date: bool = True) -> str:
        """A time of day, with the date."""
        form = ("%d %b " if date else "") + ("%H:%M:%S" if seconds else "%H:%M")
        try:
            return datetime.fromtimestamp(at, self.zone).strftime(form)
        except (ValueError, OverflowError, OSError):
            return "?"


@dataclass(slots=True)
class _Segment:
    samples: list[Sample]
    start: float
    length: float


def make_axis(sessions: Sequence[Session], zone: timezone) -> Axis:
    """The samples of `sessions` in at most some 400 columns of equal time."""
    segments = _segments(sessions)
    axis = Axis(zone=zone)
    total = sum(segment.length for segment in segments)
    if not total:
        return axis
    gap = min(50.0, WIDTH * 0.2 / len(segments))
    scale = (WIDTH - gap * (len(segments) - 1)) / total
    left, before = 0.0, None
    step = _step(total)
    for segment in segments:
        if before is not None:
            idle = max(0.0, segment.start - before)
            axis.gaps.append((left, left + gap, idle))
            left += gap
        right = left + segment.length * scale
        wanted = math.ceil(MAX_BINS * segment.length / total)
        count = max(1, min(wanted, len(segment.samples)))
        axis.bins += _columns(segment, count, left, scale)
        _add_ticks(axis, segment, left, scale, step, total)
        left, before = right, segment.start + segment.length
    return axis


def _segments(sessions: Sequence[Session]) -> list[_Segment]:
    """A stretch of the axis for each session; for groups of them where there are very many."""
    parts = [[s for s in session.samples if s.span >= _SHORTEST] for session in sessions]
    parts = [samples for samples in parts if samples]
    size = math.ceil(len(parts) / _MAX_SEGMENTS) or 1
    segments = []
    for i in range(0, len(parts), size):
        samples = [sample for part in parts[i : i + size] for sample in part]
        start = samples[0].t - samples[0].span
        segments.append(_Segment(samples, start, sum(sample.span for sample in samples)))
    return segments


def _columns(segment: _Segment, count: int, left: float, scale: float) -> list[Bin]:
    width = segment.length / count
    bins = [
        Bin(
            left + i * width * scale,
            left + (i + 1) * width * scale,
            segment.start + i * width,
            width,
        )
        for i in range(count)
    ]
    position = 0.0
    for sample in segment.samples:
        end = position + sample.span
        first = min(count - 1, int(position / width))
        last = min(count - 1, int(end / width))
        for i in range(first, last + 1):
            low = max(position, i * width)
            high = end if i == count - 1 else min(end, (i + 1) * width)
            if high > low:
                bins[i].add(sample, high - low)
        position = end
    return bins


def _step(total: float) -> int:
    weeks = math.ceil(total / _TICKS / _STEPS[-1])
    return next((step for step in _STEPS if total / step <= _TICKS), weeks * _STEPS[-1])


def _add_ticks(
    axis: Axis, segment: _Segment, left: float, scale: float, step: int, total: float
) -> None:
    offset = 0.0
    if delta := axis.zone.utcoffset(None):
        offset = delta.total_seconds()
    # By the clock of the wall, so that ticks are at full hours of it.
    at = math.ceil((segment.start + offset) / step) * step - offset
    while at <= segment.start + segment.length:
        x = left + (at - segment.start) * scale
        if not axis.ticks or x - axis.ticks[-1][0] > WIDTH / 12:
            today = axis.clock(at, date=True)[:6]
            midnight = (at + offset) % 86400 == 0
            if total > 86400 and (midnight or step >= 86400):
                text = today
            else:
                text = axis.clock(at, seconds=step < 60, date=False)
            axis.ticks.append((x, text))
        at += step
