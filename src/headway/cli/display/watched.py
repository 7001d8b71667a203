"""What is said of a scheduler that is watched: facts, bars and charts, as ``top`` and ``ctl`` show
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from headway.cli.display import charts
from headway.hooks.watch.history import Moment, levels, per_second
from headway.kinds import Kind, Retried
from headway.kinds import _words as words

__all__ = [
    "LimitBar", "all_drawn", "bars", "charts_of", "drawn", "facts", "key_lines", "limit_lines",
    "line", "moments_of", "page", "rate_now", "state",
]  # fmt: skip

_NOBODY = """\
Nothing is watched here.

A program is seen when it says   headway.watch(scheduler)
A bulk run is seen by itself:    headway run requests.jsonl

This page looks again every second."""
_MARGIN = 3  # columns of a page for its scroll bar and a blank at each side
_LATELY = 60.0  # seconds over which a rate is measured
_NAME = 14  # columns of the names at the left
_KEYS = 50  # shown at most


class LimitBar(NamedTuple):
    """A limit, the share of it that is used, and that in words."""

    name: str
    share: float
    said: str


def state(status: Mapping[str, Any]) -> str:
    """One word for how it is: blocked, paused, closed, waiting, at work, idle."""
    now = status["statistics"]
    if status.get("blocked"):
        return "blocked"
    if now["binds"] in ("paused", "closed"):
        return str(now["binds"])
    if now["binds"] == "gate":
        return "waiting"
    return "at work" if now["queued"] or now["in_flight"] else "idle"


def facts(status: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, value and style of what is known in numbers."""
    now, figures = status["statistics"], status.get("figures", {})
    if blocked := status.get("blocked"):
        yield "event loop", f"blocked: it has not turned for {words.duration(blocked)}", "bold red"
    yield "held back by", _held(now), "bold"
    if now["why"]:
        yield "last change", now["why"], ""
    if (said := _so_far(figures)) != "":
        yield "so far", said, ""
    delayed = f" ({now['delayed']:,} in a backoff)" if now["delayed"] else ""
    yield "queue", f"{now['queued']:,} queued{delayed}, {now['in_flight']:,} in flight", ""
    ends = [f"{now['succeeded']:,} succeeded"]
    others = ("failed", "cancelled", "timed_out")
    ends += [f"{now[name]:,} {name.replace('_', ' ')}" for name in others if now[name]]
    yield "jobs", ", ".join(ends), "red" if now["failed"] else ""
    tried = f", {now['retried']:,} of them further tries" if now["retried"] else ""
    yield "attempts", f"{now['sent']:,} sent{tried}", ""
    refused = _counts(now["refused"], Retried.PATIENCE)
    yield "refused", refused or "none", "yellow" if refused else ""
    if faults := _counts(now["refused"], Retried.ATTEMPTS, Retried.DOUBTED, Retried.NEVER):
        yield "faults", faults, "yellow"
    if now["tokens"]:
        split = f" ({now['input_tokens']:,.0f} in, {now['output_tokens']:,.0f} out)"
        yield "tokens", f"{now['tokens']:,.0f}{split}", ""
    if figures.get("cost") is not None:
        yield "cost", words.money(figures["cost"]), ""


def _held(now: Mapping[str, Any]) -> str:
    if now["binds"] in ("", "paused", "closed") or not now["seconds"]:
        return words.binds(now["binds"])
    return f"{words.binds(now['binds'])}, for {words.duration(now['seconds'])}"


def _so_far(figures: Mapping[str, Any]) -> str:
    done, total, eta = (figures.get(name) for name in ("done", "total", "eta"))
    if done is None:
        return ""
    of = "" if not total else f" of {total:,} ({words.percent(done / total)})"
    left = "" if eta is None else f", about {words.duration(eta)} left"
    return f"{done:,}{of}{left}"


def _counts(refused: Mapping[str, int], *retried: Retried) -> str:
    counts = ((kind, refused.get(kind, 0)) for kind in Kind if kind.retried in retried)
    return ", ".join(f"{count:,} {kind}" for kind, count in counts if count)


def moments_of(status: Mapping[str, Any]) -> list[Moment]:
    """The history that came with `status`."""
    return [Moment(*moment) for moment in status.get("history", ())]


