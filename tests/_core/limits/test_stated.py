"""What of a server's word is believed: the tighter of several, no absurd one, none of a day."""

from __future__ import annotations

import pytest

from headway._core.limits.stated import StatedLimits, believed
from headway.hints import LimitHint


def requests(
    limit: float | None = None, per: float | None = None, remaining: float | None = None
) -> LimitHint:
    return LimitHint("requests", limit, remaining, None, per)


def tokens(limit: float, per: float | None) -> LimitHint:
    return LimitHint("tokens", limit, None, None, per)


@pytest.mark.parametrize(
    ("hints", "told"),
    [
        ([], StatedLimits()),
        ([requests(600, 60)], StatedLimits(requests=10)),
        ([requests(600, 60), requests(5, 1)], StatedLimits(requests=5)),  # the tighter
        ([requests(5, 1), requests(600, 60)], StatedLimits(requests=5)),
        ([tokens(90_000, 60)], StatedLimits(tokens={"tokens": (90_000, 60)})),
        ([tokens(90_000, 60), tokens(1_000, 1)], StatedLimits(tokens={"tokens": (1_000, 1)})),
        ([tokens(1_000, 1), tokens(90_000, 60)], StatedLimits(tokens={"tokens": (1_000, 1)})),
        ([requests(600)], StatedLimits()),  # of an unknown period
        ([tokens(600, None)], StatedLimits()),
        ([requests(14_400, 86_400)], StatedLimits()),  # of a day: spent as it comes
        ([requests(14_400, 3_600)], StatedLimits(requests=4)),
        (
            [tokens(90_000, 60), *(LimitHint("input_tokens", n, None, None, 60) for n in (9, 7))],
            StatedLimits(tokens={"tokens": (90_000, 60), "input_tokens": (7, 60)}),
        ),
    ],
)
def test_the_limits_that_bind(hints: list[LimitHint], told: StatedLimits) -> None:
    assert believed(hints) == told


@pytest.mark.parametrize(
    ("remaining", "least"),
    [([], None), ([None], None), ([7], 7), ([7, 3, 5], 3), ([None, 0], 0), ([-4], 0)],
)
def test_the_least_that_remains_of_any_limit_of_requests(
    remaining: list[float | None], least: float | None
) -> None:
    hints = [requests(remaining=each) for each in remaining]
    hints.append(LimitHint("tokens", 1, 1, None, None))  # tokens are not requests
    assert believed(hints).remaining == least


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (requests(0.5, 60), "requests limit of 0.5 in 1 min ignored"),
        (requests(2e12, 60), "requests limit of 2,000,000,000,000 in 1 min ignored"),
        (tokens(600, 0.5), "tokens limit of 600 in 500 ms ignored"),
    ],
)
def test_what_cannot_be_meant_is_said_and_not_followed(hint: LimitHint, said: str) -> None:
    told = believed([hint, requests(600, 60)])
    assert told.odd == [said]
    assert (told.requests, told.tokens) == (10, {})


def test_what_was_odd_of_a_header_is_told_of() -> None:
    hint = LimitHint("requests", 600, None, None, 60, odd="x-ratelimit-limit: '100, 200' ignored")
    found = believed([hint])
    assert (found.requests, found.odd) == (10, [hint.odd])


def test_a_limit_of_nothing_is_told_and_not_followed() -> None:
    found = believed([LimitHint("tokens", 0.0, 0.0, None, 60.0)])
    assert not found.tokens
    assert found.odd == ["tokens limit of 0 in 1 min ignored"]
