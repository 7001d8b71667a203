"""A `Plan` as text for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from headway.kinds._words import (
    binds,
    counted,
    duration,
    money,
    number,
    percent,
    rate,
    short,
    with_fix,
)

if TYPE_CHECKING:
    from headway.bulk.plan.plan import Plan
    from headway.bulk.plan.simulation import Simulation

__all__ = ["as_json", "describe"]

_WORTH = 0.98  # a change that leaves more of the time than this changes nothing


def describe(plan: Plan) -> str:
    """`plan` as text for a terminal."""
    done = plan.simulation
    lines = [f"{counted(done.calls, 'request')} would take {duration(done.seconds)}.", ""]
    if done.calls and done.seconds:
        lines.append(f"  rate       {rate(done.calls / done.seconds, 60)}")
        mean = done.busy / done.seconds
        lines.append(f"  in flight  {done.most_in_flight:,} at most, {number(mean)} on average")
    if plan.limits.quotas:
        lines.append(f"  ends       {_end(plan)}")
    lines.append(f"  tokens     {short(plan.input_tokens)} in, {short(plan.output_tokens)} out")
    lines.append(f"  cost       {_cost(plan)}")
    if plan.bad:
        lines.append(f"  bad lines  {plan.bad:,}, which are not sent: headway run --check")
    if done.too_large:
        lines.append(
            f"  too large  {done.too_large:,}, which reserve more tokens than the whole limit"
        )
    if done.seconds:
        lines += ["", "What binds", *_binding_lines(done)]
    if plan.changes:
        lines += ["", "To be faster", *_change_lines(plan)]
    return "\n".join([*lines, "", "Assumed", *(f"  {sentence}" for sentence in plan.assumed)])


def _end(plan: Plan) -> str:
    """On which day of the run, and of the calendar of this machine, it will end."""
    end = datetime.fromtimestamp(plan.ends_at).astimezone()
    began = datetime.fromtimestamp(plan.ends_at - plan.seconds).astimezone()
    days = (end.date() - began.date()).days
    return f"on day {days + 1}, {end:%a %d %b %Y at %H:%M}"


def _binding_lines(done: Simulation) -> Iterator[str]:
    for name, seconds in sorted(done.binds.items(), key=lambda pair: -pair[1]):
        shown = binds(name) if name else "nothing: what is in flight is all there is left"
        if round(100 * seconds / done.seconds):
            yield f"  {percent(seconds / done.seconds):>4}  {shown}"


def _change_lines(plan: Plan) -> Iterator[str]:
    shares = {change.what: change.seconds / plan.seconds for change in plan.changes}
    single = min(share for what, share in shares.items() if what != "all")
    # All of them together are worth a line where that does more than the best one alone.
    shown = [one for one in plan.changes if one.what != "all" or shares["all"] < 0.95 * single]
    width = max(len(change.flags) for change in shown)
    for change in shown:
        same = shares[change.what] > _WORTH
        yield f"  {change.flags:<{width}}  {'no change' if same else duration(change.seconds)}"
    if min(shares.values()) > _WORTH:
        yield "  No limit is in the way: the calls themselves take this long."


def _cost(plan: Plan) -> str:
    if plan.cost is None:
        return with_fix("unknown: no price is known for these models", "--prices FILE")
    known = money(plan.cost)
    if plan.unpriced:
        return (
            f"{known}, and {counted(plan.unpriced, 'request')} of models without a price "
            "(--prices FILE)"
        )
    return known


def as_json(plan: Plan) -> dict[str, Any]:
    """`plan` as JSON holds it: numbers in seconds, tokens and dollars."""
    done = plan.simulation
    return {
        "requests": done.calls,
        "bad_lines": plan.bad,
        "too_large": done.too_large,
        "seconds": done.seconds,
        "ends_at": plan.ends_at,
        "input_tokens": plan.input_tokens,
        "output_tokens": plan.output_tokens,
        "cost": plan.cost,
        "unpriced": plan.unpriced,
        "in_flight": {
            "most": done.most_in_flight,
            "mean": done.busy / done.seconds if done.seconds else 0.0,
        },
        "binds": {name or "nothing": seconds for name, seconds in done.binds.items()},
        "changes": [
            {"what": one.what, "flags": one.flags, "seconds": one.seconds} for one in plan.changes
        ],
        "assumed": list(plan.assumed),
    }