def page(
    several: Sequence[tuple[str, Mapping[str, Any], Sequence[Moment]]],
    problems: Iterable[str],
    columns: int,
) -> Text | Group:
    """A page of so many columns: one with all that is known, several in a few lines each, and what
    is wrong with others.
    """
    if not several:
        return Text("\n".join([_NOBODY, "", *problems]))
    width = max(20, columns - _MARGIN)
    if len(several) == 1:
        ((title, status, moments),) = several
        found = drawn(status, moments, width, title=title)
    else:
        found = all_drawn(several, width)
    return Group(found, *(Text(problem, "yellow") for problem in problems))


def rate_now(moments: Sequence[Moment]) -> float:
    """Attempts a second in the last minute."""
    found = per_second(moments, lambda moment: moment.sent, 1, _LATELY)
    return found[0] if found else 0.0


def bars(status: Mapping[str, Any], moments: Sequence[Moment]) -> Iterator[LimitBar]:
    """Each limit in force with what is used of it, those of keys too."""
    now = status["statistics"]
    measured = rate_now(moments)
    for limit in now["limits"]:
        yield _bar(limit, measured)
    if now["capacity"]:
        yield _slots(now)
    for name, key in now["keys"].items():
        of_key = [_slots(key)] if key["capacity"] else []
        of_key += [_bar(limit, 0.0) for limit in key["limits"] if limit["used"] is not None]
        for one in of_key:
            yield one._replace(said=f"{one.said} ({name})")


def _slots(counts: Mapping[str, Any]) -> LimitBar:
    said = f"{counts['in_flight']:,} of {words.count(counts['capacity'])}"
    return LimitBar("in flight", counts["in_flight"] / counts["capacity"], said)


def _bar(limit: Mapping[str, Any], measured: float) -> LimitBar:
    name = str(limit["what"]).replace("_", " ")
    stated = words.stated(limit["limit"], limit["per"])
    cut = "" if limit["factor"] >= 1 else f", {words.percent(limit['factor'])} in force"
    if limit["used"] is None:
        share = measured * limit["per"] / limit["limit"]
        return LimitBar(name, share, f"{words.rate(measured, limit['per'])} of {stated}{cut}")
    window = limit["limit"] * limit["window"] / limit["per"]
    used = f"{words.short(limit['used'])} of {words.short(window)}"
    free = f", room in {words.duration(limit['frees_in'])}" if limit["frees_in"] else ""
    said = f"{used} in {words.duration(limit['window'])}{cut}{free}"
    return LimitBar(name, limit["used"] / window, said)


def limit_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """The limits as they are stated."""
    for name, stated in status["limits"].items():
        if name != "concurrency":
            yield from (f"{each} of {name.replace('_', ' ')}" for each in stated)
    if status["limits"]["concurrency"] is not None:
        yield f"{status['limits']['concurrency']:,} in flight"


def key_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """What each key of jobs has done; nothing where there is but one."""
    found = _keys(status)
    for name, queued, in_flight, sent, refused, _ in found if len(found) > 1 else ():
        yield f"{name}: {queued} queued, {in_flight} in flight, {sent} sent, {refused} refused"


def line(status: Mapping[str, Any]) -> str:
    """All that matters of it in one line."""
    now = status["statistics"]
    return (
        f"{state(status)}: {now['queued']:,} queued, {now['in_flight']:,} in flight, "
        f"{now['sent']:,} sent, held back by {words.binds(now['binds'])}"
    )


