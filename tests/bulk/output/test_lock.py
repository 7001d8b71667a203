"""One process at an output, and what a file system without locks is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from headway.bulk.output import lock
from headway.bulk.output.lock import acquire
from headway.bulk.output.paths import InvalidOutput


def test_the_second_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    path, output = tmp_path / "lock", tmp_path / "out.jsonl"
    first = acquire(path, output)
    with pytest.raises(InvalidOutput) as caught:
        acquire(path, output)
    said = str(caught.value)
    assert said.startswith(f"another process is at work on {output}.")
    assert "give another file with -o" in said
    first.release()
    acquire(path, output).release()


def test_two_outputs_have_two_locks(tmp_path: Path) -> None:
    first = acquire(tmp_path / "a", tmp_path / "a.jsonl")
    second = acquire(tmp_path / "b", tmp_path / "b.jsonl")
    assert first.is_locked
    assert second.is_locked
    first.release()
    second.release()


def fail_with(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.FileLock, "acquire", broken)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(number, monkeypatch)
    folder = tmp_path / "out.run"
    with pytest.raises(InvalidOutput, match="Its file system keeps no locks") as caught:
        acquire(folder / "lock", tmp_path / "out.jsonl")
    said = str(caught.value)
    assert said.startswith(f"cannot lock {tmp_path / 'out.jsonl'}: {os.strerror(number)}.")
    assert said.endswith("move the results and out.run there first")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_another_fault_stays_what_it_is(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(number, monkeypatch)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        acquire(tmp_path / "lock", tmp_path / "out.jsonl")
    assert caught.value.errno == number
    assert not isinstance(caught.value, InvalidOutput)
