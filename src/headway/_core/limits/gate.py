"""The gate: the moment before which nothing is sent, and the one probe that goes first after it.

A refusal shuts the gate, only ever later. When its time has come one attempt goes through, the
probe. The rest follow when the probe's answer is no refusal, or one second after it was sent: a
slow success must not hold the rest. In an outage they wait for the probe's answer, however long.
"""

from __future__ import annotations

__all__ = ["PROBE_PATIENCE", "Gate"]

INFINITY = float("inf")

PROBE_PATIENCE = 1.0
"""Seconds after which an unanswered probe lets the rest follow, at most."""

# Refusals come quickly. A probe that was not refused in three times the time that they take lately
# (not less than this many seconds) has passed.
_LEAST_PATIENCE = 0.25


class Gate:
    """Open, shut until `opens`, or waiting for the answer of `probe`."""

    __slots__ = ("_follow_at", "ajar", "cautious", "for_slot", "opens", "pausing", "probe",
                 "round_trip", "shut", "strikes", "until_slot")  # fmt: skip

    def __init__(self) -> None:
        self.shut = False
        self.opens = -INFINITY
        self.until_slot = False  # shut until an attempt in flight ends
        self.for_slot = False  # it was shut so: no time would have opened it
        self.probe: object | None = None
        self.strikes = 0  # refusals since the gate was last open
        self.cautious = False  # an outage: the rest wait for the probe's answer
        self.ajar = False  # the rest do not wait for the probe: what they go at is known to be safe
        self.pausing = False  # it is open again when its time has come, and nobody goes first
        self.round_trip = PROBE_PATIENCE  # seconds that refusals take
        self._follow_at = INFINITY

    def ready_at(self) -> float:
        """The moment from which an attempt may pass, as things stand."""
        if not self.shut:
            return -INFINITY
        if self.until_slot:
            return INFINITY
        if self.probe is not None:
            if self.ajar:
                return self.opens
            return INFINITY if self.cautious else self._follow_at
        return self.opens

    def strike(self, attempt: object) -> int:
        """Count a refusal of `attempt`; how many came in a row before it. The refusals of a burst
        count once: what was sent before the gate shut says nothing new.
        """
        if not self.shut:
            self.strikes = 0
        elif attempt is not self.probe:
            return max(0, self.strikes - 1)
        self.strikes += 1
        return self.strikes - 1

    def took(self, seconds: float) -> None:
        """A refusal came after so long: a longer one counts at once, shorter ones by and by."""
        if self.round_trip >= PROBE_PATIENCE:
            self.round_trip = seconds
        else:
            self.round_trip = max(seconds, 0.8 * self.round_trip + 0.2 * seconds)

    def shut_until(self, moment: float, *, ajar: bool = False, pausing: bool = False) -> None:
        """Shut, or shut for longer; a probe that is under way no longer counts. `ajar`: the rest
        follow the next probe at once. `pausing`: there is no probe.
        """
        self.ajar = ajar and (self.ajar or not self.shut)
        self.pausing = pausing and (self.pausing or not self.shut)
        self.shut, self.for_slot = True, False
        self.opens = max(self.opens, moment)
        self.probe = None

    def shut_until_slot_ends(self) -> None:
        """Shut until an attempt that is in flight ends."""
        self.shut_until(-INFINITY)
        self.until_slot = self.for_slot = True

    def slot_ended(self) -> None:
        """An attempt in flight ended."""
        self.until_slot = False

    def passed(self, attempt: object, now: float) -> None:
        """`attempt` starts at `now`, which `ready_at` allowed."""
        if self.pausing:
            self.open()
        elif self.probe is None:
            self.probe = attempt
            patience = min(PROBE_PATIENCE, max(_LEAST_PATIENCE, 3 * self.round_trip))
            self._follow_at = now + patience
        elif now >= self._follow_at:
            self.open()

    def answered(self, attempt: object) -> None:
        """`attempt` ended without a refusal: where it was the probe, the rest follow."""
        if attempt is self.probe:
            self.open()

    def lost(self, attempt: object) -> None:
        """`attempt` ended without an answer: where it was the probe, the next one is."""
        if attempt is self.probe:
            self.probe = None

    def open(self) -> None:
        """Open at once."""
        self.shut = self.until_slot = self.for_slot = self.cautious = False
        self.ajar = self.pausing = False
        self.opens = -INFINITY
        self.probe = None
        self.strikes = 0

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self.opens += seconds
        self._follow_at += seconds
