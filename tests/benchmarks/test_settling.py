"""Control settles: minutes of what benchmarks/control.py measures for an hour."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from _scenarios import Bucket, Scenario, drive, in_turn, slots, windows

from headway import Limits, Rate

TOLD = Limits(Rate(10, per=1))


def falling(now: float) -> float:
    return 4.0 if 200 <= now < 300 else 10.0


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario("a bucket", lambda: Bucket(10, 10), least=9.8, most=0.003),
        Scenario("told double", lambda: Bucket(10, 10), told=Limits(Rate(20, per=1)),
                 least=9.7, most=0.003),
        Scenario("slots", lambda: slots(20), median=lambda now: 1.0, least=9.0, most=0.006),
        Scenario("both, called requests", lambda: slots(40, Bucket(10, 10)), median=in_turn,
                 says="requests", seconds=1000, skip=700, least=3.5, most=0.02),
        Scenario("told right, far away", lambda: windows("sliding log", 10, 1), told=TOLD,
                 median=lambda now: 1.0, delay=0.05, least=9.3, most=0.002),
        Scenario("told right, near", lambda: windows("sliding log", 10, 1), told=TOLD,
                 median=lambda now: 1.0, delay=0.01, least=9.6, most=0.0),
        Scenario("windows", lambda: windows("fixed window", 600, 60), least=9.3, most=0.01),
        Scenario("chance at 100/s", lambda: Bucket(100, 100), noise=0.02,
                 told=Limits(Rate(100, per=1)), median=lambda now: 0.3, seconds=7, skip=3,
                 least=75),
        Scenario("two clients", lambda: Bucket(10, 10), clients=2, seconds=1500, skip=1200,
                 least=9.6, most=0.015),
    ],
    ids=lambda scenario: scenario.title,
)  # fmt: skip
def test_what_is_reached_and_refused(scenario: Scenario) -> None:
    if scenario.seconds == 3600:
        scenario = scenario.for_seconds(500)
    result = drive(scenario, 1)
    assert result.goodput >= scenario.least
    assert result.refused <= scenario.most
    if scenario.clients > 1:
        assert min(result.each) >= 0.65 * result.goodput / 2


def test_a_fall_is_followed_in_seconds_and_a_rise_within_a_minute_or_two() -> None:
    scenario = Scenario("10, 4, 10/s", lambda: Bucket(falling, 10), seconds=450, skip=200)
    result = drive(scenario, 1)
    before, low, after = result.accepted[195], result.accepted[205:215], result.accepted[400:410]
    assert before == pytest.approx(10, abs=1.5)
    assert sum(low) <= 48
    assert sum(after) >= 90
    assert result.refused < 0.02


def test_noise_does_not_bring_the_rate_to_nothing() -> None:
    scenario = Scenario("noise", lambda: Bucket(10, 10), noise=0.02, seconds=600, skip=200)
    result = drive(scenario, 1)
    assert result.goodput > 4
    assert math.isclose(result.refused, 0.02, abs_tol=0.01)


@pytest.mark.parametrize("stated", [Rate(10, per=1), Rate(600, per=60)], ids=str)
def test_noise_costs_a_stated_rate_little(stated: Rate) -> None:
    scenario = Scenario("noise", lambda: Bucket(10, 10), told=Limits(stated), noise=0.02,
                        seconds=900, skip=200, median=lambda now: 1.0)  # fmt: skip
    assert drive(scenario, 1).goodput > 7.0
