"""The two answers: values, and whose fault a refusal is."""

from __future__ import annotations

import dataclasses

import pytest

from headway import Kind
from headway.hints import LimitHint, Refusal


@pytest.mark.parametrize(
    ("refusal", "of_provider"),
    [
        (Refusal(Kind.PERMANENT), False),  # a bug of the caller's
        (Refusal(Kind.PERMANENT, status=400), True),  # the provider said so
        (Refusal(Kind.RATE), True),
        (Refusal(Kind.AUTH), True),
        (Refusal(Kind.TRANSIENT), Kind.TRANSIENT.moves != Kind.PERMANENT.moves),
    ],
)
def test_whether_it_is_about_the_provider(refusal: Refusal, of_provider: bool) -> None:
    assert refusal.of_provider is of_provider


def test_what_is_not_said_is_none_and_nothing_is_odd() -> None:
    bare = Refusal(Kind.RATE)
    assert (bare.wait, bare.status, bare.message, bare.odd) == (None, None, "", "")
    assert (bare.typed, bare.unreached) == (True, False)
    assert not LimitHint("requests", 1, 1, 1, 1).dynamic


@pytest.mark.parametrize("value", [Refusal(Kind.RATE, 3.0), LimitHint("tokens", 9, 1, 2, 60)])
def test_they_are_values(value: Refusal | LimitHint) -> None:
    assert value == dataclasses.replace(value)
    assert len({value, dataclasses.replace(value)}) == 1
    first = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, first, None)
