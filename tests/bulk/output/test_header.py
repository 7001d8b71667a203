"""The first line of a journal: what is written is read, and damage is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.bulk.output.header import read_header, write_header

HEADER = {"input": "f00d", "provider": ["p", "u"], "shape": {"model": "é"}, "shard": None}


def written(path: Path) -> bytes:
    with path.open("wb") as file:
        write_header(file, HEADER)
        file.write(b"\x01\x00\x00\x00 marks")
    return path.read_bytes()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    data = written(tmp_path / "journal")
    found = read_header(tmp_path / "journal")
    assert found is not None
    assert {name: found[name] for name in HEADER} == HEADER
    assert found["version"] == 1
    assert data.startswith(b'{"check":"')


def test_no_journal_is_none(tmp_path: Path) -> None:
    assert read_header(tmp_path / "journal") is None


def test_a_changed_byte_of_it_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    data = written(path)
    for place in range(data.index(b"\n")):
        damaged = bytearray(data)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        found = read_header(path)
        assert not found or found.get("version") != 1, place


@pytest.mark.parametrize("text", [b"", b"[]\n", b"{\n", b"\xff\n", b"[" * 100_000 + b"\n"])
def test_what_is_no_header_is_an_empty_one(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(text)
    assert read_header(tmp_path / "journal") == {}


def test_another_version_is_told_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b'{"version": 9, "input": "x"}\n')
    assert read_header(tmp_path / "journal") == {"version": 9, "input": "x"}
    (tmp_path / "journal").write_bytes(b'{"version": 1, "input": "x"}\n')
    assert read_header(tmp_path / "journal") == {"version": None}  # before there were checks
