"""A control and the paces that it steers: what a refusal does to both, and for how long it shuts
the gate.
"""

from __future__ import annotations

from headway._core.limits.control import RateControl
from headway._core.limits.evidence import Tally
from headway._core.limits.pace import Pace
from headway.rates import LATENESS, Rate

__all__ = [
    "NEXT_TO",
    "ONE_A_SECOND",
    "follow_server",
    "is_alone",
    "is_safe",
    "meet",
    "reopens_in",
    "steer",
]

INFINITY = float("inf")

# What a rate that is looked for is a multiple of.
ONE_A_SECOND = Rate(1.0, per=1.0, jitter=0.0)

_BELOW = 0.99  # of what a server states: its clock is not ours

_SHORTEST_GATE = 0.05  # seconds: a refusal takes as long to be heard of
_WALL_GATE = 1.0  # where refusals come as walls, which may last
NEXT_TO = 6  # attempts: three refusals of so many
_WINDOW_SHOWS = 2  # strikes after which a full window is what refuses, and no empty bucket


def steer(
    control: RateControl, paces: list[Pace], cost: float, now: float, *, binding: bool
) -> None:
    """An attempt of `cost` units starts, which the rate held back (`binding`) or not."""
    before = control.factor
    factor = control.sent(cost * paces[0].base, now, binding=binding)
    if factor != before:
        for pace in paces:
            pace.slow_to(factor, now)


def meet(
    control: RateControl,
    paces: list[Pace],
    tally: Tally | None,
    sent_at: float,
    now: float,
    *,
    probe: bool,
    part: float = 1.0,
) -> bool:
    """Slow the paces for a refusal of what was sent at `sent_at`, of the gate's `probe` or not;
    False in the same cycle. What was sent is `part` of what all have sent that share the limit.
    """
    window: tuple[float, float, float] | None = None
    if tally is not None:
        window = tally.filled(sent_at, now) / part, tally.seen_for(sent_at), paces[0].rate.span
    if not control.cut(sent_at, now, probe=probe, window=window):
        return False
    for pace in paces:
        pace.slow_to(control.factor, now)
    return True


def reopens_in(
    control: RateControl,
    pace: Pace,
    tally: Tally | None,
    units: float,
    strikes: int,
    now: float,
) -> float:
    """Seconds for which a refusal shuts the gate, after `strikes` earlier ones in a row: two
    attempts of `units` at the pace in force, which is known to be safe, or as long as a refusal
    takes to be heard of, where it does not come alone; three times as long for each strike, or
    until a window of the stated rate that is full has room again.
    """
    wait = 2 * units * pace.interval
    # Of a rate that was refused twice nobody knows whether more follow.
    if strikes or control.apart == INFINITY or not is_alone(control, pace, units):
        wait = max(_WALL_GATE if control.walled else _SHORTEST_GATE, wait)
    wait *= 3.0**strikes
    if tally is not None and strikes == (0 if control.found else _WINDOW_SHOWS):
        return max(wait, tally.clears_in(now) + pace.rate.delay_bound + LATENESS)
    return wait


def is_safe(control: RateControl, pace: Pace, units: float, round_trip: float) -> bool:
    """Whether the pace in force is known to be safe after a refusal: not where refusals come as
    walls, nor where many attempts of `units` would be sent before the probe's refusal is heard.
    """
    slow = 2 * units * pace.interval >= round_trip
    return slow and not (control.walled or control.found)


def is_alone(control: RateControl, pace: Pace, units: float) -> bool:
    """Whether most of the attempts of `units` that were sent next to a refused one passed: a full
    window, or an empty bucket, refuses more of them.
    """
    alone = control.apart > NEXT_TO * units * pace.interval
    return alone and not (control.walled or control.found)


def follow_server(control: RateControl, paces: list[Pace], rate: float, now: float) -> bool:
    """Keep below `rate`, units a second that the server states; False where that is old."""
    stated = control.ceiling <= 1.0 and paces[0].rate is not ONE_A_SECOND
    factor = _BELOW * rate * paces[0].base
    if stated:
        factor = min(1.0, factor)
    if abs(factor - control.ceiling) <= 0.001 * factor:
        return False
    control.limit_to(factor)
    for pace in paces:
        pace.slow_to(factor, now)
    return True
