"""``headway run --dask`` on a real cluster: two worker processes, killed and drained."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from anyio.lowlevel import checkpoint
from commands import a_report, headway, ids_of, said, started, write_requests
from echo import Echo, echo
from packages import of_dev

from headway import Scheduler, __version__
from headway.bulk import RunOptions
from headway.cli.cluster import dask, shards
from headway.errors import HeadwayError
from headway.rates import Limits
from headway.shared.stores.places import forget_here, names_here

distributed = of_dev("distributed")

__all__ = ["echo"]

LINES = 60
AT_ONCE = 4


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """A scheduler and two processes."""
    with dask._local(2) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    write_requests(tmp_path / "requests.jsonl", LINES)
    return tmp_path


def arguments(echo: Echo, folder: Path, *more: str) -> list[str]:
    place = f"sqlite:///{folder}/limits.db"
    return [
        "run", "requests.jsonl", "--base-url", echo.url, "--shared", place,
        "--concurrency", str(AT_ONCE), "--json", *more,
    ]  # fmt: skip


class Gate(threading.Event):
    """Lets so many requests through, and holds those that follow until it is set."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._left = threading.Semaphore(count)

    def wait(self, timeout: float | None = None) -> bool:
        return self._left.acquire(blocking=False) or super().wait(timeout)


@contextmanager
def once_held(echo: Echo, count: int, then: Callable[[], object]) -> Iterator[None]:
    """After `count` requests those that follow are held; with a full load of them, do `then`."""
    echo.gate = Gate(count)

    def watch() -> None:
        for _ in range(count + AT_ONCE):
            assert echo.arrived.acquire(timeout=30)
        then()
        echo.gate.set()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def check_answers(echo: Echo, folder: Path, lost: int) -> None:
    """Every line has one row, and no more than the `lost` ones were sent twice."""
    assert sorted(ids_of(folder / "requests.results.jsonl")) == sorted(
        f"q{number}" for number in range(LINES)
    )
    sent = Counter(body["messages"][0]["content"] for body in echo.asked)
    assert len(sent) == LINES
    assert sent.total() <= LINES + lost
    assert max(sent.values()) <= 2


def test_a_run_loses_a_worker_and_another_goes_on(
    echo: Echo, folder: Path, cluster: object, caplog: pytest.LogCaptureFixture
) -> None:
    first = cluster.workers[0].pid  # type: ignore[attr-defined]
    with once_held(echo, 20, lambda: os.kill(first, signal.SIGKILL)):
        result = headway(*arguments(echo, folder, "--dask", cluster.scheduler_address))  # type: ignore[attr-defined]
    assert result.exit_code == 0, result.stderr
    check_answers(echo, folder, AT_ONCE)
    assert [text for text in caplog.messages if "lost with its worker" in text]
    progress = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(each["total"] == LINES for each in progress)
    last = progress[-1]
    assert (last["event"], last["done"], last["remaining"]) == ("end", LINES, 0)
    assert last["output"] == "requests.results.jsonl"
    assert last["in_flight"] == 0
    assert 1 <= last["ambiguous"] <= AT_ONCE

    # Run again it sends nothing, and merges anew.
    count = len(echo.asked)
    result = headway(*arguments(echo, folder, "--dask", cluster.scheduler_address))  # type: ignore[attr-defined]
    assert result.exit_code == 0
    assert len(echo.asked) == count
    check_answers(echo, folder, AT_ONCE)


def test_a_run_that_was_killed_goes_on(echo: Echo, folder: Path, cluster: object) -> None:
    address = cluster.scheduler_address  # type: ignore[attr-defined]
    with (
        started(*arguments(echo, folder, "--dask", "local:2")) as run,
        once_held(echo, 20, lambda: run.send_signal(signal.SIGKILL)),
    ):
        assert run.wait() == -signal.SIGKILL
    assert not (folder / "requests.results.jsonl").exists()
    result = headway(*arguments(echo, folder, "--dask", address))
    assert result.exit_code == 0, result.stderr
    check_answers(echo, folder, AT_ONCE)
    assert json.loads(result.stdout.splitlines()[-1])["before"] >= 20


