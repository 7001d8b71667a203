"""What a fake provider saw, and whether that is what it should have seen."""

from __future__ import annotations

import math
from collections import defaultdict

from headway.errors import InvalidArgument
from headway.kinds._words import agreed, counted, percent, shown
from headway.rates import TOKEN_CLASSES, Limits, is_number
from headway.testing.account import What, counted_by
from headway.testing.arrivals import Arrival, find_worst_window, listed

__all__ = ["Seen"]

_WHATS = ("requests", *TOKEN_CLASSES)


class Seen:
    """The arrivals under `limits`, which hold for each key, or each model of each (``"model"``)."""

    def __init__(self, limits: Limits, lane: str) -> None:
        self.limits = limits
        self.arrivals: list[Arrival] = []
        self.in_flight_peak = 0
        self._lane = lane

    @property
    def refusals(self) -> list[Arrival]:
        """The arrivals that were told to come later: by a limit, or by a script's 429."""
        return [each for each in self.arrivals if each.refused]

    @property
    def answered(self) -> list[Arrival]:
        """The arrivals that got a whole answer that is a success."""
        return [each for each in self.arrivals if each.answered]

    def worst_window(
        self, per: float = 1.0, *, what: What = "requests", accepted: bool = False
    ) -> float:
        """The most that arrived in any window of `per` seconds: requests, or tokens of that class;
        only of those that no limit refused where `accepted` is true.

        Raises `InvalidArgument` for a window that is none, and for another `what`.
        """
        if not (is_number(per) and 0 < per < math.inf):
            raise InvalidArgument(
                f"per={shown(per)} is no window in seconds", fix="worst_window(60)."
            )
        if what not in _WHATS:
            raise InvalidArgument(
                f"what={shown(what)} is nothing that a limit counts",
                fix=f"one of {', '.join(_WHATS)}.",
            )
        chosen = [each for each in self.arrivals if not (accepted and each.refused)]
        return find_worst_window([(each.at, _amount(each, what)) for each in chosen], per).held

    # What it should have seen -------------------------------------------------------------------

    def assert_no_refusals(self) -> None:
        """Raise an `AssertionError` that shows what was refused, if anything was."""
        __tracebackhide__ = True
        if refused := self.refusals:
            raise AssertionError(
                f"{len(refused)} of {counted(len(self.arrivals), 'request', 'were')} refused under "
                f"{self._stated()}:\n{listed(refused, self._began())}"
            )

    def assert_within_limits(self) -> None:
        """Raise an `AssertionError` where a window of any phase held more than a limit, refused or
        not, or a request came beyond the concurrency; it shows those arrivals.
        """
        __tracebackhide__ = True
        for arrivals in self._lanes():
            for each in counted_by(self.limits):
                rate = each.rate
                events = [(arrival.at, each.amount(arrival.cost)) for arrival in arrivals]
                worst = find_worst_window(events, rate.span)
                if worst.held > rate.share:
                    inside = arrivals[worst.first : worst.last + 1]
                    raise AssertionError(
                        f"{worst.held:g} {each.what.replace('_', ' ')} arrived within "
                        f"{inside[-1].at - inside[0].at:.3f} s, where {rate.span:g} s allow "
                        f"{rate.share:g} ({each}):\n{listed(inside, self._began())}"
                    )
        beyond = [each for each in self.arrivals if each.refused_by == "concurrency"]
        if beyond:
            raise AssertionError(
                f"{counted(len(beyond), 'request')} came while {self.limits.concurrency} "
                f"{agreed(self.limits.concurrency or 0, 'were')} in flight, "
                f"which is the limit:\n{listed(beyond, self._began())}"
            )

    def assert_all_answered(self, count: int | None = None) -> None:
        """Raise an `AssertionError` where a request was never answered with success, not by a
        later try of the same either; or where `count`, the successes there should be, is another.
        """
        __tracebackhide__ = True
        done = {(each.path, each.key, each.content) for each in self.answered}
        lost = {
            asked: each
            for each in self.arrivals
            if (asked := (each.path, each.key, each.content)) not in done
        }
        if lost:
            raise AssertionError(
                f"{len(lost)} of {counted(len(lost) + len(done), 'request', 'were')} never "
                f"answered; the last try of each:\n{listed(lost.values(), self._began())}"
            )
        if count is not None and len(self.answered) != count:
            raise AssertionError(
                f"{counted(len(self.answered), 'request', 'were')} answered, not {count}, of "
                f"{len(self.arrivals)} that arrived"
            )

    def assert_rate_at_least(self, share: float = 0.95) -> None:
        """Raise an `AssertionError` where no rate that it states was used to that `share`, from 0
        to 1, between the first arrival and the last.

        Raises `InvalidArgument` for another share, and for a provider that states no rate.
        """
        __tracebackhide__ = True
        if not (is_number(share) and 0 < share <= 1):
            raise InvalidArgument(f"share={shown(share)} is not from 0 to 1", fix="share=0.95.")
        if not counted_by(self.limits):
            raise InvalidArgument(
                "the fake provider states no rate of which a share could be used",
                fix='FakeProvider("600/min").',
            )
        said = []
        for arrivals in self._lanes():
            taken = [each for each in arrivals if not each.refused]
            seconds = taken[-1].at - taken[0].at if taken else 0.0
            if not seconds:
                were = counted(len(taken), "request", "were")
                said.append(f"{were} taken in at one moment: no rate")
                continue
            reached = {
                str(each): sum(each.amount(arrival.cost) for arrival in taken[:-1])
                / seconds * each.rate.per / each.rate.limit
                for each in counted_by(self.limits)
            }  # fmt: skip
            if max(reached.values()) >= share:
                return
            used = ", ".join(f"{percent(part)} of {name}" for name, part in reached.items())
            said.append(f"{counted(len(taken), 'request')} in {seconds:.3f} s used {used}")
        raise AssertionError(
            f"{'; '.join(said) or 'nothing arrived'}; {percent(share)} was to be reached"
        )

    def _lanes(self) -> list[list[Arrival]]:
        """The arrivals of each that has the limits for itself."""
        lanes = defaultdict(list)
        for each in self.arrivals:
            lanes[each.key, each.model if self._lane == "model" else ""].append(each)
        return list(lanes.values())

    def _began(self) -> float:
        return self.arrivals[0].at if self.arrivals else 0.0

    def _stated(self) -> str:
        said = [str(each) for each in counted_by(self.limits)]
        if self.limits.concurrency is not None:
            said.append(f"{self.limits.concurrency} in flight")
        return ", ".join(said) or "no limit"


def _amount(arrival: Arrival, what: What) -> float:
    cost = arrival.cost
    amounts = {
        "requests": 1.0,
        "tokens": float(cost),
        "input_tokens": cost.input + cost.cached,
        "output_tokens": cost.output,
    }
    return amounts[what]
