"""The report of a run: one HTML page, with everything in it, that works without a network.

It is drawn from the measurements in the run's folder and from the error rows beside the output.
The page holds what it says as text and SVG; its script only shows values under the pointer.
"""

from __future__ import annotations

import math
import os
import string
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from importlib import resources
from pathlib import Path

import msgspec

from headway._words import count, duration, money, number, percent, short
from headway.bulk.journal import run_folder, trace_file
from headway.bulk.output import InvalidOutput, errors_file
from headway.bulk.record import Trace, read_trace
from headway.bulk.report import sections
from headway.bulk.report.axis import Axis, make_axis
from headway.bulk.report.charts import Series
from headway.bulk.report.failures import Failures, read_failures
from headway.bulk.report.figures import escape, plain
from headway.bulk.report.summary import Sums
from headway.errors import HeadwayError

__all__ = ["InvalidRun", "page", "write_report"]

_OURS = b'<meta name="generator" content="headway report">'  # within the first 1,000 bytes


class InvalidRun(HeadwayError, ValueError):
    """A path that is no run: no report can be made of it."""


def write_report(run: Path, output: Path, *, redact: bool = False) -> None:
    """Write the report of `run`, a results file or its ``.run`` folder, to `output`.

    `redact` leaves out prompts and answers, and whatever could quote them: bodies, messages and
    custom ids. An earlier report at `output` is replaced.

    Raises `InvalidRun` where there is no run, `headway.bulk.InvalidOutput` where `output` cannot
    be written or holds something that is no report.
    """
    folder = _folder(run)
    try:
        measured = trace_file(folder)
        trace = read_trace(measured) if measured.exists() else Trace()
        errors = errors_file(folder.with_suffix(""))
        failures = read_failures(errors, redact=redact) if errors.exists() else None
    except OSError as error:
        raise InvalidRun(
            f"cannot read {error.filename}: {error.strerror}. Make it readable, then try again"
        ) from None
    zone = datetime.now().astimezone().utcoffset() or timedelta()
    text = page(_name(trace) or folder.stem, trace, failures, redact=redact, zone=timezone(zone))
    _write(output, text.encode("utf-8", "replace"))


def _folder(run: Path) -> Path:
    if run.suffix == ".run" and run.is_dir():
        return run
    folder = run_folder(run)
    if folder.is_dir():
        return folder
    if not run.exists():
        raise InvalidRun(
            f"{run} does not exist. Give the results file of a run, like requests.results.jsonl"
        )
    raise InvalidRun(
        f"{run} has no measurements beside it: there is no folder {folder.name}. "
        "Give the results file of a `headway run`, where it was written"
    )


def _name(trace: Trace) -> str:
    """The name of the input, without its folders."""
    named = trace.sessions[-1].info.input if trace.sessions else ""
    return "" if named == "-" else named.replace("\\", "/").rsplit("/", 1)[-1]


def _write(output: Path, data: bytes) -> None:
    """Put `data` at `output` in one step; it is not there by halves."""
    try:
        if output.exists() and not (output.is_char_device() or output.is_fifo()):
            if output.is_dir():
                raise InvalidOutput(f"{output} is a folder. Give a file with -o")
            with output.open("rb") as file:
                start = file.read(1000)
            if start and _OURS not in start:
                raise InvalidOutput(
                    f"{output} exists already and is no report, so it is not replaced. "
                    "Give another file with -o, like report.html"
                )
        elif output.exists():
            output.write_bytes(data)
            return
        mask = os.umask(0)
        os.umask(mask)
        fd, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name[:50]}.")
        try:
            with open(fd, "wb") as file:
                file.write(data)
            os.chmod(name, 0o666 & ~mask)
            os.replace(name, output)
        except BaseException:
            os.unlink(name)
            raise
    except FileNotFoundError:
        raise InvalidOutput(
            f"cannot write {output}: the folder {output.parent} does not exist. "
            f"Make it first: mkdir -p {output.parent}"
        ) from None
    except OSError as error:
        raise InvalidOutput(
            f"cannot write {output}: {error.strerror}. Give another file with -o"
        ) from None


