"""Refusals that are chance, told from a limit's: as many come at a lower rate."""

from __future__ import annotations

import pytest

from headway._core.limits.chance import Chance


def descend(chance: Chance, apart: list[float], *, step: float = 0.99, unit: float = 1.0) -> float:
    """Refusals of a rate that falls by `step` at each, so many attempts `apart`, from 10 on until
    it is given back; the rate then.
    """
    rate = chance.given_back(10.0, 9.9, 1e9, unit)
    for attempts in apart:
        before, after = rate, step * rate
        rate = chance.given_back(before, after, attempts * unit, unit)
        if rate > after:
            break
    return rate


def test_as_many_at_a_lower_rate_are_chance() -> None:
    chance = Chance()
    assert not chance.excuses(50.0, 1.0)  # nothing is known yet
    assert descend(chance, [50.0] * 12) == pytest.approx(10.0)
    assert chance.share == pytest.approx(0.02, rel=0.01)


def test_it_counts_in_units() -> None:
    chance = Chance()
    assert descend(chance, [50.0] * 12, unit=0.1) == pytest.approx(10.0)
    assert chance.share == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize(
    "apart",
    [
        [50.0] * 9,  # not far enough down
        [20.0] * 12,  # a limit may have fallen
        [200.0] * 12,  # that is borne
        [*[40.0] * 5, *[120.0] * 7],  # the lower rate helps
    ],
    ids=["near", "many", "few", "fewer"],
)
def test_others_are_not(apart: list[float]) -> None:
    chance = Chance()
    assert descend(chance, apart) < 9.9
    assert not chance.share


def test_a_rate_that_falls_far_at_once_follows_a_limit() -> None:
    chance = Chance()
    assert descend(chance, [50.0] * 3, step=0.9) < 8
    assert not chance.share


def test_so_many_are_excused_and_no_more() -> None:
    chance = Chance()
    descend(chance, [50.0] * 12)
    assert [chance.excuses(5.0, 1.0) for _ in range(6)] == [True] * 3 + [False] * 3
    assert [chance.excuses(50.0, 1.0) for _ in range(6)] == [True] * 6
    assert sum(chance.excuses(20.0, 1.0) for _ in range(100)) < 70  # two and a half for each


def test_what_is_excused_tells_the_share_and_is_of_the_row() -> None:
    chance = Chance()
    descend(chance, [50.0] * 12)
    for _ in range(100):
        chance.met(9.9, 40.0, 1.0)
    assert chance.share == pytest.approx(0.025, rel=0.05)
    for _ in range(100):
        chance.met(9.9, 10.0, 1.0)
    assert chance.share == 0.03  # more may be a limit


def test_after_a_long_quiet_none_is_excused() -> None:
    chance = Chance()
    descend(chance, [50.0] * 12)
    assert not chance.excuses(600.0, 1.0)
    assert not chance.share
    assert not chance.excuses(50.0, 1.0)
