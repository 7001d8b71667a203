"""What this machine lacks: descriptors, locks, a disk; nothing that was answered is lost."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forks
import httpx
import pytest
from commands import CHILD, PATIENCE, ids_of, rows_of, run_process, write_requests

from headway import Scheduler, bulk, hints
from headway.bulk import machine
from headway.bulk.output.journal import Journal
from headway.events import Kind

ANSWER = (
    b'{"id":"x","choices":[{"message":{"content":"yes"}}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":2}}'
)


class Together:
    """A server that answers nobody until so many are in flight, and everybody from then on."""

    def __init__(self, held: int) -> None:
        self.held = held
        self.asked = 0
        self.most = 0
        self.answered = 0
        self._in_flight = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    async def _serve(self) -> None:
        self._open, self._over = asyncio.Event(), asyncio.Event()
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=1000)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        await self._over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.lower().split(b"\r\n")
                sizes = [line[15:] for line in lines if line.startswith(b"content-length:")]
                await reader.readexactly(int(sizes[0]))
                self.asked += 1
                self._in_flight += 1
                self.most = max(self.most, self._in_flight)
                if self._in_flight >= self.held:
                    self._open.set()
                await self._open.wait()
                self._in_flight -= 1
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
                )
                await writer.drain()
                self.answered += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Together]:
    server = Together(request.param)
    yield server
    server.close()


def run_within(
    soft: int, hard: int, *arguments: str, child: str = CHILD, popen: Any = forks.Popen
) -> subprocess.CompletedProcess[bytes]:
    """The command in a process that may open so many files."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))"
    with popen(
        [sys.executable, "-c", f"{limited}\n{child}", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        stdout, stderr = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def arguments(folder: Path, url: str, concurrency: int, lines: int) -> tuple[str, ...]:
    source = write_requests(folder / "in.jsonl", lines)
    where = ("--base-url", url, "-o", str(folder / "out.jsonl"))
    return ("run", str(source), *where, "--concurrency", str(concurrency))


# -- descriptors -------------------------------------------------------------------------------


@pytest.mark.parametrize("server", [400], indirect=True)
def test_the_soft_limit_is_raised(server: Together, tmp_path: Path) -> None:
    result = run_within(256, 4096, *arguments(tmp_path, server.url, 400, 410))
    assert result.returncode == 0, result.stderr
    assert server.most == 400  # the server answers nobody before
    assert len(rows_of(tmp_path / "out.jsonl")) == server.asked == 410
    assert b"in place of" not in result.stderr


@pytest.mark.parametrize(("hard", "server"), [(256, 200), (64, 20)], indirect=["server"])
def test_a_hard_limit_lowers_the_concurrency(hard: int, server: Together, tmp_path: Path) -> None:
    # More lines than files: each might have a connection.
    result = run_within(hard, hard, *arguments(tmp_path, server.url, 400, hard + 40))
    assert result.returncode == 0, result.stderr
    assert server.held <= server.most < hard - machine._SPARE
    assert len(rows_of(tmp_path / "out.jsonl")) == server.asked == hard + 40
    said = b" ".join(result.stderr.split())
    assert b"in place of 400, because this process may open no more files" in said
    assert b"Fix: raise the limit: ulimit -n 464" in said


@pytest.mark.parametrize("server", [1], indirect=True)
@pytest.mark.parametrize("hard", [20, 26])
def test_too_few_for_one_request_sends_nothing(hard: int, server: Together, tmp_path: Path) -> None:
    result = run_within(hard, hard, *arguments(tmp_path, server.url, 4, 9))
    assert (result.returncode, server.asked) == (2, 0)
    assert result.stderr.startswith(f"headway: this process may open {hard} files, ".encode())
    assert b"Fix: raise the limit: ulimit -n " in result.stderr


# Something takes every descriptor that is left once twenty requests are in flight.
STARVED = (
    """
import os
from headway.bulk.send import Sender
real, asked = Sender.ask, 0
async def ask(self, request):
    global asked
    asked += 1
    if asked == 21:
        try:
            while True:
                os.open(os.devnull, os.O_RDONLY)
        except OSError:
            pass
    return await real(self, request)
Sender.ask = ask
"""
    + CHILD
)


@pytest.mark.parametrize("server", [20], indirect=True)
def test_none_left_in_mid_run_is_no_outage_and_loses_nothing(
    server: Together, tmp_path: Path
) -> None:
    given = arguments(tmp_path, server.url, 400, 60)
    result = run_within(600, 600, *given, child=STARVED)
    assert result.returncode == 1, result.stderr
    said = b" ".join(result.stderr.split())
    assert b"headway: cannot go on: " in said
    assert b"Too many open files" in said
    assert b"Raise the limit of open files (ulimit -n), or lower --concurrency" in said
    assert len(rows_of(tmp_path / "out.jsonl")) == server.asked >= 20
    again = run_within(600, 600, *given)
    assert again.returncode == 0
    assert b"in flight at a kill" not in again.stderr, again.stderr  # not sent, not billed
    assert len(ids_of(tmp_path / "out.jsonl")) == server.asked == 60


@pytest.mark.parametrize("server", [1], indirect=True)
def test_nothing_is_imported_or_opened_once_it_sends(server: Together, tmp_path: Path) -> None:
    child = """
import sys
seen, sending = [], False
def hook(event, args):
    global sending
    sending = sending or event == "socket.connect"
    if sending and event in ("import", "open", "os.scandir", "os.listdir"):
        seen.append(f"{event} {args[0]}")
sys.addaudithook(hook)
from headway.bulk import meter
real = meter.Meter.end
def end(self, raised):
    needless = {"httpcore", "trio"} & {*sys.modules}
    print("SEEN", seen, *needless, file=sys.__stderr__)
    real(self, raised)
meter.Meter.end = end
from headway.cli import main
main()
"""
    given = arguments(tmp_path, server.url, 4, 40)
    with (tmp_path / "in.jsonl").open("a") as file:
        file.write("not JSON\n")
    result = run_within(256, 256, *given, child=child, popen=subprocess.Popen)
    assert result.returncode == 1
    assert len(rows_of(tmp_path / "out.errors.jsonl")) == 1
    assert b"SEEN []\n" in result.stderr, result.stderr


def test_a_process_without_a_limit_takes_what_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "resource", None)
    assert machine.connections_for(10**6) == 10**6


# -- whose fault it is -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
@pytest.mark.parametrize("grouped", [False, True])
def test_what_this_machine_lacks_is_no_fault_of_the_provider(number: int, grouped: bool) -> None:
    cause: Exception = OSError(number, os.strerror(number))
    if grouped:  # anyio's, where several addresses were tried
        cause = OSError("All connection attempts failed")
        cause.__cause__ = ExceptionGroup("", [OSError(number, os.strerror(number))])
    error = httpx.ConnectError("no")
    error.__cause__ = cause
    refusal = hints.classify(error, wall_time=0)
    assert refusal.kind is Kind.PERMANENT
    assert not refusal.unreached
    assert os.strerror(number) in refusal.message
    assert refusal.message.endswith(": a fault of this machine")
    found = hints.machine_fault(error)
    assert found is not None
    assert found.errno == number


def test_memory_is_this_machines_too() -> None:
    found = hints.machine_fault(MemoryError())
    assert found is not None
    assert found.errno == errno.ENOMEM


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH])
def test_a_network_that_is_away_is_not(number: int) -> None:
    error = httpx.ConnectError("no")
    error.__cause__ = OSError(number, os.strerror(number))
    assert hints.machine_fault(error) is None
    assert hints.classify(error, wall_time=0).kind is Kind.TRANSIENT


