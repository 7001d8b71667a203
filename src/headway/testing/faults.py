"""What goes wrong at a fake provider: one fault, and which request meets it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias, get_args

from headway.errors import InvalidArgument
from headway.kinds._words import shown
from headway.rates import is_number

__all__ = ["Broken", "Fault", "FaultLike", "Faults"]

Broken: TypeAlias = Literal["connect", "disconnect", "timeout", "malformed", "cut"]
_BROKEN = get_args(Broken)
_HOW = (
    "a status from 400 to 599, "
    + ", ".join(f'"{name}"' for name in _BROKEN)
    + ", or a Fault(429, retry_after=2)"
)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. `what` is a status from 400 to 599, or

    - ``"connect"``: no connection is made;
    - ``"disconnect"``: the connection is dropped before a byte of the answer;
    - ``"timeout"``: no answer comes;
    - ``"malformed"``: a success whose body is no JSON;
    - ``"cut"``: the answer ends in its middle.

    `retry_after` is the seconds that an answer names, None for none, and `message` its text.
    Raises `InvalidArgument`.
    """

    what: int | Broken
    retry_after: float | None = None
    message: str = ""

    def __post_init__(self) -> None:
        is_status = isinstance(self.what, int) and 400 <= self.what <= 599
        if isinstance(self.what, bool) or not (is_status or self.what in _BROKEN):
            raise InvalidArgument(f"{shown(self.what)} is no fault of a provider", fix=f"{_HOW}.")
        wait = self.retry_after
        if wait is not None and not (is_number(wait) and 0 <= wait < math.inf):
            raise InvalidArgument(
                f"retry_after={shown(wait)} is no time to wait in seconds",
                fix="retry_after=2, or leave it out for none.",
            )


FaultLike: TypeAlias = Fault | int | Broken


def _read(value: object) -> Fault:
    return value if isinstance(value, Fault) else Fault(value)  # type: ignore[arg-type]  # - checked


def _read_line(value: object) -> Fault | None:
    return None if value is None else _read(value)


class Faults:
    """Which request meets which fault: those that are set come first, one for each request, and
    then chance.

    `stated` is a share of all requests (they get a 500), a mapping of faults to their shares, or a
    script, which may be endless: a fault, or None, for each request. Raises `InvalidArgument`.
    """

    def __init__(
        self,
        stated: float | Mapping[FaultLike, float] | Iterable[FaultLike | None] | None,
        random: Random,
    ) -> None:
        self._random = random
        self._next: deque[Fault] = deque()
        self._script: Iterator[Fault | None] = iter(())
        self._shares: list[tuple[Fault, float]] = []
        if stated is None:
            return
        given: object = stated
        if is_number(given):
            given = {500: given}
        if isinstance(given, Mapping):
            self._shares = [(_read(fault), share) for fault, share in given.items()]
            self._check_shares()
        elif isinstance(given, Iterable) and not isinstance(given, str | bytes):
            lines = map(_read_line, given)
            # What is wrong in a list is told where it is given.
            self._script = iter([*lines]) if isinstance(given, Sized) else lines
        else:
            raise InvalidArgument(
                f"faults={shown(stated)} says nothing of faults",
                fix='0.1 for a tenth of all, {503: 0.1, "disconnect": 0.02}, or a list with one '
                "for each request.",
            )

    def _check_shares(self) -> None:
        shares = [share for _, share in self._shares]
        if not all(is_number(share) and 0 <= share <= 1 for share in shares) or sum(shares) > 1:
            raise InvalidArgument(
                f"faults={shown({fault.what: share for fault, share in self._shares})}: the shares "
                "of all requests are from 0 to 1, and so is their sum",
                fix="0.1 for a tenth.",
            )

    def set_next(self, fault: Fault, times: int) -> None:
        """Let the next requests, so many of them, meet `fault`. Raises `InvalidArgument`."""
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise InvalidArgument(
                f"times={shown(times)} is not a whole number from 1: it is how many requests fail",
                fix="times=3.",
            )
        self._next += [fault] * times

    def draw(self) -> Fault | None:
        """What the next request meets."""
        if self._next:
            return self._next.popleft()
        scripted = next(self._script, None)
        if scripted is not None:
            return scripted
        drawn = self._random.random() if self._shares else 1.0
        for fault, share in self._shares:
            drawn -= share
            if drawn < 0:
                return fault
        return None