def test_ctrl_c_waits_for_what_is_in_flight(
    echo: Echo, folder: Path, cluster: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = cluster.scheduler_address  # type: ignore[attr-defined]
    asked = threading.Semaphore(0)
    run = distributed.Client.run

    def looking(client: object, function: object, *args: object, **options: object) -> object:
        found = run(client, function, *args, **options)
        if function is shards.look and args[-1]:
            asked.release()
        return found

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(3):  # the shards have looked at what is asked of them by then
            assert asked.acquire(timeout=30)

    monkeypatch.setattr(distributed.Client, "run", looking)
    with once_held(echo, 20, stop):
        result = headway(*arguments(echo, folder, "--dask", address))
    assert result.exit_code == 130
    assert "stopped by Ctrl-C. Run the same command again to go on" in result.stderr
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["in_flight"] == 0
    assert last["done"] == len(echo.asked) < LINES
    assert not (folder / "requests.results.jsonl").exists()
    assert headway(*arguments(echo, folder, "--dask", address)).exit_code == 0
    check_answers(echo, folder, 0)
    assert echo.peak <= AT_ONCE


def test_what_a_shard_meets_ends_the_run(echo: Echo, folder: Path, cluster: object) -> None:
    address = cluster.scheduler_address  # type: ignore[attr-defined]
    (folder / "requests.results.1-of-2.jsonl").write_text("mine\n")
    result = headway(*arguments(echo, folder, "--dask", address))
    assert result.exit_code == 2
    assert "requests.results.1-of-2.jsonl" in result.stderr
    assert (folder / "requests.results.1-of-2.jsonl").read_text() == "mine\n"


# -- a cluster that fails --------------------------------------------------------------------------


class Future:
    """One that has ended, in an error or with what it returns."""

    def __init__(self, status: str, error: Exception | None = None, result: object = None) -> None:
        self.status = status
        self._error = error
        self._result = result

    def result(self, timeout: float) -> object:
        return self._result

    def exception(self) -> Exception | None:
        return self._error


def a_session(folder: Path) -> tuple[dask._ClusterRun, list[str]]:
    """A session of one shard, on a cluster of no worker."""
    submitted = list[str]()

    def submit(work: object, task: object, *, key: str, pure: bool) -> str:
        submitted.append(key)
        return key

    client = SimpleNamespace(submit=submit, status="running")
    whole = SimpleNamespace(named="in.jsonl", lines=10)
    session = dask._ClusterRun(
        client,
        "tcp://here",
        whole,
        RunOptions(),
        Limits(concurrency=1),
        lambda: 0,  # type: ignore[arg-type]  # - what it asks of them
    )
    session._attempts = {0: {}}
    return session, submitted


def test_a_shard_that_takes_its_workers_down_is_tried_again_while_it_gets_on(folder: Path) -> None:
    session, submitted = a_session(folder)
    killed = distributed.KilledWorker("a", SimpleNamespace(address="b"), 3)
    for number, rows in enumerate((0, 4)):
        session._attempts[0] = {"x": a_report(total=10, done=rows)}
        session._futures = {0: Future("error", killed)}
        session._settle(0, session._futures[0], "the shard")  # type: ignore[arg-type]  # - it is named
        assert len(submitted) == len(set(submitted)) == number + 1
    session._settle(0, Future("error", killed), "the shard")  # type: ignore[arg-type]  # - it is named
    assert len(submitted) == 2
    assert session._error is not None
    assert session._error.what == (
        "shard 0 of 1 was lost with every worker that ran it, and gets no further"
    )
    assert session._asked() == shards.DRAIN


def test_what_a_worker_that_closes_has_left_is_gone_on_with(folder: Path) -> None:
    session, submitted = a_session(folder)
    for done, count in ((4, 1), (10, 1)):
        end = shards.ShardEnd(0, "x", a_report(total=10, done=done))
        session._futures = {0: Future("finished", result=end)}
        session._settle(0, session._futures[0], "the shard")  # type: ignore[arg-type]  # - as above
        assert len(submitted) == count
    assert not session._futures


def test_a_cluster_that_goes_away(folder: Path) -> None:
    for status in ("cancelled", "lost"):
        session, _ = a_session(folder)
        with pytest.raises(HeadwayError, match=r"tcp://here is gone\. Fix: start it"):
            session._settle(0, Future(status), "the shard")  # type: ignore[arg-type]  # - it is named


def test_workers_that_cannot_do_it(folder: Path) -> None:
    lines = SimpleNamespace(target=str(folder / "out.jsonl"), source="/data/in.jsonl", size=3)
    for met, text in (
        (ModuleNotFoundError("No module named 'headway'"), "cannot run headway: No module named"),
        (shards.Met("0.0.1", True, True), f"has headway 0.0.1, and this is {__version__}"),
        (shards.Met(__version__, False, True), "does not see /data/in.jsonl as it is here"),
        (shards.Met(__version__, True, False), f"does not see {folder} as it is here"),
    ):
        client = SimpleNamespace(
            wait_for_workers=lambda *_, **__: None, run=lambda *_, met=met, **__: {"tcp://w": met}
        )
        with pytest.raises(HeadwayError) as raised:
            dask._meet(client, "tcp://here", lines)  # type: ignore[arg-type]  # - what it asks of them
        assert f"the worker tcp://w {text}" in str(raised.value)
        assert raised.value.fix

    def nobody(*_: object, **__: object) -> None:
        raise TimeoutError

    with pytest.raises(HeadwayError, match=r"has had no worker for 60 s\. Fix: start"):
        dask._meet(SimpleNamespace(wait_for_workers=nobody), "tcp://here", lines)  # type: ignore[arg-type]  # - as above


def test_processes_of_this_machine_share_by_themselves(folder: Path) -> None:
    lines = SimpleNamespace(target=str(folder / "out.jsonl"), output=folder / "out.jsonl")
    place, again, other = (
        dask._shared("local:2", None, lines, Limits(rate))  # type: ignore[arg-type]  # - as above
        for rate in ("60/min", "60/min", "70/min")
    )
    assert place == again != other
    assert dask._shared("local", "acme", lines, Limits()) == "acme"  # type: ignore[arg-type]  # - as above

    async def work() -> None:
        async with Scheduler("60/min", shared=place) as scheduler:
            await scheduler.submit(checkpoint)

    anyio.run(work)
    assert names_here() == [place]
    forget_here(place)
    assert names_here() == []
    assert not list((folder / "state" / "headway" / "shared").iterdir())


# -- what is refused before anything is begun ------------------------------------------------------


def refused(*more: str, source: str = "requests.jsonl") -> str:
    result = headway("run", source, "--base-url", "http://127.0.0.1:9/v1", *more)
    assert result.exit_code == 2, result.stderr
    return said(result)


def test_a_wrong_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "_CONNECTING", 0.2)
    fix = "Fix: give the address of its scheduler, such as tcp://host:8786, or --dask local"
    for address in ("tcp://127.0.0.1:9", "ftp://127.0.0.1:9", "127.0.0.1:port"):
        text = refused("--dask", address, "--shared", "a")
        assert f"no cluster of dask answers at {address}: " in text
        assert fix in text
    assert "--dask local:0 is no number of processes: 1 to 64. Fix: --dask local:4" in refused(
        "--dask", "local:0"
    )


