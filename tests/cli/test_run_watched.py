"""A bulk run is watched by itself, and drained from outside as SIGTERM would."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Gated, headway, ids_of, rows_of, write_requests
from watched import sockets

from headway import HeadwayError, Kind, Limits
from headway.bulk import Progress
from headway.cli import run
from headway.cli.cluster import dask
from headway.cli.command.signals import STOPS
from headway.hooks.watch.client import Target, ask, look


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A run that was asked for its end leaves them ignored, for its process is about to end."""
    before = {number: signal.getsignal(number) for number in STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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


def on_a_cluster(do: Callable[[list[Target]], Any]) -> Callable[..., Progress]:
    """In place of what runs shards: it is as far as two shards may be, and has somebody `do`
    something with what is watched, until it is asked for its end.
    """

    def run_shards(*_: Any, limits: Limits, watch: Any, asked: Any, **__: Any) -> Progress:
        def progress(in_flight: int, done: int) -> Progress:
            return Progress(
                input="requests.jsonl", output=None, total=6, done=done, failed={"http_400": 1},
                before=1, ambiguous=0, in_flight=in_flight, sent=9, refused={Kind.RATE: 3},
                tokens=50, input_tokens=30, output_tokens=20, cost=1.5, unpriced=0, limit=100.0,
                pace=90.0, concurrency=2.0, binds="concurrency", seconds=7.0, eta=3.0, stopped=None,
            )  # fmt: skip

        do(look()[0])  # before anything is known
        watch(progress(2, 2))
        do(look()[0])
        while not asked():
            watch(progress(0, 2))
        return progress(0, 2)

    return run_shards


def test_a_run_on_a_cluster_is_watched_and_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def do(found: list[Target]) -> None:
        (one,) = found
        seen.append(one)
        if len(seen) == 1:
            return
        for what in ("pause", "resume", "clear"):
            with pytest.raises(HeadwayError, match=r"can only be drained together\. Fix: headway"):
                ask(one.path, what)
        with pytest.raises(HeadwayError, match="can only be drained together"):
            ask(one.path, "set", requests="1/s")
        with pytest.raises(HeadwayError, match="no job had the key 'a'"):
            ask(one.path, "clear", key="a")
        shown.append(headway("top").stdout)
        ask(one.path, "drain")

    shown: list[str] = []
    monkeypatch.setattr(dask, "run", on_a_cluster(do))
    result = headway(*RUN, "http://nobody", "--dask", "local:2")
    assert result.exit_code == 143
    assert "headway ctl drain: waiting for" in result.stderr
    first, then = (one.status["statistics"] for one in seen)
    assert (first["queued"], first["in_flight"], first["sent"]) == (0, 0, 0)
    assert seen[0].name == "requests.jsonl"
    counts = ("queued", "in_flight", "sent", "succeeded", "failed")
    assert [then[name] for name in counts] == [1, 2, 9, 1, 1]
    assert then["refused"] == {"rate": 3}
    assert (then["binds"], then["capacity"], then["pace"]) == ("concurrency", 2, 90)
    assert (then["tokens"], then["input_tokens"], then["output_tokens"]) == (50, 30, 20)
    assert [limit["limit"] for limit in then["limits"]] == [6000]
    assert seen[1].status["figures"] == {"cost": 1.5, "done": 3, "total": 6, "eta": 3.0}
    assert "2 of 2" in shown[0]  # in flight
    assert "1 queued, 2 in flight" in shown[0]


def test_a_run_on_a_cluster_that_is_not_to_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[list[Target]] = []
    monkeypatch.setattr(dask, "run", lambda *_, **__: [found.append(look()[0]), finished()][1])
    assert headway(*RUN, "http://nobody", "--dask", "local:2", "--no-watch").exit_code == 0
    assert found == [[]]


def finished() -> Progress:
    return Progress(
        input="requests.jsonl", output=None, total=6, done=6, failed={}, before=0, ambiguous=0,
        in_flight=0, sent=6, refused={}, tokens=0, input_tokens=0, output_tokens=0, cost=0.0,
        unpriced=0, limit=None, pace=90.0, concurrency=2.0, binds="", seconds=7.0, eta=None,
        stopped=None,
    )  # fmt: skip
