"""``headway export``."""

from __future__ import annotations

from pathlib import Path

from commands import headway, said


def test_rows_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("x\n")
    result = headway("export", str(path))
    assert result.exit_code == 1
    table = path.with_suffix(".csv")
    left = "1 line was damaged, no row or there twice, and is left out"
    assert f"{table}: 0 rows; {left}" in said(result)
    result = headway("export", str(path))
    assert result.exit_code == 2
    assert "exists already. Fix: give another file with -o" in said(result)