def _keys(status: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The keys of jobs, those with the longest queue first: name, queued, in flight, sent, refused
    and tokens.
    """
    found = sorted(
        status["statistics"]["keys"].items(),
        key=lambda item: (-item[1]["queued"], -item[1]["sent"]),
    )
    return [
        (
            name, f"{key['queued']:,}", f"{key['in_flight']:,}", f"{key['sent']:,}",
            f"{sum(key['refused'].values()):,}", words.short(key["tokens"]),
        )
        for name, key in found[:_KEYS]
    ]  # fmt: skip


def drawn(
    status: Mapping[str, Any],
    moments: Sequence[Moment],
    width: int,
    *,
    title: str = "",
    plain: bool = False,
) -> Table:
    """All that is known of it, for `width` columns; `plain` for a terminal without blocks."""
    whole = Table.grid(expand=False)
    if title:
        whole.add_row(_title(title, status))
    whole.add_row(_named((n, Text(v, s, overflow="ellipsis")) for n, v, s in facts(status)))
    whole.add_row(_named(_limit_rows(status, moments, width, plain=plain)))
    charted = [*charts_of(moments, width, _fastest(status["statistics"]), plain=plain)]
    if charted:
        whole.add_row(_named(charted))
    whole.add_row(_key_table(status))
    return whole


def all_drawn(
    several: Sequence[tuple[str, Mapping[str, Any], Sequence[Moment]]], width: int
) -> Table:
    """The title of each, with what binds, its limits and what was sent, for `width` columns."""
    whole = Table.grid(expand=False)
    for title, status, moments in several:
        now = status["statistics"]
        whole.add_row(_title(title, status))
        whole.add_row(_named([("held back by", Text(_held(now)))]))
        whole.add_row(_named(_limit_rows(status, moments, width)))
        whole.add_row(_named([*charts_of(moments, width, _fastest(now))][:2]))
        whole.add_row("")
    return whole


def _title(title: str, status: Mapping[str, Any]) -> Text:
    up = words.duration(status["seconds"])
    return Text.assemble((title, "bold"), f"  {state(status)}, watched for {up}")


def _named(lines: Iterable[tuple[str, Text]]) -> Table:
    """Lines with their names at the left."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(min_width=_NAME - 1, no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for name, said in lines:
        table.add_row(Text(name, "dim"), said)
    return table


def _limit_rows(
    status: Mapping[str, Any], moments: Sequence[Moment], width: int, *, plain: bool = False
) -> Iterator[tuple[str, Text]]:
    longest = max(8, min(40, width - _NAME - 34))
    for name, share, said in bars(status, moments):
        style = "yellow" if share >= 0.9 else "green"
        yield name, Text.assemble((charts.bar(share, longest, plain=plain), style), " ", said)


def _fastest(now: Mapping[str, Any]) -> float:
    """The attempts a second that the limits state, quotas apart; 0 where they state none."""
    stated = [
        one["limit"] / one["per"]
        for one in now["limits"]
        if one["what"] == "requests" and one["frees_in"] is None
    ]
    return min(stated, default=0.0)


def charts_of(
    moments: Sequence[Moment], width: int, limit: float, *, plain: bool = False
) -> Iterator[tuple[str, Text]]:
    """The last minutes, a line for each figure that was ever above 0. The full height of what is
    sent is at least the `limit`, attempts a second (0: none).
    """
    if len(moments) < 2:
        return
    width = max(8, width - _NAME - 12)
    each = charts.columns(width, moments[-1].seconds - moments[0].seconds)
    longest = 0
    for name, values, least, unit, style in (
        ("sent", per_second(moments, lambda one: one.sent, width, each), limit, "/s", "cyan"),
        ("refused", per_second(moments, lambda one: one.refused, width, each), 0, "/s", "red"),
        ("in flight", levels(moments, lambda one: one.in_flight, width, each), 0, "", "green"),
        ("queued", levels(moments, lambda one: one.queued, width, each), 0, "", "blue"),
        ("tokens", per_second(moments, lambda one: one.tokens, width, each), 0, "/s", "magenta"),
        ("dollars", per_second(moments, lambda one: one.cost or 0, width, each), 0, "/s", "yellow"),
    ):
        if max(values, default=0) > 0:
            longest = len(values)
            (chart,) = charts.rows(values, max([least, *values]), plain=plain)
            of = f" of {words.short(least)}" if least else ""
            said = f" {words.short(values[-1])}{of}{unit}"
            yield name, Text.assemble((chart, style), (said, "dim"), no_wrap=True, overflow="crop")
    if longest:
        yield "", Text(f"the last {words.duration(round(longest * each))}", "dim")


def _key_table(status: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("key", no_wrap=True, overflow="ellipsis", max_width=30)
    for name in ("queued", "in flight", "sent", "refused", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in _keys(status):
        table.add_row(*(Text(cell) for cell in row))
    return table