# -- the page ----------------------------------------------------------------------------------


def page(
    name: str, trace: Trace, failures: Failures | None, *, redact: bool, zone: timezone
) -> str:
    """The report as HTML. `failures` is None where there is no error file."""
    axis = make_axis(trace.sessions, zone)
    sums = Sums(trace, failures)
    charts: dict[str, list[Series]] = {}
    body = [
        _header(name, trace, axis),
        _headline(sums),
        _cards(sums),
        _progress(sums),
    ]
    if axis.bins:
        body += [
            sections.flow(axis, sums, charts),
            sections.latency(axis, trace, charts),
            sections.tokens(axis, sums, charts),
        ]
    else:
        body.append(
            '<section><h2>Over time</h2><p class="none">Nothing was measured in this run: '
            "it ended before its first second was over, or its trace is missing.</p></section>"
        )
    body += [
        '<div class="two">',
        sections.attempts(trace),
        sections.sessions(trace, axis, redact=redact),
        "</div>",
        sections.models(trace),
        sections.errors(failures, sums, redact=redact),
        _footer(trace, failures, axis, redact=redact),
    ]
    template = resources.files("headway.bulk.report").joinpath("page.html").read_text("utf-8")
    return string.Template(template).substitute(
        title=escape(f"{name}: run report"), body="\n".join(body), data=_data(axis, charts)
    )


def _header(name: str, trace: Trace, axis: Axis) -> str:
    first = trace.sessions[0] if trace.sessions else None
    said = []
    if first:
        info = trace.sessions[-1].info
        limits = [*info.limits.requests, *(f"{text} tokens" for text in info.limits.tokens)]
        if info.limits.concurrency and math.isfinite(info.limits.concurrency):
            limits.append(f"{info.limits.concurrency:,.0f} in flight")
        said = [
            info.provider or "",
            f"started {axis.clock(first.info.started, seconds=False)}"
            if first.info.started
            else "",
            f"limits: {', '.join(limits)}" if limits else "no limits told",
        ]
    line = " · ".join(escape(part) for part in said if part)
    return f"<header><p class=kicker>Run report</p><h1>{escape(name)}</h1><p>{line}</p></header>"


def _headline(sums: Sums) -> str:
    of = f" of {sums.total:,}" if sums.total is not None else ""
    parts = [f"<b>{sums.answered:,}{of} rows</b> were answered"]
    if sums.failed:
        parts.append(f", {sums.failed:,} failed")
    if sums.left:
        parts.append(f", and {sums.left:,} have no answer yet")
    if sums.seconds:
        parts.append(f", in <b>{_unbroken(duration(sums.seconds))}</b> of work")
        if sums.sessions > 1:
            parts.append(f" over {sums.sessions:,} sessions")
    parts.append(". ")
    if sums.sent:
        parts.append(f"It sent {number(sums.rate)} requests a second")
        if sums.reached is not None:
            parts.append(f", <b>{percent(sums.reached)} of the limit</b>")
        parts.append(". ")
    if sums.input + sums.output:
        parts.append(f"It used {short(sums.input + sums.output)} tokens")
        if sums.money != "unknown":
            parts.append(f", for <b>{sums.money.replace('≥', 'at least')}</b>")
        parts.append(". ")
    parts.append(escape(sums.held()))
    return f'<p class="lead">{"".join(parts)}</p>'


