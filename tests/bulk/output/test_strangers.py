"""What a run, a merge and a report find where they are to write: their own, or somebody else's."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from depth import depth
from kills import killed_after

from headway.bulk.output.journal import Journal, run_folder
from headway.bulk.output.merge import merge
from headway.bulk.output.paths import InvalidOutput, errors_file
from headway.bulk.report import write_report

HEADER = {"input": "f00d", "provider": ["p", "u"], "shape": {}, "shard": None, "lines": 9}
OTHER = {**HEADER, "input": "beef"}
MINE = b"mine\n"


def row(number: int, text: str, code: str | None = None) -> bytes:
    error = None if code is None else {"code": code, "message": "m"}
    value = {"id": f"batch_req_{number}", "custom_id": text, "response": None, "error": error}
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def run(output: Path, header: Any = HEADER, text: str = "old", **options: Any) -> Path:
    """A run of nine lines, the third of which fails."""
    with Journal(output, header, **options) as journal:
        for number in range(1, 10):
            if number not in journal:
                code = "http_400" if number == 3 else None
                journal.start(number)
                journal.write(number, row(number, text, code), code)
        journal.arrange()
        journal.finish()
    return output


def texts(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_bytes().splitlines()]


def files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


# -- the input ---------------------------------------------------------------------------------

WRITTEN = ("out.errors.jsonl", "out.run/journal", "out.run/rows", "out.run/lock", "out.run/draft")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("link", [os.symlink, os.link, None])
@pytest.mark.parametrize("name", WRITTEN)
def test_no_file_of_a_run_is_its_input(
    name: str, link: Callable[[Path, Path], None] | None, overwrite: bool, tmp_path: Path
) -> None:
    source, written = tmp_path / "in.jsonl", tmp_path / name
    source.write_bytes(MINE)
    written.parent.mkdir(exist_ok=True)
    if link is None:
        source = source.rename(written)
    else:
        link(source, written)
    before = files(tmp_path)
    with pytest.raises(InvalidOutput, match=r"the input .* itself|is in the way"):
        Journal(tmp_path / "out.jsonl", HEADER, overwrite=overwrite, inputs=[source])
    assert files(tmp_path) == before


def test_the_error_says_what_and_why(tmp_path: Path) -> None:
    source = tmp_path / "fix.errors.jsonl"
    source.write_bytes(MINE)
    with pytest.raises(InvalidOutput) as caught:
        Journal(tmp_path / "fix.jsonl", HEADER, inputs=[source])
    assert str(caught.value) == (
        f"{source}, which belongs to the output {tmp_path / 'fix.jsonl'}, is the input {source} "
        "itself, which would be lost. Fix: give another file with -o"
    )


# -- strangers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("content", [MINE, row(1, "x"), b"\0" * 600, b"no line break"])
@pytest.mark.parametrize("name", ["out.jsonl", "out.errors.jsonl", "out.run/rows", "out.run/lock"])
def test_what_no_run_has_left_stays(
    name: str, content: bytes, overwrite: bool, tmp_path: Path
) -> None:
    stranger = tmp_path / name
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_bytes(content)
    with pytest.raises(InvalidOutput, match=r"Fix: move it away"):
        Journal(tmp_path / "out.jsonl", HEADER, overwrite=overwrite)
    assert stranger.read_bytes() == content
    # The advice: moved away, it is in nobody's way.
    shutil.rmtree(stranger.parent) if stranger.parent != tmp_path else stranger.unlink()
    run(tmp_path / "out.jsonl", overwrite=overwrite)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("name", ["out.jsonl", "out.errors.jsonl"])
def test_a_file_that_took_the_place_of_a_runs_own_stays(
    name: str, ordered: bool, tmp_path: Path
) -> None:
    output = run(tmp_path / "out.jsonl", ordered=ordered)
    other = run(tmp_path / "other.jsonl", OTHER)
    place = tmp_path / name
    for content in (MINE, other.read_bytes(), b"mine, and no line break"):
        place.write_bytes(content)
        with pytest.raises(InvalidOutput):
            Journal(output, OTHER, ordered=ordered, overwrite=True)
        with pytest.raises(InvalidOutput):
            Journal(output, HEADER, ordered=ordered)
        assert place.read_bytes() == content


def test_failed_rows_that_somebody_corrects_stay(tmp_path: Path) -> None:
    output = run(tmp_path / "out.jsonl")
    errors = errors_file(output)
    errors.write_bytes(errors.read_bytes().replace(b"old", b"new"))
    kept = errors.read_bytes()
    with pytest.raises(InvalidOutput, match=r"out.errors.jsonl is in the way: the file of the"):
        Journal(output, HEADER, retry_failed=True)
    assert errors.read_bytes() == kept


def test_two_outputs_do_not_share_a_journal(tmp_path: Path) -> None:
    run(tmp_path / "a.jsonl")
    before = files(tmp_path)
    for name, header in (("a", HEADER), ("a", OTHER), ("a.run/x.jsonl", OTHER)):
        with pytest.raises(InvalidOutput, match=r"belongs to the run of|keeps its journal"):
            Journal(tmp_path / name, header, overwrite=True)
    assert files(tmp_path) == before


def test_an_output_is_not_anothers_failed_rows(tmp_path: Path) -> None:
    base, errors = tmp_path / "a.jsonl", tmp_path / "a.errors.jsonl"
    with Journal(base, HEADER) as journal:
        journal.write(1, row(1, "old"), None)
    with pytest.raises(InvalidOutput, match="is where the failed rows of the run to"):
        Journal(errors, OTHER)
    shutil.rmtree(run_folder(base))
    base.unlink()
    run(errors, OTHER)
    kept = errors.read_bytes()
    with pytest.raises(InvalidOutput, match="is the output of another run"):
        Journal(base, HEADER)
    assert errors.read_bytes() == kept


def test_a_link_to_the_output_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").touch()
    output = tmp_path / "out.jsonl"
    output.symlink_to("real.jsonl")
    run(output)
    run(output, retry_failed=True)
    assert output.is_symlink()
    assert len(texts(tmp_path / "real.jsonl")) == 9


# -- merge and report --------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    header = {**HEADER, "lines": 9}
    return [run(tmp_path / f"s{n}.jsonl", {**header, "shard": [n, 2]}) for n in range(2)]


@pytest.mark.parametrize(
    "target", ["s1.jsonl", "s1.errors.jsonl", "s1.run/journal", "s1.run/new", "s1", "mine", "run"]
)
def test_a_merge_replaces_nothing_but_a_merge(
    target: str, shards: list[Path], tmp_path: Path
) -> None:
    run(tmp_path / "run")
    (tmp_path / "mine").write_bytes(MINE)
    before = files(tmp_path)
    with pytest.raises(InvalidOutput):
        merge(shards, tmp_path / target, overwrite=True)
    assert files(tmp_path) == before


def test_a_merges_failed_rows_replace_nothing(shards: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "all.jsonl"
    errors_file(target).write_bytes(MINE)
    with pytest.raises(InvalidOutput, match=r"all.errors.jsonl is in the way"):
        merge(shards, target, overwrite=True)
    assert errors_file(target).read_bytes() == MINE
    errors_file(target).unlink()
    for _ in range(2):
        assert merge(shards, target, overwrite=True).failed == 2
        assert len(texts(errors_file(target))) == 2


def test_a_report_replaces_nothing_but_a_report(tmp_path: Path) -> None:
    output = run(tmp_path / "out.jsonl")
    page = tmp_path / "report.html"
    for _ in range(2):
        write_report(output, page, redact=False)
    for content in (b"<!doctype html>\n<p>mine", MINE):
        page.write_bytes(content)
        with pytest.raises(InvalidOutput, match="is no report, so it is not replaced"):
            write_report(output, page, redact=False)
        assert page.read_bytes() == content


# -- kills -------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("whole", [True, False])
def test_a_kill_between_any_two_steps_mixes_nothing(
    ordered: bool, whole: bool, tmp_path: Path
) -> None:
    """A run of another input that replaces one that is done, or was itself killed."""
    stride = depth(4, 1)  # every fourth step, and other ones in each of the four cases
    step, killed, outcomes = -(2 * ordered + whole) % stride, True, set[str]()
    while killed:
        step += stride
        folder = tmp_path / str(step)
        folder.mkdir()
        output = folder / "out.jsonl"
        old: dict[str, Any] = {"ordered": ordered}
        if whole:
            run(output, HEADER, **old)
        else:
            with Journal(output, HEADER, **old) as journal:
                for number in range(1, 8):
                    journal.write(number, row(number, "old"), None)
        new: dict[str, Any] = {"ordered": not ordered, "overwrite": True}
        killed = killed_after(step, lambda o=output, n=new: run(o, OTHER, "new", **n))  # type: ignore[misc]
        try:
            with Journal(output, HEADER, **old) as journal:
                outcomes.add("old")
                assert len(list(journal.done)) + len(journal.failed) == (9 if whole else 7)
            run(output, HEADER, **old)
            assert set(texts(output)) == {"old"}
        except InvalidOutput:
            with pytest.raises(InvalidOutput, match="the input has changed since it was begun"):
                Journal(output, HEADER, **old)
            outcomes.add("new")
            run(output, OTHER, "new", ordered=not ordered)
            assert set(texts(output)) == {"new"}
        assert len(texts(output)) == 9
        assert not (run_folder(output) / "before").exists()
    assert outcomes == {"old", "new"}
    assert step > 20


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("options", [{}, {"retry_failed": True}, {"ordered": True}])
def test_a_kill_between_any_two_steps_is_resumed(options: Any, tmp_path: Path) -> None:
    stride = depth(3, 1)  # every third step, and other ones in each of the three cases
    ordered = options.get("ordered", False)
    step, killed = -(2 * ordered + len(options)) % stride, True
    while killed:
        step += stride
        output = tmp_path / f"{step}.jsonl"
        with Journal(output, HEADER, ordered=ordered) as journal:
            for number in (1, 3, 4):
                code = "http_400" if number == 3 else None
                journal.write(number, row(number, "old", code), code)
        killed = killed_after(step, lambda o=output: run(o, **options))  # type: ignore[misc]
        run(output, **options)
        assert len(texts(output)) == 9
        assert set(texts(output)) == {"old"}
    assert step > 10
