"""What a fake provider says of its limits is what headway reads of the real one."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from cases import each

from headway import Cost, InvalidArgument, Kind, Limits, Rate
from headway.hints import limits_from, refusal_from_response
from headway.providers import AZURE, PROVIDERS, provider_at, record_of
from headway.testing import FakeProvider
from headway.testing.account import Account, OverLimit
from headway.testing.dialects import (
    DIALECTS,
    headers_of,
    refusal_answer,
    speech_named,
    status_answer,
)

WALL = 1_795_000_000.0
LIMITS = Limits(
    ["600/min", "14400/day"], tokens="60k/min", input_tokens="50k/min", output_tokens="8k/min"
)


def said(name: str, limits: Limits = LIMITS) -> dict[str, Any]:
    """What headway reads of a dialect: for each limit, its numbers."""
    account = Account(limits, "fixed_window", None, 0.0)
    for _ in range(6):
        assert account.enter(10.0, Cost(input=80, output=20)) is None
    headers = headers_of(DIALECTS[name], account.counted, 20.0, WALL)
    hints = limits_from(headers, wall_time=WALL + 500, dialect=record_of(name).dialect)
    return {
        hint.what: (hint.limit, hint.remaining, hint.reset and round(hint.reset), hint.per)
        for hint in hints
    }


READ: dict[str, dict[str, Any]] = {
    "openai": {"requests": (600, 594, 40, None), "tokens": (60000, 59400, 40, 60)},
    "azure": {"requests": (600, 594, 40, None), "tokens": (60000, 59400, 40, 60)},
    "xai": {"requests": (600, 594, 40, None), "tokens": (60000, 59400, 40, 60)},
    "anthropic": {
        "requests": (600, 594, 40, 60),
        "tokens": (60000, 59400, 40, 60),
        "input_tokens": (50000, 49520, 40, 60),
        "output_tokens": (8000, 7880, 40, 60),
    },
    "groq": {"requests": (14400, 14394, 86380, 86400), "tokens": (60000, 59400, 40, 60)},
    "mistral": {"requests": (600, 594, None, 60), "tokens": (60000, 59400, None, 60)},
    "fireworks": {
        "requests": (600, 594, None, None),
        "input_tokens": (50000, 49520, None, 60),
        "output_tokens": (8000, 7880, None, 60),
    },
    "openrouter": {"requests": (600, 594, 40, None)},
    "gemini": {}, "deepseek": {}, "bedrock": {}, "none": {},
}  # fmt: skip


@each("name", READ)
def test_headers_are_read_as_those_of_the_provider(name: str) -> None:
    assert said(name) == READ[name]


def test_every_provider_that_is_known_is_spoken_for() -> None:
    assert {*PROVIDERS, AZURE.name} <= set(DIALECTS)
    assert set(DIALECTS) == {*READ, "together", "huggingface", "ietf"}


def test_together_states_what_it_enforces() -> None:
    assert said("together", Limits(Rate(600, per=60, window=1))) == {
        "requests": (10, 10, 0, None)
    }  # the six were of an older window


@pytest.mark.parametrize("name", ["ietf", "huggingface"])
def test_the_ietf_form_states_every_limit(name: str) -> None:
    account = Account(LIMITS, "fixed_window", None, 0.0)
    assert account.enter(10.0, Cost(input=80, output=20)) is None
    headers = headers_of(DIALECTS[name], account.counted, 20.0, WALL)
    hints = limits_from(headers, wall_time=WALL)
    assert [(each.what, each.limit, each.remaining, each.per) for each in hints] == [
        ("requests", 600, 599, 60),
        ("requests", 14400, 14399, 86400),
        ("tokens", 60000, 59900, 60),
        ("tokens", 50000, 49920, 60),
        ("tokens", 8000, 7980, 60),
    ]


@pytest.mark.parametrize("rate", [Rate(120, per=60), Rate(0.5, per=1)])
def test_the_ietf_policy_of_a_bucket_is_its_rate(rate: Rate) -> None:
    account = Account(Limits(rate), "gcra", 1, 0.0)
    assert account.enter(0.0, Cost()) is None
    (hint,) = limits_from(headers_of(DIALECTS["ietf"], account.counted, 0.0, WALL), wall_time=WALL)
    assert (hint.limit, hint.per) in [(120, 60), (1, 2)]
    assert hint.limit / hint.per == rate.limit / rate.per
    assert hint.remaining == 0


def test_a_bucket_says_what_it_holds_and_not_what_a_window_allows() -> None:
    """An eager client spends what remains: the second of 25 would be told of 98 more."""
    for name in ("openai", "ietf", "together"):
        account = Account(Limits(Rate(100, per=2)), "token_bucket", 25, 0.0)
        for left in (24, 23):
            assert account.enter(0.0, Cost()) is None
            headers = headers_of(DIALECTS[name], account.counted, 0.0, WALL)
            hints = limits_from(headers, wall_time=WALL, dialect=record_of(name).dialect)
            assert [(hint.limit, hint.remaining) for hint in hints] == [(100, left)], name


@each("name", sorted(DIALECTS))
def test_a_dialect_is_known_by_its_address(name: str) -> None:
    host = FakeProvider("600/min", dialect=name).base_url.split("/")[2]
    known = provider_at(host)
    expected = name if name in (*PROVIDERS, "azure", "bedrock") else None
    assert (known.name if known else None) == expected


@each("name", sorted(DIALECTS))
@each(
    "what, kind",
    [("requests", Kind.RATE), ("tokens", Kind.TOKENS), ("concurrency", Kind.CONCURRENCY)],
)
def test_refusals_are_understood(name: str, what: Any, kind: Kind) -> None:
    answer = refusal_answer(speech_named(name), OverLimit(what, 10, 10, 1, 1.5, 60.0), True)
    assert answer.status == 429
    refusal = refusal_from_response(429, answer.headers, answer.pieces[0], wall_time=WALL)
    assert refusal is not None
    assert refusal.kind == kind
    if what != "concurrency":
        assert refusal.wait == (1.5 if name in ("openai", "azure") else 2.0)


@each("name", sorted(DIALECTS))
@each(
    "status, kind",
    [(401, Kind.AUTH), (402, Kind.QUOTA), (503, Kind.CAPACITY), (500, Kind.TRANSIENT)],
)
def test_failures_are_understood(name: str, status: int, kind: Kind) -> None:
    answer = status_answer(speech_named(name), status, "It fails.")
    refusal = refusal_from_response(status, answer.headers, answer.pieces[0], wall_time=WALL)
    assert refusal is not None
    assert refusal.kind == kind


def test_what_a_refusal_says_of_the_wait() -> None:
    speech = speech_named("openai")
    refused = OverLimit("tokens", 100, 90, 20, 0.25, 1.0)
    answer = refusal_answer(speech, refused, True)
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("1", "250")
    assert json.loads(answer.pieces[0])["error"]["message"] == (
        "Rate limit reached: the tokens limit is 100 in 1 s, 90 are used, and 20 more were asked "
        "for."
    )
    assert "retry-after" not in refusal_answer(speech, refused, False).headers
    assert refusal_answer(speech, refused, 7).headers["retry-after"] == "7"
    never = refusal_answer(speech, refused._replace(wait=math.inf), True)
    assert "retry-after" not in never.headers
    assert "Request too large" in never.pieces[0].decode()
    retry_info = json.loads(refusal_answer(speech_named("gemini"), refused, 3).pieces[0])
    assert retry_info["error"]["details"][0]["retryDelay"] == "3s"


def test_a_dialect_that_nobody_speaks() -> None:
    with pytest.raises(InvalidArgument) as caught:
        FakeProvider("600/min", dialect="klingon")
    assert str(caught.value) == (
        "dialect='klingon' is none that a fake provider speaks. Fix: one of together, openai, "
        "azure, anthropic, groq, mistral, fireworks, openrouter, huggingface, ietf, gemini, "
        "deepseek, xai, bedrock, none."
    )
