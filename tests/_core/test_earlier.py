"""What an earlier process kept: each scope's own, once, and what nobody used is handed on."""

from __future__ import annotations

from typing import Any

import pytest

from headway import Limits
from headway._core.earlier import Earlier
from headway._core.limits.scope import Scope

WALL = 1e9
USED = {"what": "requests", "per": 86_400.0, "resets": None, "used": [[WALL - 60, 2.0]]}
KEPT = {
    "saved": WALL,
    "whole": {"quotas": [USED]},
    "keys": {"a": {"quotas": [USED]}, "b": {"quotas": [USED]}},
}


def scope(key: str | None = None) -> Scope:
    made = Scope(Limits("5/day"), key)
    made.set_wall(WALL, 0.0)
    return made


def used(of: Scope) -> float:
    return of.quotas[0].spent(0.0)


def test_each_scope_goes_on_from_its_own_and_once() -> None:
    earlier = Earlier(KEPT, WALL, 0.0)
    for key in (None, "a"):
        first, again = scope(key), scope(key)
        assert earlier.restore(first, WALL, 0.0) is None
        assert earlier.restore(again, WALL, 0.0) is None
        assert (used(first), used(again)) == (2, 0)
    assert earlier.restore(scope("c"), WALL, 0.0) is None


def test_keys_that_nobody_used_are_handed_on() -> None:
    earlier = Earlier(KEPT, WALL, 0.0)
    whole, mine = scope(), scope("a")
    for each in (whole, mine):
        earlier.restore(each, WALL, 0.0)
    kept = earlier.snapshot([whole, mine], WALL, 10.0)
    assert kept["saved"] == WALL + 10
    assert set(kept["keys"]) == {"a", "b"}
    assert kept["keys"]["b"] == KEPT["keys"]["b"]
    assert Earlier({}, WALL, 0.0).snapshot([scope(), scope("a")], WALL, 0.0) == {
        "saved": WALL, "whole": {}, "keys": {},
    }  # fmt: skip


@pytest.mark.parametrize("bad", [7, None, {"quotas": 7}, {"quotas": [{}]}, {"quotas": [[]]}])
def test_what_cannot_be_used_is_said_with_the_key(bad: Any) -> None:
    earlier = Earlier({"whole": bad, "keys": {"a": bad}}, WALL, 0.0)
    said = "what was remembered of a quota{} is of another, or cannot be meant: not used"
    assert earlier.restore(scope(), WALL, 0.0) == said.format("")
    assert earlier.restore(scope("a"), WALL, 0.0) == said.format(" of key 'a'")


@pytest.mark.parametrize("kept", [{}, {"keys": 7}, {"keys": [], "saved": "x"}])
def test_a_file_without_the_parts_says_nothing(kept: Any) -> None:
    assert Earlier(kept, WALL, 0.0).restore(scope("a"), WALL, 0.0) is None
