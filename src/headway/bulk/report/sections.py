"""The sections of the report: each a function from the measurements to HTML.

Those with charts over time put the values of their series into `charts`, for the pointer.
"""

from __future__ import annotations

from collections.abc import Sequence

from headway.bulk.measures import ModelUse
from headway.bulk.record import Trace
from headway.bulk.report.axis import Axis
from headway.bulk.report.charts import Series, bars, far_above, histogram, plot, time_labels
from headway.bulk.report.failures import OTHER, Example, Failures, Group
from headway.bulk.report.figures import count, dollars, duration, escape, percent, short, three
from headway.bulk.report.summary import Sums
from headway.kinds import Kind

__all__ = ["attempts", "errors", "flow", "latency", "models", "sessions", "tokens"]

_GROUPS = 30
_MODELS = 20

# What binds, in the order of the strip, and how the page says it.
_BINDS = {
    "requests": "request limit",
    "tokens": "token limit",
    "concurrency": "concurrency",
    "gate": "waiting after refusals",
    "paused": "paused",
    "closed": "stopped for good",
    "nothing": "nothing",
}


def flow(axis: Axis, sums: Sums, charts: dict[str, list[Series]]) -> str:
    """A section of the page."""
    bins = axis.bins
    sends = [
        Series("sent", "c-sent", [b.rate("sent") for b in bins]),
        Series("limit", "c-limit", [b.means.get("limit") for b in bins], "limit"),
    ]
    hues = {kind.value: kind.hue for kind in Kind}
    kinds = [*hues, *sorted(set(sums.refused) - set(hues))]  # a newer headway may know more
    kinds = [kind for kind in kinds if sums.refused.get(kind)]
    refused = [
        Series(kind, f"k-{hues.get(kind, 'slate')}",
               [b.refused.get(kind, 0) / b.span for b in bins])
        for kind in kinds
    ]  # fmt: skip
    shares = []
    for one in bins:
        rest = max(0.0, one.span - sum(one.binds.values()))
        whole = sum(one.binds.values()) + rest
        shares.append({key: s / whole for key, s in {**one.binds, "nothing": rest}.items()})
    known: list[str] = [*_BINDS, *sorted(set(sums.binds) - set(_BINDS))]
    bound = [
        Series(_BINDS.get(key, key), f"b-{key if key in _BINDS else 'paused'}",
               [share.get(key, 0.0) for share in shares])
        for key in known
        if sums.binds.get(key, 0) > 0
    ]  # fmt: skip
    flight = [Series("in flight", "c-flight", [b.means.get("in_flight", 0.0) for b in bins])]
    charts.update(sends=sends, refused=refused, bound=bound, flight=flight)
    whole = sums.seconds or 1
    strip = [
        (s, percent(sums.binds[key] / whole))
        for key, s in zip([k for k in known if sums.binds.get(k, 0) > 0], bound, strict=True)
    ]
    refusals = sum(sums.refused.values())
    average = f"Requests sent a second: {three(sums.rate)} on average"
    held = ", ".join(f"{s.name} {share}" for s, share in strip)
    none = '<p class="none">no attempt was refused</p>'
    return "".join([
        "<section><h2>Sends and refusals</h2>",
        _figure(
            "Sent, a second",
            _legend([(s, _above(s, sends)) for s in sends if any(s.values)]),
            plot("sends", axis, sends, average, short, height=190, flags=True),
        ),
        _figure(
            "Refused or failed attempts, a second",
            _legend([(s, count(sums.refused[k])) for k, s in zip(kinds, refused, strict=True)]),
            plot("refused", axis, refused, f"{refusals:,.0f} attempts were refused or failed",
                 short, height=110, solid=True) if refusals else none,
        ),
        _figure(
            "In flight", "",
            plot("flight", axis, flight, "Requests in flight", short, height=70),
        ),
        _figure(
            "What held it back",
            _legend(strip),
            plot("bound", axis, bound, f"What held the run back: {held}", short, height=34,
                 top=1.0, solid=True),
        ),
        time_labels(axis),
        "</section>",
    ])  # fmt: skip


