"""How servers count, and what they say of it: what is used, when it fits, when nothing is used."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest

from headway.testing.algorithms import (
    Algorithm,
    FixedWindow,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
)

MADE: dict[str, Callable[[], Algorithm]] = {
    "fixed window": lambda: FixedWindow(10, 2.0, 0.7),
    "sliding log": lambda: SlidingLog(10, 2.0),
    "sliding counter": lambda: SlidingCounter(10, 2.0, 0.7),
    "exact counter": lambda: SlidingCounter(10, 2.0, 0.7, exact=True),
    "token bucket": lambda: TokenBucket(10, 5.0),
}


@pytest.mark.parametrize("name", MADE)
def test_what_it_says_is_so(name: str) -> None:
    random = Random(5)
    server = MADE[name]()
    now, refused = 100.0, 0
    for _ in range(300):
        now += random.expovariate(8)
        cost = random.choice([1, 1, 2, 5])
        wait = server.fits_in(now, cost)
        assert 0 <= server.used(now) <= 10
        assert server.fits(now, cost) is (wait == 0)
        if wait:
            refused += 1
            assert not server.admit(now, cost)
            now += wait
        assert server.admit(now, cost)
    assert refused > 20
    assert server.fits_in(now, 11) == math.inf
    full_in = server.full_in(now)
    assert full_in > 0
    assert server.used(now + full_in + 1e-6) <= 1e-6
    assert server.full_in(now + 100) <= 2.0


@pytest.mark.parametrize("name", MADE)
def test_it_admits_what_fits_and_counts_it(name: str) -> None:
    random = Random(6)
    one, other = MADE[name](), MADE[name]()
    now, refused = 100.0, 0
    for _ in range(300):
        now += random.expovariate(8) if random.random() < 0.95 else 10 * random.random()
        cost = random.choice([1, 1, 2, 5])
        fits = other.fits(now, cost)
        if fits:
            other.take(now, cost)
        assert one.admit(now, cost) is fits
        assert one.used(now) == other.used(now)
        refused += not fits
    assert refused > 20


@pytest.mark.parametrize("name", MADE)
def test_a_full_one_takes_its_limit_and_no_more(name: str) -> None:
    server = MADE[name]()
    assert [server.admit(100.8) for _ in range(11)] == [True] * 10 + [False]
    assert server.used(100.8) == pytest.approx(10)


def test_a_fixed_window_lets_twice_its_limit_pass_where_two_meet() -> None:
    server = FixedWindow(5, 1.0)
    assert sum(server.admit(at) for at in [0.99] * 6 + [1.0] * 6) == 10


def test_a_sliding_log_refuses_an_exact_tie() -> None:
    server = SlidingLog(1, 1.0)
    assert server.admit(0.0)
    assert not server.admit(1.0)
    assert server.admit(1.0 + server.fits_in(1.0))


def test_a_sliding_counter_rounds_down_unless_it_is_exact() -> None:
    for exact, expected in ((False, [True, False]), (True, [False, False])):
        server = SlidingCounter(5, 1.0, exact=exact)
        assert all(server.admit(0.5) for _ in range(5))
        assert [server.admit(1.1), server.admit(1.1)] == expected  # 4.5 of the older are in sight


def test_a_bucket_is_full_at_first_and_refills_evenly() -> None:
    server = TokenBucket(2, 1.0)
    assert [server.admit(at) for at in (50.0, 50.0, 50.0, 51.0, 51.5)] == [
        True, True, False, True, False,
    ]  # fmt: skip
