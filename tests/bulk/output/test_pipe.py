"""Rows to a device: nothing is kept, and with `ordered` they come in the order of the input."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headway.bulk.output.pipe import Pipe

ROWS = [
    (3, b"three\n", None),
    (1, b"one\n", "http_400"),
    (20, b"twenty\n", None),
    (2, b"two\n", "http_400"),
]


def write_all(pipe: Pipe) -> None:
    for number, row, code in ROWS:
        assert number not in pipe
        pipe.start(number)
        pipe.write(number, row, code)
        assert number not in pipe  # what is not kept cannot be resumed


def test_rows_go_out_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "device"
    with Pipe(path) as pipe:
        write_all(pipe)
        assert path.read_bytes() == b"three\none\ntwenty\ntwo\n"
        pipe.arrange()
        pipe.sync()
    assert path.read_bytes() == b"three\none\ntwenty\ntwo\n"
    assert list(pipe.done) == [3, 20]
    assert pipe.failed == {"http_400": 2}
    assert pipe.ambiguous.count == 0


def test_ordered_rows_wait_for_the_end(tmp_path: Path) -> None:
    path = tmp_path / "device"
    with Pipe(path, ordered=True) as pipe:
        write_all(pipe)
        assert path.read_bytes() == b""
        assert (pipe.done.count, pipe.failed.total()) == (2, 2)
        pipe.arrange()
    assert path.read_bytes() == b"one\ntwo\nthree\ntwenty\n"


@pytest.mark.parametrize("ordered", [False, True])
def test_a_descriptor_of_somebody_elses_stays_open(ordered: bool, tmp_path: Path) -> None:
    read, write = os.pipe()
    try:
        with Pipe(Path("-"), write, ordered=ordered) as pipe:
            pipe.write(1, b"row\n", None)
            pipe.arrange()
        os.write(write, b"after\n")
        assert os.read(read, 100) == b"row\nafter\n"
    finally:
        os.close(read)
        os.close(write)