def latency(axis: Axis, trace: Trace, charts: dict[str, list[Series]]) -> str:
    """A section of the page."""
    rows, shapes = [], []
    for name, counts, colour in (
        ("Waited in the queue", trace.wait, "c-wait"),
        ("Answer took", trace.latency, "c-sent"),
    ):
        found = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        values = {q: counts.percentile(share) for q, share in found.items()}
        cells = "".join(f"<td>{'-' if v is None else duration(v)}</td>" for v in values.values())
        rows.append(f"<tr><th scope=row>{name}</th>{cells}</tr>")
        marks = {q: v for q, v in values.items() if v is not None and q in ("p50", "p99")}
        shapes.append(
            f"<figure><figcaption><b>{name}</b></figcaption>"
            + histogram(counts, colour, f"Distribution: {name.lower()}", marks)
            + "</figure>"
        )
    over = [
        Series(name, colour, [b.latency.percentile(q) for b in axis.bins], "line")
        for name, q, colour in (
            ("p99", 0.99, "c-p99"),
            ("p90", 0.9, "c-p90"),
            ("p50", 0.5, "c-p50"),
        )
    ]
    charts["latency"] = over
    heads = "".join(f"<th scope=col>{q}</th>" for q in ("p50", "p90", "p99", "max"))
    return (
        "<section><h2>Queue wait and latency</h2>"
        f'<table class="numbers"><thead><tr><td></td>{heads}</tr></thead><tbody>{"".join(rows)}'
        f'</tbody></table><div class="two">{"".join(shapes)}</div>'
        + _figure("Latency over time", _legend([(s, "") for s in over]),
                  plot("latency", axis, over, "Latency over time: p50, p90 and p99", duration))
        + time_labels(axis) + "</section>"
    )  # fmt: skip


def tokens(axis: Axis, sums: Sums, charts: dict[str, list[Series]]) -> str:
    """A section of the page."""
    if not sums.input + sums.output and not sums.cost:
        return ""
    bins = axis.bins
    tokens = [
        Series("input", "c-in", [b.rate("input") for b in bins]),
        Series("output", "c-out", [b.rate("output") for b in bins]),
        Series("limit", "c-limit", [b.means.get("token_limit") for b in bins], "limit"),
    ]
    spent, total = [], 0.0
    for one in bins:
        total += one.counts.get("cost", 0)
        spent.append(total)
    cost = [Series("cost so far", "c-cost", list(spent))]
    charts.update(tokens=tokens)
    totals = {"input": short(sums.input), "output": short(sums.output)}
    label = f"Tokens a second, {short(sums.input + sums.output)} in all"
    out = "<section><h2>Tokens and cost</h2>" + _figure(
        "Tokens, a second",
        _legend([(s, totals.get(s.name) or _above(s, tokens)) for s in tokens if any(s.values)]),
        plot("tokens", axis, tokens, label, short),
    )
    if total:
        charts.update(cost=cost)
        label = f"Cost so far, {sums.money} in all"
        out += _figure(
            "Cost so far",
            _legend([(cost[0], sums.money)]),
            plot("cost", axis, cost, label, dollars, height=110),
        )
    return out + time_labels(axis) + "</section>"


def attempts(trace: Trace) -> str:
    """How many attempts the rows took."""
    counts = {n: rows for n, rows in trace.count("attempts").items() if rows > 0}
    rows = sum(counts.values())
    shown: list[tuple[str, float, str]] = []
    for n in sorted(counts):
        name = "never sent" if n == 0 else "1 attempt" if n == 1 else f"{n} attempts"
        if len(shown) == 9 and len(counts) > 10:
            more = sum(c for k, c in counts.items() if k >= n)
            shown.append((f"{n} and more", more, f"{more:,.0f} · {percent(more / rows)}"))
            break
        shown.append((name, counts[n], f"{counts[n]:,.0f} · {percent(counts[n] / rows)}"))
    body = bars(shown, "c-sent") if shown else '<p class="none">no row was written</p>'
    return f"<section><h2>Attempts a row</h2>{body}</section>"


def sessions(trace: Trace, axis: Axis, *, redact: bool) -> str:
    """When the run was started, and how each session ended."""
    rows = []
    for session in trace.sessions[-50:]:
        samples, end = session.samples, session.end
        reason = end.reason if end else "no end: killed, or still running"
        if end and end.said and not redact:
            reason = f"{reason}: {end.said[:300]}"
        done = sum(s.done + sum(s.failed.values()) for s in samples)
        rows.append(
            f"<tr><th scope=row>{escape(axis.clock(session.info.started, seconds=False))}</th>"
            f"<td>{duration(sum(s.span for s in samples))}</td><td>{done:,}</td>"
            f"<td class=text>{escape(reason)}</td></tr>"
        )
    heads = "<th scope=col>started</th><th scope=col>at work</th><th scope=col>rows</th>"
    body = (
        f'<div class="scroll"><table class="numbers"><thead><tr>{heads}<th scope=col '
        f"class=text>ended</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        if rows
        else '<p class="none">no session was recorded</p>'
    )
    more = len(trace.sessions) - 50
    note = f"<p class=note>and {more:,} earlier sessions</p>" if more > 0 else ""
    return f"<section><h2>Sessions</h2>{body}{note}</section>"


