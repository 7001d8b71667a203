"""Events on their way to those who listen: handed on in order, and never waited for.

A sink is any callable that takes an event. One that has a set of events' classes as `wants` gets
those alone, and what nobody wants of a job is not made. None of them runs in the task that polls,
which only hands events on: the event loop calls the sinks at its next turn. One that raises is told
of once, and goes on getting events. So is one that is slow, for the event loop stands still
meanwhile.
"""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Set
from contextlib import AbstractContextManager
from typing import TypeAlias

from headway.events import Event
from headway.hooks.around import Around, Hook
from headway.kinds._words import counted, duration, shown, with_fix

__all__ = ["Sink", "Sinks", "stated_wants", "wanted"]

logger = logging.getLogger("headway")

# Seconds: what a sink may take for an event, and how far in all it may fall behind that: farther
# than a machine that is busy elsewhere makes one fall that is not slow.
_FOR_AN_EVENT = 0.001
_MOST_BEHIND = 0.25

Sink: TypeAlias = Callable[[Event], object]


def wanted(sinks: Iterable[Sink], *events: type[Event]) -> bool:
    """Whether one of `sinks` is to be told of one of `events`."""
    return any(wants is None or not wants.isdisjoint(events) for wants in map(_wants, sinks))


def _wants(sink: Sink) -> frozenset[type[Event]] | None:
    """The events that `sink` is told of; None for all."""
    if isinstance(sink, Hook) and sink.idle():
        return frozenset()
    wants = stated_wants(sink)
    return None if wants is None or Event in wants else frozenset(wants)


def stated_wants(sink: Sink) -> Set[type[Event]] | None:
    """The events that `sink` says it wants to be told of; None where it says nothing."""
    wants: object = getattr(sink, "wants", None)
    return wants if isinstance(wants, Set) else None


class Sinks:
    """The sinks of one scheduler, which holds `lock` while it adds to `events`. `next_turn` has the
    event loop call a function soon; it returns False where there is none to do so.
    """

    def __init__(
        self,
        sinks: Iterable[Sink],
        around: Around | None,
        events: list[Event],
        lock: AbstractContextManager[object],
        next_turn: Callable[[Callable[[], object]], bool],
    ) -> None:
        self._sinks = tuple(sinks)
        self._wants = [_wants(sink) for sink in self._sinks]
        all_wanted = [one for one in self._wants if one is not None]
        self._wanted = (
            frozenset[type[Event]]().union(*all_wanted)
            if len(all_wanted) == len(self._wants)
            else None
        )
        self._around = around
        self._events = events
        self._lock = lock
        self._next_turn = next_turn
        self._waiting: list[Event] = []
        self._called = False  # the loop will call `deliver`
        self.underway = False  # what is added to `events` is delivered without being handed on
        self._delivered: list[Callable[[], object]] = []  # called when all is delivered
        self._failed: set[int] = set()  # sinks that have raised
        self._slow: set[int] = set()  # sinks that were told to be slow
        self._behind = [0.0] * len(self._sinks)  # seconds that each has taken beyond what it may
        self._exit: BaseException | None = None  # what one raised that is no `Exception`

    def hand(self) -> None:
        """Hand the events on, with the lock held. Raises what a sink has raised that is no
        `Exception`: an exit, say, which the event loop itself could not pass to anybody.
        """
        self._pass_on()
        if self._exit is not None:
            error, self._exit = self._exit, None
            raise error

    def when_delivered(self, done: Callable[[], object]) -> bool:
        """Have `done` called when the sinks have all that has happened; False where they have."""
        with self._lock:
            self._pass_on()
            if self._called:
                self._delivered.append(done)
            return self._called

    def finish(self) -> None:
        """Deliver the rest in this thread: there is no event loop any more."""
        with self._lock:
            self._pass_on()
        self.deliver()

    def moved(self) -> None:
        """The event loop is another: the one before may have ended with events on their way."""
        self._called = self.underway = False
        self._delivered.clear()
        if self._waiting or self._events:
            self._call_soon()

    def forked(self, lock: AbstractContextManager[object]) -> None:
        """This is a process that was forked: the events are its parent's, who holds the lock."""
        self._lock = lock
        self._called = self.underway = False
        self._events.clear()
        self._waiting.clear()
        self._delivered.clear()

    def keep(self, error: BaseException) -> None:
        """Raise `error`, of a sink's, in the next `hand`: nobody could be told of it here."""
        self._exit = self._exit or error

    def deliver(self) -> None:
        """Call every sink with what waits."""
        try:
            while events := self._next():
                kinds = {*map(type, events)}
                for number, wants in enumerate(self._wants):
                    if wants is not None and wants.isdisjoint(kinds):
                        continue
                    wanted = events if wants is None else [e for e in events if type(e) in wants]
                    self._call(number, wanted)
        except BaseException:  # an interrupt, between two sinks
            self._stop()
            raise

    def _call(self, number: int, events: list[Event]) -> None:
        sink = self._sinks[number]
        began = time.perf_counter()
        for event in events:
            try:
                sink(event)
            except (Exception, CancelledError):  # of what it looked at: nobody cancels it
                self._tell(number, event)
            except BaseException as error:
                self.keep(error)
        self._took(number, time.perf_counter() - began, len(events))

    def _pass_on(self) -> None:
        if self._around is not None:
            self._around.tell(self._events)
        self._take()
        if self._waiting and not self._called:
            self._call_soon()

    def _call_soon(self) -> None:
        self._called = self._next_turn(self.deliver)
        self.underway = self._called and self._around is None  # which is told of each at once

    def _next(self) -> list[Event]:
        """What waits; where that is nothing, what comes next has to be handed on."""
        with self._lock:
            if self.underway:
                self._take()
            events = self._waiting
            self._waiting = []
            if not events:
                self._stop()
            return events

    def _stop(self) -> None:
        self._called = self.underway = False
        while self._delivered:
            self._delivered.pop()()

    def _take(self) -> None:
        wanted = self._wanted
        if wanted is None:
            self._waiting += self._events
        else:
            for event in self._events:
                if type(event) in wanted:
                    self._waiting.append(event)
        self._events.clear()

    def _took(self, number: int, seconds: float, events: int) -> None:
        """The sink of that number took so many seconds for so many events."""
        behind = self._behind[number] = max(
            0.0, self._behind[number] + seconds - events * _FOR_AN_EVENT
        )
        if behind > _MOST_BEHIND and number not in self._slow:
            self._slow.add(number)
            logger.warning(
                with_fix(
                    "on_event=%s is slow: it took %s for the last %s, and the event loop "
                    "stood still meanwhile. This is told once",
                    "on_event=queue.put of a queue.SimpleQueue, and a thread that does the work",
                ), shown(self._sinks[number]), duration(seconds),
                counted(events, "event"),
            )  # fmt: skip

    def _tell(self, number: int, event: Event) -> None:
        if number not in self._failed:
            self._failed.add(number)
            logger.exception(
                "on_event= raised for %r; the job goes on, and this is told once", event
            )
