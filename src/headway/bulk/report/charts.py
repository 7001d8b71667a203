"""Charts as values: paths of an SVG that is stretched to whatever width there is, and their texts.

The drawing needs no script (the page's only adds values under the pointer), prints, and takes its
colours from the page's style sheet. Everything here is a function of its arguments; places are
shares of the whole, from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from headway.bulk.record.measures import Histogram, bucket, edges
from headway.bulk.report.axis import WIDTH, Axis
from headway.kinds._words import count, duration

__all__ = ["Bar", "Chart", "Drawn", "Key", "Placed", "Series", "SvgPath", "Times", "bars",
           "far_above", "histogram", "legend", "plot", "time_labels"]  # fmt: skip

_NAMED_GAPS = 12


@dataclass(frozen=True, slots=True)
class Series:
    """Values of the columns; `colour` is a class of the style sheet. None is no value.

    `form` is "area" (areas are stacked, the first lowest), "line" or "limit" (a dashed line).
    """

    name: str
    colour: str
    values: Sequence[float | None]
    form: str = "area"


@dataclass(frozen=True, slots=True)
class SvgPath:
    """A path; `kind` and `colour` are classes of the style sheet, `title` is its tooltip."""

    kind: str
    path: str
    colour: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A text and its place; `kind` is a class of the style sheet."""

    at: float
    text: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """A line of a legend."""

    name: str
    swatch: str
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart over time. `unit` is that of the values under the pointer, `height` in pixels."""

    key: str
    title: str
    label: str
    unit: str
    height: int
    legend: tuple[Key, ...]
    series: tuple[Series, ...]
    shapes: tuple[SvgPath, ...]
    heights: tuple[Placed, ...]
    flags: tuple[Placed, ...]


@dataclass(frozen=True, slots=True)
class Times:
    """The row of times below the charts: its ticks, and the cuts."""

    ticks: tuple[Placed, ...]
    cuts: tuple[Placed, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A histogram over durations; without shapes where nothing was measured."""

    title: str
    label: str = ""
    shapes: tuple[SvgPath, ...] = ()
    quantiles: tuple[Placed, ...] = ()
    ends: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """A name with a bar; `text` says the value, `share` is that of the longest bar."""

    name: str
    share: float
    text: str


def nice(value: float) -> float:
    """The next number above `value` whose quarters are easy to read on an axis."""
    if not 0 < value < 1e300:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10, 12)
    return next(power * n for n in steps if power * n >= value * (1 - 1e-9))


def legend(items: Iterable[tuple[Series, str]]) -> tuple[Key, ...]:
    """A line for each series, with what is said of it."""
    return tuple(Key(s.name, "dash" if s.form == "limit" else s.colour, text) for s, text in items)


def plot(
    key: str,
    axis: Axis,
    series: Sequence[Series],
    show: Callable[[float], str],
    *,
    title: str,
    label: str,
    keys: tuple[Key, ...] = (),
    unit: str = "",
    height: int = 180,
    top: float | None = None,
    solid: bool = False,
    flags: bool = False,
) -> Chart:
    """A chart over time. `label` is what a screen reader says; `show` writes the axis's values.

    `solid` areas have no outline; `flags` says at each cut what was cut out.
    `top` is the highest value, if it is not to be found from the series. A limit far above
    everything else is not drawn (its values still show under the pointer).
    """
    stacked = [
        sum(values)
        for values in zip(*_numbers(s.values for s in series if s.form == "area"), strict=True)
    ]
    lines = [v or 0.0 for s in series if s.form == "line" for v in s.values]
    peak = max([*stacked, *lines], default=0.0)
    if top is None:
        top = nice(1.03 * (peak if far_above(series) else max(peak, _highest(series))))
    named, after = [], 0.0
    for a, b, idle in axis.gaps if flags else ():
        x = (a + b) / 2
        if after + WIDTH * 0.1 <= x <= WIDTH * 0.9:
            named.append(Placed(x / WIDTH, f"resumed after {duration(idle)}"))
            after = x + WIDTH * 0.1
    shares = (1, 0.75, 0.5, 0.25) if height > 100 else (1, 0.5) if height > 60 else ()
    shapes = tuple(_shapes(axis, series, top, lined=height > 60, solid=solid))
    heights = tuple(Placed(share, show(top * share)) for share in shares)
    return Chart(
        key, title, label, unit, height, keys, tuple(series), shapes, heights, tuple(named)
    )


def _shapes(
    axis: Axis, series: Sequence[Series], top: float, *, lined: bool, solid: bool
) -> Iterable[SvgPath]:
    if lined:
        yield SvgPath("grid", "".join(f"M0 {y}H{WIDTH}" for y in (1, 250, 500, 750)))
    for a, b, _ in axis.gaps:
        yield SvgPath("gap", f"M{a:.0f} 0H{b:.0f}V1000H{a:.0f}Z")
    floor = [0.0] * len(axis.bins)
    for one in series:
        if one.form == "area":
            roof = [a + (v or 0.0) for a, v in zip(floor, one.values, strict=True)]
            path = _area(axis, floor, roof, top)
            floor = roof
            if path:
                yield SvgPath("area", path, one.colour)
                if lined and not solid:
                    yield SvgPath("line", _line(axis, roof, top, steps=True), one.colour)
        elif path := _line(axis, one.values, top, steps=one.form == "limit"):
            yield SvgPath(one.form, path, one.colour)


