"""How long a job would wait that were submitted now, and for what."""

from __future__ import annotations

from headway._core.counters import Counters
from headway._core.limits.binding import foreseen
from headway._core.limits.scope import Scope
from headway._core.queue.job import Job
from headway._core.queue.waiting import Waiting
from headway._core.refusals.refusals import Refusals
from headway.kinds import Binds

__all__ = ["Wait", "outlook"]

INFINITY = float("inf")


class Wait(float):
    """Seconds, as the number that it is: 0.0 for none, infinity where nobody can say.

    `binds` is what it waits for longest, `Binds.NOTHING` for no wait.
    """

    __slots__ = ("binds",)

    binds: Binds

    def __new__(cls, seconds: float, binds: Binds = Binds.NOTHING) -> Wait:
        """A wait of so many `seconds` for what `binds`."""
        wait = float.__new__(cls, seconds)
        wait.binds = binds
        return wait

    @property
    def seconds(self) -> float:
        """The same as a plain number."""
        return float(self)

    def __repr__(self) -> str:
        return f"Wait({float(self):g}, {str(self.binds)!r})"

    def __reduce__(self) -> tuple[type[Wait], tuple[float, Binds]]:
        return Wait, (float(self), self.binds)


def outlook(
    job: Job,
    whole: Scope,
    waiting: Waiting,
    refusals: Refusals,
    counters: Counters,
    now: float,
    *,
    paused: bool,
) -> Wait:
    """The wait of `job`, were it submitted at `now`: it changes nothing.

    What is ahead is taken to cost what it costs itself, and slots to come free as fast as attempts
    were sent lately.
    """
    credential = job.flow.credential
    if refusals.closed or (credential is not None and credential.latch is not None):
        return Wait(INFINITY, Binds.CLOSED)
    if paused:
        return Wait(INFINITY, Binds.PAUSED)
    freed = counters.recent_rate(now)
    ahead = waiting.queue.ahead(job.flow, job.priority)
    binds, until = foreseen(whole, job.cost, ahead, freed, now)
    own = job.flow.limits
    if own is not None:
        freed *= own.in_flight / max(1, whole.in_flight)
        ahead = waiting.queue.ahead_of(job.flow, job.priority)
        held, ready = foreseen(own, job.cost, ahead, freed, now)
        if ready > until:
            binds, until = held, ready
    return Wait(max(0.0, until - now), binds)
