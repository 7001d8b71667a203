"""A scheduler that is watched: seen and steered from another thread, whatever its loop does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
import pytest
from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync

import headway
import headway.sync
from headway import Cleared, InvalidArgument, Scheduler, SchedulerClosed, Watched
from headway.errors import HeadwayError
from headway.hooks.watch import server
from headway.hooks.watch.client import ask
from headway.hooks.watch.listeners import LoopbackListener, connect
from headway.hooks.watch.protocol import MOST_REQUEST, line, read

# A real socket.
pytestmark = [pytest.mark.anyio, pytest.mark.real_time, pytest.mark.usefixtures("folder")]


async def f(n: int) -> int:
    return n


async def asked(watched: Watched, do: str, **what: Any) -> dict[str, Any]:
    assert watched.path is not None
    return await run_sync(lambda: ask(watched.path, do, **what))  # type: ignore[arg-type]


async def test_it_is_seen_at_work() -> None:
    scheduler = Scheduler("6000/min", concurrency=4)
    with headway.watch(scheduler, "worker") as watched:
        await scheduler.map(f, range(3))
        watched.show(cost=1.5, done=3, total=9)
        status = await asked(watched, "status", since=-1.0)
    assert (status["name"], status["pid"], status["blocked"]) == ("worker", os.getpid(), None)
    assert status["limits"]["requests"] == ["6000/min"]
    assert status["figures"] == {"cost": 1.5, "done": 3, "total": 9, "eta": None}
    assert status["statistics"]["succeeded"] == 3
    assert len(status["history"][0]) == 8
    assert watched.path is None


def test_a_connection_that_comes_as_the_server_ends_is_let_go_of() -> None:
    """Its task is cancelled before it begins."""

    async def main(answers: server.Server) -> None:
        writer = mock.Mock()
        answers._connected(mock.Mock(), writer)
        [answer] = answers._open
        answer.cancel()
        await asyncio.wait([answer])
        assert answer.cancelled()
        assert writer.transport.abort.mock_calls
        assert not answers._open

    with headway.watch(Scheduler("6000/min")) as watched:
        assert watched._server is not None
        asyncio.run(main(watched._server))


def test_connections_that_come_as_it_ends_are_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many at once, for those that were accepted and not handed over yet were lost."""
    lost: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: lost.append(found.exc_value))
    watched = headway.watch(Scheduler("6000/min"))
    path, over, clients = watched.path, threading.Event(), list[socket.socket]()
    assert path is not None

    def come() -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                clients.append(connect(path, 1.0)[0])

    threads = [threading.Thread(target=come) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(clients) < 200 and any(thread.is_alive() for thread in threads):
        pass
    watched.close()
    over.set()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    gc.collect()
    assert [each for each in lost if "raddr" not in str(each)] == []


async def test_it_is_steered() -> None:
    scheduler = Scheduler("6000/min", concurrency=4)
    with headway.watch(scheduler) as watched:
        await scheduler.submit(f, 1)
        assert (await asked(watched, "pause"))["statistics"]["binds"] == "paused"
        async with anyio.create_task_group() as group:
            group.start_soon(scheduler.submit, f, 2)
            await anyio.wait_all_tasks_blocked()
            assert scheduler.statistics().queued == 1
            await asked(watched, "resume")  # wakes the one that waits
        limits = {"requests": ["300/min", "8/s"], "tokens": ["5000/min"], "concurrency": 2}
        status = await asked(watched, "set", **limits)
        assert status["limits"] | limits == status["limits"]
        await asked(watched, "set", tokens=None, concurrency=None)
        assert (scheduler.limits.tokens, scheduler.limits.concurrency) == ((), None)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"do": "set"}, "nothing to set was named"),
        ({"do": "set", "concurrency": "8"}, "concurrency='8' is no limit"),
        ({"do": "set", "requests": 300}, "requests=300 is no limit"),
        ({"do": "set", "requests": ["fast"]}, "'fast': a rate is a number and a period"),
        ({"do": "clear", "key": "x"}, "no job had the key 'x'"),
        ({"do": "dance"}, "dance is nothing that can be asked for"),
    ],
)
async def test_what_cannot_be_done_is_said(what: dict[str, Any], said: str) -> None:
    scheduler = Scheduler("600/min")
    with headway.watch(scheduler) as watched:
        with pytest.raises(HeadwayError, match=said):
            await asked(watched, **what)
        assert str(scheduler.limits.requests[0]) == "600/min"


async def test_drain_takes_no_more() -> None:
    scheduler = Scheduler()
    with headway.watch(scheduler) as watched:
        await scheduler.submit(f, 1)
        await asked(watched, "drain")
        with pytest.raises(SchedulerClosed):
            await scheduler.submit(f, 2)


