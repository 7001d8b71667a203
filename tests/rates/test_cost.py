"""A cost: tokens by class, and the number that they sum to."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest

from headway import Cost, InvalidArgument

SOME = Cost(input=150, cached=50_000, output=20)


def test_a_cost_is_the_number_that_it_sums_to() -> None:
    assert SOME == 50_170
    assert SOME > 50_000.0
    assert repr(SOME) == "Cost(input=150, cached=50000, output=20)"
    assert (repr(Cost()), Cost()) == ("Cost()", 0)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_copy_knows_its_parts(again: Any) -> None:
    assert repr(again(SOME)) == repr(SOME)


def test_costs_add_up_by_class() -> None:
    both = Cost(input=600) + Cost(output=100)
    assert isinstance(both, Cost)
    assert (both, both.input, both.output) == (700, 600, 100)
    total = sum([Cost(input=1, cached=2), Cost(output=3, either=4)], Cost())
    assert isinstance(total, Cost)
    assert (total.input, total.cached, total.output, total.either) == (1, 2, 3, 4)
    assert Cost(input=1) + 1 == 2


def test_what_turned_out_in_all_is_of_the_answer_where_it_is_more_than_the_prompt() -> None:
    assert repr(Cost(input=100, cached=300, output=50).in_all(1_000)) == (
        "Cost(input=100, cached=300, output=600)"
    )
    assert repr(Cost(input=100, cached=300, output=50).in_all(40)) == "Cost(input=10, cached=30)"
    assert repr(Cost(output=50).in_all(70)) == "Cost(output=70)"


def test_a_cost_moves_by_class() -> None:
    assert repr(Cost(input=100).towards(Cost(output=50), 0.5)) == "Cost(input=50, output=25)"
    assert repr(Cost(input=100).towards(50.0, 0.5)) == "Cost(input=50, either=25)"


@pytest.mark.parametrize(
    "bad", [-1, math.nan, math.inf, "7", None, 10**400, True, False], ids=lambda bad: f"{bad!r:.9}"
)
@pytest.mark.parametrize("name", ["input", "cached", "output", "either"])
def test_a_part_that_is_no_count(name: str, bad: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"Cost\\({name}=.*is not a count of tokens"):
        Cost(**{name: bad})
