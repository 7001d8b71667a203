"""Refusals that are chance: they come as often at a lower rate, as those of no limit do.

A limit below nine tenths of a rate refuses a tenth of what is sent at it, and one above that
nothing of what is sent there. So where a few of a hundred are refused, and as many when the rate
has come down by a tenth in small steps, it is not the rate that is refused.
"""

from __future__ import annotations

__all__ = ["Chance"]

_HALF_DOWN, _DOWN = 0.95, 0.9  # of the rate at which the row began
_STEP = 0.95  # what falls farther at once follows what was accepted: that is a limit
_ROW, _LOWER = 8.0, 3.0  # refusals at least, in all and in the lower half
_LEAST, _MOST = 0.01, 0.03  # of what is accepted: less is borne, and more may be a limit
_AS_OFTEN = 0.5  # in the lower half, of the share in the upper one
_EXCUSED = 1.5  # times the share that is chance
_KEPT = 0.98  # of what was counted, at each refusal more
_SPARE = 3.0  # refusals that may come at once
_OVER = 10.0  # times as many attempts without one: the server is well again


class Chance:
    """Watches the refusals of one rate; `share` of what is accepted is refused by chance (0: none).

    Units are those of the rate's control: what `taken` counts is what was accepted.
    """

    __slots__ = ("_lately", "_lower", "_spare", "_top", "_upper", "share")

    def __init__(self) -> None:
        self.share = 0.0
        self._lately = 0.0, 0.0  # units refused and accepted, which fade
        self._spare = 0.0  # units that may be refused
        self.begin()

    def begin(self, top: float = 0.0) -> None:
        """Watch from the rate `top` on."""
        self._top = top
        self._upper = self._lower = (0.0, 0.0)  # units refused and accepted, by halves of the way

    def excuses(self, taken: float, unit: float) -> bool:
        """Whether the refusal of an attempt of `unit`, after `taken` since the one before, is no
        more than chance.
        """
        if not self.share:
            return False
        if taken * self.share > _OVER * unit:
            self.share = 0.0
            return False
        self._spare = min(_SPARE * unit, self._spare + _EXCUSED * self.share * taken)
        if self._spare < unit:
            return False
        self._spare -= unit
        return True

    def met(self, rate: float, taken: float, unit: float) -> None:
        """A refusal of an attempt of `unit`, which is excused, after `taken` at `rate` since the
        one before: it is of the row, and of the share that is chance.
        """
        self._count(rate, taken, unit)
        refused, accepted = self._lately
        self._lately = _KEPT * refused + unit, _KEPT * accepted + taken
        self.share = min(_MOST, max(_LEAST, self._lately[0] / self._lately[1]))

    def _count(self, rate: float, taken: float, unit: float) -> None:
        if rate > _HALF_DOWN * self._top:
            self._upper = self._upper[0] + unit, self._upper[1] + taken
        else:
            self._lower = self._lower[0] + unit, self._lower[1] + taken

    def given_back(self, before: float, after: float, taken: float, unit: float) -> float:
        """A refusal of an attempt of `unit`, after `taken` since the one before, moved the rate
        from `before` to `after`. The rate to go on at: that of the row's beginning, where the row
        shows chance.
        """
        if after < _STEP * before or before > self._top:
            self.begin(after if after < _STEP * before else before)
            return after
        top = self._top
        self._count(before, taken, unit)
        if after > _DOWN * top:
            return after
        (more, most), (refused, accepted) = self._upper, self._lower
        self.begin(after)
        share = (more + refused) / (most + accepted) if accepted else 1.0
        enough = refused >= _LOWER * unit and more + refused >= _ROW * unit
        alike = refused * most >= _AS_OFTEN * more * accepted
        if not (enough and alike and _LEAST <= share <= _MOST):
            return after
        self.share, self._spare = share, _SPARE * unit
        self._lately = more + refused, most + accepted
        return top
