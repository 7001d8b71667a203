"""One worker's calls to one ledger, and what it knows by them: whether the store replies, and the
ledger's time.

Calls are numbered, and one at a time: the last one is made again until it is answered. The time of
the ledger is known as an interval alone: it is at least what a reply said when it came, and at
most what it said counted from when its call went. *Not before* is judged by the lower end, *no
longer good* by the upper.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from headway.errors import HeadwayError, StoreUnavailable
from headway.kinds._words import duration
from headway.shared.stores import StoreAway

__all__ = ["SOON", "Call", "Conversation", "Reply"]

Call = dict[str, Any]
Reply = Mapping[str, Any]

INFINITY = float("inf")

SOON = 0.25
"""Seconds between two calls, where slots are short or no reply came."""

_SAMPLES = 16  # calls by which the ledger's time is known
_AGES = 30.0  # seconds after which a sample is too old: clocks drift
_TOO_LONG = 4.0  # seconds without a reply after which the ledger may have forgotten the worker
_BROKEN_FOR = 1.0  # seconds until a store that refused is asked again


class _Sample(NamedTuple):
    """What one call shows of the ledger's time, as offsets from the worker's clock."""

    at: float
    lower: float
    upper: float


class Conversation:
    """What one worker and one ledger have said to each other. `lower` and `upper` are the least and
    the most that the ledger's time is ahead of the worker's clock, in seconds.
    """

    def __init__(self) -> None:
        self.calls = 0  # that were answered
        self.away_since: float | None = None  # since when no call was answered
        self._epoch = ""
        self._why: HeadwayError | None = None  # why no call can be answered
        self._broken_at = -INFINITY
        self.begin_anew()

    def begin_anew(self) -> None:
        """Be a worker that the ledger has never heard of."""
        self.id, self._n = _new_id(), 0
        self._was = ""  # what it was called before, as the ledger may know it
        self.call: Call | None = None  # the last one, until it is answered
        self.called_at = self.heard_at = self._tried_at = self._failed_at = -INFINITY
        self.expires = -INFINITY  # when the ledger forgets it, on the ledger's time
        self._samples: deque[_Sample] = deque(maxlen=_SAMPLES)
        self.lower = self.upper = 0.0

    # What is said

    def again(self, now: float) -> Call | None:
        """The last call, where that is to be made again; None where a new one is to be begun."""
        self._tried_at = now
        return self.call

    def begin(self, said: Mapping[str, Any], now: float) -> Call:
        """The next call, which says that."""
        self._n += 1
        self.called_at = now
        self.call = {
            "id": self.id, "n": self._n, "sent": now, "epoch": self._epoch, "was": self._was,
            "fresh": uuid.uuid4().hex, **said,
        }  # fmt: skip
        return self.call

    def again_at(self) -> float:
        """When the last call is to be made again."""
        return max(self._failed_at, self._tried_at + SOON)

    # What is heard

    def take_call(self) -> Call:
        """The last call, which was answered."""
        call = self.call
        assert call is not None
        self.call = None
        self.calls += 1
        return call

    def is_other(self, epoch: str) -> bool:
        """Whether the ledger was emptied, or made anew, since it was heard last."""
        return bool(self._epoch) and epoch != self._epoch

    def heard(self, reply: Reply, sent: float, now: float) -> float | None:
        """Learn from the `reply` to a call of the moment `sent`: for how many seconds there was
        none before it, where calls went on without.
        """
        if self.is_other(reply["epoch"]):
            self._samples.clear()
        self._epoch, self._was = reply["epoch"], ""
        self.heard_at = now
        gone = None if self.away_since is None else now - self.away_since
        self.away_since = None
        self._samples.append(_Sample(now, reply["now"] - now, reply["now"] - sent))
        while self._samples[0].at < now - _AGES:
            self._samples.popleft()
        self.lower = max(sample.lower for sample in self._samples)
        self.upper = max(self.lower, min(sample.upper for sample in self._samples))
        self.expires = reply["expires"] - reply["slack"]
        return gone

    @property
    def was_reached(self) -> bool:
        """Whether any call was answered."""
        return self.heard_at > -INFINITY

    @property
    def is_known(self) -> bool:
        """Whether the ledger knows it, and can be told that it leaves."""
        return self.was_reached and self.away_since is None

    # Without a reply

    def is_away(self, now: float) -> bool:
        """Whether the worker goes on without replies."""
        return self.away_since is not None and now - self.heard_at > SOON

    def stood_still(self, now: float) -> bool:
        """Whether, where the last call has failed, it was not the store that gave no reply: this
        process stood still, and the ledger has given to others what it held.
        """
        return self.call is not None and (now - max(self.call["sent"], self._failed_at) > _TOO_LONG)

    def failed(self, now: float, *, at_once: bool) -> bool:
        """The last call got no reply: it is made again, with the same number. Whether the worker
        goes on without from now on: a single call that is lost is no sign that others are, unless
        it is to do so `at_once`.
        """
        again = self._failed_at >= self.called_at
        self._failed_at = now
        if self.away_since is not None or not (again or at_once):
            return False
        self.away_since = now
        return True

    def give_up(self, now: float) -> Call | None:
        """The last call, which is dropped, where nobody may know it any more; else None.

        A repeated call is known for as long as its worker is: this is another worker.
        """
        call = self.call
        if call is None or now - call["sent"] <= _TOO_LONG:
            return None
        self.call = None
        if not self._was:
            self.id, self._n, self._was = _new_id(), 0, self.id
        return call

    def refused(self, error: HeadwayError, now: float) -> None:
        """No call can be answered until somebody mends it: jobs fail with `error`."""
        self.call = None
        self._why = error
        self._broken_at = now

    def mended(self) -> bool:
        """What was at fault may be so no longer; whether anything was."""
        why, self._why = self._why, None
        return why is not None

    def broken(self, now: float) -> HeadwayError | None:
        """Why no job can start at all, for a while in which there is no need to ask again."""
        return self._why if now < self._broken_at + _BROKEN_FOR else None

    def shift(self, seconds: float) -> None:
        """Move to another clock, which shows `seconds` more."""
        self.called_at += seconds
        self.heard_at += seconds
        self._tried_at += seconds
        self._failed_at += seconds
        self._broken_at += seconds
        self.lower -= seconds
        self.upper -= seconds
        self._samples = deque(
            (_Sample(s.at + seconds, s.lower - seconds, s.upper - seconds) for s in self._samples),
            maxlen=_SAMPLES,
        )
        if self.away_since is not None:
            self.away_since += seconds


def never_reached(seconds: float, where: str, away: StoreAway) -> StoreUnavailable:
    """The error of jobs, where the ledger was not reached even once."""
    return StoreUnavailable(
        f"the shared limits at {where} were not reached in {duration(seconds)}: {away}",
        fix=away.fix,
    )


def _new_id() -> str:
    """A name that no other worker has, and that tells people which process it is."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:16]}"
