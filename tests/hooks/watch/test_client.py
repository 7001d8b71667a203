"""Who is found, what dead processes and others left, and what a wrong reply is called."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import headway
from headway import Scheduler
from headway.errors import HeadwayError
from headway.hooks.watch import client
from headway.hooks.watch.client import ask, choose, look
from headway.hooks.watch.listeners import UnixListener
from headway.hooks.watch.protocol import line

# What the statistics of a version could be that knew nothing of sharing.
COUNTED = {**Scheduler().statistics().as_dict()}
del COUNTED["shared"]


@pytest.fixture(autouse=True)
def made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


@contextmanager
def replying(path: Path, reply: bytes | None) -> Iterator[None]:
    """Somebody who gives that `reply` to all, None for none at all."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        held = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                held.append(connection)
                connection.recv(65536)
                if reply is not None:
                    connection.sendall(reply)
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in held:
                connection.close()


def test_all_are_found_by_name() -> None:
    with headway.watch(Scheduler(), "b"), headway.watch(Scheduler(), "a"):
        found, told = look(since={})
        assert [each.name for each in found] == ["a", "b"]
        assert [each.pid for each in found] == [f"{os.getpid()}-2", f"{os.getpid()}"]
        assert all(each.status["history"] for each in found)
        assert told == []
        assert choose("a").name == "a"
        assert choose(f"{os.getpid()}-2").name == "a"
        assert choose(f"{os.getpid()}").name == "b"
        with pytest.raises(HeadwayError, match=rf"2 could be meant: a \({os.getpid()}-2\), b \("):
            choose(None)
        with pytest.raises(HeadwayError, match=r"nothing that is watched is called c\. Fix"):
            choose("c")
    with pytest.raises(HeadwayError, match=r"nothing is watched here\. Fix: headway\.watch\(sched"):
        choose(None)


def test_what_a_dead_process_left_is_removed(made: Path) -> None:
    dead = UnixListener(made)
    dead.forget()
    (made / "7-1.json").write_text("{}")
    (made / "notes.txt").write_text("nobody's business")
    assert look() == ([], [])
    assert [path.name for path in made.iterdir()] == ["notes.txt"]


def test_what_is_somebody_elses_is_left_alone_and_told(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = UnixListener(made)
    dead.forget()
    theirs = dead.path.rename(made / "7-1.sock")
    monkeypatch.setattr(client, "is_ours", lambda found: not stat.S_ISSOCK(found.st_mode))
    assert look() == ([], [f"{theirs} is somebody else's, and was left alone"])
    assert theirs.exists()
    with pytest.raises(HeadwayError, match=r"7-1\.sock is somebody else's, and was left alone$"):
        choose(None)


def test_a_folder_of_somebody_elses_is_not_looked_into(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made / "7-1.json").write_text("{}")
    monkeypatch.setattr(client, "is_ours", lambda found: False)
    assert look() == ([], [f"{made} is somebody else's, and was left alone"])
    assert (made / "7-1.json").exists()


VERSIONS: list[tuple[object, str, str]] = [
    (0, "0.0.9", "an older headway, 0.0.9, which speaks version 0 of what top and ctl ask; this "
     "one, 0.1.0, speaks 1. Fix: restart that program with headway 0.1.0, or ask it with headway "
     "0.0.9."),
    (2, "3.0", "a newer headway, 3.0, which speaks version 2 of what top and ctl ask; this one, "
     "0.1.0, speaks 1. Fix: install headway 3.0 here too."),
    (None, "\x1b[2J", r"an older headway, \x1b[2J, which speaks version None"),
]  # fmt: skip


@pytest.mark.parametrize(("version", "program", "said"), VERSIONS)
def test_another_version_says_which_is_older(
    version: object, program: str, said: str, made: Path
) -> None:
    reply: dict[str, Any] = {"version": version, "headway": program, "statistics": {}}
    with replying(made / "7-1.sock", line(reply)):
        found, (told,) = look()
        assert found == []
        assert told.startswith(f"process 7 runs {said}")
        with pytest.raises(HeadwayError) as caught:
            ask(made / "7-1.sock", "pause")
        assert str(caught.value) == told


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"garbage\n", "gave a reply that is none of headway's"),
        (b"[1]\n", "gave a reply that is none of headway's"),
        (b"[" * 50_000 + b"\n", "gave a reply that is none of headway's"),
        (b"", "was asked too much at once, or is about to end"),
        (line({"version": 1}), "gave a reply without statistics"),
        (line({"version": 1, "statistics": 3}), "gave a reply without statistics"),
        (line({"version": 1, "statistics": {}}), "gave a reply without limits. Fix: restart that"),
        (
            line({"version": 1, "limits": {}, "statistics": COUNTED}),
            "gave a reply without shared, requests, tokens, input_tokens, output_tokens, concurr",
        ),
        (line({"version": 1, "error": {"what": "no", "fix": "yes"}}), "no. Fix: yes"),
    ],
)
def test_a_reply_that_cannot_be_used(reply: bytes, said: str, made: Path) -> None:
    with replying(made / "7-1.sock", reply):
        found, (told,) = look()
    assert found == []
    assert said in told


def test_a_reply_without_end_is_not_kept(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_REPLY", 100_000)
    with replying(made / "7-1.sock", b"x" * 150_000):
        _, (told,) = look()
    assert "gave a reply that is none of headway's" in told


def test_one_that_is_stopped_is_told(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_GLANCE", 0.05)
    with replying(made / "7-1.sock", None):
        _, (told,) = look()
    assert told.startswith("process 7 gave no reply within 0.05 s: it is stopped, or its interp")
