"""From measurements to HTML: every section's values through its template, and all into one page.

Text reaches the page through the templates alone, which escape it. The page's policy names the
hashes of its script and of its style sheet: nothing else runs or draws, whatever stood in a file.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import timezone
from functools import cache
from importlib import resources
from itertools import groupby

import msgspec

from headway.bulk.record.trace import Trace
from headway.bulk.report.axis import Axis, make_axis
from headway.bulk.report.charts import Chart
from headway.bulk.report.failures import Failures
from headway.bulk.report.measured import Measured
from headway.bulk.report.sections import SECTIONS
from headway.bulk.report.summary import Sums
from headway.errors import MissingExtra

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
except ImportError as error:  # pragma: no cover - needs an environment without the extra
    raise MissingExtra(
        "headway report writes its page with jinja2, which is not installed",
        fix="install it with: pip install 'headway[cli]'",
    ) from error

__all__ = ["page", "plain"]


def page(
    name: str, trace: Trace, failures: Failures | None, *, redact: bool, zone: timezone
) -> str:
    """The report as HTML. `failures` is None where there is no error file."""
    axis = make_axis(trace.sessions, zone)
    run = Measured(name, trace, failures, Sums(trace, failures), axis, redact)
    templates, rules = _templates(), _Rules()
    parts: list[tuple[bool, Markup]] = []
    charts: list[Chart] = []
    for section in SECTIONS:
        if (content := section.make(run)) is not None:
            text = templates.get_template(f"{section.name}.html").render(
                it=content, place=rules.place
            )
            # Markup: it is what an escaping template made.
            parts.append((section.half, Markup(text)))
            charts += content.charts
    style, script = _own("page.css") + rules.text(), _own("page.js")
    return templates.get_template("page.html").render(
        title=f"{name}: run report",
        groups=[(half, [part for _, part in some]) for half, some in groupby(parts, _half)],
        # Markup: both are headway's own files, and the rules are made of numbers.
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        # Markup: JSON without any character that HTML gives a meaning.
        data=Markup(_data(axis, charts)),
    )


def _half(part: tuple[bool, Markup]) -> bool:
    return part[0]


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("headway.bulk.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _own(name: str) -> str:
    return resources.files("headway.bulk.report").joinpath("templates", name).read_text("utf-8")


def _finalize(value: object) -> object:
    """Every value on its way into a template: text without what no page can hold."""
    # Markup has come this way already, or is headway's own.
    return value if isinstance(value, Markup) else plain(value)


def plain(value: object) -> str:
    """Text without control characters, nor what UTF-8 cannot hold: they are replaced."""
    text = str(value)
    if text.isprintable():
        return text
    text = text.encode("utf-8", "replace").decode()
    return "".join(
        c if c.isprintable() or c in "\n\t\N{NO-BREAK SPACE}" else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def _hash(text: str) -> str:
    """The source of a Content Security Policy that allows exactly this text.

    https://www.w3.org/TR/CSP3/#grammardef-hash-source
    """
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


class _Rules:
    """Rules of the style sheet that say where something stands: the policy allows no attributes."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}

    def place(self, what: str, value: float, unit: str = "%", *, digits: int = 2) -> str:
        """The class of what has this left, top, width or height: a share, or pixels."""
        size = f"{value:.{digits}%}" if unit == "%" else f"{value:g}{unit}"
        return self._classes.setdefault(f"{what}:{size}", f"at{len(self._classes)}")

    def text(self) -> str:
        """The rules."""
        return "".join(f".{name}{{{rule}}}\n" for rule, name in self._classes.items())


def _data(axis: Axis, charts: Iterable[Chart]) -> str:
    """The values under the pointer, as JSON that can stand inside a script element."""
    data = {
        "left": [round(b.left) for b in axis.bins],
        "right": [round(b.right) for b in axis.bins],
        "when": [axis.clock(b.at) for b in axis.bins],
        "charts": {
            chart.key: {
                "unit": chart.unit,
                "series": [
                    {"name": plain(s.name), "colour": s.colour, "form": s.form,
                     "values": [None if v is None else float(f"{v:.3g}") for v in s.values]}
                    for s in chart.series
                ],
            }
            for chart in charts
        },
    }  # fmt: skip
    text = msgspec.json.encode(data).decode().replace(".0,", ",").replace(".0]", "]")
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
