"""The command in processes of its own that begin with everything imported.

To import what a run needs takes a second of CPU, so one process does it for all tests of a session,
and forks for each of them: a real process with real streams and signals. What the start of an
interpreter does with its streams is not seen here; `test_streams` starts real ones for that.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn, Self

_Popen = subprocess.Popen


@cache
def _forking() -> socket.socket:
    """The way to the process that forks, which ends with this one."""
    ours, theirs = socket.socketpair()
    number = theirs.fileno()
    command = [sys.executable, __file__, str(number)]
    process = _Popen(command, pass_fds=[number], stdout=subprocess.DEVNULL)
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _fork(command: Sequence[str], environment: Mapping[str, str], streams: list[int]) -> IO[bytes]:
    """Run what an interpreter would with `command`; its number comes, and later how it ended."""
    read, write = os.pipe()
    what = {"command": command, "folder": os.getcwd(), "environment": dict(environment)}
    socket.send_fds(_forking(), [json.dumps(what).encode()], [*streams, write])
    os.close(write)
    return open(read, "rb", buffering=0)


class Forked:
    """A process that runs the command; it has the working folder and the environment of now.

    Its streams hold text, or bytes; one that is not asked for is the null device.
    """

    def __init__(
        self, *arguments: str, stdin: bool = False, stdout: bool = False, text: bool = True
    ) -> None:
        pipes = [os.pipe() for _ in range(3)]
        null = os.open(os.devnull, os.O_RDWR)
        theirs = [pipes[0][0] if stdin else null, pipes[1][1] if stdout else null, pipes[2][1]]
        self._ended = _fork(["-m", "headway", *arguments], os.environ, theirs)
        for fd in (null, pipes[0][0], *(pipe[1] for pipe in pipes[1:])):
            os.close(fd)
        kind = "" if text else "b"
        self.stdin: IO[Any] = open(pipes[0][1], f"w{kind}")
        self.stdout: IO[Any] = open(pipes[1][0], f"r{kind}")
        self.stderr: IO[Any] = open(pipes[2][0], f"r{kind}")
        self.pid = int(self._ended.readline())
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code, or None as long as it runs."""
        if self._code is None and select.select([self._ended], [], [], 0)[0]:
            self.wait()
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """The exit code once it has ended: below 0, by which signal."""
        if self._code is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} has not ended in {timeout} s")
            self._code = os.waitstatus_to_exitcode(int(self._ended.readline()))
        return self._code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, data: bytes) -> tuple[bytes, bytes]:
        """Write `data` to it and close; what it wrote."""

        def write() -> None:
            try:
                with self.stdin:
                    self.stdin.write(data)
            except BrokenPipeError:
                pass  # it has ended without reading all

        with ThreadPoolExecutor(3) as threads:
            threads.submit(write)
            read = [threads.submit(stream.read) for stream in (self.stdout, self.stderr)]
        return read[0].result(), read[1].result()

    def close(self) -> None:
        self.send_signal(signal.SIGKILL)
        self.wait()
        for stream in (self.stdin, self.stdout, self.stderr, self._ended):
            try:
                stream.close()
            except BrokenPipeError:
                pass


class Popen:
    """In place of `subprocess.Popen`: forks where this interpreter is started."""

    def __new__(cls, args: Sequence[Any], **options: Any) -> Any:
        return object.__new__(cls) if args[0] == sys.executable else _Popen(args, **options)

    def __init__(
        self, args: Sequence[Any], *, stdin: Any = None, stdout: Any = None, stderr: Any = None,
        env: Mapping[str, str] | None = None, text: bool = False,
    ) -> None:  # fmt: skip
        self.args = args
        ours: list[IO[Any] | None] = [None] * 3
        theirs, opened = [], []
        for number, given in enumerate((stdin, stdout, stderr)):
            if given == subprocess.PIPE:
                read, write = os.pipe()
                there, here = (read, write) if number == 0 else (write, read)
                ours[number] = open(here, ("w" if number == 0 else "r") + ("" if text else "b"))
                opened.append(there)
            elif given == subprocess.DEVNULL:
                there = os.open(os.devnull, os.O_RDWR)
                opened.append(there)
            else:
                there = number if given is None else given.fileno()
            theirs.append(there)
        command = [str(argument) for argument in args[1:]]
        self._ended = _fork(command, os.environ if env is None else env, theirs)
        for fd in opened:
            os.close(fd)
        self.stdin, self.stdout, self.stderr = ours
        self.pid = int(self._ended.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(int(self._ended.readline()))
            self._ended.close()
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def communicate(self, _: None = None, timeout: float | None = None) -> list[Any]:
        streams = [self.stdout, self.stderr]
        with ThreadPoolExecutor(2) as threads:
            read = [stream and threads.submit(stream.read) for stream in streams]
            if not select.select([self._ended], [], [], timeout)[0]:
                self.kill()  # ends the reads too
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        self.wait()
        return [each and each.result() for each in read]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()


def _serve(asked: socket.socket) -> NoReturn:
    """Fork for each line that comes, until nobody asks any more."""
    gc.disable()  # what is imported stays
    for name in (
        "aiohttp", "anyio._backends._asyncio", "anyio.streams.tls", "genai_prices.data",
        "headway.bulk", "headway.cli.check", "headway.cli.display.live", "headway.cli.run",
        "httpx_aiohttp", "rich._emoji_codes", "rich.logging", "typer._adapters",
    ):  # fmt: skip
        import_module(name)
    gc.freeze()
    gc.enable()
    while True:
        data, fds, _, _ = socket.recv_fds(asked, 1 << 20, 4)
        if not data:
            os._exit(0)
        if not os.fork():
            asked.close()
            _watch(json.loads(data), fds)
        for fd in fds:
            os.close(fd)
        os.waitpid(-1, os.WNOHANG)


def _watch(what: dict[str, Any], fds: list[int]) -> NoReturn:
    """Fork, say the number of the child, and how it ended."""
    child = os.fork()
    if not child:
        _run(what, fds)
    for fd in fds[:3]:
        os.close(fd)
    os.write(fds[3], f"{child}\n".encode())
    os.write(fds[3], f"{os.waitpid(child, 0)[1]}\n".encode())
    os._exit(0)


def _run(what: dict[str, Any], fds: list[int]) -> NoReturn:
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    for fd in fds:
        os.close(fd)
    os.chdir(what["folder"])
    os.environ.clear()
    os.environ.update(what["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, as in the background
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # As the interpreter makes them when it starts.
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    sys.stdin = open(0, encoding=encoding)
    sys.stdout = open(1, "w", encoding=encoding)
    sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", buffering=1)
    code: Any = 0
    try:
        _program(*what["command"])
        sys.stdout.flush()
    except SystemExit as end:
        code = end.code
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        code = 1
    os._exit(code or 0)  # an interpreter takes its time to forget all that was imported


def _program(first: str, *rest: str) -> None:
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(rest[0], {"__name__": "__main__"})
    elif first == "-m":
        from headway import cli

        sys.argv = list(rest)
        cli.main()
    else:
        sys.argv = [first, *rest]
        sys.path.insert(0, str(Path(first).parent))
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
