"""The sections with charts over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headway.bulk.report.charts import (
    Chart,
    Drawn,
    Series,
    Times,
    far_above,
    histogram,
    legend,
    plot,
    time_labels,
)
from headway.bulk.report.measured import Content, Measured
from headway.kinds import Binds, Kind
from headway.kinds._words import (
    binds,
    count,
    counted,
    duration,
    money,
    number,
    percent,
    short,
)

__all__ = ["flow", "latency", "tokens", "unmeasured"]

# What binds, in the order of the strip; each has a colour of its own.
_HUES = {each.value or "nothing": each.hue for each in Binds}
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True)
class _Flow(Content):
    sends: Chart
    refused: Chart | None
    flight: Chart
    bound: Chart
    times: Times

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Its charts."""
        refused = () if self.refused is None else (self.refused,)
        return (self.sends, *refused, self.flight, self.bound)


def flow(run: Measured) -> Content | None:
    """What was sent and refused, how much was in flight, and what held it back."""
    axis, sums = run.axis, run.sums
    if not axis.bins:
        return None
    sends = [
        Series("sent", "c-sent", [b.rate("sent") for b in axis.bins]),
        Series("limit", "c-limit", [b.means.get("limit") for b in axis.bins], "limit"),
    ]
    flight = [Series("in flight", "c-flight", [b.means.get("in_flight", 0.0) for b in axis.bins])]
    return _Flow(
        plot("sends", axis, sends, short, title="Sent, a second",
             label=f"Requests sent a second: {number(sums.rate)} on average",
             keys=legend((s, _above(s, sends)) for s in sends if any(s.values)),
             unit="/s", height=190, flags=True),
        _refused(run),
        plot("flight", axis, flight, short, title="In flight", label="Requests in flight",
             height=70),
        _bound(run),
        time_labels(axis),
    )  # fmt: skip


def _refused(run: Measured) -> Chart | None:
    axis, sums = run.axis, run.sums
    hues = {kind.value: kind.hue for kind in Kind}
    kinds = [*hues, *sorted(set(sums.refused) - set(hues))]  # a newer headway may know more
    kinds = [kind for kind in kinds if sums.refused.get(kind)]
    if not kinds:
        return None
    series = [
        Series(kind, f"k-{hues.get(kind, 'slate')}",
               [b.refused.get(kind, 0) / b.span for b in axis.bins])
        for kind in kinds
    ]  # fmt: skip
    return plot(
        "refused", axis, series, short, title="Refused or failed attempts, a second",
        label=f"{counted(sum(sums.refused.values()), 'attempt', 'were')} refused or failed",
        keys=legend((s, count(sums.refused[k])) for k, s in zip(kinds, series, strict=True)),
        unit="/s", height=110, solid=True,
    )  # fmt: skip


def _bound(run: Measured) -> Chart:
    axis, sums = run.axis, run.sums
    shares = []
    for one in axis.bins:
        rest = max(0.0, one.span - sum(one.binds.values()))
        whole = sum(one.binds.values()) + rest
        shares.append({key: s / whole for key, s in {**one.binds, "nothing": rest}.items()})
    known = [*_HUES, *sorted(set(sums.binds) - set(_HUES))]  # a newer headway may know more
    known = [key for key in known if sums.binds.get(key, 0) > 0]
    series = [
        Series(binds(key), f"k-{_HUES.get(key, 'slate')}",
               [share.get(key, 0.0) for share in shares])
        for key in known
    ]  # fmt: skip
    said = [percent(sums.binds[key] / (sums.seconds or 1)) for key in known]
    strip = list(zip(series, said, strict=True))
    held = ", ".join(f"{s.name} {share}" for s, share in strip)
    return plot("bound", axis, series, short, title="What held it back",
                label=f"What held the run back: {held}", keys=legend(strip), unit="%", height=34,
                top=1.0, solid=True)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Latency(Content):
    heads: tuple[str, ...]
    rows: tuple[_Row, ...]
    histograms: tuple[Drawn, ...]
    over: Chart
    times: Times

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Its chart."""
        return (self.over,)


def latency(run: Measured) -> Content | None:
    """How long rows waited, and how long their answers took."""
    axis, trace = run.axis, run.trace
    if not axis.bins:
        return None
    rows, shapes = [], []
    for name, counts, colour in (
        ("Waited in the queue", trace.wait, "c-wait"),
        ("Answer took", trace.latency, "c-sent"),
    ):
        values = {q: counts.percentile(share) for q, share in _QUANTILES.items()}
        cells = tuple("-" if v is None else duration(v) for v in values.values())
        rows.append(_Row(name, cells))
        quantiles = {q: v for q, v in values.items() if v is not None and q in ("p50", "p99")}
        shapes.append(histogram(name, counts, colour, quantiles))
    over = [
        Series(q, f"c-{q}", [b.latency.percentile(_QUANTILES[q]) for b in axis.bins], "line")
        for q in ("p99", "p90", "p50")
    ]
    chart = plot("latency", axis, over, duration, title="Latency over time",
                 label="Latency over time: p50, p90 and p99", keys=legend((s, "") for s in over),
                 unit="s")  # fmt: skip
    return _Latency(tuple(_QUANTILES), tuple(rows), tuple(shapes), chart, time_labels(axis))


@dataclass(frozen=True, slots=True)
class _Tokens(Content):
    tokens: Chart
    cost: Chart | None
    times: Times

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Its charts."""
        return (self.tokens,) if self.cost is None else (self.tokens, self.cost)


def tokens(run: Measured) -> Content | None:
    """Tokens a second, and what they cost."""
    axis, sums = run.axis, run.sums
    if not axis.bins or (not sums.input + sums.output and not sums.cost):
        return None
    series = [
        Series("input", "c-in", [b.rate("input") for b in axis.bins]),
        Series("output", "c-out", [b.rate("output") for b in axis.bins]),
        Series("limit", "c-limit", [b.means.get("token_limit") for b in axis.bins], "limit"),
    ]
    totals = {"input": short(sums.input), "output": short(sums.output)}
    said = ((s, totals.get(s.name) or _above(s, series)) for s in series if any(s.values))
    used = plot("tokens", axis, series, short, title="Tokens, a second",
                label=f"Tokens a second, {short(sums.input + sums.output)} in all",
                keys=legend(said), unit="/s")  # fmt: skip
    spent, total = [], 0.0
    for one in axis.bins:
        total += one.counts.get("cost", 0)
        spent.append(total)
    cost = [Series("cost so far", "c-cost", spent)]
    paid = plot("cost", axis, cost, money, title="Cost so far",
                label=f"Cost so far, {sums.money} in all", keys=legend([(cost[0], sums.money)]),
                unit="$", height=110) if total else None  # fmt: skip
    return _Tokens(used, paid, time_labels(axis))


def unmeasured(run: Measured) -> Content | None:
    """That there are no charts, where there are none."""
    return None if run.axis.bins else Content()


def _above(one: Series, series: Sequence[Series]) -> str:
    return "far above" if one.form == "limit" and far_above(series) else ""
