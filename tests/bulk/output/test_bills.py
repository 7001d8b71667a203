"""The attempts that were billed without an answered row."""

from __future__ import annotations

from pathlib import Path

from headway.bulk.output.bills import Bills, Unanswered

ONE = Unanswered(3, ["m-2026", "m"], 10, 20, cached=4, either=1)
TWO = Unanswered(9, [None, None], 0, 131_072)


def test_what_one_session_adds_the_next_one_reads(tmp_path: Path) -> None:
    with Bills(tmp_path) as bills:
        bills.add(ONE)
    with Bills(tmp_path) as bills:
        bills.add(TWO)
        assert list(bills) == [ONE, TWO]
    assert list(Bills(tmp_path)) == [ONE, TWO]


def test_without_a_line_there_is_no_file(tmp_path: Path) -> None:
    with Bills(tmp_path) as bills:
        assert list(bills) == []
    assert not list(tmp_path.iterdir())


def test_what_a_kill_cut_off_spoils_no_other_line(tmp_path: Path) -> None:
    path = tmp_path / "billed.jsonl"
    with Bills(tmp_path) as bills:
        bills.add(ONE)
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole[:cut])
        with Bills(tmp_path) as bills:
            bills.add(TWO)
        # A line whose break alone is gone is whole.
        assert list(bills) == ([ONE, TWO] if cut == len(whole) - 1 else [TWO])


def test_half_a_character_in_a_model_loses_the_name_and_keeps_the_tokens(tmp_path: Path) -> None:
    with Bills(tmp_path) as bills:
        bills.add(Unanswered(1, ["\ud800", "m"], 5, 6))
    assert list(bills) == [Unanswered(1, [None, None], 5, 6)]


def test_what_is_no_line_of_a_ledger_counts_for_nothing(tmp_path: Path) -> None:
    deep = b"[" * 100_000
    strange = [b'{"line": "x"}', b"[]", deep, b'{"line":1,"models":[],"read":1.5,"written":0}']
    (tmp_path / "billed.jsonl").write_bytes(b"\n".join(strange) + b"\n")
    assert list(Bills(tmp_path)) == []
