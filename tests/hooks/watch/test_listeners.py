"""Only this user can connect, by either kind, and what others left is in nobody's way."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from headway.hooks.watch import listeners
from headway.hooks.watch.folders import open_folder
from headway.hooks.watch.listeners import (
    LoopbackListener,
    UnixListener,
    connect,
    listen,
    peer,
    pid_of,
)

KINDS = [UnixListener, LoopbackListener]


@pytest.fixture(autouse=True)
def made(folder: Path) -> None:
    open_folder(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_one_user_alone_may_open_it(kind: type[UnixListener], folder: Path) -> None:
    listener = kind(folder)
    assert stat.S_IMODE(listener.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    connection, proof = connect(listener.path, 1.0)
    accepted, _ = listener.listening.accept()
    assert listener.admits(accepted, proof)
    connection.close()
    accepted.close()
    listener.close()
    assert [*folder.iterdir()] == []


def test_who_has_not_read_the_token_is_not_admitted(folder: Path) -> None:
    listener = LoopbackListener(folder)
    for request in ({}, {"token": ""}, {"token": "x" * 32}, {"token": None}, {"token": "\ud800"}):
        assert not listener.admits(listener.listening, request)
    listener.close()


def test_another_user_is_not_admitted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = UnixListener(folder)
    one, other = socket.socketpair(socket.AF_UNIX)
    assert peer(one) in (None, os.geteuid())
    monkeypatch.setattr(listeners, "peer", lambda connection: os.geteuid() + 1)
    assert not listener.admits(one, {})
    monkeypatch.setattr(listeners, "peer", lambda connection: None)  # a system that does not say
    assert listener.admits(one, {})
    for each in (one, other):
        each.close()
    listener.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_may_listen_twice(kind: type[UnixListener], folder: Path) -> None:
    first, second = kind(folder), kind(folder)
    assert [one.path.stem for one in (first, second)] == [f"{os.getpid()}-1", f"{os.getpid()}-2"]
    first.close()
    second.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_dead_process_of_this_number_left_is_replaced(
    kind: type[UnixListener], folder: Path
) -> None:
    dead = kind(folder)
    dead.forget()  # the file stays
    assert dead.path.exists()
    alive = kind(folder)
    assert alive.path == dead.path
    alive.close()


def test_a_file_with_no_port_is_nobodys(folder: Path) -> None:
    path = folder / "7-1.json"
    for said in ("", "[]", "{}", json.dumps({"port": "x", "token": "y"})):
        path.write_text(said)
        with pytest.raises(ConnectionRefusedError):
            connect(path, 1.0)


def test_a_path_that_is_too_long_gives_way_to_the_next_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / ("long" * 30)))
    listener = listen()
    assert listener.path.parent == folder.parent / "state" / "headway" / "watch"
    listener.close()


def test_a_folder_of_somebody_elses_gives_way_to_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.rmdir()
    folder.symlink_to("/")
    listener = listen()
    assert listener.path.parent == folder.parent / "state" / "headway" / "watch"
    listener.close()
    for name in ("state", "tmp"):
        monkeypatch.setenv({"state": "XDG_STATE_HOME", "tmp": "TMPDIR"}[name], "/proc/nothing")
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/proc/nothing")
    with pytest.raises(OSError, match="belongs to somebody else"):
        listen()


@pytest.mark.parametrize(
    ("name", "pid"),
    [
        ("12-1.sock", 12),
        ("12-2.json", 12),
        ("12-1.new", None),
        ("x-1.sock", None),
        ("1.json", None),
    ],
)
def test_whose_a_file_is(name: str, pid: int | None) -> None:
    assert pid_of(Path(name)) == pid
