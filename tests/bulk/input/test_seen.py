"""Duplicates among many ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.bulk.input.seen import SeenIds


@given(st.lists(st.text("ab\u00e9\u2603", max_size=3)))
def test_the_first_line_of_each_id_is_kept(ids: list[str]) -> None:
    seen, known = SeenIds(), dict[str, int]()
    for line, custom_id in enumerate(ids, 1):
        assert seen.first_line(custom_id, line) == known.setdefault(custom_id, line)


def test_many_ids_and_each_again() -> None:
    seen = SeenIds()
    assert all(seen.first_line(f"request-{n}", n) == n for n in range(100_000))
    assert all(seen.first_line(f"request-{n}", 10**6 + n) == n for n in range(100_000))


def test_numbers_of_lines_above_32_bits() -> None:
    seen = SeenIds()
    for n in range(50_000):
        assert seen.first_line(str(n), n) == n
    assert seen.first_line("a", 2**32) == 2**32
    assert seen.first_line("a", 2**33) == 2**32
    assert all(seen.first_line(str(n), 2**40) == n for n in range(50_000))
