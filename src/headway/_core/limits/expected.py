"""What attempts in flight will use of the tokens that they reserved, as those that ended tell.

Certain is only that they use no more than they reserved. What is expected of them, with a margin,
is a risk that a budget takes where reservations are estimates: see "Pacing" in the design.
"""

from __future__ import annotations

__all__ = ["Expected"]

# Gains of the filters, for the level and for the trend: of what is still, what varies, what drifts.
_FILTERS = ((0.1, 0.0), (0.7, 0.0), (0.5, 0.15))
_KEPT = 0.95  # of the mean square of their errors, from round to round

# Rounds that are heard before anything is expected. Each refusal of the server's doubles them.
_ROUNDS = 8

# Standard errors in the margin: one round in 30,000 is above it. More where few were heard, as
# Student's t has it.
_ERRORS = 4.0
_FEW = 6.0  # rounds: where so many were heard the margin is twice as wide

# The least margin, as a share of the window, for what begins to drift.
_LEAST = 0.0125


class Expected:
    """How much of what is reserved in flight will not be used, with a margin.

    It is learned in *rounds*: in each, as many reserved tokens end as were in flight when it began,
    so that the error of a forecast of a round is one of what is in flight. An attempt counts by the
    time that it took, for so much more often it is in flight. Three alpha-beta filters (Benedict
    and Bordner, 1962) forecast the next round's share, and the one that is surest is followed.

    `held` is what is reserved in flight, as far as the window of `share` tokens holds it.
    """

    __slots__ = ("_ended", "_filters", "_heard", "_least", "_needed", "_reserved", "_round",
                 "_used", "held")  # fmt: skip

    def __init__(self, share: float) -> None:
        self.held = 0.0
        self._least = _LEAST * share
        self.forget()

    def forget(self) -> None:
        """Begin anew: nothing is expected, and no server has refused anything."""
        self._needed = _ROUNDS
        self._begin()

    def doubt(self) -> None:
        """A server refused: more was used than was expected, or it counts what is reserved."""
        if self._heard >= self._needed:
            self._needed *= 2
            self._begin()

    def _begin(self) -> None:
        self._filters = [_Filter(*gains) for gains in _FILTERS]
        self._heard = 0  # rounds
        self._round = self._ended = 0.0  # tokens that the round takes, and that have ended in it
        self._reserved = self._used = 0.0  # in the round, by the time that it took

    def adopt(self, older: Expected) -> None:
        """Go on from an `older` one, with all that it holds."""
        self.held = older.held
        self._needed, self._heard, self._filters = older._needed, older._heard, older._filters

    def ended(self, reserved: float, used: float, seconds: float) -> None:
        """An attempt that had reserved so much has used so much, after so long."""
        if not self._ended:
            self._round = self.held + reserved
        self._ended += reserved
        self._reserved += reserved * seconds
        self._used += used * seconds
        if self._ended < self._round or not self._reserved:
            return
        for each in self._filters:
            each.hear(self._used / self._reserved, self._heard)
        self._heard += 1
        self._ended = self._reserved = self._used = 0.0

    def spare(self, held: float) -> float:
        """How much of `held` reserved tokens will not be used."""
        if self._heard < self._needed:
            return 0.0
        part = share = 0.0
        if self._reserved:
            part, share = min(1.0, self._ended / self._round), self._used / self._reserved
        errors = _ERRORS * (1.0 + _FEW / self._heard)
        used = held
        for each in self._filters:
            expected, margin = each.bound(errors, part, share)
            used = min(used, held * expected + max(self._least, held * margin))
        return held - used


class _Filter:
    """A forecast of the share that the next round uses."""

    __slots__ = ("error", "gain", "rise", "share", "trend")

    def __init__(self, gain: float, trend: float) -> None:
        self.gain = gain
        self.trend = trend
        self.share = 0.0
        self.rise = 0.0  # from round to round
        self.error = 0.0  # of the forecasts, the mean square

    def hear(self, share: float, heard: int) -> None:
        """A round has used that `share`, after so many that were heard."""
        if not heard:
            self.share = share
            return
        error = share - self.share
        self.error += (error * error - self.error) * max(1.0 - _KEPT, 1.0 / heard)
        self.rise += self.trend * error
        self.share += max(self.gain, 1.0 / (heard + 1)) * error + self.rise

    def bound(self, errors: float, part: float, share: float) -> tuple[float, float]:
        """The share that is expected, of the round of which a `part` is over and used that `share`:
        a rise counts at once; and a margin of so many standard `errors`.

        Errors are skewed as those of a sum of answers are whose lengths are exponential, which is a
        gamma distribution (Cornish and Fisher, 1938).
        """
        expected = max(0.0, self.share, self.share + self.gain * part * (share - self.share))
        error = self.error**0.5
        if not error:
            return expected, 0.0
        skew = (errors * errors - 1.0) / 3.0 * error / max(expected, error)
        return expected, error * (errors + skew)
