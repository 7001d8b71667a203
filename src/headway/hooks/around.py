"""What stands around jobs and attempts: a hook that sees more than events.

An event is handed on after what it tells of. A span has to be the current one *while* the user's
function runs, and to have ended when its caller goes on. So a `Hook` is called in the caller's own
task, and told of events at once.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Protocol

from headway._core.counters import Statistics
from headway._core.queue.job import Job
from headway.errors import InvalidArgument
from headway.events import Event
from headway.hints import Refusal

__all__ = ["Around", "HasStatistics", "Hook", "around"]

logger = logging.getLogger("headway")


class HasStatistics(Protocol):
    """A scheduler, async or sync, as far as its figures go."""

    def statistics(self) -> Statistics:
        """The picture of it at this moment. Other threads ask too."""
        ...


class Hook(ABC):
    """A sink that one scheduler calls around its jobs and attempts. Nothing here may wait."""

    wants: frozenset[type[Event]] | None = None
    """The events that it is told of, None for all."""

    def idle(self) -> bool:
        """Whether nobody would see what it does. Until that ends it is asked this before each job,
        and is called for none.
        """
        return False

    @abstractmethod
    def attach(self, scheduler: HasStatistics) -> None:
        """`scheduler` was made with this hook. Raises what says that it cannot be."""

    @abstractmethod
    def begin(self, job: Job) -> None:
        """`job` was accepted, in the task that calls it: it is queued, or has its permit. Of one
        that has begun this says nothing new.
        """

    @abstractmethod
    def enter(self, job: Job) -> None:
        """The function of `job` is about to be called, in this task."""

    @abstractmethod
    def send(self, job: Job, number: int) -> None:
        """`job` is a further send inside an attempt, its send of that `number` (2 for the second).
        It has its permit and is about to be made, in this task; `leave` follows, and later its end.
        """

    @abstractmethod
    def failed(self, job: Job, refusal: Refusal) -> None:
        """The attempt of `job` was refused or failed. Whether it is tried again an event tells."""

    @abstractmethod
    def leave(self, job: Job) -> None:
        """The function of `job`, or its further send, is over, in the task that entered it."""

    @abstractmethod
    def forget(self) -> None:
        """The event loop is gone, and all jobs with it."""

    @abstractmethod
    def __call__(self, event: Event) -> None:
        """`event` happened, now, in whichever task or thread found out."""


class Around:
    """The hook of one scheduler. What it raises is told once, and costs nobody a job. While it is
    idle nothing stands around jobs; when that ends, `wakes` is called.
    """

    def __init__(self, hook: Hook, wakes: Callable[[], object]) -> None:
        self._hook = hook
        self._wakes = wakes
        self._idle = hook.idle()
        self._failed = False

    def attach(self, scheduler: HasStatistics) -> None:
        """`scheduler` was made. Raises what the hook raises."""
        self._hook.attach(scheduler)

    def begin(self, job: Job) -> Around | None:
        """`job` was accepted: what stands around it, None for nothing."""
        if self._idle and not self._is_awake():
            return None
        try:
            self._hook.begin(job)
        except Exception:
            self._tell()
        return self

    def enter(self, job: Job) -> None:
        """An attempt of `job` begins."""
        try:
            self._hook.enter(job)
        except Exception:
            self._tell()

    def send(self, job: Job, number: int) -> Around | None:
        """A further send begins, the one of that `number`: what stands around it."""
        if self._idle and not self._is_awake():
            return None
        try:
            self._hook.send(job, number)
        except Exception:
            self._tell()
        return self

    def failed(self, job: Job, refusal: Refusal) -> None:
        """The attempt of `job` ended with `refusal`."""
        try:
            self._hook.failed(job, refusal)
        except Exception:
            self._tell()

    def leave(self, job: Job) -> None:
        """The function of `job` is over."""
        try:
            self._hook.leave(job)
        except Exception:
            self._tell()

    def forget(self) -> None:
        """All jobs are gone."""
        try:
            self._hook.forget()
        except Exception:
            self._tell()

    def tell(self, events: Iterable[Event]) -> None:
        """`events` happened."""
        if self._idle:
            return
        wants = self._hook.wants
        for event in events:
            if wants is None or type(event) in wants:
                try:
                    self._hook(event)
                except Exception:
                    self._tell()

    def _is_awake(self) -> bool:
        try:
            if self._hook.idle():
                return False
        except Exception:
            self._tell()
            return False
        self._idle = False
        self._wakes()
        return True

    def _tell(self) -> None:
        """The hook has just raised."""
        if not self._failed:
            self._failed = True
            logger.exception(
                "the hook %s raised; the job goes on, and this is told once",
                type(self._hook).__name__,
            )


def around(
    sinks: Iterable[Callable[[Event], object]], wakes: Callable[[], object]
) -> Around | None:
    """What stands around the jobs of the scheduler of `sinks`, None for nothing. `wakes` is called
    when a hook is idle no more.

    Raises `InvalidArgument` for two hooks: only one span can be the current one.
    """
    hooks = [sink for sink in sinks if isinstance(sink, Hook)]
    if len(hooks) > 1:
        raise InvalidArgument(
            f"on_event= holds {len(hooks)} hooks that stand around attempts, and one span alone "
            "can be the current one",
            fix="one of them for a scheduler; one tracer provider exports to several places.",
        )
    return Around(hooks[0], wakes) if hooks else None
