"""Outages: failures one after another, of several jobs, and no answer in between.

Five attempts last seconds: a provider that is away for ten minutes would cost every job in the
queue. So while an outage lasts nobody's attempts are used up, and one probe at a time goes out.
"""

from __future__ import annotations

from headway.kinds._words import duration

__all__ = ["Outage"]

_FAILURES = 5  # in a row; retries of one poisonous job alone must not look like an outage,
_JOBS = 3  # so they must be failures of this many jobs, or none of them reached the provider


class Outage:
    """`on` while the provider seems to be away, `since` (seconds) the first of the failures."""

    __slots__ = ("_failures", "_jobs", "_reached", "fault", "on", "since")

    def __init__(self) -> None:
        self.on = False
        self.since = 0.0
        self.fault = ""  # what was seen last
        self._failures = 0
        self._jobs: set[int] = set()
        self._reached = False

    def failed(self, job: int, now: float, *, unreached: bool = False) -> None:
        """An attempt of `job` (its number) failed with a fault of the provider or the network;
        `unreached` where it never arrived, so that the job cannot be to blame.
        """
        if not self._failures:
            self.since = now
        self._failures += 1
        if len(self._jobs) < _JOBS:
            self._jobs.add(job)
        self._reached = self._reached or not unreached
        many = len(self._jobs) >= _JOBS or not self._reached
        self.on = self._failures >= _FAILURES and many

    @property
    def name(self) -> str:
        """What it is, in a few words."""
        return "an outage" if self._reached else "no connection"

    @property
    def what(self) -> str:
        """What happens while it lasts, in words."""
        if self._reached:
            return "an outage: attempts fail one after another and none is answered"
        return (
            "no connection can be made: the network, a proxy or the address is at fault, and "
            "headway goes on trying"
        )

    def so_far(self, now: float) -> str:
        """How long it has lasted, in words."""
        away = duration(now - self.since)
        return f"{self.name}: no attempt was answered for {away} ({self.fault})"

    def answered(self) -> None:
        """The provider answered."""
        self.on = False
        self._failures = 0
        self._reached = False
        self._jobs.clear()

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self.since += seconds
