"""A bulk run is watched by itself, and drained from outside as SIGTERM would."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Gated, headway, ids_of, rows_of, write_requests
from watched import sockets

from headway.cli import run
from headway.hooks.watch.client import Target, ask, look


@pytest.fixture
def gated() -> Iterator[Gated]:
    server = Gated()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    write_requests(tmp_path / "requests.jsonl", 6)
    with sockets(monkeypatch):
        yield tmp_path


def meanwhile(gated: Gated, do: Callable[[list[Target]], Any]) -> list[Any]:
    """Have another thread `do` something with what is watched, once two requests are held; what
    that returned.
    """
    returned: list[Any] = []

    def work() -> None:
        try:
            gated.wait_for(2)
            returned.append(do(look()[0]))
        finally:
            gated.gate.set()

    threading.Thread(target=work, daemon=True).start()
    return returned


RUN = ("run", "requests.jsonl", "--rate", "6000/min", "--concurrency", "2", "--base-url")


def test_it_drains_and_goes_on_later(
    gated: Gated, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = threading.Event()
    say = run._draining
    monkeypatch.setattr(run, "_draining", lambda *said: [noted.set(), say(*said)][1])

    def drain(found: list[Target]) -> str:
        (one,) = found
        ask(one.path, "drain")
        assert noted.wait(10)  # else all might be done before the run looks
        return one.name

    returned = meanwhile(gated, drain)
    result = headway(*RUN, gated.url)
    assert returned == ["requests.jsonl"]
    assert result.exit_code == 143
    assert "headway ctl drain: waiting for 2 in flight, and sending nothing more" in result.stderr
    assert "stopped by headway ctl drain. Run the same command again to go on" in result.stderr
    done = ids_of(folder / "requests.results.jsonl")
    assert 2 <= len(done) < 6  # what was in flight has its row
    assert headway(*RUN, gated.url).exit_code == 0
    assert len(rows_of(folder / "requests.results.jsonl")) == 6
    assert look() == ([], [])


def test_what_it_shows_is_how_far_it_is(gated: Gated) -> None:
    returned = meanwhile(gated, lambda found: found[0].status)
    assert headway(*RUN, gated.url).exit_code == 0
    (status,) = returned
    assert status["limits"]["requests"] == ["6000/min"]
    assert status["figures"]["total"] == 6
    assert "a-key" not in str(status)


def test_no_watch_leaves_it_out(gated: Gated) -> None:
    returned = meanwhile(gated, len)
    assert headway(*RUN, gated.url, "--no-watch").exit_code == 0
    assert returned == [0]
