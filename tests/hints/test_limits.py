"""What headers and messages say of the limits, one row a dialect."""

from __future__ import annotations

from typing import Any

import pytest
from limit_headers import hint, three

from headway.hints import LimitHint, limits_from, limits_in_message

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("headers", "hints"),
    [
        ({}, []),
        (three("x-ratelimit-{}-tokens", "90000", "80000", "6m0s"),
         [hint("tokens", 90_000, 80_000, 360, 60)]),
        (three("x-ratelimit-{}-requests", "500", "499", "120ms"),
         [hint("requests", 500, 499, 0.12, 60)]),  # the three agree on a minute
        (three("x-ratelimit-{}-requests", "14400", "14370", "2m59.56s"),
         [hint("requests", 14_400, 14_370, 179.56, 86_400)]),  # and on a day
        (three("x-ratelimit-{}-requests", "500", "100", "1s"),
         [hint("requests", 500, 100, 1)]),  # and on nothing
        (three("anthropic-ratelimit-requests-{}", "50", "49", "2026-09-21T13:46:52Z"),
         [hint("requests", 50, 49, 0, 60)]),
        (three("anthropic-ratelimit-input-tokens-{}", "9", "8", "1"),
         [hint("input_tokens", 9, 8, 1, 60)]),
        ({"x-ratelimit-limit-dynamic": "7"}, [hint("requests", 7, dynamic=True)]),
        ({"ratelimit": '"default";r=50;t=30', "ratelimit-policy": '"default";q=100;w=60'},
         [hint("requests", 100, 50, 30, 60)]),
        ({"ratelimit-limit": "100", "ratelimit-remaining": "50", "ratelimit-reset": "30"},
         [hint("requests", 100, 50, 30)]),
        ({"x-ratelimit-limit-requests": "many"}, []),
        ({"x-ratelimit-limit-requests": "-1"}, []),
    ],
)  # fmt: skip
def test_headers(headers: dict[str, str], hints: list[LimitHint]) -> None:
    found = limits_from(headers, wall_time=NOW)
    assert [(each.what, each.limit, each.remaining, each.per, each.dynamic) for each in found] == [
        (each.what, each.limit, each.remaining, each.per, each.dynamic) for each in hints
    ]
    for each, wanted in zip(found, hints, strict=True):
        assert each.reset == (None if wanted.reset is None else pytest.approx(wanted.reset))


@pytest.mark.parametrize(("unit", "per"), [(None, None), ("second", 1.0), ("minute", 60.0)])
def test_the_unit_that_together_does_not_state(unit: Any, per: float | None) -> None:
    (found,) = limits_from({"x-ratelimit-limit": "10"}, wall_time=NOW, together_unit=unit)
    assert found == hint("requests", 10, per=per)


def test_a_reset_in_years_is_none() -> None:
    headers = three("anthropic-ratelimit-requests-{}", "50", "49", str(400 * 86_400))
    assert limits_from(headers, wall_time=NOW) == (hint("requests", 50, 49, None, 60),)


@pytest.mark.parametrize(
    ("message", "hints"),
    [
        ("600 RPM (10 QPS) and 180000 TPM", [hint("requests", 600, per=60),
                                             hint("requests", 10, per=1),
                                             hint("tokens", 180_000, per=60)]),
        ("1,000 RPD", [hint("requests", 1_000, per=86_400)]),
        ("50 requests per minute", [hint("requests", 50, per=60)]),
        ("40,000 input tokens per minute", [hint("input_tokens", 40_000, per=60)]),
        ("2.3.600 RPM", []),
        ("try again in 5 minutes", []),
        ("0 RPM", []),
    ],
)  # fmt: skip
def test_prose(message: str, hints: list[LimitHint]) -> None:
    assert list(limits_in_message(message)) == hints
    body = {"error": {"message": message}}
    assert list(limits_from({}, body, wall_time=NOW)) == hints