def _highest(series: Sequence[Series]) -> float:
    return max((v or 0.0 for s in series if s.form == "limit" for v in s.values), default=0.0)


def far_above(series: Sequence[Series]) -> bool:
    """Whether the limit would leave the areas flat: it is not drawn then."""
    areas = _numbers(s.values for s in series if s.form == "area")
    peak = max(map(sum, zip(*areas, strict=True)), default=0.0)
    return 0 < 4 * peak < _highest(series)


def time_labels(axis: Axis) -> Times:
    """The row of times below a chart, with a line at each cut."""
    gaps = axis.gaps if len(axis.gaps) <= _NAMED_GAPS else []
    ticks = []
    for i, (x, text) in enumerate(axis.ticks):
        if any(x <= b and a < x + WIDTH * 0.1 for a, b, _ in gaps):
            continue  # its text would lie over the cut
        kind = " ".join(["minor"] * (i % 2) + ["last"] * (x > WIDTH * 0.86))
        ticks.append(Placed(x / WIDTH, text, kind))
    cuts = [Placed((a + b) / 2 / WIDTH, f"resumed after {duration(idle)}") for a, b, idle in gaps]
    return Times(tuple(ticks), tuple(cuts))


def _numbers(series: Iterable[Sequence[float | None]]) -> list[list[float]]:
    return [[value or 0.0 for value in values] for values in series]


def _y(value: float, top: float) -> int:
    return 1000 - round(max(0.0, min(1.1, value / top)) * 1000)


def _area(axis: Axis, floor: Sequence[float], roof: Sequence[float], top: float) -> str:
    """The outline between two lines of steps, one piece for each run of columns with a value."""
    pieces = []
    for run in _runs(axis, [r - f if r > f else None for f, r in zip(floor, roof, strict=True)]):
        bins = axis.bins
        forth = "".join(f"V{_y(roof[i], top)}H{bins[i].right:.0f}" for i in run)
        back = "".join(f"V{_y(floor[i], top)}H{bins[i].left:.0f}" for i in reversed(run))
        pieces.append(f"M{bins[run[0]].left:.0f} {_y(floor[run[0]], top)}{forth}{back}Z")
    return "".join(pieces)


def _line(axis: Axis, values: Sequence[float | None], top: float, *, steps: bool) -> str:
    pieces = []
    for run in _runs(axis, values):
        heights = [_y(values[i] or 0.0, top) for i in run]
        bins = [axis.bins[i] for i in run]
        piece = f"M{bins[0].left:.0f} {heights[0]}"
        for one, y in zip(bins, heights, strict=True):
            if steps:
                piece += f"V{y}H{one.right:.0f}"
            else:
                piece += f"L{(one.left + one.right) / 2:.0f} {y}"
        pieces.append(piece if steps else f"{piece}L{bins[-1].right:.0f} {heights[-1]}")
    return "".join(pieces)


def _runs(axis: Axis, values: Sequence[float | None]) -> list[list[int]]:
    """Neighbouring columns that have a value, never across a cut."""
    runs: list[list[int]] = []
    previous = None
    for i, value in enumerate(values):
        if value is None:
            previous = None
            continue
        if previous is None or axis.bins[i].left - axis.bins[previous].right > 1:
            runs.append([])
        runs[-1].append(i)
        previous = i
    return runs


def histogram(title: str, counts: Histogram, colour: str, quantiles: Mapping[str, float]) -> Drawn:
    """A small histogram over a logarithmic axis of durations, with a line at each quantile."""
    filled = [k for k, n in counts.counts.items() if n > 0]
    if not filled:
        return Drawn(title)
    low, high = min(filled), max(filled)
    low, high = (low - 3, high + 3) if high - low < 6 else (low, high)
    width = WIDTH / (high - low + 1)
    peak = max(counts.counts.values())
    shapes = []
    for k in sorted(filled):
        n = counts.counts[k]
        a, b = edges(k)
        x, y = (k - low) * width, min(990, _y(n, peak * 1.05))
        path = f"M{x + width * 0.06:.0f} 1000V{y}H{x + width * 0.94:.0f}V1000Z"
        said = f"{duration(a)} to {duration(b)}: {count(n)}"
        shapes.append(SvgPath("bar", path, colour, said))
    named: list[Placed] = []
    for name, seconds in quantiles.items():
        k = bucket(seconds)
        first, end = edges(k)
        place = k - low + (seconds - first) / (end - first)
        x = max(0.0, min(1.0, place / (high - low + 1)))
        shapes.append(SvgPath("quantile", f"M{x * WIDTH:.0f} 0V1000"))
        if named and x - named[-1].at < 0.1:  # one text for both, which would overlap
            named[-1] = Placed(named[-1].at, f"{named[-1].text} {name}")
        else:
            named.append(Placed(x, name))
    ends = duration(edges(low)[0]), duration(edges(high)[1])
    return Drawn(title, f"Distribution: {title.lower()}", tuple(shapes), tuple(named), ends)


def bars(rows: Sequence[tuple[str, float, str]]) -> tuple[Bar, ...]:
    """Bars of names, values and what is said of them."""
    peak = max((value for _, value, _ in rows), default=0) or 1
    return tuple(Bar(name, value / peak, text) for name, value, text in rows)
