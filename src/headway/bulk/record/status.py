"""How far a run is: what it shows while it goes on, and what it returns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headway.kinds import Kind
from headway.kinds._words import counted

__all__ = ["CUT_OFF", "FILTERED", "Forecast", "Progress", "Stop", "early_ends"]

_WINDOW = 60.0  # seconds over which the rate of rows is taken
_ANSWERS = 256  # whose latencies are kept
_DRAWS = 8  # orders in which those may come last


CUT_OFF = "length"
"""The reason of an answer that its ``max_tokens`` ended, whatever the provider calls it."""

_WHOLE = frozenset(
    {
        "complete", "completed", "end_turn", "eos", "finish_reason_stop", "function_call", "stop",
        "stop_sequence", "tool_call", "tool_calls", "tool_use",
    }
)  # fmt: skip
FILTERED = frozenset(
    {
        "blocklist", "content_filter", "content_filtered", "image_safety", "prohibited_content",
        "recitation", "refusal", "safety", "sensitive", "spii",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ended before its file did. `kind` is None where the run's own bounds ended it."""

    kind: Kind | None
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, or how it ended.

    `total` (None: not known, standard input), `done`, `failed` (by code), `before` (of these, by
    runs before this one) and `ambiguous` (sent by a run that was killed, and sent again) count
    lines; `in_flight`, `sent` and `refused` (by kind) count attempts. `input_tokens`,
    `output_tokens` and `tokens` (their sum where the answers say no more) are what the answers say
    they used, `cost` what that costs in dollars, `unpriced` how many answers have no known price.
    `reasons` counts why the answers of this session ended ("length": cut off by ``max_tokens``).
    `limit` is attempts a second as stated, `pace` as in force (infinity: none); `seconds` are since
    the first line was read, `eta` seconds to the end (None: not known yet). `binds` is what holds
    the next one back, `fault` what the last attempt without an answer, or with a 5xx, ran into.
    """

    input: str
    output: Path | None
    total: int | None
    done: int
    failed: Mapping[str, int]
    before: int
    ambiguous: int
    in_flight: int
    sent: int
    refused: Mapping[Kind, int]
    tokens: int
    input_tokens: int
    output_tokens: int
    cost: float
    unpriced: int
    limit: float | None
    pace: float
    concurrency: float
    binds: str
    seconds: float
    eta: float | None
    stopped: Stop | None
    fault: str | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows written: lines done and lines failed."""
        return self.done + sum(self.failed.values())

    @property
    def remaining(self) -> int | None:
        """Lines that have no row yet; None where nobody knows how many there are."""
        return None if self.total is None else max(0, self.total - self.rows)


def early_ends(reasons: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """What to say of answers that did not come to their own end: a word, and a sentence."""
    if count := reasons.get(CUT_OFF):
        yield "cut off", f"{_answers(count)} cut off by max_tokens"
    if count := sum(number for name, number in reasons.items() if name in FILTERED):
        yield "filtered", f"{_answers(count)} stopped by a content filter"
    rest = {name: n for name, n in reasons.items() if name not in {CUT_OFF, *_WHOLE, *FILTERED}}
    for name, count in sorted(rest.items()):
        yield "ended", f"{_answers(count)} ended by {name!r}"


def _answers(count: float) -> str:
    return counted(count, "answer", "were")


class Forecast:
    """Rows a second over the last minute, from what is seen four times a second, and how long the
    last answers took.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._took: deque[float] = deque(maxlen=_ANSWERS)

    def took(self, seconds: float) -> None:
        """An answer came after that time."""
        self._took.append(seconds)

    def see(self, now: float, rows: int) -> None:
        """There are `rows` at `now`, in seconds. The first row starts the clock: before it there
        is only latency.
        """
        if rows or self._seen:
            self._seen.append((now, rows))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _WINDOW:
            self._seen.popleft()

    def eta(self, remaining: int | None, in_flight: int = 0) -> float | None:
        """Seconds for `remaining` rows more, `in_flight` of which were sent; None where nothing is
        known.
        """
        if remaining is None or len(self._seen) < 2:
            return None
        (began, first), (now, last) = self._seen[0], self._seen[-1]
        if now <= began or last <= first:
            return None
        each = (now - began) / (last - first)
        in_flight = min(in_flight, remaining)
        return (remaining - in_flight) * each + self._last_ones(each, in_flight)

    def _last_ones(self, each: float, in_flight: int) -> float:
        """Seconds that those `in_flight` take once nothing more is sent, a row every `each` until
        then: the slowest of the last ones ends a run, not the mean.
        """
        took = list(self._took)
        mean = sum(took) / len(took) if took else 0.0
        if not mean:
            return in_flight * each
        longest = []
        for start in range(0, len(took), -(-len(took) // _DRAWS)):
            last = [*took[start:], *took[:start]]
            longest.append(max(seconds - n * each for n, seconds in enumerate(last)))
        share = min(1.0, in_flight * each / mean)  # of what is in flight while sending goes on
        return share * sum(longest) / len(longest)
