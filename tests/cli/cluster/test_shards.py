"""What a worker does of a shard, and what the shards are together, in this process."""

from __future__ import annotations

import json
import pickle
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import a_report, ids_of, write_requests
from echo import REFUSED, Echo, echo

from headway import Kind
from headway.bulk import RunOptions, Shard, Stop, find_endpoint
from headway.bulk.output.lock import acquire
from headway.bulk.output.replaced import identity_of
from headway.cli.cluster import shards
from headway.cli.cluster.shards import CANCEL, DRAIN, ShardTask, look, meet, together, work
from headway.rates import Limits

__all__ = ["echo"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    write_requests(tmp_path / "requests.jsonl", 10)
    return tmp_path


@pytest.fixture(autouse=True)
def no_session() -> Iterator[None]:
    yield
    shards._asked.clear()
    assert not shards._running


def task(echo: Echo, folder: Path, session: str = "s", **options: object) -> ShardTask:
    output = folder / "out.0-of-1.jsonl"
    return ShardTask(
        session, str(folder / "requests.jsonl"), output, str(folder / "out.jsonl"),
        RunOptions(shard=Shard(0, 1), **options),  # type: ignore[arg-type]  # - tests name them
        Limits(concurrency=2), 60.0, find_endpoint(base_url=echo.url), "acme", identity_of(output),
    )  # fmt: skip


def test_a_shard_is_run_and_says_so_in_what_can_be_pickled(echo: Echo, folder: Path) -> None:
    begun = task(echo, folder)
    ended = pickle.loads(pickle.dumps(work(pickle.loads(pickle.dumps(begun)))))
    assert (ended.index, ended.error) == (0, None)
    assert (ended.progress.done, ended.progress.remaining) == (10, 0)
    assert len(ids_of(begun.output)) == 10
    assert repr(begun) == "ShardTask('out.0-of-1.jsonl')"


def test_what_is_begun_anew_is_so_once_a_session(echo: Echo, folder: Path) -> None:
    work(task(echo, folder))
    anew = task(echo, folder, overwrite=True)
    for sent in (20, 20):  # the second is what a cluster does when it has lost the worker
        assert work(anew).error is None
        assert len(echo.asked) == sent
    work(task(echo, folder, overwrite=True))
    assert len(echo.asked) == 30


def test_failed_lines_are_taken_up_once_a_session(echo: Echo, folder: Path) -> None:
    line = {"body": {"model": "m", "messages": [{"role": "user", "content": REFUSED}]}}
    with (folder / "requests.jsonl").open("a") as file:
        print(json.dumps({"custom_id": "no", **line}), file=file)
    work(task(echo, folder))
    assert len(echo.asked) == 11
    again = task(echo, folder, retry_failed=True)
    for _ in range(2):
        work(again)
        assert len(echo.asked) == 12


def test_what_a_shard_meets_comes_back(echo: Echo, folder: Path) -> None:
    begun = task(echo, folder)
    begun.output.write_text("mine\n")
    ended = pickle.loads(pickle.dumps(work(begun)))
    assert ended.progress is None
    assert "out.0-of-1.jsonl" in str(ended.error)
    assert ended.error.fix
    assert begun.output.read_text() == "mine\n"
    assert not echo.asked


def test_a_look_asks_for_the_end(echo: Echo, folder: Path) -> None:
    echo.gate.clear()
    ends = list[shards.ShardEnd]()
    begun = task(echo, folder)
    thread = threading.Thread(target=lambda: ends.append(work(begun)))
    thread.start()
    for _ in range(2):
        assert echo.arrived.acquire(timeout=30)
    (state,) = look("s", begun.target, DRAIN)
    assert state.index == 0
    assert look("another", str(folder / "elsewhere.jsonl"), DRAIN) == []
    while (progress := look("s", begun.target, 0)[0].progress) is None or not progress.in_flight:
        time.sleep(0.01)
    look("s", begun.target, CANCEL)
    thread.join()
    assert ends[0].progress is not None
    assert ends[0].progress.done == 0
    assert ends[0].attempt == state.attempt
    # A task of that session which a worker begins later sends nothing.
    count = len(echo.asked)
    assert work(begun).progress is None
    assert len(echo.asked) == count


def test_the_next_session_ends_what_the_last_has_left(echo: Echo, folder: Path) -> None:
    left = shards._Running(task(echo, folder, "first"))
    shards._running.append(left)
    try:
        assert look("second", left.task.target, 0) == []
    finally:
        shards._running.clear()
    assert left.wanted(left.seen) == DRAIN


def test_a_run_that_nobody_looks_at_is_over(echo: Echo, folder: Path) -> None:
    running = shards._Running(task(echo, folder))
    assert running.wanted(running.seen + 119) == 0
    assert running.wanted(running.seen + 121) == DRAIN
    running.worker = SimpleNamespace(status=SimpleNamespace(name="closing_gracefully"))
    assert running.wanted(running.seen) == DRAIN
    ends = (
        shards.ShardEnd(0, "a", None),
        shards.ShardEnd(0, "a", a_report(total=10, done=9)),
        shards.ShardEnd(0, "a", a_report(total=10, done=10)),
        shards.ShardEnd(0, "a", a_report(total=10, done=9, stopped=Stop(None, "enough"))),
        shards.ShardEnd(0, "a", None, OSError(28, "full")),
    )
    assert [end.given_up for end in ends] == [True, True, False, False, False]


def test_an_output_that_is_held_is_waited_for(
    echo: Echo, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = task(echo, folder)
    run = folder / "out.0-of-1.run"
    run.mkdir(0o700)
    lock = acquire(run / "lock", begun.output)
    naps = list[float]()

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            lock.release()

    monkeypatch.setattr(shards, "anyio", SimpleNamespace(**{**vars(shards.anyio), "sleep": nap}))
    assert work(begun).error is None
    assert naps == [0.5, 1.0]
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_BUSY", -1.0)
        lock.acquire()
        ended = work(begun)
        lock.release()
    assert "another process is at work on" in str(ended.error)


def test_a_worker_says_what_it_sees(folder: Path) -> None:
    source = folder / "requests.jsonl"
    size = source.stat().st_size
    seen = meet(str(source), str(source), size)
    assert (seen.sees_source, seen.sees_output) == (True, True)
    assert not meet(str(source), str(source), size + 1).sees_source
    other = meet(str(folder / "none"), str(folder / "none"), 0)
    assert (other.sees_source, other.sees_output) == (False, False)


# -- together --------------------------------------------------------------------------------------


def whole(*attempts: list[object], **changes: object) -> object:
    options: dict[str, object] = {
        "source": "in.jsonl", "output": None, "lines": 100, "bounded": False,
        "limits": Limits("600/min", concurrency=8), "seconds": 5.0, "eta": None, **changes,
    }  # fmt: skip
    return together(attempts, **options)  # type: ignore[arg-type]  # - tests name them


def test_the_sum_of_the_shards() -> None:
    one = a_report(
        total=40, done=10, failed={"a": 2}, before=3, in_flight=4, sent=9, cost=1.0,
        refused={Kind.RATE: 2}, tokens=5, binds="tokens", reasons={"length": 1},
    )  # fmt: skip
    two = replace(one, total=58, failed={"a": 1, "b": 1}, fault="503", reasons={"stop": 2})
    found = whole([one], [two])
    assert (found.total, found.done, found.before, found.in_flight) == (98, 20, 6, 8)
    assert found.failed == {"a": 3, "b": 1}
    assert found.refused == {Kind.RATE: 4}
    assert (found.sent, found.tokens, found.cost, found.fault) == (18, 10, 2.0, "503")
    assert (found.limit, found.concurrency, found.binds) == (10.0, 64.0, "tokens")
    assert found.reasons == {"length": 1, "stop": 2}
    # One that is not begun: of the whole alone it is known how many lines there are.
    assert whole([one], []).total == 100
    nothing = whole([], [])
    assert (nothing.total, nothing.done, nothing.binds) == (100, 0, "")
    assert nothing.concurrency == 8.0


def test_what_a_lost_worker_did_counts_once() -> None:
    lost = a_report(total=40, done=10, before=3, in_flight=0, sent=9, cost=1.0, tokens=5)
    again = replace(lost, done=15, before=11, in_flight=2, sent=4, cost=1.5, tokens=2, ambiguous=1)
    found = whole([lost, again])
    assert (found.done, found.before, found.sent, found.in_flight) == (15, 3, 13, 2)
    assert (found.tokens, found.cost, found.ambiguous) == (7, 2.5, 1)
    assert whole([lost, again], bounded=True).cost == 1.5  # it has counted what went before


def test_what_stops_one_stops_all() -> None:
    stop = Stop(Kind.AUTH, "the key is refused")
    assert whole([a_report()], [a_report(stopped=stop)]).stopped == stop
