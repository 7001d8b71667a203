"""The forms of what a run measures: histograms of durations, and the lines of its trace."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

__all__ = [
    "End",
    "Histogram",
    "LimitsInfo",
    "ModelUse",
    "Sample",
    "SessionInfo",
    "bucket",
    "edges",
    "mend",
]

# -- histograms --------------------------------------------------------------------------------

_SMALLEST = 0.001  # seconds
_RATIO = 1.15
_PER_LOG = 1 / math.log(_RATIO)
# An edge, 0.001 itself among them, may be a rounding error low.
_OFFSET = 1e-9 - math.log(_SMALLEST) * _PER_LOG
_LAST = 160
_LONGEST = _SMALLEST * _RATIO**_LAST  # seconds, two months: in the last bucket, with more

_log = math.log


def bucket(seconds: float) -> int:
    """The bucket k of a duration: from 1 ms·1.15^k to the next; -1 is what is below 1 ms."""
    if not seconds >= _SMALLEST:  # NaN too
        return -1
    if seconds > _LONGEST:
        return _LAST
    return int(_log(seconds) * _PER_LOG + _OFFSET)


def edges(k: int) -> tuple[float, float]:
    """The durations, in seconds, that bucket `k` holds: from the first, below the second."""
    if k < 0:
        return 0.0, _SMALLEST
    return _SMALLEST * _RATIO**k, _SMALLEST * _RATIO ** (k + 1)


@dataclass(slots=True)
class Histogram:
    """Durations counted by bucket. A count may be a fraction, where a span was divided."""

    counts: dict[int, float] = field(default_factory=dict)

    def add(self, counts: Mapping[int, float], share: float = 1.0) -> None:
        """Add the counts of another, or a share of them."""
        mine = self.counts
        for k, count in counts.items():
            mine[k] = mine.get(k, 0) + count * share

    @property
    def total(self) -> float:
        """How many durations were counted."""
        return sum(self.counts.values())

    def percentile(self, q: float) -> float | None:
        """The duration, in seconds, that a share `q` (0 to 1) is not above; None for no data.

        It is right to within its bucket, 15%; for 1 it is the end of the highest bucket.
        """
        wanted, below = q * self.total, 0.0
        high = None
        for k in sorted(self.counts):
            count = self.counts[k]
            if count <= 0:
                continue
            low, high = edges(k)
            if below + count >= wanted:
                return low + (high - low) * max(0.0, (wanted - below) / count)
            below += count
        return high


# -- the form of the lines ---------------------------------------------------------------------

# What no run can have measured is no measurement: a line that says it cannot be read.
_MOST = 10**15
Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
Tokens = Annotated[int, msgspec.Meta(ge=-_MOST, le=_MOST)]
Amount = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
Bucket = Annotated[int, msgspec.Meta(ge=-1, le=_LAST)]


class ModelUse(msgspec.Struct, omit_defaults=True):
    """What one model did: `cost` in dollars, None where its price is not known."""

    rows: Count = 0
    bytes: Count = 0
    input: Tokens = 0
    output: Tokens = 0
    cost: Amount | None = 0.0

    def add(self, other: ModelUse) -> None:
        """Add what `other` counted; an unknown price makes the sum unknown."""
        self.rows += other.rows
        self.bytes += other.bytes
        self.input += other.input
        self.output += other.output
        self.cost = None if self.cost is None or other.cost is None else self.cost + other.cost


class Sample(msgspec.Struct, omit_defaults=True):
    """What happened in the `span` seconds before `t`. Counts are of that span alone.

    `sent` and `refused` (by kind) count attempts, `done`, `failed` (by code) and `attempts` (by
    how many a row took; 0 for a line that was never sent) count rows; `in_flight` and `queued`
    are as they were at `t`. `reasons` counts why answers ended. `limit` and `token_limit` are per
    second; `binds` is seconds. `cost` is dollars, as far as prices are known, and None where none
    of them is.
    """

    t: float
    span: float
    sent: Count = 0
    done: Count = 0
    failed: dict[str, Count] = {}
    refused: dict[str, Count] = {}
    in_flight: Count = 0
    queued: Count = 0
    limit: Amount | None = None
    token_limit: Amount | None = None
    input: Tokens = 0
    output: Tokens = 0
    cost: Amount | None = 0.0
    binds: dict[str, Amount] = {}
    wait: dict[Bucket, Count] = {}
    latency: dict[Bucket, Count] = {}
    attempts: dict[Count, Count] = {}
    reasons: dict[str, Count] = {}
    models: dict[str, ModelUse] = {}


class LimitsInfo(msgspec.Struct):
    """The limits as they were stated."""

    requests: list[str] = []
    tokens: list[str] = []
    concurrency: Amount | None = None
    input_tokens: list[str] = []
    output_tokens: list[str] = []


class SessionInfo(msgspec.Struct):
    """What was known when a session began. `already_done` counts the rows there were
    before it, answered or failed (those that are tried again not among them).
    """

    version: str = ""
    started: Amount = 0.0
    input: str = ""
    output: str = ""
    provider: str | None = None
    limits: LimitsInfo = msgspec.field(default_factory=LimitsInfo)
    total: Count | None = None
    already_done: Count = 0


class End(msgspec.Struct):
    """How a session ended."""

    t: float
    reason: str = ""
    said: str = ""


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def mend(line: bytes) -> bytes:
    """JSON in which bytes that are not UTF-8, and halves of characters, are replaced."""
    return _SURROGATE.sub(rb"\\ufffd", line.decode(errors="replace").encode())