def test_a_stream_has_no_shards(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for source, name in (("-", "standard input"), ("pipe", "pipe"), ("/dev/fd/0", "/dev/fd/0")):
        assert (
            f"{name} is a stream, of which many workers cannot each read a part. Fix: write it to "
            "a file that all of them see, and give that"
        ) in refused("--dask", "local", "-o", "out.jsonl", source=source)
    (folder / "table.csv").write_text("prompt\nhello\n")
    assert "table.csv" in refused("--dask", "local", "--model", "m", source="table.csv")


def test_options_that_fit_no_cluster() -> None:
    assert "Fix: leave one of them out" in refused("--dask", "local", "--shard", "0/2")
    assert "--limit is about the first lines of a file" in refused("--dask", "local", "--limit=3")
    assert "the output is a stream" in refused("--dask", "local", "-o", "-")
    assert "make a table of it then: headway export" in refused("--dask", "local", "-o", "a.csv")
    assert "have to share the limits, and nothing says where. Fix: give --shared" in refused(
        "--dask", "tcp://127.0.0.1:9"
    )


def test_what_stands_in_the_place_of_the_output(folder: Path) -> None:
    output = folder / "requests.results.jsonl"
    output.write_text("mine\n")
    assert "requests.results.jsonl exists already" in refused("--dask", "local")
    assert "requests.results.jsonl" in refused("--dask", "local", "--overwrite")
    assert output.read_text() == "mine\n"
    output.unlink()
    for count in (2, 3):
        run = folder / f"requests.results.0-of-{count}.run"
        run.mkdir()
        (run / "journal").touch()
        (folder / f"requests.results.0-of-{count}.jsonl").touch()
    assert "results of 2 shards and of 3, of which one run cannot go on with both" in refused(
        "--dask", "local"
    )


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert (
        "headway run --dask needs dask.distributed, which is not installed. Fix: install it, here "
        "and on every worker, with: pip install 'headway[dask]'"
    ) in refused("--dask", "local")