def _unbroken(text: str) -> str:
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _cards(sums: Sums) -> str:
    refused = sum(sums.refused.values())
    limit = f"{percent(sums.reached)} of {number(sums.allowed or 0)}/s" if sums.reached else ""
    tokens = sums.input + sums.output
    share = f"{percent(sums.answered / sums.total)} of all rows" if sums.total else "rows"
    cards = [
        ("Answered", count(sums.answered), share, ""),
        ("Failed", count(sums.failed), _kinds_said(sums.codes), "bad" if sums.failed else ""),
        ("Not answered", "?" if sums.left is None else count(sums.left), "left to do", ""),
        ("Time", duration(sums.seconds), "at work", ""),
        ("Rate", f"{number(sums.rate)}/s", limit or "no limit known", ""),
        ("Refusals", count(refused), f"{percent(refused / sums.sent)} of sends" if sums.sent
         else "", ""),
        ("Tokens", short(tokens), f"{short(sums.input)} in, {short(sums.output)} out", ""),
        ("Cost", sums.money, _without_price(len(sums.unpriced)) if sums.unpriced
         else f"{money(sums.cost / sums.answered * 1000)} per 1,000 rows"
         if sums.answered and sums.cost else "", ""),
    ]  # fmt: skip
    return '<dl class="cards">' + "".join(
        f'<div class="{kind}"><dt>{name}</dt><dd>{escape(value)}</dd><dd class=sub>{escape(sub)}'
        "</dd></div>"
        for name, value, sub, kind in cards
    ) + "</dl>"  # fmt: skip


def _without_price(models: int) -> str:
    return "one model without a price" if models == 1 else f"{models:,} models without a price"


def _kinds_said(codes: Mapping[str, int]) -> str:
    if not codes:
        return "none"
    top = max(codes, key=lambda code: codes[code])
    return top if len(codes) == 1 else f"{len(codes)} kinds, most {top}"


def _progress(sums: Sums) -> str:
    total = max(sums.total or 0, sums.answered + sums.failed)
    if not total:
        return ""
    parts = [("done", sums.answered, "answered"), ("failed", sums.failed, "failed"),
             ("left", total - sums.answered - sums.failed, "not answered")]  # fmt: skip
    said = ", ".join(f"{count:,} {name}" for _, count, name in parts)
    return f'<div class="progress" role="img" aria-label="{said}">' + "".join(
        f'<i class="{kind}" style="width:{n / total:.3%}"></i>' for kind, n, _ in parts if n
    ) + "</div>"  # fmt: skip


def _footer(trace: Trace, failures: Failures | None, axis: Axis, *, redact: bool) -> str:
    said = [f"Times are {axis.zone}."]
    if any(b - a for a, b, _ in axis.gaps):
        said.append("Grey bands (⋯) are where the run was not running; that time is cut out.")
    if trace.ignored:
        said.append(f"{trace.ignored:,} lines of the trace could not be read, as after a kill.")
    if redact:
        said.append("Prompts, answers, messages and ids were left out.")
    version = trace.sessions[-1].info.version if trace.sessions else ""
    made = f"headway {version}".strip()
    return f"<footer><p>{escape(' '.join(said))}</p><p>{escape(made)}</p></footer>"


def _data(axis: Axis, charts: Mapping[str, Sequence[Series]]) -> str:
    """The values under the pointer, as JSON that can stand inside a script element."""
    units = {
        "sends": "/s",
        "refused": "/s",
        "tokens": "/s",
        "latency": "s",
        "cost": "$",
        "bound": "%",
    }
    data = {
        "left": [round(b.left) for b in axis.bins],
        "right": [round(b.right) for b in axis.bins],
        "when": [axis.clock(b.at) for b in axis.bins],
        "charts": {
            key: {
                "unit": units.get(key, ""),
                "series": [
                    {"name": plain(s.name), "colour": s.colour, "form": s.form,
                     "values": [None if v is None else float(f"{v:.3g}") for v in s.values]}
                    for s in series
                ],
            }
            for key, series in charts.items()
        },
    }  # fmt: skip
    text = msgspec.json.encode(data).decode().replace(".0,", ",").replace(".0]", "]")
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
