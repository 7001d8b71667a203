"""The figures of a scheduler as metrics: one table of their names, for all exporters.

A name has dots, as OpenTelemetry writes it; a unit is UCUM's. Prometheus' name follows from both.
Everything is read from `statistics()` when somebody asks, so it costs a job nothing.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, TypeAlias

from headway._core.counters import KeyStatistics, LimitStatistics, Statistics
from headway.errors import InvalidArgument
from headway.hooks.around import HasStatistics
from headway.hooks.log import cleaned
from headway.kinds import Binds, Kind
from headway.kinds._words import shown, unlike

__all__ = ["FIGURES", "Figure", "Keys", "Measurement", "Schedulers", "check_name", "version"]

logger = logging.getLogger("headway")

Labels: TypeAlias = tuple[str, ...]
Sample: TypeAlias = tuple[Labels, float]
"""The values of labels, in their order, and what is measured there."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric. It `counts` where it only ever grows, else it goes up and down.

    Its samples are told apart by `labels`: the scheduler, the key for one `of_keys`, and what
    `read`, which is given the statistics of either, says beside them.
    """

    name: str
    unit: str
    about: str
    read: Callable[[Any], Iterable[Sample]]
    labels: Labels = ("scheduler",)
    counts: bool = False
    of_keys: bool = False

    def samples(self, measurements: Iterable[Measurement]) -> Mapping[Labels, float]:
        """What `measurements` say of it, by the values of its labels. What is infinite (no limit,
        no known end) is left out.
        """
        found: dict[Labels, float] = {}
        for measurement in measurements:
            parts: list[tuple[Labels, Statistics | KeyStatistics]] = (
                [((measurement.name, key), of) for key, of in measurement.keys.items()]
                if self.of_keys
                else [((measurement.name,), measurement.statistics)]
            )
            for whose, statistics in parts:
                for labels, value in self.read(statistics):
                    if math.isfinite(value):
                        found[*whose, *labels] = value
        return found


def _field(name: str) -> Callable[[Any], list[Sample]]:
    return lambda statistics: [((), getattr(statistics, name))]


def _jobs(of: Statistics | KeyStatistics) -> list[Sample]:
    ended = {
        "succeeded": of.succeeded,
        "failed": of.failed,
        "cancelled": of.cancelled,
        "timed_out": of.timed_out,
    }
    return [((outcome,), count) for outcome, count in ended.items()]


def _refusals(of: Statistics | KeyStatistics) -> list[Sample]:
    # All kinds from the start: the first refusal is a change from 0 then, and not a new series.
    return [((kind.value,), of.refused.get(kind, 0)) for kind in Kind]


def _tokens(of: Statistics | KeyStatistics) -> list[Sample]:
    known = {
        "input": of.input_tokens,
        "cached_input": of.cached_tokens,
        "output": of.output_tokens,
    }
    rest = max(0.0, of.tokens - sum(known.values()))
    return [((kind,), count) for kind, count in {**known, "unknown": rest}.items()]


def _limits(
    value: Callable[[LimitStatistics], float | None],
) -> Callable[[Statistics], list[Sample]]:
    def read(statistics: Statistics) -> list[Sample]:
        return [
            ((limit.what, f"{limit.per:g}", f"{limit.window:g}"), found)
            for limit in statistics.limits
            if (found := value(limit)) is not None
        ]

    return read


def _binding(statistics: Statistics) -> list[Sample]:
    return [((each.value or "nothing",), float(statistics.binds == each)) for each in Binds]


def _shared(name: str) -> Callable[[Statistics], list[Sample]]:
    def read(statistics: Statistics) -> list[Sample]:
        shared = statistics.shared
        return [] if shared is None else [((), getattr(shared, name) or 0.0)]

    return read


_OF_LIMIT = ("scheduler", "limit", "period", "window")

_COMMON = (
    Figure("requests", "{request}", "Attempts sent.", _field("sent"), counts=True),
    Figure("jobs", "{job}", "Jobs that ended, by how.", _jobs, ("scheduler", "outcome"),
           counts=True),
    Figure("retries", "{request}", "Attempts beyond a job's first.", _field("retried"),
           counts=True),
    Figure(
        "refusals", "{request}", "Attempts that were refused or failed, by kind.", _refusals,
        ("scheduler", "kind"), counts=True,
    ),
    Figure(
        "tokens", "{token}", "Tokens that were used, as far as known, by what they were.", _tokens,
        ("scheduler", "type"), counts=True,
    ),
    Figure("queued", "{job}", "Jobs that wait for a permit.", _field("queued")),
    Figure("in_flight", "{request}", "Attempts in flight.", _field("in_flight")),
    Figure(
        "concurrency.limit", "{request}", "The most attempts in flight that are let go now; "
        "absent where there is no limit.", _field("capacity"),
    ),
    Figure(
        "pace", "{request}/s", "Attempts a second that are let go now; absent where there is no "
        "limit.", _field("pace"),
    ),
)  # fmt: skip

FIGURES = (
    *_COMMON,
    Figure("delayed", "{job}", "Queued jobs that wait for their backoff.", _field("delayed")),
    Figure("binding", "", "1 for what holds the next job back, else 0.", _binding,
           ("scheduler", "limit")),
    Figure(
        "next_start", "s", "Time until what binds lets the next job start; absent where that waits "
        "for something else to end.", _field("seconds"),
    ),
    Figure("limit.stated", "", "Limits as stated: in a period, and enforced over a window, of so "
           "many seconds.",
           _limits(lambda limit: limit.limit), _OF_LIMIT),
    Figure("limit.used", "", "What the window of a limit holds now.",
           _limits(lambda limit: limit.used), _OF_LIMIT),
    Figure("limit.factor", "1", "The share of a stated limit that is in force.",
           _limits(lambda limit: limit.factor), _OF_LIMIT),
    Figure("limit.frees_in", "s", "Time until a spent quota has room again, 0 where it has.",
           _limits(lambda limit: limit.frees_in), _OF_LIMIT),
    Figure("keys", "{key}", "Keys that were used.",
           lambda statistics: [((), len(statistics.keys))]),
    Figure("shared.workers", "{worker}", "Workers that share the limits and want anything now.",
           _shared("workers")),
    Figure("shared.in_flight_elsewhere", "{request}", "Attempts in flight of the other workers.",
           _shared("elsewhere")),
    Figure("shared.away", "s", "How long the store of shared limits has given no reply, 0 where it "
           "did.", _shared("away")),
    *(
        replace(
            figure,
            name=f"key.{figure.name}",
            about=f"Of one key: {figure.about[0].lower()}{figure.about[1:]}",
            labels=("scheduler", "key", *figure.labels[1:]),
            of_keys=True,
        )
        for figure in _COMMON
    ),
)  # fmt: skip
"""The metrics of a scheduler and of its keys, without the prefix ``headway.``."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The statistics of the scheduler called `name` at one moment, and those of the keys that have
    metrics of their own.
    """

    name: str
    statistics: Statistics
    keys: Mapping[str, KeyStatistics]


class Keys:
    """Which keys get metrics of their own, and under which name: the first `most` that are seen,
    for every label value is a series for ever. What looks like a credential is hidden in a name,
    and names that are alike by that are numbered.

    Raises `InvalidArgument` for what is no number from 0.
    """

    def __init__(self, most: int) -> None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 0:
            raise InvalidArgument(
                f"max_keys={shown(most)} is not a whole number from 0: it is how many keys have "
                "metrics of their own",
                fix="max_keys=100, or 0 for none.",
            )
        self._most = most
        self._names: dict[str, str] = {}  # by key
        self._lock = threading.Lock()  # a scrape and a job may see the same new one

    def name_of(self, key: str) -> str | None:
        """The name of `key`, None where it is not one of them."""
        name = self._names.get(key)
        if name is None and len(self._names) < self._most:
            with self._lock:
                name = self._names.get(key) or unlike(cleaned(key), self._names.values())
                self._names[key] = name
        return name

    def of(self, statistics: Statistics) -> Mapping[str, KeyStatistics]:
        """The figures of those keys, by their names."""
        named = ((self.name_of(key), of) for key, of in statistics.keys.items())
        return {name: of for name, of in named if name is not None}


def check_name(name: object) -> None:
    """Raise `InvalidArgument` for what is no name of a scheduler."""
    if not isinstance(name, str) or not name:
        raise InvalidArgument(
            f"name={shown(name)} is no name of a scheduler", fix='a text, such as "together".'
        )


class Schedulers:
    """Schedulers by name, and what their statistics say. What those of one raise is told once, and
    leaves it alone out.
    """

    def __init__(self, by_name: MutableMapping[str, HasStatistics]) -> None:
        self._by_name = by_name
        self._keys: dict[str, Keys] = {}
        self._failed: set[str] = set()

    def put(self, name: str, scheduler: HasStatistics, max_keys: int) -> Keys:
        """Read `scheduler` under `name` from now on, in place of one of that name; its keys.

        Raises `InvalidArgument` for what has no statistics, and a name or a number that is none.
        """
        check_name(name)
        if not callable(getattr(scheduler, "statistics", None)) or isinstance(scheduler, type):
            raise InvalidArgument(
                f"{shown(scheduler)} is no scheduler: it has no statistics()",
                fix="a headway.Scheduler, or a headway.sync.Scheduler.",
            )
        keys = self._keys[name] = Keys(max_keys)
        self._by_name[name] = scheduler
        self._failed.discard(name)
        return keys

    def remove(self, name: str) -> None:
        """Read the scheduler of `name` no more. Raises `InvalidArgument` where there is none."""
        if name not in self._by_name:
            raise InvalidArgument(
                f"there is no scheduler called {shown(name)} here",
                fix=f"one of {', '.join(sorted(self._by_name)) or 'those that were added'}.",
            )
        del self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def read(self) -> list[Measurement]:
        """What the statistics of each say now."""
        measurements = []
        for name, scheduler in [*self._by_name.items()]:
            try:
                statistics = scheduler.statistics()
                measurements.append(Measurement(name, statistics, self._keys[name].of(statistics)))
            except Exception:
                if name not in self._failed:
                    self._failed.add(name)
                    logger.exception(
                        "the statistics of the scheduler %s cannot be had: its metrics are left "
                        "out; this is told once", name,
                    )  # fmt: skip
        return measurements


def version() -> str:
    """The version of headway, as it is installed."""
    return metadata.version("headway")