def test_what_is_idle_is_steered_too() -> None:
    scheduler = Scheduler()
    with headway.watch(scheduler) as watched:
        assert watched.path is not None
        assert ask(watched.path, "pause")["statistics"]["binds"] == "paused"
        ask(watched.path, "resume")
        assert asyncio.run(scheduler.submit(f, 1)) == 1
        ask(watched.path, "pause")  # its loop is gone
        assert ask(watched.path, "status")["blocked"] is None
        ask(watched.path, "drain")
        with pytest.raises(SchedulerClosed):
            asyncio.run(scheduler.submit(f, 2))


async def test_what_waits_is_dropped_by_key() -> None:
    scheduler = Scheduler("600/min")
    ended: list[str] = []

    async def wait(key: str) -> None:
        try:
            await scheduler.with_options(key=key).submit(f, 1)
        except Cleared:
            ended.append(key)

    with headway.watch(scheduler) as watched:
        await scheduler.submit(f, 1)
        scheduler.pause()
        async with anyio.create_task_group() as group:
            for key in ("chat", "batch"):
                group.start_soon(wait, key)
            await anyio.wait_all_tasks_blocked()
            status = await asked(watched, "clear", key="batch")
            assert status["statistics"]["queued"] == 1
            assert status["dropped"] == 1
            await asked(watched, "clear")
    assert ended == ["batch", "chat"]


def test_one_of_plain_functions_is_seen_and_steered() -> None:
    with headway.sync.Scheduler("600/min") as scheduler, headway.watch(scheduler) as watched:
        path = watched.path
        assert path is not None
        assert scheduler.submit(int, "3") == 3
        assert ask(path, "pause")["statistics"]["binds"] == "paused"
        ask(path, "resume")
        ask(path, "set", requests=["6000/min"])
        assert str(scheduler.limits.requests[0]) == "6000/min"
        ask(path, "clear")
        assert ask(path, "status")["blocked"] is None
        ask(path, "drain")
        while not scheduler._shell.closed:
            time.sleep(0)
        with pytest.raises(SchedulerClosed):
            scheduler.submit(int, "3")


async def test_drain_may_be_the_users_own() -> None:
    threads = []

    def drain() -> None:
        threads.append(threading.current_thread())
        if len(threads) > 1:
            raise RuntimeError("twice")

    scheduler = Scheduler()
    with headway.watch(scheduler, drain=drain) as watched:
        await scheduler.submit(f, 1)
        await asked(watched, "drain")
        assert threads == [threading.current_thread()]  # the loop's
        with pytest.raises(HeadwayError, match=r"drain raised RuntimeError\('twice'\)"):
            await asked(watched, "drain")
        await asked(watched, "status")


async def test_a_blocked_loop_is_seen_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 1.3)
    scheduler = Scheduler()
    with headway.watch(scheduler) as watched:
        await scheduler.submit(f, 1)
        assert watched.path is not None
        status = ask(watched.path, "status")  # without a turn of the loop
        assert status["blocked"] > 0
        with pytest.raises(HeadwayError, match="its event loop is blocked, and nothing was chan"):
            ask(watched.path, "pause")
        await checkpoint()
        assert (await asked(watched, "status"))["blocked"] is None
        assert scheduler.statistics().binds != "paused"


def test_what_was_begun_and_does_not_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 1.05)
    end = threading.Event()
    with headway.watch(Scheduler(), drain=lambda: end.wait(5)) as watched:
        assert watched.path is not None
        with pytest.raises(HeadwayError, match="drain was begun, and has not come to its end yet"):
            ask(watched.path, "drain")
        end.set()


async def test_no_secret_is_told() -> None:
    key = "sk-" + "a" * 20
    scheduler = Scheduler()
    with headway.watch(scheduler, f"job {key}") as watched:
        await scheduler.with_options(key=key).submit(f, 1)
        status = await asked(watched, "status")
    assert key not in str(status)
    assert status["name"] == "job ***"
    assert [*status["statistics"]["keys"]] == ["***"]


def raw(path: Path, data: bytes) -> bytes:
    connection, _ = connect(path, 5.0)
    with connection:
        connection.sendall(data)
        return connection.makefile("rb").readline()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"garbage\n", "no request"),
        (b"\xff\xfe\x00\n", "no request"),
        (b"[]\n", "no request"),
        (b"[" * 10_000 + b"\n", "no request"),
        (b"x" * (MOST_REQUEST + 10), "no request"),
        (line({"do": "status"}), "another version"),
        (line({"version": 0, "do": "pause"}), "another version"),
        (line({"version": 1, "do": ["status"]}), "is nothing that can be asked"),
    ],
)
def test_hostile_bytes_are_refused_and_the_next_one_is_answered(data: bytes, said: str) -> None:
    with headway.watch(Scheduler()) as watched:
        assert watched.path is not None
        reply = read(raw(watched.path, data))
        assert said in reply["error"]["what"]
        assert reply["version"] == 1
        assert ask(watched.path, "status")["pid"] == os.getpid()


