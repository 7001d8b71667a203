"""What a run would take, before it runs: how long, what binds, what it costs, what is faster.

`plan` estimates the tokens of each request (nothing is downloaded), runs them through `simulate`
as they are read, and tries what would be faster on an even sample of them: memory does not grow
with the input.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from headway.bulk.input.formats import BadLine, Request, estimate_tokens
from headway.bulk.plan.calibration import Calibration, Use
from headway.bulk.plan.simulation import MOST_AT_ONCE, Simulation, Work, simulate
from headway.errors import InvalidLimit
from headway.estimate import BYTES_PER_TOKEN, UNKNOWN_ANSWER, is_prompt_alone
from headway.kinds import _words as words
from headway.providers import record_of
from headway.rates import TOKEN_CLASSES, Cost, Limits, Rate

if TYPE_CHECKING:
    from headway.prices import Prices

__all__ = ["Change", "Plan", "plan"]

INFINITY = float("inf")

_FIRST_TOKEN = 0.5  # seconds
_TOKENS_PER_SECOND = 60
_SAMPLE = 20_000  # requests on which changes are tried, where there are more
_MOST_MODELS = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """Other limits, and the seconds that the same run would take under them."""

    what: str  # "requests", "tokens", "concurrency" or "all"
    flags: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would take. Times are in seconds, `cost` in dollars (None: no price is known).

    `unpriced` requests are of models without a price, `bad` lines cannot be sent. `changes` are
    sorted by their seconds. `assumed` says what the numbers rest on, a sentence each.
    """

    limits: Limits
    simulation: Simulation
    bad: int
    input_tokens: float
    output_tokens: float
    cost: float | None
    unpriced: int
    changes: tuple[Change, ...]
    assumed: tuple[str, ...]
    ends_at: float = 0.0  # seconds since the epoch, for a run that begins now

    @property
    def seconds(self) -> float:
        """How long the run would take."""
        return self.simulation.seconds


class _Estimates:
    """Requests in, work out; sums what they use, and keeps an even sample of them."""

    def __init__(
        self,
        source: Iterable[Request | BadLine],
        calibration: Calibration,
        prices: Prices | None,
        provider: str,
    ) -> None:
        self.bad = self.unpriced = self.priced = 0
        self.input = self.output = self.cost = 0.0
        self.stated = self.guessed = self.others = 0  # answers: how they were estimated
        self.sample: list[Work] = []
        self._stride = 1
        self._source = source
        self._known: dict[str | None, tuple[float, float] | None] = {}
        self._models = calibration.models
        self._all = _shares(Use(*map(sum, zip(*map(_fields, self._models.values()), strict=True)))
                            if self._models else None)  # fmt: skip
        self._prices = prices
        self._provider = provider

    def __iter__(self) -> Iterator[Work]:
        number = 0
        prices, sample = self._prices, self.sample
        for request in self._source:
            if not isinstance(request, Request):
                self.bad += 1
                continue
            model = request.model
            try:
                shares = self._known[model]
            except KeyError:
                shares = self._learn(model)
            most: float = request.max_tokens
            if shares is not None:
                asked = request.size * shares[0]
                answer = min(shares[1], most) if most else shares[1]
            else:
                asked = max(request.size / BYTES_PER_TOKEN, request.token_ids)
                answer = most or UNKNOWN_ANSWER * request.choices
                if most:
                    self.stated += 1
                else:
                    self.guessed += 1
            if is_prompt_alone(request.url):
                answer = 0.0
            self.input += asked
            self.output += answer
            if prices is not None:
                cost = prices.cost(self._provider, model or "", asked, answer)
                if cost is None:
                    self.unpriced += 1
                else:
                    self.priced += 1
                    self.cost += cost
            work = Work(estimate_tokens(request), Cost(input=asked, output=answer), answer)
            if number % self._stride == 0:
                sample.append(work)
                if len(sample) >= 2 * _SAMPLE:
                    del sample[1::2]
                    self._stride *= 2
            number += 1
            yield work

    def _learn(self, model: str | None) -> tuple[float, float] | None:
        use = self._models.get(model or "")
        if use is None and self._models:
            self.others += 1
        shares = self._all if use is None else _shares(use)
        if len(self._known) < _MOST_MODELS:
            self._known[model] = shares
        return shares


def _fields(use: Use) -> tuple[float, float, float, float]:
    return use.rows, use.size, use.input, use.output


def _shares(use: Use | None) -> tuple[float, float] | None:
    """Tokens a byte of the body, and tokens an answer."""
    return None if use is None else (use.input / use.size, use.output / use.rows)


def plan(
    source: Iterable[Request | BadLine],
    limits: Limits,
    *,
    calibration: Calibration | None = None,
    prices: Prices | None = None,
    provider: str = "together",
    latency_seconds: float | None = None,
) -> Plan:
    """What the run of `source` (read once, as it is needed) would take under `limits`.

    Tokens and seconds follow the `calibration` where there is one; `latency_seconds`, where it is
    given, is what every call takes. Raises `InvalidLimit` for an AsyncLimiter and for a latency
    that cannot be meant.
    """
    if latency_seconds is not None and not 0 <= latency_seconds < INFINITY:
        raise InvalidLimit(
            f"latency_seconds={latency_seconds:g} is not a time: it is the seconds that a call "
            "takes",
            fix="2.5, or leave it out.",
        )
    known = calibration or Calibration()
    estimates = _Estimates(source, known, prices, provider)
    stated, limits = limits, limits.enforced(record_of(provider).enforcement)
    done = simulate(estimates, limits, latency=_latency(known, latency_seconds))
    return Plan(
        limits=stated,
        simulation=done,
        bad=estimates.bad,
        input_tokens=estimates.input,
        output_tokens=estimates.output,
        cost=estimates.cost if estimates.priced else None,
        unpriced=estimates.unpriced,
        changes=_changes(estimates.sample, limits, done, known, latency_seconds),
        assumed=(
            *_assumed(estimates, limits, known, latency_seconds),
            *_enforced(stated, limits, provider),
            "No call is refused or fails.",
        ),
        ends_at=time.time() + done.seconds,
    )


