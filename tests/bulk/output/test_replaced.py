"""The run that is replaced is there whole until the new one has a row, wherever a kill comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.bulk.output.paths import InvalidOutput
from headway.bulk.output.replaced import Replaced, identity_of

NAMES = {
    "out.jsonl",
    "out.errors.jsonl",
    "out.run/journal",
    "out.run/trace.jsonl",
    "out.run/billed.jsonl",
}


def a_run(folder: Path) -> Replaced:
    (folder / "out.run").mkdir()
    for name in NAMES:
        (folder / name).write_text(f"old {name}")
    (folder / "out.run" / "lock").touch()
    return Replaced(folder / "out.jsonl", folder / "out.run")


def held(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_text() for path in files}


OLD = {name: f"old {name}" for name in NAMES}


def test_set_aside_and_brought_back(tmp_path: Path) -> None:
    earlier = a_run(tmp_path)
    earlier.set_aside()
    assert {name.split("/")[1] for name in held(tmp_path)} == {"before"}
    assert len(held(tmp_path)) == len(NAMES)
    assert (tmp_path / "out.run" / "lock").exists()
    earlier.bring_back()
    assert held(tmp_path) == OLD
    earlier.bring_back()
    assert held(tmp_path) == OLD


def test_dropped_with_the_first_row_and_only_once(tmp_path: Path) -> None:
    earlier = a_run(tmp_path)
    earlier.drop()  # nothing is aside: nothing goes
    assert held(tmp_path) == OLD
    earlier.set_aside()
    (tmp_path / "out.jsonl").write_text("new")
    earlier.drop()
    assert held(tmp_path) == {"out.jsonl": "new"}
    earlier.bring_back()
    assert held(tmp_path) == {"out.jsonl": "new"}


@pytest.mark.parametrize("moved", range(len(NAMES) + 1))
def test_a_kill_between_any_two_steps_leaves_the_earlier_run(moved: int, tmp_path: Path) -> None:
    earlier = a_run(tmp_path)
    (tmp_path / "out.run" / "before").mkdir()
    there = [(name, path) for name, path in earlier.files() if path.exists()]
    for name, path in there[:moved]:
        path.rename(tmp_path / "out.run" / "before" / name)
    Replaced(tmp_path / "out.jsonl", tmp_path / "out.run").resolve()
    assert held(tmp_path) == OLD
    assert not (tmp_path / "out.run" / "before").exists()


def test_a_kill_while_it_was_dropped_leaves_the_new_run(tmp_path: Path) -> None:
    earlier = a_run(tmp_path)
    earlier.set_aside()
    (tmp_path / "out.run" / "before").rename(tmp_path / "out.run" / "gone")
    (tmp_path / "out.run" / "gone" / "output").unlink()
    (tmp_path / "out.jsonl").write_text("new")
    Replaced(tmp_path / "out.jsonl", tmp_path / "out.run").resolve()
    assert held(tmp_path) == {"out.jsonl": "new"}
    assert not (tmp_path / "out.run" / "gone").exists()


def test_what_somebody_put_in_its_place_is_not_lost(tmp_path: Path) -> None:
    earlier = a_run(tmp_path)
    earlier.set_aside()
    (tmp_path / "out.jsonl").write_text("theirs")
    with pytest.raises(InvalidOutput, match=r"is in the way: the earlier run of .* is to go there"):
        earlier.bring_back()
    assert (tmp_path / "out.jsonl").read_text() == "theirs"
    assert len(held(tmp_path)) == len(NAMES) + 1


def test_written_names_what_is_there_and_aside(tmp_path: Path) -> None:
    earlier = a_run(tmp_path)
    earlier.set_aside()
    (tmp_path / "out.run" / "journal").write_text("new")
    found = {str(path.relative_to(tmp_path)) for path in earlier.written()}
    assert found >= {"out.jsonl", "out.errors.jsonl", "out.run/journal", "out.run/before/journal"}


def test_rows_keep_their_identity_while_they_are_aside(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert identity_of(output) == 0
    earlier = a_run(tmp_path)
    old = identity_of(output)
    earlier.set_aside()
    output.write_text("")  # the new run's, which has no row yet
    assert identity_of(output) == old != 0
    earlier.drop()
    assert identity_of(output) not in (0, old)
