"""Metrics for Prometheus: a collector that reads `statistics()` when it is scraped.

    from prometheus_client import REGISTRY
    from headway.hooks.prometheus import SchedulerCollector

    REGISTRY.register(SchedulerCollector(scheduler))

A job costs nothing more for it: the scheduler counts anyway. A scrape happens in another thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headway.errors import InvalidArgument, MissingExtra
from headway.hooks.around import HasStatistics
from headway.hooks.figures import FIGURES, Figure, Schedulers, version
from headway.kinds._words import shown

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        InfoMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingExtra(
        "metrics for Prometheus need the package prometheus-client, which is not installed",
        fix="install it with: pip install 'headway[prometheus]'",
    ) from error

__all__ = ["SchedulerCollector"]

# What Prometheus' names end with, by the unit. One that says what is counted is in the name.
_SUFFIXES = {"s": "_seconds", "1": "_ratio", "{request}/s": "_per_second"}


class SchedulerCollector(Collector):
    """The metrics of one scheduler, or of several by their names, for a registry.

    Each has the label ``scheduler``, its name (``"default"`` for one alone). Of a scheduler the
    first `max_keys` keys that are seen have metrics of their own too, ``headway_key_…``. A
    scheduler of `headway` and one of `headway.sync` will do; it is held until `remove`.

    Raises `InvalidArgument` for what is no scheduler, name or number.
    """

    def __init__(
        self, schedulers: HasStatistics | Mapping[str, HasStatistics], *, max_keys: int = 100
    ) -> None:
        self._schedulers = Schedulers({})
        self._max_keys = max_keys
        by_name = schedulers if isinstance(schedulers, Mapping) else {"default": schedulers}
        for name, scheduler in by_name.items():
            self.add(name, scheduler)

    def add(self, name: str, scheduler: HasStatistics) -> None:
        """Collect `scheduler` too, under `name`. Raises `InvalidArgument`, also for one in use."""
        if name in self._schedulers:
            raise InvalidArgument(
                f"there is a scheduler called {shown(name)} here already",
                fix="another name, or remove() that one first.",
            )
        self._schedulers.put(name, scheduler, self._max_keys)

    def remove(self, name: str) -> None:
        """Collect the scheduler of `name` no more. Raises `InvalidArgument` where there is none."""
        self._schedulers.remove(name)

    def describe(self) -> Iterable[Metric]:
        """The names and meanings of all metrics, without any sample: registering asks nobody."""
        yield _info()
        yield from map(_family, FIGURES)

    def collect(self) -> Iterable[Metric]:
        """All metrics, as the schedulers are now."""
        measurements = self._schedulers.read()
        info = _info()
        for measurement in measurements:
            info.add_metric([measurement.name], {"version": version()})
        yield info
        for figure in FIGURES:
            family = _family(figure)
            for labels, value in figure.samples(measurements).items():
                family.add_metric(labels, value)
            yield family


def _info() -> InfoMetricFamily:
    return InfoMetricFamily("headway", "The version of headway.", labels=["scheduler"])


def _family(figure: Figure) -> CounterMetricFamily | GaugeMetricFamily:
    name = f"headway_{figure.name.replace('.', '_')}{_SUFFIXES.get(figure.unit, '')}"
    make = CounterMetricFamily if figure.counts else GaugeMetricFamily
    return make(name, figure.about, labels=figure.labels)
