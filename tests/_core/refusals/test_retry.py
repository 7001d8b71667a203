"""Whether a failed attempt is tried again, and after how long; the retry budget."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway import InvalidLimit, Kind, Retry
from headway._core.refusals.retry import Delay, GiveUp, RetryBudget, decide, spread
from headway.kinds import Retried

DECISIONS = [
    # kind, failures, refused for, hint, random -> seconds, or why not
    (Kind.RATE, 0, 0.0, None, 0.5, 0.0),  # the gate is what waits
    (Kind.RATE, 0, 0.0, 2.0, 0.0, 2.0),
    (Kind.RATE, 99, 119.0, None, 0.5, 0.0),  # failures do not count for refusals
    (Kind.TOKENS, 0, 100.0, 19.0, 0.0, 19.0),
    (Kind.CONCURRENCY, 0, 0.0, None, 0.9, 0.0),
    (Kind.CAPACITY, 0, 0.0, None, 0.9, 0.0),
    (Kind.TRANSIENT, 1, 0.0, None, 0.5, 0.25),
    (Kind.TRANSIENT, 4, 0.0, None, 0.5, 2.0),
    (Kind.TRANSIENT, 4, 500.0, None, 0.5, 2.0),  # patience bounds refusals, not failures
    (Kind.TRANSIENT, 1, 0.0, 3.0, 0.0, 3.0),  # a hint is a floor
    (
        Kind.RATE, 0, 0.0, 121.0, 0.0,
        "refused (rate), and the server asks to wait 2 min 1 s more, which is beyond patience=120 "
        "seconds",
    ),
    (
        Kind.RATE, 0, 119.0, 2.0, 0.0,
        "refused (rate) for 1 min 59 s, and the server asks to wait 2 s more: patience=120 seconds "
        "is over",
    ),
    (
        Kind.CAPACITY, 0, 121.0, None, 0.0,
        "refused (capacity) for 2 min 1 s: patience=120 seconds is over",
    ),
    (
        Kind.TRANSIENT, 1, 0.0, 500.0, 0.0,
        "refused (transient), and the server asks to wait 8 min 20 s more, which is beyond "
        "patience=120 seconds",
    ),
    (Kind.TRANSIENT, 5, 0.0, None, 0.5, "attempts=5 are used up"),
    (Kind.PERMANENT, 1, 0.0, 1.0, 0.5, "permanent errors are not retried"),
    (Kind.AUTH, 0, 0.0, None, 0.5, "auth errors are not retried"),
    (Kind.QUOTA, 0, 0.0, 1.0, 0.5, "quota errors are not retried"),
]  # fmt: skip

NUMBER = " is not a number from 0. Fix: leave it out, or "
WHOLE = " is not a whole number from 1: it counts the first try too. Fix: attempts=5, or "
RETRIED = [kind for kind in Kind if kind.retried in (Retried.PATIENCE, Retried.ATTEMPTS)]

BAD = [
    ({"attempts": 0}, f"Retry(attempts=0){WHOLE}attempts=1 for no retries."),
    ({"attempts": True}, f"Retry(attempts=True){WHOLE}attempts=1 for no retries."),
    ({"attempts": 2.5}, f"Retry(attempts=2.5){WHOLE}attempts=1 for no retries."),
    ({"attempts": "5"}, f"Retry(attempts='5'){WHOLE}attempts=1 for no retries."),
    ({"base": -1}, f"Retry(base=-1){NUMBER}Retry(base=0.5)."),
    ({"cap": math.nan}, f"Retry(cap=nan){NUMBER}Retry(cap=60)."),
    ({"patience": None}, f"Retry(patience=None){NUMBER}Retry(patience=120)."),
    ({"base": 10**400}, f"Retry(base=1{'0' * 76}...){NUMBER}Retry(base=0.5)."),
    ({"budget": 10**5000}, f"Retry(budget=<int>){NUMBER}Retry(budget=0.2)."),
    ({"budget": True}, f"Retry(budget=True){NUMBER}Retry(budget=0.2)."),
]


@pytest.mark.parametrize(("kind", "failures", "refused_for", "hint", "random", "answer"), DECISIONS)
def test_decides(
    kind: Kind,
    failures: int,
    refused_for: float,
    hint: float | None,
    random: float,
    answer: float | str,
) -> None:
    verdict = decide(Retry(), kind, failures, refused_for, hint, random)
    if isinstance(answer, str):
        beyond = answer.startswith("refused (")
        assert verdict == GiveUp(answer, refused_for if beyond else 0.0)
    else:
        assert verdict == Delay(answer)


@pytest.mark.parametrize("kind", sorted(RETRIED))
def test_attempts_of_one_switches_retries_off(kind: Kind) -> None:
    verdict = decide(Retry(attempts=1), kind, 1, 0.0, None, 0.5)
    assert verdict == GiveUp("Retry(attempts=1) switches retries off")


@pytest.mark.parametrize(("values", "message"), BAD)
def test_refuses(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidLimit) as caught:
        Retry(**values)  # type: ignore[arg-type]
    assert str(caught.value) == message


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_full_jitter_up_to_the_cap(failures: int, random: float) -> None:
    seconds = Retry(base=0.5, cap=60).backoff(failures, random)
    assert seconds == random * min(60.0, 0.5 * 2.0 ** min(failures - 1, 63))
    assert 0 <= seconds < 60 or not random


@given(st.floats(0, 1e6), st.floats(0, 1, exclude_max=True))
def test_a_hint_is_never_shortened(hint: float, random: float) -> None:
    assert hint <= spread(hint, random) <= hint + 1.0
    retry = Retry(patience=math.inf)
    for kind in RETRIED:
        verdict = decide(retry, kind, 1, 0.0, hint, random)
        assert isinstance(verdict, Delay)
        assert verdict.seconds >= hint
        assert retry.reopening(kind, 3, hint, random) >= hint


@pytest.mark.parametrize(
    ("kind", "strikes", "least", "most"),
    [
        (Kind.RATE, 0, 1.0, 1.1),
        (Kind.TOKENS, 1, 2.0, 2.2),
        (Kind.CONCURRENCY, 2, 4.0, 4.4),
        (Kind.RATE, 3, 8.0, 8.8),
        (Kind.RATE, 10_000, 8.0, 8.8),
        (Kind.CAPACITY, 0, 0.25, 0.5),
        (Kind.CAPACITY, 1, 0.5, 1.0),
        (Kind.CAPACITY, 4, 4.0, 8.0),
        (Kind.CAPACITY, 10_000, 4.0, 8.0),
    ],
)
def test_how_long_the_gate_stays_shut(kind: Kind, strikes: int, least: float, most: float) -> None:
    assert Retry().reopening(kind, strikes, None, 0.0) == pytest.approx(least)
    assert Retry().reopening(kind, strikes, None, 0.999999) == pytest.approx(most, rel=1e-3)


# The budget: a floor of 10 in 10 seconds, and a share of what was sent in the last 10


def spend(budget: RetryBudget, sent: int, now: float) -> int:
    """How many retries it lets through at `now`, after `sent` attempts in all."""
    spent = 0
    while budget.spend(sent, now):
        spent += 1
        assert spent < 100_000
    return spent


def test_the_floor_alone() -> None:
    budget = RetryBudget(0.0, 100.0)
    assert spend(budget, 0, 100.0) == 10
    assert spend(budget, 5000, 100.5) == 0
    assert spend(budget, 5000, 103.0) == 3
    assert spend(budget, 5000, 1000.0) == 10


@pytest.mark.parametrize(
    ("sent", "seconds", "credit"),
    [
        (1000, 0.0, 200),
        (1000, 1.0, 190),
        (1000, 10.0, 126),
        (36_000, 3600.0, 20),  # an hour at 10 a second is 100 in the last 10 seconds
        (0, 50.0, 0),
    ],
)
def test_a_share_of_what_was_sent_lately(sent: int, seconds: float, credit: int) -> None:
    budget = RetryBudget(0.2, 100.0)
    assert spend(budget, sent, 100.0 + seconds) == 10 + credit


def test_credit_fades() -> None:
    budget = RetryBudget(0.2, 0.0)
    budget.spend(1000, 0.0)
    assert 10 <= spend(budget, 1000, 100.0) <= 11


def test_in_the_long_run_no_more_than_the_share_and_the_floor() -> None:
    budget, sent, retried = RetryBudget(0.2, 0.0), 0, 0
    for tick in range(6000):  # ten minutes at 10 a second, all of which fail
        sent += 1
        retried += budget.spend(sent, tick / 10)
    assert 0.2 * sent <= retried <= 0.2 * sent + 10 + 600


def test_another_clock() -> None:
    budget = RetryBudget(0.2, 1000.0)
    spend(budget, 100, 1000.0)
    budget.shift(-990.0)
    assert spend(budget, 100, 13.0) == 3
