"""Charts as HTML: an SVG stretched to whatever width there is, its labels as text over it.

The drawing needs no script (the page's only adds values under the pointer), prints, and takes its
colours from the page's style sheet. Everything here is a function of its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from headway._words import duration
from headway.bulk.measures import Histogram, bucket, edges
from headway.bulk.report.axis import WIDTH, Axis
from headway.bulk.report.figures import escape

__all__ = ["Series", "bars", "far_above", "histogram", "plot", "time_labels"]

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


def nice(value: float) -> float:
    """The next number above `value` whose quarters are easy to read on an axis."""
    if not 0 < value < 1e300:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10, 12)
    return next(power * n for n in steps if power * n >= value * (1 - 1e-9))


def plot(
    key: str,
    axis: Axis,
    series: Sequence[Series],
    label: str,
    show: Callable[[float], str],
    *,
    height: int = 180,
    top: float | None = None,
    solid: bool = False,
    flags: bool = False,
) -> str:
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
    shapes = [f'<path class="gap" d="M{a:.0f} 0H{b:.0f}V1000H{a:.0f}Z"/>' for a, b, _ in axis.gaps]
    if height > 60:
        lines_at = "".join(f"M0 {y}H{WIDTH}" for y in (1, 250, 500, 750))
        shapes.insert(0, f'<path class="grid" d="{lines_at}"/>')
    floor = [0.0] * len(axis.bins)
    for one in series:
        if one.form == "area":
            roof = [a + (v or 0.0) for a, v in zip(floor, one.values, strict=True)]
            path = _area(axis, floor, roof, top)
            floor = roof
            if path:
                shapes.append(f'<path class="area {one.colour}" d="{path}"/>')
                if height > 60 and not solid:
                    edge = _line(axis, roof, top, steps=True)
                    shapes.append(f'<path class="line {one.colour}" d="{edge}"/>')
        else:
            if path := _line(axis, one.values, top, steps=one.form == "limit"):
                shapes.append(f'<path class="{one.form} {one.colour}" d="{path}"/>')
    named, after = "", 0.0
    for a, b, idle in axis.gaps if flags else ():
        x = (a + b) / 2
        if after + WIDTH * 0.1 <= x <= WIDTH * 0.9:
            named += f'<span class="flag" style="left:{x / WIDTH:.2%}">'
            named += f"resumed after {duration(idle)}</span>"
            after = x + WIDTH * 0.1
    marks = "".join(
        f'<span class="y" style="top:{100 - share * 100:g}%">{escape(show(top * share))}</span>'
        for share in (1, 0.75, 0.5, 0.25)
        if height > 60 and (height > 100 or share in (1, 0.5))
    )
    return (
        f'<div class="plot" data-chart="{key}" style="height:{height}px" role="img" tabindex="0" '
        f'aria-label="{escape(label)}">{_svg(shapes)}{marks}{named}<i class="cursor"></i></div>'
    )


def _highest(series: Sequence[Series]) -> float:
    return max((v or 0.0 for s in series if s.form == "limit" for v in s.values), default=0.0)


def far_above(series: Sequence[Series]) -> bool:
    """Whether the limit would leave the areas flat: it is not drawn then."""
    areas = _numbers(s.values for s in series if s.form == "area")
    peak = max(map(sum, zip(*areas, strict=True)), default=0.0)
    return 0 < 4 * peak < _highest(series)


def time_labels(axis: Axis) -> str:
    """The row of times below a chart, with a mark at each cut."""
    gaps = axis.gaps if len(axis.gaps) <= _NAMED_GAPS else []
    ticks = ""
    for i, (x, text) in enumerate(axis.ticks):
        if any(x <= b and a < x + WIDTH * 0.1 for a, b, _ in gaps):
            continue  # its text would lie over the cut
        kind = " ".join(["minor"] * (i % 2) + ["last"] * (x > WIDTH * 0.86))
        ticks += f'<span class="{kind}" style="left:{x / WIDTH:.2%}">{escape(text)}</span>'
    cuts = "".join(
        f'<b style="left:{(a + b) / 2 / WIDTH:.2%}" title="resumed after {duration(idle)}">⋯</b>'
        for a, b, idle in gaps
    )
    return f'<div class="times" aria-hidden="true">{ticks}{cuts}</div>'


def _numbers(series: Iterable[Sequence[float | None]]) -> list[list[float]]:
    return [[value or 0.0 for value in values] for values in series]


def _svg(shapes: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} 1000" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(shapes)}</svg>"
    )


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


def histogram(counts: Histogram, colour: str, label: str, marks: Mapping[str, float]) -> str:
    """A small histogram over a logarithmic axis of durations, `marks` (seconds) as lines in it."""
    filled = [k for k, count in counts.counts.items() if count > 0]
    if not filled:
        return '<p class="none">nothing was measured</p>'
    low, high = min(filled), max(filled)
    low, high = (low - 3, high + 3) if high - low < 6 else (low, high)
    width = WIDTH / (high - low + 1)
    peak = max(counts.counts.values())
    shapes = []
    for k in range(low, high + 1):
        if count := counts.counts.get(k, 0):
            a, b = edges(k)
            x, y = (k - low) * width, min(990, _y(count, peak * 1.05))
            shapes.append(
                f'<path class="bar {colour}" d="M{x + width * 0.06:.0f} 1000V{y}'
                f'H{x + width * 0.94:.0f}V1000Z"><title>{duration(a)} to {duration(b)}: '
                f"{count:,.0f}</title></path>"
            )
    where = {}
    for name, seconds in marks.items():
        k = bucket(seconds)
        first, end = edges(k)
        place = k - low + (seconds - first) / (end - first)
        where[name] = max(0.0, min(1.0, place / (high - low + 1)))
    lines = "".join(f'<path class="mark" d="M{x * WIDTH:.0f} 0V1000"/>' for x in where.values())
    ends = (
        f'<div class="ends"><span>{escape(duration(edges(low)[0]))}</span>'
        f"<span>{escape(duration(edges(high)[1]))}</span></div>"
    )
    named: list[tuple[str, float]] = []
    for name, x in where.items():
        if named and x - named[-1][1] < 0.1:  # one text for both, which would overlap
            named[-1] = (f"{named[-1][0]} {name}", named[-1][1])
        else:
            named.append((name, x))
    names = "".join(
        f'<span class="q" style="left:{min(x, 0.94):.1%}">{escape(name)}</span>'
        for name, x in named
    )
    return (
        f'<div class="hist" role="img" aria-label="{escape(label)}">{names}'
        f"{_svg([*shapes, lines])}</div>{ends}"
    )


def bars(rows: Sequence[tuple[str, float, str]], colour: str) -> str:
    """Names with a bar each; the text says the value."""
    peak = max((value for _, value, _ in rows), default=0) or 1
    return '<table class="bars"><tbody>' + "".join(
        f"<tr><th scope=row>{escape(name)}</th><td class=wide><i class='{colour}' "
        f"style='width:{value / peak:.1%}'></i></td><td>{escape(text)}</td></tr>"
        for name, value, text in rows
    ) + "</tbody></table>"  # fmt: skip
