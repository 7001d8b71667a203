"""The sections about rows: attempts, sessions, models, errors."""

from __future__ import annotations

from dataclasses import dataclass

from headway.bulk.record.measures import ModelUse
from headway.bulk.record.status import early_ends
from headway.bulk.report.charts import Bar, bars
from headway.bulk.report.failures import OTHER, Example, Failures, Group
from headway.bulk.report.measured import Content, Measured
from headway.kinds._words import count, counted, duration, money, percent, short

__all__ = ["attempts", "errors", "models", "sessions"]

_GROUPS = 30
_MODELS = 20
_SESSIONS = 50


@dataclass(frozen=True, slots=True)
class _Attempts(Content):
    rows: tuple[Bar, ...]


def attempts(run: Measured) -> Content:
    """How many attempts the rows took."""
    counts = {n: rows for n, rows in run.trace.count("attempts").items() if rows > 0}
    unmeasured = run.trace.unmeasured
    rows = sum(counts.values()) + unmeasured
    shown: list[tuple[str, float, str]] = []
    for n in sorted(counts):
        name = counted(n, "attempt") if n else "never sent"
        if len(shown) == 9 and len(counts) > 10:
            more = sum(c for k, c in counts.items() if k >= n)
            shown.append((f"{n} and more", more, f"{count(more)} · {percent(more / rows)}"))
            break
        shown.append((name, counts[n], f"{count(counts[n])} · {percent(counts[n] / rows)}"))
    if unmeasured:  # a kill came before they were counted
        shown.append(
            ("not measured", unmeasured, f"{count(unmeasured)} · {percent(unmeasured / rows)}")
        )
    return _Attempts(bars(shown))


@dataclass(frozen=True, slots=True)
class _Session:
    started: str
    worked: str
    rows: str
    ended: str


@dataclass(frozen=True, slots=True)
class _Sessions(Content):
    rows: tuple[_Session, ...]
    earlier: str


def sessions(run: Measured) -> Content:
    """When the run was started, and how each session ended."""
    rows = []
    for session in run.trace.sessions[-_SESSIONS:]:
        samples, end = session.samples, session.end
        reason = end.reason if end else "no end: killed, or still running"
        if end and end.said and not run.redact:
            reason = f"{reason}: {end.said[:300]}"
        done = sum(s.done + sum(s.failed.values()) for s in samples)
        started = run.axis.clock(session.info.started, seconds=False)
        rows.append(_Session(started, duration(sum(s.span for s in samples)), count(done), reason))
    more = len(run.trace.sessions) - _SESSIONS
    return _Sessions(tuple(rows), count(more) if more > 0 else "")


@dataclass(frozen=True, slots=True)
class _Model:
    name: str
    rows: str
    cost: str
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class _Models(Content):
    rows: tuple[_Model, ...]


def models(run: Measured) -> Content:
    """What each model did, the largest first."""
    ordered = sorted(run.trace.models.items(), key=lambda item: (-item[1].rows, item[0]))
    rest = ModelUse()
    for _, use in ordered[_MODELS:]:
        rest.add(use)
    shown = [(name or "(no model named)", use) for name, use in ordered[:_MODELS]]
    if rest.rows:
        shown.append((f"{counted(len(ordered) - _MODELS, 'other model')}", rest))
    return _Models(tuple(
        _Model(name[:120], count(use.rows),
               "unknown price" if use.cost is None else money(use.cost),
               short(use.input), short(use.output))
        for name, use in shown
    ))  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Example:
    custom_id: str  # "" where ids are left out
    where: str
    message: str | None
    body: str | None


@dataclass(frozen=True, slots=True)
class _Group:
    rows: str
    title: str
    examples: tuple[_Example, ...]


@dataclass(frozen=True, slots=True)
class _Code:
    name: str
    rows: str
    groups: tuple[_Group, ...]


@dataclass(frozen=True, slots=True)
class _Errors(Content):
    early: tuple[str, ...] = ()  # answers that did not come to their own end
    none: str = ""
    bars: tuple[Bar, ...] = ()
    codes: tuple[_Code, ...] = ()
    notes: tuple[str, ...] = ()


def errors(run: Measured) -> Content:
    """What failed, in groups with examples."""
    failures, sums = run.failures, run.sums
    early = tuple(f"{said}." for _, said in early_ends(sums.reasons))
    unreadable = failures.unreadable if failures else 0
    no_rows = "is no row" if unreadable == 1 else "are no rows"
    torn = (f"{counted(unreadable, 'line')} of the error file {no_rows}",) if unreadable else ()
    if not sums.failed:
        return _Errors(early, none="No row failed.", notes=torn)
    if failures is None:
        counts = sorted(sums.codes.items(), key=lambda item: -item[1])[:_GROUPS]
        return _Errors(
            early,
            bars=bars([(code, float(n), count(n)) for code, n in counts]),
            notes=("Examples come from the error file, which is not there.",),
        )
    hidden = failures.groups[_GROUPS:]
    more = sum(group.count for group in hidden)
    groups = counted(len(hidden), "smaller group")
    smaller = (f"and {counted(more, 'row')} in {groups}",) if hidden else ()
    return _Errors(early, codes=_codes(failures, redact=run.redact), notes=(*smaller, *torn))


def _codes(failures: Failures, *, redact: bool) -> tuple[_Code, ...]:
    by_code: dict[str, list[Group]] = {}
    for group in failures.groups[:_GROUPS]:
        by_code.setdefault(group.code, []).append(group)
    return tuple(
        _Code(code, count(failures.codes[code]), tuple(_group(one, redact=redact) for one in found))
        for code, found in by_code.items()
    )


def _group(group: Group, *, redact: bool) -> _Group:
    status = f"HTTP {group.status}" if group.status is not None else "no answer"
    title = status if redact else group.message or "(no message)"
    if not redact and group.status is not None and group.message != OTHER:
        title = f"{title} ({status})"
    examples = tuple(_example(example, redact=redact) for example in group.examples)
    return _Group(count(group.count), title, examples)


def _example(example: Example, *, redact: bool) -> _Example:
    status = "no answer" if example.status is None else f"HTTP {example.status}"
    where = f"line {example.line:,}" if example.line is not None else "unknown line"
    where = f"{where} · {status}"
    if redact:
        return _Example("", where, None, None)
    return _Example(example.custom_id or "no custom_id", where, example.message, example.body)
