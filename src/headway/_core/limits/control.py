"""Control: the stated limit is a ceiling; below it the limits in force follow the server.

A server cannot be asked where its limit is, only be met there, and each meeting costs a refusal. So
both controllers hold a *plateau*, which was accepted for long, and probe above it at intervals that
double. Both work in cycles: only a refusal of an attempt that was *sent after the last cut* opens a
new one, so that a burst of refusals cuts once. Latency moves neither.

Source. Slow start, and holding what was safe while probing ever faster above it, are those of CUBIC
(RFC 9438, sections 4.2 and 4.10) and of BBR's ProbeBW (Cardwell et al., "BBR: congestion-based
congestion control", 2016), from which comes also that the rate which was *delivered* between two
losses is the measure, and not the rate at which it was lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from headway._core.limits.chance import Chance
from headway.rates import is_number

__all__ = ["HOLD", "LONGEST_HOLD", "RateControl", "number_in"]

INFINITY = float("inf")

_LEAST = 0.01  # of the stated rate
_FASTEST = 1e12  # a second: nobody means more
_DOUBLING = 10.0  # seconds in which a rate doubles that has never been cut
_OVERSHOT = 0.7  # a search meets a bucket's limit when its burst is spent, far above its refill

# Seconds for which a plateau is held before it is probed. One refusal in 100 s is one in a thousand
# at ten a second.
HOLD, _SHORTEST_HOLD, LONGEST_HOLD = 10.0, 2.5, 100.0
_SHORTEST_NEAR, _LONGEST_NEAR = (
    60.0,
    300.0,
)  # what is stated is mostly right: there is little to be found
_LONGEST_FALLEN = 45.0  # what fell is mostly given back
_FELL, _FALLEN_FOR = 0.75, 1200.0

# The ramp of a probe: the first step above the plateau, and the seconds in which it grows e-fold.
_RAMP = (0.04, 6.0)
_GENTLE_RAMP = (0.01, 15.0)  # where a refusal comes as a wall, each costs several
_WALL = 2.0  # seconds
_LOWEST_IN_WALL = 0.1  # of what met it: nobody knows whether it is a window, or the server is ill
_CALM = 5  # refusals of a plateau without a wall: the last one was chance
_IN_A_ROW = 2  # probes of the gate refused: a full window, and not the chance of an empty bucket

_NEAR = 0.8  # of the ceiling
_STEP, _STEP_NEAR = 0.985, 0.99  # down, where the plateau itself is refused
# Refused again within so many attempts, and once more: the limit fell, if less than so much of the
# plateau was accepted. Chance refuses as many, but not in so few.
_SOON, _AT_ONCE, _FALL, _FAR_BELOW, _OFTEN = 25.0, 8.0, 0.72, 0.7, 4
# Up, where a probe was refused: what a bucket accepted is its refill, of windows it may be chance.
_RAISE, _RAISE_GENTLE = 1.1, 1.005
_SETTLED = 0.995  # of what was accepted: at the refill itself a bucket never fills
_FAR_OF_CHANCE = 1.07
_FAR, _TRIED = 1.25, 0.7  # a probe this far above is tried as plateau, at this part of the way
_FARTHEST = 3.0
_FARTHER, _FADE = 1.1, 0.97  # than the probe before it; what a bucket's burst lets pass is no rise
_BELOW_MEASURE = 0.97
_DEEPEST = 0.6  # of a plateau, in one step
# What a window held is the limit, the first time, where it is between these: of a bucket it would
# be its burst, which is less, or more.
_LEAST_FOUND, _MOST_FOUND = 0.4, 0.8
_AS_MANY = 1.2  # times
_ANEW = 2.0  # windows
# Of a stated rate that is refused before its first window is over, though not at once.
_EARLY, _LEAST_EARLY = 0.5, 0.1
_MANY = 60.0  # attempts from which on what was accepted tells more than a step
_SLACK = 1.5  # attempts: what a bucket may hold at the ends of a cycle


class RateControl:
    """The rate in force, as `factor` times a base, up to `ceiling` times it.

    Of a stated rate it is the share in force: factor and ceiling are 1 at first. Of a rate that is
    to be found it is the rate itself, in units a second: it doubles every ten seconds until its
    first cut. Only time in which the rate was what held jobs back counts. `follows` says whether
    `sent` has to be told of attempts: of a stated rate that was never cut it has not.
    """

    __slots__ = (
        "_at", "_before", "_bound", "_calm", "_chance", "_cut_at", "_early", "_fallback",
        "_fell_at", "_former", "_full_until", "_grown", "_hold", "_proven",
        "_refused_at", "_refused_probe", "_searching", "_short", "_since", "_strikes", "_taken",
        "_time", "_unit", "_unsettled", "_wall_since", "_walled_at", "_walls", "_whole", "apart",
        "ceiling", "factor", "follows", "found", "known", "plateau", "walled",
    )  # fmt: skip

    def __init__(self, factor: float = 1.0, ceiling: float = 1.0) -> None:
        self.begin(factor, ceiling)

    def begin(self, factor: float, ceiling: float) -> None:
        """Know nothing: run at `factor`, up to `ceiling`, which is where a search goes."""
        self.factor = self.plateau = factor
        self.ceiling = ceiling
        self.follows = self._searching = factor < ceiling
        self._hold = HOLD
        self.found = False  # whether the last cut was to what a window held
        self.known = False  # whether one ever was
        self._early = 0.0  # what was sent of a window whose rate was refused before it was over
        self._full_until = -INFINITY  # the end of the window that was full when it was found
        self._fallback = 0.0  # the plateau before one that is on trial; 0 where none is
        self._former = 0.0  # the plateau from which it fell, until that was tried again
        self._bound = 0.0  # what a probe must reach before the next trial
        self._proven = factor  # the highest plateau that was held, since it fell
        self._fell_at = -INFINITY
        self.walled = False  # refusals come as walls: a full window lets nothing pass until it ends
        self._refused_probe = False
        self._unsettled = True  # no plateau was held since the limit was met, or fell
        self._short = 0  # cycles that were short, the last ones
        self._calm = 0  # refusals of the plateau in a row after which the gate's probe passed
        self._strikes = 0  # probes of the gate that were refused, in a row
        self._walls = False  # the last one did, and may not be over
        self._wall_since = -INFINITY
        self._walled_at = 0.0  # the factor that met it
        self._cut_at = -INFINITY
        # When the two attempts were sent that were refused last.
        self._refused_at = (-INFINITY, -INFINITY)
        self.apart = INFINITY  # seconds over which the three were sent that were
        self._since = -INFINITY  # when the attempt was sent whose refusal began the cycle
        self._grown = 0.0  # seconds that counted since
        self._at = -INFINITY
        # Units sent and not refused, over seconds: of this cycle, of it with the short ones before
        # it, and since the last long one began.
        self._taken = self._time = 0.0
        self._before = self._whole = (0.0, 0.0)
        self._unit = 0.0  # what the newest attempt took
        self._chance = Chance()  # of which refusals are about no limit

    def sent(self, units: float, now: float, *, binding: bool) -> float:
        """An attempt of `units` (of seconds at the base) starts; `binding` says whether the rate,
        or the gate that it shut, held it back since the last one. The factor from now on.
        """
        if self._refused_probe:
            self._end_wall(now)
        if binding and self._at > -INFINITY:
            elapsed = now - self._at
            self._grown += elapsed
            if self._at <= self._cut_at:
                # In a long gate a bucket fills, and says no more: half of it is counted.
                short = 2 * units / self.factor
                elapsed = min(elapsed, (elapsed + short) / 2)
            self._time += elapsed
            self._taken += units
        self._at = now
        self._unit = units
        if self._searching:
            factor = self._proven * 2.0 ** min(self._grown / _DOUBLING, 60.0)
        else:
            factor = self.plateau
            over = self._grown - (HOLD if self._fallback else self._hold)
            if over > 0 and self._former:
                # Chance refuses twice at once too: try where it was, once.
                self._fallback, self._grown, over = factor, 0.0, 0.0
                factor = self.plateau = self._former
                self._former = 0.0
            if over > 0:
                if self._fallback:  # what was on trial has held
                    self._fallback, self._bound, self._hold = 0.0, 0.0, HOLD
                self._unsettled = False
                if factor > self._proven:
                    self._proven = factor
                gentle = self._is_near() or self.walled or self.known
                step, seconds = _GENTLE_RAMP if gentle else _RAMP
                factor *= 1.0 + step * math.exp(min(over / seconds, 60.0))
        if factor >= self.ceiling:
            factor = self.ceiling
            if not self._searching and self._grown >= 2 * self._hold and not self._chance.share:
                self.plateau = self._proven = factor
                self.follows = False
        self.factor = factor
        return self.factor

    def cut(
        self,
        sent_at: float,
        now: float,
        *,
        probe: bool = False,
        window: tuple[float, float, float] | None = None,
    ) -> bool:
        """Learn from the refusal of an attempt sent at `sent_at`, the `probe` of a gate or not;
        True where that moved the rate. What was sent before the last cut moves nothing. `window`:
        the factor of which one window of the stated rate was full then, for how many seconds
        anything was sent in it, and its length.
        """
        three = (*self._refused_at, sent_at)
        self.apart, self._refused_at = max(three) - min(three), three[1:]
        # What is refused within a window of the one that showed the limit met that same one.
        if sent_at <= max(self._cut_at, self._full_until):
            if sent_at > self._since:
                self._taken = max(0.0, self._taken - self._unit)
            if sent_at > self._cut_at:
                self._grown = 0.0  # it is held from when the window has room again
            return False
        # What was sent after the refused one is not known yet: it is of the next cycle.
        followed = self.follows
        late = max(0.0, min(self._at - sent_at, self._time)) if followed else 0.0
        after = self.factor * late
        taken = max(0.0, self._taken - after - self._unit)
        time = self._time - late
        self.found = False
        filled, seen, span = window or (INFINITY, 0.0, 0.0)
        if not followed:  # nothing was counted but in windows
            taken, time = filled * span if span else INFINITY, seen
        held = self.plateau
        if not probe and self._is_chance(taken):
            self._short = 0
            self._taken, self._time = after, late
            self._since, self._cut_at = sent_at, now
            return False
        short = followed and taken < _SOON * self._unit
        if short or probe:
            self._whole = self._whole[0] + taken, self._whole[1] + time
        else:
            self._whole = taken, time
        if probe or (short and self._walls):
            self._follow_wall(sent_at, filled)
        else:
            self._end_walls(sent_at)
            mixed = not followed and sent_at < self._at + span  # filled at lower rates too
            if mixed or not self._by_window(taken, filled, seen, span, now):
                self._step_back(taken if followed else INFINITY, time, now, filled)
            if followed and held > _NEAR * self.ceiling:
                lowered = self.plateau
                self.plateau = self._chance.given_back(held, lowered, taken, self._unit)
                self._unsettled = self._unsettled and self.plateau == lowered
        self._taken, self._time = after, late
        self._searching = False
        self.plateau = max(_LEAST * min(1.0, self.ceiling), self.plateau)
        before, self.factor = self.factor, self.plateau
        self.follows = self.factor < self.ceiling
        self._since, self._cut_at = sent_at, now
        self._at = max(self._at, sent_at) if followed else now
        self._grown = 0.0
        self._refused_probe = probe
        return self.factor != before

    def _is_chance(self, taken: float) -> bool:
        """Whether a refusal, after `taken` units since the one before, is about no limit: then the
        plateau is held as if there was none. It is told near a stated ceiling alone: elsewhere
        what comes as often at a lower rate may be a rival's.
        """
        if self._fallback:
            return False
        if not self._chance.excuses(taken, self._unit):
            return False
        self._chance.met(self.plateau, taken, self._unit)
        self._strikes = 0
        self._walls = self._refused_probe = False
        return True

    def _end_walls(self, sent_at: float) -> None:
        """A refusal opens a cycle, and the last one's walls are over."""
        if self._strikes:
            self._calm = 0
        elif self.factor <= self.plateau:
            self._calm += 1
            if self._calm >= _CALM:
                self.walled = self.known = False
        self._wall_since, self._walled_at = sent_at, self.factor
        self._walls, self._strikes = False, 0

    def _by_window(self, taken: float, filled: float, seen: float, span: float, now: float) -> bool:
        """Choose the plateau by what a window of the stated rate held; False where that is mute.

        The first refusal within a window may show a count that is full, or a burst that is spent.
        As many again at another rate are a count.
        """
        first, self._early = self._early, 0.0
        if self.follows:
            held = taken / span if first and span and not self._fallback else 0.0
            found = first / _AS_MANY < held < first * _AS_MANY
            # What was found in a window that began anew under way was that of two.
            newly = self.known and now < self._full_until + _ANEW * span
            if not found and newly and _LEAST_FOUND <= filled / self.plateau < _BELOW_MEASURE:
                found = True
            else:
                filled = _BELOW_MEASURE * held
        else:
            found = _LEAST_FOUND * self.factor <= filled < _MOST_FOUND * self.factor
            if not found and seen < span and filled >= _LEAST_EARLY:
                self._early, self._former = filled, self.factor
                self.plateau = _EARLY * self.factor
                if filled > self.plateau:
                    self._full_until = now + span
                return True
        if found:
            self.found = self.known = True
            self.plateau = filled
            self._hold = min(max(HOLD, span), LONGEST_HOLD)
            self._full_until = now + span
        return found

    def _step_back(self, taken: float, time: float, now: float, filled: float) -> None:
        """A refusal opens a cycle: choose the plateau and its hold, by what the last one showed."""
        plateau, factor, unit = self.plateau, self.factor, self._unit
        near = self._is_near()
        gentle = near or self.walled or self.known
        attempts = taken / unit if time > 0 and unit else INFINITY
        short = attempts < _SOON and self._since > -INFINITY
        self._short = self._short + 1 if short else 0
        if self._short > 1:
            taken, time = taken + self._before[0], time + self._before[1]
        self._before = taken, time
        measure = (taken + _SLACK * unit) / time if time > 0 else INFINITY
        if self.known:  # a window that is known held so much, whatever its gate took
            least = _BELOW_MEASURE * filled
            measure, taken = max(measure, least), max(taken, least * time)
        if self._searching:
            self.plateau = self._proven = _OVERSHOT * factor
        elif self._fallback:
            floor, self._fallback = self._fallback, 0.0
            held = _BELOW_MEASURE * taken / time if attempts < _AT_ONCE else measure
            self.plateau = max(floor, min(_STEP * plateau, held))
        elif factor > plateau * 1.0001:
            self._hold = min(2 * self._hold, self._longest(now))
            far = _FAR if self._hold >= 2 * HOLD else _FAR_OF_CHANCE
            if factor > far * plateau and factor > self._bound:
                factor = min(factor, _FARTHEST * plateau)
                self._fallback, self._bound = plateau, _FARTHER * factor
                self.plateau = plateau + _TRIED * (factor - plateau)
            else:
                self._bound *= _FADE
                least, most = (1.0, _RAISE_GENTLE) if gentle else (_STEP, _RAISE)
                self.plateau = plateau * min(most, max(least, _SETTLED * measure / plateau))
        else:
            shortest = _SHORTEST_NEAR if near else HOLD if gentle else _SHORTEST_HOLD
            self._hold = max(shortest, self._hold / 2)
            self.plateau = (_STEP_NEAR if near else _STEP) * plateau
            if attempts >= _MANY or self._short > _OFTEN:
                self.plateau = min(self.plateau, measure)
            elif self._fell(taken, time, near=near):
                self.plateau = min(
                    self.plateau, max(_DEEPEST * plateau, _BELOW_MEASURE * taken / time)
                )
                if not self._unsettled:
                    self._former = plateau
                self._unsettled, self._short = True, 0
        self.plateau = min(self.plateau, factor)
        if self.plateau < _FELL * self._proven:
            self._proven = self.plateau
            self._fell_at = now

    def _fell(self, taken: float, time: float, *, near: bool) -> bool:
        """Whether what was accepted since the last refusal shows that the limit is far below."""
        if self._unsettled and not near:
            return True
        if self._unsettled and taken + self._unit < _FAR_BELOW * self.plateau * time:
            return True
        return self._short != 1 and taken + self._unit < _FALL * self.plateau * time

    def _follow_wall(self, sent_at: float, filled: float) -> None:
        """The probe of a gate is refused: what the last cycle showed held for this long too."""
        if self._fallback:
            self.plateau, self._fallback = self._fallback, 0.0
        if not self._walled_at:  # what opened the gate was of other limits
            self._wall_since, self._walled_at = sent_at, self.factor
        self._strikes += 1
        if self._strikes >= _IN_A_ROW:
            self._walls = True
            self._chance = Chance()
            self.walled = self.walled or sent_at - self._wall_since >= _WALL
            self.known = self.known or _LEAST_FOUND * self._walled_at <= filled < INFINITY
            self._lower_to_measure(0.0)
        if self.known:
            self.plateau = max(min(self.plateau, filled), _LEAST_FOUND * self.plateau)

    def _end_wall(self, now: float) -> None:
        """The next probe goes: if it is accepted, the wall ended somewhere in the gate's time."""
        self._refused_probe = False
        if self._walls:
            gate = now - self._at
            self._lower_to_measure(gate / 2)
            self._whole = self._whole[0], self._whole[1] + gate
            self._at = now  # a window has begun, and so has a cycle

    def _lower_to_measure(self, more: float) -> None:
        taken, time = self._whole
        if taken >= _AT_ONCE * self._unit > 0 and time > 0:
            measure = (taken + _SLACK * self._unit) / (time + more)
            self.plateau = min(self.plateau, max(measure, _LOWEST_IN_WALL * self._walled_at))
            if self.plateau < _LEAST_FOUND * self._walled_at and self.ceiling < INFINITY:
                # No window of a stated rate holds so little: the server was ill, and may be well.
                self._former, self._hold = self._walled_at, HOLD

    def _is_near(self) -> bool:
        return self.plateau > _NEAR * self.ceiling

    def _longest(self, now: float) -> float:
        if self._is_near():
            return _LONGEST_NEAR
        return _LONGEST_FALLEN if now < self._fell_at + _FALLEN_FOR else LONGEST_HOLD

    @property
    def best(self) -> float:
        """The highest plateau that was held lately, 0 where none was."""
        return self._former or (0.0 if self._unsettled else self._proven)

    def acquit(self) -> None:
        """The last refusals were not about the rate: what fell for them is given back."""
        if self._former:
            self.plateau = self.factor = self._former
            self._proven = max(self._proven, self._former)
            self._former = 0.0

    def limit_to(self, factor: float) -> None:
        """Follow a server that states its limit: run at `factor`, and not above it."""
        self.begin(factor, factor)

    def follow(self, factor: float) -> None:
        """Run at `factor`, which another one controls: probe nothing, and count nothing."""
        self.factor = self.plateau = min(self.ceiling, factor)
        self.follows = False

    def release(self) -> bool:
        """Forget what a server stated of a stated rate; False where there was nothing."""
        if self.ceiling >= 1.0:
            return False
        self.begin(1.0, 1.0)
        return True

    def snapshot(self) -> dict[str, float]:
        """What was learned, for another run: the plateau, the seconds for which it is held, and
        whether refusals come as walls. Empty where no limit was met.
        """
        if not self.follows or self._searching:
            return {}
        return {"plateau": self.plateau, "hold": self._hold, "walled": float(self.walled)}

    def restore(self, learned: Mapping[str, object]) -> bool:
        """Go on from the `snapshot` of an earlier run; False, and no change, where it is none, or
        what it says is beyond the ceiling.
        """
        plateau, hold = number_in(learned, "plateau"), number_in(learned, "hold")
        walled = number_in(learned, "walled")
        if plateau is None or hold is None or walled not in (0.0, 1.0):
            return False
        if not (_LEAST * min(1.0, self.ceiling) <= plateau <= min(self.ceiling, _FASTEST)):
            return False
        if not _SHORTEST_HOLD <= hold <= _LONGEST_NEAR:
            return False
        self.begin(plateau, self.ceiling)
        self._searching, self._hold, self.walled = False, hold, bool(walled)
        return True

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self._cut_at += seconds
        self._refused_at = (self._refused_at[0] + seconds, self._refused_at[1] + seconds)
        self._full_until += seconds
        self._since += seconds
        self._fell_at += seconds
        self._wall_since += seconds
        self._at += seconds


def number_in(values: Mapping[str, object], name: str) -> float | None:
    """The finite number called `name`; None where there is none."""
    value = values.get(name)
    if not is_number(value) or not math.isfinite(value):
        return None
    return float(value)