def _latency(known: Calibration, stated: float | None) -> Callable[[Work], float]:
    if stated is not None:
        return lambda work: stated
    samples = known.latency
    if samples:
        last, draw = len(samples) - 1, Random(0).random

        def sampled(work: Work) -> float:
            at = draw() * last
            below = int(at)
            return samples[below] + (at - below) * (samples[min(below + 1, last)] - samples[below])

        return sampled
    return lambda work: _FIRST_TOKEN + work.output / _TOKENS_PER_SECOND


# -- what would be faster ----------------------------------------------------------------------


def _changes(
    sample: Sequence[Work],
    limits: Limits,
    done: Simulation,
    known: Calibration,
    stated: float | None,
) -> tuple[Change, ...]:
    """Each limit doubled, and all of them: on the sample, whose share of the time is the run's."""
    if not done.seconds or not limits:
        return ()
    whole = len(sample) >= done.calls

    def seconds(under: Limits) -> float:
        return simulate(sample, under, latency=_latency(known, stated)).seconds

    base = done.seconds if whole else seconds(limits)
    doubled: dict[str, Any] = {
        name: [replace(rate, limit=2 * rate.limit) for rate in rates]
        for name, rates in _rates_of(limits).items()
        if rates
    }
    if limits.concurrency or done.binds.get("concurrency"):
        doubled["concurrency"] = 2 * (limits.concurrency or MOST_AT_ONCE)
    tries = {name: _with(limits, {name: value}) for name, value in doubled.items()}
    if len(tries) > 1:
        tries["all"] = _with(limits, doubled)
    found = []
    for what, under in tries.items():
        share = min(1.0, seconds(under) / base) if base else 1.0
        found.append(Change(what, _flags(under, what), done.seconds * share))
    # All of them together come first only where that does more than the best one alone.
    return tuple(sorted(found, key=lambda one: one.seconds / (0.95 if one.what == "all" else 1.0)))


def _rates_of(limits: Limits) -> dict[str, tuple[Rate, ...]]:
    """The rates of `limits`, by what they limit."""
    return {
        "requests": limits.requests,
        **{kind: limits.of_tokens(kind) for kind in TOKEN_CLASSES},
    }


def _with(limits: Limits, changes: dict[str, Any]) -> Limits:
    """`limits`, some of them changed."""
    return Limits(**{**_rates_of(limits), "concurrency": limits.concurrency, **changes})


def _flags(limits: Limits, what: str = "all") -> str:
    """What to write on the command line for `limits`, or for the one of them that `what` names."""
    flags = []
    for name, rates in _rates_of(limits).items():
        if what in ("all", name):
            option = "rate" if name == "requests" else name.replace("_", "-")
            flags += [f"--{option} {words.stated(rate.limit, rate.per)}" for rate in rates]
    if what in ("all", "concurrency") and limits.concurrency:
        flags.append(f"--concurrency {limits.concurrency}")
    return " ".join(flags)


def _assumed(
    estimates: _Estimates, limits: Limits, known: Calibration, stated: float | None
) -> Iterator[str]:
    if known.models:
        rows = sum(use.rows for use in known.models.values())
        yield f"Tokens are as earlier runs used them ({words.counted(rows, 'answer')})."
        if estimates.others:
            are = words.counted(estimates.others, "model", "are")
            they = "it counts" if estimates.others == 1 else "they count"
            yield f"{are} new: {they} as the others, on average."
    else:
        yield "The input is estimated: a token for 4 bytes of the request."
        if estimates.stated:
            yield "Answers count as long as their max_tokens: the cost and the time are at most so."
        if estimates.guessed:
            state = words.counted(estimates.guessed, "request", "state")
            yield f"{state} no max_tokens: {UNKNOWN_ANSWER} a piece."
        yield "For better numbers run some of it first: headway run … --limit 100."
    if stated is not None:
        yield f"A call takes {words.duration(stated)}."
    elif known.latency:
        middle = known.latency[len(known.latency) // 2]
        yield f"Calls take as long as in earlier runs, {words.duration(middle)} in the middle."
    else:
        yield (
            f"A call takes {words.duration(_FIRST_TOKEN)} and 1 s more for every "
            f"{_TOKENS_PER_SECOND} tokens of its answer."
        )
    if not limits:
        yield "No limit is stated: a run finds it, and this is as if the server had none."


def _enforced(stated: Limits, limits: Limits, provider: str) -> Iterator[str]:
    """What the provider makes of a limit that is stated for a longer time."""
    for said, rate in zip(stated.requests, limits.requests, strict=True):
        if rate.span != said.span:
            yield (
                f"{said} is {words.number(rate.share)} in {words.duration(rate.span)}: "
                f"so {provider} enforces it."
            )
