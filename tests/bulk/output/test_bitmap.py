"""A set of numbers in bits is a set."""

from __future__ import annotations

import pytest
from depth import depth
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.bulk.output.bitmap import Bitmap

NUMBERS = st.lists(st.integers(0, 9_000), max_size=60)


def bitmap(*numbers: int) -> Bitmap:
    found = Bitmap()
    for number in numbers:
        found.add(number)
    return found


@settings(max_examples=depth(20, 500))
@given(NUMBERS, NUMBERS, NUMBERS)
def test_it_holds_what_a_set_holds(added: list[int], updated: list[int], out: list[int]) -> None:
    found, model = Bitmap(), set[int]()
    for number in added:
        assert found.add(number) is (number not in model)
        model.add(number)
    found.update(updated)
    model.update(updated)
    for number in out:
        found.discard(number)
        model.discard(number)
    assert list(found) == sorted(model)
    assert found.count == len(model)
    assert all((number in found) is (number in model) for number in [*added, *updated, *out, 0])


@settings(max_examples=depth(20, 500))
@given(NUMBERS, NUMBERS)
def test_a_difference_is_that_of_sets_and_a_set_of_its_own(
    some: list[int], other: list[int]
) -> None:
    first, second = bitmap(*some), bitmap(*other)
    rest = first - second
    assert list(rest) == sorted(set(some) - set(other))
    assert rest.count == len(set(some) - set(other))
    rest.add(1)
    assert list(first) == sorted(set(some))


@pytest.mark.parametrize("number", [0, 7, 8, 8191, 8192, 10_000_000])
def test_the_edges_of_a_byte_and_of_the_memory(number: int) -> None:
    found = bitmap(number)
    assert list(found) == [number]
    assert number + 1 not in found
    assert number - 1 not in found


def test_a_number_beyond_everything_is_not_there_and_costs_nothing() -> None:
    found = bitmap(3)
    size = len(found._bits)
    assert 1 << 40 not in found
    found.discard(1 << 40)
    assert (found.count, len(found._bits)) == (1, size)


def test_ten_million_numbers_are_not_much_more_than_their_bits() -> None:
    assert len(bitmap(10_000_000)._bits) < 1_500_000


def test_it_grows_by_an_eighth_so_that_rows_one_after_another_move_it_seldom() -> None:
    found, sizes = Bitmap(), set[int]()
    for number in range(0, 400_000, 8):
        found.add(number)
        sizes.add(len(found._bits))
    assert len(sizes) < 40