def test_ten_megabytes_without_an_end_are_not_kept() -> None:
    with headway.watch(Scheduler()) as watched:
        assert watched.path is not None
        connection, _ = connect(watched.path, 5.0)
        with connection, pytest.raises(ConnectionError):
            connection.sendall(b"x" * 160 * MOST_REQUEST)
        assert ask(watched.path, "status")


def test_who_never_reads_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 1.0)
    scheduler = Scheduler()
    for number in range(2000):
        scheduler._shell.state.flow(f"a key with a long name, for a long reply, {number}")
    with headway.watch(scheduler) as watched:
        assert watched.path is not None
        silent = [connect(watched.path, 5.0)[0] for _ in range(3)]
        for connection in silent[1:]:
            connection.sendall(line({"version": 1, "do": "status"}))  # and reads nothing
        assert len(ask(watched.path, "status")["statistics"]["keys"]) == 1000
        assert silent[0].recv(1) == b""  # it has said nothing for too long
        for connection in silent:
            connection.close()


def test_too_many_at_once_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOST", 1)
    with headway.watch(Scheduler()) as watched:
        assert watched.path is not None
        first, _ = connect(watched.path, 5.0)
        with first, pytest.raises((HeadwayError, OSError)):
            ask(watched.path, "status")


def test_by_loopback_a_token_is_asked_for(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    one = server.Server(Scheduler(), "w", int, listener=lambda: LoopbackListener(folder))
    assert ask(one.listener.path, "status")["name"] == "w"
    with socket.create_connection(one.listener.listening.getsockname()) as connection:
        connection.sendall(line({"version": 1, "do": "status", "token": "guessed"}))
        reply = read(connection.makefile("rb").readline())
    assert reply["error"]["what"] == "only the user whose process this is may ask it anything"
    assert "statistics" not in reply
    one.close()


class Counted:
    """A scheduler that counts how often it is looked at."""

    looks = 0
    limits = headway.Limits()

    def statistics(self) -> headway.Statistics:
        self.looks += 1
        if self.looks > 1:
            raise RuntimeError("no figures")
        return Scheduler().statistics()


def test_nobody_who_looks_costs_one_look_a_second(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waited: list[float] = []
    third = threading.Event()
    real = asyncio.wait_for

    async def wait_for(awaited: Any, seconds: float) -> None:
        waited.append(seconds)
        if len(waited) > 3:
            third.set()
            await real(awaited, 60)
        awaited.close()
        raise TimeoutError

    monkeypatch.setattr(server.asyncio, "wait_for", wait_for)
    counted = Counted()
    with caplog.at_level(logging.ERROR), headway.watch(counted):
        assert third.wait(5)
        assert {*waited} == {1.0}
        assert counted.looks == len(waited)
    told = [record for record in caplog.records if "statistics() raised" in record.message]
    assert len(told) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_answers_for_nobody() -> None:
    with headway.watch(Scheduler()) as watched:
        path = watched.path
        assert path is not None
        (one,) = [each for each in server._servers if each.listener.path == path]
        if not (child := os.fork()):
            watched.close()  # which is the parent's
            closed = one.listener.listening.fileno() == -1 and path.exists()
            os._exit(0 if closed and not server._servers else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert ask(path, "status")["pid"] == os.getpid()


def test_where_no_socket_can_be_made_the_program_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("a disk that is full")

    monkeypatch.setattr(server, "Server", refuse)
    with headway.watch(Scheduler(), "w") as watched:
        assert watched.path is None
        watched.show(cost=1.0)
    assert caplog.messages == [
        "headway top and ctl cannot find w: no socket can be made, a disk that is full. Fix: set "
        "XDG_RUNTIME_DIR to a folder of this user's alone; the program goes on."
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((1,), r"watch\(1\): this is no Scheduler"),
        ((Scheduler,), "this is no Scheduler"),
        ((Scheduler().with_options(),), "this is no Scheduler"),
        ((Scheduler(), 3), "name=3 is no name"),
        ((Scheduler(), " "), "name=' ' is no name"),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        headway.watch(*arguments)
    with pytest.raises(InvalidArgument, match="is not a plain function"):
        headway.watch(Scheduler(), drain=f)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("argument", "name"),
    [("/a/job.py", "job.py"), ("/a/jobs/__main__.py", "jobs"), ("-c", "python"), ("", "python")],
)
def test_the_name_is_the_programs(
    argument: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [argument])
    with headway.watch(Scheduler()) as watched:
        assert watched.name == name


def test_closing_twice_is_closing_once() -> None:
    watched = headway.watch(Scheduler())
    watched.close()
    watched.close()
    assert not [t for t in threading.enumerate() if t.name == "headway-watch"]