def models(trace: Trace) -> str:
    """What each model did, the largest first."""
    ordered = sorted(trace.models.items(), key=lambda item: (-item[1].rows, item[0]))
    rest = ModelUse()
    for _, use in ordered[_MODELS:]:
        rest.add(use)
    shown = [(name or "(no model named)", use) for name, use in ordered[:_MODELS]]
    if rest.rows:
        shown.append((f"{len(ordered) - _MODELS:,} other models", rest))
    if not shown:
        return '<section><h2>Models</h2><p class="none">no row was written</p></section>'
    rows = "".join(
        f"<tr><th scope=row class=name>{escape(name[:120])}</th><td>{use.rows:,}</td>"
        f"<td>{'unknown price' if use.cost is None else dollars(use.cost)}</td>"
        f"<td>{short(use.input)}</td><td>{short(use.output)}</td></tr>"
        for name, use in shown
    )
    heads = "".join(f"<th scope=col>{h}</th>" for h in ("rows", "cost", "tokens in", "tokens out"))
    return (
        '<section><h2>Models</h2><div class="scroll"><table class="numbers"><thead><tr>'
        f"<th scope=col class=text>model</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        "</div></section>"
    )


def errors(failures: Failures | None, sums: Sums, *, redact: bool) -> str:
    """What failed, in groups with examples."""
    out = ["<section><h2>Errors</h2>"]
    if not sums.failed:
        out.append('<p class="none">No row failed.</p>')
    elif failures is None:
        rows = [(c, float(n), f"{n:,}") for c, n in sorted(sums.codes.items(), key=lambda i: -i[1])]
        out.append(bars(rows[:_GROUPS], "c-bad"))
        out.append("<p class=note>Examples come from the error file, which is not there.</p>")
    else:
        by_code: dict[str, list[Group]] = {}
        for group in failures.groups[:_GROUPS]:
            by_code.setdefault(group.code, []).append(group)
        for code, groups in by_code.items():
            out.append(
                f"<h3><code>{escape(code)}</code> <span>{failures.codes[code]:,}</span></h3>"
            )
            out += [_group(group, redact=redact) for group in groups]
        hidden = failures.groups[_GROUPS:]
        if hidden:
            rows_hidden = sum(group.count for group in hidden)
            out.append(
                f"<p class=note>and {rows_hidden:,} rows in {len(hidden):,} smaller groups</p>"
            )
    if failures and failures.unreadable:
        out.append(f"<p class=note>{failures.unreadable:,} lines of the error file are no rows</p>")
    return "".join(out) + "</section>"


def _group(group: Group, *, redact: bool) -> str:
    status = f"HTTP {group.status}" if group.status is not None else "no answer"
    title = status if redact else group.message or "(no message)"
    if not redact and group.status is not None and group.message != OTHER:
        title = f"{title} ({status})"
    examples = "".join(_example(example, redact=redact) for example in group.examples)
    return (
        f"<details><summary><b>{group.count:,}</b><span>{escape(title)}</span></summary>"
        f"{examples}</details>"
    )


def _example(example: Example, *, redact: bool) -> str:
    status = "no answer" if example.status is None else f"HTTP {example.status}"
    where = f"line {example.line:,}" if example.line is not None else "unknown line"
    if redact:
        return f'<div class="example"><p>{where} · {status}</p></div>'
    body = f"<pre>{escape(example.body)}</pre>" if example.body else ""
    return (
        f'<div class="example"><p><code>{escape(example.custom_id or "no custom_id")}</code> · '
        f'{where} · {status}</p><p class="said">{escape(example.message)}</p>{body}</div>'
    )


# -- parts -------------------------------------------------------------------------------------


def _figure(title: str, legend: str, content: str) -> str:
    return f"<figure><figcaption><b>{title}</b>{legend}</figcaption>{content}</figure>"


def _above(one: Series, series: Sequence[Series]) -> str:
    return "far above" if one.form == "limit" and far_above(series) else ""


def _legend(items: Sequence[tuple[Series, str]]) -> str:
    return '<span class="legend">' + "".join(
        f'<span><i class="{"dash" if s.form == "limit" else s.colour}"></i>{escape(s.name)}'
        + (f" <b>{escape(text)}</b>" if text else "") + "</span>"
        for s, text in items
    ) + "</span>"  # fmt: skip
