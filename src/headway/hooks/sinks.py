"""Events on their way to those who listen: handed on in order, and never waited for.

A sink is any callable that takes an event. None of them runs in the task that polls, which only
hands events on: the event loop calls the sinks at its next turn. One that raises is told of once,
and goes on getting events. So is one that is slow, for the event loop stands still meanwhile.
"""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

from headway.events import Event
from headway.kinds._words import duration, shown, with_fix

__all__ = ["Sink", "Sinks"]

logger = logging.getLogger("headway")

# Seconds: what a sink may take for an event, and how far in all it may fall behind that: farther
# than a machine that is busy elsewhere makes one fall that is not slow.
_FOR_AN_EVENT = 0.001
_MOST_BEHIND = 0.25

Sink: TypeAlias = Callable[[Event], object]


class Sinks:
    """The sinks of one scheduler. `next_turn` has the event loop call a function soon."""

    def __init__(
        self, sinks: Iterable[Sink], next_turn: Callable[[Callable[[], object]], object]
    ) -> None:
        self._sinks = tuple(sinks)
        self._next_turn = next_turn
        self._waiting: deque[Event] = deque()
        self._called = False  # the loop will call `deliver`
        self._failed: set[int] = set()  # sinks that have raised
        self._slow: set[int] = set()  # sinks that were told to be slow
        self._behind = [0.0] * len(self._sinks)  # seconds that each has taken beyond what it may
        self._exit: BaseException | None = None  # what one raised that is no `Exception`

    def hand(self, events: Iterable[Event]) -> None:
        """Hand `events` on. Raises what a sink has raised that is no `Exception`: an exit, say,
        which the event loop itself could not pass to anybody.
        """
        self._waiting += events
        if self._waiting and not self._called:
            self._called = True
            self._next_turn(self.deliver)
        if self._exit is not None:
            error, self._exit = self._exit, None
            raise error

    def keep(self, error: BaseException) -> None:
        """Raise `error`, of a sink's, in the next `hand`: nobody could be told of it here."""
        self._exit = self._exit or error

    def deliver(self) -> None:
        """Call every sink with what waits."""
        self._called = False
        waiting = self._waiting
        while waiting:
            events = [waiting.popleft() for _ in range(len(waiting))]  # other threads add to it
            for number, sink in enumerate(self._sinks):
                began = time.perf_counter()
                for event in events:
                    try:
                        sink(event)
                    except (Exception, CancelledError):  # of what it looked at: nobody cancels it
                        self._tell(number, event)
                    except BaseException as error:
                        self.keep(error)
                self._took(number, time.perf_counter() - began, len(events))

    def _took(self, number: int, seconds: float, events: int) -> None:
        """The sink of that number took so many seconds for so many events."""
        behind = self._behind[number] = max(
            0.0, self._behind[number] + seconds - events * _FOR_AN_EVENT
        )
        if behind > _MOST_BEHIND and number not in self._slow:
            self._slow.add(number)
            logger.warning(
                with_fix(
                    "on_event=%s is slow: it took %s for the last %d events, and the event loop "
                    "stood still meanwhile. This is told once",
                    "on_event=queue.put of a queue.SimpleQueue, and a thread that does the work",
                ), shown(self._sinks[number]), duration(seconds), events,
            )  # fmt: skip

    def _tell(self, number: int, event: Event) -> None:
        if number not in self._failed:
            self._failed.add(number)
            logger.exception(
                "on_event= raised for %r; the job goes on, and this is told once", event
            )
