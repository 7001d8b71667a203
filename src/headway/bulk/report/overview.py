"""What stands above and below the sections: title, headline, tiles, progress, footer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from headway.bulk.report.measured import Content, Measured
from headway.kinds._words import (
    agreed,
    count,
    counted,
    duration,
    money,
    number,
    percent,
    plural,
    rate,
    short,
)

__all__ = ["cards", "footer", "header", "lead", "progress"]


@dataclass(frozen=True, slots=True)
class _Header(Content):
    name: str
    said: tuple[str, ...]


def header(run: Measured) -> Content:
    """The name of the input, the provider and the limits."""
    trace = run.trace
    if not trace.sessions:
        return _Header(run.name, ())
    started = trace.sessions[0].info.started
    info = trace.sessions[-1].info
    limits = [
        *info.limits.requests,
        *(f"{text} tokens" for text in info.limits.tokens),
        *(f"{text} input tokens" for text in info.limits.input_tokens),
        *(f"{text} output tokens" for text in info.limits.output_tokens),
    ]
    if info.limits.concurrency and math.isfinite(info.limits.concurrency):
        limits.append(f"{count(info.limits.concurrency)} in flight")
    said = [
        info.provider or "",
        f"started {run.axis.clock(started, seconds=False)}" if started else "",
        f"limits: {', '.join(limits)}" if limits else "no limits stated",
    ]
    return _Header(run.name, tuple(part for part in said if part))


@dataclass(frozen=True, slots=True)
class _Lead(Content):
    parts: tuple[tuple[str, bool], ...]  # text, and whether it is strong


def lead(run: Measured) -> Content:
    """The headline: how far it came, how fast, for how much, and what held it back."""
    sums = run.sums
    of_all = sums.answered if sums.total is None else sums.total
    of = f" of {sums.total:,}" if sums.total is not None else ""
    noun, verb = plural(of_all, "row"), agreed(sums.answered, "were")
    parts = [(f"{count(sums.answered)}{of} {noun}", True), (f" {verb} answered", False)]
    if sums.failed:
        parts.append((f", {count(sums.failed)} failed", False))
    if sums.left:
        parts.append((f", and {count(sums.left)} have no answer yet", False))
    if sums.seconds:
        worked = duration(sums.seconds).replace(" ", "\N{NO-BREAK SPACE}")
        parts += [(", in ", False), (worked, True), (" of work", False)]
        if sums.sessions > 1:
            parts.append((f" over {sums.sessions:,} sessions", False))
    parts.append((". ", False))
    if sums.sent:
        rate = number(sums.rate)
        noun = "request" if rate == "1" else "requests"
        parts.append((f"It sent {rate} {noun} a second", False))
        if sums.reached is not None:
            parts += [(", ", False), (f"{percent(sums.reached)} of the limit", True)]
        parts.append((". ", False))
    if sums.input + sums.output:
        used = sums.input + sums.output
        parts.append((f"It used {short(used)} {plural(used, 'token')}", False))
        if sums.money != "unknown":
            parts += [(", for ", False), (sums.money.replace("≥", "at least"), True)]
        parts.append((". ", False))
    return _Lead((*parts, (sums.held(), False)))


@dataclass(frozen=True, slots=True)
class _Card:
    name: str
    value: str
    note: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class _Cards(Content):
    cards: tuple[_Card, ...]


def cards(run: Measured) -> Content:
    """The tiles."""
    sums = run.sums
    refused = sums.limited
    limit = f"{percent(sums.reached)} of {rate(sums.allowed or 0)}" if sums.reached else ""
    share = f"{percent(sums.answered / sums.total)} of all rows" if sums.total else "rows"
    if sums.unpriced:
        priced = _without_price(len(sums.unpriced))
    elif sums.answered and sums.cost:
        priced = f"{money(sums.cost / sums.answered * 1000)} per 1,000 rows"
    else:
        priced = ""
    return _Cards((
        _Card("Answered", count(sums.answered), share),
        _Card("Failed", count(sums.failed), _codes(sums.codes), "bad" if sums.failed else ""),
        _Card("Not answered", "?" if sums.left is None else count(sums.left), "left to do"),
        _Card("Time", duration(sums.seconds), "at work"),
        _Card("Rate", rate(sums.rate), limit or "no limit known"),
        _Card("Refusals", count(refused),
              f"{percent(refused / sums.sent)} of sends" if sums.sent else ""),
        _Card("Tokens", short(sums.input + sums.output),
              f"{short(sums.input)} in, {short(sums.output)} out"),
        _Card("Cost", sums.money, priced),
    ))  # fmt: skip


def _without_price(models: int) -> str:
    return f"{'one model' if models == 1 else counted(models, 'model')} without a price"


def _codes(codes: Mapping[str, int]) -> str:
    if not codes:
        return "none"
    top = max(codes, key=lambda code: codes[code])
    return top if len(codes) == 1 else f"{len(codes)} kinds, most {top}"


@dataclass(frozen=True, slots=True)
class _Stretch:
    kind: str
    share: float


@dataclass(frozen=True, slots=True)
class _Strip(Content):
    label: str
    parts: tuple[_Stretch, ...]


def progress(run: Measured) -> Content | None:
    """The bar of rows that were answered, failed, and are left."""
    sums = run.sums
    total = max(sums.total or 0, sums.answered + sums.failed)
    if not total:
        return None
    parts = [("done", sums.answered, "answered"), ("failed", sums.failed, "failed"),
             ("left", total - sums.answered - sums.failed, "not answered")]  # fmt: skip
    said = ", ".join(f"{count(n)} {name}" for _, n, name in parts)
    return _Strip(said, tuple(_Stretch(kind, n / total) for kind, n, _ in parts if n))


@dataclass(frozen=True, slots=True)
class _Footer(Content):
    said: tuple[str, ...]
    made: str


def footer(run: Measured) -> Content:
    """What is to be known when reading it."""
    axis, trace = run.axis, run.trace
    said = [f"Times are {axis.zone}."]
    if any(b - a for a, b, _ in axis.gaps):
        said.append("Grey bands (⋯) are where the run was not running; that time is cut out.")
    if trace.ignored:
        said.append(
            f"{counted(trace.ignored, 'line')} of the trace could not be read, as after a kill."
        )
    if run.redact:
        said.append("Prompts, answers, messages and ids were left out.")
    version = trace.sessions[-1].info.version if trace.sessions else ""
    return _Footer(tuple(said), f"headway {version}".strip())
