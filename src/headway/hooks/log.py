"""The standard logger ``headway``: a few lines for an operator, never one per job.

A warning when an episode of refusals begins and a line when it ends, with its counts. A wrong key,
an empty account, an outage, and a job that is given up are errors, the last at most once a minute
with the number of those in between.
"""

from __future__ import annotations

import logging

from headway.events import (
    STATED,
    Closed,
    Event,
    Forgotten,
    GaveUp,
    Ignored,
    LimitChanged,
    Outdated,
    Recovered,
    Refused,
    SharedChanged,
)  # fmt: skip
from headway.kinds import Retried
from headway.kinds._words import binds, counted, duration, printable, rate, redacted

__all__ = ["Log", "cleaned", "logger"]

logger = logging.getLogger("headway")


def cleaned(text: str) -> str:
    """`text` without what no log may hold: secrets, and what a terminal would obey."""
    return printable(redacted(text)).replace("\n", "\\n")


def _clean(record: logging.LogRecord) -> bool:
    """Have `record` say what it says, `cleaned`: it quotes what servers said."""
    try:
        said = record.getMessage()
    except Exception:  # for the handlers to tell
        return True
    text = cleaned(said)
    if text != said:
        record.msg, record.args = text, ()
    return True


logger.addFilter(_clean)

_GAVE_UP_EVERY = 60.0  # seconds
_DUST = 1e-6  # seconds that sums of floats are off
_FOLLOWED_EVERY = 60.0


class Log:
    """A listener for ``on_event=`` that writes to the logger ``headway``."""

    # None that comes with each job: whoever listens to those would pay for this too.
    wants: frozenset[type[Event]] | None = frozenset(
        {Closed, Forgotten, GaveUp, Ignored, LimitChanged, Outdated, Recovered, Refused,
         SharedChanged}
    )  # fmt: skip

    def __init__(self) -> None:
        self._gave_up_at = float("-inf")
        self._gave_up = 0
        self._closed_at = float("-inf")
        self._followed_at = float("-inf")

    def __call__(self, event: Event) -> None:
        if isinstance(event, Refused):
            if event.episode == 1:
                self._began(event)
        elif isinstance(event, Recovered):
            counts = ", ".join(f"{n} {kind}" for kind, n in event.refused.items())
            self._write(
                logging.INFO, event, "recovered after %s: refused %s",
                duration(event.at - event.began), counts,
            )  # fmt: skip
        elif isinstance(event, Closed):
            level = logging.WARNING if event.kind.retried is Retried.ATTEMPTS else logging.ERROR
            self._write(level, event, "%s", event.reason)
            self._closed_at = event.at
        elif isinstance(event, GaveUp):
            self._give_up(event)
        elif isinstance(event, Forgotten):
            self._write(logging.WARNING, event, "%s", event.what)
        elif isinstance(event, Outdated):
            self._write(
                logging.INFO, event, "the limit of %s that was remembered, %s, is another now",
                event.limit, event.value,
            )  # fmt: skip
        elif isinstance(event, SharedChanged):
            level = logging.INFO if event.what == "back" else logging.WARNING
            self._write(
                level, event, "limits shared at %s: %s, %s", event.where, event.what, event.why
            )
        elif isinstance(event, Ignored):
            self._write(
                logging.WARNING, event, "a server stated something that cannot be meant: %s",
                event.what,
            )  # fmt: skip
        elif isinstance(event, LimitChanged) and event.reason == STATED:
            self._follow(event)

    def _write(self, level: int, event: Event, text: str, *values: object) -> None:
        """Write a line about `event`."""
        # Whoever shows the log may leave lines out by their kind: see the field of the record.
        extra = {"headway": event.kind} if isinstance(event, Closed) else None
        logger.log(level, text, *values, extra=extra)

    def _began(self, event: Refused) -> None:
        hint = "no hint" if event.wait is None else f"hint {duration(event.wait)}"
        if (
            event.wait is not None
            and event.closed_until is not None
            and event.wait > event.closed_until - event.at + _DUST
        ):
            hint += ", which nobody waits for"  # beyond patience
        status = "no status" if event.status is None else f"status {event.status}"
        until = (
            "an attempt in flight ends"
            if event.closed_until is None
            else f"{duration(event.closed_until - event.at)} have passed"
        )
        self._write(
            logging.WARNING, event,
            "refused (%s, %s, %s); what binds here: %s; nothing is sent until %s",
            event.kind, status, f"{hint}; {event.odd}" if event.odd else hint,
            binds(event.binds), until,
        )  # fmt: skip

    def _follow(self, event: LimitChanged) -> None:
        if event.value is not None and event.at - self._followed_at >= _FOLLOWED_EVERY:
            self._followed_at = event.at
            self._write(
                logging.INFO, event, "%s limit in force %s: %s",
                event.limit, rate(event.value), STATED,
            )  # fmt: skip

    def _give_up(self, event: GaveUp) -> None:
        if event.at == self._closed_at:
            return  # the same refusal was told already
        self._gave_up += 1
        if event.at - self._gave_up_at < _GAVE_UP_EVERY:
            return
        others = f" ({self._gave_up - 1} more since the last line)" if self._gave_up > 1 else ""
        self._write(
            logging.ERROR, event,
            "gave up job %d after %s (%s): %s%s",
            event.job, counted(event.attempts, "attempt"), event.kind, event.reason, others,
        )  # fmt: skip
        self._gave_up_at = event.at
        self._gave_up = 0
