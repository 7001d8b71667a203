"""Names of what a run writes, and a file that is only appended to."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from headway.bulk.output.paths import (
    AppendFile,
    InvalidOutput,
    cannot_write,
    check_output,
    default_output,
    errors_file,
    fresh,
    is_device,
    run_folder,
)


@pytest.mark.parametrize(
    ("source", "shard", "output"),
    [
        ("requests.jsonl", None, "requests.results.jsonl"),
        ("requests.jsonl.gz", None, "requests.results.jsonl"),
        ("requests.csv.zst", None, "requests.results.jsonl"),
        ("a.b.jsonl", None, "a.b.results.jsonl"),
        ("requests", None, "requests.results.jsonl"),
        ("requests.jsonl", (3, 8), "requests.results.3-of-8.jsonl"),
    ],
)
def test_the_output_is_named_after_the_input(
    source: str, shard: tuple[int, int] | None, output: str
) -> None:
    assert default_output(Path("folder") / source, shard) == Path("folder") / output


@pytest.mark.parametrize(
    ("output", "errors", "folder"),
    [
        ("d/out.jsonl", "d/out.errors.jsonl", "d/out.run"),
        ("out", "out.errors.jsonl", "out.run"),
        ("out.json", "out.json.errors.jsonl", "out.json.run"),
    ],
)
def test_what_stands_beside_an_output(output: str, errors: str, folder: str) -> None:
    assert errors_file(Path(output)) == Path(errors)
    assert run_folder(Path(output)) == Path(folder)


def test_a_fresh_file_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    with fresh(tmp_path / "link") as file:
        file.write(b"mine")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert (tmp_path / "link").read_bytes() == b"mine"
    assert not (tmp_path / "link").is_symlink()


# -- appending ---------------------------------------------------------------------------------


def test_what_is_appended_follows_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old\n")
    file = AppendFile(path)
    assert (file.size, file.dirty) == (4, False)
    file.write(b"new\n")
    assert (file.size, file.dirty) == (8, True)
    file.sync()
    assert not file.dirty
    file.close()
    assert path.read_bytes() == b"old\nnew\n"


def test_a_short_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, write = AppendFile(tmp_path / "f"), os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    file.write(b"0123456789")
    monkeypatch.undo()
    file.close()
    assert (tmp_path / "f").read_bytes() == b"0123456789"


def test_a_full_disk_leaves_no_half_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    file, write = AppendFile(path), os.write
    file.write(b"whole\n")
    room = 4

    def full(fd: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken, room = write(fd, data[:room]), 0
        return taken

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        file.write(b"a longer row\n")
    monkeypatch.undo()
    assert caught.value.filename == str(path)
    assert (path.read_bytes(), file.size) == (b"whole\n", 6)
    file.write(b"next\n")
    file.close()
    assert path.read_bytes() == b"whole\nnext\n"


# -- where it may be ---------------------------------------------------------------------------


def test_a_path_that_can_be_no_output_is_told_why(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"{}")
    (tmp_path / "same").symlink_to(source)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path, says in (
        (tmp_path / "out.jsonl.gz", "would not be compressed"),
        (tmp_path / "out.csv.XZ", "would not be compressed"),
        (
            tmp_path / "my out.xlsx",
            f"no .xlsx: rows are JSONL, and a table is CSV or Parquet. Fix: -o "
            f"'{tmp_path}/my out.csv', which spreadsheets and databases read",
        ),
        (tmp_path / "out.sqlite", "would be no .sqlite"),
        (tmp_path / "none" / "out.jsonl", f"mkdir -p {tmp_path / 'none'}$"),
        (tmp_path / "a b" / "out.jsonl", "mkdir -p '.*/a b'$"),
        (tmp_path / "dangling", "is a link to .*nowhere, which does not exist"),
        (tmp_path / "same", "is the input itself, which would be lost"),
        (tmp_path, "is a folder"),
        (source / "below", "cannot write .*below: Not a directory"),
    ):
        with pytest.raises(InvalidOutput, match=says):
            check_output(path, source)
    check_output(tmp_path / "out.jsonl", source)
    check_output(source, None)


def test_a_device_keeps_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    names = {"pipe": True, "file": False, "none": False, ".": False}
    assert {name: is_device(tmp_path / name) for name in names} == names
    assert is_device(Path("/dev/null"))


def test_the_error_of_a_path_says_why_and_the_fix() -> None:
    error = cannot_write(Path("out.jsonl"), PermissionError(errno.EACCES, "Permission denied"))
    assert str(error) == (
        "cannot write out.jsonl: Permission denied. Fix: give another file with -o"
    )
