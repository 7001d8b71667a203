"""The events that come with each job, made at a quarter of what their constructors cost.

A frozen dataclass sets each of its fields by a call, past its own refusal. What is made here is of
a class that refuses nothing while it is filled. Then its class becomes that of the event, which the
interpreter allows where both have the same slots.
"""

from __future__ import annotations

from typing import Any

from headway._core.queue.job import Job
from headway.events import Ended, Event, Finished, Kind, Queued, Started

__all__ = ["finished", "queued", "started"]


def _open(event: type[Event]) -> Any:
    """A class with the slots of `event`, which may be set."""
    # `__delattr__` too: the interpreter looks both up at each field unless both are `object`'s.
    own: dict[str, Any] = {
        name: getattr(object, name) for name in ("__init__", "__setattr__", "__delattr__")
    }
    own |= {"__slots__": event.__slots__, "__doc__": event.__doc__}
    return type(event.__name__, event.__bases__, own)


_QUEUED, _STARTED, _FINISHED = _open(Queued), _open(Started), _open(Finished)


def queued(at: float, job: Job) -> Queued:
    """`job` waits for its first permit."""
    event = _QUEUED()
    event.at = at
    event.job = job.number
    event.key = job.flow.key
    event.priority = job.priority
    event.__class__ = Queued
    made: Queued = event
    return made


def started(at: float, job: Job, waited: float) -> Started:
    """An attempt of `job` was admitted, after so many seconds in the queue."""
    event = _STARTED()
    event.at = at
    event.job = job.number
    event.key = job.flow.key
    event.attempt = job.attempts
    event.waited = waited
    event.tokens = job.cost
    event.__class__ = Started
    made: Started = event
    return made


def finished(at: float, job: Job, outcome: Ended | Kind, tokens: float) -> Finished:
    """`job` ended."""
    event = _FINISHED()
    event.at = at
    event.job = job.number
    event.key = job.flow.key
    event.attempts = job.attempts
    event.outcome = outcome
    event.tokens = tokens
    event.__class__ = Finished
    made: Finished = event
    return made
