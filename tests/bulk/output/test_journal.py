"""The memory of a run: what a crash leaves, what a resumption finds, and what is refused."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journaled import CHECKS, HEADER, numbers, row, write

from headway.bulk.output.bitmap import Bitmap
from headway.bulk.output.journal import Journal, run_folder
from headway.bulk.output.paths import AppendFile, InvalidOutput, default_output, errors_file

# -- the bitmap --------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20_000))))
def test_a_bitmap_is_a_set(changes: list[tuple[bool, int]]) -> None:
    bitmap, model = Bitmap(), set[int]()
    for add, number in changes:
        if add:
            assert bitmap.add(number) is (number not in model)
            model.add(number)
        else:
            bitmap.discard(number)
            model.discard(number)
        assert bitmap.count == len(model)
    assert list(bitmap) == sorted(model)
    assert all((number in bitmap) is (number in model) for _, number in changes)


@given(*[st.lists(st.integers(0, 20_000))] * 3)
def test_bitmaps_are_filled_and_subtracted_as_sets_are(
    first: list[int], more: list[int], other: list[int]
) -> None:
    bitmap, without = Bitmap(), Bitmap()
    bitmap.update(first)
    bitmap.update(more)
    without.update(other)
    left = bitmap - without
    for found, model in ((bitmap, {*first, *more}), (left, {*first, *more} - {*other})):
        assert list(found) == sorted(model)
        assert found.count == len(model)
    assert left.add(20_001)
    assert 20_001 not in bitmap


# -- crashes -----------------------------------------------------------------------------------

RUN = st.lists(
    st.tuples(st.integers(1, 60), st.sampled_from(["start", "done", "failed"])), max_size=80
)


@given(steps=RUN, torn_row=st.integers(0, 400), torn_mark=st.integers(0, 20), ordered=st.booleans())
def test_after_a_crash_everything_written_is_known(
    steps: list[tuple[int, str]], torn_row: int, torn_mark: int, ordered: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    """The files as a kill leaves them: whole writes, and perhaps a part of one more."""
    folder = tmp_path_factory.mktemp("run")
    output = folder / "out.jsonl"
    started, done, failed = set[int](), set[int](), set[int]()
    with Journal(output, HEADER, ordered=ordered) as journal:
        for number, what in steps:
            if number in journal:
                continue
            started.add(number)
            if what == "start":
                journal.start(number)
            else:
                write(journal, number, None if what == "done" else "http_400")
                (done if what == "done" else failed).add(number)
        killed = folder / "killed"
        killed.mkdir()
        shutil.copytree(run_folder(output), run_folder(killed / "out.jsonl"))
        if output.exists():
            shutil.copy(output, killed / "out.jsonl")
    output = killed / "out.jsonl"
    rows = run_folder(output) / "rows" if ordered else output
    with rows.open("ab") as file:
        file.write(row(99)[: min(torn_row, len(row(99)) - 1)])
    with (run_folder(output) / "journal").open("ab") as file:
        file.write((98).to_bytes(8, "little")[: min(torn_mark, 7)])
    with Journal(output, HEADER, ordered=ordered) as journal:
        assert set(journal.done) == done
        assert journal.failed == ({"http_400": len(failed)} if failed else {})
        assert set(journal.ambiguous) == started - done - failed
        assert all(number in journal for number in done | failed)
        assert set(numbers(rows)) == done | failed
        if failed:
            assert set(numbers(errors_file(output))) == failed
        else:
            assert not errors_file(output).exists()
        for number in range(1, 61):
            if number not in journal:
                write(journal, number)
        journal.arrange()
    expected = list(range(1, 61))
    assert (numbers(output) if ordered else sorted(numbers(output))) == expected


def test_a_row_counts_once_its_one_write_returned(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with Journal(output, HEADER) as journal:
        write(journal, 7)
        assert output.read_bytes() == CHECKS.with_check(7, row(7))
        assert (run_folder(output) / "journal").read_bytes().endswith((7).to_bytes(8, "little"))


def test_a_line_is_marked_once_however_often_it_is_sent(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.jsonl", HEADER) as journal:
        path = journal.folder / "journal"
        journal.start(7)
        size = path.stat().st_size
        journal.start(7)
        assert path.stat().st_size == size


def test_a_million_rows_are_taken_up_again(tmp_path: Path) -> None:
    """Not how fast (benchmarks/bulk.py): that all are found, and the bitmap is what grows."""
    output = tmp_path / "out.jsonl"
    with Journal(output, HEADER) as journal:
        journal.start(1)
        journal.write(1, row(1), None)
    with output.open("ab") as file:
        file.writelines(CHECKS.with_check(n, row(n)) for n in range(2, 50_001))
    with Journal(output, HEADER) as journal:
        assert journal.done.count == 50_000
        assert 50_000 in journal
        assert 50_001 not in journal


# -- failed rows, and beginning anew -----------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True])
def test_failed_rows_are_taken_up_again(ordered: bool, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with Journal(output, HEADER, ordered=ordered) as journal:
        for number in range(1, 7):
            write(journal, number, "http_400" if number % 2 else None)
        journal.arrange()
    assert set(numbers(errors_file(output))) == {1, 3, 5}
    with Journal(output, HEADER, ordered=ordered, retry_failed=True) as journal:
        assert (set(journal.done), journal.failed, journal.ambiguous.count) == ({2, 4, 6}, {}, 0)
        assert not errors_file(output).exists()
        for number in (5, 3):
            write(journal, number)
        write(journal, 1, "http_404")
        journal.arrange()
    assert set(numbers(output)) == {1, 2, 3, 4, 5, 6}
    assert len(numbers(output)) == 6
    assert numbers(errors_file(output)) == [1]
    if ordered:
        assert numbers(output) == [1, 2, 3, 4, 5, 6]


def test_a_kill_before_the_failed_are_sent_again_loses_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with Journal(output, HEADER) as journal:
        write(journal, 1, "http_400")
        write(journal, 2)
        journal.start(3)
    for _ in range(2):
        with Journal(output, HEADER, retry_failed=True) as journal:
            assert (set(journal.done), set(journal.ambiguous)) == ({2}, {3})
            assert 1 not in journal


def test_overwriting_begins_anew_once_there_is_a_row(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with Journal(output, HEADER) as journal:
        write(journal, 1, "http_400")
        write(journal, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = {**HEADER, "input": "beef"}
    with Journal(output, other, overwrite=True) as journal:
        assert (journal.done.count, journal.resumed) == (0, False)
    after = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before  # nothing came of it
    with Journal(output, other, overwrite=True) as journal:
        write(journal, 9)
    assert numbers(output) == [9]
    assert not errors_file(output).exists()
    assert not (run_folder(output) / "before").exists()


def test_a_run_of_nothing_leaves_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.jsonl", HEADER):
        pass
    assert list(tmp_path.iterdir()) == []


def test_removing_the_output_begins_anew(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with Journal(output, HEADER) as journal:
        write(journal, 1)
    output.unlink()
    with Journal(output, {**HEADER, "input": "beef"}) as journal:
        assert not journal.resumed


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "called"),
    [
        ({"input": "beef"}, "the input has changed"),
        ({"provider": ["p", "v"]}, "the provider or its address is another"),
        (
            {"shape": {"model": "m"}},
            "the options that make requests (--endpoint, --model, --template, …) are others",
        ),
        ({"shard": [0, 2]}, "the shard is another"),
    ],
)
def test_another_run_is_not_resumed(change: Any, called: str, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with Journal(output, HEADER) as journal:
        write(journal, 1)
    with pytest.raises(InvalidOutput) as caught:
        Journal(output, {**HEADER, **change})
    assert str(caught.value) == (
        f"{output} cannot be resumed: {called} since it was begun. Fix: run it as it was, give "
        f"another "
        "file with -o, or begin anew with --overwrite"
    )
    assert numbers(output) == [1]
    with Journal(output, {**HEADER, "lines": 7}) as journal:  # more or fewer lines of it are
        assert set(journal.done) == {1}


def test_in_order_or_not_is_for_the_whole_run(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.jsonl", HEADER) as journal:
        write(journal, 1)
    with pytest.raises(InvalidOutput, match="--ordered was given to one of them only"):
        Journal(tmp_path / "out.jsonl", HEADER, ordered=True)


@pytest.mark.parametrize("header", [b"\x00\xff\n", b"[]\n"])
def test_a_damaged_journal(header: bytes, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_bytes(row(1))
    run_folder(output).mkdir()
    (run_folder(output) / "journal").write_bytes(header)
    with pytest.raises(InvalidOutput) as caught:
        Journal(output, HEADER)
    assert str(caught.value) == (
        f"the journal of {output}, {run_folder(output) / 'journal'}, is damaged, so that it cannot "
        "be known whether this is the same run. Fix: restore it from a copy, or begin anew with "
        "--overwrite: the rows that are there are whole"
    )


@pytest.mark.parametrize("header", [b'{"version": 2, "input": "f00d"}\n'])
def test_a_journal_of_another_version(header: bytes, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_bytes(row(1))
    run_folder(output).mkdir()
    (run_folder(output) / "journal").write_bytes(header)
    with pytest.raises(InvalidOutput) as caught:
        Journal(output, HEADER)
    assert str(caught.value) == (
        f"{output} was begun by another version of headway, whose journal this one cannot read. "
        "Fix: finish it with that version, or begin anew with --overwrite"
    )


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_no_run_has_left(overwrite: bool, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_bytes(row(1))
    with pytest.raises(InvalidOutput) as caught:
        Journal(output, HEADER, overwrite=overwrite)
    assert str(caught.value) == (
        f"{output} exists already, and no run that could be resumed has left it. "
        "Fix: move it away, or give another file with -o"
    )
    assert output.read_bytes() == row(1)
    assert not run_folder(output).exists()


def test_rows_that_somebody_changed(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with Journal(output, HEADER) as journal:
        write(journal, 1)
    with output.open("ab") as file:
        file.write(b'{"mine": true}\n')
    with pytest.raises(InvalidOutput) as caught:
        Journal(output, HEADER)
    assert str(caught.value) == (
        f"{output} holds a line that no run has written, after {len(row(1)) + 19} bytes. "
        "Fix: take it out of the file, or give another file with -o"
    )


def test_another_process_on_the_same_output(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    program = (
        "import sys\nfrom pathlib import Path\nfrom headway.bulk.output.journal import Journal\n"
        f"with Journal(Path({str(output)!r}), {HEADER!r}):\n"
        "    print('there', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "there\n"
        with pytest.raises(InvalidOutput) as caught:
            Journal(output, HEADER)
        assert str(caught.value) == (
            f"another process is at work on {output}. Fix: wait for its end, or give another "
            f"file with "
            "-o"
        )
        other.kill()  # a kill frees it
    with Journal(output, HEADER):
        pass


def test_a_disk_that_is_full_leaves_whole_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows"
    file = AppendFile(path)
    file.write(b"one\n")
    real, room = os.write, [2]

    def tight(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(fd, data[: room[0]])
        room[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", tight)
        with pytest.raises(OSError, match="No space left") as caught:
            file.write(b"two\n")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"one\n"
    file.write(b"three\n")
    file.sync()
    file.close()
    assert path.read_bytes() == b"one\nthree\n"


@pytest.mark.parametrize(
    ("source", "shard", "name"),
    [
        ("requests.jsonl", None, "requests.results.jsonl"),
        ("a/b.jsonl.gz", None, "a/b.results.jsonl"),
        ("b.csv.zst", None, "b.results.jsonl"),
        ("b.jsonl", (3, 8), "b.results.3-of-8.jsonl"),
    ],
)
def test_the_name_of_the_output(source: str, shard: Any, name: str) -> None:
    assert default_output(Path(source), shard) == Path(name)


def test_what_was_refused_was_not_billed(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with Journal(output, HEADER) as journal:
        write(journal, 1)
        for number in (2, 3, 4):
            journal.start(number)
        journal.refused(2)
        journal.refused(3)
        journal.start(3)  # sent again, and in flight
    with Journal(output, HEADER) as journal:
        assert set(journal.ambiguous) == {3, 4}


def test_a_full_disk_does_not_send_people_to_another_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.jsonl"
    with Journal(output, HEADER) as journal:
        write(journal, 1)

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidOutput) as caught:
        Journal(output, HEADER)
    assert str(caught.value) == (
        "cannot write x: No space left on device. Fix: correct that, and run the same command "
        "again: "
        "another output would send, and bill, everything anew"
    )