# -- what is in flight is written --------------------------------------------------------------


@pytest.mark.parametrize("what", ["watch", "input"])
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.anyio
async def test_what_is_in_flight_when_it_breaks_has_its_row(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import anyio

    source, output = write_requests(tmp_path / "in.jsonl", 20), tmp_path / "out.jsonl"
    broken = anyio.Event()
    asked: list[bytes] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.content)
        if what == "input" and len(asked) >= 8:
            broken.set()
        await broken.wait()
        return httpx.Response(200, content=ANSWER)

    def watch(report: bulk.Progress) -> None:
        if what == "watch" and report.in_flight >= 8:
            broken.set()
            raise OSError(errno.EIO, "it broke")

    if what == "input":
        real = bulk.Source.requests

        def requests(self: bulk.Source, skip: object) -> Iterator[object]:
            for number, line in enumerate(real(self, skip)):  # type: ignore[arg-type]
                if number == 8:
                    raise OSError(errno.EIO, "it broke")
                yield line

        monkeypatch.setattr(bulk.Source, "requests", requests)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(OSError, match="it broke"):
            await bulk.run(
                source, output, scheduler=Scheduler(concurrency=8), client=client, watch=watch,
                endpoint=bulk.find_endpoint(base_url="http://server/v1"),
            )  # fmt: skip
    assert len(rows_of(output)) == len(asked) >= 8


# -- locks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_says_so(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(fd: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(bulk.InvalidOutput) as raised:
        Journal(tmp_path / "out.jsonl", {})
    assert str(raised.value).startswith(
        f"cannot lock {tmp_path}/out.jsonl: {os.strerror(number)}. Its file system keeps no locks"
    )
    assert "Fix: give a file on a local disk with -o" in str(raised.value)


@pytest.mark.parametrize("server", [1], indirect=True)
def test_a_run_that_is_moved_to_another_disk_goes_on(server: Together, tmp_path: Path) -> None:
    """The advice of a file system without locks."""
    given = arguments(tmp_path, server.url, 4, 9)
    assert run_process(*given, "--limit", "4").returncode == 0
    (tmp_path / "local").mkdir()
    for name in ("out.jsonl", "out.run"):
        (tmp_path / name).rename(tmp_path / "local" / name)
    moved = [each.replace("out.jsonl", "local/out.jsonl") for each in given]
    assert run_process(*moved).returncode == 0
    assert len(rows_of(tmp_path / "local" / "out.jsonl")) == server.asked == 9
