"""Bytes to lines: their numbers and sizes, and what a file may be stored as."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
import zstandard

from headway.bulk.input import lines
from headway.bulk.input.lines import (
    BoundedFile,
    InvalidInput,
    Line,
    check_compression,
    check_head,
    compression_of,
    copied,
    count_lines,
    decompressed,
    open_file,
    read_lines,
    skip_line,
    undecodable,
)


def test_blank_lines_are_counted_and_left_out() -> None:
    data = b"\xef\xbb\xbfone\r\n\n  \t\n\r\ntwo\nthree"
    assert list(read_lines(io.BytesIO(data))) == [
        Line(1, 3, b"one"), Line(5, 3, b"two"), Line(6, 5, b"three")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "count"),
    [(b"", 0), (b"\n", 1), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"a\n\nb\n", 3)],
)
def test_lines_are_counted_whether_the_last_one_ends_or_not(data: bytes, count: int) -> None:
    assert count_lines(io.BytesIO(data)) == count


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_the_longest_line_is_taken_and_a_longer_one_is_measured(
    ending: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 8)
    for size, kept in ((7, True), (8, True), (9, False), (40, False)):
        found = list(read_lines(io.BytesIO(b"x" * size + ending + (ending and b"y"))))
        assert found[0].data == (b"x" * size if kept else b"")
        assert found[0].size - size in ((0,) if kept or ending != b"\r\n" else (0, 1))
        assert [line.data for line in found[1:]] == ([b"y"] if ending else [])


def test_a_skipped_line_is_measured_without_its_break() -> None:
    file = io.BytesIO(b"rest\nnext")
    assert skip_line(file) == 4
    assert skip_line(file) == 4
    assert skip_line(file) == 0


@pytest.mark.parametrize(
    ("data", "position"), [(b"abc", None), ("é".encode(), None), (b"a\xff", 1), (b"ab\xc3", 2)]
)
def test_the_first_byte_that_is_not_utf_8(data: bytes, position: int | None) -> None:
    assert undecodable(data) == position


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        ("{".encode("utf-16"), "is UTF-16, not UTF-8 text"),
        ("{".encode("utf-32"), "is UTF-32, not UTF-8 text"),
        (b"{\x00", "is binary, or UTF-16 without a byte order mark"),
        (b'{"a":"\xe9"}\n', r"is not UTF-8 text \(line 1, byte 7\)"),
        (b'[{"a": 1}]', "a JSON array, not JSONL"),
    ],
)
def test_a_head_that_is_no_jsonl(head: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        check_head(head, "f.jsonl")


def test_a_table_may_begin_with_a_bracket() -> None:
    check_head(b"[text]\nhello\n", "f.csv", table=True)


# -- what a file is stored as ------------------------------------------------------------------

STORED = {"gzip": gzip.compress(b"one\ntwo\n"), "zstd": zstandard.compress(b"one\ntwo\n")}


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_what_is_compressed_is_read_as_it_was_and_its_end_is_missed(kind: str) -> None:
    data = STORED[kind]
    found = compression_of(data[:4])
    assert found == kind
    assert decompressed(io.BytesIO(data), found, "f").read() == b"one\ntwo\n"
    assert decompressed(io.BytesIO(data + data), found, "f").read() == b"one\ntwo\n" * 2
    with pytest.raises(InvalidInput, match=f"f ends in the middle of its {kind} data"):
        decompressed(io.BytesIO(data[:-3]), found, "f").read()
    with pytest.raises(InvalidInput, match=f"f holds something that is not {kind} data"):
        decompressed(io.BytesIO(data + b"more than that"), found, "f").read()


@pytest.mark.parametrize(
    ("name", "stored", "to"),
    [("a.jsonl", "gzip", "a.jsonl.gz"), ("a.jsonl.gz", "zstd", "a.jsonl.zst"), ("a.GZ", "", "a")],
)
def test_a_name_that_says_something_else_is_refused(name: str, stored: str, to: str) -> None:
    head = STORED[stored][:4] if stored else b"{}"
    with pytest.raises(InvalidInput, match=f"mv {name} {to}$"):
        check_compression(head, name)


def test_a_bounded_file_ends_where_it_is_told_and_must_not_shrink() -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(2)
    assert BoundedFile(file, 5, "f").read() == b"234"
    file.seek(8)
    with pytest.raises(InvalidInput, match="f became shorter while it was read"):
        BoundedFile(file, 12, "f").read()


def test_only_a_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    with open_file(tmp_path / "f") as file:
        assert file.read() == b"x"
    for path, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "none", "does not exist"),
        (Path("/dev/null"), "is a device, not a file"),
        (tmp_path / "a\0b", "cannot read"),
    ):
        with pytest.raises(InvalidInput, match=says):
            open_file(path)


def test_a_copy_begins_where_the_file_stood_and_has_no_name(tmp_path: Path) -> None:
    file = io.BytesIO(b"12345")
    file.seek(2)
    with copied(file, tmp_path) as copy:
        assert copy.read() == b"345"
    assert not list(tmp_path.iterdir())
