"""A spell: the time in which a scope lets nothing through, from its first refusal on.

Patience is the queue's. Each job that waits becomes a probe in its turn, so if each had a patience
of its own the last would hear of it after hours. A spell that outlasts one patience ends all that
wait; a probe now and then goes on asking.

Hints are believed once. What was sent when a hint had ended, and was refused again, shows that it
was wrong; from then on the backoff holds, as if there were none, where it is longer. A hint beyond
patience is one answer to one job: it counts for all when that to another says the same.
"""

from __future__ import annotations

__all__ = ["CALM", "Spell"]

INFINITY = float("inf")

CALM = 5.0
"""Seconds without a refusal after which a success ends an episode: some limits refuse now and then,
and an operator wants one warning of that, not one a second.
"""

_WORDS = 2  # jobs that are asked to wait beyond patience, before that holds for the others


class Spell:
    """`since` its first refusal (seconds on the caller's clock); any answer that is none ends it.

    `misled` is how often a hint was wrong, `closed` whether nothing can be hoped for before
    `asked_until` (infinity: the server does not say when).
    """

    __slots__ = ("_hinted_until", "_words", "asked_until", "closed", "last", "misled", "since")

    def __init__(self, now: float) -> None:
        self.since = self.last = now
        self.misled = 0
        self.closed = False
        self.asked_until = INFINITY
        self._hinted_until = INFINITY
        self._words = 0

    def hinted(self, sent_at: float, until: float, *, probe: bool) -> None:
        """An attempt that was sent at `sent_at`, the `probe` or not, is asked to wait `until`."""
        followed = self._hinted_until
        if followed == INFINITY:  # the first hint
            self._hinted_until = until
            return
        self.misled += probe or sent_at > followed
        self._hinted_until = max(followed, until)

    def asked(self, until: float, *, quota: bool) -> bool:
        """A job is asked to wait until then, which is beyond its patience, or met a `quota` of a
        day or more. Whether that holds for all now.
        """
        self._words += 1
        self.asked_until = until
        self.closed = self.closed or quota or self._words >= _WORDS
        return self.closed

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self.since += seconds
        self.last += seconds
        self.asked_until += seconds
        self._hinted_until += seconds
